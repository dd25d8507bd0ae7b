# SPDX-License-Identifier: ISC
#
# Clients that break the rules of TLS 1.2 and 1.3 in the handshake and after it. pgssl answers each
# with the alert that OpenSSL's own server gives, and logs why. (t/records.t has records.)
# sabotage: s/SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION/SSL_OP_NO_TICKET | SSL_OP_ALLOW_CLIENT_RENEGOTIATION/ tls/settings.c
# sabotage: s/enum io_status sent = send_records(t);/enum io_status sent = error != SSL_ERROR_SSL ? send_records(t) : IO_DONE;/ tls.c
# sabotage: s/strlcpy(t->failure, tls_reason("")/strlcpy(t->failure, ""/ tls.c
use lib 't/lib';
use T;
use T::Rules;

limit(1200);
servers();
my @old = extensions_1_2();
my $good = hello();
my $old = hello(extensions => \@old);

sub hex_of { return unpack 'H*', $_[0] }

subtest 'the beginning of a ClientHello' => sub {
	accepted('TLS 1.3', record(22, $good));
	accepted('TLS 1.2', record(22, $old));
	refused("a message of type $_", record(22, message($_, substr $good, 4)))
		for 0, 2, 4, 8, 11, 16, 20, 24, 67, 254;
	for my $length (0, 1, 99, 101, 0xffffff) {
		same("a message of 100 bytes that claims $length",
			record(22, message(1, 'x' x 100, length => $length)));
	}
	for (0x002, 0x200, 0x300, 0x301, 0x302, 0x304, 0x400) {
		same(sprintf('legacy version %04x', $_), record(22, hello(version => $_)));
		same(sprintf('legacy version %04x alone', $_),
			record(22, hello(version => $_, extensions => \@old)));
	}
	accepted("a session identifier of $_ bytes", record(22, hello(session => 's' x $_)))
		for 0, 1, 32;
	refused("a session identifier of $_ bytes", record(22, hello(session => 's' x $_)))
		for 33, 255;
	refused('no ciphers', record(22, hello(ciphers => '')));
	refused('half a cipher', record(22, hello(ciphers => "\x13\1\x13")));
	refused('unknown ciphers', record(22, hello(ciphers => "\x13\xff\x0a\x0a")));
	refused('CBC ciphers', record(22, hello(ciphers => "\xc0\x09", extensions => \@old)));
	refused('a fallback from TLS 1.3',
		record(22, hello(ciphers => "\x56\0\xc0\x2b", extensions => \@old)));
	refused('a ClientHello of SSL 2', pack 'n C n n n n a3 a32', 0x8000 | 44, 1, 0x303, 3, 0,
		32, "\0\xc0\x2b", 'r' x 32);
};

subtest 'compression' => sub {
	refused('no method', record(22, hello(compression => '')));
	refused('two methods in TLS 1.3', record(22, hello(compression => "\1\0")));
	accepted('the same in TLS 1.2, where it is not used',
		record(22, hello(compression => "\1\0", extensions => \@old)));
	refused('only deflate', record(22, hello(compression => "\1", extensions => $_)))
		for undef, \@old;
};

subtest 'extensions' => sub {
	refused('none', record(22, hello(rest => '')));
	refused("said to have $_ of 20 bytes", record(22, hello(rest => pack 'n a*', $_, 'x' x 20)))
		for 0, 1, 19, 21, 65535;
	refused("cut after $_ bytes", record(22, hello(block => 'x' x $_))) for 1 .. 3;
	refused('longer than the message', record(22, hello(block => "\0\x0a\0\x09xxxxxxxx")));
	refused("no extension $_", record(22, hello(extensions => without([$_])))) for 10, 13, 51;
	refused("extension $_->[0] twice",
		record(22, hello(extensions => [ extensions_1_3(), $_ ]))) for extensions_1_3();
	refused("extension $_ twice", record(22, hello(extensions => [ extensions_1_3(),
		extension($_), extension($_) ]))) for 0, 16, 23, 65281;
	accepted('an unknown one twice', record(22, hello(extensions => [ extensions_1_3(),
		extension(0x1234), extension(0x1234) ])));
	my @renegotiated = (@old, extension(65281, "\1x"));
	refused('a first handshake that claims to be a second one',
		record(22, hello(extensions => \@renegotiated)));
	refused('another protocol than ours', record(22, hello(extensions => [ extensions_1_3(),
		extension(16, "\0\3\2h2") ])));
};

