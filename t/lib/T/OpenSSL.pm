# SPDX-License-Identifier: ISC
#
# T::OpenSSL - differences between versions of OpenSSL: wording, defaults, options of openssl(1). A
# system can have two versions: psql and Perl may use another one than pgssl and openssl(1).
package T::OpenSSL;

use strict;
use warnings;
use Net::SSLeay;

our @EXPORT = qw(alert_text not_yet_valid default_group);

# The version in "OpenSSL 3.5.1 ..." as a number that can be compared: 3.05.
sub version {
	my ($text) = @_;
	my ($major, $minor) = $text =~ /\bOpenSSL (\d+)\.(\d+)\.\d/
		or die "no version of OpenSSL in: $text\n";
	return $major + $minor / 100;
}

sub of_command { return version(T::run([qw(openssl version)])->{out}) }
sub of_pgssl { return version(T::run([ $T::PGSSL, '-V' ])->{out}) }
sub of_perl { return version(Net::SSLeay::SSLeay_version(0)) }

# The version of the libcrypto that psql loads.
sub of_psql {
	my ($library) = T::run([ 'ldd', "$T::PGBIN/psql" ])->{out} =~ /libcrypto\.so\S* => (\S+)/
		or die "psql has no libcrypto\n";
	return version(T::slurp($library));
}

# psql's text for an alert that SSL 3.0 already had, such as "certificate expired".
my $psql;

sub alert_text {
	my ($alert) = @_;
	$psql ||= of_psql();
	return ($psql >= 4.00 ? 'tls' : $psql >= 3.02 ? 'ssl/tls' : 'sslv3') . " alert $alert";
}

# pgssl's reason for refusing a certificate that is not yet valid.
sub not_yet_valid {
	return 'certificate is not yet valid'
		. (of_pgssl() >= 3.06 ? ' or the system clock is incorrect' : '');
}

# The group of a handshake between T::Conn and pgssl with default settings.
sub default_group { return of_perl() >= 3.05 && of_pgssl() >= 3.05 ? 'X25519MLKEM768' : 'x25519' }

# Options of openssl x509 for an expired certificate. Since 3.4 it has options for dates and refuses
# a negative number of days.
sub expired {
	return of_command() >= 3.04 ? qw(-not_before 20200101000000Z -not_after 20210101000000Z)
		: qw(-days -1);
}

1;
