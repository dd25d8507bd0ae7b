# SPDX-License-Identifier: ISC
#
# T.pm - the base of every test: a temporary directory, free ports, child processes that are ended,
# waiting for events instead of for time, and the logs of a test that failed.
#
# Nothing here uses a fixed name, port or path, so tests can run in parallel. Each wait has a time
# limit, and so has the whole file (see `limit`). `use T` also loads T::Cert, T::OpenSSL, T::Pg,
# T::Serve, T::Conn, T::Kdc, T::Net and T::Systemd and exports their functions.
package T;

use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(basename dirname);
use File::Path qw(remove_tree);
use File::Temp qw(tempdir);
use IO::Socket::INET;
use POSIX qw(_exit WNOHANG);
use Socket qw(AF_UNIX SOCK_DGRAM pack_sockaddr_un);
use Test::More;
use File::Copy qw(copy);
use Time::HiRes qw(time);

our @EXPORT = qw($ROOT $PGSSL $TMP $PGBIN slurp spew append spawn run reap wait_for wait_exit alive is_idle nap free_port descendants stop limit watch_log
	is_root nobody log_lines needs memory);

our $ROOT = abs_path(dirname(abs_path(__FILE__)) . '/../..');
our $PGSSL = $ENV{PGSSL} || "$ROOT/pgssl";
our ($PGBIN) = grep { -x "$_/initdb" } ($ENV{PGBIN} || (),
	reverse sort glob '/usr/lib/postgresql/*/bin'), '/usr/bin';
our $TMP = tempdir('pgssl-' . basename($0, '.t') . '-XXXXXX', DIR => '/tmp');
# The limit of a single wait. t/sabotage sets a shorter one; t/check-san makes all limits longer.
our $SLOW = $ENV{PGSSL_TEST_SLOW} || 1;
# With sanitizers: no Landlock, seccomp or limits, and much memory.
our $SAN = $ENV{PGSSL_TEST_SAN};
our $SECONDS = $SLOW * ($ENV{PGSSL_TEST_SECONDS} || 60);
my $owner = $$;
my (@locks, @logs, @at_end, $counter);

chmod 0755, $TMP;
umask 022;
# Use a copy of the program: every user can execute it, and a build meanwhile does not change it.
if (-x $PGSSL) {
	mkdir "$TMP/bin";
	copy($PGSSL, "$TMP/bin/pgssl") && chmod 0755, "$TMP/bin/pgssl" or die "$PGSSL: $!\n";
	$PGSSL = "$TMP/bin/pgssl";
}
delete @ENV{grep { /^PG(?!BIN$|SSL$)/ } keys %ENV};
$ENV{PGSSLROOTCERT} = "$TMP/none"; # ignore ~/.postgresql
$ENV{PGCONNECT_TIMEOUT} = 60;
$ENV{LC_ALL} = 'C';
$ENV{PATH} = "$PGBIN:$ENV{PATH}:/usr/sbin:/sbin";
$SIG{PIPE} = 'IGNORE';
$SIG{$_} = sub { exit 1 } for qw(TERM INT HUP);
limit($ENV{PGSSL_TEST_SECONDS} ? 60 : 400);

# Adopt the children of a super-server that exits, so that END finds them.
my %prctl = (x86_64 => 157, aarch64 => 167);
my $machine = (POSIX::uname())[4];
syscall($prctl{$machine}, 36, 1, 0, 0, 0) if $prctl{$machine}; # PR_SET_CHILD_SUBREAPER

# Set the time limit of the whole file: a test that hangs fails and shows its logs.
sub limit {
	my $seconds = $SLOW * $_[0];
	$SIG{ALRM} = sub { die "time limit of $seconds s for this test file\n" };
	alarm $seconds;
}

sub is_root { return $> == 0 }

# The user to run PostgreSQL as, since it refuses to run as root; undef: the current user.
sub nobody {
	return undef unless is_root();
	return defined getpwnam('postgres') ? 'postgres' : 'nobody';
}

# Skip the whole file, with the reason, unless $ok.
sub needs {
	my ($ok, $what) = @_;
	plan(skip_all => "needs $what") unless $ok;
}

sub slurp {
	my ($path) = @_;
	open my $fh, '<:raw', $path or return '';
	local $/;
	my $text = <$fh>;
	return defined $text ? $text : '';
}

sub spew {
	my ($path, $text, $mode) = @_;
	open my $fh, '>:raw', $path or die "$path: $!\n";
	print $fh $text;
	close $fh or die "$path: $!\n";
	chmod $mode, $path if defined $mode;
	return $path;
}

