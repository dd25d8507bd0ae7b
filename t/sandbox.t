# SPDX-License-Identifier: ISC
#
# The shipped binary under strace, in every mode and with every option: whatever the client, the log
# and the end, a session makes only system calls that sandbox/seccomp.c lists after step 5, none is
# refused, no file is opened, and the process is not killed. (t/unit_sandbox.c tries what an
# intruder would call.)
# sabotage: sandbox/seccomp.c s/^    REFUSE(socket, EACCES),//
# sabotage: log.c s/^\ttzset();.*//
# sabotage: sandbox/seccomp.c s/^    ALLOW(shutdown),//
# sabotage: log.c s/if (sink.syslog == 0 ||.*/if (true || sendto(0, line, strlen(line), MSG_NOSIGNAL,/
# sabotage: sandbox/sandbox.c s/error == ENOSYS ||/error > 0 ||/
use lib 't/lib';
use T;
use T::X509;
use IO::Socket::UNIX;
use Socket qw(MSG_DONTWAIT SOCK_DGRAM);
use strict;
use warnings;

limit(300);
my $c = server_pem();
my $pg = start_pg(hba => "local all all trust\nhost all all 127.0.0.0/8 trust\n");
my $tls = start_pg(ssl => $c->{cert});
my $unix = "$pg->{socket}:" . $pg->port;
my $root = issue(cn => 'Root', ca => 1);
my $alice = issue(issuer => $root, cn => 'Alice');
my $map = spew("$TMP/map", "people Alice alice\n");
my @clients = ('-A', $root->{cert}, '--crl=' . crl($root));

