# SPDX-License-Identifier: ISC
#
# A pooler between pgssl and PostgreSQL: psql, pgbench and a cancel request work through pgbouncer.
# sabotage: s/if (stream_write_all(s->backend, s->startup.packet, .*/if (true) {/ session/session.c
use lib 't/lib';
use T;

needs(-x '/usr/sbin/pgbouncer', 'pgbouncer');
my $c = server_pem();
my $pg = start_pg();
my $port = free_port();
my $ini = spew("$TMP/pgbouncer.ini", <<~END);
	[databases]
	sales = host=127.0.0.1 port=@{[ $pg->port ]}
	[pgbouncer]
	listen_addr = 127.0.0.1,::1
	listen_port = $port
	unix_socket_dir =
	auth_type = trust
	auth_file = $TMP/users
	pool_mode = transaction
	default_pool_size = 2
	application_name_add_host = 1
	ignore_startup_parameters = extra_float_digits
	END
spew("$TMP/users", qq("alice" ""\n));
spawn(cmd => [ 'pgbouncer', $ini ], user => T::nobody());
wait_for('pgbouncer to listen',
	sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) });

my $s = serve(connect => "127.0.0.1:$port");
my @tls = (port => $s->port, sslmode => 'verify-full', rootcert => $c->{root}, host => 'localhost');

is(psql('select 6*7', @tls)->{out}, "42\n", 'psql');
is(conninfo(psql('\conninfo', @tls)->{out})->{protocol}, 'TLSv1.3', 'under TLS');
is(psql('select count(*) from generate_series(1, 100000) g', @tls)->{out}, "100000\n",
	'a longer query');
like(psql('select 1', @tls, dbname => 'nonesuch')->{err}, qr/no such database: nonesuch/,
	"pgbouncer's own errors arrive");

is(pg_do([ qw(pgbench -i -q -s 1 sales) ], @tls)->{status}, 0, 'pgbench -i');
is(pg_do([ qw(pgbench -n -c 8 -j 2 -t 25 sales) ], @tls)->{status}, 0,
	'eight clients share two backends');
cmp_ok($pg->backends, '<=', 2, 'no more than two backends');

subtest 'a cancel request' => sub {
	my $conn = connect_to($s->port);
	ok($conn->login, 'login');
	$conn->query('select pg_sleep(60)');
	wait_for('the query to run', sub { psql("select count(*) from pg_stat_activity where query = 'select pg_sleep(60)' and state='active'", port => $pg->port, sslmode => 'disable', user => 'postgres')->{out} == 1 });
	my $cancel = connect_to($s->port);
	$cancel->raw_send(cancel_request(@{ $conn->{cancel} }));
	my ($type, $body);
	do { ($type, $body) = $conn->message } until !defined $type || $type eq 'E';
	like($body || '', qr/canceling statement due to user request/, 'the query is cancelled');
	$cancel->close;
	$conn->close;
};

subtest '--application-name-host sets the same name as application_name_add_host of pgbouncer' => sub {
	my $with = serve(pg => $pg, args => ['--application-name-host']);
	for my $case ([ 'psql', application_name => 'psql' ], ['none'],
		[ 'empty', application_name => '' ]) {
		my ($what, @name) = @$case;
		my @seen = map {
			my $conn = connect_to($_);
			$conn->{ssl} = undef;
			$conn->login(@name) or fail('login');
			my $name = show($conn);
			my $own = $conn->local_port;
			$conn->close;
			$name =~ s/:$own$/:PORT/r =~ s/:\d+$/:PORT/r;
		} $with->port, $s->port;
		is($seen[0], $seen[1], "$what: $seen[0]");
	}
};

subtest 'the same over IPv6' => sub {
	my $with = serve_listen(pg => $pg, args => ['--application-name-host']);
	my @seen = map { psql('show application_name', host => '::1', appname => 'psql', @$_)->{out} =~ s/:\d+$/:PORT/r } [ port => $with->port ], [ port => $port, sslmode => 'disable' ];
	is($seen[0], $seen[1], $seen[0]);
};

sub show {
	my ($conn) = @_;
	$conn->query('show application_name');
	my $value;
	while (my ($type, $body) = $conn->message) { $value = substr $body, 6 if $type eq 'D'; last if $type eq 'Z' }
	return $value;
}
done_testing;
