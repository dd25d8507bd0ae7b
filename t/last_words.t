# SPDX-License-Identifier: ISC
#
# A socket that is closed with unread data resets the connection, and the reset can destroy the last message on its way: clients that were still sending saw
# "connection reset" in place of the reason. Whatever the client has sent, the FATAL or alert arrives, and then an orderly end. And one deadline holds for all.
# sabotage: s/if (rfd != wfd || shutdown(wfd, SHUT_WR) < 0)/if (wfd >= 0)/ net/stream.c
# sabotage: s/else if (s->splice.end/if (s->splice.end/ wrapper.c
use lib 't/lib';
use T;
use Time::HiRes qw(time);

my $fake = fake_backend();
my $noise = 'noise ' x 50_000;

sub fatal_arrives {
	my ($code, $first, %o) = @_;
	my $s = session(pg => $fake, %o);
	$s->conn->negotiate or die 'no TLS' if $o{tls};
	$s->conn->send($first . $noise);
	nap(0.2); # let a reset come, if one comes
	my $error = parse_error($s->conn->rest);
	is($error && $error->{C}, $code, "FATAL $code arrives");
	is($s->conn->ending, 'closed', 'and an orderly end');
	$s->conn->close;
	$s->wait;
}

subtest 'noise in clear' => sub { fatal_arrives('08P01', '') };
subtest 'a session in clear' => sub { fatal_arrives('28000', startup_packet(user => 'alice')) };
subtest 'under TLS: no user' => sub { fatal_arrives('28000', startup_packet(database => 'x'), tls => 1) };
subtest 'under TLS: a packet that is too long' => sub { fatal_arrives('08P01', pack('NN', 10005, 3 << 16), tls => 1) };
subtest 'under TLS: nobody listens' => sub { fatal_arrives('57P03', startup_packet(user => 'alice'), tls => 1, connect => '127.0.0.1:' . free_port()) };

subtest 'a handshake that fails: its alert' => sub {
	my $s = session(pg => $fake);
	$s->conn->raw_send(ssl_request());
	is($s->conn->recv(1), 'S', 'S');
	$s->conn->raw_send("\x16\3\1\0\5\xff\xff\xff\xff\xff" . $noise);
	nap(0.2);
	like($s->conn->rest, qr/^\x15\x03[\x01\x03]\x00\x02\x02./s, 'an alert');
	is($s->conn->ending, 'closed', 'and an orderly end');
};

subtest 'a session that breaks the rules of TLS: its alert' => sub {
	my $s = session(pg => $fake);
	ok($s->conn->negotiate, 'handshake');
	$s->conn->send(startup_packet(user => 'alice'));
	$s->logged(qr/authorized/);
	$s->conn->raw_send("\x17\3\3\0\x40" . 'no such MAC ever' x 4 . $noise);
	nap(0.2);
	$s->conn->rest;
	like($s->conn->{tls_error}, qr/bad record mac/, 'the client gets the alert');
	delete $s->conn->{ended};
	is($s->conn->ending, 'closed', 'and an orderly end');
	$s->conn->close;
	is($s->wait, 0, 'status');
	like($s->log, qr/TLS failed: .*mac.* host=/i, 'logged, with what was wrong');
};

subtest 'a byte now and then wins nothing: one deadline for all' => sub {
	for my $tls (0, 1) {
		my $s = session(pg => $fake, args => ['--handshake-timeout=1']);
		my $start = time;
		$s->conn->negotiate if $tls;
		for my $byte (split //, startup_packet(user => 'x' x 60)) {
			$s->conn->send($byte) or last;
			last if $s->conn->readable(0.2);
		}
		cmp_ok(time - $start, '<', 5, 'the end comes in time');
		is($s->conn->rest, '', 'without a word');
		$s->conn->close;
		is($s->wait, 76, 'EX_PROTOCOL');
	}
};

subtest 'SIGTERM before the session' => sub {
	for my $tls (0, 1) {
		my $s = session(pg => $fake);
		$tls ? $s->conn->negotiate : $s->conn->raw_send("\0");
		wait_for('pgssl to be at work', sub { slurp("/proc/$s->{pid}/wchan") =~ /poll/ || slurp("/proc/$s->{pid}/syscall") =~ /^(?:7|271) / });
		kill 'TERM', $s->{pid};
		is($s->conn->rest, '', 'no word');
		$s->conn->close;
		unlike($s->wait, qr/signal/, 'an orderly end');
		like($s->log, qr/SIGTERM|terminated/, 'logged');
	}
};

# Wherever a client dies, the process ends and no crash is seen.
subtest 'the client dies after any number of bytes' => sub {
	my $hello = do {
		my $k = session(pg => $fake);
		$k->conn->negotiate;
		$k->conn->{sent};
	};
	for (my $n = 0; $n < length $hello; $n += 23) {
		for my $how (qw(close reset)) {
			my $s = session(pg => $fake);
			$s->conn->raw_send(substr $hello, 0, $n);
			$s->conn->$how;
			my $status = $s->wait;
			ok($status eq '0' || $status eq '76', "$how after $n bytes") or diag("status $status");
		}
	}
};
done_testing;
