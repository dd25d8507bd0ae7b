# SPDX-License-Identifier: ISC
#
# pgssl reads certificates signed with every digest that OpenSSL verifies, and private keys in every
# form and under every cipher that OpenSSL writes. (t/matrix.t tests the handshake.)
# sabotage: s/OPENSSL_init_ssl(OPENSSL_INIT_NO_ATEXIT/OPENSSL_init_ssl(OPENSSL_INIT_NO_ADD_ALL_DIGESTS/ tls.c
use lib 't/lib';
use T;
use T::Handshake;

my $fake = after_startup(sub { syswrite $_[0], 'R' });
my %pem = map { ($_ => make_pem(make_cert(name => $_, cn => $_, key => $_))) } qw(rsa ecdsa);

# The first certificate of a PEM file, without its key.
sub certificate {
	my ($pem) = @_;
	return slurp($pem) =~ /(-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n)/s ? $1
		: die "no certificate in $pem\n";
}

subtest 'a key encrypted with any cipher' => sub {
	for my $cipher (qw(aes-256-cbc camellia-128-cbc aria-192-cbc des-ede3-cbc)) {
		my $key = T::run([ qw(openssl pkcs8 -topk8 -passout pass:secret -v2), $cipher,
			'-in', $pem{ecdsa} ])->{out};
		like($key, qr/ENCRYPTED/, $cipher);
		my $s = serve(pg => $fake,
			pem => spew("$TMP/$cipher.pem", $key . certificate($pem{ecdsa}), 0600),
			args => ['--passphrase-command=echo secret']);
		ok(connect_to($s->port)->negotiate, 'is read');
	}
};

# The reference is `openssl s_server`, which verifies them as client certificates. OpenSSL 3.0
# verifies SHA-512/224 and SHA-512/256 with RSA-PSS, but not with PKCS #1.
subtest "certificates signed with any digest, pgssl's own and a client's" => sub {
	my $req = 'openssl req -x509 -nodes -days 7 -subj';
	my %signer = (rsa => '-newkey rsa:2048', pss => '-newkey rsa:2048',
		ec => '-newkey ec -pkeyopt ec_paramgen_curve:P-384');
	in_parallel("openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out $TMP/leaf.key",
		map { "$req /CN=$_ $signer{$_} -keyout $TMP/$_.key -out $TMP/$_.crt" }
		sort keys %signer);
	my $all = spew("$TMP/signers.crt", join '', map { slurp("$TMP/$_.crt") } sort keys %signer);
	my @cases = map { my $digest = $_; map { [ $digest, $_ ] } sort keys %signer }
		grep { !/^(?:ssl3-|ripemd$|rmd)/ }
		map { /^-(\S+)/ ? $1 : () } split /(?<=\s)/, run([qw(openssl dgst -list)])->{out};
	my $file = sub { "$TMP/" . join '.', @{ $_[0] } };
	in_parallel(map { my $to = $file->($_); my ($digest, $by) = @$_;
		"$req /CN=localhost -$digest -key $TMP/leaf.key -CA $TMP/$by.crt -CAkey $TMP/$by.key "
			. ($by eq 'pss' ? '-sigopt rsa_padding_mode:pss ' : '')
			. "-out $to.crt && cat $to.crt $TMP/leaf.key >$to.pem && chmod 600 $to.pem" } @cases);
	@cases = grep { -s $file->($_) . '.pem' } @cases;

	my $env = conf_file('ssl_conf = ssl',
		"[ssl]\nsystem_default = sys\n[sys]\nCipherString = ALL:\@SECLEVEL=0");
	my $reference = s_server([ '-cert', $pem{ecdsa}, '-key', $pem{ecdsa},
		qw(-Verify 1 -verify_return_error -CAfile), $all ], env => $env);
	my @as = map { my $pem = $file->($_) . '.pem'; "-cert $pem -key $pem" } @cases;
	my @verified = handshakes(map { $reference->port . " http $_" } @as);
	cmp_ok(scalar(grep { /^done/ } @verified), '>=', 16,
		's_server accepts ' . grep({ /^done/ } @verified) . ' of ' . @cases);
	for my $i (grep { $verified[$_] =~ /^done/ } 0 .. $#cases) {
		my $s = serve(pg => $fake, pem => $file->($cases[$i]) . '.pem',
			args => [ '-A', $all, '--clientcert=verify-ca' ], env => $env);
		like((handshakes($s->port . " postgres $as[$i]"))[0], qr/^done/,
			"@{ $cases[$i] }: as server and client certificate") or diag($s->log);
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
		my $s = serve(pg => $fake,
			pem => spew("$TMP/form.pem", $key . certificate($of), 0600));
		ok(connect_to($s->port)->negotiate, 'is read') or diag($s->log);
	}
	my $encrypted = T::run([ qw(openssl pkcs8 -topk8 -passout pass:secret -in), $pem{ecdsa} ],
		quiet => 1)->{out};
	my $s = serve(pg => $fake,
		pem => spew("$TMP/locked.pem", $encrypted . certificate($pem{ecdsa}), 0600));
	ok(!connect_to($s->port)->negotiate, 'one with a passphrase and no command is refused');
	like($s->log, qr/it is encrypted: use --passphrase-command/, 'with the reason');
};
done_testing;
