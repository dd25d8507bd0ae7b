# SPDX-License-Identifier: ISC
#
# Client mode between a psql without TLS and a PostgreSQL that demands it. With a SCRAM password
# psql stopped with "server offered SCRAM-SHA-256-PLUS authentication over a non-SSL connection",
# because PostgreSQL offers channel binding under TLS. The login must succeed, and every failure
# must reach psql as an error that names the cause.
# never: Plaintext to or from the client where TLS was promised.
# sabotage: wire/startup.c s/len = remove_scram_plus(m, len);/;/
# sabotage: session/client.c s/if (answer != 'S')/if (answer == 'E')/
# sabotage: session/client.c s/plus_removed \&\&/false \&\&/
use lib 't/lib';
use T;
use T::ClientMode;
use T::X509;

limit(300);
my $root = issue(cn => 'Root', ca => 1);
my $cert = issue(issuer => $root, cn => 'db', san => 'DNS:localhost,IP:127.0.0.1');
my $hba = <<'END';
local all all trust
hostnossl all all 127.0.0.1/32 reject
hostssl sales scram 127.0.0.1/32 scram-sha-256
hostssl sales md5 127.0.0.1/32 md5
hostssl sales clear 127.0.0.1/32 password
hostssl sales carol 127.0.0.1/32 cert
hostssl all alice 127.0.0.1/32 trust
hostssl replication alice 127.0.0.1/32 trust
END
my $pg = start_pg(ssl => $cert, hba => $hba, conf => "ssl_ca_file='$root->{cert}'\n");
my @socket = (host => $pg->{socket}, port => $pg->port, sslmode => 'disable', user => 'postgres');
psql("create role $_ login password 'secret'", @socket) for qw(scram clear carol);
psql("set password_encryption=md5; create role md5 login password 'secret'", @socket);
psql('alter role alice superuser', @socket);

my @verify = ('-A', $root->{cert});
my $xinetd = -x '/usr/sbin/xinetd'
	? serve_xinetd(client => 1, shipped => 'pgssl-client', pg => $pg, args => \@verify)
	: serve(client => 1, pg => $pg, args => \@verify);
my $systemd = serve_systemd(client => 1, pg => $pg, args => \@verify);
my $my_tls = "select ssl, version from pg_stat_ssl where pid = pg_backend_pid()";

