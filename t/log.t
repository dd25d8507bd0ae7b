# SPDX-License-Identifier: ISC
#
# The log: the two lines of a session and their fields, names that try to forge a field, where the
# lines are written, and that none of them reaches the client.
# never: A byte on descriptor 2 while it is the client
# sabotage: s/bool plain = c > ' '/bool plain = c >= ' '/ log.c
use lib 't/lib';
use T;
use Socket;

my $c = server_pem();
my $pg = start_pg();

subtest 'both lines of a session' => sub {
	my $s = session(pg => $pg, stderr => 'client', args => [ '-D', 'notice' ]);
	ok($s->conn->login(application_name => 'logtest'), 'login');
	my $port = $s->conn->local_port;
	my $first = $s->logged(qr/connection authorized/);
	my $group = default_group();
	my $who = qr/user=alice database=sales application_name=logtest host=127\.0\.0\.1 port=$port backend_port=\d+/;
	like($first, qr/connection authorized: $who tls=TLSv1\.3 cipher=TLS_AES_256_GCM_SHA384 group=$group$/, 'first line');
	my ($backend_port) = $first =~ /backend_port=(\d+)/;
	like(slurp("/proc/$s->{pid}/cmdline"), qr/^pgssl: alice sales 127\.0\.0\.1\($port\)\0*$/,
		'process title');
	like($pg->log, qr/connection received: host=127\.0\.0\.1 port=$backend_port$/m,
		"backend_port is the port in PostgreSQL's log");
	$s->conn->send("X\0\0\0\4");
	$s->conn->rest;
	is($s->wait, 0, 'status');
	like($s->log, qr/disconnection: session time: 0:00:0\d\.\d{3} user=alice database=sales host=127\.0\.0\.1 port=$port received=\d+ sent=\d+ reason=\S/, 'last line');
	is(scalar(log_lines($s->{log})), 2, 'there is no other line');
};

subtest 'received and sent count the bytes of the session' => sub {
	my $fake = fake_backend(sub { my ($k, $self) = @_; $self->take($k, 500); syswrite $k, 'x' x 300; $self->take($k) });
	my $s = session(pg => $fake);
	$s->conn->negotiate;
	my $packet = startup_packet(user => 'alice');
	$s->conn->send($packet);
	$s->conn->send('y' x (500 - length $packet));
	is(length $s->conn->recv(300), 300, 'the answer');
	$s->conn->close;
	$s->wait;
	like($s->log, qr/disconnection: .*received=500 sent=300 reason=/, 'counted');
};

subtest 'names cannot forge a field or a line' => sub {
	my $s = session(pg => $pg);
	$s->conn->login(user => "eve database=x\n\\\x1b[2J\xc3\xa4", database => 'a b',
		application_name => "x\r\ny");
	$s->conn->close;
	$s->wait;
	my ($line) = log_lines($s->{log}, qr/connection authorized/);
	like($line, qr/user=eve\\x20database=x\\x0a\\x5c\\x1b\[2J\\xc3\\xa4 database=a\\x20b application_name=x\\x0d\\x0ay host=/i, 'escaped');
	ok(!grep({ !/^[\x20-\x7e]*$/ } log_lines($s->{log})), 'only printable ASCII');
};

subtest 'a probe is logged at level debug only' => sub {
	for my $level (qw(debug info)) {
		my $s = session(pg => $pg, args => [ '-D', $level ]);
		$s->conn->close;
		$s->wait;
		is(!!log_lines($s->{log}), $level eq 'debug', "at level $level");
	}
};

subtest 'a failure before the session: one line with host, port and cause' => sub {
	my $s = session(pg => $pg, args => [ '-D', 'notice' ]);
	my $port = $s->conn->local_port;
	$s->conn->send('GET / HTTP/1.0');
	$s->conn->rest;
	$s->conn->close;
	$s->wait;
	my @lines = log_lines($s->{log});
	is(scalar @lines, 1, 'one line');
	like($lines[0], qr/startup packet.* host=127\.0\.0\.1 port=$port$/, 'cause, host, port');
};

subtest 'nothing is written to descriptor 2 when it is the client' => sub {
	for my $over (qw(tcp pair pipes)) {
		my $s = session(pg => $pg, over => $over, stderr => 'client', nolog => 1,
			args => [ '-D', '7' ]);
		ok($s->conn->login, "login over $over");
		$s->conn->send("X\0\0\0\4");
		is($s->conn->rest, '', 'no other byte');
		is($s->wait, 0, 'status');
	}
	for my $bad ([ '--nonsense' ], [ '-p', "$TMP/nosuch" ], [ '-r', 'no such place!' ],
		[ '-D' ]) {
		my $s = session(argv => $bad, stderr => 'client');
		is($s->conn->rest, '', "no byte to the client: @$bad");
		isnt($s->wait, 0, 'status');
	}
};

subtest 'the log goes to standard error if that is not the client; host=[local] without a socket' => sub {
	my $s = session(pg => $pg, over => 'pipes', nolog => 1);
	ok($s->conn->login, 'login');
	$s->conn->close;
	$s->wait;
	like(slurp($s->{err}), qr/connection authorized: user=alice .*host=\[local\]/,
		'the line is on standard error');
};

subtest '-o takes precedence, and appends' => sub {
	spew("$TMP/old.log", "old line\n", 0644);
	my $s = session(argv => [ '-p', $c->{pem}, '-r', $pg->port, '-o', "$TMP/old.log" ]);
	ok($s->conn->login, 'login');
	$s->conn->close;
	$s->wait;
	like(slurp("$TMP/old.log"), qr/^old line\n.*connection authorized/, 'appended');
	is(slurp($s->{err}), '', 'nothing on standard error');
};

# A private /dev/log: a tmpfs over /dev in a mount namespace, with a link to our socket.
my $private = 'mount --make-rprivate / && mkdir -p "$T/dev" && mount --rbind /dev "$T/dev" && mount -t tmpfs none /dev && '
	. 'for f in null zero random urandom; do touch /dev/$f && mount --bind "$T/dev/$f" /dev/$f; done && ln -s "$T/syslog" /dev/log && exec "$@"';

subtest 'syslog, facility daemon, if descriptor 2 is the client' => sub {
	plan skip_all => 'needs root and mount namespaces'
		unless is_root() && !T::run([ 'unshare', '-m', 'true' ], quiet => 1)->{status};
	socket(my $syslog, AF_UNIX, SOCK_DGRAM, 0) or die;
	bind($syslog, pack_sockaddr_un("$TMP/syslog")) or die;
	chmod 0666, "$TMP/syslog";
	my $s = session(pg => $pg, nolog => 1, stderr => 'client', args => [ '-N', 'mypgssl', '-D', 'notice' ], wrap => [ 'unshare', '-m', 'sh', '-c', $private, 'sh' ], env => { T => $TMP });
	ok($s->conn->login, 'login');
	$s->conn->send("X\0\0\0\4");
	is($s->conn->rest, '', 'no other byte');
	$s->wait;
	recv $syslog, my $first, 4096, MSG_DONTWAIT;
	recv $syslog, my $last, 4096, MSG_DONTWAIT;
	like($first, qr/^<(?:29|30|28)>.*mypgssl\[\d+\]: connection authorized: user=alice/,
		'first line');
	like($last, qr/^<(?:29|30|28)>.*mypgssl\[\d+\]: disconnection: /, 'last line');
};
done_testing;
