# SPDX-License-Identifier: ISC
#
# A waiting session must use no processor time, whatever it waits for. poll() would return at once,
# again and again, if it were asked about a connection that has ended or failed.
# sabotage: s/done || idle ? -1 : s->rfd/s->rfd/ net/splice.c
use lib 't/lib';
use T;

my $pg = start_pg();

subtest 'a waiting session is idle' => sub {
	for my $over (qw(tcp pair pairs pipes)) {
		my $s = session(pg => $pg, over => $over);
		ok($s->conn->login, "over $over");
		is_idle('an idle session', $s->{pid});
		$s->conn->query('select pg_sleep(2), 42');
		$s->conn->close_notify;
		is_idle('the client has sent close_notify', $s->{pid});
		$s->conn->finish;
		is_idle('the client has closed its direction', $s->{pid});
		like($s->conn->rest, qr/42C/, 'the result arrives after that');
	}
	my $fake = after_startup(sub {
		my ($socket) = @_;
		syswrite $socket, 'x' x 20_000_000;
		nap(60);
	});
	my $s = start(pg => $fake);
	is_idle('the client does not read', $s->{pid});
	$s->conn->close_notify;
	is_idle('the client does not read and has sent close_notify', $s->{pid});
	$s->conn->finish;
	is_idle('the client does not read and has closed its direction', $s->{pid});
};

subtest 'SIGTERM ends a session whose client does not read' => sub {
	my $fake = after_startup(sub {
		my ($socket) = @_;
		syswrite $socket, 'x' x 20_000_000;
		nap(60);
	});
	my $s = start(pg => $fake);
	wait_for('bytes', sub { $s->conn->readable(0) });
	kill 'TERM', $s->{pid};
	unlike($s->wait(45), qr/signal/, 'an orderly end');
};

done_testing;
