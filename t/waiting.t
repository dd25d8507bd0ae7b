# SPDX-License-Identifier: ISC
#
# A waiting service: the super-server passes its listening socket, and pgssl is the listener. The
# shipped files under xinetd and two inetds, as shipped; systemd's protocol (LISTEN_FDS); a start
# that fails; signals. (t/waiting_systemd.t has the units, t/idle_exit.t the end by --idle-exit.)
# never: A byte read from a listening socket.
# sabotage: s/^\t\tlisten_turn_one_away();$// wrapper.c
# sabotage: inetd.conf.example s/\twait.6000\t/\tnowait.6000\t/
# sabotage: xinetd.d/pgssl-wait s/= yes$/= no/
# sabotage: s/socket_option(STDIN_FILENO, SO_TYPE) != 0 && !on_stdin/is_connection(STDIN_FILENO)/ listen/inherit.c
# sabotage: s/owner != getpid()/false/ listen/inherit.c
# sabotage: s/unsetenv("LISTEN_FDNAMES");// listen/inherit.c
# sabotage: s/return on_stdin || passed > 0;/return passed > 0;/ listen/inherit.c
# sabotage: s/ && socket_option(fd, SO_TYPE) == SOCK_STREAM// listen/inherit.c
# sabotage: s/signal(SIGTERM, SIG_IGN);// listen/listen.c
# sabotage: s/{SIGTERM, SIGUSR1}/{SIGTERM}/ net/stream.c
# sabotage: s/client = accept_client(listeners\[i\].fd, &from);/;/ listen/listen.c
use lib 't/lib';
use T;
use Fcntl qw(F_DUPFD);
use IO::Socket::IP;
use Socket qw(AF_UNIX SOCK_DGRAM SOCK_SEQPACKET SOCK_STREAM pack_sockaddr_un);

my $c = server_pem();
my $pg = start_pg();
my @verify = (sslmode => 'verify-full', rootcert => $c->{root});
my $broken = spew("$TMP/broken.pem", "nothing\n", 0600);

sub query { my ($port, %o) = @_; return psql('select 6*7', port => $port, @verify, %o) }

sub tcp_listener { return IO::Socket::IP->new(LocalHost => $_[0] || '127.0.0.1', LocalPort => $_[1] || free_port(), Listen => 5, ReuseAddr => 1, V6Only => 1) || die "listen: $@\n" }

# A socket of another kind, bound and, if it can, listening.
sub unix_listener {
	my ($type, $path) = @_;
	socket(my $s, AF_UNIX, $type, 0) or die "socket: $!\n";
	bind($s, pack_sockaddr_un($path)) or die "$path: $!\n";
	listen $s, 5;
	return $s;
}

# pgssl as systemd starts it: `sockets` from descriptor 3 on, LISTEN_FDS and LISTEN_PID; listen_pid:
# another process; in: standard input.
sub passed {
	my ($sockets, %o) = @_;
	my $self = T::Serve::service(pg => $pg, %o);
	$self->{pid} = spawn(%o, cmd => [ 'pgssl', @{ $self->{args} } ], program => $PGSSL, before => sub {
		POSIX::setpgid(0, 0);
		my @high = map { fcntl $_, F_DUPFD, 100 } @$sockets;
		POSIX::dup2($high[$_], 3 + $_) for 0 .. $#high;
		@ENV{qw(LISTEN_PID LISTEN_FDS LISTEN_FDNAMES LISTEN_PIDFDID)} = ($o{listen_pid} || $$, scalar @$sockets, 'a:b', 1) if @$sockets;
	});
	return $self;
}

sub exit_status { my ($s) = @_; return wait_exit($s->{pid}) >> 8 }

my %start = (
	xinetd => sub { serve_xinetd(shipped => 'pgssl-wait', pg => $pg, @_) },
	'openbsd-inetd' => sub { serve_inetd(shipped => 'wait', pg => $pg, @_) },
	'inetutils-inetd' => sub { serve_inetd(shipped => 'wait', inetd => 'inetutils', pg => $pg, @_) },
);

