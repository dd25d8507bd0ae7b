# SPDX-License-Identifier: ISC
#
# Under inetd. The line in the PostgreSQL handbook has no program name, so argv[0] is "-P/tmp/" and
# the options begin at -p. It must work all the same.
# sabotage: s/setprogname("pgssl");/if (argv[0][0] == '-') _exit(1);/ wrapper.c
use lib 't/lib';
use T;

my $c = server_pem();
my $pg = start_pg();
my @verify = (sslmode => 'verify-full', rootcert => $c->{root});

subtest 'the inetd.conf line of the handbook, without a program name' => sub {
	my $s = serve_inetd(argv => [ '-P/tmp/', '-p', $c->{pem}, '-r', $pg->port ]);
	my $r = psql('\conninfo', port => $s->port, @verify);
	is(conninfo($r->{out})->{protocol}, 'TLSv1.3', 'conninfo');
	is($r->{err}, '', 'nothing on standard error');
	is(psql('select 6*7', port => $s->port, @verify)->{out}, "42\n", 'a query');
};

subtest 'with a program name, as in our example' => sub {
	my $s = serve_inetd(argv => [ 'pgssl', '-P/tmp/', '-p', $c->{pem}, '-r', $pg->port, '-o',
		"$TMP/named.log" ]);
	is(psql('select 6*7', port => $s->port, @verify)->{out}, "42\n", 'a query');
	wait_for('the log line', sub { log_lines("$TMP/named.log", qr/disconnection/) });
};

# It is not started as root: the key belongs to root and is readable by the group.
subtest 'the shipped line of inetd.conf.example' => sub {
	my $s = serve_inetd(pg => $pg, shipped => 'nowait');
	is(psql('select 6*7', port => $s->port, @verify)->{out}, "42\n", 'a query');
	my $conn = connect_to($s->port);
	ok($conn->login, 'a session');
	my ($pid) = $s->sessions;
	my $nobody = getpwnam 'nobody';
	like(slurp("/proc/$pid/status"), qr/^Uid:\s+$nobody\s+$nobody\s+$nobody\s/m,
		'it runs as an unprivileged user') if is_root();
	my $file = "$s->{pids}/pgssl.localhost." . $s->port . ".$pid.pid";
	ok(-e $file, 'it has a pid file');
	$conn->close;
	wait_for('the pid file to be removed', sub { !-e $file });
};

subtest 'an empty argv[0], and one that is an option' => sub {
	for my $name ('', '-P/tmp/') {
		my $s = session(pg => $pg, argv0 => $name, stderr => 'client');
		ok($s->conn->login, "argv[0] is '$name'");
		$s->conn->send("X\0\0\0\4");
		is($s->conn->rest, '', 'nothing more');
		is($s->wait, 0, 'status');
	}
};
done_testing;
