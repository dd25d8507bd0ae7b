# SPDX-License-Identifier: ISC
#
# The log: the two lines of a session and their fields, names that try to forge a field, where the
# lines are written, and that none of them reaches the client.
# never: A byte on descriptor 2 while it is the client
# sabotage: s/bool plain = c > ' '/bool plain = c >= ' '/ log.c
# sabotage: s/t->heard = true;// tls.c
# sabotage: s/ || st->io == IO_FAILED;/;/ wire/startup.c
# sabotage: s/signal(SIGXFSZ, SIG_IGN);// wrapper.c
# sabotage: s/refuse_start(!closed \&\& !client);/_exit(EX_OSERR);/ wrapper.c
# sabotage: s/tm\.tm_zone/""/ log.c
# sabotage: s/s->source = \*from;// listen/listen.c
# sabotage: s/no_client = reports(o) ||/no_client =/ wrapper.c
# sabotage: s/!started_by_hand()/true/ wrapper.c
# sabotage: s/ \&\& !has_type(STDOUT_FILENO, S_IFSOCK)// wrapper.c
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
	like(slurp("/proc/$s->{pid}/cmdline"), qr/^pgssl: alice sales 127\.0\.0\.1\($port\) TLSv1\.3 TLS_AES_256_GCM_SHA384\0*$/,
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
		application_name => "x\r\n\"y");
	$s->conn->close;
	$s->wait;
	my ($line) = log_lines($s->{log}, qr/connection authorized/);
	like($line, qr/user=eve\\x20database=x\\x0a\\x5c\\x1b\[2J\\xc3\\xa4 database=a\\x20b application_name=x\\x0d\\x0a\\x22y host=/i, 'escaped');
	ok(!grep({ !/^[\x20-\x7e]*$/ } log_lines($s->{log})), 'only printable ASCII');
};

# Balancers and scanners connect and leave all day, many of them with a reset. Whatever was in good
# order before, the session ends with status 0 and one debug line with the client's address.
my $v2 = "\r\n\r\n\0\r\nQUIT\n";
my @proxy = (args => ['--proxy-protocol']);
my @probes = (
	[ 'nothing', sub { } ],
	[ 'SSLRequest', sub { $_[0]->raw_send(ssl_request()); is($_[0]->recv(1), 'S', 'S') } ],
	[ 'GSSENCRequest', sub { $_[0]->raw_send(gss_request()); is($_[0]->recv(1), 'N', 'N') } ],
	[ 'TLS', sub { ok($_[0]->negotiate, 'TLS') } ],
	[ 'client mode, SSLRequest', sub { $_[0]->raw_send(ssl_request()); is($_[0]->recv(1), 'N', 'N') }, client => 1 ],
	[ '--proxy-protocol, nothing', sub { }, @proxy ],
	[ 'PROXY UNKNOWN', sub { $_[0]->raw_send("PROXY UNKNOWN\r\n") }, @proxy ],
	[ 'PROXY LOCAL', sub { $_[0]->raw_send($v2 . pack('CCn', 0x20, 0, 0)) }, @proxy ],
	[ 'PROXY with an address', sub { $_[0]->raw_send("PROXY TCP4 192.0.2.7 192.0.2.1 99 5432\r\n") }, @proxy ],
);

# Wait until pgssl has read what the client sent.
sub taken {
	my ($conn) = @_;
	my $from = sprintf '%04X', $conn->local_port;
	wait_for('the bytes to be read', sub { slurp('/proc/net/tcp') =~ /:$from 0[15] \w+:00000000 / });
}

sub leave {
	my ($s, $end) = @_;
	$end eq 'reset' ? $s->conn->reset : $s->conn->close;
	is($s->wait, 0, "$end: status 0");
}

subtest 'a probe is one debug line' => sub {
	for my $probe (@probes) {
		my ($what, $speak, %o) = @$probe;
		for my $end (qw(close reset)) {
			my $s = session(pg => $pg, %o);
			wait_for('step 5', sub { slurp("/proc/$s->{pid}/cmdline") =~ /^pgssl: startup/ });
			my $host = $what =~ /address/ ? 'host=192.0.2.7 port=99' : 'host=127.0.0.1 port=' . $s->conn->local_port;
			$speak->($s->conn);
			taken($s->conn);
			leave($s, $end);
			like($s->log, qr/\A[^\n]* client left without a startup packet \Q$host\E\n\z/, "$what, $end: one line");
		}
	}
	my $s = session(pg => $pg, args => [qw(-D info)]);
	leave($s, 'close');
	is($s->log, '', 'none at level info');
};

