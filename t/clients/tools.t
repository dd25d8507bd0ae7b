# SPDX-License-Identifier: ISC
#
# PostgreSQL's own tools, servers as clients of other servers, poolers and pgcli: each does the same
# through pgssl as through PostgreSQL's own TLS. t/check-clients runs this. With TOOLS=REGEX in the
# environment only the checks "TOOL: CHECK" that match are made.
# sabotage: s/d->len += n;/d->len += n > 8000 ? n - 1 : n;/ net/splice.c
use lib 't/lib';
use T;
use T::Clients;
use T::Tools;

limit(1500);
needs(is_root(), 'root');
setup();
my $PG = (run([ 'postgres', '-V' ])->{out} =~ /(\d[\d.]*)/)[0];
my $n = 0; # for names

# ---- psql

my $copy = "\\copy t to '$TMP/t.copy'\ncreate temp table u (like t);\n\\copy u from '$TMP/t.copy'\nselect count(*), sum(square) from u;\n";
check_uses('psql', $PG, sub { my %conn = @_; program(\%conn, psql_cmd(), stdin => $copy) });

check('psql', $PG, 'cancel', sub {
	same('Ctrl-C ends \watch', qr/^interrupted: 0\nwent on/, sub {
		interrupt({ conn(@_) }, psql_cmd(), "query like '%watched%' and state = 'idle'", in => spew("$TMP/watch", "select 'watched'\n\\watch 60\n\\warn went on\n"));
	});
});

# ---- a database of 60 tables, for fifty connections at once

direct('create database many');
direct('do $$ begin for i in 1..60 loop execute format(\'create table m%s as select g as i from generate_series(1, 10) g\', i); execute format(\'create index on m%s (i)\', i); end loop; end $$', dbname => 'many');

my $many_sql = spew("$TMP/many.sql", "select count(*) from m1;\n");

check('psql', $PG, '50 at once', sub {
	same('50 sessions', qr/^ended: 0\n(?:10\n){50}$/, sub {
		together({ conn(@_, dbname => 'many') }, [ 'sh', '-c', "for i in `seq 50`; do psql -XAtqf $many_sql >&2 & done; wait" ], hold('many', 'm1'));
	});
});

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
my $whole = 'ok ' . contents('sales');
check_uses('pg_restore', $PG, sub {
	my $outcome = restored($archive[-2], @_);
	return $outcome =~ /^ok/ && $outcome ne $whole ? "not equal: $outcome" : $outcome;
});

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

# ---- pg_isready, pgbench, vacuumdb and reindexdb

check_uses('pg_isready', $PG, sub {
	my $r = run(['pg_isready'], env => pg_env(@_), quiet => 1);
	return ($r->{status} ? '' : 'ok ') . $r->{out} =~ s/:\d+/:N/r;
}, no_login => 1, wrong_ca => qr/no response/, no_certificate => qr/accepting/, down => qr/rejecting connections/);
cannot('pg_isready', $PG, SCRAM => 'it does not log in', '100 MB' => 'it transfers nothing', cancel => 'it ends at once', '50 at once' => 'one connection');

my %simple = (
	pgbench => [ [qw(-n -t 5 -f), spew("$TMP/bench.sql", "select sum(square) from t;\n")] ],
	vacuumdb => [ [qw(-j 2 -t t)] ],
	reindexdb => [ [qw(-j 2 -t t)] ],
);
for my $tool (sort keys %simple) {
	my ($args, %o) = @{ $simple{$tool} };
	check_uses($tool, $PG, sub {
		my %conn = @_;
		my $outcome = program(\%conn, [ $tool, @$args ]);
		return $outcome =~ s/(?:latency|initial connection|tps).*\n//gr;
	}, %o);
}
direct('create table pgbench_accounts (i int)', dbname => 'many');
push @many, 'pgbench_accounts';
for my $cmd ([qw(pgbench -i -I d many)], [qw(vacuumdb -j 4 many)], [qw(reindexdb -j 4 many)]) {
	check($cmd->[0], $PG, 'cancel', sub {
		my $lock = hold('many', @many);
		same('Ctrl-C', qr/^interrupted: /, sub { interrupt({ conn(@_) }, $cmd, $waits) });
		$lock->close;
	});
}
check('pgbench', $PG, '50 at once', sub {
	same('pgbench -c 50', qr/^ended: 0\n/, sub {
		together({ conn(@_) }, [ qw(pgbench -n -c 50 -t 1 -f), $many_sql, 'many' ], hold('many', 'm1'));
	});
});

