# SPDX-License-Identifier: ISC
#
# T::Cert - keys and certificates for tests, made with openssl(1). The default is ECDSA P-256, since
# RSA keys can take seconds.
package T::Cert;

use strict;
use warnings;
use MIME::Base64 ();

our @EXPORT = qw(make_cert make_ca make_pem fingerprint secrets);

my $serial = 1000;

sub openssl {
	my (@args) = @_;
	my $r = T::run([ 'openssl', @args ]);
	die "openssl @args: $r->{err}" if $r->{status};
	return $r->{out};
}

my %algorithm = (
	ecdsa => [ '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256' ],
	rsa => [ '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048' ],
	rsa1024 => [ '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:1024' ],
	ed25519 => [ '-algorithm', 'ED25519' ],
);

# make_cert(name => 'server', cn => ..., san => 'DNS:localhost,IP:127.0.0.1', key => 'ecdsa',
# issuer => a result of make_cert, ca => 1, days => 30, ext => [lines], passphrase => ...) returns
# { key, cert, chain, name }, all paths. chain: this certificate and its issuers without the root.
sub make_cert {
	my (%o) = @_;
	my $base = "$T::TMP/" . ($o{name} || 'cert' . ++$serial);
	my $subject = $o{subject} || '/CN=' . (defined $o{cn} ? $o{cn} : 'localhost');
	my @secret = defined $o{passphrase} ? ('-aes256', '-pass', "pass:$o{passphrase}") : ();
	my @unlock = defined $o{passphrase} ? ('-passin', "pass:$o{passphrase}") : ();
	openssl('genpkey', @{ $algorithm{ $o{key} || 'ecdsa' } }, @secret, '-out', "$base.key");
	chmod 0600, "$base.key";
	T::spew("$base.ext", join "\n", extensions(%o), '');
	T::spew("$base.conf", "[req]\ndistinguished_name=dn\n[dn]\n");
	openssl('req', '-new', '-config', "$base.conf", '-utf8', '-key', "$base.key", @unlock,
		'-subj', $subject, '-out', "$base.csr");
	my @signer = $o{issuer} ? ('-CA', $o{issuer}{cert}, '-CAkey', $o{issuer}{key})
		: ('-signkey', "$base.key", @unlock);
	my @dates = $o{expired} ? T::OpenSSL::expired() : ('-days', $o{days} || 30);
	openssl('x509', '-req', '-in', "$base.csr", @signer, @dates, '-set_serial',
		$o{serial} || ++$serial, '-extfile', "$base.ext", '-out', "$base.crt");
	my $above = $o{issuer} && !$o{issuer}{root} ? T::slurp($o{issuer}{chain}) : '';
	T::spew("$base.chain", T::slurp("$base.crt") . $above);
	return { key => "$base.key", cert => "$base.crt", chain => "$base.chain", name => $base,
		root => !$o{issuer} };
}

sub extensions {
	my (%o) = @_;
	return @{ $o{ext} } if $o{ext};
	my @lines = $o{ca} ? ('basicConstraints=critical,CA:TRUE',
		'keyUsage=critical,keyCertSign,cRLSign') : ('basicConstraints=CA:FALSE');
	push @lines, 'subjectKeyIdentifier=hash';
	my $san = exists $o{san} ? $o{san} : $o{ca} ? undef : 'DNS:localhost,IP:127.0.0.1';
	push @lines, "subjectAltName=$san" if defined $san;
	return @lines;
}

sub make_ca { return make_cert(cn => 'Test CA', @_, ca => 1) }

# Write chain and key to one file, mode 0600, for -p; returns its path.
sub make_pem {
	my ($cert, $path) = @_;
	$path ||= "$cert->{name}.pem";
	return T::spew($path, T::slurp($cert->{chain}) . T::slurp($cert->{key}), 0600);
}

sub fingerprint {
	my ($path) = @_;
	my $out = openssl('x509', '-in', $path, '-noout', '-fingerprint', '-sha256');
	$out =~ s/.*=//;
	$out =~ s/[:\s]//g;
	return lc $out;
}

# The secret numbers of a private key, in both byte orders: the scalar of EC; d, p and q of RSA.
sub secrets {
	my ($key) = @_;
	my $text = T::run([ 'openssl', 'pkey', '-in', $key, '-noout', '-text' ])->{out};
	my @found;
	while ($text =~ /^(priv|privateExponent|prime1|prime2):\n((?:\s+[0-9a-f:]+\n)+)/mg) {
		my $bytes = pack 'H*', $2 =~ s/[^0-9a-f]//gr;
		$bytes =~ s/^\0+//;
		push @found, substr $bytes, -24;
		push @found, scalar reverse substr $bytes, -24; # OpenSSL stores words little-endian
	}
	open my $fh, '<', $key;
	my @pem = grep { !/-----/ } <$fh>;
	chomp @pem;
	my $der = MIME::Base64::decode_base64(join '', @pem);
	die "nothing of $key found in itself\n" unless grep { index($der, $_) >= 0 } @found;
	return (@found, substr $pem[0], 30);
}

1;
