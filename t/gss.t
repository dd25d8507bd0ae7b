# SPDX-License-Identifier: ISC
#
# --gss: connections with GSSAPI encryption (Kerberos) are relayed to PostgreSQL unchanged. If
# PostgreSQL refuses the request, the client can continue with TLS on the same connection. Without
# --gss the answer is N, and TLS follows.
# sabotage: session/server.c /PostgreSQL 11 closes/,/addresses.name/s/EX_UNAVAILABLE/0/
# sabotage: session/server.c s/&answer, 1, &n, when/\&answer, 2, \&n, when/
use lib 't/lib';
use T;

needs(!T::run([ 'sh', '-c', 'command -v krb5kdc && command -v kdb5_util && command -v kadmin.local && command -v kinit' ], quiet => 1)->{status},
	'krb5-kdc, krb5-admin-server and krb5-user');
needs(T::run([ 'pg_config', '--configure' ], quiet => 1)->{out} =~ /--with-gssapi/,
	'a PostgreSQL built with GSSAPI');

my $kdc = start_kdc();
my $hba = "local all all trust\nhostgssenc all all 127.0.0.1/32 gss include_realm=0\nhost sales alice 127.0.0.1/32 gss include_realm=0\n";
my $pg = start_pg(hba => $hba, conf => "krb_server_keyfile='$kdc->{keytab}'\n");
my @kerberos = (host => 'localhost', PGHOSTADDR => '127.0.0.1');
my $who = 'select gss_authenticated, encrypted, principal from pg_stat_gssapi where pid = pg_backend_pid()';

subtest 'gssencmode=require: encrypted end to end, from psql to PostgreSQL' => sub {
	my $s = serve(pg => $pg, args => ['--gss']);
	my $r = psql($who, @kerberos, port => $s->port, gssencmode => 'require',
		sslmode => 'disable');
	is($r->{out}, "t|t|alice\@TEST\n", 'pg_stat_gssapi') or diag($r->{err});
	my $line = $s->logged(qr/connection received:/);
	like($line, qr/connection received: host=127\.0\.0\.1 port=\d+ backend_port=\d+ tls=gss$/,
		'the first log line names no user');
	like($s->logged(qr/disconnection:/), qr/session time: \S+ host=127\.0\.0\.1 port=\d+ received=\d\d\d+ sent=\d\d\d+ reason=/, 'the last log line');
	my ($backend_port) = $line =~ /backend_port=(\d+)/;
	like($pg->log, qr/connection received: host=127\.0\.0\.1 port=$backend_port$/m,
		"backend_port is the port in PostgreSQL's log");
};