# ---- pg_basebackup, pg_receivewal and pg_recvlogical

sub base_backup {
	my ($to, %conn) = @_;
	run([ 'rm', '-rf', $to ]);
	return program(\%conn, [ qw(pg_basebackup -X stream -c fast --no-sync -D), $to ]);
}

check_uses('pg_basebackup', $PG, sub {
	my $outcome = base_backup("$TMP/base", @_);
	return $outcome unless $outcome =~ /^ok/;
	return 'ok ' . run([ 'pg_verifybackup', "$TMP/base" ])->{out};
});
check('pg_basebackup', $PG, 'cancel', sub {
	same('Ctrl-C', qr/^interrupted: /, sub {
		interrupt({ conn(@_) }, [ qw(pg_basebackup -X stream -c fast --no-sync -r 32k -D), "$TMP/slow." . ++$n ], "application_name='pg_basebackup' and backend_type='walsender'");
	});
});

# Write WAL, in messages of 1 MB, and complete the segment; returns the position of its last byte.
sub write_wal {
	my ($megabytes) = @_;
	direct("select count(pg_logical_emit_message(false, 'test', repeat('x', 1000000))) from generate_series(1, $megabytes)");
	direct('select pg_switch_wal()');
	my ($high, $low) = split m{/}, direct('select pg_current_wal_insert_lsn()');
	return sprintf '%s/%X', $high, (hex($low) & 0xff000000) - 1;
}

# Receive WAL by a slot, and compare each segment with PostgreSQL's own.
sub receive_wal {
	my ($megabytes, %conn) = @_;
	my ($slot, $to) = ('wal' . ++$n, "$TMP/wal.$n");
	mkdir $to;
	my $outcome = program(\%conn, [ qw(pg_receivewal --create-slot -S), $slot ]);
	return $outcome unless $outcome =~ /^ok/;
	# A new slot has no position: begin at the present segment, as if it had been interrupted.
	spew("$to/" . direct('select pg_walfile_name(pg_current_wal_lsn())') . '.partial', '');
	my $end = write_wal($megabytes);
	$outcome = program(\%conn, [ qw(pg_receivewal -n --no-sync -S), $slot, '-D', $to, "--endpos=$end" ]);
	my @segments = map { s{.*/}{}r } grep { !/partial/ } glob "$to/0*";
	my @equal = grep { digest_file("$to/$_") eq digest_file("$pg->{data}/pg_wal/$_") } @segments;
	direct("select pg_drop_replication_slot('$slot')");
	return "nothing received: $outcome" unless @segments > ($megabytes > 16 ? 5 : 0);
	return 'not equal: ' . join ' ', @segments if @equal != @segments;
	return "${outcome}all segments";
}
check_uses('pg_receivewal', $PG, sub { receive_wal(1, @_) });
# It handles signals when it receives, and its first reply comes then.
my $receives = 'pid in (select pid from pg_stat_replication where reply_time is not null)';
check('pg_receivewal', $PG, 'cancel', sub {
	same('Ctrl-C', qr/^interrupted: 0/, sub {
		mkdir "$TMP/wal";
		interrupt({ conn(@_) }, [ qw(pg_receivewal --no-sync -D), "$TMP/wal" ], $receives) =~ s/.*not renaming .*\n//r;
	});
});

