# SPDX-License-Identifier: ISC
#
# Under xinetd: the server_args of the PostgreSQL handbook, the shipped file, and many sessions at
# once.
# sabotage: xinetd.d/pgssl s/= pgssl$/= root/
# sabotage: s/\*d->count += n;/*d->count += n; d->buf[n - 1] ^= 1;/ net/splice.c
use lib 't/lib';
use T;

needs(-x '/usr/sbin/xinetd', 'xinetd');
my $c = server_pem();
my $pg = start_pg();
my @verify = (sslmode => 'verify-full', rootcert => $c->{root});

subtest 'server_args of the handbook: -P/tmp/ -p FILE -r PORT' => sub {
	my $s = serve_xinetd(argv => [ '-P/tmp/', '-p', $c->{pem}, '-r', $pg->port ]);
	my $r = psql('\conninfo', port => $s->port, @verify);
	is(conninfo($r->{out})->{protocol}, 'TLSv1.3', 'conninfo');
	is($r->{err}, '', 'nothing on standard error');
	is(psql('select 6*7', port => $s->port, @verify)->{out}, "42\n", 'a query');
	wait_for('the pid file to be removed',
		sub { !glob '/tmp/pgssl.localhost.' . $s->port . '.*.pid' });
	pass('no pid file is left');
};

# It is not started as root: the key belongs to root and is readable by the group.
subtest 'the shipped xinetd.d/pgssl' => sub {
	like(slurp("$ROOT/xinetd.d/pgssl"), qr/^\tuser\s*= pgssl$/m,
		'it runs as pgssl, not as root');
	like(slurp("$ROOT/xinetd.d/pgssl-client"), qr/^\tuser\s*= nobody$/m,
		"client mode runs as nobody");
	like(slurp("$ROOT/inetd.conf.example"), qr/^pgssl\t.*\spgssl\t\S+sbin\/pgssl\tpgssl /m,
		"the service of inetd runs as pgssl");
	my $s = serve_xinetd(pg => $pg, shipped => 'pgssl');
	is(psql('select 6*7', port => $s->port, @verify)->{out}, "42\n", 'a query');
	like($s->logged(qr/disconnection/), qr/user=alice database=sales host=127\.0\.0\.1/,
		'logged');
	my $conn = connect_to($s->port);
	ok($conn->login, 'a session');
	my ($pid) = $s->sessions;
	my ($file) = glob "$s->{pids}/*";
	if (is_root()) {
		my $nobody = getpwnam 'nobody';
		like(slurp("/proc/$pid/status"), qr/^Uid:\s+$nobody\s+$nobody\s+$nobody\s.*^CapPrm:\s+0+$/ms, 'it runs as an unprivileged user');
		is((stat $file)[4], $nobody, 'which owns the pid file');
		like(sprintf('%04o', (stat $c->{pem})[2] & 07777), qr/^0640$/,
			'and may read the key as a member of its group');
	}
	$conn->close;
	wait_for('the pid file to be removed', sub { !-e $file });
};

subtest 'twenty sessions at once are independent' => sub {
	my $s = serve_xinetd(pg => $pg);
	my @runs = map {
		my $cmd = psql_cmd('-c', "select $_ from pg_sleep(0.1)");
		[ $_, spawn(cmd => $cmd, env => pg_env(port => $s->port, @verify),
			out => "$TMP/out.$_"), ]
	} 1 .. 20;
	for my $run (@runs) {
		my ($n, $pid) = @$run;
		is(wait_exit($pid), 0, "psql $n succeeds");
		is(slurp("$TMP/out.$n"), "$n\n", "psql $n gets its own answer");
	}
	wait_for('all sessions to end', sub { log_lines($s->{log}, qr/disconnection/) == 20 });
	wait_for('their processes to end', sub { !grep { alive($_) } $s->sessions });
	pass('nothing runs while nobody is connected');
};
done_testing;
