# SPDX-License-Identifier: ISC
#
# The pump: whatever descriptors 0 and 1 are, no byte is lost, repeated or reordered. Bounded
# memory, half-closed connections, and the ways in which a session ends.
# never: A byte lost, repeated or reordered.
# sabotage: s/\.forward_end = true,// net/splice.c
# sabotage: s/sock_orphan(s->client_socket.stream.wfd, s->options.keepalive);/;/ session/session.c
# sabotage: s/bool unsent = read .*/bool unsent = false;/ net/stream.c
# sabotage: s/BIO_set_retry_write(bio);/;/ tls.c
# sabotage: s/case ENOBUFS:/case ENOSR:/ net/stream.c
# sabotage: s/.*TCP_RTO_MAX_MS),.*// sandbox/seccomp.c
use lib 't/lib';
use T;
use Digest::SHA qw(sha256_hex);
use Fcntl qw(F_GETFL O_NONBLOCK);
use Socket qw(IPPROTO_TCP);

my $c = server_pem();
my $pg = start_pg();

# Random bytes that both sides of a test can compute.
my $seed = join '', map { chr int rand 256 } 1 .. 1 << 20;
sub block { my ($n) = @_; return substr($seed, ($n * 7919) % 65536) . $n }

subtest 'a TCP socket, a Unix socket, two sockets, two pipes: all are still blocking afterwards' => sub {
	for my $over (qw(tcp pair pairs pipes)) {
		my $s = session(pg => $pg, over => $over, keep => 1);
		ok($s->conn->login, "login over $over");
		$s->conn->query("select repeat('x', 300000)");
		my $text = '';
		while (my ($type, $body) = $s->conn->message) {
			$text = $body if $type eq 'D';
			last if $type eq 'Z';
		}
		is(length $text, 300006, 'a long answer');
		$s->conn->send("X\0\0\0\4");
		is($s->conn->rest, '', 'no other byte');
		$s->conn->close;
		is($s->wait, 0, 'status');
		for my $end (@$s{qw(child_in child_out)}) {
			ok(!(fcntl($end, F_GETFL, 0) & O_NONBLOCK),
				'the descriptor is still blocking');
		}
	}
};

subtest 'shared descriptors stay blocking during the session' => sub {
	my $s = session(pg => $pg, over => 'pipes', keep => 1);
	ok($s->conn->login, 'login');
	ok(!(fcntl($s->{$_}, F_GETFL, 0) & O_NONBLOCK), $_) for qw(child_in child_out);
};

# The handshake waited for the client's answer, and the client for the rest of our messages. These
# do not fit into the buffer for records either.
subtest 'a pipe that does not take our part of the handshake whole' => sub {
	my $san = join ',', map { "DNS:host-number-$_.example.org" } 1 .. 2700;
	my $big = make_pem(make_cert(name => 'big', issuer => $c->{ca}, san => $san));
	for my $version (qw(TLSv1.2 TLSv1.3)) {
		my $s = session(pg => $pg, pem => $big, over => 'pipes');
		fcntl($s->conn->{read}, 1031, 4096) or die "F_SETPIPE_SZ: $!\n";
		ok($s->conn->login(tls => { min => $version, max => $version }), $version);
	}
};

# The session went on for ever without the client's bytes.
subtest 'the kernel has no memory for what goes to PostgreSQL' => sub {
	spew("$TMP/nobufs.c", <<'EOF');
#include <errno.h>
#include <sys/socket.h>
ssize_t send(int fd, const void *buf, size_t size, int flags)
{
	static int n; /* of sends to PostgreSQL: the first one is the startup packet */
	if (fd > 2 && ++n == 2) {
		errno = ENOBUFS;
		return -1;
	}
	return sendto(fd, buf, size, flags, 0, 0);
}
EOF
	run([ 'cc', '-shared', '-fPIC', '-o', "$TMP/nobufs.so", "$TMP/nobufs.c" ]);
	my $fake = after_startup(sub { my ($socket, $self) = @_; $self->take($socket) });
	my $s = session(pg => $fake, env => { LD_PRELOAD => "$TMP/nobufs.so" });
	ok($s->conn->negotiate, 'handshake');
	$s->conn->send(startup_packet(user => 'alice'));
	wait_for('the startup packet', sub { length $fake->bytes });
	$s->conn->query('select 1');
	is($s->wait, 71, 'status');
	like($s->log, qr/reason=out of memory$/m, 'logged');
};