# Decode the insertion of rows by a slot.
direct('create table decoded (i int, x text)');
sub decode {
	my ($rows, %conn) = @_;
	my ($slot, $to) = ('logical' . ++$n, "$TMP/decoded.$n");
	my @cmd = ('pg_recvlogical', '-d', 'sales', '-S', $slot);
	my $outcome = program(\%conn, [ @cmd, qw(--create-slot -P test_decoding) ]);
	return $outcome unless $outcome =~ /^ok/;
	direct("insert into decoded select i, repeat('x', 1000) from generate_series(1, $rows) i");
	my $end = direct('select pg_current_wal_lsn()');
	$outcome = program(\%conn, [ @cmd, '--start', '--no-loop', '-f', $to, "--endpos=$end", qw(-o include-xids=0 -o skip-empty-xacts=1) ]);
	$outcome .= program(\%conn, [ @cmd, '--drop-slot' ]);
	my $lines = () = slurp($to) =~ /^table public.decoded: INSERT: i\[integer\]:\d+ x\[text\]:'x{1000}'$/mg;
	return "$lines of $rows rows: $outcome" if $lines != $rows;
	return "$outcome$lines rows " . digest_file($to);
}
check_uses('pg_recvlogical', $PG, sub { decode(100, @_) });
check('pg_recvlogical', $PG, 'cancel', sub {
	same('Ctrl-C', qr/^interrupted: 0/, sub {
		my %conn = conn(@_);
		my @cmd = qw(pg_recvlogical -d sales -S cancel);
		program(\%conn, [ @cmd, qw(--create-slot -P test_decoding) ]);
		my $outcome = interrupt(\%conn, [ @cmd, '--start', '-f', "$TMP/cancel" ], $receives);
		return $outcome . program(\%conn, [ @cmd, '--drop-slot' ]);
	});
});
cannot($_, $PG, '50 at once', 'one connection or two, and a few of them for each PostgreSQL') for qw(pg_basebackup pg_receivewal pg_recvlogical);

# ---- postgres_fdw and dblink, in another PostgreSQL

my $hub = start_pg(conf => "max_connections=120\nwal_retrieve_retry_interval=100ms\n");
my %hub = (host => $hub->{socket}, port => $hub->port, user => 'postgres', sslmode => 'disable');
direct("create extension $_", to => $hub) for qw(postgres_fdw dblink);
sub in_hub { return program({%hub}, psql_cmd(), stdin => $_[0]) }

sub options_of {
	my ($names, %conn) = @_;
	return 'options (' . join(', ', map { "$_ '$conn{$_}'" } grep { defined $conn{$_} } @$names) . ')';
}

sub foreign_server {
	my %conn = as_postgres(@_);
	return "set client_min_messages = error; drop server if exists s cascade; create server s foreign data wrapper postgres_fdw "
		. options_of([qw(host hostaddr port dbname sslmode sslrootcert)], %conn) . '; create user mapping for postgres server s '
		. options_of([qw(user password sslcert sslkey)], %conn) . '; drop schema if exists far cascade; create schema far;';
}