for my $name (sort keys %start) {
	subtest "the shipped entry under $name" => sub {
		my $s = $start{$name}->(args => ['--idle-exit=1']);
		is(scalar $s->sessions, 0, 'nothing runs while nobody is connected');
		is(query($s->port)->{out}, "42\n", 'a query');
		$s->logged(qr/listening on IPv4 address "127\.0\.0\.1", port @{[ $s->port ]}$/);
		my $conn = connect_to($s->port);
		ok($conn->login, 'a session');
		my ($listener, @more);
		wait_for('one listener and one child, for the session', sub {
			($listener, @more) = sort { $a <=> $b } $s->sessions;
			return @more == 1;
		});
		my $nobody = getpwnam 'nobody';
		like(slurp("/proc/$listener/status"), qr/^Uid:\s+$nobody\s+$nobody\s+$nobody\s.*^CapPrm:\s+0+$/ms, 'of a user without rights') if is_root();
		$conn->close;
		$s->logged(qr/stopped after 1 s without a session \(--idle-exit\)/);
		wait_for('the listener to end', sub { !$s->sessions });
		is(query($s->port)->{out}, "42\n", 'the next client starts it again');
		is(scalar(() = $s->log =~ /listening on/g), 2, '... once');
		stop($s->{pid});
	};

	# Without a listener that takes the client, the super-server would start pgssl for it again
	# and again.
	subtest "a start that fails under $name" => sub {
		my $s = $start{$name}->(pem => $broken);
		like(query($s->port)->{err}, qr/alert internal error/, 'the client gets an alert') for 1 .. 3;
		is(scalar(() = $s->log =~ /no certificate/g), 3, 'one start for each client') or diag($s->log);
		wait_for('all of them to end', sub { !$s->sessions });
		stop($s->{pid});
	};

	subtest "a wrong option under $name" => sub {
		my $s = $start{$name}->(args => ['--no-such-option']);
		my $conn = connect_to($s->port);
		$conn->send(ssl_request());
		is($conn->rest, '', 'the client is closed');
		wait_for('the start to end', sub { !$s->sessions });
		is(scalar(() = $s->log =~ /unknown or ambiguous option/g), 1, 'after one start') or diag($s->log);
		stop($s->{pid});
	};
}

subtest 'systemd-socket-activate: IPv4, IPv6 and Unix at once' => sub {
	my $port = free_port();
	my $s = T::Serve::service(pg => $pg, port => $port, args => [ '--idle-exit=1' ]);
	my $socket = "$TMP/.s.PGSQL.5432";
	my $activate = spawn(cmd => [ 'systemd-socket-activate', '-l', "127.0.0.1:$port", '-l', "[::1]:$port", '-l', $socket, $PGSSL, @{ $s->{args} } ]);
	wait_for('the sockets', sub { T::Serve::listening($port) && -S $socket });
	is(query($port)->{out}, "42\n", 'IPv4');
	is(query($port, host => '::1', sslmode => 'verify-ca')->{out}, "42\n", 'IPv6');
	my $conn = T::Conn->new((unix_client($socket)) x 2);
	ok($conn->login, 'Unix');
	$conn->close;
	like($s->log, qr/listening on IPv4 address "127\.0\.0\.1", port $port\n.*listening on IPv6 address "::1", port $port\n.*listening on Unix socket "\Q$socket\E"\n/, 'the log names all three');
	is(wait_exit($activate), 0, '--idle-exit ends it with status 0');
};

sub unix_client {
	my ($path) = @_;
	socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die "socket: $!\n";
	connect($s, pack_sockaddr_un($path)) or die "$path: $!\n";
	return $s;
}

subtest 'LISTEN_FDS that is meant for another process is ignored' => sub {
	my $s = session(pg => $pg, env => { LISTEN_PID => 1, LISTEN_FDS => 1 });
	ok($s->conn->login, 'standard input is a client as ever');
	$s->conn->close;
	my $other = passed([ tcp_listener() ], listen_pid => $$);
	exit_status($other);
	unlike($other->log, qr/listening on/, 'no listener');
};

