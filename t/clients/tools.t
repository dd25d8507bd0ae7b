# SPDX-License-Identifier: ISC
#
# PostgreSQL's own tools, servers as clients of other servers, poolers and pgcli: each does the same
# through pgssl as through PostgreSQL's own TLS. t/check-clients runs this.
# sabotage: s/d->len += n;/d->len += n > 8000 ? n - 1 : n;/ net/splice.c
use lib 't/lib';
use T;
use T::Clients;
use T::Tools;

limit(600);
needs(is_root(), 'root');
setup();
my $PG = (run([ 'postgres', '-V' ])->{out} =~ /(\d[\d.]*)/)[0];
my $n = 0; # for names

# ---- psql

my $copy = "\\copy t to '$TMP/t.copy'\ncreate temp table u (like t);\n\\copy u from '$TMP/t.copy'\nselect count(*), sum(square) from u;\n";
check_uses('psql \copy', $PG, sub { my %conn = @_; program(\%conn, psql_cmd(), stdin => $copy) });

check('psql \watch', $PG, 'cancel', sub {
	same('Ctrl-C', qr/^interrupted: 0\nwent on/, sub {
		interrupt({ conn(@_) }, psql_cmd(), "query like '%watched%' and state = 'idle'", in => spew("$TMP/watch", "select 'watched'\n\\watch 0.1\n\\warn went on\n"));
	});
});

# ---- a database of 60 tables, for fifty connections at once

direct('create database many');
direct('do $$ begin for i in 1..60 loop execute format(\'create table m%s as select g as i from generate_series(1, 10) g\', i); execute format(\'create index on m%s (i)\', i); end loop; end $$', dbname => 'many');

# ---- pg_dump and pg_restore

# What a database has: its tables' rows and large objects.
sub contents {
	my ($dbname) = @_;
	my $rows = direct("select string_agg(query_to_xml(format('select count(*), md5(string_agg(t::text, chr(10) order by t::text)) as md5 from %I t', relname), false, true, '')::text, '' order by relname) from pg_class where relkind='r' and relnamespace='public'::regnamespace", dbname => $dbname);
	return digest_of($rows) . ' ' . direct("select count(*), md5(string_agg(oid || ' ' || md5(lo_get(oid)), ' ' order by oid)) from pg_largeobject_metadata", dbname => $dbname);
}

sub dump_to { my ($dbname) = @_; return ('pg_dump', '-Fd', '-j', 4, '-Z', 1, '-f', "$TMP/dump." . ++$n, $dbname) }

check_uses('pg_dump', $PG, sub {
	my %conn = @_;
	my @dump = dump_to('sales');
	my $outcome = program(\%conn, \@dump);
	return $outcome unless $outcome =~ /^ok/;
	my $text = run([ 'pg_restore', '-f', '-', $dump[-2] ])->{out} =~ s/^\\(?:un)?restrict .*\n//mgr =~ s/^-- (?:Started|Completed) .*\n//mgr;
	return 'ok ' . length($text) . ' ' . digest_of($text);
});

my @archive = dump_to('sales');
is(program({ conn('native') }, \@archive), "ok\n", 'an archive');
sub fresh { direct("drop database if exists $_[0]"); direct("create database $_[0]") }
fresh('restored');
sub restored {
	my ($archive, %conn) = @_;
	my $outcome = program(\%conn, [ 'pg_restore', '-j', 4, '-d', 'restored', $archive ]);
	return $outcome unless $outcome =~ /^ok/;
	$outcome = 'ok ' . contents('restored');
	fresh('restored');
	return $outcome;
}
check_uses('pg_restore', $PG, sub { restored($archive[-2], @_) });

# Stop a tool that waits for locked tables, which it cannot do before it holds connections.
my $waits = "wait_event_type='Lock'";
my @many = map { "m$_" } 1 .. 60;

check('pg_dump', $PG, 'cancel', sub {
	my $lock = hold('many', 'm1');
	same('Ctrl-C', qr/^interrupted: /, sub { interrupt({ conn(@_) }, [ dump_to('many') ], $waits) });
	$lock->close;
});

my @data = dump_to('many');
is(program({ conn('native') }, \@data), "ok\n", 'an archive of many tables');
my @restore_data = (qw(pg_restore -a -d many), $data[-2]);
check('pg_restore', $PG, 'cancel', sub {
	my $lock = hold('many', @many);
	same('Ctrl-C', qr/^interrupted: 256\n.*terminated by user/s, sub { interrupt({ conn(@_) }, [ @restore_data, '-j', 4 ], $waits) });
	$lock->close;
});

# ---- fifty connections at once

check('pg_dump', $PG, '50 at once', sub {
	same('pg_dump -j 50', qr/^ok\n51 sessions/, sub {
		my $log = length $pg->log;
		my $outcome = program({ conn(@_) }, [ map { $_ eq '4' ? 50 : $_ } dump_to('many') ]);
		return $outcome . (() = substr($pg->log, $log) =~ /authorized: .*application_name=pg_dump/g) . ' sessions';
	});
});
for my $cmd (\@restore_data, [qw(vacuumdb many)], [qw(reindexdb many)]) {
	check($cmd->[0], $PG, '50 at once', sub {
		same("$cmd->[0] -j 50", qr/^ended: 0\n/, sub {
			return together({ conn(@_) }, [ @$cmd, '-j', 50 ], hold('many', @many));
		});
	});
}
done_testing;