my ($session_lists, $parent_list) = slurp("$ROOT/sandbox/seccomp.c") =~ /^(.*)^(static const struct sock_filter parent\[\].*)/ms;
my %session = map { $_ => 1 } $session_lists =~ /\bALLOW(?:_IF\w*)?\((\w+)/g;
my %parent = (%session, map { $_ => 1 } $parent_list =~ /\bALLOW(?:_IF\w*)?\((\w+)/g);
my $pids = "$TMP/pids";
mkdir $pids;
chmod 01777, $pids;

# -ff writes a file for each process, whose name ends in the process id.
my $program = spew("$TMP/traced", "#!/bin/sh\nexec strace -ff -qq -o $TMP/trace $PGSSL \"\$@\"\n",
	0755);

# The system calls of a trace after the filter was installed, one string for each.
sub calls_after {
	my @lines = split /\n/, slurp($_[0]);
	while (defined(my $line = shift @lines)) {
		return @lines if $line =~ /^prctl\(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, (?!NULL).*= 0$/;
	}
	return;
}

# Check the trace of one process. known: matches refusals that are expected.
sub check_trace {
	my ($what, $trace, $allowed, $known) = @_;
	my @calls = grep { !$known || !/$known/ } calls_after($trace);
	ok(@calls > 1, "$what: a filter was installed") or diag(slurp($trace));
	is_deeply([ grep { /^(\w+)\(/ && !$allowed->{$1} } @calls ], [],
		"$what: only listed system calls");
	is_deeply([ grep { /= -1 (?:EACCES|EPERM|ENOSYS|ESPIPE|ENOTTY) / } @calls ], [],
		"$what: nothing was refused");
	like($calls[-1], qr/^\+\+\+ exited with|^exit_group/,
		"$what: the process exited by itself");
}

sub check_traces {
	my ($what, $service, $known) = @_;
	wait_for('the sessions to end', sub { !$service->sessions });
	my @traces = glob "$TMP/trace.*";
	ok(scalar @traces, "$what: traced");
	for my $trace (@traces) {
		# A passphrase command runs before step 5.
		check_trace($what, $trace, \%session, $known)
			unless slurp($trace) =~ /^execve\("\/bin\/sh"/m;
		unlink $trace;
	}
	is_deeply([ glob "$pids/*" ], [], 'no pid file is left');
}

# The clients. Each is called with the port.
sub tls_psql {
	my ($port) = @_;
	my $sql = 'select count(*) from generate_series(1, 100000)';
	is(psql($sql, port => $port)->{out}, "100000\n", 'a query');
	return;
}

sub plain_psql {
	my ($port) = @_;
	my $r = psql("select repeat('x', 100000)", port => $port, sslmode => 'disable');
	is($r->{out}, 'x' x 100000 . "\n", 'a query');
	return;
}

sub login {
	my ($port, %o) = @_;
	my $conn = connect_to($port);
	$conn->send($o{first}) if defined $o{first};
	$conn->start_tls(alpn => ['postgresql']) if $o{direct};
	ok($conn->login(tls => $o{tls} || {}), 'login');
	return $conn;
}

sub ended { my ($conn, $bytes) = @_; $conn->send($bytes) if defined $bytes; $conn->rest; $conn->close; return }
sub says { my ($bytes, $tls) = @_; return sub { my $conn = connect_to($_[0]); $conn->negotiate if $tls; ended($conn, $bytes) } }

my $cancel = cancel_request(12345, pack 'N', 1);
my $terminate = "X\0\0\0\4";
my $certificate = sub { ended(login($_[0], tls => { cert => $alice->{chain}, key => $alice->{key} }), $terminate) };
my $refused = sub { my $conn = connect_to($_[0]); $conn->login; ended($conn) };
my $stderr = spew("$TMP/stderr", '', 0666);
my $journal = join ':', (stat $stderr)[0, 1];
my $locked = make_cert(name => 'locked', issuer => $c->{ca}, passphrase => 'secret');
my $rsa = make_pem(make_cert(name => 'rsa', issuer => $c->{ca}, key => 'rsa'));
my $other_pgssl = serve(pg => $pg);
my $silence = sub { my $conn = connect_to($_[0]); ended($conn) };

# [name, arguments of serve() and "known", the client]
my @ways = (
	[ 'TLS 1.3, log file, pid file', { args => [ "-P$pids/" ] }, \&tls_psql ],
	[ 'TLS 1.2', { args => ['--max-protocol=TLSv1.2'] }, \&tls_psql ],
	[ 'two certificates, all TLS options', { args => [ '-p', $rsa, qw(-C ECDHE-RSA-AES128-GCM-SHA256 --ciphersuites=TLS_CHACHA20_POLY1305_SHA256 --groups=X25519:P-256) ] }, \&tls_psql ],
	[ 'a passphrase', { pem => make_pem($locked),
		args => ['--passphrase-command=echo secret'] }, \&tls_psql ],
	[ 'direct TLS', { args => ['--alpn=optional'] },
		sub { ended(login($_[0], direct => 1), $terminate) } ],
	[ 'the log is descriptor 2', { nolog => 1, stderr => $stderr }, \&tls_psql ],
	[ 'the log is the journal', { nolog => 1, stderr => $stderr, env => { JOURNAL_STREAM => $journal } }, \&tls_psql ],
	# There may be no syslogd: then each log line tries to connect again.
	[ 'the log is syslog', { nolog => 1, args => [qw(-N other)],
		known => qr/^socket\(AF_UNIX, SOCK_DGRAM.*EACCES/ }, \&tls_psql ],
	[ 'no TLS', {}, sub { like(psql('', port => $_[0], sslmode => 'disable')->{err}, qr/accepts only TLS/, 'the error') } ],
	[ 'a FATAL of PostgreSQL', {}, sub { like(psql('', port => $_[0], dbname => 'nosuch')->{err}, qr/does not exist/, 'the error') } ],
	[ 'PostgreSQL cannot be reached', { connect => '127.0.0.1:' . free_port() },
		sub { like(psql('', port => $_[0])->{err}, qr/could not connect/, 'the error') } ],
	[ 'a Unix socket that does not exist', { connect => "$TMP:1" },
		sub { like(psql('', port => $_[0])->{err}, qr/could not connect/, 'the error') } ],
	[ 'a Unix socket', { connect => $unix }, \&tls_psql ],
	[ 'cancel in clear', {}, says($cancel) ],
	[ 'cancel under TLS', {}, says($cancel, 1) ],
	[ 'cancel to a Unix socket', { connect => $unix }, says($cancel, 1) ],
	[ 'silence', { args => ['--handshake-timeout=1'] }, $silence ],
	[ 'garbage', {}, says('GET / HTTP/1.0') ],
	[ 'a failed handshake', {}, says(ssl_request() . "\x16\x03\x01\0\5rubbish") ],
	[ 'garbage under TLS', {}, says('GET / HTTP/1.0', 1) ],
	[ 'a reset', { args => ['--keepalive=0'] }, sub { login($_[0])->reset } ],
	[ 'an idle session', { args => ['--idle-timeout=1'] }, sub { ended(login($_[0])) } ],
	[ 'SIGTERM', {}, sub { my ($port, $service) = @_; my $conn = login($port); kill 'TERM', grep { slurp("/proc/$_/comm") =~ /^pgssl/ } $service->sessions; ended($conn) } ],
	[ 'a client certificate, CRL and map', { args => [ @clients, '--clientcert=verify-full', "--ident-map=$map", '--map=people', '--clientcert-expiry' ] }, $certificate ],
	[ '--clientname=SAN, a certificate without one',
		{ args => [ @clients, '--clientcert=verify-full', '--clientname=SAN' ] },
		sub { my $conn = connect_to($_[0]); $conn->login(tls => { cert => $alice->{chain}, key => $alice->{key} }); ended($conn) } ],
	[ 'no certificate where one is required',
		{ args => [ @clients, '--clientcert=verify-ca' ] }, $refused ],
	[ 'PROXY protocol', { args => ['--proxy-protocol'] }, sub { ended(login($_[0], first => "PROXY TCP4 192.0.2.9 127.0.0.1 1234 9000\r\n"), $terminate) } ],
	[ 'no PROXY header', { args => ['--proxy-protocol'] }, says(ssl_request()) ],
	[ 'a GSSENCRequest, refused by pgssl', {}, sub { my $conn = connect_to($_[0]); $conn->send(gss_request()); is($conn->recv(1), 'N', 'N'); ended(login_on($conn), $terminate) } ],
	[ '--gss, refused by PostgreSQL', { connect => $unix, args => ['--gss'] }, sub { my $conn = connect_to($_[0]); $conn->send(gss_request()); is($conn->recv(1), 'N', 'N'); ended(login_on($conn), $terminate) } ],
	[ '--gss, answered by PostgreSQL', { args => ['--gss'] }, sub { my $conn = connect_to($_[0]); $conn->send(gss_request()); like($conn->recv(1), qr/^[GN]$/, 'the answer is relayed'); $conn->close } ],
	[ '--application-name-host', { args => ['--application-name-host'] }, \&tls_psql ],
	[ '-I', { args => [qw(-I 127.0.0.2)] }, \&tls_psql ],
	[ 'client mode', { client => 1, connect => '127.0.0.1:' . $tls->port,
		args => [ '-A', $c->{root} ] }, \&plain_psql ],
	[ 'client mode, a pid file, no verification', { client => 1, connect => '127.0.0.1:' . $tls->port, args => [ '--sslmode=require', "-P$pids/" ] }, \&plain_psql ],
	[ 'client mode, direct TLS', { client => 1, connect => '127.0.0.1:' . $other_pgssl->port, args => [ '-A', $c->{root}, '--sslnegotiation=direct' ] }, \&plain_psql ],
	[ 'client mode, a client certificate', { client => 1, pem => $c->{pem}, connect => '127.0.0.1:' . $tls->port, args => [ '-A', $c->{root} ] }, \&plain_psql ],
	[ 'client mode, cancel', { client => 1, connect => '127.0.0.1:' . $tls->port,
		args => [ '-A', $c->{root} ] }, says($cancel) ],
	[ 'client mode, a certificate for another host',
		{ client => 1, connect => '127.0.0.1:' . $tls->port,
		args => [ '-A', $c->{root}, '--servername=other' ] },
		sub { like(psql('', port => $_[0], sslmode => 'disable')->{err}, qr/certificate/, 'the error') } ],
	[ 'client mode, a server without TLS',
		{ client => 1, connect => '127.0.0.1:' . $pg->port, args => [ '-A', $c->{root} ] },
		sub { like(psql('', port => $_[0], sslmode => 'disable')->{err}, qr/does not support TLS/, 'the error') } ],
);
push @ways,
	[ '-T', { args => ['-T'] }, \&tls_psql ],
	[ 'as root', { args => [qw(-s root)] }, \&tls_psql ],
	[ 'as another user', { args => [qw(-s daemon -g nogroup)] }, \&tls_psql ] if is_root();

sub login_on { my ($conn) = @_; ok($conn->login, 'login'); return $conn }

for my $way (@ways) {
	my ($name, $serve, $client) = @$way;
	subtest $name => sub {
		my $service = serve(pg => $pg, program => $program, %$serve);
		$client->($service->port, $service);
		check_traces($name, $service, $serve->{known});
		T::stop($service->{pid});
	};
}

# The listener reloads a certificate under its own filter, where what is not allowed fails with
# EPERM and would be seen.
subtest '-d: listener and children' => sub {
	my $pem = spew("$TMP/d.pem", slurp($c->{pem}), 0600);
	my $service = serve_listen(pg => $pg, program => $program, pem => $pem,
		args => [ "-P$pids/" ]);
	tls_psql($service->port);
	my $renewed = make_cert(name => 'renewed', issuer => $c->{ca});
	rename make_pem($renewed, "$TMP/d.new"), $pem or die;
	tls_psql($service->port);
	$service->logged(qr/reloaded certificate and key/);
	ended(connect_to($service->port), $cancel);
	my ($parent) = grep { slurp("/proc/$_/comm") =~ /^pgssl/ } $service->sessions;
	kill 'TERM', $parent;
	wait_exit($service->{pid});
	is_deeply([ glob "$pids/*" ], [], 'no pid file is left');
	check_trace('listener', "$TMP/trace.$parent", \%parent,
		qr/^ioctl\(.*ENOTTY|^clone3\(.*ENOSYS/);
	unlink "$TMP/trace.$parent";
	my @children = glob "$TMP/trace.*";
	cmp_ok(scalar @children, '>=', 3, 'children were traced');
	check_trace('child', $_, \%session) for @children;
	unlink @children;
};

subtest '-d in client mode' => sub {
	my $service = serve_listen(client => 1, connect => '127.0.0.1:' . $tls->port,
		program => $program, bind => '127.0.0.1', args => [ '-A', $c->{root} ]);
	plain_psql($service->port);
	my ($parent) = grep { slurp("/proc/$_/comm") =~ /^pgssl/ } $service->sessions;
	kill 'TERM', $parent;
	wait_exit($service->{pid});
	check_trace($_, $_, $_ eq "$TMP/trace.$parent" ? \%parent : \%session, qr/^ioctl\(.*ENOTTY/)
		for glob "$TMP/trace.*";
	unlink glob "$TMP/trace.*";
};

# It is the last step of --check, whose other steps read files.
subtest '--check enters the sandbox' => sub {
	my $r = T::run([ $program, '--check', '-p', $c->{pem}, '-r', '127.0.0.1:' . $pg->port,
		"-P$pids/" ]);
	like($r->{out}, qr/^ok\s+sandbox: entered$/m, 'reported');
	check_trace('--check', $_, \%session) for grep { calls_after($_) } glob "$TMP/trace.*";
	cmp_ok(scalar(grep { calls_after($_) } glob "$TMP/trace.*"), '==', 1, 'one process');
	is_deeply([ glob "$pids/*" ], [], 'no pid file is left');
	unlink glob "$TMP/trace.*";
};

# The test is syslogd, with a private /dev in a mount namespace. When syslogd has gone, glibc tries
# to open its socket again, which the filter refuses.
subtest 'syslogd stops or restarts: the session goes on, and a new syslogd gets its last line' => sub {
	plan(skip_all => 'needs root') unless is_root();
	my $dev = "$TMP/dev";
	mkdir $dev;
	system("mknod -m 666 $dev/null c 1 3 && mknod -m 666 $dev/urandom c 1 9") == 0
		or plan(skip_all => 'needs mknod');
	my $syslogd = sub {
		unlink "$dev/log";
		my $s = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => "$dev/log")
			or die "log: $!\n";
		chmod 0666, "$dev/log";
		return $s;
	};
	my $receives = sub {
		my ($s, $pattern) = @_;
		my $line = '';
		wait_for("$pattern in syslog", sub { $s->recv($line, 4096, MSG_DONTWAIT); $line =~ $pattern });
		return $line;
	};
	my $mine = [ qw(unshare -m sh -c), "mount --bind $dev /dev && exec \"\$0\" \"\$@\"" ];

	for my $again (0, 1) {
		my $first = $syslogd->();
		my $s = session(pg => $pg, nolog => 1, stderr => 'client', wrap => $mine);
		ok($s->conn->login, 'login');
		like($receives->($first, qr/connection authorized/), qr/^<\d+>.*pgssl\[\d+\]: connection authorized: user=alice/, 'syslog receives the first line');
		$first->close;
		my $second = $again ? $syslogd->() : undef;
		unlink "$dev/log" unless $again;
		ok($s->conn->query('select 1') && $s->conn->message, $again ? 'restarted: the session continues' : 'stopped: the session continues');
		$s->conn->send($terminate);
		$s->conn->rest;
		is($s->wait, 0, 'it ends normally');
		is($s->conn->got_close_notify, 1, 'with close_notify');
		like($receives->($second, qr/disconnection/), qr/^<29>\w{3} [ \d]\d [\d:]{8} pgssl\[\d+\]: disconnection: /, 'the new syslogd gets the last line') if $again;
	}
	my $syslog = $syslogd->();
	my $port = free_port();
	my $file = "$TMP/background.pid";
	is(T::run([ @$mine, $PGSSL, '-d', $port, '-p', $c->{pem}, '-r', '127.0.0.1:' . $pg->port, "-P$file" ])->{status}, 0, '-d');
	for (0, 1) {
		my $conn = connect_to($port);
		ok($conn->login, 'login');
		$receives->($syslog, qr/connection authorized/);
		$syslog->close;
		$syslog = $syslogd->();
		$conn->close;
		$receives->($syslog, qr/disconnection/);
	}
	stop(slurp($file) =~ /(\d+)/);
	$receives->($syslog, qr/pgssl\[\d+\]: stopped/);
};

# Old kernels and containers. Only the listener and --check say so: sessions would each do.
subtest 'a missing layer is reported once' => sub {
	plan(skip_all => 'needs x86-64') unless (POSIX::uname())[4] eq 'x86_64';
	# a filter under which landlock_create_ruleset (444) fails with ENOSYS or EOPNOTSUPP, or
	# with EPERM, as in a container
	for my $errno (38, 95, 1) {
		my $why = $errno == 1 ? 'Landlock is forbidden here: Operation not permitted' : 'this kernel has no Landlock';
		my @o = (pg => $pg, before => sub {
			my $filter = pack '(SCCL)4', 0x20, 0, 0, 0, 0x15, 0, 1, 444, 0x06, 0, 0, 0x50000 | $errno, 0x06, 0, 0, 0x7fff0000;
			syscall(157, 38, 1, 0, 0, 0) == 0 && syscall(157, 22, 2, pack('S x6 P', 4, $filter), 0, 0) == 0 or die "prctl: $!\n";
		});
		my $d = serve_listen(@o);
		my $s = session(@o);
		for my $conn ($s->conn, connect_to($d->port)) {
			ok($conn->login, 'login');
			$conn->close;
		}
		$d->logged(qr/disconnection/);
		is(scalar(log_lines($d->{log}, qr/sandbox: $why; the other layers remain$/)), 1, 'the listener: one line');
		$s->wait;
		unlike($s->log, qr/sandbox/, 'a session: none');
		my $r = T::run([ $PGSSL, '--check', '-p', $c->{pem}, '-r', '127.0.0.1:' . $pg->port ], @o);
		like($r->{out}, qr/^note     sandbox: $why; the other layers are entered$/m, '--check');
		unlike($r->{out}, qr/^ok +sandbox/m, 'and nothing else of it');
	}
};

done_testing;