# systemd's LISTEN_FDS also names the connection of Accept=yes. A port scanner that had reset its
# connection left a failed unit: its socket has no peer any more and was taken for a wrong one.
subtest 'LISTEN_FDS beside a client that is gone' => sub {
	my $status = sub {
		my ($client, $server) = T::Serve::tcp_pair();
		setsockopt $client, Socket::SOL_SOCKET(), Socket::SO_LINGER(), pack('ii', 1, 0);
		close $client;
		my $s = passed([ map { $server } 1 .. $_[0] ], in => $server);
		my $is = exit_status($s);
		unlike($s->log, qr/descriptor/, "$_[0] passed: no word of descriptors");
		return $is;
	};
	is($status->(1), $status->(0), 'it ends as without LISTEN_FDS');
};

subtest 'the variables are not passed on' => sub {
	my $secret = T::Cert::make_pem(T::Cert::make_cert(name => 'secret', issuer => $c->{ca}, passphrase => 'sesame'));
	my $listener = tcp_listener();
	my $s = passed([$listener], pem => $secret, args => [ "--passphrase-command=env >$TMP/env; echo sesame" ]);
	$s->logged(qr/listening on/);
	like(slurp("$TMP/env"), qr/^PATH=/m, 'a passphrase command has the environment');
	unlike(slurp("$TMP/env"), qr/^LISTEN_/m, 'without LISTEN_*');
	is(query($listener->sockport)->{out}, "42\n", 'it serves');
	is(stop($s->{pid}), 0, 'SIGTERM ends it with status 0');
};