# Each extension of OpenSSL's, with contents that are too short, too long or make no sense.
subtest 'contents of extensions' => sub {
	my @contents = ('', "\0", "\0\1", "\0\2xx", "\0\3xxx", "\1x", 'x' x 40);
	for my $type (0, 1, 5, 10, 11, 13, 16, 18, 22, 23, 35, 41, 42, 44, 45, 49, 50, 51, 43) {
		same("extension $type: " . hex_of($_),
			record(22, hello(extensions => without([$type], extension($type, $_)))))
			for @contents;
	}
	for my $type (0, 1, 10, 11, 13, 16, 35, 65281) {
		my @others = grep { $_->[0] != $type } @old;
		same("TLS 1.2, extension $type: " . hex_of($_),
			record(22, hello(extensions => [ @others, extension($type, $_) ])))
			for @contents;
	}
};

subtest 'key shares' => sub {
	my $with = sub { record(22, hello(extensions => without([51], key_share(@_)))) };
	my $bent = $P256 ^ ("\0" x 64 . "\1");
	refused('of zero', $with->([ 29, "\0" x 32 ]));
	refused("of X25519, $_ bytes", $with->([ 29, 'x' x $_ ])) for 0, 1, 31, 33, 65;
	accepted('of P-256', $with->([ 23, $P256 ]));
	refused('of P-256, not on the curve', $with->([ 23, $bent ]));
	refused('of P-256, compressed', $with->([ 23, "\3" . substr $P256, 1, 32 ]));
	refused("of P-256, $_ bytes", $with->([ 23, substr $P256 . 'x', 0, $_ ])) for 0, 1, 64, 66;
	same('of a group that the client does not support', $with->([ 24, $X25519 ]));
	same('of an unknown group', $with->([ 0x1234, $X25519 ]));
	same('two of one group', $with->([ 29, $X25519 ], [ 29, $X25519 ]));
	same('in another order than the groups', $with->([ 23, $P256 ], [ 29, $X25519 ]));
};

# A ticket that was never given, and data encrypted with its key.
subtest 'early data' => sub {
	my $psk = extension(41, pack 'n/a n/a', pack('n/a N', 'ticket', 1), pack 'C/a', 'b' x 32);
	my @modes = (extension(45, "\1\1"), extension(42));
	my $early = record(22, hello(extensions => [ extensions_1_3(), @modes, $psk ]));
	same('offered', $early);
	same('offered and sent', $early . record(23, 'e' x 100) x 5);
	same('offered, more than 16 KiB sent', $early . record(23, 'e' x 16000) x 3);
	same('without a ticket',
		record(22, hello(extensions => [ extensions_1_3(), @modes ])) . record(23, 'e' x 100));
	refused('a ticket that is not the last extension',
		record(22, hello(extensions => [ extensions_1_3(), $psk, @modes ])));
	refused('a ticket without modes',
		record(22, hello(extensions => [ extensions_1_3(), $psk ])));
};

