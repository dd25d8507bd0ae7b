# SPDX-License-Identifier: ISC
#
# The connection to PostgreSQL: -I, a host name with several addresses (each is tried), and the
# warning if PostgreSQL is on another machine.
# sabotage: s/deadline share = .*/deadline share = b->when;/ net/backend.c
# sabotage: s/to->local_len != 0 \&\& bind/false \&\& bind/ net/backend.c
# sabotage: s/sock_unmap(&a->sa);/;/ net/address.c
# sabotage: s/if (status != 0 \&\& host != NULL)/if (false)/ net/address.c
use lib 't/lib';
use T;

my ($v4, $v6) = map { start_pg(listen => $_,
	hba => "local all all trust\nhost all all samehost trust\nhost all all 127.0.0.0/8 trust\n") } '127.0.0.1',
	'::1';
my $sql = 'select inet_client_addr()';

sub through { my ($s) = @_; return psql($sql, port => $s->port) }

subtest 'a port alone: 127.0.0.1 first, then ::1' => sub {
	is(through(serve(connect => $v4->port))->{out}, "127.0.0.1\n", 'PostgreSQL on 127.0.0.1');
	is(through(serve(connect => $v6->port))->{out}, "::1\n", 'PostgreSQL on ::1 only');
};

# Run one process with its own /etc/hosts and, with `first`, its own order of getaddrinfo()'s
# results.
sub with_names {
	my ($hosts, $first) = @_;
	my %file = (hosts => $hosts, 'nsswitch.conf' => "hosts: files\nservices: files\n",
		services => 'pg-test ' . $v4->port . "/tcp\n",
		'gai.conf' => $first ? "precedence $first 100\nprecedence ::ffff:0:0/96 10\n" : '');
	spew("$TMP/$_", $file{$_}) for keys %file;
	my $mounts = join ' && ', map { "mount --bind $TMP/$_ /etc/$_" } sort keys %file;
	return (wrap => [ qw(unshare -m sh -c), "$mounts && exec \"\$@\"", 'sh' ]);
}

subtest 'a name with two addresses' => sub {
	plan skip_all => 'needs root' unless is_root();
	for my $case ([ $v4, '127.0.0.1' ], [ $v6, '::1' ]) {
		my $s = serve_listen(with_names("127.0.0.1 both\n::1 both\n"),
			connect => 'both:' . $case->[0]->port);
		is(through($s)->{out}, "$case->[1]\n", "PostgreSQL on $case->[1] only");
	}
};

# One address, in the forms in which people type it.
my %forms = (
	'a dot at the end' => [ 'pg.example.', 'from.example.' ],
	'capitals' => [ 'PG.Example', 'FROM.Example' ],
	'an underscore' => [ 'my_pg', 'my_from' ],
	'an IPv4-mapped address' => [ '[::ffff:127.0.0.1]', '::ffff:127.0.0.9' ],
	'an address with a dot at the end' => [ '127.0.0.1.', '127.0.0.9.' ],
);

subtest 'names as people type them, with a service as the port: -r, -I and -d' => sub {
	plan skip_all => 'needs root' unless is_root();
	my @names = with_names("127.0.0.1 pg.example my_pg\n127.0.0.9 from.example my_from\n");
	for my $form (sort keys %forms) {
		my ($to, $from) = @{ $forms{$form} };
		my $s = serve_listen(@names, bind => $to, connect => "$to:pg-test", args => [ '-I', $from ]);
		is(through($s)->{out}, "127.0.0.9\n", $form);
		like($s->log, qr/listening on IPv4 address "127\.0\.0\.1"/, '-d');
		unlike($s->log, qr/not on this machine/, 'no warning');
	}
	my $d = run([ @{ $names[1] }, $PGSSL, '-f', '-p', server_pem()->{pem}, '-d', '127.0.0.1:pg-test' ], quiet => 1);
	like($d->{err}, qr/could not listen on address 127\.0\.0\.1, port ${\$v4->port}: Address already in use/, 'a service in -d');
	my $unix = serve_listen(@names, connect => "$v4->{socket}:pg-test");
	is(psql('select 1', port => $unix->port)->{out}, "1\n", 'a service with the directory of a Unix socket');
};

subtest 'an address with a zone: -r, -I and -d' => sub {
	plan skip_all => 'needs root and network namespaces' unless can_netns();
	my ($host, $other) = (net_host(), net_host());
	my ($link) = net_link($host, 'fe80::7/64 fe80::9/64', $other, '');
	my $hba = "local all all trust\nhost all all fe80::/64 trust\n";
	my $pg = start_pg(netns => $host, listen => "fe80::7%$link", hba => $hba);
	my $to = "[fe80::7%$link]";
	my $s = serve_listen(netns => $host, bind => $to, connect => "$to:" . $pg->port, args => [ '-I', "fe80::9%$link" ]);
	my $r = psql($sql, netns => $host, host => "fe80::7%$link", port => $s->port);
	is($r->{out}, "fe80::9\n", 'a session') or diag($r->{err});
	unlike($s->log, qr/not on this machine/, 'no warning');
	my $one = session(netns => $host, connect => "$to:" . $pg->port);
	ok($one->conn->login, 'a session without a listener');
	$one->logged(qr/connection authorized: .* backend_port=\d/);
};

