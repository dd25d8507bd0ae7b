# SPDX-License-Identifier: ISC
#
# -d: the command lines of the PostgreSQL handbook, failed starts, replaced certificates, too many
# clients, stopping, and running out of descriptors.
# sabotage: s/serving >= (unsigned)options->max_connections/false/ listen/children.c
# sabotage: s/memcmp(now, seen, sizeof now) == 0/true/ listen/reload.c
# sabotage: s/log_signal(pid, WTERMSIG(status));/;/ listen/children.c
# sabotage: s/(data\[0\].permitted & 1U << CAP_KILL) == 0/false/ sandbox/sandbox.c
# sabotage: s/prctl(PR_SET_PDEATHSIG, SIGUSR1, 0, 0, 0)/0/ listen/listen.c
# sabotage: /^void log_open_syslog/,/^}/s/if (sink.is_file)/if (false)/ log.c
# sabotage: /^static void write_line/,/^}/s/if (sink.is_file)/if (false)/ log.c
use lib 't/lib';
use T;

my $c = server_pem();
my $pg = start_pg();
my @verify = (sslmode => 'verify-full', rootcert => $c->{root}, host => 'localhost');

# A start waits a minute for a name: the other tests run meanwhile.
my $unknown = do {
	my @cmd = ($PGSSL, '-d', free_port(), '-p', $c->{pem}, '-r', 'no-such-host.invalid:5432');
	{ pid => spawn(cmd => \@cmd, err => "$TMP/unknown.err", quiet => 1), err => "$TMP/unknown.err" };
};

# The process id in this pid file.
sub pid_in { my ($file) = @_; return slurp($file) =~ /^(\d+)/ ? $1 : undef }

sub gone { my ($pid) = @_; wait_for("process $pid to end", sub { reap($pid); !alive($pid) }); return 1 }

