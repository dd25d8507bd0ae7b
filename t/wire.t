# SPDX-License-Identifier: ISC
#
# What goes over the client's wire and what stays in memory: after S nothing but TLS records either way, no secret of the session in clear, no
# private key in the process once the handshake is over, and no client byte read before the sandbox is on.
# never: Plaintext to or from the client where TLS was promised.
# never: The private key in memory after the handshake.
# never: A client byte parsed before step 5
# sabotage: s/SSL_certs_clear(t->ssl);/;/ tls.c
# sabotage: s/\ttls_wipe_key(s->tls);/\t;/ session/server.c
# sabotage: s/\tsetproctitle("startup %s", s->peer.host);/\t;/ wrapper.c
use lib 't/lib';
use T;
use T::ClientMode;
use MIME::Base64 ();

my $c = server_pem();
my $pg = start_pg();

subtest 'after S nothing but TLS records' => sub {
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
		ok(0, "a record of type $record->[0]") unless $record->[0] >= 20 && $record->[0] <= 23;
		$length += 5 + $record->[1];
	}
	is($length, length $raw, 'records, and not a byte between or behind them');
	unlike($raw . $s->conn->{sent}, qr/VerySecret|SELECT 1|sales/, 'nothing in clear');
};

# All readable memory of a process.
sub memory {
	my ($pid) = @_;
	my $all = '';
	open my $mem, '<:raw', "/proc/$pid/mem" or return undef;
	for (split /\n/, slurp("/proc/$pid/maps")) {
		no warnings 'portable';
		my ($from, $to) = /^([0-9a-f]+)-([0-9a-f]+) r/ or next;
		next if /\[vvar|\[vsyscall/;
		sysseek $mem, hex $from, 0 or next;
		my $left = hex($to) - hex $from;
		while ($left > 0) {
			my $n = sysread $mem, my $data, $left > 1 << 20 ? 1 << 20 : $left or last;
			$all .= $data;
			$left -= $n;
		}
	}
	return $all;
}

# The numbers of a private key that may not be found: of EC the scalar, of RSA d, p and q, both byte orders.
sub secrets {
	my ($key) = @_;
	my $text = T::run([ 'openssl', 'pkey', '-in', $key, '-noout', '-text' ])->{out};
	my @found;
	while ($text =~ /^(priv|privateExponent|prime1|prime2):\n((?:\s+[0-9a-f:]+\n)+)/mg) {
		my $bytes = pack 'H*', $2 =~ s/[^0-9a-f]//gr;
		$bytes =~ s/^\0+//;
		push @found, substr $bytes, -24; # OpenSSL keeps words little-endian: the reverse is searched for too
		push @found, scalar reverse substr $bytes, -24;
	}
	open my $fh, '<', $key;
	my @pem = grep { !/-----/ } <$fh>;
	chomp @pem;
	my $der = MIME::Base64::decode_base64(join '', @pem);
	die "nothing of $key found in itself\n" unless grep { index($der, $_) >= 0 } @found;
	return (@found, substr $pem[0], 30);
}

# Look for all parts of the key in the session's memory, in which `known` must be found; then end it.
sub search {
	my ($s, $cert, $known) = @_;
	my $memory = memory($s->{pid});
	plan skip_all => 'cannot read memory' unless defined $memory;
	cmp_ok(length $memory, '>', 1 << 20, 'memory was read');
	like($memory, $known, 'and searched');
	my @secrets = secrets($cert->{key});
	cmp_ok(scalar @secrets, '>=', 3, 'there is something to search for');
	for my $n (0 .. $#secrets) {
		my $at = index $memory, $secrets[$n];
		is($at, -1, "part $n of the key is not there") or diag(unpack 'H*', substr $memory, $at - 16, 64);
	}
	$s->conn->close;
	$s->wait;
}

subtest 'the private key is gone after the handshake' => sub {
	plan skip_all => 'needs root to read memory' unless is_root();
	for my $kind (qw(ecdsa rsa ed25519)) {
		my $cert = make_cert(name => "mem$kind", key => $kind);
		my $s = session(pg => $pg, pem => make_pem($cert));
		ok($s->conn->login, "$kind: login");
		search($s, $cert, qr/\Qalice\E/);
	}
};

subtest 'and where there will be none, since GSSAPI encrypts' => sub {
	plan skip_all => 'needs root to read memory' unless is_root();
	my $fake = fake_backend(sub { my ($socket, $self) = @_; $self->take($socket, 8); syswrite $socket, 'Gtoken-of-PostgreSQL'; $self->take($socket) });
	my $cert = make_cert(name => 'memgss');
	my $s = session(pg => $fake, pem => make_pem($cert), args => ['--gss']);
	$s->conn->raw_send(gss_request());
	is($s->conn->recv(20), 'Gtoken-of-PostgreSQL', 'carried');
	search($s, $cert, qr/token-of-PostgreSQL/);
};

subtest 'nor is it in a child of -d, whose parent keeps it' => sub {
	plan skip_all => 'needs root to read memory' unless is_root();
	for my $kind (qw(ecdsa rsa)) {
		my $cert = make_cert(name => "listen$kind", key => $kind);
		my $s = serve_listen(pg => $pg, pem => make_pem($cert));
		my $conn = connect_to($s->port);
		ok($conn->login, "$kind: login");
		my ($child) = $s->sessions;
		my @secrets = secrets($cert->{key});
		my ($ours, $parents) = map { memory($_) } $child, $s->{pid};
		like($ours, qr/\Qalice\E/, 'the memory of the child was read');
		is(scalar(grep { index($ours, $_) >= 0 } @secrets), 0, 'no part of the key is there');
		cmp_ok(scalar(grep { index($parents, $_) >= 0 } @secrets), '>', 0, 'the parent has it');
		is(index($parents, $secrets[-1]), -1, 'but not the text of its file');
		stop($s->{pid});
	}
};

subtest 'in client mode, too' => sub {
	plan skip_all => 'needs root to read memory' unless is_root();
	for my $kind (qw(ecdsa rsa)) {
		my $cert = make_cert(name => "own$kind", key => $kind);
		my $server = tls_backend($c->{cert}, ssl => { SSL_verify_mode => 3, SSL_ca_file => $cert->{cert} });
		my $s = local_session(pg => $server, pem => make_pem($cert), args => [ '-A', $c->{root} ]);
		is((first_message($s))[0], 'R', "$kind: in with our certificate");
		search($s, $cert, qr/\Qalice\E/);
	}
};

subtest 'nor is the environment, which may hold secrets, once a client byte is parsed' => sub {
	plan skip_all => 'needs root to read memory' unless is_root();
	my $pem = make_pem(make_cert(name => 'asks', passphrase => 'x'));
	my $secret = join '', 'Env', map { chr 97 + int rand 26 } 1 .. 20;
	my $ask = "touch $TMP/asked; until test -e $TMP/tell; do sleep 0.02; done; echo x";
	my $s = session(pg => $pg, pem => $pem, args => ["--passphrase-command=$ask"], env => { PGPASSWORD => $secret });
	wait_for('the question', sub { -e "$TMP/asked" });
	cmp_ok(index(memory($s->{pid}), $secret), '>', 0, 'before the sandbox it is found');
	spew("$TMP/tell", '');
	wait_for('the sandbox', sub { slurp("/proc/$s->{pid}/status") =~ /^Seccomp:\s+2/m });
	is(index(memory($s->{pid}), $secret), -1, 'in it, before the first byte of the client, no more');
	ok($s->conn->login, 'login');
	is(index(memory($s->{pid}), $secret), -1, 'nor in the session');
};

# Trace a session with `play`: the lines before the sandbox and after it.
sub traced {
	my ($play, %o) = @_;
	my $trace = "$TMP/trace";
	my $s = ($o{client} ? \&local_session : \&session)->(%o, wrap => [ 'strace', '-f', '-o', $trace ]);
	$play->($s);
	$s->conn->send("X\0\0\0\4");
	$s->conn->rest unless $o{client}; # the server that is played there does not close
	$s->conn->close;
	$s->wait;
	# One system call a line, with the descriptors' names.
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

subtest 'no client byte is read before the sandbox is on (the SSLRequest of step 2 aside), and no file is opened after' => sub {
	my ($before, $after) = traced(sub { ok($_[0]->conn->login, 'login') }, pg => $pg);
	my $request = quotemeta '"\\0\\0\\0\\10\\4\\322\\26/", 8,';
	none($before, qr{^\d+ +(?:read|recvfrom|recvmsg|recv)\(0,(?!.*MSG_PEEK|.*$request).* = [1-9]}, 'nothing of the client is taken before');
	none($after, $opens, 'nothing is opened after');
	none($before, qr{ connect\(.*htons\(${\ $pg->port}\)}, 'PostgreSQL is not connected before the handshake');
};

subtest 'nor in client mode, where the server is not connected before the startup packet is in' => sub {
	my $server = tls_backend($c->{cert});
	my ($before, $after) = traced(sub { is((first_message($_[0]))[0], 'R', 'in') }, client => 1, pg => $server, args => [ '-A', $c->{root} ]);
	none($before, qr{^\d+ +(?:read|recvfrom|recvmsg|recv)\(0,.* = [1-9]}, 'nothing of the client is taken before');
	none($before, qr{ connect\(.*htons\(${\ $server->port}\)}, 'nothing is connected before');
	none($after, $opens, 'nothing is opened after, though a chain is verified');
};
done_testing;