# The client's second flight in TLS 1.2, in clear: a key exchange for P-256, the end of which is
# wrong in each case.
subtest 'TLS 1.2: the second flight' => sub {
	my $first = record(22, hello(extensions => [ extension(10, "\0\2\0\x17"), @old[1, 2] ]));
	my $exchange = sub { record(22, message(16, pack 'C/a', $_[0])) };
	my $bent = $P256 ^ ("\0" x 64 . "\1");
	refused('a point that is not on the curve', $first, $exchange->($bent));
	refused("a point of $_ bytes", $first, $exchange->(substr $P256 . 'x', 0, $_))
		for 0, 1, 64, 66;
	refused('a point of nothing', $first, record(22, message(16, '')));
	refused('a point and more', $first, record(22, message(16, pack 'C/a a', $P256, 'x')));
	refused('ChangeCipherSpec first', $first, record(20, "\1"));
	refused('Finished first', $first, record(22, message(20, 'f' x 12)));
	refused('data first', $first, record(23, 'data'));
	refused('a certificate that nobody asked for', $first, record(22, message(11, "\0\0\0")));
	refused('a second ClientHello', $first, $first);
	refused('a key exchange twice', $first, $exchange->($P256) x 2);
	refused('Finished in clear', $first,
		$exchange->($P256) . record(20, "\1") . record(22, message(20, 'f' x 12)));
	same('a warning inside a message', $first,
		record(22, "\x10\0\0") . record(21, "\1\x5a") . record(22, "\x42"));
	same('a warning', $first, record(21, "\1\x5a") . $exchange->($P256));
	same('six warnings', $first, record(21, "\1\x5a") x 6 . $exchange->($P256));
	same('close_notify', $first, record(21, "\1\0"));
	same('a fatal alert', $first, record(21, "\2\x28"));
};

my $finished = '14000020' . '00' x 32;
my $again = hex_of($good);
my $in_clear = 'clear:' . hex_of(record(22, $good));

subtest 'TLS 1.3: the second flight' => sub {
	my $hold = sub { my ($name, @words) = @_; ($name, [ 'hold', @words ]) };
	accepted($hold->('as it should be', qw(held held session startup)));
	accepted($hold->('ChangeCipherSpec twice', qw(held clear:140303000101 held session startup)));
	refused($hold->('a wrong Finished', "record:22:$finished"));
	refused($hold->('a short Finished', 'record:22:14000001aa'));
	refused($hold->('a long Finished', "record:22:14000021" . '00' x 33));
	refused($hold->('a wrong Finished in pieces', "pieces:22:$finished"));
	refused($hold->('Finished in clear', "clear:1603030024$finished"));
	refused($hold->('a second ClientHello', "record:22:$again"));
	refused($hold->('a second ClientHello in clear', $in_clear));
	refused($hold->("a message of type $_->[0]", "record:22:$_->[1]")) for [ 'KeyUpdate', '1800000100' ],
		[ 'EndOfEarlyData', '05000000' ], [ 'Certificate', '0b00000400000000' ], [ 'CertificateVerify', '0f000008040300040000000000' ];
	same($hold->("$_ between the halves of Finished", qw(held record:22:14000020), $_))
		for qw(record:21:015a record:21:0164 record:23:61 clear:140303000101);
	refused($hold->('data instead of Finished', 'startup'));
	refused($hold->('the keys of the session too early', qw(session startup)));
	refused($hold->('the keys of the handshake too late', qw(held held startup)));
};

subtest 'TLS 1.2: the end of the second flight' => sub {
	my $hold = sub { my ($name, @words) = @_; ($name, [ qw(tls12 hold), @words ]) };
	my $short = '1400000c' . '00' x 12;
	accepted($hold->('as it should be', qw(held held held session startup)));
	refused($hold->('a wrong Finished', qw(held held), "record:22:$short"));
	refused($hold->('a wrong Finished in pieces', qw(held held), "pieces:22:$short"));
	refused($hold->('a short Finished', qw(held held record:22:14000001aa)));
	refused($hold->('a long Finished', qw(held held), 'record:22:1400000d' . '00' x 13));
	refused($hold->('Finished before ChangeCipherSpec', 'held', "clear:1603030010$short"));
	refused($hold->('ChangeCipherSpec twice', qw(held held record:20:01)));
	refused($hold->('a second ClientHello', qw(held held), 'record:22:' . hex_of($old)));
	refused($hold->('data instead of Finished', qw(held held startup)));
};

