# SPDX-License-Identifier: ISC
#
# sslscan finds nothing in TLS as pgssl offers it, neither behind an SSLRequest nor with direct TLS.
# sabotage: s/if (o->ciphers == NULL \&\& !set_default_ciphers/if (false \&\& !set_default_ciphers/ tls/settings.c
use lib 't/lib';
use T;

needs(!T::run([qw(sslscan --version)], quiet => 1)->{status}, 'sslscan (t/setup sslscan)');

# As an authority would issue them.
my $ca = make_ca(name => 'ca', days => 3650);
my @pem = map { make_pem(make_cert(name => $_, key => $_, issuer => $ca, days => 90, ext => [
	'basicConstraints=CA:FALSE', 'keyUsage=critical,digitalSignature', 'extendedKeyUsage=serverAuth', 'subjectKeyIdentifier=hash', 'authorityKeyIdentifier=keyid',
	'subjectAltName=DNS:localhost', 'crlDistributionPoints=URI:http://localhost/test.crl' ])) } qw(ecdsa rsa);
my $service = serve_listen(pg => fake_backend(), pem => $pem[0],
	args => [ '-p', $pem[1], qw(--max-connections=200 --max-per-source=200) ]);

for my $way ('SSLRequest', 'direct TLS') {
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

done_testing;
