# SPDX-License-Identifier: ISC
#
# TLS as a client sees it: versions, no tickets, no resumption, no renegotiation, the whole chain,
# all types of keys, openssl.cnf.
# never: A session cache or session tickets; renegotiation; compression.
# sabotage: s/SSL_CTX_set_num_tickets(ctx, 0) != 1/0/ tls/settings.c
# sabotage: s/== SSL_R_NOT_REPLACING_CERTIFICATE/== SSL_R_BAD_VALUE/ tls/credential.c
use lib 't/lib';
use T;

my $c = server_pem();
my $fake = fake_backend();
my $service = serve(pg => $fake);

# Run `openssl s_client` with old protocols allowed; return its whole output.
sub s_client {
	my ($port, @args) = @_;
	my ($in, %o) = ("Q\n");
	%o = %{ shift @args } if ref $args[0];
	my @cmd = ('openssl', 's_client', '-connect', "127.0.0.1:$port", '-starttls', 'postgres',
		@args);
	my $r = T::run(\@cmd, stdin => $o{stdin} || $in, quiet => 1,
		env => { OPENSSL_CONF => '/dev/null' });
	return $r->{out} . $r->{err};
}

subtest 'versions' => sub {
	for my $version ('TLSv1.2', 'TLSv1.3') {
		my $k = connect_to($service->port);
		ok($k->negotiate(min => $version, max => $version), "$version is accepted");
		is($k->tls_version, $version, 'the version in use');
	}
	for my $old (qw(-tls1 -tls1_1)) {
		like(s_client($service->port, $old, '-cipher', 'ALL:@SECLEVEL=0'),
			qr/alert protocol version/, "$old is refused with an alert");
	}
};

subtest '--min-protocol and --max-protocol' => sub {
	my $s = serve(pg => $fake, args => ['--min-protocol=TLSv1.3']);
	ok(!connect_to($s->port)->negotiate(max => 'TLSv1.2'), '--min-protocol=TLSv1.3');
	$s = serve(pg => $fake, args => ['--max-protocol=TLSv1.2']);
	my $k = connect_to($s->port);
	ok($k->negotiate, '--max-protocol=TLSv1.2');
	is($k->tls_version, 'TLSv1.2', 'the version in use is TLS 1.2');
};

subtest 'TLS 1.2 ciphers are forward-secret AEAD' => sub {
	for my $cipher (qw(ECDHE-ECDSA-AES128-SHA AES128-GCM-SHA256 AES256-SHA)) {
		ok(!connect_to($service->port)->negotiate(max => 'TLSv1.2', ciphers => $cipher),
			"no $cipher");
	}
	ok(connect_to($service->port)->negotiate(max => 'TLSv1.2',
		ciphers => 'ECDHE-ECDSA-AES128-GCM-SHA256'), 'ECDHE-ECDSA-AES128-GCM-SHA256');
	my $s = serve(pg => $fake, args => [ '-C', 'ECDHE-ECDSA-CHACHA20-POLY1305' ]);
	ok(!connect_to($s->port)->negotiate(max => 'TLSv1.2',
		ciphers => 'ECDHE-ECDSA-AES128-GCM-SHA256'), '-C replaces them');
};

subtest 'no tickets' => sub {
	# They come after the handshake: read until the server closes, here after a bad startup packet.
	my $text = s_client($service->port, { stdin => "\0\0\0\x08\0\0\0\0" }, '-ign_eof', '-tls1_3', '-msg');
	unlike($text, qr/NewSessionTicket/, 'TLS 1.3');
	like($text, qr/unsupported frontend protocol/, '... up to the last byte');
	$text = s_client($service->port, '-tls1_2', '-msg');
	unlike($text, qr/NewSessionTicket|session ticket:/, 'TLS 1.2');
	like($text, qr/Cipher\s*: ECDHE/, 'the handshake was completed');
};

