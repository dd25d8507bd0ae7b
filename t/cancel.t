# SPDX-License-Identifier: ISC
#
# Ctrl-C in psql had no effect through other TLS proxies: psql sends its CancelRequest in clear on a
# new connection, which they refuse. It must cancel the query, and the connection must not be reset.
# sabotage: s/CODE(1234, 5678)/CODE(1234, 5699)/ wire/startup.c
use lib 't/lib';
use T;

my $pg = start_pg();
my $service = serve(pg => $pg);

sub sleeping {
	return psql("select count(*) from pg_stat_activity where query like 'select pg_sleep%'",
		host => $pg->{socket}, port => $pg->port, sslmode => 'disable')->{out} == $_[0];
}

subtest 'Ctrl-C in psql' => sub {
	my $err = "$TMP/psql.err";
	my $pid = spawn(cmd => psql_cmd('-c', 'select pg_sleep(60)'),
		env => pg_env(port => $service->port), err => $err);
	wait_for('the query to run', sub { sleeping(1) });
	kill 'INT', $pid;
	is(wait_exit($pid) >> 8, 1, 'psql ends');
	like(slurp($err), qr/ERROR:  canceling statement due to user request/, 'canceled');
	wait_for('it to stop', sub { sleeping(0) });
	like($service->logged(qr/cancel/i), qr/host=127\.0\.0\.1/, 'it is logged');
};

# Cancel a sleeping session from another connection; returns that connection.
sub cancel_with {
	my ($prepare) = @_;
	my $sleeper = connect_to($service->port);
	ok($sleeper->login, 'login');
	$sleeper->query('select pg_sleep(60)');
	wait_for('the query to run', sub { sleeping(1) });
	my $canceler = connect_to($service->port);
	$prepare->($canceler);
	$canceler->send(cancel_request(@{ $sleeper->{cancel} }));
	is($canceler->rest, '', 'no answer');
	is($canceler->ending, 'closed', 'no reset at the end');
	my ($type, $body) = $sleeper->message;
	($type, $body) = $sleeper->message while defined $type && $type eq 'T';
	is($type, 'E', 'the query fails');
	like($body, qr/\0C57014\0/, 'query_canceled');
	$sleeper->close;
	wait_for('it to stop', sub { sleeping(0) });
	return $canceler;
}

subtest 'in clear' => sub { cancel_with(sub { }) };
subtest 'in clear after GSSENCRequest' => sub {
	cancel_with(sub { $_[0]->send(gss_request()); is($_[0]->recv(1), 'N', 'N') });
};

subtest 'under TLS: closed with close_notify' => sub {
	my $canceler = cancel_with(sub { ok($_[0]->negotiate, 'handshake') });
	ok($canceler->got_close_notify, 'close_notify');
};

subtest 'under direct TLS' => sub {
	cancel_with(sub { ok($_[0]->start_tls(alpn => ['postgresql']), 'handshake') });
};

subtest 'a wrong key cancels nothing' => sub {
	my $sleeper = connect_to($service->port);
	$sleeper->login;
	my ($pid, $key) = @{ $sleeper->{cancel} };
	my $canceler = connect_to($service->port);
	$canceler->send(cancel_request($pid, $key ^ "\1\1\1\1"));
	is($canceler->rest, '', 'no answer');
	$sleeper->query('select 7');
	my ($type) = $sleeper->message;
	is($type, 'T', 'the session goes on');
};
done_testing;
