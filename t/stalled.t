# SPDX-License-Identifier: ISC
#
# pgssl used a whole processor when a peer stalled or had closed one direction: poll() returned at
# once with an event that nothing could handle. It must wait without using processor time, lose no
# data, and still end at SIGTERM or when the other peer closes.
# sabotage: s/d->write_wants_read = io == IO_WANT_READ;/d->write_wants_read = false;/ net/splice.c
# sabotage: s/bool idle = .*/bool idle = false;/ net/splice.c
# sabotage: s/((source_done(in) \&\& empty(in)) || set\[1\].fd >= 0)/source_done(in)/ net/splice.c
# sabotage: s/bool stuck = .*/bool stuck = false;/ net/splice.c
use lib 't/lib';
use T;

my $pg = start_pg();

# Between the halves of a KeyUpdate OpenSSL writes nothing (SSL_write returns WANT_READ), although
# the socket is writable.
subtest 'half a KeyUpdate' => sub {
	for my $end ('SIGTERM', "the client's end") {
		my $fake = fake_backend(sub {
			my ($socket, $self) = @_;
			$self->take($socket, 20);
			syswrite $socket, 'answer';
			$self->take($socket);
		});
		my $s = session(pg => $fake);
		my $said = "$TMP/half.$s->{pid}";
		my $client = spawn(cmd => [ "$ROOT/t/bin/tls_records", 'startup',
			'record:22:18000001' ], in => $s->conn->{write}, out => $said);
		$s->conn->close;
		wait_for('half a KeyUpdate', sub { slurp($said) =~ /^record/m });
		wait_for('the startup packet', sub { length $fake->bytes == 20 });
		is_idle('half a KeyUpdate', $s->{pid});
		$end eq 'SIGTERM' ? kill 'TERM', $s->{pid} : stop($client);
		is($s->wait, 0, "$end ends the session");
		wait_for('PostgreSQL to see the end', sub { $fake->ended });
	}
};

# A Unix socket whose peer has closed reports POLLHUP at each poll(), whether it is asked for or
# not.
subtest 'PostgreSQL has closed, the client reads the answer slowly' => sub {
	for my $end ('reads on', 'reads on after SIGTERM') {
		my $s = session(connect => "$pg->{socket}/.s.PGSQL." . $pg->port, rcvbuf => 4096);
		ok($s->conn->login, 'login');
		$s->conn->query("select repeat('x', 4000000)");
		$s->conn->send("X\0\0\0\4");
		is_idle('a slow client', $s->{pid});
		my $term = $end =~ /SIGTERM/;
		kill 'TERM', $s->{pid} if $term;
		cmp_ok(length $s->conn->rest, $term ? '<' : '>', 4_000_000, "the client $end");
		ok($s->conn->got_close_notify, 'close_notify');
		is($s->wait, 0, 'status');
		like($s->log, $term ? qr/reason=terminated/ : qr/reason=server closed/, 'logged');
	}
};

# With two sockets, the peer of the one for writing can close alone. poll() then reports that
# forever.
subtest 'two sockets: the reading peer has closed, the other one is open and silent' => sub {
	my $s = session(pg => $pg, over => 'pairs');
	ok($s->conn->login, 'login');
	CORE::close $s->conn->{read};
	is($s->wait, 0, 'the session ends');
	like($s->log, qr/reason=connection to client lost/, 'the reason is logged');
};

done_testing;
