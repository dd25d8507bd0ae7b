# SPDX-License-Identifier: ISC
#
# --proxy-protocol: headers of both versions, written by hand and by a real haproxy. Their address
# is shown in the log and in the process title. (t/unit_proxy.c tests the parser in detail.)
# sabotage: s/session_set_peer(s, &client.address);// session/server.c
# sabotage: s/ \&\& !o->proxy_protocol// wrapper.c
use lib 't/lib';
use T;
use Socket qw(inet_pton AF_INET AF_INET6);

my $c = server_pem();
my $pg = start_pg();
my $s = serve_listen(pg => $pg, args => ['--proxy-protocol']);

sub v1 { return "PROXY @_\r\n" }

# v2(command, family and transport, addresses): the addresses may be followed by TLVs.
sub v2 {
	my ($command, $family, $body) = @_;
	return "\r\n\r\n\0\r\nQUIT\n" . pack('CCn', 0x20 | $command, $family, length $body) . $body;
}

sub v2_inet {
	my ($from, $port, $tlv) = @_;
	my $addresses = inet_pton(AF_INET, $from) . inet_pton(AF_INET, '10.0.0.1');
	return v2(1, 0x11, $addresses . pack('nn', $port, 5432) . ($tlv || ''));
}

sub v2_inet6 {
	my ($from, $port) = @_;
	my $addresses = inet_pton(AF_INET6, $from) . inet_pton(AF_INET6, '2001:db8::1');
	return v2(1, 0x21, $addresses . pack('nn', $port, 5432));
}

# Send a header and log in: the address in the log and the process title, or 'no login'.
sub seen {
	my ($header, %o) = @_;
	my $conn = connect_to($s->port, %o);
	my $before = log_lines($s->{log}, qr/connection authorized/);
	$conn->raw_send($header);
	$conn->login or return 'no login';
	wait_for('the log line', sub { log_lines($s->{log}, qr/connection authorized/) > $before });
	my ($title) = map { slurp("/proc/$_/cmdline") =~ /^(pgssl: alice .*?) TLSv1\.3 \S+\0/ } $s->sessions;
	$conn->close;
	wait_for('the session to end', sub { $s->sessions == 0 });
	my ($host, $port) = (log_lines($s->{log},
		qr/connection authorized/))[-1] =~ /host=(\S+) port=(\d+)/;
	return "$host $port | $title";
}

my $own = qr/^127\.0\.0\.1 \d+ \| pgssl: alice sales 127\.0\.0\.1\(\d+\)$/;

subtest 'headers' => sub {
	is(seen(v1('TCP4 192.0.2.7 10.0.0.1 51234 5432')),
		'192.0.2.7 51234 | pgssl: alice sales 192.0.2.7(51234)', 'v1 TCP4');
	is(seen(v1('TCP6 2001:db8::7 2001:db8::1 51234 5432')),
		'2001:db8::7 51234 | pgssl: alice sales 2001:db8::7(51234)', 'v1 TCP6');
	like(seen(v1('UNKNOWN')), $own, "v1 UNKNOWN: the address of the connection");
	is(seen(v2_inet('192.0.2.8', 1234)), '192.0.2.8 1234 | pgssl: alice sales 192.0.2.8(1234)',
		'v2 TCP4');
	is(seen(v2_inet('192.0.2.9', 1234, pack('Cna*', 0x04, 300, 'x' x 300))),
		'192.0.2.9 1234 | pgssl: alice sales 192.0.2.9(1234)', 'v2 with a TLV');
	is(seen(v2_inet6('2001:db8::9', 1234)),
		'2001:db8::9 1234 | pgssl: alice sales 2001:db8::9(1234)', 'v2 TCP6');
	is(seen(v2_inet6('::ffff:192.0.2.7', 1234)), '192.0.2.7 1234 | pgssl: alice sales 192.0.2.7(1234)', 'v2, an IPv4 address mapped into IPv6');
	like(seen(v2(0, 0, '')), $own, "v2 LOCAL: the address of the connection");
	like(seen(v2(1, 0x31, "/tmp/socket\0" . "\0" x 204)), $own,
		"v2 UNIX: the address of the connection");
	is(seen(v1('TCP4 192.0.2.7 10.0.0.1 51234 5432'), chop => 1),
		'192.0.2.7 51234 | pgssl: alice sales 192.0.2.7(51234)', 'v1, one byte per write');
};

subtest 'header and SSLRequest in one write: no byte is lost' => sub {
	my $conn = connect_to($s->port);
	$conn->raw_send(v1('TCP4 192.0.2.7 10.0.0.1 51234 5432') . ssl_request());
	is($conn->recv(1), 'S', 'S');
	ok($conn->start_tls, 'handshake');
	ok($conn->login, 'login');
	$conn->close;
};

subtest 'without a valid header: closed and logged, no answer' => sub {
	my %bad = (
		'an SSLRequest' => ssl_request(),
		'direct TLS' => "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" . 'x' x 64,
		'a malformed v1' => v1('TCP4 192.0.2.7'),
		'a malformed v2' => v2(1, 0x11, 'short'),
	);
	for my $what (sort keys %bad) {
		my $conn = connect_to($s->port);
		$conn->raw_send($bad{$what});
		$conn->finish;
		is($conn->raw_read, '', "$what: no answer");
		$conn->close;
	}
	my $early = session(pg => $pg, args => ['--proxy-protocol'], first => ssl_request());
	is($early->conn->rest, '', 'an SSLRequest that waits when pgssl starts: no answer');
	is($early->wait, 76, 'status');
	wait_for('a log line for each',
		sub { log_lines($s->{log}, qr/PROXY header/) >= keys %bad });
	$s->logged(qr/no PROXY header: connect through the load balancer, or start pgssl without --proxy-protocol host=127\.0\.0\.1/);
};

subtest 'a real haproxy' => sub {
	plan skip_all => 'needs haproxy' unless -x '/usr/sbin/haproxy';
	for my $send ('send-proxy', 'send-proxy-v2') {
		my $port = free_port();
		my $conf = spew("$TMP/$send.cfg", <<~END);
			defaults
				mode tcp
				timeout connect 5s
				timeout client 1h
				timeout server 1h
			listen pg
				bind 127.0.0.1:$port
				server one 127.0.0.1:@{[ $s->port ]} $send check inter 50ms
			END
		my $pid = spawn(cmd => [ '/usr/sbin/haproxy', '-db', '-f', $conf ]);
		wait_for('haproxy to listen',
			sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) });
		my $r = wait_for('its health check', sub { my $try = psql('\conninfo', port => $port, sslmode => 'verify-full', rootcert => $c->{root}, host => 'localhost'); $try->{status} == 0 && $try });
		is(conninfo($r->{out})->{protocol}, 'TLSv1.3', "$send: psql");
		my $conn = connect_to($port);
		ok($conn->login, 'a login');
		$s->logged('connection authorized: user=alice database=sales host=127\.0\.0\.1 port=' . $conn->local_port . ' ');
		pass("the log has the port of the client");
		$conn->close;
		stop($pid);
	}
	unlike($s->log, qr/terminated by signal/, 'no process crashed during a health check');
};
done_testing;
