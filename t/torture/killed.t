# SPDX-License-Identifier: ISC
#
# Parties that are killed or stopped at each step of a session, in both modes: the client, the
# session, the listener, xinetd, a backend, the postmaster. PostgreSQL that restarts. The session
# that is hit ends and all others go on; nothing is left behind; the log says what happened.
# sabotage: s/set_state(&children\[i\], ENDED);/;/ listen/children.c
# sabotage: s/prctl(PR_SET_PDEATHSIG, SIGUSR1, 0, 0, 0) < 0/false/ listen/listen.c
use lib 't/lib';
use T;
use T::ClientMode;
use T::Faults;
use T::Rules;
use Digest::MD5 qw(md5_hex);

limit(900);
my $clear = start_pg(max_connections => 60);
my $tls = start_pg(max_connections => 60, ssl => server_pem()->{cert}); # for client mode

# The cluster for this way to run pgssl.
sub pg_for { return $_[0] =~ /^-c/ ? $tls : $clear }

# psql through this service.
sub sslmode { return $_[0]{clear} ? 'disable' : 'require' }
sub run_psql { my ($s) = @_; return psql('select 6*7', port => $s->port, sslmode => sslmode($s)) }

# 100 MB, or as many kB as are asked for.
sub bulk {
	my ($kb) = (@_, 100_000);
	return "select repeat('x', 1000) from generate_series(1, $kb)";
}

# Bring a client to a step of its session.
my $startup = startup_packet(user => 'alice', database => 'sales');
my $hello = record(22, hello());
sub ask_for_tls { my ($k) = @_; $k->raw_send(ssl_request()); $k->recv(1) }
sub ask_much { my ($k) = @_; $k->query(bulk()); $k->recv(100_000) }
my %steps = (
	server => [
		[ 'a connection', sub { } ],
		[ 'an SSLRequest', \&ask_for_tls ],
		[ 'half a ClientHello', sub { ask_for_tls($_[0]); $_[0]->raw_send(substr $hello, 0, 100) } ],
		[ 'a handshake', sub { $_[0]->negotiate } ],
		[ 'half a startup packet',
			sub { $_[0]->negotiate; $_[0]->send(substr $startup, 0, 10) } ],
		[ 'a login', sub { $_[0]->login } ],
		[ 'a query', sub { $_[0]->login; ask_much($_[0]) } ],
	],
	client => [
		[ 'a connection', sub { } ],
		[ 'an SSLRequest', \&ask_for_tls ],
		[ 'half a startup packet', sub { $_[0]->raw_send(substr $startup, 0, 10) } ],
		[ 'a login', sub { $_[0]->login(clear => 1) } ],
		[ 'a query', sub { $_[0]->login(clear => 1); ask_much($_[0]) } ],
	],
);

sub steps { my ($s) = @_; return @{ $steps{ $s->{clear} ? 'client' : 'server' } } }

# A process that is a client, and has done this step.
sub client_at {
	my ($s, $do) = @_;
	pipe(my $read, my $write) or die;
	my $pid = fork // die "fork: $!\n";
	if (!$pid) {
		$SIG{TERM} = 'DEFAULT';
		close $read;
		my $conn = connect_to($s->port);
		$do->($conn);
		syswrite $write, 'done';
		sleep 600;
	}
	close $write;
	sysread($read, my $said, 4) or die "the client failed\n";
	return $pid;
}

# The only process that start_as has not noted.
sub one_session {
	my ($s) = @_;
	my @new;
	wait_for('a session', sub { @new = new_sessions($s); @new == 1 });
	return $new[0];
}

# ---- killed

for my $kind ('-d', 'xinetd', 'waiting', '-c -d', '-c xinetd') {
	subtest "a client or a session is killed, $kind" => sub {
		my $pg = pg_for($kind);
		my $s = start_as($kind, pg => $pg);
		my $other = log_in($s);
		note_processes($s);
		for (steps($s)) {
			my ($step, $do) = @$_;
			for my $victim (qw(client session)) {
				my $client = client_at($s, $do);
				my $session = one_session($s);
				my $lines = () = $s->log =~ /\n/g;
				kill 'KILL', $victim eq 'client' ? $client : $session;
				wait_for("$victim after $step: the session to end",
					sub { !new_sessions($s) });
				stop($client, 'KILL') if $victim eq 'session';
				wait_exit($client) if $victim eq 'client';
				nothing_left($s, "$victim after $step");
				wait_for('its backend to end', sub { $pg->backends == 1 });
				cmp_ok(scalar(() = $s->log =~ /\n/g), '>', $lines, 'it is logged')
					unless $victim eq 'session' && $kind =~ /xinetd/;
			}
		}
		my $logged = () = $s->log =~ /session process \d+ was terminated by signal 9: K/g;
		my $victims = () = steps($s);
		is($logged, $kind =~ /xinetd/ ? 0 : $victims, 'each session that a listener has lost');
		ok($other->query('select 1') && ($other->message)[0] eq 'T', 'the other session goes on');
		stop($s->{pid});
	};
}

