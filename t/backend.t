# SPDX-License-Identifier: ISC
#
# Connecting to PostgreSQL: every form of -r, a full backlog, --connect-timeout, and that pgssl
# connects only after the handshake.
# sabotage: s/here ? "127.0.0.1"/here ? "127.0.0.2"/ net/address.c
# sabotage: s/strrchr(slash != NULL ? slash : text, ':')/strrchr(text, ':')/ net/address.c
# sabotage: s/text\[strspn(text, "0123456789")\] == /text[0] != / net/address.c
use lib 't/lib';
use T;
use Socket;

my $pg = start_pg(listen => '127.0.0.1,::1');
my $port = $pg->port;

sub answers {
	my ($what, @args) = @_;
	my $s = session(@args);
	ok($s->conn->login, $what) or diag($s->log);
	$s->conn->close;
	$s->wait;
}

subtest 'every form of -r' => sub {
	for my $where ($port, "127.0.0.1:$port", "localhost:$port", "[::1]:$port",
		$pg->{socket} . ":$port", $pg->{socket} . "/:$port",
		"$pg->{socket}/.s.PGSQL.$port") {
		answers("-r $where" =~ s/\Q$TMP\E/TMP/r, connect => $where);
	}
};

subtest 'the path of a Unix socket may contain a colon' => sub {
	my $directory = "$TMP/a:b";
	symlink $pg->{socket}, $directory or die "symlink: $!\n";
	answers("-r a:b/$_", connect => "$directory/$_") for ".s.PGSQL.$port", ":$port";
};

subtest 'a port is digits only, although strtoul() accepts more' => sub {
	for my $where ("+$port", " $port", "127.0.0.1:+$port", "127.0.0.1: $port",
		"127.0.0.1:\t$port") {
		my $s = session(connect => $where);
		ok(!$s->conn->login, "-r '$where'");
		like($s->conn->{error},
			qr/\0C57P03\0.*unknown service "\Q@{[ $where =~ s{.*:}{}r ]}\E"/,
			'the client is told the reason');
		$s->conn->close;
		$s->wait;
	}
};

subtest 'a port on this machine: 127.0.0.1 first, then ::1' => sub {
	my $only6 = start_pg(listen => '::1');
	answers('PostgreSQL listens only on ::1', connect => $only6->port);
	answers('PostgreSQL listens on both', connect => $port);
	my ($last) = reverse $pg->log =~ /connection received: host=(\S+)/g;
	is($last, '127.0.0.1', 'the connection was made to 127.0.0.1');
};

subtest 'an unknown host: the client is told its name, under TLS' => sub {
	my $s = serve(connect => 'no.such.host.invalid:5432');
	like(psql('select 1', port => $s->port)->{err},
		qr/FATAL:  could not connect to PostgreSQL at no\.such\.host\.invalid:5432: /,
		'message');
};

# A listener with a full backlog; returns the listener, the queued connection and the path.
sub full_listener {
	my $path = "$TMP/full" . int rand 1e9;
	socket(my $listener, AF_UNIX, SOCK_STREAM, 0) or die;
	bind($listener, pack_sockaddr_un($path)) or die;
	listen($listener, 0) or die;
	socket(my $first, AF_UNIX, SOCK_STREAM, 0) or die;
	connect($first, pack_sockaddr_un($path)) or die;
	chmod 0777, $path;
	return ($listener, $first, $path);
}

subtest 'pgssl waits while the backlog of a Unix socket is full' => sub {
	my ($listener, $first, $path) = full_listener();
	my $s = session(connect => $path);
	ok($s->conn->negotiate, 'handshake');
	$s->conn->send(startup_packet(user => 'alice'));
	ok(!$s->conn->readable(0.3), 'no error yet');
	accept(my $queued, $listener);
	accept(my $ours, $listener);
	ok(sysread($ours, my $packet, 100), 'pgssl connects when there is room');
	is($packet, startup_packet(user => 'alice'), 'with the startup packet');
};

subtest '--connect-timeout' => sub {
	my ($listener, $first, $path) = full_listener();
	my $s = session(connect => $path, args => ['--connect-timeout=1']);
	ok($s->conn->negotiate, 'handshake');
	$s->conn->send(startup_packet(user => 'alice'));
	is(parse_error($s->conn->rest)->{C}, '57P03', 'the client is told in time');
	is($s->wait, 69, 'EX_UNAVAILABLE');
};

subtest 'pgssl connects to PostgreSQL after the handshake, not before' => sub {
	my $fake = fake_backend();
	my $s = session(pg => $fake);
	$s->conn->raw_send(ssl_request());
	is($s->conn->recv(1), 'S', 'S');
	is($fake->connections, 0, 'no connection yet');
	ok($s->conn->start_tls, 'handshake');
	wait_for('the connection', sub { $fake->connections == 1 });
	is($fake->bytes, '', 'and nothing is sent');
};
done_testing;