subtest '40 MB in each direction, compared by checksum' => sub {
	my $fake = after_startup(sub {
		my ($socket) = @_;
		syswrite $socket, block($_) for 1 .. 40;
		my $sha = Digest::SHA->new(256);
		while (sysread $socket, my $data, 65536) { $sha->add($data) }
		spew("$TMP/up.sha", $sha->hexdigest);
	});
	my $s = start(pg => $fake);
	my ($down, $up) = (Digest::SHA->new(256), Digest::SHA->new(256));
	my $want = Digest::SHA->new(256);
	$want->add(block($_)) for 1 .. 40;
	$down->add($s->conn->recv(length block($_))) for 1 .. 40;
	is($down->hexdigest, $want->hexdigest, 'to the client');
	for my $n (1 .. 40) {
		my $data = block($n);
		$up->add($data);
		ok(0, "write $n") unless $s->conn->send($data);
	}
	$s->conn->close_notify;
	$s->conn->finish;
	wait_for('all bytes', sub { -s "$TMP/up.sha" });
	is(slurp("$TMP/up.sha"), $up->hexdigest, 'from the client');
	is($s->wait, 0, 'status');
};

subtest 'both directions at once' => sub {
	my $head = startup_packet(user => 'alice');
	my $data = $head . join '', map { block($_) } 1 .. 20;
	my $fake = fake_backend(sub {
		my ($socket) = @_;
		for (my $n = 0; $n < length $data;) { $n += sysread $socket, my $piece, 65536 or last; syswrite $socket, $piece }
		close $socket;
	});
	my $service = serve(pg => $fake);
	my $r = T::run([ 'openssl', 's_client', '-quiet', '-nocommands', '-connect', '127.0.0.1:' . $service->port ], in => spew("$TMP/echo.in", $data), out => "$TMP/echo.out", quiet => 1);
	ok(slurp("$TMP/echo.in") eq slurp("$TMP/echo.out"), 'the echo equals what was sent')
		or diag($r->{err}, -s "$TMP/echo.out");
};

sub rss { return slurp("/proc/$_[0]/status") =~ /VmRSS:\s+(\d+)/ ? $1 : 0 }

# The size of a growing file when it has not changed for 0.3 s.
sub stalled {
	my ($file) = @_;
	my ($last, $since) = (-1, Time::HiRes::time());
	wait_for("$file to stop growing", sub {
		my $now = -s $file || 0;
		($last, $since) = ($now, Time::HiRes::time()) if $now != $last;
		return $now && Time::HiRes::time() - $since > 0.3;
	});
	return $last;
}

subtest 'a client that does not read: memory is bounded, no byte is lost' => sub {
	my $total = 100;
	my $fake = after_startup(sub {
		my ($socket) = @_;
		for (1 .. $total) { syswrite $socket, 'x' x (1 << 20) or last; append("$TMP/pushed", '.') }
		close $socket;
	});
	my $s = start(pg => $fake);
	my $before = rss($s->{pid});
	cmp_ok(stalled("$TMP/pushed"), '<', $total, 'PostgreSQL has to wait');
	SKIP: {
		skip 'AddressSanitizer keeps freed memory', 1 if $T::SLOW > 1;
		cmp_ok(rss($s->{pid}) - $before, '<', 2048, 'pgssl has grown by less than 2 MB');
	}
	my $got = 0;
	while ($s->conn->read_more(65536)) { $got += length $s->conn->{plain}; $s->conn->{plain} = '' }
	is($got, $total << 20, 'all bytes arrive');
	is($s->wait, 0, 'status');
};

subtest 'a PostgreSQL that does not read: the client has to wait' => sub {
	my $fake = after_startup(sub {
		my ($socket) = @_;
		wait_for('the signal to go on', sub { -e "$TMP/go" }, 60);
		my $n = 0;
		while (my $got = sysread $socket, my $data, 65536) { $n += $got }
		spew("$TMP/taken", $n);
	});
	my $s = start(pg => $fake);
	my $pid = fork;
	if (!$pid) {
		for (1 .. 60) { $s->conn->send('x' x (1 << 20)) or last; append("$TMP/sent", '.') }
		$s->conn->close_notify;
		$s->conn->finish;
		POSIX::_exit(0);
	}
	cmp_ok(stalled("$TMP/sent"), '<', 60, 'the client has to wait');
	cmp_ok(rss($s->{pid}), '<', 30000, 'memory is bounded');
	spew("$TMP/go", '');
	$s->conn->close;
	wait_for('all bytes', sub { -s "$TMP/taken" });
	is(slurp("$TMP/taken"), 60 << 20, 'all bytes arrive');
};

