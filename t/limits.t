# SPDX-License-Identifier: ISC
#
# The listener's limits: sessions of one source, half-open sessions that give way, and floods of
# silent clients.
# never: A listener that a stranger can fill
# sabotage: s/sources\[source\].serving >= (unsigned)options->max_per_source/false/ listen/children.c
# sabotage: s/if (kill(c->pid, SIGKILL) != 0)/if (true)/ listen/children.c
# sabotage: s/if (n > most ||/if (n < most ||/ listen/children.c
# sabotage: s/set_state(c, ADMITTED);/;/ listen/children.c
# sabotage: s/memset(network.s6_addr + 8, 0, 8);/;/ listen/children.c
# sabotage: s/IN6_IS_ADDR_MULTICAST(network)/false/ listen/children.c
# sabotage: s/close_pipe(&children\[i\]);/;/ listen/children.c
# sabotage: s/WIFSIGNALED(status) && children\[i\].state != ENDED/WIFSIGNALED(status)/ listen/children.c
# sabotage: s/o->max_per_source = o->max_connections;/o->max_per_source = 1;/ options.c
use lib 't/lib';
use T;
use Socket qw(:addrinfo AF_INET AF_INET6 AF_UNIX SOCK_STREAM SOL_SOCKET SO_REUSEADDR
	IPPROTO_IPV6 IPV6_V6ONLY inet_aton inet_pton pack_sockaddr_in pack_sockaddr_in6 pack_sockaddr_un);

my $pg = start_pg();
my $whole = $ENV{FLOOD}; # make flood

sub from_to {
	my ($family, $from, $to) = @_;
	socket(my $socket, $family, SOCK_STREAM, 0) or die "socket: $!\n";
	!defined $from or bind($socket, $from) or die "bind: $!\n";
	connect($socket, $to) or die "connect: $!\n";
	return T::Conn->new($socket, $socket);
}

# A client with an IPv4 address of its own.
sub client {
	my ($s, $from) = @_;
	return from_to(AF_INET, pack_sockaddr_in(0, inet_aton($from)),
		pack_sockaddr_in($s->port, inet_aton('127.0.0.1')));
}

sub client6 {
	my ($port, $from, $to) = @_;
	return from_to(AF_INET6, pack_sockaddr_in6(0, inet_pton(AF_INET6, $from)),
		pack_sockaddr_in6($port, inet_pton(AF_INET6, $to)));
}

# "ok", or what the client is told.
sub login_of {
	my ($conn) = @_;
	return 'ok' if $conn->login;
	return 'nothing' unless defined $conn->{error};
	my $e = parse_error('E' . pack('N', 4 + length $conn->{error}) . $conn->{error})
		or return 'nonsense';
	return "$e->{C} $e->{M}";
}

my $OF_SOURCE = '53300 too many connections from this address';
my $TOO_MANY = '53300 sorry, too many clients already';

subtest 'IPv4: each address counts' => sub {
	my $s = serve_listen(pg => $pg, args => ['--max-per-source=2']);
	my @held = map { client($s, '127.0.0.2') } 1, 2;
	my $conn = client($s, '127.0.0.2');
	is(login_of($conn), $OF_SOURCE, 'the third of one address is told');
	$s->logged(qr/too many connections from this address.* host=127\.0\.0\.2 /);
	is(login_of(client($s, '127.0.0.3')), 'ok', 'its neighbour is served');
	$held[0]->close;
	wait_for('its place', sub { login_of(client($s, '127.0.0.2')) eq 'ok' });
	pass('and that address again when one has ended');
	stop($s->{pid});
};

subtest 'IPv6: each network of 64 bits counts' => sub {
	plan skip_all => 'needs root and network namespaces' unless can_netns();
	my $host = net_host();
	net_do($host, join "\n", map { "ip addr add $_/128 dev lo nodad" }
		qw(2001:db8:1:1::1 2001:db8:1:1::2 2001:db8:1:2::1));
	my $s = serve_listen(pg => $pg, netns => $host, args => ['--max-per-source=2']);
	my $said = net_eval($host, sub {
		my @held = map { client6($s->port, $_, '2001:db8:1:1::1') } qw(2001:db8:1:1::1 2001:db8:1:1::2);
		return join ', ', map { login_of(client6($s->port, $_, '2001:db8:1:1::1')) }
			qw(2001:db8:1:1::2 2001:db8:1:2::1);
	});
	# PostgreSQL is on another host
	like($said, qr/^\Q$OF_SOURCE\E, 57P03 /, 'two addresses of one network are one source');
	stop($s->{pid});
};

