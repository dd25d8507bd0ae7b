# SPDX-License-Identifier: ISC
#
# --ident-map and --map with real sessions: the map translates the certificate's name to the user.
# The syntax of the file is tested by t/unit_identmap.c.
# sabotage: auth/identmap.c s/if (entry->is_regex\[USER\])/if (false)/
# sabotage: auth/certauth.c s/c->map != NULL ? identmap_allows(c->map, name, c->user) : //
# sabotage: session/session.c s/identmap_load(o->ident_map, o->map/identmap_load(o->ident_map, "other"/
# sabotage: auth/identmap.c s/(ferror(f) == 0 \&\& /(/
use lib 't/lib';
use T;
use T::X509;

my $pg = start_pg();
psql("create role $_ login", host => $pg->{socket}, port => $pg->port, user => 'postgres',
	sslmode => 'disable') for qw(bob robot);
my $root = issue(cn => 'Root', ca => 1);
my $file = spew("$TMP/pg_ident.conf", <<'EOT');
# a comment
people	"alice cooper"	alice	# a name with a blank
people	bob.smith	bob
people	bob.smith	robot
people	/^(.*)@example\.org$	\1
dn	"CN=alice,O=Example"	alice
dn	"/^CN=[a-z]*,OU=robots,O=Example$" \
	robot
san	alice.example.org	alice
san	/^spiffe://example\.org/(.*)$	\1
other	/.*	alice
EOT

sub with {
	my ($map, $clientname, $other) = @_;
	return serve(pg => $pg, args => [ '-A', $root->{cert}, '--clientcert=verify-full',
		'--ident-map=' . ($other || $file), "--map=$map", $clientname ? "--clientname=$clientname" : () ]);
}

# The users that this certificate may log in as.
sub users {
	my ($service, %cert) = @_;
	my $cert = issue(issuer => $root, %cert);
	my @in;
	for my $user (qw(alice bob robot)) {
		my $r = psql('select current_user', port => $service->port, user => $user,
			cert => $cert->{chain}, key => $cert->{key});
		push @in, $user if $r->{out} eq "$user\n";
		next if $r->{out} eq "$user\n";
		like($r->{err}, qr/FATAL:  certificate authentication failed for user "$user"$/m,
			"$user is refused");
	}
	return "@in";
}

subtest 'CN' => sub {
	my $s = with('people');
	is(users($s, cn => 'alice cooper'), 'alice', 'a name in quotes');
	is(users($s, cn => 'bob.smith'), 'bob robot', 'two lines with the same name');
	is(users($s, cn => 'bob@example.org'), 'bob', 'a regular expression with \1');
	is(users($s, cn => 'bob@example.org.evil.net'), '',
		'the expression is anchored at the end');
	is(users($s, cn => 'bob@exampleXorg'), '', 'an escaped dot matches only a dot');
	is(users($s, cn => 'bobXsmith'), '', 'a plain name is not a regular expression');
	is(users($s, cn => 'alice'), '', 'a user name that is not in the map');
	is(users($s, cn => 'Bob.Smith'), '', 'names are case-sensitive');
	$s->logged(qr/certificate authentication failed for user "robot": the map has no match for CN "Bob\.Smith" host=/);
};

# getdelim() returned what there was before the error, in which a user's name was cut.
subtest 'a map that cannot be read whole' => sub {
	plan skip_all => 'needs strace' if T::run([qw(strace -V)], quiet => 1)->{status};
	my $alice = issue(cn => 'alice', issuer => $root);
	my $entry = "m alice bob";
	my $map = spew("$TMP/long_map", '#' x (4095 - length $entry) . "\n${entry}_of_nothing\n");
	my $s = serve_listen(pg => $pg, args => [ '-A', $root->{cert}, '--clientcert=verify-full', "--ident-map=$map", '--map=m' ],
		listening => 0, wrap => [ qw(strace -qq -P), $map, qw(-e inject=read:error=EIO:when=2+ -o), "$TMP/trace" ]);
	wait_for('a line', sub { $s->log =~ /listening on|could not read/ });
	like($s->log, qr/could not read ident map "\Q$map\E": Input\/output error/, 'not used');
	like(slurp("$TMP/trace"), qr/INJECTED/, 'it did fail');
};

subtest 'DN' => sub {
	my $s = with('dn', 'DN');
	is(users($s, subject => [ [ O => 'Example' ], [ CN => 'alice' ] ]), 'alice',
		'in the format of RFC 2253, last part first');
	is(users($s, subject => [ [ CN => 'alice' ], [ O => 'Example' ] ]), '',
		'in the reverse order');
	is(users($s, subject => [ [ O => 'Example' ], [ OU => 'robots' ], [ CN => 'r' ] ]), 'robot',
		'a regular expression on a continued line');
	is(users($s, subject => [ [ CN => 'alice,O=Example' ] ]), '',
		'a comma inside a part is escaped');
	is(users($s, subject => [ [ O => 'Example' ], [ OU => 'robots' ],
		[ CN => 'r,OU=robots' ] ]), '', 'and cannot imitate another part');
};