sub append {
	my ($path, $text) = @_;
	open my $fh, '>>:raw', $path or die "$path: $!\n";
	print $fh $text;
	close $fh;
}

# Add log files to those that are shown when the test fails.
sub watch_log { push @logs, grep { my $new = $_; !grep { $_ eq $new } @logs } @_ }

sub log_lines {
	my ($path, $pattern) = @_;
	return grep { !defined $pattern || /$pattern/ } split /\n/, slurp($path);
}

sub nap { select undef, undef, undef, $_[0] || 0.01 }

# Wait until the condition is true and return its value. If it does not become true in time, the
# test file ends.
sub wait_for {
	my ($what, $condition, $seconds) = @_;
	my $end = time + ($seconds || $SECONDS);
	my $pause = 0.002;
	while (1) {
		my $value = $condition->();
		return $value if $value;
		last if time > $end;
		nap($pause);
		$pause *= 1.25 if $pause < 0.05;
	}
	fail("timed out waiting for: $what");
	die "gave up\n";
}

# A free port of 127.0.0.1, below the ephemeral range. It is reserved against other tests until this
# process ends: an abstract Unix socket, which only one process can bind, is the lock.
sub free_port {
	for (1 .. 1000) {
		my $port = 10000 + int rand 20000;
		socket(my $lock, AF_UNIX, SOCK_DGRAM, 0) or die "socket: $!\n";
		bind($lock, pack_sockaddr_un("\0pgssl-test-port-$port")) or next;
		my $probe = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port,
			Listen => 1, ReuseAddr => 1) or next;
		close $probe;
		push @locks, $lock;
		return $port;
	}
	die "no free port\n";
}

my %ended; # pid => wait status

# Start a program; returns its pid. Options: cmd => [...]; in, out, err => path or handle (default:
# /dev/null, and files that are shown on failure); program => path to execute if it is not cmd's
# first word; user; env; dir; netns; before => code to run first in the child.
sub spawn {
	my (%o) = @_;
	my $tag = basename($o{cmd}[0]) . '.' . ++$counter;
	$o{out} = "$TMP/$tag.out" unless defined $o{out};
	$o{err} = "$TMP/$tag.err" unless defined $o{err};
	watch_log(grep { !ref } $o{out}, $o{err}) unless $o{quiet};
	my $pid = fork;
	die "fork: $!\n" unless defined $pid;
	delete $ended{$pid}; # an earlier child with the same number
	return $pid if $pid;
	child(%o);
	_exit(127);
}

# In the child: set descriptors, user and environment, then exec.
sub child {
	my (%o) = @_;
	$SIG{$_} = 'DEFAULT' for qw(PIPE TERM INT HUP ALRM CHLD);
	alarm 0;
	redirect(0, '<', $o{in} || '/dev/null');
	redirect(1, '>', $o{out});
	redirect(2, '>>', $o{err});
	$o{before}->() if $o{before};
	T::Net::enter($o{netns}) if $o{netns};
	switch_user($o{user}) if defined $o{user};
	chdir($o{dir} || '/');
	for my $name (keys %{ $o{env} || {} }) {
		defined $o{env}{$name} ? ($ENV{$name} = $o{env}{$name}) : delete $ENV{$name};
	}
	no warnings 'exec';
	exec { $o{program} || $o{cmd}[0] } @{ $o{cmd} };
}

sub redirect {
	my ($fd, $mode, $what) = @_;
	my $from = $what;
	if (!ref $what) {
		undef $from;
		open $from, $mode, $what or _exit(126);
	}
	POSIX::dup2(fileno($from), $fd);
}

sub switch_user {
	my ($user) = @_;
	my (undef, undef, $uid, $gid) = getpwnam $user or _exit(125);
	$) = "$gid $gid";
	POSIX::setgid($gid);
	POSIX::setuid($uid);
}

# Run a program to its end; returns { out, err, status, signal, pid }. Options: those of spawn,
# stdin => text, seconds => time limit.
sub run {
	my ($cmd, %o) = @_;
	my $tag = "$TMP/run." . ++$counter;
	$o{in} = spew("$tag.in", $o{stdin}) if defined $o{stdin};
	my %file = (out => $o{out} || "$tag.out", err => $o{err} || "$tag.err");
	my $pid = spawn(%o, cmd => $cmd, %file, quiet => 1);
	my $status = wait_exit($pid, $o{seconds} || 3 * $SECONDS);
	my %result = (status => $status >> 8, signal => $status & 127, pid => $pid);
	$result{$_} = ref $file{$_} ? '' : slurp($file{$_}) for keys %file;
	unlink grep { -e } "$tag.in", "$tag.out", "$tag.err";
	note("@$cmd: status $result{status}: $result{err}") if $result{status} && !$o{quiet};
	return \%result;
}

