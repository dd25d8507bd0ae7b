# SPDX-License-Identifier: ISC
#
# Clients that were still sending saw "connection reset" instead of the reason for the end: closing
# a socket with unread data resets the connection, and the reset can destroy the last message in
# transit. Whatever the client has sent, the FATAL or the alert must arrive, followed by an orderly
# close. One deadline must cover everything before the session.
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
	nap(0.2); # time for a reset to arrive
	my $error = parse_error($s->conn->rest);
	is($error && $error->{C}, $code, "FATAL $code arrives");
	is($s->conn->ending, 'closed', 'followed by an orderly close');
	$s->conn->close;
	$s->wait;
}

subtest 'garbage in clear' => sub { fatal_arrives('08P01', '') };
subtest 'a session in clear' => sub { fatal_arrives('28000', startup_packet(user => 'alice')) };
subtest 'under TLS: no user' => sub { fatal_arrives('28000', startup_packet(database => 'x'), tls => 1) };
subtest 'under TLS: a packet that is too long' => sub { fatal_arrives('08P01', pack('NN', 10005, 3 << 16), tls => 1) };
subtest 'under TLS: PostgreSQL cannot be reached' => sub { fatal_arrives('57P03', startup_packet(user => 'alice'), tls => 1, connect => '127.0.0.1:' . free_port()) };

subtest 'a failed handshake: the alert arrives' => sub {
	my $s = session(pg => $fake);
	$s->conn->raw_send(ssl_request());
	is($s->conn->recv(1), 'S', 'S');
	$s->conn->raw_send("\x16\3\1\0\5\xff\xff\xff\xff\xff" . $noise);
	nap(0.2);
	like($s->conn->rest, qr/^\x15\x03[\x01\x03]\x00\x02\x02./s, 'the alert');
	is($s->conn->ending, 'closed', 'followed by an orderly close');
};

subtest 'a record that TLS refuses, within a session: the alert arrives' => sub {
	my $s = session(pg => $fake);
	ok($s->conn->negotiate, 'handshake');
	$s->conn->send(startup_packet(user => 'alice'));
	$s->logged(qr/authorized/);
	$s->conn->raw_send("\x17\3\3\0\x40" . 'no such MAC ever' x 4 . $noise);
	nap(0.2);
	$s->conn->rest;
	like($s->conn->{tls_error}, qr/bad record mac/, 'the client receives the alert');
	delete $s->conn->{ended};
	is($s->conn->ending, 'closed', 'followed by an orderly close');
	$s->conn->close;
	is($s->wait, 0, 'status');
	like($s->log, qr/TLS failed: .*mac.* host=/i, 'the log has the reason');
};

subtest 'a slow client gains no time: one deadline for everything' => sub {
	for my $tls (0, 1) {
		my $s = session(pg => $fake, args => ['--handshake-timeout=1']);
		my $start = time;
		$s->conn->negotiate if $tls;
		for my $byte (split //, startup_packet(user => 'x' x 60)) {
			$s->conn->send($byte) or last;
			last if $s->conn->readable(0.2);
		}
		cmp_ok(time - $start, '<', 5, 'the connection ends in time');
		is($s->conn->rest, '', 'without a message');
		$s->conn->close;
		is($s->wait, 76, 'EX_PROTOCOL');
	}
};

# Wherever in the handshake a client disappears, the process must exit by itself.
subtest 'the client disappears after any number of bytes' => sub {
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
			ok($status eq '0' || $status eq '76', "$how after $n bytes")
				or diag("status $status");
		}
	}
};
done_testing;
