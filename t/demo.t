#!/usr/bin/perl
# SPDX-License-Identifier: ISC
#
# make demo, as a newcomer runs it: psql comes in under verify-full through a real xinetd, and nothing is left. make demo KEEP=1: it is
# left running, the printed command connects, the printed command stops it.
# sabotage: demo.sh s/sslmode=verify-full/sslmode=require/
use strict;
use warnings;
use lib 't/lib';
use T::Pg;
use Test::More;

plan skip_all => 'needs root' if $> != 0;
plan skip_all => 'needs Debian' unless -f '/etc/debian_version';
plan skip_all => 'pgssl is not built' unless -x 'pgssl';

# The demo, with make as it is built now; returns the exit status and all output.
sub demo
{
	my @vars = @_;
	my $pid = open(my $out, '-|') // die "fork: $!";
	if ($pid == 0) {
		open STDERR, '>&', \*STDOUT;
		open STDIN, '<', '/dev/null';
		delete @ENV{qw(MAKEFLAGS MAKELEVEL MFLAGS)};
		# A user's own settings must not matter.
		@ENV{qw(PGPORT PGUSER PGSSLMODE)} = (1, 'nobody', 'disable');
		exec 'make', '-s', 'demo', @vars or exit 127;
	}
	local $/;
	my $text = <$out> // '';
	close $out;
	return ($? >> 8, $text);
}

# Processes whose command line names this folder.
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
	return ($dir // '/no/folder', $port // 0, $pg_port // 0);
}

my ($status, $text, $dir, $port, $pg_port);

# psql's \conninfo in the text, under TLS.
sub is_demo
{
	my ($text, $name) = @_;
	my %want = (database => 'demo', user => 'demo', host => 'localhost', address => '127.0.0.1', port => $port, protocol => 'TLSv1.3', cipher => 'TLS_AES_256_GCM_SHA384');
	is_deeply T::Pg::conninfo($text), \%want, $name;
}

my $pgssl_before = getpwnam 'pgssl';
($status, $text) = demo();
is $status, 0, 'make demo' or diag $text;
($dir, $port, $pg_port) = parts($text);
is scalar getpwnam('pgssl'), $pgssl_before, 'no user is made';
like $text, qr/user\s*= nobody/, 'the shipped entry, without root';
like $text, qr/sslmode=verify-full/, 'it shows the command, with verify-full';
is_demo $text, '\conninfo is there, and says TLS';
like $text, qr/\d+ \| demo/, 'a query\'s result';
like $text, qr/FATAL: +this port accepts only TLS connections/, 'what a client without TLS is told';
like $text, qr/connection authorized: user=demo database=demo .*tls=TLSv1\.3/, 'the log line';
like $text, qr/disconnection: session time: .*user=demo/, 'the other one';
like $text, qr/nothing is left running/, 'it says that all is gone';
ok !-e $dir, 'the folder is gone';
is_deeply [processes($dir)], [], 'no process is left';
ok !listens($_), "port $_ is closed" for $port, $pg_port;

($status, $text) = demo('KEEP=1');
is $status, 0, 'make demo KEEP=1' or diag $text;
($dir, $port, $pg_port) = parts($text);
ok listens($_), "port $_ is open" for $port, $pg_port;
my ($connect) = $text =~ /connect: +(PGPASSWORD=.*)$/m;
my ($stop) = $text =~ /stop: +(sh .*)$/m;
is_demo scalar `$connect -Xc '\\conninfo' 2>&1`, 'the printed command connects';
is system($stop), 0, 'the printed command stops it';
ok !-e $dir, 'the folder is gone';
my $tries = 200;
select undef, undef, undef, 0.05 while $tries-- && processes($dir);
is_deeply [processes($dir)], [], 'no process is left';
ok !listens($_), "port $_ is closed" for $port, $pg_port;
ok !-e '/usr/sbin/policy-rc.d' || `cat /usr/sbin/policy-rc.d` !~ /pgssl/, 'no policy-rc.d of ours is left';

done_testing;
