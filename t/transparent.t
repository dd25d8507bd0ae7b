# SPDX-License-Identifier: ISC
#
# -T: PostgreSQL sees the address of the client, so that pg_hba.conf can distinguish clients. A
# server and two clients, each in a network namespace.
# sabotage: s/backend_set_source(&s->connector, &s->source, &s->backend_error)/true/ session/server.c
use lib 't/lib';
use T;

sub usage {
	my ($pattern, @args) = @_;
	my $r = T::run([ $PGSSL, '-T', @args ], quiet => 1);
	is($r->{status}, 64, "-T @args: a usage error");
	like($r->{err}, $pattern, 'the reason');
}

subtest 'options that exclude -T' => sub {
	usage(qr/-I cannot be used with --transparent/, qw(-I 127.0.0.1));
	usage(qr/--transparent: cannot be used with a Unix socket \(-r \/tmp\)/, '-p',
		server_pem()->{pem}, '-d', free_port(), qw(-r /tmp));
};

if (!can_netns()) {
	diag('needs root and network namespaces for the rest');
	done_testing;
	exit;
}

my ($server, $good, $bad) = map { net_host() } 1 .. 3;
net_link($server, '192.0.2.1/24 2001:db8:1::1/64', $good, '192.0.2.7/24 2001:db8:1::7/64');
net_link($server, '198.51.100.1/24 2001:db8:2::1/64', $bad, '198.51.100.8/24 2001:db8:2::8/64');

# The commands in the manual, which route PostgreSQL's answers to foreign addresses back to this
# machine.
my @lines = map { "ip $_" } (
	'rule add from 127.0.0.0/8 iif lo lookup 123', 'route add local 0.0.0.0/0 dev lo table 123',
	'-6 rule add from ::1 iif lo lookup 123', '-6 route add local ::/0 dev lo table 123',
);
my $manual = slurp("$ROOT/pgssl.8");
ok(index($manual, "\n$_\n") > 0, "the manual has: $_") for @lines;
net_do($server, $_) for @lines;

my $c = server_pem();
my $hba = "local all all trust\nhost all all 192.0.2.7/32 trust\nhost all all 2001:db8:1::7/128 trust\n";
my $pg = start_pg(netns => $server, listen => '127.0.0.1,::1', hba => $hba);
my $sql = 'select inet_client_addr(), inet_client_port()';

subtest 'PostgreSQL sees the address of each client' => sub {
	my $s = serve_listen(netns => $server, connect => $pg->port, args => ['-T']);
	for my $case ([ '192.0.2.1', '192.0.2.7' ], [ '2001:db8:1::1', '2001:db8:1::7' ]) {
		my ($to, $from) = @$case;
		my $r = psql($sql, netns => $good, host => $to, port => $s->port);
		like($r->{out}, qr/^\Q$from\E\|\d+$/, "PostgreSQL sees $from") or diag($r->{err});
		my ($port) = $r->{out} =~ /\|(\d+)/;
		$s->logged(qr/connection authorized:.* host=\Q$from\E port=\d+ backend_port=$port /);
		pass('backend_port in the log is the port that PostgreSQL sees');
	}
	for my $case ([ '198.51.100.1', '198.51.100.8' ], [ '2001:db8:2::1', '2001:db8:2::8' ]) {
		my ($to, $from) = @$case;
		my $r = psql($sql, netns => $bad, host => $to, port => $s->port);
		like($r->{err}, qr/FATAL:  no pg_hba\.conf entry for host "\Q$from\E", user "alice", database "sales", no encryption/, "pg_hba.conf refuses $from");
	}
	is(psql("select count(*) from generate_series(1, 200000) g", netns => $good,
		host => '192.0.2.1', port => $s->port)->{out}, "200000\n", 'a longer answer');
	is(psql("select repeat('x', 3000000)", netns => $good, host => '192.0.2.1',
		port => $s->port)->{out}, 'x' x 3000000 . "\n", 'a large one');
};

subtest 'many sessions of one client at once' => sub {
	my $s = serve_listen(netns => $server, connect => $pg->port, args => ['-T']);
	my @pids = map { spawn(cmd => psql_cmd('-c', 'select pg_sleep(0.2)'), env => pg_env(host => '192.0.2.1', port => $s->port), netns => $good) } 1 .. 20;
	is(scalar(grep { wait_exit($_) != 0 } @pids), 0, 'all succeed');
};

subtest 'the address of a PROXY header' => sub {
	my $s = serve_listen(netns => $server, connect => $pg->port,
		args => [ '-T', '--proxy-protocol' ]);
	my $ask = sub {
		my ($header) = @_;
		return net_eval($server, sub {
			my $conn = connect_to($s->port);
			$conn->raw_send($header);
			$conn->login or return $conn->{error} || 'no login';
			$conn->query('select inet_client_addr()');
			while (my ($type, $body) = $conn->message) { return substr $body, 6 if $type eq 'D' }
		});
	};
	is($ask->("PROXY TCP4 192.0.2.7 192.0.2.1 1023 5432\r\n"), '192.0.2.7',
		'IPv4, from a port below 1024');
	is($ask->("PROXY TCP6 2001:db8:1::7 2001:db8:1::1 51234 5432\r\n"), '2001:db8:1::7',
		'IPv6');
	like($ask->("PROXY TCP4 203.0.113.9 192.0.2.1 51234 5432\r\n"), qr/no pg_hba\.conf entry for host "203\.0\.113\.9"/, 'an address without an entry in pg_hba.conf');
	# bind() would take these as "any", and PostgreSQL would see 127.0.0.1.
	like($ask->("PROXY TCP4 $_ 192.0.2.1 51234 5432\r\n"), qr/from the client's address: it is not the address of a host/, "$_ is refused") for qw(0.0.0.0 224.0.0.1 255.255.255.255);
	like($ask->("PROXY TCP6 :: ::1 51234 5432\r\n"),
		qr/from the client's address: it is not the address of a host/, ':: is refused');
	like($ask->("PROXY UNKNOWN\r\n"), qr/no pg_hba\.conf entry for host "127\.0\.0\.1"/,
		"UNKNOWN: the address of the connection");
};

subtest 'a client with an address family that PostgreSQL does not have' => sub {
	my $s = serve_listen(netns => $server, connect => '127.0.0.1:' . $pg->port, args => ['-T']);
	my $r = psql($sql, netns => $good, host => '2001:db8:1::1', port => $s->port);
	like($r->{err}, qr/could not connect to PostgreSQL at 127\.0\.0\.1:\d+ from the client's address: -r has no address of the client's family/, 'the error');
};

subtest 'without the capability' => sub {
	my $pem = make_pem($c->{cert}, "$TMP/nobodys.pem");
	chown((getpwnam 'nobody')[2, 3], $pem);
	my $r = T::run([ $PGSSL, '-T', '-d', free_port(), '-p', $pem ], user => 'nobody',
		quiet => 1);
	is($r->{status}, 77, 'the start fails');
	like($r->{err}, qr/--transparent: Operation not permitted \(start as root, or with CAP_NET_ADMIN\)/, 'the error names what is missing');
};
done_testing;