subtest '-I' => sub {
	is(through(serve(pg => $v4, args => [qw(-I 127.0.0.2)]))->{out}, "127.0.0.2\n",
		'connects from 127.0.0.2');
	is(through(serve(pg => $v4, args => [qw(-I127.0.0.3)]))->{out}, "127.0.0.3\n",
		'argument attached to the option');
	is(through(serve(connect => $v6->port, args => [qw(--local=::1)]))->{out}, "::1\n",
		'with an IPv6 address, -r PORT is ::1');
	my $listen = serve_listen(pg => $v4, args => [qw(-I 127.0.0.4)]);
	is(through($listen)->{out}, "127.0.0.4\n", 'with -d');
	my $sql2 = 'select count(*) from pg_stat_activity where client_addr is not null';
	my @conns = map { connect_to($listen->port) } 1 .. 10;
	is(scalar(grep { $_->login } @conns), 10, 'ten sessions at once');
};

subtest 'an address that cannot be used' => sub {
	my $r = through(serve(pg => $v4, args => [qw(-I ::1)]));
	like($r->{err},
		qr/FATAL:  could not connect to PostgreSQL at 127\.0\.0\.1:\d+: -I ::1: .*expected an address of this machine, IPv4 or IPv6 as that of -r/,
		'-I of the other address family');
	$r = through(serve(connect => 1, args => [qw(-I ::1)]));
	like($r->{err}, qr/FATAL:  could not connect to PostgreSQL at \[::1\]:1: Connection refused/,
		'-r PORT with -I: the message has the address that was tried');
	$r = through(serve(pg => $v4, args => [qw(-I 192.0.2.123)]));
	like($r->{err},
		qr/FATAL:  could not connect to PostgreSQL at 127\.0\.0\.1:\d+: -I 192\.0\.2\.123: Cannot assign requested address/,
		'-I with an address of another machine');
	my $d = T::run([ $PGSSL, '-d', free_port(), '-p', server_pem()->{pem}, qw(-I 192.0.2.123) ],
		quiet => 1);
	is($d->{status}, 71, 'with -d: pgssl does not start');
	like($d->{err}, qr/-I 192\.0\.2\.123: Cannot assign requested address/,
		'and reports the reason');
};

subtest 'a failed look-up or address is one line in the log' => sub {
	for my $o ([ connect => 'no.such.host.invalid:5432' ], [ connect => 'localhost:nosuchservice' ],
		[ pg => $v4, args => [qw(-I ::1)] ], [ pg => $v4, args => [qw(-I 192.0.2.123)] ],
		[ pg => $v4, args => [qw(-I no.such.host.invalid)] ], [ connect => '127.0.0.1:1' ]) {
		for my $client (0, 1) {
			my $s = serve(@$o, client => $client);
			my $r = psql('select 1', port => $s->port, $client ? (sslmode => 'disable') : ());
			is($r->{status}, 2, "@$o[0, 1], " . ($client ? 'client' : 'server') . ' mode: refused');
			my @lines = log_lines($s->{log});
			is(scalar @lines, 1, 'one line') or diag(join "\n", @lines);
			like($lines[0], qr/could not connect to PostgreSQL at .* host=127\.0\.0\.1 port=\d+$/, 'with the client');
		}
	}
};

subtest 'a silent address leaves time for the others' => sub {
	plan skip_all => 'needs root and network namespaces' unless can_netns();
	my ($host, $mute) = (net_host(), net_host());
	my ($link) = net_link($host, '192.0.2.1/24', $mute, '');
	# packets to it are lost
	net_do($host, "ip neigh add 192.0.2.99 lladdr 02:00:00:00:00:99 dev $link");
	my $pg = start_pg(netns => $host);
	my $s = serve_listen(netns => $host,
		with_names("192.0.2.99 db\n127.0.0.1 db\n", '::ffff:192.0.2.0/120'),
		connect => 'db:' . $pg->port, args => ['--connect-timeout=6']);
	my $begun = time;
	my $r = psql($sql, netns => $host, port => $s->port);
	cmp_ok(time - $begun, '<', 5, 'it gets a share of the six seconds, not all');
	is($r->{out}, "127.0.0.1\n", 'the second address is used') or diag($r->{err});
	$s->logged(qr/PostgreSQL at 192\.0\.2\.99:\d+ is not on this machine/);
};

subtest 'the warning' => sub {
	my $s = serve(connect => '127.0.0.1:1');
	psql($sql, port => $s->port);
	unlike($s->log, qr/not on this machine/, 'not for a loopback address');
	$s = serve(connect => $v4->{socket} . ':' . $v4->port);
	is(psql('select 1', port => $s->port)->{out}, "1\n", 'through a Unix socket');
	unlike($s->log, qr/not on this machine/, 'not for a Unix socket');
	$s = session(connect => '192.0.2.123:5432');
	$s->conn->raw_send(ssl_request());
	$s->logged(qr/PostgreSQL at 192\.0\.2\.123:5432 is not on this machine: the connection to it is not encrypted/);
	pass('for another machine');
};
done_testing;