# A super-server's socket for both kinds of clients shows IPv4 addresses as ::ffff:ADDRESS, which
# are all in one network of 64 bits.
subtest 'IPv4 clients of an IPv6 socket' => sub {
	my $port = free_port();
	socket(my $both, AF_INET6, SOCK_STREAM, 0) or plan skip_all => 'needs IPv6';
	setsockopt $both, IPPROTO_IPV6, IPV6_V6ONLY, 0;
	setsockopt $both, SOL_SOCKET, SO_REUSEADDR, 1;
	bind($both, pack_sockaddr_in6($port, inet_pton(AF_INET6, '::'))) && listen($both, 5)
		or die "bind: $!\n";
	my $s = inherited($both, $port, '--max-per-source=1');
	my $held = client($s, '127.0.0.2');
	is(login_of(client($s, '127.0.0.2')), $OF_SOURCE, 'the second of one address is told');
	is(login_of(client($s, '127.0.0.3')), 'ok', 'another address is served');
	stop($s->{pid});
};

sub inherited {
	my ($socket, $port, @args) = @_;
	my $s = T::Serve::service(pg => $pg, port => $port, args => \@args);
	$s->{pid} = spawn(cmd => [ $PGSSL, @{ $s->{args} } ], in => $socket);
	close $socket;
	$s->logged(qr/listening on/);
	return $s;
}

subtest 'Unix sockets are not limited' => sub {
	my $path = "$TMP/listen.sock";
	socket(my $socket, AF_UNIX, SOCK_STREAM, 0) or die "socket: $!\n";
	bind($socket, pack_sockaddr_un($path)) && listen($socket, 5) or die "bind: $!\n";
	chmod 0666, $path;
	my $s = inherited($socket, 1, '--max-per-source=1', '--max-connections=3');
	my @held = map { from_to(AF_UNIX, undef, pack_sockaddr_un($path)) } 1, 2;
	is(login_of(from_to(AF_UNIX, undef, pack_sockaddr_un($path))), 'ok', 'a third one is served');
	stop($s->{pid});
};

subtest 'the default: a quarter, at least 10; none where all clients come from one address' => sub {
	my %case = (
		'a quarter' => [ [ '--max-connections=48' ], 12, $OF_SOURCE, '' ],
		'at least 10' => [ [ '--max-connections=12' ], 10, $OF_SOURCE, '' ],
		'--proxy-protocol' => [ [ '--max-connections=12', '--proxy-protocol' ], 11, 'ok',
			"PROXY TCP4 192.0.2.7 127.0.0.1 1 2\r\n" ],
	);
	for my $what (sort keys %case) {
		my ($args, $held, $said, $before) = @{ $case{$what} };
		my $s = serve_listen(pg => $pg, args => $args);
		my @held = map { client($s, '127.0.0.2') } 1 .. $held;
		my $conn = client($s, '127.0.0.2');
		$conn->raw_send($before);
		is(login_of($conn), $said, $what);
		stop($s->{pid});
	}
	my $s = serve_listen(client => 1, args => ['--max-connections=12']); # PostgreSQL is not there
	my @held = map { client($s, '127.0.0.2') } 1 .. 11;
	my $conn = client($s, '127.0.0.2');
	$conn->send(startup_packet(user => 'alice'));
	is(parse_error($conn->rest)->{C}, '57P03', 'client mode');
	stop($s->{pid});
};

sub at_end { my ($conn) = @_; return $conn->readable(0) && $conn->raw_read eq '' }

# The oldest of the source with most of them.
subtest 'all places taken by silent clients: one gives way' => sub {
	my $s = serve_listen(pg => $pg, args => [ '--max-connections=4', '--max-per-source=3' ]);
	my %held;
	my $hold = sub {
		my ($from, $count) = @_;
		$held{"$from $_"} = client($s, $from) for 1 .. $count;
		wait_for('the sessions', sub { $s->sessions == keys %held });
	};
	$hold->('127.0.0.3', 1);
	$hold->('127.0.0.2', 3);
	my @oldest = $s->sessions;
	kill 'STOP', $s->sessions; # whatever they do
	my @good = client($s, '127.0.0.4');
	is(login_of($good[0]), 'ok', 'a good client is served');
	is(join(' ', grep { at_end($held{$_}) } sort keys %held), '127.0.0.2 1', 'the one that was ended');
	$s->logged(qr/ended 1 session that had not completed login, the last from 127\.0\.0\.2, to make room /);
	for my $n (5 .. 7) {
		push @good, wait_for("good client $n", sub { my $k = client($s, "127.0.0.$n"); $k->login && $k });
	}
	ok(at_end($_), 'all silent ones have given way') for values %held;
	is(login_of(client($s, '127.0.0.8')), $TOO_MANY,
		'admitted sessions do not: a further client is told');
	$s->logged(qr/sorry, too many clients already.* host=127\.0\.0\.8 /);
	for (@good) {
		$_->query('select 6*7');
		my ($type) = $_->message;
		is($type, 'T', 'an admitted session lives');
	}
	unlike($s->log, qr/terminated by signal/, 'what was ended on purpose is no crash');
	stop($s->{pid});
};