subtest 'TCP_NODELAY and keepalive on both sockets' => sub {
	my $trace = "$TMP/trace";
	my $s = session(pg => $pg,
		wrap => [ 'strace', '-f', '-e', 'trace=setsockopt,exit_group', '-o', $trace ]);
	ok($s->conn->login, 'login');
	$s->conn->close;
	$s->wait;
	my $text = slurp($trace);
	for my $option (qw(TCP_NODELAY SO_KEEPALIVE TCP_KEEPIDLE)) {
		my %fd = map { $_ => 1 } $text =~ /setsockopt\((\d+), \w+, $option, .* = 0$/mg;
		cmp_ok(scalar keys %fd, '>=', 2, "$option on two sockets");
	}
	like($text, qr/TCP_KEEPIDLE, \[60\]/, 'keepalive after 60 s of silence');
	my %rto_max = map { $_ => 1 } $text =~ /setsockopt\((\d+), \w+, (?:TCP_RTO_MAX_MS|0x2c\b[^,]*), \[10000\], 4\)/g;
	cmp_ok(scalar keys %rto_max, '>=', 2,
		'data in flight is retransmitted at least every 10 s');
	# Linux has the option from 6.15 on. An older kernel must answer ENOPROTOOPT, not the
	# sandbox.
	my $socket = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1');
	my $known = setsockopt($socket, IPPROTO_TCP, 44, pack 'i', 120000);
	my $answer = $known ? '0' : '-1 ENOPROTOOPT [^\n]*';
	like($text, qr/(?:TCP_RTO_MAX_MS|0x2c\b[^,]*), \[120000\], 4\) = $answer\n.*exit_group/,
		'the process restores the default before it exits, so that the kernel does not give up early');
	unlike($text, qr/TCP_USER_TIMEOUT/,
		'nothing ends a connection because the peer does not read');
};

subtest '--keepalive=0 sets no option' => sub {
	my $trace = "$TMP/trace0";
	my $s = session(pg => $pg, args => ['--keepalive=0'],
		wrap => [ 'strace', '-f', '-e', 'trace=setsockopt', '-o', $trace ]);
	ok($s->conn->login, 'login');
	$s->conn->close;
	$s->wait;
	unlike(slurp($trace), qr/KEEP|RTO_MAX|0x2c/, 'no option');
};

subtest 'the client ends its direction, with close_notify or a plain FIN: the result of the current query still arrives' => sub {
	for my $how (qw(close_notify finish both)) {
		my $s = session(pg => $pg);
		ok($s->conn->login, $how);
		$s->conn->query('select 40+2 from pg_sleep(0.2)');
		$s->conn->close_notify if $how ne 'finish';
		$s->conn->finish if $how ne 'close_notify';
		my $answer = $s->conn->rest;
		like($answer, qr/42C/, 'the result arrives');
		ok($s->conn->got_close_notify, 'followed by close_notify');
		is($s->conn->ending, 'closed', 'and an orderly close');
		is($s->wait, 0, 'status');
	}
};

subtest 'PostgreSQL closes: everything arrives, then close_notify, then an orderly close' => sub {
	my $fake = after_startup(sub { my ($socket) = @_; syswrite $socket, 'z' x 2_000_000; close $socket });
	my $s = start(pg => $fake);
	is(length $s->conn->rest, 2_000_000, 'everything');
	ok($s->conn->got_close_notify, 'close_notify');
	is($s->conn->ending, 'closed', 'closed, not reset');
	is($s->wait, 0, 'status');
};

subtest 'PostgreSQL closes while the client is sending: its last data arrives without a reset' => sub {
	my $fake = after_startup(sub { my ($socket) = @_; syswrite $socket, 'bye' x 1000; close $socket });
	my $s = start(pg => $fake);
	wait_for('the first byte', sub { $s->conn->readable(0) });
	$s->conn->send('x' x 16384) or last for 1 .. 200;
	is($s->conn->rest, 'bye' x 1000, 'the last data');
	ok($s->conn->got_close_notify, 'close_notify');
};

