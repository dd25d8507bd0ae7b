# SPDX-License-Identifier: ISC
#
# T::X509 - certificates that openssl(1) cannot make: any dates, unusual names, any extension; and
# revocation lists. They are made in this process, which is fast. A result of `issue` can be used
# like one of make_cert in T::Cert.
package T::X509;

use strict;
use warnings;
use Exporter 'import';
use Net::SSLeay;
use POSIX qw(strftime);
use T ();

our @EXPORT = qw(issue crl UTF8 PRINTABLE IA5 T61 BMP);

use constant { UTF8 => 12, PRINTABLE => 19, T61 => 20, IA5 => 22, BMP => 30 };

my $serial = 0xC0FFEE00;
my $files = 0;

sub new_key {
	my ($kind, $file) = @_;
	if ($kind eq 'ec') {
		my $key = Net::SSLeay::EVP_PKEY_new();
		Net::SSLeay::EVP_PKEY_assign_EC_KEY($key,
			Net::SSLeay::EC_KEY_generate_key('prime256v1'));
		return ($key, Net::SSLeay::PEM_get_string_PrivateKey($key));
	}
	my @args = $kind eq 'ed25519' ? ('ED25519') : ($kind, '-pkeyopt', 'rsa_keygen_bits:2048');
	my $r = T::run([ 'openssl', 'genpkey', '-algorithm', @args, '-out', $file ]);
	die $r->{err} if $r->{status};
	my $bio = Net::SSLeay::BIO_new_file($file, 'r');
	return (Net::SSLeay::PEM_read_bio_PrivateKey($bio), T::slurp($file));
}

# Add ([CN => 'alice', type], ...) to a name, in this order. The default type is UTF8.
sub put_names {
	my ($name, @parts) = @_;
	for my $part (@parts) {
		my ($field, $bytes, $type) = @$part;
		my $nid = Net::SSLeay::OBJ_sn2nid($field);
		Net::SSLeay::X509_NAME_add_entry_by_NID($name, $nid, $type || UTF8, $bytes, -1, 0)
			or die "X509_NAME_add_entry: $field\n";
	}
}

# issue(issuer => {...} (default: self-signed), cn => ... or subject => [...], san => ..., ca => 1,
# purpose => 'serverAuth', ext => { NID => value }, from => seconds from now, until => seconds from
# now, key => 'ec' | 'RSA' | 'RSA-PSS' | 'ed25519').
sub issue {
	my (%o) = @_;
	my $base = "$T::TMP/x509-" . ++$files;
	my $self = { name => $base, key => "$base.key", cert => "$base.crt", chain => "$base.chain",
		serial => sprintf('%08X', ++$serial), root => !$o{issuer} };
	my ($key, $text) = new_key($o{key} || 'ec', $self->{key});
	T::spew($self->{key}, $text, 0600);
	my $x = Net::SSLeay::X509_new();
	my $issuer = $o{issuer} || { x => $x, pkey => $key };
	@$self{qw(x pkey)} = ($x, $key);

	Net::SSLeay::X509_set_version($x, 2);
	Net::SSLeay::P_ASN1_INTEGER_set_hex(Net::SSLeay::X509_get_serialNumber($x),
		$self->{serial});
	put_names(Net::SSLeay::X509_get_subject_name($x),
		$o{subject} ? @{ $o{subject} } : ([ CN => $o{cn} ]));
	Net::SSLeay::X509_set_issuer_name($x, Net::SSLeay::X509_get_subject_name($issuer->{x}));
	Net::SSLeay::X509_set_pubkey($x, $key);
	Net::SSLeay::X509_gmtime_adj(Net::SSLeay::X509_get_notBefore($x),
		defined $o{from} ? $o{from} : -3600);
	Net::SSLeay::X509_gmtime_adj(Net::SSLeay::X509_get_notAfter($x),
		defined $o{until} ? $o{until} : 30 * 86400);
	my %ext = (
		Net::SSLeay::NID_basic_constraints() => $o{ca} ? 'critical,CA:TRUE'
			: 'critical,CA:FALSE',
		$o{ca} ? (Net::SSLeay::NID_key_usage() => 'critical,keyCertSign,cRLSign') : (),
		defined $o{san} ? (Net::SSLeay::NID_subject_alt_name() => $o{san}) : (),
		$o{purpose} ? (Net::SSLeay::NID_ext_key_usage() => $o{purpose}) : (),
		Net::SSLeay::NID_subject_key_identifier() => 'hash',
		%{ $o{ext} || {} },
	);
	Net::SSLeay::P_X509_add_extensions($x, $issuer->{x}, %ext) or die "extensions\n";
	Net::SSLeay::X509_sign($x, $issuer->{pkey}, Net::SSLeay::EVP_get_digestbyname('sha256'))
		or die "X509_sign\n";

	T::spew($self->{cert}, Net::SSLeay::PEM_get_string_X509($x));
	T::spew($self->{chain},
		T::slurp($self->{cert})
		. ($issuer->{root} || !$o{issuer} ? '' : T::slurp($issuer->{chain})));
	return $self;
}

# Make the revocation list of an authority: crl(ca, revoked => [certificates], from => seconds from
# now, until => seconds from now, ext => lines of openssl.cnf). Returns its path.
sub crl {
	my ($ca, %o) = @_;
	my $base = "$T::TMP/crl-" . ++$files;
	my $time = sub { strftime('%y%m%d%H%M%SZ', gmtime(time + $_[0])) };
	T::spew("$base.index", join '',
		map { join("\t", 'R', $time->(86400), $time->(-60), $_->{serial}, 'unknown',
		'/CN=x') . "\n" } @{ $o{revoked} || [] });
	T::spew("$base.number", "01\n");
	T::spew("$base.conf",
		"[ca]\ndefault_ca=d\n[d]\ndatabase=$base.index\ncrlnumber=$base.number\ndefault_md=sha256\n"
		. (defined $o{ext} ? "crl_extensions=x\n[x]\nauthorityKeyIdentifier=keyid\n$o{ext}\n" : ''));
	my $until = $o{until} || 86400;
	my $r = T::run([
		'openssl', 'ca', '-gencrl', '-config', "$base.conf", '-cert', $ca->{cert},
			'-keyfile', $ca->{key},
		'-crl_lastupdate', $time->(defined $o{from} ? $o{from} : -7200), '-crl_nextupdate', $time->($until), '-out',
			"$base.crl" ]);
	die $r->{err} if $r->{status};
	return "$base.crl";
}

1;
