# SPDX-License-Identifier: ISC
#
# Each system call of a session, from main() on, fails with each errno that it may give, in sessions
# of each kind. The session goes on, with the right data, or it ends with a line and a status of
# sysexits(3); never with a signal or a hang. A client without the certificate that it needs never
# reaches PostgreSQL. Every call that the filter allows must have a row here.
# sabotage: s/^	log_peer_line(LOG_ERR, "%s", e->text);/	;/ wrapper.c
use lib 't/lib';
use T;

needs(is_root(), 'root'); # a process that is not dumpable is traced by nobody else
limit(3600);

# What may fail, and how (section 2 of the manual); brk() returns the old end, or 0. strace lets
# getpid(), which changes nothing, take the place of the call.
my %errnos = map { my ($name, @errnos) = split; $name => \@errnos } split /\n/, <<'END';
accept4 ECONNABORTED EMFILE ENOMEM EINTR
access ENOENT
bind EADDRINUSE EACCES
brk 0
capget EPERM
capset EPERM
clock_nanosleep EINTR
clone EAGAIN ENOMEM
close EIO EINTR
close_range ENOSYS EMFILE
connect ECONNREFUSED ETIMEDOUT EADDRNOTAVAIL ENOMEM
dup EMFILE
dup2 EMFILE EBUSY
dup3 EMFILE EBUSY
faccessat EACCES ENOENT
fcntl EMFILE
flock EINTR ENOLCK
fstat ENOMEM
ftruncate EIO
getcwd ENOENT
getdents64 ENOENT
getgroups EINVAL
getpeername ENOTCONN ENOBUFS
getrandom EINTR ENOSYS
getresgid EFAULT
getresuid EFAULT
getrlimit EPERM
getsockname ENOBUFS
getsockopt ENOBUFS
gettimeofday EPERM
ioctl ENOTTY
kill EPERM ESRCH
landlock_add_rule ENOMEM EINVAL
landlock_create_ruleset ENOSYS EOPNOTSUPP EPERM ENOMEM
landlock_restrict_self EPERM E2BIG
listen EADDRINUSE
lseek ESPIPE
lstat ENOENT ENOMEM
madvise EAGAIN EINVAL
mlock ENOMEM EPERM
mlock2 ENOMEM ENOSYS
mmap ENOMEM
mprotect ENOMEM
mremap ENOMEM
munlock ENOMEM
munmap ENOMEM
newfstatat ENOENT EACCES ENOMEM
open ENOENT EMFILE
openat ENOENT EACCES EMFILE EINTR
pipe2 EMFILE ENFILE
poll EINTR ENOMEM
ppoll EINTR ENOMEM
prctl EPERM EINVAL
pread64 EIO
prlimit64 EPERM
pwrite64 ENOSPC
read EIO EINTR
readlink ENOENT
readlinkat ENOENT
recvfrom ECONNRESET EINTR ENOMEM ETIMEDOUT
recvmsg ECONNRESET ENOMEM
rt_sigpending EFAULT
sched_getaffinity EPERM
sched_yield EPERM
sendmmsg ENOBUFS
sendmsg ENOBUFS
sendto EPIPE ECONNRESET ENOBUFS EINTR EAGAIN
set_robust_list EINVAL
setgroups EPERM ENOMEM
setresgid EPERM
setresuid EPERM EAGAIN
setrlimit EPERM
setsid EPERM
setsockopt ENOPROTOOPT ENOMEM
setuid EAGAIN
socket EMFILE EAFNOSUPPORT ENOBUFS
stat ENOENT EACCES
statx ENOENT
sysinfo EPERM
uname EFAULT
unlink EACCES
unlinkat EACCES ENOENT
wait4 ECHILD EINTR
write EIO ENOSPC EINTR
writev EIO
END
# Or which other calls do the same. shutdown() fails without a connection, which poll() reports; of
# futex() only FUTEX_WAKE is used.
my %cannot_fail = map { $_ => 1 } qw(accept clock_gettime exit exit_group fork futex getegid geteuid
	getgid getpid getppid getuid restart_syscall rt_sigaction rt_sigprocmask rt_sigreturn
	rt_sigsuspend shutdown time umask);

sub untested { return join ' ', grep { !$errnos{$_} && !$cannot_fail{$_} } @_ }