# The outcome of psql: its result, or the error of PostgreSQL or pgssl.
sub try_psql {
	my ($service, %o) = @_;
	my $r = psql($o{sql} || $my_tls, port => $service->port, sslmode => 'disable',
		user => 'scram', password => 'secret',
		map({ $_ => $o{$_} } grep { $_ ne 'sql' } keys %o));
	return $r->{out} if $r->{status} == 0 && $r->{err} eq '';
	return join ' | ',
		map { s/^(?:psql: error: )?connection to server at .*, port \d+ failed: //r } split /\n/,
		$r->{err};
}

my $in = "t|TLSv1.3\n";
my $wrong = qr/^FATAL:  password authentication failed for user "(?:scram|md5|clear)"$/;

for my $way ([ 'xinetd', $xinetd ], [ 'systemd-socket-activate', $systemd ]) {
	my ($name, $service) = @$way;
	subtest "under $name: the local psql is in clear with every sslmode, PostgreSQL under TLS" => sub {
		is(try_psql($service, sslmode => $_), $in, "sslmode=$_")
			for qw(disable allow prefer);
		is(try_psql($service, sslmode => 'prefer', gssencmode => 'prefer'), $in,
			'gssencmode=prefer');
		like(try_psql($service, sslmode => 'require'),
			qr/^server does not support SSL, but SSL was required$/,
			'sslmode=require: psql refuses, since its own connection has no TLS');
		like($service->logged(qr/connection authorized: user=scram/),
			qr/ tls=TLSv1\.3 cipher=\S+ .* server_subject=CN=db server_issuer=CN=Root server_serial=/,
			'the log names the server certificate');
	};
}

subtest 'every password method' => sub {
	for my $user (qw(scram md5 clear)) {
		is(try_psql($xinetd, user => $user), $in, "$user: correct password");
		like(try_psql($xinetd, user => $user, password => 'wrong'), $wrong,
			"$user: wrong password");
	}
	like(try_psql($xinetd, password => undef), qr/fe_sendauth: no password supplied/,
		'no password');
	is(try_psql($xinetd, PGCHANNELBINDING => $_), $in, "channel_binding=$_")
		for qw(disable prefer);
	like(try_psql($xinetd, PGCHANNELBINDING => 'require'), qr/channel binding required/,
		'channel_binding=require: psql refuses');
};

# psql has TLS and could use channel binding, but is not offered it. PostgreSQL refused it without a
# hint: "SCRAM channel binding negotiation error".
subtest 'SCRAM behind another pgssl' => sub {
	my $far = serve(pg => $xinetd);
	my @far = (sslmode => 'require');
	like(try_psql($far, @far), qr/^FATAL:  SCRAM channel binding cannot work: TLS ends between you and PostgreSQL \| HINT:  Use channel_binding=disable\.$/,
		'the hint');
	$xinetd->logged(qr/SCRAM channel binding cannot work/);
	is(try_psql($far, @far, PGCHANNELBINDING => 'disable'), $in, 'it helps');
	like(try_psql($far, @far, PGCHANNELBINDING => 'disable', password => 'wrong'), $wrong,
		'a wrong password');
	is(try_psql($far, @far, user => $_), $in, "$_: other methods need none")
		for qw(md5 clear);
	like(try_psql($far, @far, password => undef), qr/fe_sendauth: no password supplied/,
		'no password');
};

subtest "errors of PostgreSQL itself" => sub {
	like(try_psql($xinetd, user => 'postgres'),
		qr/^FATAL:  no pg_hba\.conf entry for host "127\.0\.0\.1", user "postgres", database "sales", SSL encryption$/,
		'before authentication');
	like(try_psql($xinetd, user => 'alice', dbname => 'nosuch'),
		qr/^FATAL:  database "nosuch" does not exist$/, 'after authentication');
};

subtest "pgssl's client certificate" => sub {
	my $with = sub { try_psql(serve(client => 1, pg => $pg, pem => T::Cert::make_pem($_[0]),
		args => [ @verify, @_[ 1 .. $#_ ] ]), user => 'carol', password => undef) };
	is($with->(issue(issuer => $root, cn => 'carol')), $in,
		'PostgreSQL accepts it instead of a password');
	like($with->(issue(issuer => $root, cn => 'dave')),
		qr/^FATAL:  certificate authentication failed for user "carol"$/, 'another name');
	like(try_psql($xinetd, user => 'carol', password => undef),
		qr/^FATAL:  connection requires a valid client certificate$/, 'no certificate');
	my $other = issue(issuer => issue(cn => 'Other', ca => 1), cn => 'carol');
	my $expired = issue(issuer => $root, cn => 'carol', from => -9000, until => -60);
	# With TLS 1.3 the server refuses the certificate after our side has completed the
	# handshake.
	for my $version (qw(TLSv1.3 TLSv1.2)) {
		my $told = qr/^FATAL:  could not establish a TLS connection to PostgreSQL at 127\.0\.0\.1:\d+: /;
		like($with->($other, "--max-protocol=$version"), qr/$told.*alert unknown ca$/,
			"$version, unknown authority: the error has the alert");
		like($with->($expired, "--max-protocol=$version"),
			qr/$told.*alert (?:certificate expired|unknown ca)$/,
			"$version, expired: the error has the alert");
	}
	my $s = local_session(pg => $pg, pem => T::Cert::make_pem($other), args => \@verify);
	my ($type, $body) = first_message($s);
	is($body->{C}, '08006', 'SQLSTATE');
	is($s->wait, 69, 'EX_UNAVAILABLE');
};

subtest 'PostgreSQL cannot be reached, or has no TLS' => sub {
	my $dead = free_port();
	like(try_psql(serve(client => 1, connect => "127.0.0.1:$dead", args => \@verify)),
		qr/^FATAL:  could not connect to PostgreSQL at 127\.0\.0\.1:$dead: Connection refused$/,
		'it is not running');
	my $s = session(client => 1, connect => "127.0.0.1:$dead");
	my ($type, $body) = first_message($s);
	is($body->{C}, '57P03', 'SQLSTATE with which libpq tries its next host');
	is($s->wait, 69, 'EX_UNAVAILABLE');
	my $clear = start_pg();
	like(try_psql(serve(client => 1, pg => $clear, args => \@verify)),
		qr/^FATAL:  could not establish a TLS connection to PostgreSQL at .*: the server does not support TLS$/,
		'it has no TLS');
	is($clear->log =~ /connection authorized/, '', 'and received no startup packet in clear');
};

subtest 'requests of the local client' => sub {
	my $s = local_session(pg => $pg, args => \@verify, chop => 1);
	for my $request (gss_request(), ssl_request()) {
		$s->conn->send($request);
		is($s->conn->recv(1), 'N', 'N');
	}
	is((first_message($s))[0], 'R', 'then a login succeeds');
	my %wrong = (
		'SSLRequest twice' => [ ssl_request() x 2, 'N', '0A000' ],
		'TLS' => [ "\x16\3\1\2\0\1\0\1\xfc\3\3", '', '08P01' ],
		'no user' => [ startup_packet(database => 'sales'), '', '28000' ],
		'protocol 4.0' => [ startup_packet(version => '4.0', user => 'alice'), '',
			'0A000' ],
		'nothing' => [ '', '' ],
		'half a packet' => [ substr(startup_packet(user => 'alice'), 0, 10), '' ],
	);
	for my $case (sort keys %wrong) {
		my ($bytes, $first, $state) = @{ $wrong{$case} };
		my $fake = fake_backend();
		$s = local_session(pg => $fake);
		$s->conn->send($bytes);
		$s->conn->finish unless defined $state;
		is($s->conn->recv(length $first), $first, "$case: answer");
		my $rest = $s->conn->rest;
		defined $state ? is(parse_error($rest)->{C}, $state, "$case: $state")
			: is($rest, '', "$case: nothing more");
		$s->wait;
		is($fake->connections, 0, 'no connection was made');
	}
};

# Servers that misbehave before TLS is established, and what the local client is told after the
# server's address.
my $error = msg('E', "SFATAL\0C53300\0Mgive me your password\0\0");
my @odd = (
	[ 'an ErrorResponse before TLS is not shown (CVE-2024-10977)',
		sub { syswrite $_[0], $error },
		'the server sent an invalid answer to the request for TLS: see its log, and check that it is PostgreSQL' ],
	[ 'an invalid answer', sub { syswrite $_[0], 'x' },
		'the server sent an invalid answer to the request for TLS: see its log, and check that it is PostgreSQL' ],
	[ 'it closes', sub { }, 'the server closed the connection when asked for TLS' ],
	[ 'it resets', sub { $_[1]->reset($_[0]) }, 'the server closed the connection when asked for TLS' ],
	[ 'N', sub { syswrite $_[0], 'N' }, 'the server does not support TLS' ],
	[ 'S and plaintext after it (CVE-2021-23222)', sub {
		syswrite $_[0], 'S' . msg('R', pack 'N', 0) . msg('Z', 'I');
		$_[1]->take($_[0]);
	}, qr/wrong version number/ ],
	[ 'S, then it closes', sub { syswrite $_[0], 'S' },
		'the server closed the connection during the handshake' ],
);
for my $case (@odd) {
	my ($name, $does, $told) = @$case;
	subtest "a server that misbehaves: $name" => sub {
		my $fake = fake_backend(sub {
			my ($socket, $self) = @_;
			$self->take($socket, 8);
			$does->($socket, $self);
		});
		my $s = local_session(pg => $fake, args => \@verify);
		my ($type, $body) = first_message($s);
		$told = qr/^\Q$told\E$/ unless ref $told;
		like($body->{M}
			=~ s/^could not establish a TLS connection to PostgreSQL at 127\.0\.0\.1:\d+: //r,
			$told, 'the error');
		is($body->{C}, '08006', 'SQLSTATE');
		like(substr($fake->bytes, 0, 8), qr/^\Q${\ ssl_request()}\E$/,
			'SSLRequest came first');
		unlike($fake->bytes, qr/alice/, 'and the startup packet was not sent in clear');
		is($s->conn->ending, 'closed', 'closed, not reset');
		is($s->wait, 69, 'EX_UNAVAILABLE');
	};
}

subtest 'a server that closes before its first message' => sub {
	my $fake = tls_backend($cert, then => sub { $_[0]->close });
	my $s = local_session(pg => $fake, args => \@verify);
	my ($type, $body) = first_message($s);
	like($body->{M}, qr/: the server closed the connection without answering the startup packet$/,
		'no message');
	$fake = tls_backend($cert, then => sub {
		syswrite $_[0], substr $error, 0, 20;
		$_[0]->close;
	});
	($type, $body) = first_message(local_session(pg => $fake, args => \@verify));
	like($body->{M}, qr/: the server closed the connection without answering the startup packet$/,
		'an incomplete message');
};

subtest 'a silent server: --handshake-timeout' => sub {
	for my $fake (fake_backend(), tls_backend($cert, then => sub { $_[1]->take($_[0]) })) {
		my $s = local_session(pg => $fake, args => [ @verify, '--handshake-timeout=1' ]);
		my ($type, $body) = first_message($s);
		is($body->{C}, '08006', 'SQLSTATE');
		is($s->wait, 69, 'EX_UNAVAILABLE');
	}
};

subtest 'Ctrl-C in psql: the cancel request is sent under TLS' => sub {
	my $err = "$TMP/psql.err";
	my $pid = spawn(cmd => psql_cmd('-c', 'select pg_sleep(60)'),
		env => pg_env(port => $xinetd->port, sslmode => 'disable', user => 'scram',
		password => 'secret'), err => $err);
	my $count = "select count(*) from pg_stat_activity"
		. " where query like 'select pg_sleep%' and usename = 'scram'";
	wait_for('the query to run', sub { psql($count, @socket)->{out} == 1 });
	kill 'INT', $pid;
	is(wait_exit($pid) >> 8, 1, 'psql ends');
	like(slurp($err), qr/ERROR:  canceling statement due to user request/, 'canceled');
	like($xinetd->logged(qr/cancel request forwarded/), qr/host=127\.0\.0\.1/, 'logged');
};

subtest 'a cancel request on the wire' => sub {
	my $request = cancel_request(4711, 'KEY!');
	my $fake = tls_backend($cert, then => sub {
		my ($tls, $self, $packet) = @_;
		spew("$TMP/cancel", $packet);
		$tls->close;
	});
	my $s = local_session(pg => $fake, args => \@verify);
	$s->conn->send($request);
	is($s->conn->rest, '', 'no answer');
	is($s->conn->ending, 'closed', 'no reset');
	is($s->wait, 0, 'status');
	is(slurp("$TMP/cancel"), $request, 'sent unchanged under TLS');
	is(slurp("$fake->{base}.clear.1"), ssl_request(), 'only SSLRequest was sent in clear');
	$s = local_session(pg => tls_backend(issue(cn => 'liar')), args => \@verify);
	$s->conn->send($request);
	is($s->conn->rest, '', 'a server that cannot be verified: no answer');
	is($s->wait, 69, 'EX_UNAVAILABLE');
	like($s->log,
		qr/could not forward a cancel request to 127\.0\.0\.1:\d+: the server's certificate cannot be verified: self-signed certificate/,
		'logged');
};

subtest '--sslnegotiation=direct: TLS without SSLRequest' => sub {
	my $fake = tls_backend($cert, direct => 1, alpn => ['postgresql']);
	my $s = local_session(pg => $fake, args => [ @verify, '--sslnegotiation=direct' ]);
	is((first_message($s))[0], 'R', 'login');
	is(slurp("$fake->{base}.1.hello"), 'postgresql -', 'ALPN');
	$s = local_session(pg => $pg, args => [ @verify, '--sslnegotiation=direct' ]);
	my ($type, $body) = first_message($s);
	$pg->version >= 17 ? is($type, 'R', 'PostgreSQL accepts it')
		: is($body->{C}, '08006', 'PostgreSQL before 17 does not support it: FATAL 08006');
};

subtest 'COPY in both directions, compared with a direct connection' => sub {
	my @as = (port => $xinetd->port, sslmode => 'disable', user => 'alice');
	my $make = "copy (select i, md5(i::text), repeat(chr(65 + i % 26), i % 300) from generate_series(1, 100000) i) to stdout";
	my $down = psql($make, @as);
	is($down->{status}, 0, 'COPY TO') or diag($down->{err});
	cmp_ok(length $down->{out}, '>', 15_000_000, 'much data');
	ok($down->{out} eq psql($make, @socket)->{out}, 'the data is identical');
	psql('create table t (i int, a text, b text)', @as);
	my $up = psql('copy t from stdin', @as, stdin => $down->{out});
	is($up->{status}, 0, 'COPY FROM') or diag($up->{err});
	ok($down->{out} eq psql('copy (select * from t order by i) to stdout', @socket,
		dbname => 'sales')->{out}, 'the table is identical');
	my $base = pg_do([ 'pg_basebackup', '-X', 'stream', '-c', 'fast', '--no-sync', '-D',
		"$TMP/base" ], @as);
	is($base->{status}, 0, 'pg_basebackup') or diag($base->{err});
	is(T::run([ 'pg_verifybackup', "$TMP/base" ])->{status}, 0, 'pg_verifybackup');
};

subtest 'each peer sees an orderly end of the other' => sub {
	my $fake = tls_backend($cert, then => sub {
		my ($tls, $self) = @_;
		syswrite $tls, msg('R', pack 'N', 0) . msg('Z', 'I');
		my $all = $self->take($tls); # reads until the end that the local client sent
		syswrite $tls, "all of $all";
		$tls->close;
	});
	my $s = local_session(pg => $fake, args => \@verify);
	is((first_message($s))[0], 'R', 'login');
	is($s->conn->recv(6), msg('Z', 'I'), 'ReadyForQuery');
	$s->conn->send('it');
	$s->conn->finish;
	is($s->conn->rest, 'all of it', "the answer arrives after the client's end");
	is($s->wait, 0, 'status');
	$s = local_session(pg => tls_backend($cert), args => \@verify);
	is((first_message($s))[0], 'R', 'login');
	kill 'TERM', $s->{pid};
	$s->conn->recv(6);
	is($s->conn->ending, 'closed', 'SIGTERM: closed, not reset');
	is($s->wait, 0, 'status');
};
done_testing;