direct("create view endless as select 1 as one, pg_sleep(60)::text as slept");
check_uses('postgres_fdw', $PG, sub {
	in_hub(foreign_server(@_) . "import foreign schema public limit to (t) from server s into far;\nselect count(*), sum(square) from far.t;\nupdate far.t set square = square where i = 1 returning square;\nselect * from far.t where i = 7;");
});
check_uses('dblink', $PG, sub {
	my $to = conn_string(as_postgres(@_)) =~ s/'/''/gr;
	in_hub("select dblink_connect('c', '$to');\nselect * from dblink('c', 'select count(*), sum(square) from t') as x(n bigint, s numeric);\nselect dblink_exec('c', 'update t set square = square where i = 1')");
});
check('postgres_fdw', $PG, 'cancel', sub {
	same('Ctrl-C', qr/^interrupted: .*canceling statement due to user request/s, sub {
		in_hub(foreign_server(conn(@_)) . 'import foreign schema public limit to (endless) from server s into far');
		interrupt({%hub, dbname => 'sales'}, psql_cmd('-c', 'select slept from far.endless'), "application_name='postgres_fdw' and wait_event='PgSleep'");
	});
});
check('dblink', $PG, 'cancel', sub {
	same('dblink_cancel_query', qr/^ok\n.*canceling statement due to user request/s, sub {
		my $to = conn_string(conn(@_)) =~ s/'/''/gr;
		in_hub("select dblink_connect('c', '$to');\nselect dblink_send_query('c', 'select pg_sleep(60)');\nselect dblink_cancel_query('c');\nselect * from dblink_get_result('c', false) as x(y text);\nselect dblink_error_message('c')");
	});
});
check('postgres_fdw', $PG, '50 at once', sub {
	same('50 sessions', qr/^ended: 0\n/, sub {
		in_hub(foreign_server(conn(@_), dbname => 'many') . 'import foreign schema public limit to (m1) from server s into far');
		together({%hub, dbname => 'sales'}, [ qw(pgbench -n -c 50 -t 1 -f), spew("$TMP/far.sql", "select * from far.m1;\n") ], hold('many', 'm1'));
	});
});
check('dblink', $PG, '50 at once', sub {
	same('50 connections of a session', qr/^ok\nOK\n50\n/, sub {
		my $to = conn_string(conn(@_)) =~ s/'/''/gr;
		in_hub("select distinct dblink_connect('c' || i, '$to') from generate_series(1, 50) i;\nselect count(*) from generate_series(1, 50) i, lateral dblink('c' || i, 'select 1') as x(one int)");
	});
});

# ---- a standby and a subscription

direct('create table news (i int primary key)');
direct('create publication p for table news');
direct('create table news (i int primary key)', to => $hub);
is(base_backup("$TMP/standby.data", conn('pgssl')), "ok\n", 'a backup for the standby');
my $standby = from_backup("$TMP/standby.data", "hot_standby = on\nwal_retrieve_retry_interval = 100ms\n");
my $news = 0;

# Insert a row and wait until another server has it.
sub news_arrive {
	my ($in) = @_;
	$news++;
	direct("insert into news values ($news)");
	wait_for("news in $in->{base}", sub { direct("select count(*) from news where i = $news", to => $in) eq 1 }, 300);
	return "news arrive\n";
}

sub stream {
	my %conn = as_postgres(@_);
	my $log = length $standby->log;
	my $string = conn_string(%conn) =~ s/'/''/gr;
	$standby->configure('primary.conf', "primary_conninfo = '$string'\n");
	my ($error, $status);
	wait_for('the standby', sub {
		($error) = substr($standby->log, $log) =~ /FATAL:  (?:streaming replication receiver ".*" )?could not connect to the primary server: (.*port $conn{port} .*(?:\n\t.*)*)/; # not one of the connection before
		$error || direct("select count(*) from pg_stat_wal_receiver where status = 'streaming' and sender_port = $conn{port} and conninfo ~ 'user=$conn{user} '", to => $standby) eq 1;
	});
	return $error ? tidy($error) : "ok\n" . news_arrive($standby);
}
check_uses('streaming standby', $PG, \&stream);

sub subscribe {
	my %conn = as_postgres(@_);
	my $string = conn_string(%conn) =~ s/'/''/gr;
	direct('truncate news', to => $hub);
	my $outcome = in_hub("set client_min_messages = error; create subscription s connection '$string' publication p");
	return $outcome =~ /^ok/ ? $outcome . news_arrive($hub) : $outcome;
}
sub unsubscribe { direct('drop subscription s', to => $hub) }
check_uses('subscription', $PG, sub {
	my $outcome = subscribe(@_);
	unsubscribe() if $outcome =~ /^ok/;
	return $outcome;
});