subtest 'sockets that cannot be served are usage errors' => sub {
	my ($ours, $its) = T::Serve::tcp_pair();
	my $s = passed([$its]);
	is(exit_status($s), 64, 'a connection on descriptor 3');
	like($s->log, qr/descriptor 3 is a connection: Accept=yes needs StandardInput=socket/, '... says what is missing');
	$s = passed([ unix_listener(SOCK_DGRAM, "$TMP/dgram") ]);
	is(exit_status($s), 64, 'a datagram socket');
	like($s->log, qr/descriptor 3 is not a listening stream socket \(see ListenStream=/, '... says what is wrong');
	my $seqpacket = unix_listener(SOCK_SEQPACKET, "$TMP/seqpacket");
	is(exit_status(passed([ tcp_listener(), $seqpacket ])), 64, 'a seqpacket socket beside a right one');
	$s = passed([], in => $seqpacket);
	is(exit_status($s), 64, 'a seqpacket socket on standard input');
	like($s->log, qr/descriptor 0 is not a listening stream socket/, '... is not waited on');
	$s = passed([ (tcp_listener()) x 33 ]);
	is(exit_status($s), 64, '33 sockets');
	like($s->log, qr/33 listening sockets passed: at most 32 are supported/, '... says how many it can serve');
	$s = passed([ tcp_listener() ], args => [ '-d', free_port() ]);
	is(exit_status($s), 64, 'a right one and -d');
	like($s->log, qr/-d cannot be used here: the super-server passed a listening socket; leave out -d/, '... says so');
	is(exit_status(passed([], in => tcp_listener(), args => [ '-d', free_port() ])), 64, '... also on standard input');
};

subtest 'the options of a listener' => sub {
	my @options = qw(--max-connections=7 --max-per-source=1 --grace=5 --idle-exit=0);
	for my $option (@options) {
		my $s = session(pg => $pg, args => [$option]);
		is($s->wait, 64, "$option without a listening socket");
		like($s->log, qr/requires -d or a listening socket/, '... is a usage error');
	}
	my $listener = tcp_listener();
	my $s = passed([], in => $listener, args => \@options);
	my $conn = connect_to($listener->sockport);
	ok($conn->login, 'with one they are accepted');
	like(query($listener->sockport)->{err}, qr/FATAL: .*too many connections from this address/, '... and hold');
	$conn->close;
	stop($s->{pid});
};

subtest 'a listening socket is never read from' => sub {
	plan skip_all => 'needs strace' if T::run([qw(strace -V)], quiet => 1)->{status};
	for my $how ('standard input', 'LISTEN_FDS') {
		my $listener = tcp_listener();
		my $port = $listener->sockport;
		my $trace = "$TMP/trace";
		my $s = T::Serve::service(pg => $pg, args => ['--idle-exit=1']);
		my $shell = $how eq 'LISTEN_FDS' ? 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3<&0 </dev/null' : 'exec "$@"';
		my $pid = spawn(cmd => [ qw(strace -f -yy -o), $trace, 'sh', '-c', $shell, 'sh', $PGSSL, @{ $s->{args} } ], in => $listener);
		is(query($port)->{out}, "42\n", "on $how");
		is(wait_exit($pid), 0, 'it has ended');
		my @calls = grep { /^\d+ +\w+\(\d+<TCP:\[127\.0\.0\.1:$port\]>/ } split /\n/, slurp($trace);
		my %name = map { /^\d+ +(\w+)/ => 1 } @calls;
		ok($name{accept4}, 'clients are accepted from it');
		is(join(' ', grep { /read|recv|write|send/ } sort keys %name), '', 'nothing is read or written');
	}
};

subtest 'a certificate that has changed is loaded, and SIGHUP loads it' => sub {
	my $pem = spew("$TMP/changing.pem", slurp($c->{pem}), 0600);
	my $listener = tcp_listener();
	my $s = passed([$listener], pem => $pem);
	is(query($listener->sockport)->{out}, "42\n", 'the first one');
	my $new = T::Cert::make_cert(name => 'new', issuer => $c->{ca}, cn => 'new');
	rename(spew("$TMP/new.pem", slurp(T::Cert::make_pem($new)), 0600), $pem);
	my $conn = connect_to($listener->sockport);
	ok($conn->negotiate, 'a handshake') or diag $conn->{tls_error};
	like(($conn->chain)[0], qr/\bCN=new\b/, 'with the new one');
	$conn->close;
	my $before = () = $s->log =~ /reloaded certificate and key/g;
	kill 'HUP', $s->{pid};
	wait_for('SIGHUP to load it again', sub { $before < (() = $s->log =~ /reloaded certificate and key/g) });
	pass('SIGHUP');
	stop($s->{pid});
};

# One round of a session that is alive.
sub works {
	my ($conn, $what) = @_;
	my $answer = '';
	$conn->query('select 6*7');
	while (my ($type, $body) = $conn->message) { $answer .= $body if $type eq 'D'; last if $type eq 'Z' }
	like($answer, qr/42/, $what);
}

sub ended_well {
	my ($conn, $what) = @_;
	$conn->rest;
	ok($conn->got_close_notify, $what);
}

# A terminal's Ctrl-C, or systemd's KillMode=control-group: all processes get the signal, but only
# the listener decides.
subtest 'SIGTERM to the whole process group' => sub {
	my $listener = tcp_listener();
	my $s = passed([$listener], args => ['--grace=600']);
	my $conn = connect_to($listener->sockport);
	ok($conn->login, 'a session');
	kill '-TERM', $s->{pid};
	$s->logged(qr/stopping: no new connections; 1 session may continue for 600 s/);
	works($conn, '--grace lets the session live');
	kill '-INT', $s->{pid};
	ended_well($conn, 'a second signal ends it');
	is(exit_status($s), 0, 'status');
};

subtest 'which signal ends one session' => sub {
	my $listener = tcp_listener();
	my $s = passed([$listener]);
	my (@conn, @pid);
	for (0, 1) {
		push @conn, connect_to($listener->sockport);
		ok($conn[-1]->login, 'a session of a listener');
		push @pid, grep { my $new = $_; !grep { $_ == $new } @pid } $s->sessions;
	}
	kill 'TERM', $pid[0];
	works($conn[0], 'SIGTERM does not end it');
	kill 'USR1', $pid[0];
	ended_well($conn[0], 'SIGUSR1 does');
	works($conn[1], '... and no other');
	stop($s->{pid});
	for my $signal ('TERM', 'USR1') {
		my $single = session(pg => $pg);
		ok($single->conn->login, 'a session of a super-server');
		kill $signal, $single->{pid};
		ended_well($single->conn, "SIG$signal ends it");
		is($single->wait, 0, 'status');
	}
};
done_testing;