for my $kind ('-d', 'waiting', '-c -d') {
	subtest "a listener is killed, $kind" => sub {
		my $pg = pg_for($kind);
		my $s = start_as($kind, pg => $pg);
		my @conn = map { my $k = connect_to($s->port); $_->[1]->($k); $k } steps($s);
		my @sessions = new_sessions($s);
		is(scalar @sessions, scalar @conn, 'a session at each step');
		my ($listener) = $kind ne 'waiting' ? $s->{pid}
			: grep { $_ != $s->{pid} } keys %{ $s->{kept} };
		kill 'KILL', $listener;
		$_->rest for @conn;
		wait_for('all sessions to end', sub { !grep { alive($_) } @sessions });
		isnt($_->{ended}, 'timeout', 'the client is closed') for @conn;
		wait_for('the backends to end', sub { $pg->backends == 0 });
		return unless $kind eq 'waiting';
		$_->close for @conn;
		warm_up($s);
		pass('xinetd starts another one');
		nothing_left($s, 'afterwards');
		stop($s->{pid});
	};
}

for my $kind ('xinetd', 'waiting') {
	subtest "xinetd is killed, $kind" => sub {
		my $s = start_as($kind, pg => $clear);
		my $conn = log_in($s);
		my @left = descendants($s->{pid});
		stop($s->{pid}, 'KILL');
		ok($conn->query('select 1') && ($conn->message)[0] eq 'T',
			'the session goes on');
		$conn->close;
		ok(log_in($s), 'and so does the waiting listener') if $kind eq 'waiting';
		kill 'TERM', grep { $_ != $s->{pid} } keys %{ $s->{kept} };
		wait_for('all to end', sub { !grep { alive($_) } @left });
		pass('all end');
	};
}

# Backends that are killed by themselves after part of what they have to say; in client mode before
# or under TLS. Clients get what was sent, or, before it is a whole message in client mode, an error.
my $welcome = msg('R', pack 'N', 0) . msg('Z', 'I');
my %replies = ('nothing' => '', 'half a message' => substr($welcome, 0, 4), 'a login' => $welcome,
	'half a row' => $welcome . substr msg('D', 'x' x 30_000), 0, 15_000);
my %clear_replies = ('nothing' => '', 'S' => 'S',
	'half a ServerHello' => "S\x16\3\3\0\x7a\2\0\0\x76\3\3");

# Read the startup packet, or the SSLRequest, send this, and die.
sub dying_backend {
	my ($length, $reply) = @_;
	return fake_backend(sub {
		my ($socket, $fake) = @_;
		$fake->take($socket, $length);
		syswrite $socket, $reply;
		kill 'KILL', $$;
	});
}

sub backend_dies {
	my ($what, $fake, $expected, $client) = @_;
	my $s = serve_listen(client => $client, pg => $fake);
	note_processes($s);
	my $conn = connect_to($s->port);
	$conn->negotiate unless $client;
	$conn->send($startup);
	like($conn->rest, $expected, "$what: the client gets that, or an error");
	is($conn->{ended}, 'closed', 'and is closed in order');
	$conn->close;
	nothing_left($s, 'afterwards');
	like($s->log, qr/disconnection: .*reason=server closed|the server closed the connection/,
		'it is logged');
	stop($s->{pid});
}

subtest 'a backend is killed while it speaks' => sub {
	backend_dies("client mode, $_", dying_backend(8, $clear_replies{$_}), qr/C08006/, 1)
		for sort keys %clear_replies;
	for my $what (sort keys %replies) {
		my $reply = $replies{$what};
		my $all = qr/\A\Q$reply\E\z/;
		backend_dies("server mode, $what", dying_backend(length $startup, $reply), $all);
		my $fake = tls_backend(server_pem()->{cert},
			then => sub { syswrite $_[0], $reply; kill 'KILL', $$ });
		backend_dies("client mode, TLS, $what", $fake,
			length $reply < length $welcome ? qr/C08006/ : $all, 1);
	}
};

