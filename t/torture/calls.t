# SPDX-License-Identifier: ISC
#
# Each system call of a session, from main() on, fails with each errno that it may give, in sessions
# of each kind. The session goes on, with the right data, or it ends with a line and a status of
# sysexits(3); never with a signal or a hang. A client without the certificate that it needs never
# reaches PostgreSQL. The same for --check and --sessions, and the processes that pgssl starts for a
# passphrase, a name and a map. Every call that the filter allows must have a row here.
# sabotage: s/^	log_peer_line(LOG_ERR, "%s", e->text);/	;/ wrapper.c
# sabotage: s/if (t->out_failed && t->no_memory)/if (false)/ tls.c
# sabotage: s/ || ferror(stdout) != 0// wrapper.c
use lib 't/lib';
use T;
use T::X509;
use Errno;

needs(is_root(), 'root'); # a process that is not dumpable is traced by nobody else
limit(3600);

# What may fail, and how (section 2 of the manual); brk() returns the old end, or 0.
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
getdents64 EIO
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
openat2 ENOSYS EPERM EMFILE EXDEV
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
setpgid EPERM
setsid EPERM
setsockopt ENOPROTOOPT ENOMEM
setuid EAGAIN
socket EMFILE EAFNOSUPPORT ENOBUFS
socketpair EMFILE
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
my %cannot_fail = map { $_ => 1 } qw(accept alarm clock_gettime exit exit_group fork futex getegid geteuid
	getgid getpid getppid getuid restart_syscall rt_sigaction rt_sigprocmask rt_sigreturn
	rt_sigsuspend shutdown time umask);

sub untested { return join ' ', grep { !$errnos{$_} && !$cannot_fail{$_} } @_ }