is(untested(grep { $_ ne 'name' } slurp("$ROOT/sandbox/seccomp.c") =~ /\bALLOW(?:_IF\w*)?\((\w+)/g),
	'', 'every call that the filter allows has a row');

my $c = server_pem();
my $alice = make_pem(make_cert(name => 'alice', cn => 'alice', issuer => $c->{ca}));
my @debug = ('-r', 'BACKEND', '-D', 'debug');
my @server = ('-p', $c->{pem}, @debug);
my @map = ('-A', $c->{root}, '--clientcert=verify-full', '--map=m',
	'--ident-map=' . spew("$TMP/map", "m /^(.*)\$ \\1\nm alice bob\n"), '--proxy-protocol');

# Run commands, half of them in each of two processes; returns what became of each.
sub sessions {
	my ($kind, $cert, @commands) = @_;
	my (@pids, @results);
	for my $half (0, 1) {
		my @mine = @commands[ grep { $_ % 2 == $half } 0 .. $#commands ];
		my @cert = $cert ? "CLIENT_PEM=$cert" : ();
		push @pids, spawn(quiet => 1, out => "$TMP/results.$half",
			in => spew("$TMP/commands.$half", join '', map { "$_\n" } @mine),
			cmd => [ 'env', '-i', 'PATH=/usr/bin:/bin', "BACKEND_PEM=$c->{pem}", @cert,
			"$ROOT/t/bin/failing_calls", $kind ]);
	}
	for my $half (0, 1) {
		wait_exit($pids[$half], 3000);
		my @mine = log_lines("$TMP/results.$half");
		$results[ 2 * $_ + $half ] = $mine[$_] for 0 .. $#mine;
	}
	return @results;
}

# The calls after main() has begun, as [name, how many the process has made before].
sub calls_of {
	my ($kind, $cert, $command) = @_;
	my ($result) = sessions($kind, $cert, "strace -f -qq -o $TMP/trace $command");
	my (%before, @calls, $begun);
	for (split /\n/, slurp("$TMP/trace")) {
		my ($name, $args) = /^\d+\s+(\w+)\((.*)/ or next;
		$begun ||= $name eq 'rt_sigaction' && $args =~ /^SIGPIPE/;
		push @calls, [ $name, ($before{$name} // 0) + 1 ] if $begun && !$cannot_fail{$name}
			&& $args !~ /F_[GS]ET/; # of fcntl(), only F_DUPFD may
		$before{$name}++;
		# Without this line, or the port in it, t/bin/failing_calls waits for the listener.
		next unless $args =~ /listening on/;
		pop @calls while $calls[-1][0] =~ /^(?:write|getsockname)$/;
	}
	return ($result, @calls);
}

my $line = qr/pgssl(?:\[\d+\])?: [^|]+\|/;
my $sysexits = qr/exit (?:6[4-9]|7[0-8])/;

# May this be the result? The line is missing only if it was the log that failed.
sub is_good {
	my ($kind, $name, $result) = @_;
	return 0 if $kind eq 'stranger' && $result =~ /^\S+ \d+ (?:served|wrong)|authorized/;
	return 1 if $result =~ /^exit 0 served .*\|$/;
	my $silent = $name =~ /^write|^openat|^dup|^fcntl|^close_range|^socket|^newfstatat/;
	return $result =~ /^(?:exit 0|$sysexits) (?:served|cut|refused|nothing) (?:$line)+$/
		|| ($silent && $result =~ /^(?:exit 0|$sysexits) \w+ /);
}

sub test {
	my ($what, $kind, $cert, $expected, @args) = @_;
	my $listen = $kind eq 'l' ? '-d 127.0.0.1:PORT -f' : '';
	my $command = join ' ', grep { length } $PGSSL, $listen, @args;
	my ($result, @calls) = calls_of($kind, $cert, $command =~ s/PORT/free_port()/er);
	like($result, $expected, "$what, when nothing fails");
	cmp_ok(scalar @calls, '>', 100, scalar(@calls) . ' system calls');
	is(untested(map { $_->[0] } @calls), '', 'each has a row');
	my (@what, @commands);
	my @ports = (free_port(), free_port()); # one for each of the two processes
	for (@calls) {
		my ($name, $when) = @$_;
		for my $errno (@{ $errnos{$name} }) {
			push @what, [ $name, "$name number $when fails with $errno" ];
			my $how = $errno ? "error=$errno" : "retval=$errno";
			push @commands, "strace -f -qq -o /dev/null -e trace=$name -e "
				. "inject=$name:$how:when=$when:syscall=getpid "
				. $command =~ s/PORT/$ports[ $#what % 2 ]/r;
		}
	}
	my @results = sessions($kind, $cert, @commands);
	my @wrong = grep { !is_good($what =~ /stranger/ ? 'stranger' : $kind, $what[$_][0], $results[$_] // '') } 0 .. $#what;
	is(join("\n", map { "$what[$_][1]: " . ($results[$_] // 'nothing') } @wrong), '',
		"$what: @{[ scalar @results ]} sessions");
	is(scalar @results, scalar @what, 'all were run');
	test_short($what, $kind, $cert, $expected, $command);
}

# Short reads and writes, and calls that must be repeated.
sub test_short {
	my ($what, $kind, $cert, $expected, $command) = @_;
	my $seed = $ENV{SEED} || 1 + int rand 1e9;
	for my $short (1, 7, 300, 20_000) {
		my ($result) = sessions($kind, $cert, "env LD_PRELOAD=$ROOT/t/bin/short_calls.so "
			. "SHORT=$short SEED=$seed " . $command =~ s/PORT/free_port()/er);
		like($result, $expected, "$what: 1 to $short bytes at a time, SEED=$seed");
	}
}

test('a server with certificates, a map and PROXY headers', 'p', $alice, qr/^exit 0 served /, @server, @map);
test('a stranger', 's', undef, qr/^exit 77 refused /, @server, '-A', $c->{root}, '--clientcert=verify-ca');
test('client mode', 'c', undef, qr/^exit 0 served /, '-c', '-A', $c->{root}, @debug);
test('a listener', 'l', undef, qr/^exit 0 served /, @server);
done_testing;