subtest 'the same by clients of as many sources: they give way after a moment' => sub {
	my $s = serve_listen(pg => $pg, args => ['--max-connections=4']);
	my @held = map { client($s, "127.0.0.$_") } 2 .. 5;
	wait_for('a good client to be served', sub { login_of(client($s, '127.0.0.9')) eq 'ok' });
	is(scalar(grep { at_end($_) } @held), 1, 'one was enough');
	stop($s->{pid});
};

subtest 'a session has its own descriptors only' => sub {
	plan skip_all => 'needs root' unless is_root();
	my $s = serve_listen(connect => 'localhost:' . $pg->port); # with a process that looks up names
	my ($error, @found) = getaddrinfo('localhost', $pg->port, { socktype => SOCK_STREAM });
	my $addresses = @found;
	my @held = map { client($s, "127.0.0.$_") } 2 .. 6;
	my @started;
	wait_for('five sessions', sub {
		@started = grep { slurp("/proc/$_/cmdline") =~ /startup/ } $s->sessions;
		return @started == 5;
	});
	for my $pid (@started) {
		my %is = map { (m{/(\d+)$})[0] => readlink } glob "/proc/$pid/fd/*";
		my (%sockets, @others);
		$sockets{$_}++ for grep { /^socket/ } values %is;
		@others = sort map { /^pipe/ ? 'pipe' : $_ } grep { !/^socket/ && $_ ne $s->{err} } values %is;
		is(keys %sockets, 1 + $addresses, "session $pid: a socket to the client and one for each address of PostgreSQL");
		is("@others", "$s->{log} pipe", 'the log, and the pipe of this session');
		is($is{0}, $is{1}, 'the client is on 0 and 1');
	}
	stop($s->{pid});
};

# Too few descriptors for all half-open sessions: accept() fails before any of them gives way.
subtest 'an open-files limit below --max-connections is told' => sub {
	my $s = serve_listen(pg => $pg, args => ['--max-connections=400'],
		wrap => [ 'sh', '-c', 'ulimit -n 256; exec "$@"', 'sh' ]);
	like($s->log, qr/--max-connections=400 needs 464 open files, but the limit is 256: raise it/, 'a warning');
	is(login_of(client($s, '127.0.0.2')), 'ok', 'and it serves');
	stop($s->{pid});
};

subtest 'the largest --max-connections' => sub {
	my $s = serve_listen(pg => $pg, args => ['--max-connections=100000']);
	is(login_of(client($s, '127.0.0.2')), 'ok', 'serves');
	my ($kb) = slurp("/proc/$s->{pid}/status") =~ /^VmRSS:\s+(\d+)/m;
	cmp_ok($kb, '<', 30000, "tables that are not used take no memory: $kb KiB");
	stop($s->{pid});
};

# How many, how long: for `make flood` what was asked for, else a share.
my ($good, $seconds) = $whole ? (50, 5) : (20, 1.5);
my @floods = $whole ? ([ 1, 1000 ], [ 20, 200 ]) : ([ 1, 300 ], [ 10, 40 ]);

sub crowd { return ("$ROOT/t/bin/crowd", @_) }

# Logins in numbers: (served, failed, median, 99th percentile).
sub good_clients {
	my ($s, $what) = @_;
	my @n = split ' ', T::run([ crowd('good', $s->port, $good, $seconds) ])->{out};
	(diag("$what: $n[0] logins, $n[1] failed, median $n[2] ms, p99 $n[3] ms")) if $whole;
	cmp_ok($n[0], '>=', $good, "$what: logins");
	is($n[1], 0, 'none failed');
	return $n[3];
}

subtest 'floods of silent clients' => sub {
	my $port = free_port();
	my $backend = spawn(cmd => [ crowd('backend', $port) ], out => "$TMP/backend.out");
	wait_for('a backend', sub { slurp("$TMP/backend.out") =~ /ready/ });
	for my $flood (@floods) {
		my ($sources, $each) = @$flood;
		my $s = serve_listen(connect => "127.0.0.1:$port", args => [ '-D', 'notice' ]);
		my $quiet = good_clients($s, 'quiet');
		my $silent = spawn(cmd => [ crowd('silent', $s->port, $sources, $each) ],
			out => "$TMP/silent.$sources.out");
		wait_for('the flood', sub { slurp("$TMP/silent.$sources.out") =~ /ready/ });
		my $flooded = good_clients($s, "$each silent clients of each of $sources addresses");
		# Not beside other tests: their load is in one figure and not in the other.
		cmp_ok($flooded, '<=', 3 * $quiet, "p99 $flooded ms, $quiet ms before") if $whole;
		stop($silent);
		unlike($s->log, qr/terminated by signal/, 'no crash');
		my $told = $sources == 1 ? qr/closed \d+ new connection/ : qr/ended \d+ session/;
		like($s->log, $told, 'the log tells');
		stop($s->{pid});
	}
	stop($backend);
};
done_testing;