my %replica = ('streaming standby' => [ \&stream, $standby, sub { $standby->configure('primary.conf', '') } ],
	subscription => [ \&subscribe, $hub, \&unsubscribe ]);
for my $tool (sort keys %replica) {
	my ($start, $server, $end) = @{ $replica{$tool} };
	my $lost = $tool eq 'subscription' ? qr/could not connect to the publisher/ : qr/could not connect to the primary/;
	check($tool, $PG, 'restart of PostgreSQL', sub {
		same('restart', qr/^ok\nnews arrive\nnews arrive\nended/, sub {
			my ($via) = @_;
			my $outcome = $start->(conn($via));
			my $log = length $server->log;
			my $down = $via eq 'native' ? qr/Connection refused/ : qr/could not connect to PostgreSQL at/;
			restart(sub { wait_for('the loss', sub { substr($server->log, $log) =~ /$lost.*$down/s }) });
			$outcome .= news_arrive($server);
			$end->();
			wait_for('the walsender to end', sub { !busy("backend_type = 'walsender'") });
			return $outcome . 'ended';
		});
	});
	cannot($tool, $PG, cancel => 'it runs in the background', '50 at once' => 'one connection');
}

# ---- pgbouncer and pgpool: psql connects to them in clear, and they connect under TLS

my $pooler; # the running one: { pid, log, conn }

# Start a pooler with its configuration; wait for the Unix socket by which psql reaches it.
sub start_pooler {
	my ($cmd, $dir, $port, %conn) = @_;
	$pooler = { log => "$dir/log", conn => { host => $dir, port => $port, user => $conn{user}, dbname => $conn{dbname}, sslmode => 'disable', $conn{password} ? (password => $conn{password}) : () } };
	spew("$dir/conf", delete $conn{conf});
	T::Pg::chown_postgres($dir);
	$pooler->{pid} = spawn(cmd => $cmd, user => T::nobody(), err => "$dir/log", out => "$dir/out");
	wait_for('the pooler', sub {
		die "it ended: ", slurp("$dir/log") if defined reap($pooler->{pid});
		-S "$dir/.s.PGSQL.$port";
	});
}

sub start_pgbouncer {
	my %conn = as_postgres(@_);
	my ($dir, $port) = ("$TMP/pgbouncer" . ++$n, free_port());
	mkdir $dir;
	my $login = join ' ', map { "$_=$conn{$_}" } grep { $conn{$_} } qw(port user password);
	start_pooler([ 'pgbouncer', "$dir/conf" ], $dir, $port, %conn, conf => <<~"END" . join '', map { "server_tls_$_->[0]_file = $conn{$_->[1]}\n" } grep { $conn{$_->[1]} } [qw(ca sslrootcert)], [qw(cert sslcert)], [qw(key sslkey)]);
		[databases]
		* = host=$conn{hostaddr} $login
		[pgbouncer]
		listen_port = $port
		unix_socket_dir = $dir
		auth_type = any
		pool_mode = session
		default_pool_size = 60
		server_tls_sslmode = $conn{sslmode}
		END
}

sub start_pgpool {
	my %conn = as_postgres(@_);
	my ($dir, $port) = ("$TMP/pgpool" . ++$n, free_port());
	mkdir $dir;
	my $version = join '', @{ run([ qw(pgpool --version) ]) }{qw(out err)};
	my $sockets = $version =~ / 4\.[0-3]\./ ? 'socket_dir' : 'unix_socket_directories';
	start_pooler([ qw(pgpool -n -f), "$dir/conf", '-a', "$dir/none", '-F', "$dir/none" ], $dir, $port, %conn, conf => <<~"END" . join '', map { "$_->[0] = '$conn{$_->[1]}'\n" } grep { $conn{$_->[1]} } [qw(ssl_ca_cert sslrootcert)], [qw(ssl_cert sslcert)], [qw(ssl_key sslkey)]);
		listen_addresses = ''
		port = $port
		$sockets = '$dir'
		pcp_socket_dir = '$dir'
		pcp_port = @{[ free_port() ]}
		pid_file_name = '$dir/pid'
		logdir = '$dir'
		backend_clustering_mode = 'raw'
		backend_hostname0 = '$conn{hostaddr}'
		backend_port0 = $conn{port}
		backend_flag0 = 'ALWAYS_PRIMARY|DISALLOW_TO_FAILOVER'
		num_init_children = @{[ $conn{sessions} || 4 ]}
		max_pool = 1
		connection_cache = off
		enable_pool_hba = off
		pool_passwd = ''
		allow_clear_text_frontend_auth = on
		sr_check_period = 0
		health_check_period = 0
		memqcache_total_size = 4MB
		ssl = on
		END
}