subtest 'SAN' => sub {
	my $s = with('san', 'SAN');
	is(users($s, cn => 'x', san => 'DNS:www.example.org,DNS:alice.example.org'), 'alice',
		'any DNS name');
	is(users($s, cn => 'x', san => 'URI:spiffe://example.org/robot'), 'robot', 'a URI');
	is(users($s, cn => 'x', san => 'URI:spiffe://example.org/robot,DNS:alice.example.org'),
		'alice robot', 'a URI and a DNS name');
	is(users($s, cn => 'alice.example.org', san => 'DNS:x'), '', 'not the CN');
};

# PostgreSQL itself is asked too where its version has the dialect.
subtest 'the user is all or a regular expression' => sub {
	my %client = map { ($_ => issue(issuer => $root, cn => $_)) } qw(alice alice@ex.org);
	my $ssl = start_pg(ssl => issue(issuer => $root, cn => 'db'),
		hba => "local all all trust\nhostssl all all 127.0.0.1/32 cert map=m\n",
		conf => "ssl_ca_file='$root->{cert}'\n");
	my $postgres = $ssl->version >= 16;
	for my $server ($pg, $ssl) {
		psql("create role \"$_\" login", host => $server->{socket}, port => $server->port,
			user => 'postgres', sslmode => 'disable') for qw(all +staff);
	}

	# [line of the map, CN, user, whether PostgreSQL 16 and later admit it]
	for my $case (
		[ 'm alice all', 'alice', 'alice', 1 ],
		[ 'm alice all', 'alice', '+staff', 1 ],
		[ 'm alice all', 'alice@ex.org', 'alice', 0 ],
		[ 'm alice "all"', 'alice', 'alice', 0 ],
		[ 'm alice "all"', 'alice', 'all', 1 ],
		[ 'm alice a"ll"', 'alice', 'alice', 1 ],
		[ 'm alice ALL', 'alice', 'all', 0 ],
		[ 'm alice /^al.*$', 'alice', 'alice', 1 ],
		[ 'm alice "/^al.*$"', 'alice', 'all', 1 ],
		[ 'm alice /^al.*$', 'alice', '+staff', 0 ],
		[ 'm alice /^AL', 'alice', 'alice', 0 ],
		[ 'm alice "+staff"', 'alice', '+staff', 1 ],
		[ 'm alice "+staff"', 'alice', 'alice', 0 ],
		[ 'm /^(.*)@ex\.org$ all', 'alice@ex.org', 'all', 1 ],
		[ 'm /^(.*)@ex\.org$ /^al', 'alice@ex.org', 'alice', 1 ],
		[ 'm /^(.*)@ex\.org$ /^al', 'alice', 'alice', 0 ],
		[ 'm /^(.*)$ "\1"', 'alice', 'alice', 1 ],
	) {
		my ($line, $cn, $user, $in) = @$case;
		my @as = (user => $user, dbname => 'postgres', cert => $client{$cn}{chain},
			key => $client{$cn}{key});
		my $want = $in ? "$user\n" : '';
		my $service = with('m', undef, spew("$TMP/one_line", "$line\n"));
		is(psql('select current_user', port => $service->port, @as)->{out}, $want,
			"$line: $cn as $user: " . ($in ? 'in' : 'out'));
		next unless $postgres;
		$ssl->configure('pg_ident.conf', "$line\n");
		is(psql('select current_user', port => $ssl->port, @as)->{out}, $want,
			'PostgreSQL: the same');
	}
	note('PostgreSQL ' . $ssl->version . ' has an older dialect') unless $postgres;
	my $s = with('m', undef, spew("$TMP/one_line", "m alice +staff\n"));
	ok(!connect_to($s->port)->negotiate, '+role: no handshake');
	$s->logged(qr/line 1: \+role is not supported: list its members, or quote a user name that begins with \+/);
};

subtest 'with an unusable map no client gets in' => sub {
	my $cert = issue(issuer => $root, cn => 'alice');
	my $try = sub {
		my ($what, $name, $map, $status, $pattern) = @_;
		my $s = session(pg => $pg,
			args => [ '-A', $root->{cert}, '--clientcert=verify-full',
			"--ident-map=$name", "--map=$map" ]);
		ok(!$s->conn->negotiate(cert => $cert->{chain}, key => $cert->{key}),
			"$what: no handshake");
		is($s->wait, $status, "status $status");
		like($s->log, $pattern, 'the reason is logged');
	};
	$try->('missing', "$TMP/none.conf", 'people', 66, qr{\Q$TMP\E/none\.conf});
	$try->('no such map', $file, 'nobody', 78, qr/\Q$file\E.*nobody/);
	$try->('a bad line', spew("$TMP/bad.conf", "m a b\nm /( x\n"), 'm', 78,
		qr/bad\.conf" line 2/);
};
done_testing;
