# SPDX-License-Identifier: ISC
#
# Under xinetd: the handbook's line as printed, the file that we ship, and many sessions at once.
# sabotage: s/\*h->count += n;/*h->count += n; h->buf[n - 1] ^= 1;/ splice.c
use lib 't/lib';
use T;

needs(-x '/usr/sbin/xinetd', 'xinetd');
my $c = server_pem();
my $pg = start_pg();
my @verify = (sslmode => 'verify-full', rootcert => $c->{root});

subtest 'server_args as printed: -P/tmp/ -p FILE -r PORT' => sub {
	my $s = serve_xinetd(argv => [ '-P/tmp/', '-p', $c->{pem}, '-r', $pg->port ]);
	my $r = psql('\conninfo', port => $s->port, @verify);
	like($r->{out}, qr/SSL connection \(protocol: TLSv1\.3/, 'conninfo');
	is($r->{err}, '', 'nothing on standard error');
	is(psql('select 6*7', port => $s->port, @verify)->{out}, "42\n", 'a query');
	wait_for('the pid file to be removed', sub { !glob '/tmp/pgssl.localhost.' . $s->port . '.*.pid' });
	pass('no pid file is left');
};

subtest 'the shipped xinetd.d/pgssl' => sub {
	plan skip_all => 'no xinetd.d/pgssl' unless -e "$ROOT/xinetd.d/pgssl";
	my $s = serve_xinetd(pg => $pg, shipped => 'pgssl');
	is(psql('select 6*7', port => $s->port, @verify)->{out}, "42\n", 'a query');
	like($s->logged(qr/disconnection/), qr/user=alice database=sales host=127\.0\.0\.1/, 'logged');
};

subtest 'twenty sessions at once do not meet' => sub {
	my $s = serve_xinetd(pg => $pg);
	my @runs = map {
		my $cmd = psql_cmd('-c', "select $_ from pg_sleep(0.1)");
		[ $_, spawn(cmd => $cmd, env => pg_env(port => $s->port, @verify), out => "$TMP/out.$_"), ]
	} 1 .. 20;
	for my $run (@runs) {
		my ($n, $pid) = @$run;
		is(wait_exit($pid), 0, "psql $n ends well");
		is(slurp("$TMP/out.$n"), "$n\n", "and got its own answer");
	}
	wait_for('all sessions to end', sub { log_lines($s->{log}, qr/disconnection/) == 20 });
	wait_for('their processes to be gone', sub { !grep { alive($_) } $s->sessions });
	pass('nothing runs while nobody is connected');
};
done_testing;
