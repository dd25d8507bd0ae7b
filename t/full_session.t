# SPDX-License-Identifier: ISC
#
# Everyday work gives the same results through pgssl and directly: psql, pgbench, pg_dump |
# pg_restore and pg_basebackup.
# sabotage: s/d->len += n;/d->len += n > 8000 ? n - 1 : n;/ net/splice.c
use lib 't/lib';
use T;

my $c = server_pem();
my $pg = start_pg();
my $s = serve_xinetd(pg => $pg);
my @tls = (port => $s->port, sslmode => 'verify-full', rootcert => $c->{root}, user => 'postgres');
my @direct = (port => $pg->port, sslmode => 'disable', user => 'postgres');

sub do_ok {
	my ($what, $cmd, @with) = @_;
	my $r = pg_do($cmd, @with);
	is($r->{status}, 0, $what) or diag($r->{err});
	return $r->{out};
}

psql("create database $_", @direct) for qw(bench copy);
do_ok('pgbench -i through pgssl', [ qw(pgbench -i -q -s 1 bench) ], @tls);
do_ok('pgbench with four clients', [ qw(pgbench -n -c 4 -j 2 -t 50 bench) ], @tls);
is(psql('select count(*), sum(abalance)=(select sum(delta) from pgbench_history) from pgbench_accounts', @tls, dbname => 'bench')->{out}, "100000|t\n", 'the sums of pgbench agree');

# Newer versions of pg_dump put a random word into their output.
sub dump_of { return do_ok(@_) =~ s/^\\(?:un)?restrict .*$//mgr }

my $dump = dump_of('pg_dump through pgssl', [ qw(pg_dump bench) ], @tls);
ok($dump eq dump_of('pg_dump directly', [ qw(pg_dump bench) ], @direct), 'the dumps are equal');
cmp_ok(length $dump, '>', 8_000_000, 'the dump is complete');

do_ok('pg_dump -Fc | pg_restore', [ 'sh', '-c', 'pg_dump -Fc bench | pg_restore -d copy' ], @tls);
ok(dump_of('pg_dump of the copy', [ qw(pg_dump copy) ], @direct) eq $dump, 'the copy is equal');

my @queries = ('select generate_series(1, 100000)', "select repeat('x', 1000000)",
	'copy pgbench_accounts to stdout', 'select 1/0', 'select');
for my $sql (@queries) {
	my ($a, $b) = map { psql($sql, @$_, dbname => 'bench') } \@tls, \@direct;
	ok($a->{$_} eq $b->{$_}, "$sql: the same $_") for qw(out err status);
}

for my $wal (qw(stream fetch)) {
	do_ok("pg_basebackup -X $wal", [ 'pg_basebackup', '-X', $wal, '-c', 'fast', '--no-sync', '-D', "$TMP/base" ], @tls);
	do_ok('pg_verifybackup', [ 'pg_verifybackup', "$TMP/base" ]);
	T::run([ 'rm', '-rf', "$TMP/base" ]);
}
done_testing;
