# SPDX-License-Identifier: ISC
#
# pgssl obeys openssl.cnf as `openssl s_server` does: providers, random generators, protocol
# versions, ciphers and groups. The exceptions are versions below TLS 1.2, weak ciphers, VerifyMode,
# and finite-field groups and ciphers that are not named.
# sabotage: s/SSL_CTX_get_min_proto_version(ctx) < TLS1_2_VERSION/true/ tls/settings.c
# sabotage: s/SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);/;/ tls/settings.c
# sabotage: s/SSL_CTX_set_cipher_list(ctx, list + (list\[0\] == ':')) != 1/false/ tls/settings.c
# sabotage: s/group\[0\] == 1/group[0] == 9/ tls/settings.c
# sabotage: s/(dhe \&\& exchange == NID_kx_dhe)/exchange == NID_kx_dhe/ tls/settings.c
# sabotage: s/at\[-1\] != 'C'/false/ tls/settings.c
# sabotage: s/CONF_MFLAGS_IGNORE_MISSING_FILE |/& CONF_MFLAGS_IGNORE_RETURN_CODES |/ tls.c
use lib 't/lib';
use T;
use T::Handshake;

limit(300);
my $fake = after_startup(sub { syswrite $_[0], "R\0\0\0\10\0\0\0\0" });
my $pem = server_pem()->{pem};
my $weak = make_pem(make_cert(name => 'weak', key => 'rsa1024'));
my $rsa = make_pem(make_cert(name => 'rsa', key => 'rsa'));
my ($tls12, $tls13) = ('-max_protocol TLSv1.2', '-min_protocol TLSv1.3');

# An openssl.cnf with these commands for every SSL_CTX.
sub system_default { return conf_file('ssl_conf = ssl', "[ssl]\nsystem_default = sys\n[sys]\n" . join '', map { "$_\n" } @_) }
sub provider { return conf_file('providers = p', join "\n", '[p]', (map { "$_ = $_-section" } @_), map { ("[$_-section]", 'activate = 1') } @_) }

# like_s_server(name, environment, { client's options => 'done' or 'failed', ... }): test that pgssl
# and s_server both give this answer. pem: the certificate; args: arguments of pgssl; only => 1:
# pgssl differs from s_server on purpose.
sub like_s_server {
	my ($what, $env, $cases, %o) = @_;
	subtest $what => sub {
		my %want = %$cases;
		my $use = $o{pem} || $pem;
		my $pgssl = serve(pg => $fake, pem => $use, env => $env, args => $o{args});
		my $s_server = $o{only} ? undef : s_server([ '-cert', $use, '-key', $use ],
			env => $env);
		my @options = sort keys %want;
		my @answers = handshakes(map { ($pgssl->port . " postgres $_", $s_server ? $s_server->port . " http $_" : ()) } @options);
		for my $options (@options) {
			like(shift @answers, qr/^$want{$options}/,
				"pgssl: $options: $want{$options}") or diag($pgssl->log);
			like(shift @answers, qr/^$want{$options}/, 's_server: the same')
				if $s_server;
		}
		stop($s_server->{pid}) if $s_server;
	};
}

# ---- versions, ciphers, groups

like_s_server('MinProtocol', system_default('MinProtocol = TLSv1.3'),
	{ $tls12 => 'failed', $tls13 => 'done' });
like_s_server('MaxProtocol', system_default('MaxProtocol = TLSv1.2'),
	{ $tls12 => 'done', $tls13 => 'failed' });
like_s_server('MinProtocol below TLS 1.2 is raised to TLS 1.2',
	system_default('MinProtocol = TLSv1', 'CipherString = DEFAULT@SECLEVEL=0'),
	{ '-max_protocol TLSv1.1' => 'failed', $tls12 => 'done' }, only => 1);
like_s_server('CipherString', system_default('CipherString = ECDHE-ECDSA-AES128-GCM-SHA256'),
	{ "$tls12 -cipher ECDHE-ECDSA-AES128-GCM-SHA256" => 'done', "$tls12 -cipher ECDHE-ECDSA-AES256-GCM-SHA384" => 'failed', $tls13 => 'done' });
