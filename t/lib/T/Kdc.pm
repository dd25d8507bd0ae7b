# SPDX-License-Identifier: ISC
#
# T::Kdc - a private Kerberos realm TEST on a loopback port: alice has a ticket, PostgreSQL a
# keytab. KRB5_CONFIG and related variables are set, so that the machine's own Kerberos is not read.
package T::Kdc;

use strict;
use warnings;

our @EXPORT = qw(start_kdc);

# Start the KDC and get a ticket for alice; returns { keytab, pid }.
sub start_kdc {
	my $base = "$T::TMP/kdc";
	mkdir $base, 0755;
	my $port = T::free_port();
	environment($base, $port);
	tool('kdb5_util', 'create', '-s', '-r', 'TEST', '-P', 'master');
	tool('kadmin.local', '-q', "addprinc -pw secret $_") for qw(alice mallory);
	tool('kadmin.local', '-q', 'addprinc -randkey postgres/localhost');
	tool('kadmin.local', '-q', "ktadd -k $base/keytab postgres/localhost");
	T::Pg::chown_postgres("$base/keytab");
	my $pid = T::spawn(cmd => [ 'krb5kdc', '-n', '-P', "$base/pid" ]);
	T::watch_log("$base/log");
	T::wait_for('the KDC', sub { T::slurp("$base/log") =~ /commencing operation/ });
	kinit('alice');
	return { keytab => "$base/keytab", pid => $pid };
}

sub kinit {
	my ($who) = @_;
	my $r = T::run([ 'kinit', $who ], stdin => "secret\n");
	die "kinit: $r->{err}" if $r->{status};
}

sub environment {
	my ($base, $port) = @_;
	T::spew("$base/krb5.conf", <<END);
[libdefaults]
	default_realm = TEST
	dns_lookup_kdc = false
	dns_lookup_realm = false
	dns_canonicalize_hostname = false
	rdns = false
	default_ccache_name = FILE:$base/ccache
[realms]
	TEST = {
		kdc = 127.0.0.1:$port
	}
[domain_realm]
	localhost = TEST
END
	T::spew("$base/kdc.conf", <<END);
[kdcdefaults]
	kdc_listen = 127.0.0.1:$port
	kdc_tcp_listen = 127.0.0.1:$port
[realms]
	TEST = {
		database_name = $base/principal
		key_stash_file = $base/stash
		acl_file = $base/acl
	}
[logging]
	kdc = FILE:$base/log
	admin_server = FILE:$base/log
END
	$ENV{KRB5_CONFIG} = "$base/krb5.conf";
	$ENV{KRB5_KDC_PROFILE} = "$base/kdc.conf";
	$ENV{KRB5CCNAME} = "FILE:$base/ccache";
	$ENV{KRB5RCACHENAME} = 'none:';
}

sub tool {
	my (@cmd) = @_;
	my $r = T::run([@cmd]);
	die "@cmd: $r->{err}" if $r->{status};
}

1;