subtest 'a megabyte in each direction, and errors of PostgreSQL' => sub {
	my $s = serve(pg => $pg, args => ['--gss']);
	my %require = (@kerberos, port => $s->port, gssencmode => 'require');
	my $text = 'x' x 1_000_000;
	my $r = psql(undef, %require, stdin => "select md5('$text'), length(repeat('y', 10)); select repeat('y', 3000000);\n");
	my ($sum, $long) = split /\n/, $r->{out};
	is(length($long || ''), 3_000_000, 'to the client');
	is($sum, psql("select md5(repeat('x', 1000000)), 10", host => $pg->{socket},
		port => $pg->port)->{out} =~ s/\n//r, 'to the backend');
	$r = psql('select 1', %require, dbname => 'nosuch');
	like($r->{err}, qr/FATAL:  database "nosuch" does not exist/,
		'the error about the database');
	$r = psql('select 1', %require, user => 'postgres');
	like($r->{err}, qr/FATAL:  GSSAPI authentication failed for user "postgres"/,
		"alice's ticket is not accepted for postgres");
};

subtest 'gssencmode=prefer, PostgreSQL answers N (as on a Unix socket): TLS on the same connection' => sub {
	my $local = start_pg();
	my $s = serve(connect => "$local->{socket}:" . $local->port, args => ['--gss']);
	my $before = () = $local->log =~ /connection received/g;
	my $r = psql($who, @kerberos, port => $s->port, gssencmode => 'prefer',
		sslmode => 'require', args => [ '-c', '\conninfo' ]);
	like($r->{out}, qr/^f\|f\|$/m, 'no GSSAPI');
	is(conninfo($r->{out})->{protocol}, 'TLSv1.3', 'TLS instead') or diag($r->{err});
	like($s->logged(qr/connection authorized:/), qr/user=alice .*tls=TLSv1\.3/,
		'logged as TLS');

	my $after = () = $local->log =~ /connection received/g;
	is($after - $before, 1, 'the connection that received the request is also used for the session');
	$r = psql('select 1', @kerberos, port => $s->port, gssencmode => 'require');
	like($r->{err}, qr/server doesn't support GSSAPI encryption|GSSAPI/,
		'gssencmode=require fails in the client');
};

subtest 'GSSAPI authentication inside TLS, with and without --gss' => sub {
	for my $args ([], ['--gss']) {
		my $s = serve(pg => $pg, args => $args);
		my $r = psql($who, @kerberos, port => $s->port, gssencmode => 'disable',
			sslmode => 'require');
		is($r->{out}, "t|f|alice\@TEST\n",
			"@$args: authenticated with GSSAPI, encrypted with TLS") or diag($r->{err});
		like($s->logged(qr/connection authorized:/), qr/tls=TLSv1\.3/, 'logged as TLS');
	}
};

subtest 'without --gss: N, then TLS' => sub {
	my $s = serve(pg => $pg);
	my $r = psql($who, @kerberos, port => $s->port, gssencmode => 'prefer',
		sslmode => 'require');
	is($r->{out}, "t|f|alice\@TEST\n", 'prefer') or diag($r->{err});
	$r = psql('select 1', @kerberos, port => $s->port, gssencmode => 'require');
	like($r->{err}, qr/server doesn't support GSSAPI encryption/, 'require');
};

subtest 'cancelling a query of a session with GSSAPI encryption' => sub {
	my $s = serve(pg => $pg, args => ['--gss']);
	my $env = pg_env(@kerberos, port => $s->port, gssencmode => 'require');
	my $pid = spawn(cmd => psql_cmd('-c', 'select pg_sleep(100)'), env => $env,
		out => "$TMP/c.out", err => "$TMP/c.err");
	wait_for('the query', sub { psql("select 1 from pg_stat_activity where query = 'select pg_sleep(100)' and state = 'active'", host => $pg->{socket}, port => $pg->port)->{out} });
	kill 'INT', $pid;
	isnt(wait_exit($pid), 0, 'psql fails');
	like(slurp("$TMP/c.err"), qr/canceling statement due to user request/,
		'the query is cancelled');
};

# The remaining tests write the protocol themselves.
my $after_gss = sub {
	my ($c, $title) = @_;
	is($c->recv(1), 'N', "$title: N");
	ok($c->negotiate, "$title: TLS on the same connection");
	$c->send(startup_packet(user => 'alice'));
};

subtest 'pgssl reads one byte from PostgreSQL, and only the request from the client' => sub {
	my $fake = fake_backend(sub {
		my ($socket, $self) = @_;
		$self->take($socket, 8);
		syswrite $socket, 'Gthat is theirs';
		$self->take($socket);
	});
	my $s = session(pg => $fake, args => ['--gss']);
	$s->conn->raw_send(gss_request() . 'and this too');
	is($s->conn->recv(15), 'Gthat is theirs', 'the bytes after G arrive');
	like(slurp("/proc/$s->{pid}/cmdline"), qr/^pgssl: gssapi encrypted 127\.0\.0\.1\(\d+\) gss -\0/,
		'process title');
	$s->conn->finish;
	is($s->conn->ending, 'closed', 'closed in order');
	is($s->wait, 0, 'status');
	is($fake->bytes, gss_request() . 'and this too', 'the bytes after the request arrive');
};

# PostgreSQL 11 and older do not know the request, and a server that cannot fork does not answer it.
# A second connection would take another backend for a client that has not completed a handshake.
my %no_answer = (
	'E, then close' => sub { syswrite $_[0], "Eunsupported frontend protocol 1234.5680\n\0"; close $_[0] },
	'close' => sub { close $_[0] },
	'no byte within --connect-timeout' => sub { my ($socket, $self) = @_; $self->take($socket) },
);

for my $what (sort keys %no_answer) {
	subtest "PostgreSQL's answer is $what: N, TLS, then 57P03" => sub {
		my $fake = fake_backend(sub {
			my ($socket, $self) = @_;
			$self->take($socket, 8);
			$no_answer{$what}->($socket, $self);
		});
		my $s = session(pg => $fake, args => [ '--gss', '--connect-timeout=1' ]);
		$s->conn->raw_send(gss_request());
		$after_gss->($s->conn, $what);
		my $error = parse_error($s->conn->rest);
		is($error->{C}, '57P03', 'SQLSTATE');
		like($error->{M}, qr/: the server did not answer the request for GSSAPI encryption \(--gss\)$/, 'the reason');
		is($s->wait, 69, 'EX_UNAVAILABLE');
		is($fake->connections, 1, 'one connection');
		is($fake->bytes, gss_request(), 'which received only the request');
	};
}

subtest 'SIGTERM while PostgreSQL does not answer' => sub {
	my $fake = fake_backend();
	my $s = session(pg => $fake, args => ['--gss']);
	$s->conn->raw_send(gss_request());
	wait_for('the request', sub { $fake->bytes eq gss_request() });
	kill 'TERM', $s->{pid};
	is($s->conn->rest, '', 'nothing is sent');
	is($s->wait, 76, 'exit status');
};

subtest 'PostgreSQL cannot be reached: N, TLS, then 57P03' => sub {
	my $s = session(connect => '127.0.0.1:' . free_port(), args => ['--gss']);
	$s->conn->raw_send(gss_request());
	$after_gss->($s->conn, 'dead');
	my $error = parse_error($s->conn->rest);
	is($error->{C}, '57P03', 'SQLSTATE');
	is($s->wait, 69, 'EX_UNAVAILABLE');
};

subtest 'a cancel request after N is sent on the open connection' => sub {
	my $fake = fake_backend(sub {
		my ($socket, $self) = @_;
		$self->take($socket, 8);
		syswrite $socket, 'N';
		$self->take($socket, 16);
		shutdown $socket, 2;
	});
	my $s = session(pg => $fake, args => ['--gss']);
	$s->conn->raw_send(gss_request());
	is($s->conn->recv(1), 'N', 'N');
	$s->conn->raw_send(cancel_request(1, 'abcd'));
	is($s->conn->rest, '', 'no answer');
	is($s->wait, 0, 'exit status');
	is($fake->bytes, gss_request() . cancel_request(1, 'abcd'), 'on the same connection');
};

subtest 'a second GSSENCRequest, and a session in clear after N, are refused' => sub {
	my $local = start_pg();
	my $s = session(connect => "$local->{socket}:" . $local->port, args => ['--gss']);
	$s->conn->raw_send(gss_request());
	is($s->conn->recv(1), 'N', 'N');
	$s->conn->raw_send(gss_request());
	is(parse_error($s->conn->rest)->{C}, '0A000', 'a second GSSENCRequest');
	$s = session(connect => "$local->{socket}:" . $local->port, args => ['--gss']);
	$s->conn->raw_send(gss_request());
	is($s->conn->recv(1), 'N', 'N');
	$s->conn->raw_send(startup_packet(user => 'alice'));
	like(parse_error($s->conn->rest)->{M}, qr/only TLS/, 'a session in clear');
};
done_testing;