like_s_server('CipherString = ALL enables more AEAD ciphers', system_default('CipherString = ALL:@SECLEVEL=0'), { map { ("$tls12 -cipher $_" => 'done') } qw(ECDHE-ECDSA-AES128-CCM ECDHE-ECDSA-AES256-CCM8) });
like_s_server('CipherString = ALL enables no CBC ciphers', system_default('CipherString = ALL:@SECLEVEL=0'), { "$tls12 -cipher ECDHE-ECDSA-AES128-SHA256" => 'failed' }, only => 1);
like_s_server('@SECLEVEL=2 refuses an RSA key of 1024 bits', system_default('CipherString = DEFAULT@SECLEVEL=2'), { $tls13 => 'failed' }, pem => $weak, only => 1);
like_s_server('@SECLEVEL=0 accepts an RSA key of 1024 bits', system_default('CipherString = DEFAULT@SECLEVEL=0'), { $tls12 => 'done', $tls13 => 'done' }, pem => $weak);
like_s_server('@SECLEVEL=3 refuses an RSA key of 2048 bits', system_default('CipherString = DEFAULT@SECLEVEL=3'), { $tls13 => 'failed' }, pem => $rsa, only => 1);
like_s_server('Ciphersuites', system_default('Ciphersuites = TLS_CHACHA20_POLY1305_SHA256'), { "$tls13 -ciphersuites TLS_AES_256_GCM_SHA384" => 'failed', $tls13 => 'done TLSv1.3 TLS_CHACHA20' });
like_s_server('Groups', system_default('Groups = P-384:P-256'), { map { ("$_ -groups X25519" => 'failed', "$_ -groups X25519:P-384:P-256" => 'done') } $tls12, $tls13 });
like_s_server('SignatureAlgorithms', system_default('SignatureAlgorithms = rsa_pss_rsae_sha512'),
	{ "$tls13 -sigalgs rsa_pss_rsae_sha256" => 'failed', "$tls13 -sigalgs rsa_pss_rsae_sha512" => 'done' }, pem => $rsa);

# A prepared ClientHello for ffdhe8192 costs a server a hundred times as much as one for X25519.
my $dhe = 'DHE-RSA-AES128-GCM-SHA256';
my %ffdhe = map { ("$tls13 -groups ffdhe$_" => 'failed') } 2048, 3072, 4096, 6144, 8192;
my %finite = (%ffdhe, "$tls12 -cipher DHE" => 'failed', "$tls13 -groups X25519:ffdhe2048" => 'done',
	"$tls12 -cipher DHE:ECDHE" => 'done');
like_s_server("no finite fields by default: @$_", system_default(@$_), \%finite, pem => $rsa, only => 1)
	for [], ['CipherString = DEFAULT:!kDHE:-DHE'], [ 'CipherString = ALL:@SECLEVEL=1', 'Groups = X25519:P-256' ];
like_s_server("finite fields with $_", system_default($_),
	{ %ffdhe, "$tls13 -groups ffdhe2048" => 'done', "$tls12 -cipher DHE" => 'failed' }, pem => $rsa,
	only => 1) for 'Groups = P-256:ffdhe2048', '1.cURVES = ffdhe2048', 'ECDHParameters = ffdhe2048';
like_s_server('the same in s_server', system_default('Groups = P-256:ffdhe2048'),
	{ "$tls13 -groups ffdhe2048" => 'done', "$tls13 -groups ffdhe3072" => 'failed' });
like_s_server("CipherString = $_", system_default("CipherString = $_"), { "$tls12 -cipher $dhe" => 'done' }, pem => $rsa)
	for "ECDHE+AESGCM:$dhe", 'kDHE+AESGCM', 'ECDHE EDH';
like_s_server('options that name finite fields', system_default(), { %ffdhe, "$tls13 -groups ffdhe4096" => 'done', "$tls12 -cipher $dhe -groups X25519:ffdhe4096" => 'done' },
	pem => $rsa, args => [ '--groups=X25519:ffdhe4096', '-C', "ECDHE+AESGCM:$dhe" ], only => 1);

subtest 'options override openssl.cnf' => sub {
	my $env = system_default('MinProtocol = TLSv1.3', 'MaxProtocol = TLSv1.3',
		'CipherString = ECDHE-ECDSA-AES128-GCM-SHA256', 'Groups = P-384');
	my $s = serve(pg => $fake, env => $env, args => [ qw(--min-protocol=TLSv1.2 --max-protocol=TLSv1.2 --groups=X25519 -C ECDHE-ECDSA-CHACHA20-POLY1305) ]);
	is((handshakes($s->port . ' postgres'))[0],
		'done TLSv1.2 ECDHE-ECDSA-CHACHA20-POLY1305 x25519', 'versions, cipher and group');
};

subtest 'CipherString without a forward-secret AEAD cipher' => sub {
	my $s = serve(pg => $fake, env => system_default('CipherString = AES128-SHA'));
	ok(!connect_to($s->port)->negotiate, 'no handshake');
	$s->logged(qr/openssl\.cnf allows no forward-secret AEAD cipher for TLS 1\.2: change its CipherString, or use -C/);
};

# pgssl inherited VerifyMode and required a client certificate that it could not verify. s_server
# and pgssl request one only if their options say so.
subtest 'VerifyMode has no effect' => sub {
	my $stranger = make_cert(name => 'stranger');
	my $with_cert = "-cert $stranger->{cert} -key $stranger->{key}";
	for my $mode (qw(Peer Request Require Once)) {
		my $env = system_default("VerifyMode = $mode");
		like_s_server("$mode, without -A: no certificate is requested", $env,
			{ map { ($_ => 'done', "$_ $with_cert" => 'done') } $tls12, $tls13 });
		like_s_server("$mode, with -A: a certificate is optional", $env, { $tls12 => 'done', $tls13 => 'done' }, args => [ '-A', server_pem()->{root} ], only => 1);
	}
	# --check let its trial client inherit VerifyMode, and reported an error where connections
	# worked.
	my $check = T::run([ $PGSSL, '--check', '-p', server_pem()->{pem}, '-r', '127.0.0.1:' . free_port() ], env => system_default('VerifyMode = Peer'), quiet => 1);
	like($check->{out}, qr/^ok +trial handshake: /m, '--check: the trial handshake');
};

