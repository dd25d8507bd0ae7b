# SPDX-License-Identifier: ISC
#
# --ident-map and --map with real sessions: the map translates the certificate's name to the user.
# The syntax of the file is tested by t/unit_identmap.c.
# sabotage: auth/certauth.c s/c->map != NULL ? identmap_allows(c->map, name, c->user) : //
# sabotage: session/session.c s/identmap_load(o->ident_map, o->map/identmap_load(o->ident_map, "other"/
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
	my ($map, $clientname) = @_;
	return serve(pg => $pg, args => [ '-A', $root->{cert}, '--clientcert=verify-full',
		"--ident-map=$file", "--map=$map", $clientname ? "--clientname=$clientname" : () ]);
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
	$s->logged(qr/certificate authentication failed for user "robot": no line of the map allows it to CN "Bob\.Smith" host=/);
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
