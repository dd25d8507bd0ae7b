# SPDX-License-Identifier: ISC
#
# What is sent on the client's connection and what stays in memory: after S only TLS records in both
# directions, no secret of the session in clear, no private key in the process after the handshake,
# and no client byte read before the sandbox is entered.
# never: Plaintext to or from the client where TLS was promised.
# never: The private key in memory after the handshake.
# never: A client byte parsed before step 5
# sabotage: s/SSL_certs_clear(t->ssl);/;/ tls.c
# sabotage: s/\ttls_wipe_key(s->tls);/\t;/ session/server.c
# sabotage: s/\treload_discard(s); .*/\t;/ listen/listen.c
# sabotage: s/\tsetproctitle("startup %s", s->peer.host);/\t;/ wrapper.c
use lib 't/lib';
use T;
use T::ClientMode;

my $c = server_pem();
my $pg = start_pg();

subtest 'after S only TLS records' => sub {
	my $s = session(pg => $pg, stderr => 'client', args => [ '-D', '7' ]);
	ok($s->conn->login(application_name => 'VerySecretName'), 'login');
	$s->conn->query("select 'Very' || 'SecretAnswer'");
	my $answer = '';
	while (my ($type, $body) = $s->conn->message) { $answer .= $body; last if $type eq 'Z' }
	like($answer, qr/VerySecretAnswer/, 'the answer');
	$s->conn->send("X\0\0\0\4");
	$s->conn->rest;
	my $raw = $s->conn->{raw};
	my $length = 0;
	for my $record ($s->conn->records) {
		ok(0, "a record of type $record->[0]")
			unless $record->[0] >= 20 && $record->[0] <= 23;
		$length += 5 + $record->[1];
	}
	is($length, length $raw, 'no byte between or after the records');
	unlike($raw . $s->conn->{sent}, qr/VerySecret|SELECT 1|sales/, 'nothing in clear');
};

# Test that no part of the key is in the memory of the session, in which `known` must be found. End
# the session.
sub search {
	my ($s, $cert, $known) = @_;
	my $memory = memory($s->{pid});
	plan skip_all => 'cannot read memory' unless defined $memory;
	cmp_ok(length $memory, '>', 1 << 20, 'memory was read');
	like($memory, $known, 'a known string is found');
	my @secrets = secrets($cert->{key});
	cmp_ok(scalar @secrets, '>=', 3, 'the parts of the key are known');
	for my $n (0 .. $#secrets) {
		my $at = index $memory, $secrets[$n];
		is($at, -1, "part $n of the key is not in memory")
			or diag(unpack 'H*', substr $memory, $at - 16, 64);
	}
	$s->conn->close;
	$s->wait;
}

subtest 'no private key after the handshake' => sub {
	plan skip_all => 'needs root to read memory' unless is_root();
	for my $kind (qw(ecdsa rsa ed25519)) {
		my $cert = make_cert(name => "mem$kind", key => $kind);
		my $s = session(pg => $pg, pem => make_pem($cert));
		ok($s->conn->login, "$kind: login");
		search($s, $cert, qr/\Qalice\E/);
	}
};

subtest 'no private key in a session with GSSAPI encryption' => sub {
	plan skip_all => 'needs root to read memory' unless is_root();
	my $fake = fake_backend(sub { my ($socket, $self) = @_; $self->take($socket, 8); syswrite $socket, 'Gtoken-of-PostgreSQL'; $self->take($socket) });
	my $cert = make_cert(name => 'memgss');
	my $s = session(pg => $fake, pem => make_pem($cert), args => ['--gss']);
	$s->conn->raw_send(gss_request());
	is($s->conn->recv(20), 'Gtoken-of-PostgreSQL', 'relayed');
	search($s, $cert, qr/token-of-PostgreSQL/);
};

# The copy of the key that the listener had read stayed in memory: the session wiped only its own.
subtest 'no private key in a session that a listener serves because it cannot start' => sub {
	plan skip_all => 'needs root to read memory' unless is_root();
	my $cert = make_cert(name => 'memstart');
	my $port = free_port();
	my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 5,
		ReuseAddr => 1) or die "listen: $!\n";
	my $conn = connect_to($port);
	my $s = T::Serve::service(pg => $pg, pem => make_pem($cert), args => ['-T']);
	my $user = $s->shipped_user($s->{args}[1]); # -T needs a capability that it does not have
	$s->{pid} = spawn(cmd => [ $PGSSL, @{ $s->{args} } ], in => $socket, user => $user);
	$s->{conn} = $conn;
	ok($conn->negotiate, 'handshake');
	unlike($s->log, qr/listening on/, 'it is no listener');
	$conn->send("\0"); # the first byte of the startup packet
	my $from = sprintf '%04X', $conn->local_port;
	wait_for('it to wait for the second', sub {
		slurp('/proc/net/tcp') =~ /:$from 01 \w+:00000000 / && slurp("/proc/$s->{pid}/stat") =~ /\) S /;
	});
	search($s, $cert, qr/memstart\.pem/);
};