# The wait status of a child, or undef while it is running.
sub reap {
	my ($pid) = @_;
	return $ended{$pid} if defined $ended{$pid};
	return undef unless waitpid($pid, WNOHANG) == $pid;
	return $ended{$pid} = $?;
}

sub wait_exit {
	my ($pid, $seconds) = @_;
	wait_for("process $pid to end", sub { defined reap($pid) }, $seconds);
	return $ended{$pid};
}

sub alive {
	my ($pid) = @_;
	return slurp("/proc/$pid/stat") =~ /\) [^ZX]/;
}

# All readable memory of a process.
sub memory {
	my ($pid) = @_;
	my $all = '';
	open my $mem, '<:raw', "/proc/$pid/mem" or return undef;
	for (split /\n/, slurp("/proc/$pid/maps")) {
		no warnings 'portable';
		my ($from, $to) = /^([0-9a-f]+)-([0-9a-f]+) r/ or next;
		next if /\[vvar|\[vsyscall/;
		sysseek $mem, hex $from, 0 or next;
		my $left = hex($to) - hex $from;
		while ($left > 0) {
			my $n = sysread $mem, my $data, $left > 1 << 20 ? 1 << 20 : $left or last;
			$all .= $data;
			$left -= $n;
		}
	}
	return $all;
}

# The processor time that a process has used, in clock ticks.
sub ticks {
	my ($pid) = @_;
	my @f = split ' ', slurp("/proc/$pid/stat") =~ s/.*\) //sr;
	return @f ? $f[11] + $f[12] : 1e9;
}

# Test that a process uses no processor time for half a second. There is no event to wait for, since
# nothing may happen.
sub is_idle {
	my ($what, $pid) = @_;
	nap(0.1);
	my $before = ticks($pid);
	nap(0.5);
	cmp_ok(ticks($pid) - $before, '<', $SAN ? 20 : 5, "$what: no processor time is used");
	ok(alive($pid), "$what: it is alive");
}

# All descendants of a process (default: this one).
sub descendants {
	my ($root) = (@_, $$);
	my %parent = map { slurp("/proc/$_/stat") =~ /^(\d+) \(.*\) \S (\d+)/s ? ($1 => $2) : () }
		map { m{/proc/(\d+)$} } glob '/proc/[0-9]*';
	my @found = ($root);
	for my $of (@found) {
		push @found, grep { $parent{$_} == $of } keys %parent;
	}
	shift @found;
	return @found;
}

# End a process and wait for it.
sub stop {
	my ($pid, $signal) = @_;
	kill $signal || 'TERM', $pid;
	return wait_exit($pid);
}

sub at_end { push @at_end, @_ }

sub dump_logs {
	my @full = grep { -s } @logs;
	splice @full, 0, @full - 12 if @full > 12;
	for my $log (@full) {
		my @lines = split /\n/, slurp($log);
		splice @lines, 0, @lines - 25 if @lines > 25;
		diag("--- $log", map { "\n    $_" } @lines);
	}
}

END {
	if ($$ == $owner) {
		my $status = $?;
		alarm 0;
		$_->() for @at_end;
		for (1 .. 20) {
			my @left = descendants() or last;
			kill 'KILL', @left;
			1 while waitpid(-1, WNOHANG) > 0;
			nap(0.005);
		}
		dump_logs() if $status || !Test::More->builder->is_passing;
		$ENV{KEEP} ? diag("kept $TMP") : remove_tree($TMP);
		$? = $status;
	}
}

require T::Cert;
require T::OpenSSL;
require T::Pg;
require T::Serve;
require T::Conn;
require T::Kdc;
require T::Net;
require T::Systemd;

# Export the functions of all modules with one `use T`.
sub import {
	my $caller = caller;
	no strict 'refs';
	for my $package (qw(T T::Cert T::OpenSSL T::Pg T::Serve T::Conn T::Kdc T::Net T::Systemd)) {
		for my $export (@{"${package}::EXPORT"}) {
			my $name = $export;
			$name =~ s/^\$// ? (*{"${caller}::$name"} = \${"${package}::$name"})
				: (*{"${caller}::$name"} = \&{"${package}::$name"});
		}
	}
	Test::More->export_to_level(1);
	strict->import;
	warnings->import;
}

1;
