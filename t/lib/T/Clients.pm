# SPDX-License-Identifier: ISC
#
# T::Clients - for the tests in t/clients: reports for the table of clients in the manual, and the
# versions of Debian packages. The head of t/check-clients describes the reports.
package T::Clients;

use strict;
use warnings;
use Exporter 'import';
use File::Basename qw(basename);
use T ();

our @EXPORT = qw(client_result client_missing debian_version);

sub client_result {
	my ($name, $version, $check, $result) = @_;
	my $out = $ENV{CLIENTS_OUT} or return; # the test was started by hand
	T::append("$out/" . basename($0, '.t') . '.results',
		join("\t", $name, $version, $check, $result) . "\n");
}

# Report a client that this release lacks.
sub client_missing { client_result($_[0], '-', '', '') }

# The upstream version of an installed Debian package, or undef.
sub debian_version {
	my ($package) = @_;
	my $r = T::run([ qw(dpkg-query -W -f), '${db:Status-Status} ${Version}', $package ], quiet => 1);
	my ($version) = $r->{out} =~ /^installed (\S+)/ or return undef;
	return $version =~ s/^\d+://r =~ s/-[^-]*$//r =~ s/[+~.]*(?:ds|dfsg|really|cs|repack).*//r;
}

1;