# Before and after the startup packet.
my %of = ('TLS 1.3' => [], 'TLS 1.2' => ['tls12']);
for my $version (sort keys %of) {
	for my $place ([], ['startup']) {
		subtest "$version: messages after the handshake, @$place" => sub {
			my $after = sub { my ($name, @words) = @_; ($name, [ @{ $of{$version} }, @$place, @words ]) };
			my %message = (Finished => $finished, 'a ClientHello' => $again, 'a ticket' => '040000050000000000', 'a KeyUpdate that is asked for' => '1800000101',
				'a CertificateRequest' => '0d00000400000000', 'a Certificate' => '0b00000400000000', 'a HelloRequest' => '00000000', 'KeyUpdate 2' => '1800000102',
				'an empty KeyUpdate' => '18000000', 'a long KeyUpdate' => '180000020000', 'a KeyUpdate and more' => '180000010018000001',
				'a message of 16 MB' => '18ffffff00', 'an unknown message' => 'ff00000000', 'half a message' => '18');
			same($after->($_, "record:22:$message{$_}", 'startup')) for sort keys %message;
			same($after->("$_ in pieces", "pieces:22:$message{$_}", 'startup')) for sort keys %message;
			same($after->('a ClientHello in clear', $in_clear));
		};
	}
}

subtest 'renegotiation is refused, and the session goes on' => sub {
	my $fake = fake_backend();
	my $s = session(pg => $fake);
	my @again = ('record:22:' . hex_of($old), 'record:23:61');
	my $r = T::run([ "$ROOT/t/bin/tls_records", qw(tls12 startup), @again, @again, 'end' ],
		in => $s->conn->{write});
	like($r->{out}, qr/^alert 1 100$/m, 'no_renegotiation');
	$s->conn->close;
	is($s->wait, 0, 'status');
	is(substr($fake->bytes, -3), "\0aa", 'PostgreSQL gets what follows');
};

subtest 'HelloRetryRequest' => sub {
	servers(groups => 'P-384');
	my @groups = (extension(10, pack 'n/a', pack 'n*', 29, 24), @{ without([ 10, 51 ]) });
	my $first = hello(extensions => [ @groups, key_share() ]);
	my $p384 = pack 'H*', '04aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7'
		. '3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f';
	my $second = sub { hello(extensions => [ @groups, @_ ? @_ : key_share([ 24, $p384 ]) ]) };
	accepted('once', record(22, $first), record(22, $second->()));
	refused('the wrong key share again', record(22, $first), record(22, $first));
	refused('no key share', record(22, $first), record(22, $second->(key_share())));
	refused('a key share that is not on the curve', record(22, $first), record(22, $second->(key_share([ 24, $p384 ^ ("\0" x 96 . "\1") ]))));
	same('two key shares', record(22, $first), record(22, $second->(key_share([ 24, $p384 ], [ 29, $X25519 ]))));
	same('another session identifier', record(22, $first), record(22, hello(session => 't' x 32, extensions => [ @groups, key_share([ 24, $p384 ]) ])));
	refused('other ciphers', record(22, $first), record(22, hello(ciphers => "\x13\2", extensions => [ @groups, key_share([ 24, $p384 ]) ])));
	same('TLS 1.2 after all', record(22, $first), record(22, $old));
	refused('Finished', record(22, $first), record(22, message(20, 'f' x 32)));
	refused('data', record(22, $first), record(23, 'data'));
	same('a ChangeCipherSpec before it', record(22, $first), record(20, "\1") . record(22, $second->()));
	same('a third ClientHello', record(22, $first), record(22, $second->()) . record(22, $second->()));
};
done_testing;
