# SPDX-License-Identifier: ISC
#
# Limits for what a session costs in system calls and memory. They are a tenth above the values that
# were measured when they were set. `make bench` measures times.
# sabotage: s/(void)malloc_trim(0);/;/ net/splice.c
# sabotage: s/if (deadline_left(next) > 0)/if (false)/ net/stream.c
# sabotage: s/if (is_loopback(sa))/if (false)/ net/address.c
# sabotage: s/if (sp->spin_us > 0)/if (true)/ net/splice.c
# sabotage: s/\.yield = s->options\.spin > 0,// listen/listen.c
# sabotage: s/tls_fetch_algorithms() \&\&/true \&\&/ listen/listen.c
# sabotage: s/sock_keepalive(fd, o->keepalive);/;/ listen/listen.c
# sabotage: s/if (s->from_listener).*/if (false)/ session/session.c
use lib 't/lib';
use T;

my $pg = start_pg();
# OpenSSL 3.5 loads two more libraries (zlib and zstd) and has post-quantum algorithms: this adds 27
# calls and 410 KiB of heap and relocated pages.
my ($openssl) = T::run([ $PGSSL, '-V' ])->{out} =~ /running with OpenSSL (\d+\.\d+)/;
my %budget = $openssl eq '3.0' ? (calls => 265, idle => 1190, child_calls => 111, child_idle => 295) : (calls => 290, idle => 1640, child_calls => 120, child_idle => 375);

sub ask {
	my ($conn, $sql) = @_;
	my $bytes = 0;
	$conn->query($sql);
	while (my ($type, $body) = $conn->message) {
		$bytes += length $body;
		return $bytes if $type eq 'Z';
	}
	return 0;
}

# Count the system calls, by name, of a session that runs $do after its login: those since the
# login, and all.
sub calls {
	my ($do, @args) = @_;
	my $trace = "$TMP/trace";
	my $s = session(pg => $pg, args => \@args, wrap => [ 'strace', '-f', '-o', $trace ]);
	$s->conn->login or fail('login');
	$s->logged(qr/connection authorized/);
	wait_for('the login', sub { slurp($trace) =~ /ppoll\([^\n]*\z/ });
	my $before = () = slurp($trace) =~ /\n/g;
	$do->($s->conn);
	$s->conn->send("X\0\0\0\4");
	$s->conn->close;
	$s->wait;
	my @lines = grep { !/(?:resumed>|\+\+\+|---)/ } split /\n/, slurp($trace);
	my (%since, %all);
	for my $i (0 .. $#lines) {
		my ($name) = $lines[$i] =~ /^\d+\s+(\w+)\(/ or next;
		$all{$name}++;
		$since{$name}++ if $i >= $before;
	}
	return (\%since, \%all);
}
sub total { my ($calls) = @_; my $n = 0; $n += $_ for values %$calls; return $n }

sub private {
	my ($pid) = @_;
	my $kib = 0;
	$kib += $_ for slurp("/proc/$pid/smaps_rollup") =~ /^Private_\w+:\s+(\d+)/mg;
	return $kib;
}

subtest 'system calls' => sub {
	my (undef, $login) = calls(sub {});
	cmp_ok(total($login), '<=', $budget{calls}, 'a session without a query');
	is($login->{recvmsg}, undef, 'no recvmsg: the list of interfaces is not read');
	is($login->{sched_yield}, undef, 'no sched_yield without --spin');
	my ($queries) = calls(sub { my ($conn) = @_; ask($conn, 'select 1') for 1 .. 200 });
	cmp_ok(total($queries), '<=', 200 * 6 + 40, '6 per query and answer');
	my ($few) = calls(sub {
		my ($conn) = @_;
		$conn->send('Q' . pack('N', 1 << 20) . 'select 1 --' . 'x' x ((1 << 20) - 16)
			. "\0");
		1 while ($conn->message)[0] ne 'Z';
	});
	cmp_ok(total($few), '<=', 200, 'a megabyte from the client');
};

subtest 'memory' => sub {
	# pages that two processes share are not counted as private
	my @s = map { session(pg => $pg) } 1 .. 2;
	for (@s) { $_->conn->login or fail('login') }
	my $pid = $s[0]{pid};
	my $idle = wait_for('memory to be returned to the kernel', sub {
		my $kib = private($pid);
		$kib <= $budget{idle} && $kib;
	});
	pass("$idle KiB when idle");
	cmp_ok(ask($s[0]->conn, "select repeat('x', 8000) from generate_series(1, 2000)"), '>',
		16_000_000, '16 MB to the client');
	ask($s[0]->conn, "select '" . 'x' x 1_000_000 . "'") for 1 .. 4;
	wait_for('the memory of bulk transfers to be returned', sub { private($pid) <= $idle });
	pass('no more after bulk transfers');
};

subtest '--spin polls for a while, then sleeps' => sub {
	my ($queries) = calls(sub {
		my ($conn) = @_;
		ask($conn, 'select pg_sleep(0.01)') for 1 .. 5;
	}, '--spin=1000');
	cmp_ok($queries->{sched_yield} || 0, '>', 5, 'it polls');
	my $s = session(pg => $pg, args => ['--spin=1000']);
	ok($s->conn->login, 'login');
	is_idle('an idle session', $s->{pid});
	is(ask($s->conn, 'select 1') > 0, 1, 'and it wakes up');

	# The filter of the parent of -d refused sched_yield(), and its sessions waited busily.
	my $listener = serve_listen(pg => $pg, args => ['--spin=1000'],
		wrap => [ 'strace', '-f', '-e', 'trace=sched_yield', '-o', "$TMP/yield" ]);
	my $conn = connect_to($listener->port);
	$conn->login or fail('login');
	ask($conn, 'select pg_sleep(0.01)');
	like(slurp("$TMP/yield"), qr/sched_yield\(\) += 0/, 'also with -d');
};

subtest 'a session of a listener' => sub {
	my $trace = "$TMP/child";
	my $traced = serve_listen(pg => $pg, wrap => [ 'strace', '-ff', '-o', $trace ]);
	my $conn = connect_to($traced->port);
	$conn->login or fail('login');
	$conn->send("X\0\0\0\4");
	$conn->close;
	wait_for('its end', sub { descendants($traced->{pid}) == 1 }); # strace has the listener left
	my ($child) = grep { !/^execve/ } map { slurp($_) } glob "$trace.*";
	my $calls = () = $child =~ /^\w+\(/mg;
	cmp_ok($calls, '<=', $budget{child_calls}, 'system calls');
	unlike($child, qr/^brk/m, 'none for memory');
	unlike($child, qr/^setsockopt\(1,/m, "none for the client's socket");

	my $s = serve_listen(pg => $pg);
	my @conns = map { connect_to($s->port) } 1 .. 3;
	for (@conns) { $_->login or fail('login') }
	my @children = descendants($s->{pid});
	my $kib;
	wait_for("$budget{child_idle} KiB when idle", sub { ($kib) = sort { $b <=> $a } map { private($_) } @children; $kib <= $budget{child_idle} });
	pass("$kib KiB when idle");
	my $sockets = T::run([ 'ss', '-tnoH', 'sport', '=', ':' . $s->port ])->{out};
	is(scalar(() = $sockets =~ /timer:\(keepalive,/g), 3, 'keepalive of the listening socket');
};
done_testing;