subtest 'the last FATAL arrives while the client is sending' => sub {
	my $s = session(pg => $pg);
	ok($s->conn->login, 'login');
	$s->conn->query('create temp table t(x text); copy t from stdin');
	my ($type) = ('');
	while ($type ne 'G') { ($type) = $s->conn->message or last }
	my $row = 'd' . pack('N', 4 + 8001) . 'r' x 8000 . "\n";
	$s->conn->send($row x 50);
	my $sql = "select pg_terminate_backend(pid) from pg_stat_activity where query like '%copy t from%' and pid<>pg_backend_pid()";
	psql($sql, host => $pg->{socket}, port => $pg->port, user => 'postgres',
		sslmode => 'disable');
	my $sent = 0;
	while (!$s->conn->readable(0) && $sent < 5000) { $s->conn->send($row) or last; $sent++ }
	$s->conn->send($row) or last for 1 .. 500; # 4 MB more, whether or not an answer has arrived
	my $rest = $s->conn->rest;
	like($rest, qr/\0C57P01\0.*terminating connection due to administrator command/s,
		'the FATAL arrives');
};

subtest 'TLS 1.3 KeyUpdate in both directions' => sub {
	my $fake = fake_backend(sub { my ($socket) = @_; while (sysread $socket, my $data, 65536) { syswrite $socket, $data } });
	my $service = serve(pg => $fake);
	my ($from, $to);
	pipe $from, $to;
	my $pid = spawn(cmd => [ 'openssl', 's_client', '-connect', '127.0.0.1:' . $service->port,
		'-tls1_3' ], in => $from, out => "$TMP/ku.out", err => "$TMP/ku.err");
	my $say = sub { syswrite $to, $_[0] };
	wait_for('the handshake', sub { slurp("$TMP/ku.out") =~ /Verify return code/ });
	$say->(startup_packet(user => 'alice', application_name => 'ping0'));
	wait_for('the echo', sub { slurp("$TMP/ku.out") =~ /ping0/ });
	for my $n (1 .. 3) {
		$say->($n == 2 ? "k\n" : "K\n");
		wait_for('s_client to update its keys', sub {
			my $n_seen = () = (slurp("$TMP/ku.err") . slurp("$TMP/ku.out")) =~ /KEYUPDATE/g;
			$n_seen >= $n;
		});
		$say->("ping$n\n");
		wait_for("the echo after KeyUpdate $n", sub { slurp("$TMP/ku.out") =~ /ping$n/ });
	}
	pass('data is relayed after three KeyUpdates');
	stop($pid, 'KILL');
};

subtest 'a reset by the client ends both connections at once' => sub {
	my $s = session(pg => $pg);
	ok($s->conn->login, 'login');
	$s->conn->reset;
	$s->wait;
	wait_for('PostgreSQL to end its backend', sub { $pg->backends == 0 });
	like($s->log, qr/disconnection: .*reason=connection to client lost/,
		'the reason is logged');
};

subtest 'SIGTERM: received data is delivered, then close_notify, then an orderly close' => sub {
	my $s = session(pg => $pg);
	ok($s->conn->login, 'login');
	kill 'HUP', $s->{pid};
	$s->conn->query('select 1');
	my @m = $s->conn->message;
	is($m[0], 'T', 'SIGHUP changes nothing');
	while (@m && $m[0] ne 'Z') { @m = $s->conn->message }
	kill 'TERM', $s->{pid};
	$s->conn->rest;
	ok($s->conn->got_close_notify, 'close_notify');
	is($s->conn->ending, 'closed', 'closed, not reset');
	is($s->wait, 0, 'status');
	wait_for('PostgreSQL to end its backend', sub { $pg->backends == 0 });
	like($s->log, qr/disconnection: .*reason=/, 'logged');
};

subtest '--idle-timeout' => sub {
	my $s = session(pg => $pg, args => ['--idle-timeout=1']);
	ok($s->conn->login, 'login');
	$s->conn->rest;
	is($s->conn->{ended}, 'closed', 'closed');
	is($s->wait, 0, 'status');
	like($s->log, qr/reason=.*(?:idle|timeout)/, 'the reason is logged');
};
done_testing;
