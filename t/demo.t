#!/usr/bin/perl
# SPDX-License-Identifier: ISC
#
# `make demo`, as a new user runs it: psql connects with verify-full through a real xinetd, and
# nothing is left behind. `make demo KEEP=1`: the service stays up, and the two commands that the
# demo prints connect to it and stop it.
# sabotage: contrib/demo.sh s/sslmode=verify-full/sslmode=require/
use strict;
use warnings;
use lib 't/lib';
use T::Pg;
use Test::More;

plan skip_all => 'needs root' if $> != 0;
plan skip_all => 'needs Debian' unless -f '/etc/debian_version';
plan skip_all => 'pgssl is not built' unless -x 'pgssl';

# Run `make demo` with these variables; return the exit status and all output.
sub demo
{
	my @vars = @_;
	my $pid = open(my $out, '-|') // die "fork: $!";
	if ($pid == 0) {
		open STDERR, '>&', \*STDOUT;
		open STDIN, '<', '/dev/null';
		delete @ENV{qw(MAKEFLAGS MAKELEVEL MFLAGS)};
		# The user's own settings must have no effect.
		@ENV{qw(PGPORT PGUSER PGSSLMODE)} = (1, 'nobody', 'disable');
		exec 'make', '-s', 'demo', @vars or exit 127;
	}
	local $/;
	my $text = <$out> // '';
	close $out;
	return ($? >> 8, $text);
}

# The processes whose command line names this directory.
sub processes
{
	my ($dir) = @_;
	my @found;
	for my $file (glob '/proc/[0-9]*/cmdline') {
		open my $f, '<', $file or next;
		local $/;
		my $line = <$f> // '';
		push @found, $line =~ tr/\0/ /r if index($line, $dir) >= 0;
	}
	return @found;
}

sub listens
{
	my ($port) = @_;
	open my $f, '<', '/proc/net/tcp' or return 0;
	my $hex = sprintf '0100007F:%04X 00000000:0000 0A', $port;
	return scalar grep { /\Q$hex\E/i } <$f>;
}

sub parts
{
	my ($text) = @_;
	my ($dir) = $text =~ m{(/tmp/pgssl-demo\.\w+)};
	my ($port) = $text =~ /host=localhost port=(\d+)/;
	my ($pg_port) = $text =~ /, port (\d+) of 127/;
	return ($dir // '/no/directory', $port // 0, $pg_port // 0);
}

my ($status, $text, $dir, $port, $pg_port);

# Test that the text contains the output of \conninfo for a TLS connection.
sub is_demo
{
	my ($text, $name) = @_;
	my %want = (
		database => 'demo', user => 'demo', host => 'localhost', address => '127.0.0.1',
		port => $port, protocol => 'TLSv1.3', cipher => 'TLS_AES_256_GCM_SHA384',
	);
	is_deeply T::Pg::conninfo($text), \%want, $name;
}

my $pgssl_before = getpwnam 'pgssl';
($status, $text) = demo();
is $status, 0, 'make demo' or diag $text;
($dir, $port, $pg_port) = parts($text);
is scalar getpwnam('pgssl'), $pgssl_before, 'no user is created';
like $text, qr/user\s*= nobody/, 'the shipped entry does not run as root';
like $text, qr/sslmode=verify-full/, 'the psql command with verify-full is shown';
is_demo $text, '\conninfo shows TLS';
like $text, qr/\d+ \| demo/, 'the result of a query';
like $text, qr/FATAL: +this port accepts only TLS connections/,
	'the message to a client without TLS';
like $text, qr/connection authorized: user=demo database=demo .*tls=TLSv1\.3/, 'the first log line';
like $text, qr/disconnection: session time: .*user=demo/, 'the last log line';
like $text, qr/nothing is left running/, 'the end is reported';
ok !-e $dir, 'the directory is removed';
is_deeply [processes($dir)], [], 'no process is left running';
ok !listens($_), "port $_ is closed" for $port, $pg_port;

($status, $text) = demo('KEEP=1');
is $status, 0, 'make demo KEEP=1' or diag $text;
($dir, $port, $pg_port) = parts($text);
ok listens($_), "port $_ is open" for $port, $pg_port;
my ($connect) = $text =~ /connect: +(PGPASSWORD=.*)$/m;
my ($stop) = $text =~ /stop: +(sh .*)$/m;
is_demo scalar `$connect -Xc '\\conninfo' 2>&1`, 'the printed command connects';
is system($stop), 0, 'the printed command stops it';
ok !-e $dir, 'the directory is removed';
my $tries = 200;
select undef, undef, undef, 0.05 while $tries-- && processes($dir);
is_deeply [processes($dir)], [], 'no process is left running';
ok !listens($_), "port $_ is closed" for $port, $pg_port;
ok !-e '/usr/sbin/policy-rc.d' || `cat /usr/sbin/policy-rc.d` !~ /pgssl/, 'its policy-rc.d is removed';

done_testing;