subtest 'the same from a listener' => sub {
	my %listeners = map { my $o = $_->[2] || ''; ($o => serve_listen(pg => $pg, @$_[ 2 .. $#$_ ])) } @probes;
	my %count;
	for my $probe (@probes) {
		my ($what, $speak, $o) = @$probe;
		my $d = $listeners{ $o || '' };
		for my $end (qw(close reset)) {
			my $conn = connect_to($d->port);
			my $host = $what =~ /address/ ? 'host=192.0.2.7 port=99' : 'host=127.0.0.1 port=' . $conn->local_port;
			$speak->($conn);
			taken($conn);
			$conn->$end;
			$count{$d}++;
			my @lines;
			wait_for("a line, $what, $end", sub { @lines = log_lines($d->{log}, qr/host=/); @lines >= $count{$d} });
			like($lines[-1], qr/ client left without a startup packet \Q$host\E$/, "$what, $end");
		}
	}
	is(scalar(log_lines($_->{log}, qr/host=/)), $count{$_}, 'no other line') for values %listeners;
};

subtest 'a client that is gone before it is looked at' => sub {
	my @wrap = (wrap => [ 'sh', '-c', "until test -e $TMP/gone; do sleep 0.02; done; exec \"\$@\"", 'sh' ]);
	my @found = ([ {}, '[unknown]' ], [ { REMOTE_ADDR => '192.0.2.9', REMOTE_PORT => 7 }, '192.0.2.9 port=7' ],
		[ { REMOTE_HOST => '::ffff:192.0.2.9' }, '192.0.2.9 port=0' ]);
	for my $case (map { [ @$_, '' ], [ @$_, ssl_request() ] } @found) {
		my ($env, $host, $bytes) = @$case;
		my $s = session(pg => $pg, @wrap, env => $env);
		$s->conn->raw_send($bytes);
		$s->conn->reset;
		spew("$TMP/gone", '');
		is($s->wait, 0, 'status');
		unlink "$TMP/gone";
		like($s->log, qr/\A[^\n]* client left without a startup packet host=\Q$host\E\n\z/, "host=$host");
	}
	my $d = serve_listen(pg => $pg);
	for my $bytes ('', ssl_request()) {
		kill 'STOP', $d->{pid};
		my $k = connect_to($d->port);
		my $port = $k->local_port;
		$k->raw_send($bytes);
		$k->reset;
		kill 'CONT', $d->{pid};
		$d->logged(qr/ client left without a startup packet host=127\.0\.0\.1 port=$port$/);
	}
};

subtest 'a client that breaks the protocol, or breaks off inside a message, is one line' => sub {
	for my $case ([ 'HTTP', "GET / HTTP/1.0\r\n" ], [ 'HTTP after SSLRequest', ssl_request() . "GET / HTTP/1.0\r\n" ], [ 'an SSLRequest', "\0\0\0" ], [ 'a ClientHello', "\x16\x03\x01\x02\0\1\0" ], [ 'a PROXY header', "PROX", @proxy ]) {
		my ($what, $bytes, %o) = @$case;
		for my $end (qw(close reset)) {
			my $s = session(pg => $pg, args => [ @{ $o{args} || [] } ]);
			$s->conn->raw_send($bytes);
			taken($s->conn);
			$end eq 'reset' ? $s->conn->reset : $s->conn->close;
			is($s->wait, 76, "$what, $end: status");
			is(scalar(log_lines($s->{log}, qr/host=127/)), 1, 'one line');
			is(scalar(log_lines($s->{log})), 1, 'and no other') or diag($s->log);
		}
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

# "pgssl --sessions=/nosuch 2>&1 | less" showed nothing: descriptors 1 and 2 could be the client.
subtest 'standard error is not taken for the client if there is none' => sub {
	my %says = ('--sessions=/nosuch' => qr/could not open pid file directory "\/nosuch"/,
		"--check -p $c->{pem} -o /nosuch/x" => qr/could not open log file "\/nosuch\/x"/,
		'--nosuch' => qr/--nosuch: unknown or ambiguous option/,
		'-p /nosuch -r 5432' => qr/could not open "\/nosuch"/);
	for my $args (sort keys %says) {
		my $in = $args =~ /sessions|check/ ? 'echo |' : '</dev/null';
		my $r = T::run([ 'sh', '-c', "$in $PGSSL $args 2>&1 | cat" ], quiet => 1);
		like($r->{out}, $says{$args}, $args);
	}
	my $r = T::run([ 'script', '-qec', "$PGSSL --nosuch 2>&1 | cat", '/dev/null' ], quiet => 1);
	like($r->{out}, $says{'--nosuch'}, 'a terminal');
	$r = T::run([ 'sh', '-c', "echo | $PGSSL -p /nosuch -r 5432 2>&1 | cat" ], quiet => 1);
	is($r->{out}, '', 'pipes may be the client');
	my ($client, $its) = T::Serve::tcp_pair();
	my $pid = spawn(cmd => [ $PGSSL, '-p', '/nosuch', '-r', 5432 ], out => $its, err => '/dev/null',
		before => sub { POSIX::dup2(1, 2) });
	close $its;
	is(join('', readline $client), '', 'a socket on standard output may be, whatever the input is');
	wait_exit($pid);
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

subtest '--check says that nobody listens on /dev/log' => sub {
	plan skip_all => 'needs root and mount namespaces'
		unless is_root() && !T::run([ 'unshare', '-m', 'true' ], quiet => 1)->{status};
	my @check = ('unshare', '-m', 'sh', '-c', $private, 'sh', $PGSSL, '--check', '-p', $c->{pem}, '-r', '127.0.0.1:' . $pg->port);
	my $report = sub { T::run([ @check, @_ ], env => { T => $TMP }, quiet => 1)->{out} };
	my $line = qr{^WARNING  log: no syslog daemon listens on /dev/log, so the log is lost: start one, or use -o FILE$}m;
	like($report->(), $line, 'said');
	unlike($report->('-o', "$TMP/file.log"), $line, 'not with -o');
	socket(my $syslog, AF_UNIX, SOCK_DGRAM, 0) or die;
	bind($syslog, pack_sockaddr_un("$TMP/syslog")) or die;
	chmod 0666, "$TMP/syslog";
	unlike($report->(), $line, 'nor with a syslogd');
	unlink "$TMP/syslog";
};

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

# strftime() returned 0, and the line began with whatever was in memory.
subtest 'a time zone with a long name' => sub {
	my $zone = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ';
	run([ $PGSSL, '-d', free_port(), '-f', '-p', "$TMP/missing.pem", '-o', "$TMP/zone.log" ],
		env => { TZ => "<$zone>0" }, quiet => 1);
	like(slurp("$TMP/zone.log"), qr/^[-\d]+ [:.\d]+ $zone pgssl\[\d+\]: .*missing\.pem/, 'in the line');
};

subtest 'no /dev/null' => sub {
	plan skip_all => 'needs strace' if run([qw(strace -V)], quiet => 1)->{status};
	my $r = run([ qw(strace -qq -P /dev/null -e inject=openat:error=EMFILE -o), "$TMP/trace",
		$PGSSL, '-p', $c->{pem}, '-r', '1' ], quiet => 1);
	is($r->{status}, 71, 'status');
	like($r->{err}, qr/^pgssl\[\d+\]: could not open \/dev\/null: Too many open files$/, 'one line');
};

# SIGXFSZ ended the listener, and with it all sessions, and each session that logged before step 5.
subtest 'a log file that reaches the limit of file sizes' => sub {
	my $r = run([ 'bash', '-c', 'ulimit -f 0; exec "$@"', 'bash', $PGSSL, '-d', free_port(),
		'-f', '-p', "$TMP/missing.pem", '-o', "$TMP/none.log" ], quiet => 1);
	is("$r->{status} $r->{signal}", '66 0', 'a start that fails has its status');
	my $listener = serve_listen(pg => $pg, wrap => [ 'bash', '-c', 'ulimit -f 2; exec "$@"', 'bash' ]);
	for my $n (1 .. 14) {
		kill 'HUP', $listener->{pid}; # it logs a line, too
		my $conn = T::Conn::connect_to($listener->port);
		ok($conn->login, "session $n");
		$conn->close;
	}
	is(-s $listener->{log}, 2048, 'the log is full');
	ok(alive($listener->{pid}), 'and the listener logs in vain');
};
done_testing;
