# SPDX-License-Identifier: ISC
#
# openssl.cnf as sites have it: what it says about providers, random numbers, versions, ciphers and groups holds, as it does for `openssl s_server` with the same file.
# sabotage: s/SSL_CTX_get_min_proto_version(ctx) < TLS1_2_VERSION/true/ tls/settings.c
# sabotage: s/SSL_CTX_set_verify(t->ctx, SSL_VERIFY_NONE, NULL);/;/ tls.c
# sabotage: s/SSL_CTX_set_cipher_list(ctx, list + (list\[0\] == ':')) != 1/false/ tls/settings.c
use lib 't/lib';
use T;
use T::Handshake;

limit(300);
my $fake = after_startup(sub { syswrite $_[0], "R\0\0\0\10\0\0\0\0" });
my $pem = server_pem()->{pem};
my $weak = make_pem(make_cert(name => 'weak', key => 'rsa1024'));
my $rsa = make_pem(make_cert(name => 'rsa', key => 'rsa'));
my ($tls12, $tls13) = ('-max_protocol TLSv1.2', '-min_protocol TLSv1.3');

# A file with these lines for every SSL_CTX.
sub system_default { return conf_file('ssl_conf = ssl', "[ssl]\nsystem_default = sys\n[sys]\n" . join '', map { "$_\n" } @_) }
sub provider { return conf_file('providers = p', join "\n", '[p]', (map { "$_ = $_-section" } @_), map { ("[$_-section]", 'activate = 1') } @_) }

# like_s_server(what, environment, { client's options => 'done' or 'failed', ... }): both answer alike, and as it is said here. pem: the certificate; only => 1: s_server
# does otherwise, and is not asked; args: of pgssl.
sub like_s_server {
	my ($what, $env, $cases, %o) = @_;
	subtest $what => sub {
		my %want = %$cases;
		my $use = $o{pem} || $pem;
		my $pgssl = serve(pg => $fake, pem => $use, env => $env, args => $o{args});
		my $s_server = $o{only} ? undef : s_server([ '-cert', $use, '-key', $use ], env => $env);
		my @options = sort keys %want;
		my @answers = handshakes(map { ($pgssl->port . " postgres $_", $s_server ? $s_server->port . " http $_" : ()) } @options);
		for my $options (@options) {
			like(shift @answers, qr/^$want{$options}/, "pgssl: $options: $want{$options}") or diag($pgssl->log);
			like(shift @answers, qr/^$want{$options}/, 's_server: the same') if $s_server;
		}
		stop($s_server->{pid}) if $s_server;
	};
}

# ---- versions, ciphers, groups

like_s_server('MinProtocol', system_default('MinProtocol = TLSv1.3'), { $tls12 => 'failed', $tls13 => 'done' });
like_s_server('MaxProtocol', system_default('MaxProtocol = TLSv1.2'), { $tls12 => 'done', $tls13 => 'failed' });
like_s_server('MinProtocol below TLS 1.2 is not followed', system_default('MinProtocol = TLSv1', 'CipherString = DEFAULT@SECLEVEL=0'),
	{ '-max_protocol TLSv1.1' => 'failed', $tls12 => 'done' }, only => 1);
like_s_server('CipherString', system_default('CipherString = ECDHE-ECDSA-AES128-GCM-SHA256'),
	{ "$tls12 -cipher ECDHE-ECDSA-AES128-GCM-SHA256" => 'done', "$tls12 -cipher ECDHE-ECDSA-AES256-GCM-SHA384" => 'failed', $tls13 => 'done' });
like_s_server('CipherString = ALL takes in more AEAD ciphers', system_default('CipherString = ALL:@SECLEVEL=0'), { map { ("$tls12 -cipher $_" => 'done') } qw(ECDHE-ECDSA-AES128-CCM ECDHE-ECDSA-AES256-CCM8) });
like_s_server('... but no others', system_default('CipherString = ALL:@SECLEVEL=0'), { "$tls12 -cipher ECDHE-ECDSA-AES128-SHA256" => 'failed' }, only => 1);
like_s_server('@SECLEVEL=2: a short key does not do', system_default('CipherString = DEFAULT@SECLEVEL=2'), { $tls13 => 'failed' }, pem => $weak, only => 1);
like_s_server('@SECLEVEL=0: it does', system_default('CipherString = DEFAULT@SECLEVEL=0'), { $tls12 => 'done', $tls13 => 'done' }, pem => $weak);
like_s_server('@SECLEVEL=3: nor do 2048 bits of RSA', system_default('CipherString = DEFAULT@SECLEVEL=3'), { $tls13 => 'failed' }, pem => $rsa, only => 1);
like_s_server('Ciphersuites', system_default('Ciphersuites = TLS_CHACHA20_POLY1305_SHA256'), { "$tls13 -ciphersuites TLS_AES_256_GCM_SHA384" => 'failed', $tls13 => 'done TLSv1.3 TLS_CHACHA20' });
like_s_server('Groups', system_default('Groups = P-384:P-256'), { map { ("$_ -groups X25519" => 'failed', "$_ -groups X25519:P-384:P-256" => 'done') } $tls12, $tls13 });
like_s_server('SignatureAlgorithms', system_default('SignatureAlgorithms = rsa_pss_rsae_sha512'),
	{ "$tls13 -sigalgs rsa_pss_rsae_sha256" => 'failed', "$tls13 -sigalgs rsa_pss_rsae_sha512" => 'done' }, pem => $rsa);

