# SPDX-License-Identifier: ISC
#
# A ClientHello that arrives in several TCP segments or TLS records. With the key share of a hybrid
# group it is longer than a TCP segment, which other servers and middleboxes did not expect. Here it
# has up to 20 kB, follows an SSLRequest or starts direct TLS, and comes over a socket or pipes.
# sabotage: s/t->hello_len > HELLO_MAX/false/ tls.c
# sabotage: s/if (io != IO_WANT_READ \&\& io != IO_WANT_WRITE)/if (io != IO_WANT_WRITE)/ tls.c
use lib 't/lib';
use T;
use T::Handshake;

my $fake = after_startup(sub { syswrite $_[0], 'from the backend' });

# One client does all handshakes, one for each line of its input (see t/handshakes.c). It connects
# to this test, which relays to pgssl.
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => free_port(),
	Listen => 1, ReuseAddr => 1) or die "listen: $!\n";
pipe(my $lines, my $to_client) && pipe(my $answers, my $said) or die "pipe: $!\n";
spawn(cmd => ["$ROOT/t/bin/handshakes"], in => $lines, out => $said,
	env => { OPENSSL_CONF => '/dev/null' });
close $_ for $lines, $said;

# Has pgssl read everything? `keep` has kept a copy of its descriptor open.
sub is_taken {
	my ($s) = @_;
	my $unread = pack 'i', 0;
	ioctl $s->{child_in}, 0x541B, $unread or die "FIONREAD: $!\n";
	return !unpack 'i', $unread;
}

# Split handshake records into records with `size` bytes of content; leave other records as they
# are.
sub fragment {
	my ($bytes, $size) = @_;
	my $out = '';
	while ($bytes =~ s/^(.{3})(..)//s) {
		my ($head, $content) = ($1, substr $bytes, 0, unpack('n', $2), '');
		my $each = ord $head == 22 ? $size : length $content;
		$out .= $head . pack('n/a', $_) for unpack "(a$each)*", $content;
	}
	return $out;
}