for my $kind ('-d', '-c -d') {
	for my $victim (qw(backend postmaster)) {
		subtest "a $victim is killed, $kind" => sub {
			my $pg = pg_for($kind);
			my $s = start_as($kind, pg => $pg);
			my @conn = map { log_in($s) } 1 .. 3;
			ask_much($conn[1]);
			my @all = T::descendants($pg->{pid});
			kill 'KILL', $victim eq 'backend' ? $conn[0]{cancel}[0] : $pg->{pid};
			my @rest = map { $_->rest } @conn; # PostgreSQL ends all others too
			is($_->ending, 'closed', 'the client is closed in order') for @conn;
			like($rest[2], $victim eq 'backend' ? qr/C57P02/ : qr/C57P01/,
				'an idle client is told');
			$_->close for @conn;
			if ($victim eq 'postmaster') {
				wait_for('its children to end', sub { !grep { alive($_) } @all });
				my $down = connect_to($s->port);
				ok(!$down->login(clear => $s->{clear}), 'no login meanwhile');
				like($down->{error}, qr/\0C57P03\0/, '57P03');
				$down->close;
				wait_exit(delete $pg->{pid});
				$pg->start;
			}
			wait_for('PostgreSQL to recover', sub { run_psql($s)->{out} eq "42\n" });
			nothing_left($s, 'afterwards');
			stop($s->{pid});
		};
	}
}

for my $kind ('-d', 'xinetd', 'waiting', '-c -d') {
	subtest "PostgreSQL restarts, $kind" => sub {
		my $pg = pg_for($kind);
		my $s = start_as($kind, pg => $pg);
		my @conn = map { log_in($s) } 1, 2;
		ask_much($conn[1]);
		$pg->stop('INT');
		like($conn[0]->rest, qr/57P01/, 'an idle client is told');
		$conn[1]->rest;
		is($_->ending, 'closed', 'and closed') for @conn;
		my $down = connect_to($s->port);
		ok(!$down->login(clear => $s->{clear}), 'no login meanwhile');
		like($down->{error}, qr/\0C57P03\0/, '57P03');
		$_->close for @conn, $down;
		nothing_left($s, 'while it is down');
		$pg->start;
		is(run_psql($s)->{out}, "42\n", 'a login afterwards');
		nothing_left($s, 'afterwards');
		stop($s->{pid});
	};
}

# ---- stopped

for my $kind ('-d', '-c -d') {
	subtest "stopped and continued, $kind" => sub {
		my $pg = pg_for($kind);
		my $s = start_as($kind, pg => $pg);
		my $sum = md5_hex(join '', map { ('x' x 1000) . "\n" } 1 .. 20_000);
		for my $victim (qw(client session backend)) {
			my $out = "$TMP/$victim.out";
			my $client = spawn(cmd => T::Pg::psql_cmd('-c', bulk(20_000)), out => $out,
				env => T::Pg::pg_env(port => $s->port, sslmode => sslmode($s)));
			my %of = (client => sub { $client }, session => sub { new_sessions($s) },
				backend => sub {
					grep { slurp("/proc/$_/cmdline") =~ /alice sales/ } descendants($pg->{pid});
				});
			my $pid = wait_for($victim, sub { ($of{$victim}->())[0] });
			wait_for('some data', sub { -s $out || defined T::reap($client) });
			kill 'STOP', $pid;
			nap(0.5);
			is(run_psql($s)->{out}, "42\n", "$victim is stopped: others are served");
			kill 'CONT', $pid;
			is(wait_exit($client), 0, "$victim is continued: psql succeeds");
			is(md5_hex(slurp($out)), $sum, 'with all data');
		}
		kill 'STOP', $s->{pid};
		my $conn = connect_to($s->port);
		nap(0.2);
		kill 'CONT', $s->{pid};
		ok($conn->login(clear => $s->{clear}),
			'a client that came while the listener was stopped');
		$conn->close;
		nothing_left($s, 'afterwards');
		stop($s->{pid});
	};
}

# A client that goes on while its session is stopped.
my %go_on = (
	'a connection' => sub { my ($k, $s) = @_; return $k->login(clear => $s->{clear}) },
	'a handshake' => sub { my ($k) = @_; return $k->login },
	'half a startup packet' => sub {
		my ($k) = @_;
		return $k->send(substr $startup, 10) && ($k->message)[0] eq 'R';
	},
	'a login' => sub { my ($k) = @_; return $k->query('select 1') && ($k->message)[0] eq 'T' },
);
for my $kind ('-d', '-c -d') {
	subtest "a session is stopped at a step, $kind" => sub {
		my $s = start_as($kind, pg => pg_for($kind));
		for (grep { $go_on{ $_->[0] } } steps($s)) {
			my ($step, $do) = @$_;
			my $conn = connect_to($s->port);
			$do->($conn);
			my $session = one_session($s);
			kill 'STOP', $session;
			my $later = spawn(cmd => [ 'sh', '-c', "sleep 0.3; kill -CONT $session" ]);
			ok($go_on{$step}->($conn, $s), "stopped after $step: it goes on");
			wait_exit($later);
			$conn->close;
			nothing_left($s, 'afterwards');
		}
		stop($s->{pid});
	};
}
done_testing;
