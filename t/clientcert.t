# SPDX-License-Identifier: ISC
#
# Client certificates of all kinds with each --clientcert and sslmode: the exact error that psql
# shows. Revocation lists, unusual names, authorities that cannot be read.
# sabotage: tls/trust.c s/SSL_VERIFY_PEER | //
# sabotage: tls/trust.c s/SSL_CTX_set_verify_depth(ctx, CHAIN_MAX);/;/
# sabotage: tls/trust.c s/X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL/X509_V_FLAG_CRL_CHECK/
# sabotage: tls/peer.c s/type != V_ASN1_PRINTABLESTRING/false/
# sabotage: auth/certauth.c s/strcmp(name, c->user) == 0/true/
use lib 't/lib';
use T;
use T::X509;

limit(600);
my $server = server_pem();
my $pg = start_pg(max_connections => 100);
my $root = issue(cn => 'Root', ca => 1);
my $middle = issue(issuer => $root, cn => 'Middle', ca => 1);
my $other = issue(cn => 'Other', ca => 1);
my $deep = $root;
$deep = issue(issuer => $deep, cn => "Level $_", ca => 1) for 1 .. 10;
my $deeper = issue(issuer => $deep, cn => 'Level 11', ca => 1);

# The outcome of one connection: 'in', or psql's message.
sub outcome {
	my ($service, $cert, %o) = @_;
	my @cert = $cert ? (cert => $o{send} || $cert->{chain}, key => $cert->{key})
		: (PGSSLCERT => '/nonexistent', PGSSLKEY => '/nonexistent');
	my $r = psql('select 1', port => $service->port, rootcert => $server->{root},
		user => $o{user} || 'alice', sslmode => $o{sslmode} || 'require', @cert);
	return 'in' if $r->{out} eq "1\n" && $r->{status} == 0;
	return join ' | ',
		map { s/^(?:psql: error: )?connection to server at "127\.0\.0\.1", port \d+ failed: //r }
		grep { !/^WARNING|^HINT|^\s/ } split /\n/, $r->{err};
}

my %service = (
	'' => serve(pg => $pg, args => [ '-A', $root->{cert} ]),
	'verify-ca' => serve(pg => $pg, args => [ '-A', $root->{cert}, '--clientcert=verify-ca' ]),
	'verify-full' => serve(pg => $pg,
		args => [ '-A', $root->{cert}, '--clientcert=verify-full' ]),
);
my $none = 'FATAL:  connection requires a valid client certificate';
my $name = 'FATAL:  certificate authentication failed for user "alice"';
my $no_tls = 'FATAL:  this port accepts only TLS connections';

sub alert { return 'SSL error: ' . alert_text($_[0]) }

# kind => [certificate, outcome with only -A, with verify-ca, with verify-full]
my $expired = issue(issuer => $root, cn => 'alice', from => -9000, until => -60);
my %chainless = map { %$_ } issue(issuer => $middle, cn => 'alice');
$chainless{chain} = $chainless{cert};
my $unknown = 'SSL error: tlsv1 alert unknown ca';
my %matrix = (
	'no certificate' => [ undef, 'in', $none, $none ],
	'CN only' => [ issue(issuer => $root, cn => 'alice'), 'in', 'in', 'in' ],
	'CN of another' => [ issue(issuer => $root, cn => 'bob'), 'in', 'in', $name ],
	'CN in capitals' => [ issue(issuer => $root, cn => 'ALICE'), 'in', 'in', $name ],
	'SAN only' => [ issue(issuer => $root, subject => [ [ O => 'Example' ] ],
		san => 'DNS:alice'), 'in', 'in', $name ],
	'CN and several SANs' => [ issue(issuer => $root, cn => 'alice',
		san => 'DNS:bob,DNS:carol,email:dave@example.org'), 'in', 'in', 'in' ],
	'two CNs, the matching one first' => [ issue(issuer => $root,
		subject => [ [ CN => 'alice' ], [ CN => 'bob' ] ]), 'in', 'in', 'in' ],
	'two CNs, the matching one last' => [ issue(issuer => $root,
		subject => [ [ CN => 'bob' ], [ CN => 'alice' ] ]), 'in', 'in', $name ],
	'IP names' => [ issue(issuer => $root, cn => 'alice', san => 'IP:127.0.0.1,IP:::1'), 'in',
		'in', 'in' ],
	'for clients' => [ issue(issuer => $root, cn => 'alice', purpose => 'clientAuth'), 'in',
		'in', 'in' ],
	'expired' => [ $expired, (alert('certificate expired')) x 3 ],
	'not yet valid' => [ issue(issuer => $root, cn => 'alice', from => 3600),
		(alert('bad certificate')) x 3 ],
	'for servers only' => [ issue(issuer => $root, cn => 'alice', purpose => 'serverAuth'),
		(alert('unsupported certificate')) x 3 ],
	'of another authority' => [ issue(issuer => $other, cn => 'alice'), ($unknown) x 3 ],
	'of another authority with the same name' => [ issue(issuer => issue(cn => 'Root', ca => 1),
		cn => 'alice'), ('SSL error: tlsv1 alert decrypt error') x 3 ],
	'self-signed' => [ issue(cn => 'alice'), ($unknown) x 3 ],
	'signed by a certificate that is not an authority' => [ issue(issuer => issue(issuer => $root, cn => 'alice'), cn => 'alice'),
		($unknown) x 3 ],
	'intermediate sent' => [ issue(issuer => $middle, cn => 'alice'), 'in', 'in', 'in' ],
	'intermediate not sent' => [ \%chainless, ($unknown) x 3 ],
	'long chain' => [ issue(issuer => $deep, cn => 'alice'), 'in', 'in', 'in' ],
	'11 intermediates' => [ issue(issuer => $deeper, cn => 'alice'), ($unknown) x 3 ],
	'RSA' => [ issue(issuer => $root, cn => 'alice', key => 'RSA'), 'in', 'in', 'in' ],
	'RSA-PSS' => [ issue(issuer => $root, cn => 'alice', key => 'RSA-PSS'), 'in', 'in', 'in' ],
	'Ed25519' => [ issue(issuer => $root, cn => 'alice', key => 'ed25519'), 'in', 'in', 'in' ],
);

for my $kind (sort keys %matrix) {
	subtest $kind => sub {
		my ($cert, @want) = @{ $matrix{$kind} };
		for my $clientcert ('', 'verify-ca', 'verify-full') {
			my $want = shift @want;
			is(outcome($service{$clientcert}, $cert, sslmode => $_), $want,
				($clientcert || '-A alone') . ", sslmode=$_")
				for qw(require verify-ca verify-full);
		}
	};
}

subtest 'weak sslmodes: after a refusal libpq tries in clear, which must never succeed' => sub {
	for my $kind ('expired', 'CN of another', 'no certificate') {
		my ($cert, undef, undef, $want) = @{ $matrix{$kind} };
		# libpq gets the alert after its TLS 1.3 handshake is complete, and then does not
		# try again.
		is(outcome($service{'verify-full'}, $cert, sslmode => 'prefer'),
			$want =~ /^FATAL/ ? "$want | $no_tls" : $want, "$kind, sslmode=prefer");
		is(outcome($service{'verify-full'}, $cert, sslmode => 'allow'), "$no_tls | $want",
			"$kind, sslmode=allow");
		is(outcome($service{'verify-full'}, $cert, sslmode => 'disable'), $no_tls,
			"$kind, sslmode=disable");
	}
	my $good = $matrix{'CN only'}[0];
	is(outcome($service{'verify-full'}, $good, sslmode => $_), 'in',
		"a valid certificate, sslmode=$_") for qw(prefer allow);
	is(outcome($service{'verify-full'}, $good, sslmode => 'disable'), $no_tls,
		'a valid certificate, sslmode=disable');
};

subtest 'TLS 1.2' => sub {
	for my $kind ('CN only', 'expired', 'no certificate', 'CN of another', 'Ed25519') {
		my ($cert, undef, undef, $want) = @{ $matrix{$kind} };
		local $ENV{PGSSLMAXPROTOCOLVERSION} = 'TLSv1.2';
		is(outcome($service{'verify-full'}, $cert), $want, $kind);
	}
};

# With TLS 1.3 the client has completed its handshake and is sending when the server refuses its
# certificate. The client must get the alert and not a reset.
subtest 'a refused client that has sent much data still reads the alert' => sub {
	local $ENV{PGOPTIONS} = '-c x.y=' . 'z' x 9000;
	is(outcome($service{'verify-full'}, $expired), alert('certificate expired'),
		"expired, try $_") for 1 .. 5;
};

subtest 'without -A no certificate is requested or logged' => sub {
	my $s = serve(pg => $pg);
	is(outcome($s, $expired), 'in', 'an expired certificate');
	unlike($s->log, qr/authenticated|subject=/, 'the log does not name it');
};

subtest 'revocation lists' => sub {
	my $lists = 0;
	my $good = issue(issuer => $root, cn => 'alice');
	my $below = issue(issuer => $middle, cn => 'alice');
	my $revoked = issue(issuer => $root, cn => 'alice');
	my $with = sub { return serve(pg => $pg,
		args => [ '-A', $root->{cert}, '--clientcert=verify-full',
		'--crl=' . spew("$TMP/list." . ++$lists, join '', map { slurp($_) } @_) ]) };
	my $both = $with->(crl($root, revoked => [$revoked]), crl($middle));
	is(outcome($both, $good), 'in', 'not revoked');
	is(outcome($both, $below), 'in', 'not revoked, with an intermediate');
	is(outcome($both, $revoked), alert('certificate revoked'), 'revoked');
	like($both->logged(qr/revoked/),
		qr/client certificate refused at depth 0: certificate revoked subject=CN=alice issuer=CN=Root serial=$revoked->{serial} host=127\.0\.0\.1 port=\d+$/,
		'the log names it');
	my $s = $with->(crl($root, revoked => [$middle]), crl($middle));
	is(outcome($s, $good), 'in', 'the intermediate is revoked: not an issuer of this one');
	is(outcome($s, $below), alert('certificate revoked'),
		'the intermediate is revoked: everything below it is');
	$s->logged(qr/refused at depth 1: certificate revoked subject=CN=alice issuer=CN=Middle serial=$below->{serial}/);
	$s = $with->(crl($root));
	is(outcome($s, $below), $unknown, 'no list of the intermediate authority');
	$s->logged(qr/refused at depth 0: unable to get certificate CRL/);
	$s = $with->(crl($middle));
	is(outcome($s, $below), $unknown, 'no list of the root authority');
	$s = $with->(crl($root, until => -60), crl($middle));
	is(outcome($s, $good), alert('certificate expired'), 'an expired list');
	$s->logged(qr/refused at depth 0: CRL has expired subject=CN=alice issuer=CN=Root serial=$good->{serial} /);
	$s = $with->(crl(issue(cn => 'Root', ca => 1)));
	isnt(outcome($s, $good), 'in', 'a list signed by another authority with the same name');
	$s->logged(qr/refused at depth \d: CRL signature failure/);
};

# Names that must never match alice.
my @odd = (
	'a NUL inside' => [ [ CN => "alice\0.example.org" ] ],
	'a NUL at the end' => [ [ CN => "alice\0" ] ],
	'empty' => [ [ CN => '' ] ],
	'BMPString' => [ [ CN => "\0a\0l\0i\0c\0e", BMP ] ],
	'alice as T61String' => [ [ CN => 'alice', T61 ] ],
	'alice marked as BMPString' => [ [ CN => 'alicea', BMP ] ],
	'an invalid IA5String' => [ [ CN => "alice\xe9", IA5 ] ],
	'a blank at the end' => [ [ CN => 'alice ' ] ],
	'no CN at all' => [ [ O => 'alice' ] ],
);

subtest 'unusual names never match' => sub {
	my $map = spew("$TMP/any.map", "any /.* alice\n");
	my $mapped = serve(pg => $pg,
		args => [ '-A', $root->{cert}, '--clientcert=verify-full', "--ident-map=$map",
		'--map=any' ]);
	my $dn = serve(pg => $pg,
		args => [ '-A', $root->{cert}, '--clientcert=verify-full', '--clientname=DN',
		"--ident-map=$map", '--map=any' ]);
	while (my ($kind, $subject) = splice @odd, 0, 2) {
		my $cert = issue(issuer => $root, subject => $subject);
		is(outcome($service{'verify-full'}, $cert), $name, $kind);
		next if $kind =~ /blank/;
		is(outcome($mapped, $cert), $name, "$kind, with a map that allows any name");
		is(outcome($dn, $cert), $name, "$kind, in a DN") unless $kind =~ /no CN at all/;
	}
	is(outcome($mapped, issue(issuer => $root, cn => 'x')), 'in',
		'the map does allow any name');
	is(outcome($dn, issue(issuer => $root, cn => 'x')), 'in', 'and any DN');
	is(outcome($dn, issue(issuer => $root, cn => 'x' x 1100)), $name,
		'but not one longer than 1024 bytes');
};

subtest 'PrintableString and IA5String are accepted like UTF8String' => sub {
	is(outcome($service{'verify-full'},
		issue(issuer => $root, subject => [ [ CN => 'alice', $_ ] ])), 'in', "type $_")
		for PRINTABLE, IA5;
	my $r = psql('create role "' . "j\xc3\xbcrgen" . '" login', host => $pg->{socket},
		port => $pg->port, user => 'postgres', sslmode => 'disable',
		PGCLIENTENCODING => 'UTF8');
	is(outcome($service{'verify-full'}, issue(issuer => $root, cn => "j\xc3\xbcrgen"),
		user => "j\xc3\xbcrgen"), 'in', 'UTF-8');
};

subtest '--clientname' => sub {
	my $with = sub { return serve(pg => $pg,
		args => [ '-A', $root->{cert}, '--clientcert=verify-full',
		"--clientname=$_[0]" ]) };
	my $s = $with->('SAN');
	for my $san ('DNS:alice', 'DNS:bob,DNS:alice', 'URI:alice', 'email:alice',
		'IP:127.0.0.1,DNS:alice') {
		is(outcome($s, issue(issuer => $root, cn => 'bob', san => $san)), 'in', "SAN $san");
	}
	for my $san ('DNS:bob', 'DNS:*', 'DNS:Alice', 'IP:127.0.0.1', 'RID:1.2.3.4',
		'otherName:1.2.3.4;UTF8:alice', undef) {
		is(outcome($s, issue(issuer => $root, cn => 'alice', san => $san)), $name,
			'not with SAN ' . (defined $san ? $san : 'none'));
	}
	# SEQUENCE { [2] "alice" NUL } and SEQUENCE { [2] "" }
	for my $der ('30:08:82:06:61:6c:69:63:65:00', '30:02:82:00') {
		is(outcome($s, issue(issuer => $root, cn => 'bob', san => "DER:$der")), $name,
			"not with SAN of DER $der");
	}
	$s = $with->('DN');
	my $cert = issue(issuer => $root, subject => [ [ O => 'Example' ], [ CN => 'alice' ] ]);
	is(outcome($s, $cert), $name, 'DN: the user name alone is not a DN');
	$s->logged(qr/certificate authentication failed for user "alice": the certificate's DN is "CN=alice,O=Example" host=/);
};

# Unusable files for -A or --crl: [kind, contents, exit status, reason in the log].
subtest 'with unreadable authorities or lists no client gets in' => sub {
	my $good = issue(issuer => $root, cn => 'alice');
	my $half = substr slurp($root->{cert}), 0, 300;
	my @bad = (
		[ 'empty', '', 78, 'no (certificate|revocation list) in' ],
		[ 'garbage', join('', map { chr($_ * 7 % 256) } 1 .. 3000), 78,
			'no (certificate|revocation list) in' ],
		[ 'cut off', $half, 78, 'could not load|no revocation list' ],
		[ 'broken', "-----BEGIN CERTIFICATE-----\nMIIBAAAA\n-----END CERTIFICATE-----\n-----BEGIN X509 CRL-----\nMIIBAAAA\n-----END X509 CRL-----\n",
			78, 'could not load' ],
		[ 'a valid one and a broken one', slurp($root->{cert}) . slurp(crl($root)) . $half,
			78, 'could not load', '-A' ],
		[ 'missing', undef, 66, 'No such file' ],
		[ 'a directory', undef, 66, 'no certificate in directory', '-A', $TMP ],
	);
	for my $option ('-A', '--crl') {
		for (@bad) {
			my ($what, $text, $status, $why, $only, $file) = @$_;
			next if defined $only && $only ne $option;
			$file ||= "$TMP/bad.$what.pem";
			spew($file, $text) if defined $text;
			my $fake = fake_backend();
			my $s = session(pg => $fake,
				args => $option eq '-A' ? [ '-A', $file ]
				: [ '-A', $root->{cert}, "--crl=$file" ]);
			ok(!$s->conn->negotiate(cert => $good->{chain}, key => $good->{key}),
				"$option $what: no handshake");
			like($s->conn->{tls_error} || '', qr/internal error/, 'an alert');
			is($s->wait, $status, "status $status");
			like($s->log, qr/(?:$why).*\Q$file\E|\Q$file\E.*(?:$why)/,
				'the log names the file');
			is($fake->connections, 0, 'no connection to PostgreSQL');
		}
	}
};

subtest "the authorities' names are sent, each one once" => sub {
	my $file = spew("$TMP/several.pem",
		slurp($root->{cert}) . slurp($other->{cert}) . slurp($root->{cert}));
	my $s = serve(pg => $pg, args => [ '-A', $file ]);
	my $r = run([ 'openssl', 's_client', '-connect', '127.0.0.1:' . $s->port, '-starttls',
		'postgres', '-nameopt', 'RFC2253' ], stdin => "Q\n", quiet => 1);
	my $names = qr/CN=Root\nCN=Other|CN=Other\nCN=Root/; # OpenSSL 4 sends them in another order
	like($r->{out}, qr/^Acceptable client certificate CA names\n(?:$names)\n(?!CN)/m, 'names');
	is(outcome($s, issue(issuer => $_, cn => 'alice')), 'in', 'both authorities are accepted')
		for $root, $other;
};

subtest 'the next connection uses changed files' => sub {
	my $file = spew("$TMP/changed.pem", slurp($other->{cert}));
	my $s = serve(pg => $pg, args => [ '-A', $file, '--clientcert=verify-full' ]);
	my $cert = issue(issuer => $root, cn => 'alice');
	is(outcome($s, $cert), $unknown, 'before');
	rename spew("$file.new", slurp($root->{cert})), $file;
	is(outcome($s, $cert), 'in', 'after');
};

subtest 'authorities and a list that are rewritten while clients connect' => sub {
	my %file = (spew("$TMP/rewritten.ca", '') => slurp($root->{cert}),
		spew("$TMP/rewritten.crl", '') => slurp(crl($root)));
	spew($_, $file{$_}) for keys %file;
	my $s = serve(pg => fake_backend(),
		args => [ '-A', "$TMP/rewritten.ca", '--clientcert=verify-ca',
		"--crl=$TMP/rewritten.crl" ]);
	my $cert = issue(issuer => $root, cn => 'alice');
	my $pid = fork;
	if (!$pid) {
		$SIG{TERM} = 'DEFAULT';
		alarm 100;
		# Truncate the file and write it in pieces, so that pgssl also sees incomplete ones.
		while (1) {
			for my $path (keys %file) {
				open my $fh, '>', $path;
				syswrite $fh, $_ for unpack '(a400)*', $file{$path};
			}
			nap(0.01);
		}
	}
	my $good = 0;
	for (1 .. 100) {
		my $k = connect_to($s->port);
		$good++ if $k->negotiate(cert => $cert->{chain}, key => $cert->{key});
		$k->close;
	}
	stop($pid, 'KILL');
	is($good, 100, 'all handshakes succeed');
};
done_testing;
