# SPDX-License-Identifier: ISC
#
# Run the transcripts t/*.chat, once with whole writes and once with one write per byte. C: is what
# the client does, S: what it must receive, B: what PostgreSQL must have received; t/chat.README
# explains the language. PGSSL_CHAT=WORD runs only the cases with WORD in their title.
# sabotage: s/if (at != last)/if (0)/ wire/startup.c
use lib 't/lib';
use T;

# A fake PostgreSQL: it reads one packet, sends AuthenticationOk to a session, closes after a
# CancelRequest, and records the rest.
sub postgres {
	my ($socket, $fake) = @_;
	my $head = $fake->take($socket, 8);
	return unless length $head == 8;
	my ($length, $code) = unpack 'NN', $head;
	$fake->take($socket, $length - 8);
	return if $code == 80877102;
	syswrite $socket, "R\0\0\0\x08\0\0\0\0";
	$fake->take($socket);
}

# Split "user=alice application_name=a\x20b" into words; \xHH is a byte.
sub words {
	my ($text) = @_;
	return map { s/\\x([0-9a-f]{2})/chr hex $1/egr } split ' ', $text;
}

sub bytes {
	my ($what) = @_;
	my ($word, @rest) = words($what);
	my %o = map { /^(\w+)=(.*)$/s ? ($1 => $2) : () } @rest;
	return ssl_request() if $word eq 'SSLRequest';
	return gss_request() if $word eq 'GSSENCRequest';
	return cancel_request($o{pid}, $o{key} =~ /^x(\d+)$/ ? 'k' x $1 : pack 'H*', $o{key})
		if $word eq 'CancelRequest';
	return startup_packet(map { /^(\w+)=(.*)$/s } @rest) if $word eq 'StartupMessage';
	return pack('N', $rest[0]) if $word eq 'length';
	return pack('H*', join '', @rest) if $word eq 'hex';
	return join ' ', @rest if $word eq 'text';
	return packet($1 << 16 | $2, join ' ', @rest[1 .. $#rest])
		if $word eq 'packet' && $rest[0] =~ /^(\d+)\.(\d+)$/;
	die "no such packet: $what\n";
}

my %client = (
	'TLS' => sub {
		my ($c, $o) = @_;
		ok($c->start_tls(tls_options($o)), "handshake $o")
			or diag($c->{tls_error} || $c->{ended});
	},
	'TLS-fails' => sub {
		my ($c, $o) = @_;
		my ($options, $alert) = $o =~ /^(.*?):\s*(.*)$/;
		# TLS 1.3 clients see it at their first read
		my $ok = $c->start_tls(tls_options($options)) && defined $c->message;
		ok(!$ok, "handshake must fail: $o");
		like($c->{tls_error} || '', qr/\Q$alert\E/, "alert: $alert") if length $alert;
	},
	'FIN' => sub { $_[0]->finish },
	'close_notify' => sub { $_[0]->close_notify },
);

sub tls_options {
	my %o = map { /^(\w+)=(.*)$/ } split ' ', $_[0];
	$o{alpn} = [ split /,/, $o{alpn} ] if $o{alpn};
	return %o;
}

sub saw_fatal {
	my ($c, $code, $text) = @_;
	my $bytes = $c->rest;
	my $error = parse_error($bytes);
	return ok(0, "FATAL $code: got " . unpack 'H*', $bytes) unless $error;
	is("$error->{S} $error->{V}", 'FATAL FATAL', 'severity');
	like($error->{C}, qr/^(?:$code)$/, "SQLSTATE $code");
	like($error->{M}, qr/$text/, "message: $text");
}

my %server = (
	'FATAL' => sub { my ($c, $o) = @_; saw_fatal($c, $o =~ /^(\S+)\s*(.*)$/) },
	'old-error' => sub {
		my ($c, $o) = @_;
		like($c->rest, qr/^E[^\0]*$o[^\0]*\0$/, "error in the format of protocol 2: $o");
	},
	'AuthenticationOk' => sub { is($_[0]->recv(9), "R\0\0\0\x08\0\0\0\0", 'AuthenticationOk') },
	'alpn' => sub {
		my ($c, $o) = @_;
		my $got = $c->alpn;
		is(defined $got ? $got : 'none', $o, "ALPN $o");
	},
	'closed' => sub {
		my ($c) = @_;
		is($c->rest, '', 'no more bytes');
		is($c->ending, 'closed', 'closed, not reset');
	},
);

sub backend_saw {
	my ($fake, $o, $wire) = @_;
	if ($o eq 'nothing') {
		is($fake->bytes, '', 'nothing reached PostgreSQL');
	} elsif ($o eq 'no connection') {
		is($fake->connections, 0, 'PostgreSQL was not connected to');
	} else {
		my $want = bytes($o);
		wait_for("PostgreSQL to get $o", sub { length $fake->bytes >= length $want });
		is(unpack('H*', $fake->bytes), unpack('H*', $want), "PostgreSQL got $o");
	}
}

sub step {
	my ($who, $what, $s, $fake) = @_;
	my ($word, $rest) = $what =~ /^(\S+)\s*(.*)$/;
	return backend_saw($fake, $what) if $who eq 'B';
	return is($s->wait, $what, "exit status $what") if $who eq 'exit';
	return ok($s->logged(qr/$what/), "log: $what") if $who eq 'log';
	if ($who eq 'S') {
		return is($s->conn->recv(1), $1, "one byte $1") if $what =~ /^'(.)'$/;
		return $server{$word} ? $server{$word}->($s->conn, $rest)
			: die "no such answer: $what\n";
	}
	return $client{$word}->($s->conn, $rest) if $client{$word};
	$s->conn->send(join '', map { bytes($_) } split /\s+\+\s+/, $what);
}

sub play {
	my ($title, $lines, $chop) = @_;
	my ($args) = map { /^args: (.*)/ ? $1 : () } @$lines;
	my $fake = fake_backend(\&postgres);
	my $s = session(pg => $fake, chop => $chop, args => [ words($args || '') ],
		stderr => 'client');
	for my $line (@$lines) {
		next if $line =~ /^args:/;
		my ($who, $what) = $line =~ /^(C|S|B|exit|log): (.*)$/
			or die "$title: cannot read: $line\n";
		step($who, $what, $s, $fake);
	}
	$s->conn->close;
	$s->wait;
	kill 'KILL', $fake->{pid};
}

for my $file (sort glob "$ROOT/t/*.chat") {
	my ($title, %case, @order);
	for my $line (split /\n/, slurp($file)) {
		next if $line =~ /^\s*(?:#|$)/;
		if ($line =~ /^== (.*)/) { $title = $1; push @order, $title }
		else { push @{ $case{$title} }, $line }
	}
	for my $name (@order) {
		next if $ENV{PGSSL_CHAT} && index($name, $ENV{PGSSL_CHAT}) < 0;
		subtest("$name", sub { play($name, $case{$name}, 0) });
		subtest("$name, byte by byte", sub { play($name, $case{$name}, 1) });
	}
}
done_testing;
