# SPDX-License-Identifier: ISC
#
# testssl.sh and sslscan find nothing in TLS as pgssl offers it, neither behind an SSLRequest nor
# with direct TLS.
#
# testssl.sh starts some thousand processes. Of its checks those are left out that only inform: all
# ciphers one by one, and simulated clients. With direct TLS, which has the same settings, it looks
# at protocols and ciphers only.
# sabotage: s/if (o->ciphers == NULL \&\& !set_default_ciphers/if (false \&\& !set_default_ciphers/ tls/settings.c
# sabotage: s/SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE/SSL_OP_NO_COMPRESSION/ tls/settings.c
use lib 't/lib';
use T;
use JSON::PP;

limit(1200);
my ($testssl) = grep { -x } map { ("$_/testssl", "$_/testssl.sh") } split /:/, $ENV{PATH};
needs($testssl, 'testssl.sh (t/setup testssl.sh sslscan)');
needs(!T::run([qw(sslscan --version)], quiet => 1)->{status}, 'sslscan (t/setup testssl.sh sslscan)');

# As an authority would issue them.
my $ca = make_ca(name => 'ca', days => 3650);
my @pem = map { make_pem(make_cert(name => $_, key => $_, issuer => $ca, days => 90, ext => [
	'basicConstraints=CA:FALSE', 'keyUsage=critical,digitalSignature', 'extendedKeyUsage=serverAuth', 'subjectKeyIdentifier=hash', 'authorityKeyIdentifier=keyid',
	'subjectAltName=DNS:localhost', 'crlDistributionPoints=URI:http://localhost/test.crl' ])) } qw(ecdsa rsa);
my $service = serve_listen(pg => fake_backend(), pem => $pem[0],
	args => [ '-p', $pem[1], qw(--max-connections=200 --max-per-source=200) ]);

# Checks of testssl.sh; findings that must be among its own; how many there are at least.
my %ways = (
	'SSLRequest' => { checks => [qw(--starttls postgres -p -s -f -P -S -U)], at_least => 90,
		good => [qw(cipher_order heartbleed secure_client_renego fallback_SCSV)] },
	'direct TLS' => { checks => [qw(-p -s)], at_least => 15, good => [] },
);
# What it says about the machine it runs on.
my %not_ours = (engine_problem => 'its openssl(1) has no GOST engine');

my %json = map { $_ => "$TMP/" . s/ /_/r . '.json' } keys %ways;
my %pid = map { $_ => spawn(cmd => [ $testssl, qw(--quiet --color 0 --warnings off --nodns none --ip 127.0.0.1),
	'--add-ca', $ca->{cert}, '--jsonfile', $json{$_}, @{ $ways{$_}{checks} }, 'localhost:' . $service->port ]) } sort keys %ways;

for my $way (sort keys %ways) {
	subtest "sslscan, $way" => sub {
		my @starttls = $way eq 'SSLRequest' ? '--starttls-psql' : ();
		my $out = T::run([ qw(sslscan --no-colour), @starttls,
			'127.0.0.1:' . $service->port ])->{out};
		like($out, qr/^$_ +disabled$/m, "no $_") for qw(SSLv2 SSLv3 TLSv1.0 TLSv1.1);
		like($out, qr/^$_ +enabled$/m, $_) for qw(TLSv1.2 TLSv1.3);
		like($out, qr/^Server supports TLS Fallback SCSV$/m, 'fallback is refused');
		like($out, qr/^Session renegotiation not supported$/m, 'no renegotiation');
		like($out, qr/^TLSv1.[23] not vulnerable to heartbleed$/m, 'no heartbleed');
		unlike($out, qr/ (?<!not )vulnerable|^Compression enabled/m, 'nothing else');
		my %ciphers = map { $_ => 1 } $out =~ /^(?:Preferred|Accepted) .* bits  (\S+)/mg;
		my @bad = grep { !/^(?:TLS_|ECDHE-(?:ECDSA|RSA)-(?:AES\d+-GCM|CHACHA20))/ } keys %ciphers;
		cmp_ok(scalar keys %ciphers, '>', 5, join ' ', sort keys %ciphers);
		is("@bad", '', 'all are forward-secret AEAD');
	};
}

for my $way (sort keys %ways) {
	subtest "testssl.sh, $way" => sub {
		wait_exit($pid{$way}, 1100);
		my @findings = @{ decode_json(slurp($json{$way})) };
		my %found = map { $_->{id} => $_ } @findings;
		cmp_ok(scalar @findings, '>', $ways{$way}{at_least}, scalar @findings . ' findings');
		is($found{$_}{severity}, 'OK', $_) for qw(TLS1_2 TLS1_3), grep(/^cipherlist_STRONG(?:_FS)?$/, keys %found), @{ $ways{$way}{good} };
		my @bad = grep { $_->{severity} !~ /^(?:OK|INFO|DEBUG)$/ && !$not_ours{ $_->{id} } } @findings;
		is(join('', map { "$_->{severity} $_->{id}: $_->{finding}\n" } @bad), '', 'nothing above INFO');
	};
}
done_testing;