# The outcome of a query. A client waits as long as the pooler cannot verify the server or, with some
# versions of pgbouncer, while PostgreSQL cannot be connected to.
my $not_connected = qr/(certificate verify failed|could not connect to PostgreSQL at [^(\n]*)/;
sub through_pooler {
	my ($sql) = @_;
	my ($out, $err) = map { spew("$TMP/pooled.$_", '') } qw(out err);
	my $pid = spawn(cmd => psql_cmd('-c', $sql), env => pg_env(%{ $pooler->{conn} }), out => $out, err => $err);
	wait_for('psql', sub { defined reap($pid) || slurp($pooler->{log}) =~ $not_connected });
	stop($pid) unless defined reap($pid);
	return $1 if slurp($pooler->{log}) =~ $not_connected;
	return wait_exit($pid) ? tidy(slurp($err)) : "ok\n" . slurp($out);
}

# Let a function use a pooler that is connected this way; returns its outcome.
sub pooled {
	my ($start, $do, %conn) = @_;
	$start->(%conn);
	my $outcome = $do->();
	stop($pooler->{pid}, 'INT');
	return $outcome;
}

# pgpool sends no certificate, and hides what the server answers to a login.
my %pooler = (
	pgbouncer => { start => \&start_pgbouncer, of => debian_version('pgbouncer') },
	pgpool => { start => \&start_pgpool, of => debian_version('pgpool2'), uses => [ wrong_password => qr/backend authentication failed/, no_cert => 1, no_down => 1 ] },
);
for my $tool (sort keys %pooler) {
	my ($start, $of, $uses) = @{ $pooler{$tool} }{qw(start of uses)};
	check_uses($tool, $of, sub {
		my $outcome = pooled($start, sub { through_pooler('select count(*), sum(square) from t') }, @_);
		like(slurp($pooler->{log}), qr/SSL established: TLSv1\.3/, 'under TLS') if $outcome =~ /^ok/ && $tool eq 'pgbouncer';
		return $outcome;
	}, @{ $uses || [] });
	check($tool, $of, 'cancel', sub {
		same('Ctrl-C', qr/^interrupted: .*canceling statement due to user request/s, sub {
			pooled($start, sub { interrupt($pooler->{conn}, psql_cmd('-c', 'select pg_sleep(60)'), "query = 'select pg_sleep(60)' and state = 'active'") }, conn(@_));
		});
	});
	check($tool, $of, '50 at once', sub {
		same('50 sessions', qr/^ended: 0\n/, sub {
			pooled($start, sub { together($pooler->{conn}, [ qw(pgbench -n -c 50 -t 1 -f), $many_sql ], hold('many', 'm1')) }, conn(@_, dbname => 'many'), sessions => 55);
		});
	});
}
cannot('pgpool', $pooler{pgpool}{of}, 'client certificate' => 'it has none as a client', 'PostgreSQL down' => 'it hides the message');

# ---- pgcli

my $PGCLI = debian_version('pgcli');
mkdir "$TMP/home";

# Type at the terminal of a pgcli when a condition is true, again and again. Returns its output.
sub type_to_pgcli {
	my ($conn, @typed) = @_;
	my $out = spew("$TMP/pgcli.out", '');
	pipe my $read, my $keys or die "pipe: $!\n";
	my $pid = spawn(cmd => [ qw(script -qfec), 'pgcli -w sales', '/dev/null' ], in => $read, out => $out,
		env => { %{ pg_env(%$conn) }, HOME => "$TMP/home", XDG_CONFIG_HOME => "$TMP/home", TERM => 'dumb', SHELL => '/bin/sh' });
	while (my ($when, $text) = splice @typed, 0, 2) {
		wait_for('pgcli', sub { defined reap($pid) || $when->(slurp($out)) });
		syswrite $keys, $text unless defined reap($pid);
	}
	wait_exit($pid);
	return slurp($out) =~ s/\e\[[\d;?]*[a-zA-Z]|\r//gr;
}

my $prompt = sub { $_[0] =~ /sales> / };
check_uses('pgcli', $PGCLI, sub {
	my $out = type_to_pgcli({@_}, $prompt, "select count(*), sum(square) from t;\r", sub { $_[0] =~ /SELECT 1/ }, "\\q\r");
	return $out =~ /^(\| *1000 .*)/m ? "ok $1" : tidy($out);
});
check('pgcli', $PGCLI, 'cancel', sub {
	same('Ctrl-C', qr/^cancel/, sub {
		my $sleeping = "query = 'select pg_sleep(60)' and state = 'active'";
		my $out = type_to_pgcli({ conn(@_) }, $prompt, "select pg_sleep(60);\r", sub { busy($sleeping) }, "\cC", sub { !busy($sleeping) }, "\\q\r");
		return $out =~ /(cancel.*)/ ? $1 : $out;
	});
});
cannot('pgcli', $PGCLI, '50 at once' => 'one connection');

# ---- 100 MB, at the end since a backup has them afterwards

my @big = map { "big$_" } 1 .. 4;
direct("create table $_ as select i, md5(i::text) || repeat('x', 1000) as x from generate_series(1, 25000) i") for @big;
my $big_sql = '(' . join(' union all ', map { "select * from $_" } @big) . ')';
my $size = qr/^ok.*\n1\d{8}$/s; # the end of an outcome: the size of a file
sub file_of { my ($outcome, $path) = @_; return $outcome . digest_file($path) =~ s/ /\n/r }
sub copied {
	my ($conn, $to) = (@_, "$TMP/copied." . ++$n);
	return file_of(program($conn, psql_cmd('-c', "\\copy $big_sql to '$to'")), $to);
}

check('psql', $PG, '100 MB', sub {
	same('to a file', $size, sub { copied({ conn(@_) }) });
	direct('create table back (like big1)');
	same('from a file', qr/^ok\nCOPY 100000\n/, sub {
		my $outcome = program({ conn(@_) }, psql_cmd('-c', 'truncate back', '-c', "\\copy back from '$TMP/copied.$n'", '-c', '\echo COPY :ROW_COUNT'));
		return $outcome . direct("select md5(string_agg(md5(x), '' order by i, x)) from back");
	});
	direct('drop table back');
});
for my $tool (sort keys %pooler) {
	check($tool, $pooler{$tool}{of}, '100 MB', sub {
		same('to a file', $size, sub { pooled($pooler{$tool}{start}, sub { copied($pooler->{conn}) }, conn(@_)) });
	});
}
check('pgcli', $PGCLI, '100 MB', sub {
	same('\copy', $size, sub {
		my $to = "$TMP/copied." . ++$n;
		my $out = type_to_pgcli({ conn(@_) }, $prompt, "\\copy $big_sql to '$to'\r", sub { $_[0] =~ /^Time: /m }, "\\q\r");
		return file_of($out =~ /^Time: /m ? "ok\n" : $out, $to);
	});
});
check('pgbench', $PG, '100 MB', sub {
	my $script = spew("$TMP/big.sql", "select repeat('x', 1000000);\n");
	same('a hundred rows of 1 MB', qr/^ok\n.*actually processed: 100/s, sub {
		return program({ conn(@_) }, [ qw(pgbench -n -t 100 -f), $script ]) =~ s/(?:latency|initial connection|tps).*\n//gr;
	});
});

# A dump of 104 MB; digest: that of its data.
sub big_dump {
	my ($to, %conn) = @_;
	my $outcome = program(\%conn, [ qw(pg_dump -Fd -j 4 -Z 0 -t big*), '-f', $to, 'sales' ]);
	my @files = sort glob "$to/[0-9]*.dat";
	my $size = 0;
	$size += -s for @files;
	return $outcome . join(' ', map { digest_file($_) } @files) . "\n$size";
}
check('pg_dump', $PG, '100 MB', sub { same('the data', $size, sub { big_dump("$TMP/big.$_[0]", conn(@_)) }) });
check('pg_restore', $PG, '100 MB', sub {
	run([ 'rm', '-rf', "$TMP/big" ]);
	big_dump("$TMP/big", conn('native'));
	same('the restored tables', qr/^ok/, sub { restored("$TMP/big", conn(@_)) });
});

check('postgres_fdw', $PG, '100 MB', sub {
	same('to a table of the other server', qr/^ok\n100000\|103\d{6}\|/, sub {
		in_hub(foreign_server(conn(@_)) . 'import foreign schema public limit to (' . join(', ', @big) . ") from server s into far;\nset search_path = far; create temp table l as $big_sql; select count(*), sum(length(x)), md5(string_agg(md5(x), '' order by i, x)) from l");
	});
});
check('dblink', $PG, '100 MB', sub {
	same('to a table of the other server', qr/^ok\n100000\|103\d{6}\|/, sub {
		my $to = conn_string(conn(@_)) =~ s/'/''/gr;
		in_hub("select count(*), sum(length(x)), md5(string_agg(md5(x), '' order by i, x)) from dblink('$to', '$big_sql') as r(i int, x text)");
	});
});

direct('create publication big for table ' . join ', ', @big);
direct("create table $_ (i int, x text)", to => $hub) for @big;
check('subscription', $PG, '100 MB', sub {
	same('the first copy', qr/^100000\|103\d{6}\|/, sub {
		my $string = conn_string(as_postgres(conn(@_))) =~ s/'/''/gr;
		in_hub("set client_min_messages = error; create subscription b connection '$string' publication big");
		wait_for('the copy', sub { direct("select count(*) from pg_subscription_rel where srsubstate <> 'r'", to => $hub) eq 0 });
		my $has = direct("select count(*), sum(length(x)), md5(string_agg(md5(x), '' order by i, x)) from $big_sql r", to => $hub);
		direct($_, to => $hub) for 'drop subscription b', 'truncate ' . join ', ', @big;
		return $has;
	});
});
check('streaming standby', $PG, '100 MB', sub {
	same('WAL', qr/^ok\nnews arrive\nnews arrive/, sub {
		my $outcome = stream(conn(@_));
		write_wal(105);
		return $outcome . news_arrive($standby);
	});
});
check('pg_receivewal', $PG, '100 MB', sub {
	same('segments', qr/^ok\nall segments/, sub { receive_wal(105, conn(@_)) });
});
check('pg_recvlogical', $PG, '100 MB', sub { same('rows', qr/^ok\nok\n100000 rows/, sub { decode(100_000, conn(@_)) }) });
check('pg_basebackup', $PG, '100 MB', sub {
	same('a backup', qr/^ok\n1/, sub {
		my $outcome = base_backup("$TMP/base", conn(@_));
		my ($megabytes) = run([ qw(du -sm), "$TMP/base" ])->{out} =~ /^(\d+)/;
		return $outcome . ($megabytes > 100) . run([ 'pg_verifybackup', "$TMP/base" ])->{out};
	});
});
cannot($_, $PG, '100 MB' => 'it transfers no data') for qw(vacuumdb reindexdb);
done_testing;