subtest 'an option overrules it' => sub {
	my $env = system_default('MinProtocol = TLSv1.3', 'MaxProtocol = TLSv1.3', 'CipherString = ECDHE-ECDSA-AES128-GCM-SHA256', 'Groups = P-384');
	my $s = serve(pg => $fake, env => $env, args => [ qw(--min-protocol=TLSv1.2 --max-protocol=TLSv1.2 --groups=X25519 -C ECDHE-ECDSA-CHACHA20-POLY1305) ]);
	is((handshakes($s->port . ' postgres'))[0], 'done TLSv1.2 ECDHE-ECDSA-CHACHA20-POLY1305 x25519', 'all four');
};

subtest 'no cipher of CipherString is left: told' => sub {
	my $s = serve(pg => $fake, env => system_default('CipherString = AES128-SHA'));
	ok(!connect_to($s->port)->negotiate, 'no handshake');
	$s->logged(qr/openssl\.cnf allows no forward-secret AEAD cipher for TLS 1\.2: change its CipherString, or give -C/);
};

# pgssl inherited it, and demanded a certificate that it had nothing to verify with. s_server asks for one as its own options say.
subtest 'VerifyMode: whether a client needs a certificate is said by -A and --clientcert alone' => sub {
	my $stranger = make_cert(name => 'stranger');
	my $with_cert = "-cert $stranger->{cert} -key $stranger->{key}";
	for my $mode (qw(Peer Request Require Once)) {
		my $env = system_default("VerifyMode = $mode");
		like_s_server("$mode, without -A: no certificate is asked for", $env, { map { ($_ => 'done', "$_ $with_cert" => 'done') } $tls12, $tls13 });
		like_s_server("$mode, with -A: it may be left out", $env, { $tls12 => 'done', $tls13 => 'done' }, args => [ '-A', server_pem()->{root} ], only => 1);
	}
};

subtest 'Options = KTLS: data flows, with TLS as it is otherwise' => sub {
	my $size = 1_000_000;
	my $pg = after_startup(sub { my ($socket, $self) = @_; syswrite $socket, 'x' x $size; $self->take($socket, $size) });
	my $n = 0;
	for my $version (qw(TLSv1.2 TLSv1.3)) {
		my $s = session(pg => $pg, env => system_default('Options = KTLS', 'CipherString = ECDHE+AESGCM'));
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

# ---- providers and random numbers

like_s_server('the default provider by name', provider('default'), { $tls12 => 'done', $tls13 => 'done' });
like_s_server('default and legacy', provider(qw(default legacy)), { $tls12 => 'done', $tls13 => 'done' });
like_s_server('default and base', provider(qw(default base)), { $tls12 => 'done', $tls13 => 'done' });

subtest 'base alone, which has no cipher: told' => sub {
	my $s = serve(pg => $fake, env => provider('base'));
	ok(!connect_to($s->port)->negotiate, 'no handshake');
	$s->logged(qr/could not initialise OpenSSL \(is openssl\.cnf in order\?\)|could not load/);
};

SKIP: {
	my ($folder) = T::run([qw(openssl version -m)])->{out} =~ /"(.*)"/;
	skip "the fips provider is not installed (Debian 13: openssl-provider-fips)", 1 unless -e "$folder/fips.so";
	subtest 'fips and base, and nothing but what fips approves' => sub {
		my $module = "$TMP/fips.cnf";
		my $r = T::run([ qw(openssl fipsinstall -module), "$folder/fips.so", '-out', $module ]);
		is($r->{status}, 0, 'fipsinstall') or diag($r->{err});
		my $section = slurp($module) =~ s/^\[fips_sect\]/[fips-section]/mr;
		my $env = conf_file("providers = p\nalg_section = a", "[p]\nfips = fips-section\nbase = base-section\n[base-section]\nactivate = 1\n$section\n[a]\ndefault_properties = fips=yes");
		like_s_server('the default', $env, { $tls12 => 'done', $tls13 => 'done', "$tls13 -ciphersuites TLS_CHACHA20_POLY1305_SHA256" => 'failed' });
	};
}

my %generator = (
	(map { ("CTR-DRBG with $_" => "random = CTR-DRBG\ncipher = $_") } qw(AES-128-CTR AES-192-CTR AES-256-CTR ARIA-128-CTR ARIA-256-CTR CAMELLIA-128-CTR CAMELLIA-256-CTR)),
	'HASH-DRBG with SHA512' => "random = HASH-DRBG\ndigest = SHA512",
	'HMAC-DRBG with SHA256' => "random = HMAC-DRBG\ndigest = SHA256",
	'HMAC-DRBG with SHA3-512' => "random = HMAC-DRBG\ndigest = SHA3-512",
);
# 128 bits of strength are too few for OpenSSL 3.5's default group.
like_s_server($_, conf_file('random = r', "[r]\n$generator{$_}"), { "$tls12 -groups X25519:P-256" => 'done', "$tls13 -groups X25519:P-256" => 'done' }, args => ['--groups=X25519:P-256']) for sort keys %generator;
done_testing;
