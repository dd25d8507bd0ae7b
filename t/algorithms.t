# SPDX-License-Identifier: ISC
#
# pgssl gives OpenSSL only the ciphers and decoders that a session can use (tls_provider.c). Nobody must miss one: not by default, not with -C, a passphrase or
# openssl.cnf.
# sabotage: s/"AES-256-CCM", // tls_provider.c
# sabotage: s/o->ciphers == NULL \&\& // tls.c
# sabotage: s/ \&\& o->passphrase_command == NULL// tls.c
# sabotage: s/"AES-128-CTR", // tls_provider.c
# sabotage: s/"ED448", "DSA"/"ED448"/ tls_provider.c
use lib 't/lib';
use T;

my $fake = fake_backend();
my %pem = map { ($_ => make_pem(make_cert(name => $_, cn => $_, key => $_))) } qw(rsa ecdsa);
my %service = map { ($_ => serve(pg => $fake, pem => $pem{$_})) } qw(rsa ecdsa);

sub speaks {
	my ($port, $cipher) = @_;
	my $r = T::run([ qw(openssl s_client -tls1_2 -starttls postgres -connect), "127.0.0.1:$port", '-cipher', "$cipher:\@SECLEVEL=0" ], stdin => "Q\n", quiet => 1, env => { OPENSSL_CONF => '/dev/null' });
	return $r->{out} =~ /^New, \S+, Cipher is \Q$cipher\E$/m;
}

# A file in the place of openssl.cnf; the sections are of its "init".
sub conf {
	my ($name, $init, $sections) = @_;
	return { OPENSSL_CONF => spew("$TMP/$name.cnf", "openssl_conf = init\n[init]\n$init\n$sections\n") };
}

subtest 'every forward-secret AEAD cipher of TLS 1.2 that OpenSSL has by default' => sub {
	my @all = split /[:\n]/, T::run([ qw(openssl ciphers -s -tls1_2 ALL:@SECLEVEL=0) ])->{out};
	my @some = grep { /^(?:ECDHE|DHE)-/ && /GCM|CCM|CHACHA/ && !/PSK|DSS/ } @all;
	cmp_ok(scalar(grep { /CCM/ } @some), '>=', 4, "there are @some");
	my %every = map { ($_ => serve(pg => $fake, pem => $pem{$_}, env => conf("all-$_", 'ssl_conf = ssl', "[ssl]\nsystem_default = sys\n[sys]\nCipherString = ALL:\@SECLEVEL=0"))) } keys %pem;
	for my $cipher (@some) {
		my $by_default = $cipher !~ /CCM|ARIA/;
		ok(speaks(($by_default ? \%service : \%every)->{ $cipher =~ /ECDSA/ ? 'ecdsa' : 'rsa' }->port, $cipher), $cipher . ($by_default ? '' : ', with CipherString = ALL in openssl.cnf'));
	}
	my $all = $every{ecdsa};
	ok(!speaks($all->port, 'ECDHE-ECDSA-AES128-SHA256'), 'and no other kind');
};

subtest 'TLS 1.3: every suite' => sub {
	for my $suite (qw(TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256 TLS_AES_128_CCM_SHA256)) {
		my $s = serve(pg => $fake, pem => $pem{ecdsa}, args => ["--ciphersuites=$suite"]);
		ok(T::run([ qw(openssl s_client -tls1_3 -starttls postgres -connect), '127.0.0.1:' . $s->port, '-ciphersuites', $suite ], stdin => "Q\n", quiet => 1)->{out} =~ /Cipher is $suite/, $suite);
	}
};

subtest '-C: any cipher of OpenSSL' => sub {
	for my $cipher (qw(ECDHE-RSA-CAMELLIA128-SHA256 DHE-RSA-AES256-SHA AES128-SHA)) {
		ok(speaks(serve(pg => $fake, pem => $pem{rsa}, args => [ '-C', "$cipher:\@SECLEVEL=0" ])->port, $cipher), $cipher);
	}
};

subtest 'a key under any cipher' => sub {
	for my $cipher (qw(aes-256-cbc camellia-128-cbc aria-192-cbc des-ede3-cbc)) {
		my $key = T::run([ qw(openssl pkcs8 -topk8 -passout pass:secret -v2), $cipher, '-in', $pem{ecdsa} ])->{out};
		my ($certificate) = slurp($pem{ecdsa}) =~ /(-----BEGIN CERTIFICATE.*)/s;
		like($key, qr/ENCRYPTED/, $cipher);
		my $s = serve(pg => $fake, pem => spew("$TMP/$cipher.pem", $key . ($certificate =~ s/-----BEGIN (?!CERT).*//sr), 0600), args => ['--passphrase-command=echo secret']);
		ok(connect_to($s->port)->negotiate, 'is read');
	}
};

subtest 'openssl.cnf chooses providers and the random generator' => sub {
	my %conf = (
		'the default provider by name' => [ 'providers = p', "[p]\ndefault = d\n[d]\nactivate = 1" ],
		'a generator with AES-128' => [ 'random = r', "[r]\nrandom = CTR-DRBG\ncipher = AES-128-CTR" ],
		'a generator with SHA-512' => [ 'random = r', "[r]\nrandom = HASH-DRBG\ndigest = SHA512" ],
	);
	for my $what (sort keys %conf) {
		my $s = serve(pg => $fake, pem => $pem{ecdsa}, env => conf($what =~ tr/ /-/r, @{ $conf{$what} }));
		ok(connect_to($s->port)->negotiate, $what) or diag($s->log);
	}
	my $s = serve(pg => $fake, pem => $pem{ecdsa}, env => conf('base', 'providers = p', "[p]\nbase = b\n[b]\nactivate = 1"));
	ok(!connect_to($s->port)->negotiate, 'a choice with no cipher in it is kept to');
};

subtest 'a client whose authority signs with DSA' => sub {
	my ($conf, $dir) = ({ OPENSSL_CONF => '/dev/null' }, $TMP);
	my @steps = (
		[ qw(openssl dsaparam -genkey -noout -out), "$dir/dsa.key", 2048 ],
		[ qw(openssl req -x509 -sha256 -days 7 -subj /CN=DSA -key), "$dir/dsa.key", '-out', "$dir/dsa.crt" ],
		[ qw(openssl req -newkey rsa:2048 -nodes -subj /CN=alice -keyout), "$dir/alice.key", '-out', "$dir/alice.csr" ],
		[ qw(openssl x509 -req -sha256 -days 7 -CAcreateserial -in), "$dir/alice.csr", '-CA', "$dir/dsa.crt", '-CAkey', "$dir/dsa.key", '-out', "$dir/alice.crt" ],
	);
	T::run($_, quiet => 1) for @steps;
	my $s = serve(pg => $fake, pem => $pem{ecdsa}, args => [ '-A', "$dir/dsa.crt", '--clientcert=verify-ca' ]);
	like(T::run([ qw(openssl s_client -starttls postgres -connect), '127.0.0.1:' . $s->port, '-cert', "$dir/alice.crt", '-key', "$dir/alice.key" ], stdin => "Q\n", quiet => 1)->{out}, qr/^New, TLSv1/m, 'comes in')
	  or diag($s->log);
	unlike($s->log, qr/refused|verify/, 'and the log has nothing against it');
};
done_testing;
