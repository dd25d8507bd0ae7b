# SPDX-License-Identifier: ISC
#
# A session that waits, for whatever, uses no processor time: poll() tells of an end or an error again and again to those who do not listen.
# sabotage: s/done || idle ? -1 : s->rfd/s->rfd/ net/splice.c
use lib 't/lib';
use T;

my $pg = start_pg();

subtest 'waiting costs nothing' => sub {
	for my $over (qw(tcp pair pairs pipes)) {
		my $s = session(pg => $pg, over => $over);
		ok($s->conn->login, "over $over");
		is_idle('an idle session', $s->{pid});
		$s->conn->query('select pg_sleep(2), 42');
		$s->conn->close_notify;
		is_idle('the client has said close_notify', $s->{pid});
		$s->conn->finish;
		is_idle("and its end", $s->{pid});
		like($s->conn->rest, qr/42C/, 'the result arrives');
	}
	my $fake = after_startup(sub { my ($socket) = @_; syswrite $socket, 'x' x 20_000_000; nap(60) });
	my $s = start(pg => $fake);
	is_idle('the client does not read', $s->{pid});
	$s->conn->close_notify;
	is_idle('nor send', $s->{pid});
	$s->conn->finish;
	is_idle('nor ever will', $s->{pid});
};

subtest 'SIGTERM while the client does not read: it ends all the same' => sub {
	my $fake = after_startup(sub { my ($socket) = @_; syswrite $socket, 'x' x 20_000_000; nap(60) });
	my $s = start(pg => $fake);
	wait_for('bytes', sub { $s->conn->readable(0) });
	kill 'TERM', $s->{pid};
	unlike($s->wait(45), qr/signal/, 'an orderly end');
};

done_testing;