subtest 'no session is resumed' => sub {
	for my $version (qw(-tls1_2 -tls1_3)) {
		my $file = "$TMP/session$version";
		s_client($service->port, $version, '-sess_out', $file);
		my $again = s_client($service->port, $version, -s $file ? ('-sess_in', $file) : ());
		like($again, qr/^New, TLSv1/m, "$version: a new session");
		unlike($again, qr/^Reused/m, "$version: not an old one");
	}
	like(s_client($service->port, '-tls1_2'), qr/Session-ID: *\n/,
		'TLS 1.2: the server sends no session ID');
};

subtest 'no renegotiation, no compression' => sub {
	my $text = s_client($service->port, { stdin => "R\nQ\n" }, '-tls1_2');
	like($text, qr/RENEGOTIATING/, 's_client tries');
	like($text, qr/no renegotiation|handshake failure|unexpected message|:error:/i,
		'and is refused');
	like($text, qr/^Compression: NONE/m, 'no compression');
};

subtest 'the whole chain is sent, leaf first' => sub {
	my $root = make_ca(name => 'root', cn => 'Root');
	my $middle = make_ca(name => 'middle', cn => 'Middle', issuer => $root);
	my $lower = make_ca(name => 'lower', cn => 'Lower', issuer => $middle);
	my $leaf = make_cert(name => 'leaf', cn => 'Leaf', issuer => $lower);
	my %file = (
		'chain and key' => slurp($leaf->{chain}) . slurp($leaf->{key}),
		'key and chain' => slurp($leaf->{key}) . slurp($leaf->{chain}),
		'key between certificates' => slurp($leaf->{cert}) . slurp($leaf->{key}) . slurp($lower->{cert}) . slurp($middle->{cert}),
	);
	for my $order (sort keys %file) {
		my $s = serve(pg => $fake, pem => spew("$TMP/order.pem", $file{$order}, 0600));
		my $k = connect_to($s->port);
		ok($k->negotiate, $order);
		is_deeply([ $k->chain ], [ '/CN=Leaf', '/CN=Lower', '/CN=Middle' ],
			'the whole chain, in order');
	}
};

subtest 'RSA, ECDSA and Ed25519 keys, and two at once' => sub {
	my %pem = map { ($_ => make_pem(make_cert(name => $_, cn => $_, key => $_))) } qw(rsa ecdsa ed25519);
	for my $kind (sort keys %pem) {
		my $k = connect_to(serve(pg => $fake, pem => $pem{$kind})->port);
		ok($k->negotiate, $kind);
		is(($k->chain)[0], "/CN=$kind", 'its certificate');
	}
	my $both = serve(pg => $fake, pem => $pem{rsa}, args => [ '-p', $pem{ecdsa} ]);
	for my $kind (qw(rsa ecdsa)) {
		my $k = connect_to($both->port);
		ok($k->negotiate(max => 'TLSv1.2', ciphers => 'ECDHE-' . uc($kind) . '-AES128-GCM-SHA256'), "both: the client wants $kind");
		is(($k->chain)[0], "/CN=$kind", 'it gets that certificate');
	}
	my $again = make_pem(make_cert(name => 'again'));
	my $same = serve(pg => $fake, pem => $pem{ecdsa}, args => [ '-p', $again ]);
	ok(!connect_to($same->port)->negotiate, 'two keys of one type are refused');
	$same->logged(qr/both have EC keys: two certificates must have different types of keys/);
};

subtest 'openssl.cnf and OPENSSL_CONF are honoured' => sub {
	my $conf = spew("$TMP/openssl.cnf", "openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = sys\n[sys]\nMinProtocol = TLSv1.3\n");
	my $s = serve(pg => $fake, env => { OPENSSL_CONF => $conf });
	ok(!connect_to($s->port)->negotiate(max => 'TLSv1.2'), 'TLS 1.2 is below MinProtocol');
	ok(connect_to($s->port)->negotiate, 'TLS 1.3 is accepted');
};
done_testing;