my %way = (
	'in one piece' => sub { $_[0] },
	'a segment of 1400 bytes, and the rest' => sub { unpack 'a1400 a*', $_[0] },
	'the record header, and the rest' => sub { unpack 'a5 a*', $_[0] },
	'all but the last byte, and the last byte' => sub {
		my $n = length($_[0]) - 1;
		unpack "a$n a*", $_[0];
	},
	'two records in one segment' => sub { fragment($_[0], 1000) },
	'two records, a segment each' => sub {
		my $all = fragment($_[0], 1000);
		unpack 'a1005 a*', $all;
	},
	'two records in three segments' => sub {
		my $all = fragment($_[0], 1000);
		unpack 'a1003 a5 a*', $all;
	},
	'records of 100 bytes, all at once' => sub { fragment($_[0], 100) },
	'records of 100 bytes, a segment each' => sub { unpack '(a105)*', fragment($_[0], 100) },
	'the first bytes of the message in records of one byte' => sub {
		my ($head, $message, $rest) = unpack 'a5 a10 a*', $_[0];
		join '', (map { substr($head, 0, 3) . pack 'n/a', $_ } split //, $message),
			substr($head, 0, 3) . pack 'n/a', $rest;
	},
);

# Read the client's next ClientHello, and a ChangeCipherSpec record before it.
sub read_hello {
	my ($client) = @_;
	my ($bytes, $message) = ('', '');
	while (length $message < 4 || length $message < 4 + unpack 'xN',
		"\0$message" & "\0\0\xff\xff\xff") {
		my $head = $client->recv(5);
		my $content = $client->recv(unpack 'x3n', $head);
		$bytes .= $head . $content;
		$message .= $content if ord $head == 22;
	}
	return $bytes;
}

# Relay both directions until the session ends.
sub relay {
	my ($client, $pgssl) = @_;
	my %to = (fileno $client->{read} => $pgssl, fileno $pgssl->{read} => $client);
	my %from = (fileno $client->{read} => $client, fileno $pgssl->{read} => $pgssl);
	while (%from) {
		my $bits = '';
		vec($bits, $_, 1) = 1 for keys %from;
		select $bits, undef, undef, $T::SECONDS or die "nothing comes\n";
		for my $fd (grep { vec $bits, $_, 1 } keys %from) {
			my $bytes = $from{$fd}->raw_read;
			length $bytes ? $to{$fd}->raw_send($bytes) : do {
				$to{$fd}->finish;
				delete $from{$fd};
			};
		}
	}
}

# Test a session whose ClientHellos $split cuts into pieces; return their lengths. retried: the
# number of HelloRetryRequests to expect.
sub works {
	my ($name, $split, %o) = @_;
	my $s = session(pg => $fake, over => $o{over}, args => $o{args}, keep => 1);
	syswrite $to_client, join(' ', $listener->sockport, $o{direct} ? 'direct' : 'postgres',
		'-pad', $o{pad} || 1500, @{ $o{tls} || [] }) . "\n";
	my $socket = $listener->accept;
	my $client = T::Conn->new($socket, $socket);
	if (!$o{direct}) {
		$s->conn->raw_send($client->recv(8));
		$client->raw_send($s->conn->recv(1));
	}
	my @lengths;
	for (0 .. ($o{retried} || 0)) {
		$client->raw_send($s->conn->raw_read) if @lengths; # HelloRetryRequest
		my $hello = read_hello($client);
		push @lengths, length $hello;
		my $pieces = 0;
		for my $piece ($split->($hello)) {
			$s->conn->raw_send($piece);
			# waiting for each of hundreds takes too long
			wait_for('pgssl to read', sub { is_taken($s) || !alive($s->{pid}) })
				if $pieces++ < 20;
		}
	}
	close delete $s->{$_} for qw(child_in child_out);
	relay($client, $s->conn);
	like(readline $answers, qr/^done/, $name) or diag($s->log);
	return @lengths;
}

for my $over (qw(tcp pipes)) {
	for my $direct (0, 1) {
		subtest +($direct ? 'direct TLS' : 'SSLRequest') . ", $over" => sub {
			my @how = (over => $over, direct => $direct);
			for my $name (sort keys %way) {
				my ($length) = works($name, $way{$name}, @how);
				cmp_ok($length, '>=', 1536, "of $length bytes");
			}
			works('one byte at a time', sub { split //, $_[0] }, @how);
		};
	}
}

subtest 'TLS 1.2' => sub { works($_, $way{$_}, tls => [qw(-max_protocol TLSv1.2)])
	for sort keys %way };

subtest 'longer than a record' => sub {
	for my $name (grep { !/records of one byte/ } sort keys %way) {
		my ($length) = works($name, $way{$name}, direct => 1, pad => 20_000);
		cmp_ok($length, '>', 20_000, "of $length bytes");
	}
};

# The server does not support the group of the client's key share, so the client sends a second
# ClientHello.
subtest 'HelloRetryRequest' => sub {
	# the second ClientHello follows a ChangeCipherSpec record
	for my $name (grep { !/records of one byte/ } sort keys %way) {
		my @lengths = works($name, $way{$name}, tls => [qw(-groups P-521:P-384)],
			args => ['--groups=P-384'], retried => 1);
		cmp_ok($lengths[1], '>=', 1536, "of @lengths bytes");
	}
};

# With 64 KiB of groups and key shares OpenSSL needed 80 ms to find none that it knows.
subtest 'longer than 32 KiB' => sub {
	my $s = serve(pg => $fake);
	my ($below, $above) = handshakes(map { $s->port . " postgres -pad $_" } 30_000, 33_000);
	like($below, qr/^done/, 'less');
	like($above, qr/^failed/, 'more');
	$s->logged(qr/could not accept TLS connection: ClientHello of 3\d{4} bytes is too long/);
};
done_testing;
