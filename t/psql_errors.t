# SPDX-License-Identifier: ISC
#
# The errors of the manual's table "What the client is told", as psql shows them.
# sabotage: s/57P03/57P04/ wire/startup.c
# sabotage: s/the server closed the connection immediately; see PostgreSQL's log// session/server.c
# sabotage: s/(void)!stream_wait(client, IO_WANT_READ, deadline_in(LATE_REQUEST_MS));/;/ wrapper.c
use lib 't/lib';
use T;

my $c = server_pem();
my $pg = start_pg(hba => "local all all trust\nhost all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n");
my $service = serve(pg => $pg);

subtest 'no TLS' => sub {
	my $r = psql('select 1', port => $service->port, sslmode => 'disable');
	is($r->{status}, 2, 'psql fails');
	like($r->{err}, qr/FATAL:  this port accepts only TLS connections$/m, 'message');
	like($r->{err}, qr/^HINT: .*sslmode=require/m, 'hint');
	$service->logged(qr/this port accepts only TLS connections.* host=127\.0\.0\.1 port=\d+/);
};

subtest 'sslmode=allow tries in clear, then with TLS' => sub {
	is(psql('select 1', port => $service->port, sslmode => 'allow',
		password => 'secret')->{out}, "1\n", 'a query');
};

subtest "PostgreSQL's own errors arrive" => sub {
	my $r = psql('select 1', port => $service->port, password => 'wrong');
	like($r->{err}, qr/FATAL:  password authentication failed for user "alice"$/m,
		'wrong password');
	$r = psql('select 1', port => $service->port, user => 'postgres', dbname => 'nosuch');
	like($r->{err}, qr/FATAL:  database "nosuch" does not exist$/m, 'no such database');
	is(psql('select 1', port => $service->port, password => 'secret')->{out}, "1\n",
		'SCRAM succeeds');
};

my $dead = free_port();

subtest 'PostgreSQL cannot be reached' => sub {
	my $s = serve(connect => "127.0.0.1:$dead");
	my $r = psql('select 1', port => $s->port);
	is($r->{status}, 2, 'psql fails');
	like($r->{err}, qr/FATAL:  could not connect to PostgreSQL at 127\.0\.0\.1:$dead: Connection refused$/m, 'message');
	$s->logged(qr/could not connect to PostgreSQL at 127\.0\.0\.1:$dead: Connection refused.* host=127\.0\.0\.1 port=\d+/);
	$s = session(connect => "127.0.0.1:$dead");
	ok(!$s->conn->login, 'a session');
	is(parse_error('E' . pack('N', 4 + length $s->conn->{error}) . $s->conn->{error})->{C},
		'57P03', 'SQLSTATE');
	is($s->conn->ending, 'closed', 'closed, not reset');
	is($s->wait, 69, 'EX_UNAVAILABLE');
};

# The manual says what pg_isready says.
subtest 'pg_isready' => sub {
	my ($text) = slurp('pgssl.8') =~ /^\.It Li pg_isready\n(.*?)^\.El/ms;
	for my $case ([ $service->port, 0, 'accepting connections' ], [ serve(connect => "127.0.0.1:$dead")->port, 1, 'rejecting connections' ],
		[ $dead, 2, 'no response' ], [ serve(pg => $pg, pem => "$TMP/nosuch.pem")->port, 2, 'no response' ]) {
		my ($port, $status, $answer) = @$case;
		my $r = pg_do([ 'pg_isready', '-h', 'localhost', '-p', $port ], sslmode => 'prefer');
		is($r->{status}, $status, "$answer: status");
		like($r->{out}, qr/ - \Q$answer\E$/, 'text');
		like($text, qr/^\.Dq $answer$/m, 'manual');
	}
};

subtest 'a Unix socket that does not exist' => sub {
	my $s = serve(connect => "$TMP/nowhere/.s.PGSQL.5432");
	my $r = psql('select 1', port => $s->port);
	like($r->{err}, qr{FATAL:  could not connect to PostgreSQL at \Q$TMP\E/nowhere/\.s\.PGSQL\.5432: No such file or directory$}m, 'message');
};

subtest 'after 57P03 libpq tries its next host' => sub {
	my $s = serve(connect => "127.0.0.1:$dead");
	my $r = psql('select 1', host => '127.0.0.1,127.0.0.1',
		port => $s->port . ',' . $service->port, password => 'secret');
	is($r->{out}, "1\n", 'the second host answers');
};

subtest 'PostgreSQL closes before it gets the startup packet' => sub {
	for my $how (qw(closes resets)) {
		my $fake = fake_backend(sub {
			my ($socket, $self) = @_;
			$how eq 'closes' ? shutdown $socket, 2 : $self->reset($socket);
			append("$TMP/$how", 'x');
		});
		my $s = session(pg => $fake);
		ok($s->conn->negotiate, "it $how: handshake");
		wait_for('PostgreSQL to close', sub { -s "$TMP/$how" });
		$s->conn->send(startup_packet(user => 'alice'));
		my $error = parse_error($s->conn->rest);
		is($error->{C}, '57P03', 'SQLSTATE');
		like($error->{M}, qr/^could not connect to PostgreSQL at 127\.0\.0\.1:\d+: \w/,
			'message');
		is($s->conn->ending, 'closed', 'closed, not reset');
		is($s->wait, 69, 'EX_UNAVAILABLE');
	}
};

subtest 'a certificate that cannot be read: an alert after S, not only a close' => sub {
	my $s = serve(pg => $pg, pem => "$TMP/nosuch.pem");
	my $r = psql('select 1', port => $s->port, password => 'secret');
	like($r->{err}, qr/SSL error: tlsv1 alert internal error/, 'the alert');
	$s->logged(qr{\Q$TMP\E/nosuch\.pem.*No such file});
	# libpq reads all that has arrived together with the 'S', and discards the rest.
	$s = session(pg => $pg, pem => "$TMP/nosuch.pem");
	$s->logged(qr/No such file/);
	$s->conn->raw_send(T::Conn::ssl_request());
	is($s->conn->raw_read(1), 'S', "a client that is late still gets the 'S'");
	ok(!$s->conn->readable(0.3), 'no byte follows before its ClientHello');
	$s->conn->raw_send("\x16\x03\x01\x00\x01\x01");
	is(unpack('H*', $s->conn->raw_read(7)), '15030300020250', 'the alert follows');
	$s->conn->close;
	is($s->wait, 66, 'EX_NOINPUT');
	$s = session(pg => $pg, pem => "$TMP/nosuch.pem");
	ok(!$s->conn->negotiate, 'a session');
	is($s->wait, 66, 'EX_NOINPUT');
};

subtest 'psql trusts another authority: its alert is logged' => sub {
	my $r = psql('select 1', port => $service->port, sslmode => 'verify-ca',
		rootcert => make_ca(name => 'other', cn => 'Other CA')->{cert});
	like($r->{err}, qr/certificate verify failed/, 'psql reports it');
	like($service->logged(qr/unknown ca/i), qr/ host=127\.0\.0\.1 port=\d+/,
		'logged with host and port');
};
done_testing;