subtest 'no private key in a child of -d, whose listener keeps it' => sub {
	plan skip_all => 'needs root to read memory' unless is_root();
	for my $kind (qw(ecdsa rsa)) {
		my $cert = make_cert(name => "listen$kind", key => $kind);
		my $s = serve_listen(pg => $pg, pem => make_pem($cert));
		my $conn = connect_to($s->port);
		ok($conn->login, "$kind: login");
		my ($child) = $s->sessions;
		my @secrets = secrets($cert->{key});
		my ($childs, $listeners) = map { memory($_) } $child, $s->{pid};
		like($childs, qr/\Qalice\E/, 'the memory of the child was read');
		is(scalar(grep { index($childs, $_) >= 0 } @secrets), 0,
			'no part of the key is in it');
		cmp_ok(scalar(grep { index($listeners, $_) >= 0 } @secrets), '>', 0,
			'the listener has the key');
		is(index($listeners, $secrets[-1]), -1, 'but not the text of the file');
		stop($s->{pid});
	}
};

subtest 'no private key in client mode' => sub {
	plan skip_all => 'needs root to read memory' unless is_root();
	for my $kind (qw(ecdsa rsa)) {
		my $cert = make_cert(name => "own$kind", key => $kind);
		my $server = tls_backend($c->{cert},
			ssl => { SSL_verify_mode => 3, SSL_ca_file => $cert->{cert} });
		my $s = local_session(pg => $server, pem => make_pem($cert),
			args => [ '-A', $c->{root} ]);
		is((first_message($s))[0], 'R', "$kind: the server accepts our certificate");
		search($s, $cert, qr/\Qalice\E/);
	}
};

subtest 'no environment, which may contain secrets, when a client byte is parsed' => sub {
	plan skip_all => 'needs root to read memory' unless is_root();
	my $pem = make_pem(make_cert(name => 'asks', passphrase => 'x'));
	my $secret = join '', 'Env', map { chr 97 + int rand 26 } 1 .. 20;
	my $ask = "touch $TMP/asked; until test -e $TMP/tell; do sleep 0.02; done; echo x";
	my $s = session(pg => $pg, pem => $pem, args => ["--passphrase-command=$ask"],
		env => { PGPASSWORD => $secret });
	wait_for('the passphrase command', sub { -e "$TMP/asked" });
	cmp_ok(index(memory($s->{pid}), $secret), '>', 0, 'it is found before the sandbox');
	spew("$TMP/tell", '');
	wait_for('the sandbox', sub { slurp("/proc/$s->{pid}/status") =~ /^Seccomp:\s+2/m });
	is(index(memory($s->{pid}), $secret), -1,
		'not in the sandbox, before the first client byte');
	ok($s->conn->login, 'login');
	is(index(memory($s->{pid}), $secret), -1, 'nor in the session');
};

# Trace a session in which `play` is the client: the lines before and after the sandbox is entered.
sub traced {
	my ($play, %o) = @_;
	my $trace = "$TMP/trace";
	my $s = ($o{client} ? \&local_session : \&session)->(%o,
		wrap => [ 'strace', '-f', '-o', $trace ]);
	$play->($s);
	$s->conn->send("X\0\0\0\4");
	$s->conn->rest unless $o{client}; # tls_backend does not close
	$s->conn->close;
	$s->wait;
	# One system call per line.
	my ($before, $after) = split /^\d+ +(?:seccomp\(SECCOMP_SET_MODE_FILTER|prctl\(PR_SET_SECCOMP)[^\n]*\n/m, slurp($trace), 2;
	ok(defined $after, 'the sandbox is entered');
	return ($before, $after || '');
}

sub none {
	my ($text, $pattern, $what) = @_;
	my ($line) = grep { /$pattern/ } split /\n/, $text;
	is($line, undef, $what);
}

my $opens = qr{^\d+ +(?:open|openat|creat)\(};

subtest 'no client byte is read before the sandbox is entered (except the SSLRequest of step 2), and no file is opened afterwards' => sub {
	my ($before, $after) = traced(sub { ok($_[0]->conn->login, 'login') }, pg => $pg);
	my $request = quotemeta '"\\0\\0\\0\\10\\4\\322\\26/", 8,';
	none($before, qr{^\d+ +(?:read|recvfrom|recvmsg|recv)\(0,(?!.*MSG_PEEK|.*$request).* = [1-9]}, 'no client byte is read before the sandbox');
	none($after, $opens, 'no file is opened afterwards');
	none($before, qr{ connect\(.*htons\(${\ $pg->port}\)},
		'PostgreSQL is not connected before the handshake');
};

subtest 'the same in client mode, which does not connect before it has the startup packet' => sub {
	my $server = tls_backend($c->{cert});
	my ($before, $after) = traced(sub { is((first_message($_[0]))[0], 'R', 'the client is accepted') }, client => 1, pg => $server, args => [ '-A', $c->{root} ]);
	none($before, qr{^\d+ +(?:read|recvfrom|recvmsg|recv)\(0,.* = [1-9]},
		'no client byte is read before the sandbox');
	none($before, qr{ connect\(.*htons\(${\ $server->port}\)},
		'no connection before the sandbox');
	none($after, $opens, 'no file is opened afterwards, although a chain is verified');
};
done_testing;
