# SPDX-License-Identifier: ISC
#
# --application-name-host, as PostgreSQL shows it. (t/unit_appname.c tests how packets are changed.)
# sabotage: s/" - %s:%s"/" at %s:%s"/ wire/startup.c
use lib 't/lib';
use T;

my $pg = start_pg();
my $s = serve(pg => $pg, args => ['--application-name-host']);
my $sql = "select application_name from pg_stat_activity where pid = pg_backend_pid()";

like(psql($sql, port => $s->port, appname => 'my tool')->{out}, qr/^my tool - 127\.0\.0\.1:\d+$/,
	'appended');
like(psql($sql, port => $s->port, appname => 'x' x 100)->{out},
	qr/^(?=.{63}$)x+ - 127\.0\.0\.1:\d+$/, 'a long name is shortened before the address');
like(psql($sql, port => $s->port, appname => "\xc3\xa4" x 60)->{out},
	qr/^(?:\?\?|\\xc3\\xa4)+ - 127\.0\.0\.1:\d+$/,
	'a name is cut between characters (PostgreSQL shows it this way)');

subtest "the port is the client's" => sub {
	my $conn = connect_to($s->port);
	ok($conn->login, 'login without application_name');
	$conn->query($sql);
	my $answer = '';
	while (my ($type, $body) = $conn->message) {
		$answer .= $body if $type eq 'D';
		last if $type eq 'Z';
	}
	is(substr($answer, 6), 'app - 127.0.0.1:' . $conn->local_port, 'a name is created');
	$conn->close;
};

subtest 'a packet without room for the address' => sub {
	my $conn = connect_to($s->port);
	my @fill = map { ("_pq_.fill$_" => 'x' x 900) } 1 .. 10;
	my $size = length startup_packet(user => 'alice', database => 'sales', @fill,
		'_pq_.rest' => '');
	ok($conn->login(@fill, '_pq_.rest' => 'x' x (10004 - $size)), 'the packet is not changed');
	$s->logged(qr/could not append the client's address to application_name: the startup packet is full host=127/);
	$conn->close;
};

subtest 'without the option nothing is changed' => sub {
	my $plain = serve(pg => $pg);
	is(psql($sql, port => $plain->port, appname => 'my tool')->{out}, "my tool\n",
		'the name that the client sent');
};
done_testing;