subtest 'from the handbook: -P/tmp/ -p FILE -d PORT -r localhost:PORT' => sub {
	my $port = free_port();
	my @cmd = ($PGSSL, '-P/tmp/', '-p', $c->{pem}, '-d', $port, '-r', 'localhost:' . $pg->port);
	my $r = T::run([ @cmd, '-o', "$TMP/daemon.log" ]);
	is($r->{status}, 0, 'the command exits with 0') or return diag($r->{err});
	my $file = "/tmp/pgssl.localhost.$port.pid";
	my $pid = pid_in($file);
	ok($pid && alive($pid), 'the listener runs, and the pid file exists');
	like(slurp("/proc/$pid/stat"), qr/^\d+ \(\S+\) \S \d+ $pid $pid 0 /,
		'it has its own session and no terminal');
	is(join(' ', map { readlink "/proc/$pid/fd/$_" } 0 .. 2), '/dev/null /dev/null /dev/null',
		'it keeps no descriptor of the command') if is_root();
	my %mine = map { (readlink // '') =~ /^socket:\[(\d+)/ ? ($1 => 1) : () } glob "/proc/$pid/fd/*";
	my @datagram = grep { (split)[4] eq '0002' && $mine{ (split)[6] } } split /\n/, slurp('/proc/net/unix');
	is("@datagram", '', 'with -o it has no socket for syslog');
	is(psql('select 6*7', port => $port, @verify)->{out}, "42\n", 'psql connects');
	is(conninfo(psql('\conninfo', port => $port, @verify)->{out})->{protocol}, 'TLSv1.3',
		'conninfo');
	my $second = T::run(\@cmd, quiet => 1);
	isnt($second->{status}, 0, 'a second listener does not start');
	like($second->{err}, qr/\Q$file\E.*locked by process $pid\b/,
		'the error names the first process');
	kill 'TERM', $pid;
	gone($pid);
	ok(!-e $file, 'SIGTERM ends it and removes the pid file');
	like(slurp("$TMP/daemon.log"), qr/listening on IPv4 address "0\.0\.0\.0", port $port\n.*listening on IPv6 address "::", port $port\n/, 'the log has the addresses');
	unlike(slurp("$TMP/daemon.log"), qr/^(?!\d{4}-\d\d-\d\d [\d:]{8}\.\d{3} \S+ pgssl\[\d+\]: )/m, 'each line begins with the time');
};

subtest 'from the handbook: -P/tmp/ -p FILE -d PORT -r PORT' => sub {
	my $port = free_port();
	is(T::run([ $PGSSL, '-P/tmp/', '-p', $c->{pem}, '-d', $port, '-r', $pg->port ])->{status},
		0, 'the listener starts');
	is(psql('select 6*7', port => $port, @verify)->{out}, "42\n", 'psql connects');
	stop_daemon("/tmp/pgssl.localhost.$port.pid");
};

sub stop_daemon {
	my ($file) = @_;
	my $pid = pid_in($file) or return fail("no pid in $file");
	kill 'TERM', $pid;
	gone($pid);
	ok(!-e $file, 'the listener ends and removes its pid file');
}

subtest 'from the handbook, on one machine: -p FILE -d PORT -r PORT and -c -d PORT -r localhost:PORT' => sub {
	my ($server, $client) = (free_port(), free_port());
	is(T::run([ $PGSSL, '-P/tmp/', '-p', $c->{pem}, '-d', $server, '-r', $pg->port ])->{status},
		0, 'the server side starts');
	is(T::run([ $PGSSL, '-P/tmp/', '-c', '-d', $client, '-r', "localhost:$server" ])->{status},
		0, 'the client side starts');
	my @plain = (port => $client, sslmode => 'disable');
	is(psql('select 6*7', @plain)->{out}, "42\n", 'psql without TLS through both');
	is(psql("select repeat('x', 1000000)", @plain)->{out}, 'x' x 1000000 . "\n",
		'a large answer');
	is(psql('select 1', @plain, host => '::1')->{out}, "1\n", 'over IPv6');
	my $listening = slurp('/proc/net/tcp') . slurp('/proc/net/tcp6');
	my $hex = sprintf '%04X', $client;
	my $loopback = '00000000000000000000000001000000 0100007F';
	is(join(' ', sort $listening =~ /: ([0-9A-F]+):$hex [0-9A-F:]+ 0A /g), $loopback,
		'the client side, which lends its identity to every client, listens on loopback only');
	stop_daemon("/tmp/pgssl.localhost.$_.pid") for $client, $server;
};

# Ports and addresses are those of the handbook, which are free in network namespaces of our own.
# Only the pid files are not in /tmp.
subtest 'from the handbook, on two machines: -d 9000 -r localhost:PORT and -c -d 5432 -r 192.168.1.2:9000' => sub {
	plan skip_all => 'needs root and network namespaces' unless can_netns();
	my ($server, $client) = (net_host(), net_host());
	net_link($server, '192.168.1.2/24', $client, '192.168.1.3/24');
	my $far = start_pg(netns => $server, listen => '127.0.0.1,::1');
	mkdir "$TMP/$_" for qw(there here);
	my $there = T::run([ $PGSSL, "-P$TMP/there/", '-p', $c->{pem}, '-d', 9000, '-r',
		'localhost:' . $far->port ], netns => $server);
	is($there->{status}, 0, 'the server side starts') or diag($there->{err});
	my $here = T::run([ $PGSSL, "-P$TMP/here/", '-c', '-d', 5432, '-r', '192.168.1.2:9000' ],
		netns => $client);
	is($here->{status}, 0, 'the client side starts') or diag($here->{err});
	is(psql('select 6*7', netns => $client, host => '127.0.0.1', port => 5432,
		sslmode => 'disable')->{out}, "42\n", 'psql without TLS through both');
	stop_daemon("$TMP/there/pgssl.localhost.9000.pid");
	stop_daemon("$TMP/here/pgssl.localhost.5432.pid");
};

subtest "client mode: SIGHUP reloads the authorities, also those of the system" => sub {
	my $server = serve_listen(pg => $pg);
	my @client = ('-c', '-A', 'system', '-r', 'localhost:' . $server->port, '-o',
		"$TMP/system.log");
	my $s = serve_listen(argv => \@client, env => { SSL_CERT_FILE => $c->{root} },
		listening => 0);
	wait_for('the client side to listen', sub { slurp("$TMP/system.log") =~ /listening on/ });
	kill 'HUP', $s->{pid};
	wait_for('the reload', sub { slurp("$TMP/system.log") =~ /reloaded certificate/ });
	like(slurp("$TMP/system.log"), qr/reloaded certificate and key/, 'reloaded');
	is(psql('select 6*7', port => $s->port, sslmode => 'disable')->{out}, "42\n",
		'the new authorities work');
	stop($_->{pid}) for $s, $server;
};

subtest 'client mode: too many clients' => sub {
	my $server = serve_listen(pg => $pg);
	my $s = serve_listen(argv => [ '-c', '-r', 'localhost:' . $server->port,
		'--max-connections=1', '-o', "$TMP/client.log" ], listening => 0);
	wait_for('the client side to listen', sub { slurp("$TMP/client.log") =~ /listening on/ });
	my $one = spawn(cmd => psql_cmd('-c', 'select pg_sleep(60)'),
		env => pg_env(port => $s->port, sslmode => 'disable'));
	$server->logged(qr/connection authorized/);
	like(psql('select 1', port => $s->port, sslmode => 'disable')->{err},
		qr/FATAL:  sorry, too many clients already/, 'the second client gets the error');
	stop($s->{pid});
	stop($server->{pid});
	wait_exit($one);
	psql("select pg_terminate_backend(pid) from pg_stat_activity where query='select pg_sleep(60)'", port => $pg->port, sslmode => 'disable', user => 'postgres');
	wait_for('its backend to be gone', sub { $pg->backends == 0 });
};

subtest 'a failed start is reported' => sub {
	my $taken = free_port();
	my $other = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $taken,
		Listen => 1, ReuseAddr => 1) or die;
	my @good = ('-d', free_port(), '-p', $c->{pem}, '-r', $pg->port);
	my %bad = (
		'a port in use' => [ [ @good, '-d', $taken ], 69, qr/could not listen on address 0\.0\.0\.0, port $taken: Address already in use/ ],
		'no certificate' => [ [ @good, '-p', "$TMP/none.pem" ], 66,
			qr/none\.pem.*No such file/ ],
		'a pid file in a missing directory' => [ [ @good, '-P', "$TMP/none/" ], 73,
			qr{\Q$TMP\E/none} ],
		'an unknown user' => [ [ @good, '-s', 'no-such-user' ], 67, qr/no-such-user/ ],
		'port 0' => [ [ @good, '-d', '0' ], 64, qr/-d 0: the port/ ],
		'-f without -d' => [ [ '-f' ], 64, qr/-f requires -d or a listening socket/ ],
	);
	for my $what (sort keys %bad) {
		my ($args, $status, $pattern) = @{ $bad{$what} };
		$args = [ grep { !ref } @$args ];
		splice @$args, 2, 2 if $what eq 'no certificate'; # -p may be given twice
		my $r = T::run([ $PGSSL, @$args ], quiet => 1);
		is($r->{status}, $status, $what);
		like($r->{err}, $pattern, 'the reason on standard error');
	}
	my $r = T::run([ 'sh', '-c', "$PGSSL -d $taken -p $c->{pem} 2>&1" ], quiet => 1);
	like($r->{out}, qr/could not listen/,
		'also if standard error is the same as standard output');
	is(T::run([ 'pgrep', '-f', "pgssl -d $taken" ], quiet => 1)->{out}, '',
		'no process is left');
};

subtest 'addresses' => sub {
	for my $case ([ '127.0.0.1', '127.0.0.1', '::1' ], [ '[::1]', '::1', '127.0.0.1' ]) {
		my ($bind, $works, $not) = @$case;
		my $s = serve_listen(pg => $pg, bind => $bind);
		is(psql('select 1', port => $s->port, host => $works)->{out}, "1\n",
			"$bind: $works");
		isnt(psql('select 1', port => $s->port, host => $not)->{status}, 0,
			"$bind: not $not");
		stop($s->{pid});
	}
	my $s = serve_listen(pg => $pg);
	is(psql('select 1', port => $s->port, host => $_)->{out}, "1\n", "all addresses: $_")
		for '127.0.0.1', '::1';
	like($s->log, qr/connection authorized:.* host=::1 /, 'the log has the address');
	stop($s->{pid});
};

# The SHA-256 fingerprint of the certificate that the server sends.
sub shown {
	my ($s) = @_;
	my $conn = connect_to($s->port);
	$conn->negotiate or return 'no handshake';
	my $x = Net::SSLeay::get_peer_certificate($conn->{ssl});
	my $print = Net::SSLeay::X509_get_fingerprint($x, 'sha256') =~ s/://gr;
	$conn->close;
	return lc $print;
}

sub replace_file { my ($path, $text, $mode) = @_; spew("$path.new", $text, $mode); rename "$path.new", $path or die }

subtest 'replaced files are used without a signal; bad ones are not' => sub {
	my ($old, $new) = map { make_cert(name => "renew$_", issuer => $c->{ca}) } 1, 2;
	my $pem = make_pem($old, "$TMP/renew.pem");
	my $s = serve_listen(pg => $pg, pem => $pem);
	is(shown($s), fingerprint($old->{cert}), 'the first certificate');
	replace_file($pem, slurp($new->{chain}) . slurp($new->{key}), 0600);
	is(shown($s), fingerprint($new->{cert}), 'replaced: the second one');
	replace_file($pem, slurp($old->{chain}) . slurp($new->{key}), 0600);
	is(shown($s), fingerprint($new->{cert}), 'a key that does not match: the second one stays');
	$s->logged(qr/could not reload certificate and key, the old ones stay in use: the private key in "\Q$pem\E" does not belong/);
	unlink $pem;
	is(shown($s), fingerprint($new->{cert}), 'no file: the second one stays');
	$s->logged(qr/stay in use: could not open "\Q$pem\E"/);
	shown($s) for 1 .. 3;
	is(scalar(() = $s->log =~ /could not open/g), 1, 'the failure is logged once');
	make_pem($old, $pem);
	is(shown($s), fingerprint($old->{cert}), 'a good file: it is used');
	kill 'HUP', $s->{pid};
	wait_for('SIGHUP to reload',
		sub { log_lines($s->{log}, qr/reloaded certificate and key/) == 3 });
	is(shown($s), fingerprint($old->{cert}), 'clients are still served');
	stop($s->{pid});
};

subtest 'a key with a passphrase: the command runs once, and a replaced key is still read' => sub {
	my ($old, $new) = map { make_cert(name => "locked$_", issuer => $c->{ca}, passphrase => 'sesame') } 1, 2;
	my $pem = make_pem($old, "$TMP/locked.pem");
	my $s = serve_listen(pg => $pg, pem => $pem,
		args => [ "--passphrase-command=echo run >>$TMP/runs; echo sesame" ]);
	is(shown($s), fingerprint($old->{cert}), 'the first certificate');
	replace_file($pem, slurp($new->{chain}) . slurp($new->{key}), 0600);
	is(shown($s), fingerprint($new->{cert}), 'the second one');
	is(slurp("$TMP/runs"), "run\n", 'the command ran once');
	stop($s->{pid});
};

subtest 'too many clients' => sub {
	my $s = serve_listen(pg => $pg, args => [ '--max-connections=2' ]);
	my $authorized = sub { return scalar(() = $pg->log =~ /connection authorized: user=alice/g) };
	my @two = map { connect_to($s->port) } 1, 2;
	ok($_->login, 'the first two log in') for @two;
	is($pg->backends, 2, 'PostgreSQL has two backends');
	my $before = $authorized->();
	my $third = connect_to($s->port);
	ok($third->negotiate, 'the third gets a handshake');
	$third->send(startup_packet(user => 'alice', database => 'sales'));
	my $e = parse_error($third->rest);
	is("$e->{C} $e->{M}", '53300 sorry, too many clients already', 'and the error');
	$third->close;
	like(psql('select 1', port => $s->port)->{err}, qr/FATAL:  sorry, too many clients already/,
		'so is psql');
	is($authorized->() - $before, 0, 'PostgreSQL was contacted for neither');

	$two[0]->query('select pg_sleep(60)');
	wait_for('the query to run', sub { psql("select count(*) from pg_stat_activity where query like '%sleep(60)%' and state='active' and pid<>pg_backend_pid()", port => $pg->port, sslmode => 'disable', user => 'postgres')->{out} == 1 });
	my $cancel = connect_to($s->port);
	$cancel->raw_send(cancel_request(@{ $two[0]{cancel} }));
	my ($type, $body);
	do { ($type, $body) = $two[0]->message } until !defined $type || $type eq 'E';
	like($body || '', qr/canceling statement due to user request/,
		'a cancel request still goes through');
	$cancel->close;

	wait_for('all but two sessions to end', sub { $s->sessions == 2 });
	my @half = map { connect_to($s->port) } 3, 4;
	wait_for('four sessions', sub { $s->sessions == 4 });
	my $fifth = connect_to($s->port);
	is($fifth->raw_read, '', 'beyond twice the limit: closed at once');
	$s->logged(qr/closed 1 new connection, the last from 127\.0\.0\.1: there are 4 sessions \(--max-connections=2, --max-per-source=10\)/);
	$_->close for @two, @half;
	wait_for('all sessions to end', sub { $s->sessions == 0 });
	is(psql('select 1', port => $s->port)->{out}, "1\n", 'new clients are served again');
	stop($s->{pid});
};

subtest 'SIGTERM without --grace ends the sessions' => sub {
	my $s = serve_listen(pg => $pg);
	my $conn = connect_to($s->port);
	ok($conn->login, 'a session');
	my @all = ($s->{pid}, $s->sessions);
	is(stop($s->{pid}), 0, 'SIGTERM: exit status 0');
	is(scalar(grep { alive($_) } @all), 0, 'no process is left');
	$conn->rest;
	ok($conn->got_close_notify, 'the client got close_notify');
};

# Stopping took 5 s and a SIGKILL if a client had just connected: a child that received SIGTERM
# between fork() and its own handler ignored it. It must end like the others.
subtest 'SIGTERM just after a fork ends the child too' => sub {
	plan skip_all => 'measures time' if $T::SLOW > 1;
	my $killed = 0;
	for (1 .. 10) {
		my $s = serve_listen(pg => $pg);
		my @clients = map { connect_to($s->port) } 1 .. 12;
		stop($s->{pid});
		$killed++ if $s->log =~ /terminated by signal 9/;
	}
	is($killed, 0, 'no child had to be killed');
};

subtest '--grace' => sub {
	my $s = serve_listen(pg => $pg, args => [ '--grace=600' ]);
	my ($conn, $other) = map { connect_to($s->port) } 1, 2;
	ok($_->login, 'a session') for $conn, $other;
	kill 'TERM', $s->{pid};
	$s->logged(qr/stopping: no new connections; 2 sessions may continue for 600 s/);
	isnt(psql('select 1', port => $s->port)->{status}, 0, 'a new connection is refused');
	$conn->query('select 6*7');
	my $answer = '';
	while (my ($type, $body) = $conn->message) { $answer .= $body if $type eq 'D'; last if $type eq 'Z' }
	like($answer, qr/42/, 'the session continues');
	$conn->close;
	wait_for('that session to end', sub { $s->sessions == 1 });
	ok(alive($s->{pid}), 'the listener waits for the other session');
	$other->close;
	is(wait_exit($s->{pid}), 0, 'then the listener ends');
};

subtest 'a second SIGTERM ends the wait of --grace' => sub {
	my $s = serve_listen(pg => $pg, args => [ '--grace=600' ]);
	my $conn = connect_to($s->port);
	ok($conn->login, 'a session');
	kill 'TERM', $s->{pid};
	$s->logged(qr/stopping/);
	is(stop($s->{pid}), 0, 'the listener ends');
};

subtest 'sessions do not outlive a listener that is killed' => sub {
	my $s = serve_listen(pg => $pg);
	my $conn = connect_to($s->port);
	ok($conn->login, 'a session');
	my ($child) = $s->sessions;
	kill 'KILL', $s->{pid};
	gone($s->{pid});
	ok(gone($child), 'the session has ended');
};

subtest 'a session that a signal ends is logged' => sub {
	my $s = serve_listen(pg => $pg);
	my $conn = connect_to($s->port);
	ok($conn->login, 'a session');
	my ($child) = grep { $_ != $s->{pid} } $s->sessions;
	kill 'KILL', $child;
	$s->logged(qr/session process $child was terminated by signal 9: Killed/);
	is(psql('select 1', port => $s->port)->{out}, "1\n", 'the listener serves');
};

subtest 'root without CAP_KILL is told' => sub {
	plan skip_all => 'needs root' unless is_root();
	my $s = serve_listen(pg => $pg, wrap => [qw(setpriv --bounding-set=-kill)]);
	$s->logged(qr/cannot end sessions that run as another user: start with CAP_KILL, or as that user/);
	is(psql('select 1', port => $s->port)->{out}, "1\n", 'the listener serves');
};

subtest 'out of descriptors: logged and tried again' => sub {
	plan skip_all => 'needs prlimit(1)' unless grep { -x "$_/prlimit" } split /:/, $ENV{PATH};
	my $s = serve_listen(pg => $pg);
	my $used = 0; # the first free descriptor
	$used++ while -l "/proc/$s->{pid}/fd/$used";
	T::run([ 'prlimit', "--pid=$s->{pid}", "--nofile=$used:" ]);
	my $conn = connect_to($s->port);
	$s->logged(qr/could not accept a connection: Too many open files; trying again shortly/);
	T::run([ 'prlimit', "--pid=$s->{pid}", '--nofile=1024:' ]);
	ok($conn->login, 'the waiting client is served afterwards');
	stop($s->{pid});
};

subtest '-d is refused if started by a super-server' => sub {
	my $s = session(argv => [ '-d', free_port(), '-p', $c->{pem} ], stderr => 'client');
	is($s->conn->raw_read, '', 'the client receives nothing');
	is($s->wait, 64, 'a usage error');
};

subtest 'a start that has waited a minute for its name' => sub {
	is(wait_exit($unknown->{pid}, 100) >> 8, 68, 'ends');
	like(slurp($unknown->{err}), qr/no-such-host\.invalid:5432: could not look up the host: .*; trying again for up to a minute\n(?s:.*)no-such-host\.invalid/, 'and says why, before and after');
};
done_testing;