is(untested(grep { $_ ne 'name' } slurp("$ROOT/sandbox/seccomp.c") =~ /\bALLOW(?:_IF\w*)?\((\w+)/g),
	'', 'every call that the filter allows has a row');

my $c = server_pem();
my $alice = make_pem(make_cert(name => 'alice', cn => 'alice', issuer => $c->{ca}));
my $bob = make_pem(make_cert(name => 'bob', cn => 'bob', issuer => $c->{ca}));
my @debug = ('-r', 'BACKEND', '-D', 'debug');
my @server = ('-p', $c->{pem}, @debug);
my ($pids, $crls, $revoked) = map { mkdir "$TMP/$_"; "$TMP/$_" } qw(pids crls revoked);
chmod 01777, $pids;
link crl($c->{ca}), "$crls/ca.pem";
run([ 'openssl', 'rehash', $crls ]);
my @map = ('-A', $c->{root}, '--clientcert=verify-full', '--map=m',
	'--ident-map=' . spew("$TMP/map", "m /^(.*)\$ \\1\nm alice bob\n"), '--proxy-protocol',
	'--crl', $crls, '-P', $pids);

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

# The processes in strace's output, as t/bin/failing_calls names them: the first is 0, and 0.2 is the
# second that it forked.
sub processes {
	my (%name, %children);
	for (@_) {
		my ($pid) = /^(\d+)/;
		$name{$pid} = '0' if !%name;
		next unless /\b(?:clone3?|v?fork)(?:\(| resumed>).* = (\d+)$/ && defined $name{$pid};
		$name{$1} = "$name{$pid}." . ++$children{$pid};
	}
	return %name;
}

# The calls after main() has begun, as [process, name, number, how many calls of this name it is,
# whether it writes a line of the log].
sub calls_of {
	my ($kind, $cert, $command) = @_;
	my ($result) = sessions($kind, $cert, "strace -f -n -qq -o $TMP/trace $command");
	my @trace = split /\n/, slurp("$TMP/trace");
	my %process = processes(@trace);
	my (%made, @calls, $begun, %other);
	for (@trace) {
		my ($pid, $number, $name, $args) = /^(\d+)\s+\[\s*(\d+)\] (\w+)\((.*)/ or next;
		next unless defined $process{$pid};
		$begun ||= $name eq 'rt_sigaction' && $args =~ /^SIGPIPE/;
		$other{ $process{$pid} } ||= $begun && $name eq 'execve'; # a passphrase command
		next if $name eq 'execve' || grep { $other{$_} && "$process{$pid}." =~ /^\Q$_\E\./ } keys %other;
		$made{"$pid $name"}++;
		push @calls, [ $process{$pid}, $name, $number, $made{"$pid $name"},
			$kind eq 'n' ? $name eq 'write' : $args =~ /^2, "pgssl/ ]
			if $begun && !$cannot_fail{$name} && $args !~ /F_[GS]ET/; # of fcntl(), only F_DUPFD may
		# Without this line, or the port in it, t/bin/failing_calls waits for the listener.
		next unless $args =~ /listening on/;
		pop @calls while $calls[-1][1] =~ /^(?:write|getsockname)$/;
	}
	return ($result, @calls);
}

my $line = qr/pgssl(?:\[\d+\])?: [^|]+\|/;
my $always = qr/pgssl\[\d+\]: (?:listening on |connection auth\w+: |stopp)[^|]+\|/;
my $sysexits = qr/exit (?:0|6[4-9]|7[0-8])/;

# The lines of the output of a command, without numbers.
sub lines_of { my ($result) = @_; return split /\|/, $result =~ s/^\S+ \d+ nothing //r =~ s/\d+/N/gr }

# May this be the result of a command, whose output is the log? It has a line that says what is
# wrong, or is as usual. What --check says may be missing if it is that something is right; a session
# if its process or file seems to have gone.
sub is_good_output {
	my ($run, $result, $usual) = @_;
	my ($status) = $result =~ /^exit (0|6[4-9]|7[0-8]) nothing / or return 0;
	my %usual = map { $_ => 1 } lines_of($usual);
	my %now = map { $_ => 1 } lines_of($result);
	return 1 if grep { !$usual{$_} && /^(?:ERROR|WARNING|pgssl\[)/ } keys %now;
	return $status > 0 if $run->{is_log};
	return 1 if $run->{what} =~ /ENOENT/ && $run->{command} =~ /--sessions/;
	return $status == 0 && !grep { !$now{$_} && !/^(?:ok|note) / } keys %usual;
}

# May this be the result? The line that says why is missing only if it was the log that failed.
sub is_good {
	my ($stranger, $run, $result) = @_;
	return 0 if $stranger && $result =~ /^\S+ \d+ (?:served|wrong)|authorized/;
	return 0 if $run->{what} =~ /EMFILE|EIO|EINTR|ENOMEM/ && $result =~ /does not exist/;
	return 0 if $result !~ /^$sysexits (?:served|cut|refused|nothing) (?:$line)*$/;
	return $run->{is_log} || $result =~ /^exit 0 served .*disconnection: /
		|| $result =~ s/$always//gr =~ / $line/;
}

# A run for each way in which each call may fail, up to $most.
sub runs {
	my ($command, $most, @calls) = @_;
	my @ports = (free_port(), free_port()); # one for each of the two processes
	my @runs;
	for my $call (@calls) {
		my ($process, $name, $number, $when, $is_log) = @$call;
		for my $errno (grep { defined } @{ $errnos{$name} }[ 0 .. $most - 1 ]) {
			my $result = $errno && -do { no strict 'refs'; &{"Errno::$errno"}() };
			push @runs, { is_log => $is_log,
				what => "process $process, $name number $when fails with $errno",
				command => "fail $process $number $when $result "
				. $command =~ s/PORT/$ports[ @runs % 2 ]/r };
		}
	}
	return @runs;
}

# How many calls there are depends on the pieces in which data comes, and when processes run.
my $varies = qr/ (?:close|ioctl|kill|poll|ppoll|recvfrom|sendto|wait4) /;
my %made; # names of calls
my %processes = ( # of kinds that have more than one: sessions, a passphrase, names, a map
	'a listener' => '0 0.1',
	'a listener with a name, a passphrase and a map' => '0 0.1 0.1.1 0.2 0.3',
	'--check' => '0 0.1',
);

# With $which, test only calls whose process and name match, with one errno each. Another kind tests
# the rest.
sub test {
	my ($what, $kind, $cert, $expected, $which, @args) = @_;
	my $listen = $kind eq 'l' ? '-d 127.0.0.1:PORT -f' : '';
	my $command = join ' ', grep { length } $PGSSL, $listen, @args;
	my ($result, @calls) = calls_of($kind, $cert, $command =~ s/PORT/free_port()/er);
	like($result, $expected, "$what, when nothing fails");
	cmp_ok(scalar @calls, '>', $kind eq 'n' ? 30 : 100, scalar(@calls) . ' system calls');
	$made{$_->[1]} = 1 for @calls;
	is(untested(map { $_->[1] } @calls), '', 'each has a row');
	my $usual = $result;
	my @runs = $which ? runs($command, 1, grep { "$_->[0] $_->[1]" =~ $which } @calls)
		: runs($command, 9, @calls);
	my @results = sessions($kind, $cert, map { $_->{command} } @runs);
	is(scalar @results, scalar @runs, "$what: @{[ scalar @results ]} sessions");
	my %process = map { $_->{what} =~ /^process (\S+),/ ? ($1 => 1) : () } @runs;
	is(join(' ', sort keys %process), $processes{$what} // '0', 'in each of its processes');
	my (@wrong, @missed);
	for my $run (@runs) {
		my $result = shift @results // 'nothing';
		my $missed = $result =~ s/^missed/exit/;
		push @missed, $run->{what} if $missed && $run->{what} !~ $varies;
		push @wrong, "$run->{what}: $result"
			unless $kind eq 'n' ? is_good_output($run, $result, $usual)
			: is_good(scalar($what =~ /stranger/), $run, $result);
	}
	is(join("\n", @wrong), '', 'each goes on, or ends with a line and a status');
	is(join("\n", @missed), '', 'each other call was made');
	test_short($what, $kind, $cert, $expected, $command) if $kind ne 'n';
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

test('a server', 's', undef, qr/^exit 0 served /, undef, @server);
test('a server with certificates, a map and PROXY headers', 'p', $alice, qr/^exit 0 served /, undef,
	@server, @map);
test('a stranger by the map', 'p', $bob, qr/^exit 77 refused /, undef, @server, @map);
test('a stranger without a certificate', 's', undef, qr/^exit 77 refused /, undef,
	@server, '-A', $c->{root}, '--clientcert=verify-ca');
my $root = issue(cn => 'Root', ca => 1);
my $mallory = issue(cn => 'mallory', issuer => $root);
link crl($root, revoked => [$mallory]), "$revoked/root.pem";
run([ 'openssl', 'rehash', $revoked ]);
test('a stranger with a revoked certificate', 's', make_pem($mallory), qr/^exit 76 cut /, undef,
	@server, '-A', $root->{cert}, '--clientcert=verify-ca', '--crl', $revoked);
test('client mode', 'c', undef, qr/^exit 0 served /, undef, '-c', '-A', $c->{root}, @debug);
test('a listener', 'l', undef, qr/^exit 0 served /, undef, @server, '-P', $pids);

my $locked = make_pem(make_cert(name => 'locked', passphrase => 'x'));
my $says = spew("$TMP/says", "#!/bin/sh\necho x\n", 0755);
my @locked = ('-p', $locked, "--passphrase-command=$says");
test('a listener with a name, a passphrase and a map', 'l', $alice, qr/^exit 0 served /,
	qr/^(?:0\.[123]|0 (?:clone|kill|pipe2|socketpair|wait4|read|sendto|recvfrom))\b/, @locked,
	qw(-r BACKEND_NAME -D debug), grep { !/^--proxy/ } @map);
my $pg = start_pg();
test('--check', 'n', undef, qr/^exit 0 nothing /, qr/^/, '--check', @locked, '-o', spew("$TMP/log", '', 0666),
	'-r', $pg->port, grep { !/^--proxy/ } @map);
my $listener = serve_listen(pg => $pg, args => [ '-P', $pids ]);
my $conn = connect_to($listener->port);
$conn->login or die "no login\n";
test('--sessions', 'n', undef, qr/^exit 0 nothing .*alice.*\|$/, undef, "--sessions=$pids");
$conn->close;
note('not made here: ', join ' ', grep { !$made{$_} } sort keys %errnos);
done_testing;
