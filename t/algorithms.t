# SPDX-License-Identifier: ISC
#
# Every algorithm that OpenSSL has for a handshake, a certificate or a key works: by default, with -C, with a passphrase or through openssl.cnf.
# sabotage: s/OPENSSL_init_ssl(OPENSSL_INIT_NO_ATEXIT/OPENSSL_init_ssl(OPENSSL_INIT_NO_ADD_ALL_DIGESTS/ tls.c
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

# The first certificate of a PEM file, without its key.
sub certificate { my ($pem) = @_; return slurp($pem) =~ /(-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n)/s ? $1 : die "no certificate in $pem\n" }

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
		like($key, qr/ENCRYPTED/, $cipher);
		my $s = serve(pg => $fake, pem => spew("$TMP/$cipher.pem", $key . certificate($pem{ecdsa}), 0600), args => ['--passphrase-command=echo secret']);
		ok(connect_to($s->port)->negotiate, 'is read');
	}
};

subtest 'openssl.cnf chooses providers and the random generator' => sub {
	# A generator of 128 bits is too weak for OpenSSL 3.5's default group, X25519MLKEM768; s_server fails, too.
	my %conf = (
		'the default provider by name' => [ 'providers = p', "[p]\ndefault = d\n[d]\nactivate = 1" ],
		'a generator with AES-128' => [ 'random = r', "[r]\nrandom = CTR-DRBG\ncipher = AES-128-CTR", '--groups=X25519' ],
		'a generator with SHA-512' => [ 'random = r', "[r]\nrandom = HASH-DRBG\ndigest = SHA512" ],
	);
	for my $what (sort keys %conf) {
		my ($init, $sections, @args) = @{ $conf{$what} };
		my $s = serve(pg => $fake, pem => $pem{ecdsa}, args => \@args, env => conf($what =~ tr/ /-/r, $init, $sections));
		ok(connect_to($s->port)->negotiate, $what) or diag($s->log);
	}
	my $s = serve(pg => $fake, pem => $pem{ecdsa}, env => conf('base', 'providers = p', "[p]\nbase = b\n[b]\nactivate = 1"));
	ok(!connect_to($s->port)->negotiate, 'a choice with no cipher in it is kept to');
};

# With TLS 1.2 the handshake ends, and s_client well, after the server has judged the client's certificate; with TLS 1.3 s_client may not wait for that.
sub comes_in {
	my ($s, $cert, $key) = @_;
	my $r = T::run([ qw(openssl s_client -tls1_2 -starttls postgres -cipher ALL:@SECLEVEL=0 -connect), '127.0.0.1:' . $s->port, '-cert', $cert, '-key', $key ], stdin => "Q\n", quiet => 1);
	my $well = is($r->{status}, 0, 'is served and comes in');
	like($r->{out}, qr/^New, TLSv1/m, 'under TLS') && $well or diag($s->log);
}

subtest 'a client whose authority signs with DSA' => sub {
	my $dir = $TMP;
	my @steps = (
		[ qw(openssl dsaparam -genkey -noout -out), "$dir/dsa.key", 2048 ],
		[ qw(openssl req -x509 -sha256 -days 7 -subj /CN=DSA -key), "$dir/dsa.key", '-out', "$dir/dsa.crt" ],
		[ qw(openssl req -newkey rsa:2048 -nodes -subj /CN=alice -keyout), "$dir/alice.key", '-out', "$dir/alice.csr" ],
		[ qw(openssl x509 -req -sha256 -days 7 -CAcreateserial -in), "$dir/alice.csr", '-CA', "$dir/dsa.crt", '-CAkey', "$dir/dsa.key", '-out', "$dir/alice.crt" ],
	);
	T::run($_, quiet => 1) for @steps;
	my $s = serve(pg => $fake, pem => $pem{ecdsa}, args => [ '-A', "$dir/dsa.crt", '--clientcert=verify-ca' ]);
	comes_in($s, "$dir/alice.crt", "$dir/alice.key");
	unlike($s->log, qr/refused|verify/, 'and the log has nothing against it');
};

# OpenSSL 3.0 does not verify PKCS #1 signatures with SHA-512/224 and SHA-512/256, but those of RSA-PSS.
subtest 'certificates signed with any digest, our own and a client\'s' => sub {
	my $dir = $TMP;
	T::run([ qw(openssl req -x509 -newkey rsa:2048 -nodes -days 7 -subj /CN=signer -keyout), "$dir/signer.key", '-out', "$dir/signer.crt" ], quiet => 1);
	T::run([ qw(openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout), "$dir/signed.key", '-out', "$dir/signed.csr" ], quiet => 1);
	my @both = qw(sha1 sha224 sha256 sha384 sha512);
	for my $case ((map { [ $_, 'pkcs1' ] } @both, qw(sha3-224 sha3-256 sha3-384 sha3-512 ripemd160 md5)), (map { [ $_, 'pss' ] } @both, qw(sha512-224 sha512-256))) {
		my ($digest, $padding) = @$case;
		my $name = "$digest-$padding";
		my @padding = $padding eq 'pss' ? qw(-sigopt rsa_padding_mode:pss) : ();
		my $r = T::run([ qw(openssl x509 -req -days 7 -CAcreateserial -in), "$dir/signed.csr", "-$digest", @padding, '-CA', "$dir/signer.crt", '-CAkey', "$dir/signer.key", '-out', "$dir/$name.crt" ], quiet => 1);
		is($r->{status}, 0, "$name: a certificate is made") or diag($r->{err});
		my $level = $digest =~ /^(?:sha1|ripemd160|md5)$/ ? 'CipherString = ALL:@SECLEVEL=0' : 'MinProtocol = TLSv1.2';
		my $s = serve(pg => $fake, pem => spew("$dir/$name.pem", slurp("$dir/signed.key") . slurp("$dir/$name.crt"), 0600), args => [ '-A', "$dir/signer.crt", '--clientcert=verify-ca' ],
			env => conf("signed-$name", 'ssl_conf = ssl', "[ssl]\nsystem_default = sys\n[sys]\n$level"));
		comes_in($s, "$dir/$name.crt", "$dir/signed.key");
	}
};

subtest 'a key in the other forms that OpenSSL writes to a PEM file' => sub {
	my %form = (
		'RSA PRIVATE KEY' => [ qw(openssl rsa -traditional -in), $pem{rsa} ],
		'EC PRIVATE KEY' => [ qw(openssl ec -in), $pem{ecdsa} ],
		'BEGIN PRIVATE KEY' => [ qw(openssl pkcs8 -topk8 -nocrypt -in), $pem{rsa} ],
	);
	for my $form (sort keys %form) {
		my $key = T::run($form{$form}, quiet => 1)->{out};
		like($key, qr/$form/, $form);
		my $of = $form =~ /^EC/ ? $pem{ecdsa} : $pem{rsa};
		my $s = serve(pg => $fake, pem => spew("$TMP/form.pem", $key . certificate($of), 0600));
		ok(connect_to($s->port)->negotiate, 'is read') or diag($s->log);
	}
	my $encrypted = T::run([ qw(openssl pkcs8 -topk8 -passout pass:secret -in), $pem{ecdsa} ], quiet => 1)->{out};
	my $s = serve(pg => $fake, pem => spew("$TMP/locked.pem", $encrypted . certificate($pem{ecdsa}), 0600));
	ok(!connect_to($s->port)->negotiate, 'one with a passphrase and no command is refused');
	like($s->log, qr/it is encrypted: give --passphrase-command/, 'with the reason');
};
done_testing;