subtest 'Options = KTLS: data is relayed without kernel TLS' => sub {
	my $size = 1_000_000;
	my $pg = after_startup(sub { my ($socket, $self) = @_; syswrite $socket, 'x' x $size; $self->take($socket, $size) });
	my $n = 0;
	for my $version (qw(TLSv1.2 TLSv1.3)) {
		my $s = session(pg => $pg,
			env => system_default('Options = KTLS', 'CipherString = ECDHE+AESGCM'));
		ok($s->conn->negotiate(min => $version, max => $version), $version);
		$s->conn->send(startup_packet(user => 'alice'));
		is(length $s->conn->recv($size), $size, 'to the client');
		$s->conn->send('y' x $size);
		$n++;
		wait_for('all of it', sub { length $pg->bytes($n) == $size + length startup_packet(user => 'alice') });
		pass('from the client');
		$s->conn->close;
		is($s->wait, 0, 'ends well');
	}
};

# OpenSSL went on without the policy.
subtest 'a file that cannot be read' => sub {
	my $env = system_default('MinProtocol = TLSv1.3');
	my $unread = sub {
		my ($what, $reason, @o) = @_;
		my $s = session(pg => $fake, env => $env, @o);
		ok(!$s->conn->negotiate(max => 'TLSv1.2'), "$what: no handshake");
		is($s->wait, 78, 'status');
		like($s->log, qr/OpenSSL could not read its settings in "\Q$env->{OPENSSL_CONF}\E": $reason/, 'the log says why');
	};
	$unread->('a failing open()', 'Too many open files in system',
		wrap => [ qw(/usr/bin/strace -qq -P), $env->{OPENSSL_CONF}, qw(-e inject=openat:error=ENFILE:when=1 -o), "$TMP/trace" ])
		unless T::run([qw(strace -V)], quiet => 1)->{status};
	spew($env->{OPENSSL_CONF}, "openssl_conf = init\n[init\n");
	$unread->('bad syntax', 'missing close square bracket');
	unlink $env->{OPENSSL_CONF};
	like_s_server('none', $env, { $tls12 => 'done', $tls13 => 'done' });
};

# ---- providers and random generators

like_s_server('the default provider by name', provider('default'),
	{ $tls12 => 'done', $tls13 => 'done' });
like_s_server('default and legacy', provider(qw(default legacy)),
	{ $tls12 => 'done', $tls13 => 'done' });
like_s_server('default and base', provider(qw(default base)),
	{ $tls12 => 'done', $tls13 => 'done' });

subtest 'the base provider alone has no ciphers' => sub {
	my $s = serve(pg => $fake, env => provider('base'));
	ok(!connect_to($s->port)->negotiate, 'no handshake');
	$s->logged(qr/could not initialise OpenSSL \(see openssl\.cnf\)|could not load/);
};

SKIP: {
	my ($directory) = T::run([qw(openssl version -m)])->{out} =~ /"(.*)"/;
	skip "the fips provider is not installed (Debian 13: openssl-provider-fips)", 1
		unless -e "$directory/fips.so";
	subtest 'fips and base' => sub {
		my $module = "$TMP/fips.cnf";
		my $r = T::run([ qw(openssl fipsinstall -module), "$directory/fips.so", '-out',
			$module ]);
		is($r->{status}, 0, 'fipsinstall') or diag($r->{err});
		my $section = slurp($module) =~ s/^\[fips_sect\]/[fips-section]/mr;
		my $env = conf_file("providers = p\nalg_section = a", "[p]\nfips = fips-section\nbase = base-section\n[base-section]\nactivate = 1\n$section\n[a]\ndefault_properties = fips=yes");
		like_s_server('only approved algorithms', $env, { $tls12 => 'done', $tls13 => 'done', "$tls13 -ciphersuites TLS_CHACHA20_POLY1305_SHA256" => 'failed' });
	};
}

my %generator = (
	(map { ("CTR-DRBG with $_" => "random = CTR-DRBG\ncipher = $_") } qw(AES-128-CTR AES-192-CTR AES-256-CTR ARIA-128-CTR ARIA-256-CTR CAMELLIA-128-CTR CAMELLIA-256-CTR)),
	'HASH-DRBG with SHA512' => "random = HASH-DRBG\ndigest = SHA512",
	'HMAC-DRBG with SHA256' => "random = HMAC-DRBG\ndigest = SHA256",
	'HMAC-DRBG with SHA3-512' => "random = HMAC-DRBG\ndigest = SHA3-512",
);
# A generator of 128 bits is too weak for X25519MLKEM768, the default group from OpenSSL 3.5 on.
like_s_server($_, conf_file('random = r', "[r]\n$generator{$_}"), { "$tls12 -groups X25519:P-256" => 'done', "$tls13 -groups X25519:P-256" => 'done' }, args => ['--groups=X25519:P-256']) for sort keys %generator;
done_testing;
