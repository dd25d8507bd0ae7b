# SPDX-License-Identifier: ISC
#
# pg_basebackup -X stream hung in one of three runs behind other TLS proxies
# (supabase/supavisor#993, cockroachdb/cockroach#148222): libpq's asynchronous calls do not see what
# OpenSSL still buffers of a longer record. No record to a client may carry more than 8192 bytes.
# Received records that break the rules get the alert of OpenSSL's own server, and a line in the log.
# (t/torture/tls_abuse.t has the messages in them.)
# sabotage: s/enum io_status sent = send_records(t);/enum io_status sent = error != SSL_ERROR_SSL ? send_records(t) : IO_DONE;/ tls.c
# sabotage: s/strlcpy(t->failure, tls_reason("")/strlcpy(t->failure, ""/ tls.c
# sabotage: s/define TLS_RECORD_MAX 8192/define TLS_RECORD_MAX 16384/ tls/internal.h
use lib 't/lib';
use T;
use T::Rules;

# The overhead of a record: a type byte and a tag with TLS 1.3, a nonce and a tag with TLS 1.2.
my %overhead = ('TLSv1.3' => 17, 'TLSv1.2' => 24);
my $size = 1_000_000;

for my $version (sort keys %overhead) {
	subtest $version => sub {
		my $fake = fake_backend(sub {
			my ($socket, $self) = @_;
			$self->take($socket, 20);
			syswrite $socket, 'x' x $size;
			$self->take($socket);
		});
		my $s = session(pg => $fake);
		ok($s->conn->negotiate(min => $version, max => $version), 'handshake');
		$s->conn->send(startup_packet(user => 'alice', database => 'sales'));
		is(length $s->conn->recv($size), $size, 'all bytes arrive');
		my @data = map { $_->[1] } grep { $_->[0] == 23 } $s->conn->records;
		my ($longest) = sort { $b <=> $a } @data;
		cmp_ok($longest, '<=', 8192 + $overhead{$version},
			'no record carries more than 8192 bytes');
		cmp_ok($longest, '>', 4096, 'records are not needlessly short');
	};
}

subtest 'received records may have any size' => sub {
	my $fake = fake_backend();
	my $s = session(pg => $fake);
	$s->conn->negotiate;
	$s->conn->send(startup_packet(user => 'alice') . 'y' x 16000); # one record of 16 kB
	wait_for('the record', sub { length $fake->bytes > 16000 });
	pass('a record of 16 kB');
};

subtest 'in clear' => sub {
	servers();
	my $hello = hello();
	refused("type $_", record($_, $hello)) for 0, 19, 20, 21, 23, 24, 255;
	refused(sprintf('version %04x', $_), record(22, $hello, version => $_)) for 0x200, 0x400;
	accepted(sprintf('version %04x', $_), record(22, $hello, version => $_)) for 0x300, 0x3ff;
	refused("a record of $_ bytes", record(22, $hello . 'x' x ($_ - length $hello)))
		for 16384, 16385, 18433;
	refused("a record that claims $_ bytes", record(22, $hello, length => $_)) for 0, 1, 65535;
	accepted('32 empty ones before', record(22, '') x 32 . record(22, $hello));
	refused('40 empty ones before', record(22, '') x 40 . record(22, $hello));
	accepted('of one byte', records_of(1, 22, $hello));
	refused('of one byte, in a bad ClientHello', records_of(1, 22, hello(session => 's' x 33)));
	my ($half, $rest) = map { record(22, $_) } unpack 'a50 a*', $hello;
	refused("type $_ between two", $half . record($_, "\1\0") . $rest) for 20, 21, 23;
	refused("an alert of $_ bytes", record(21, 'x' x $_)) for 0, 1, 3;
	refused('HTTP', "GET / HTTP/1.0\r\n\r\n");
};

my %of = ('TLSv1.2' => ['tls12'], 'TLSv1.3' => []);
for my $version (sort keys %of) {
	subtest "encrypted, $version" => sub {
		my @words = (@{ $of{$version} }, 'startup');
		refused($_, [ @words, $_ ]) for 'record:0:00', qw(record:20:01 record:24:01
			record:255:01 record:21:01 long:23:16385 clear:1703034801);
		refused('no MAC', [ @words, 'clear:1703030040' . '61' x 64 ]);
		refused('no room for a MAC', [ @words, 'clear:1703030008' . '61' x 8 ]);
		refused('40 empty ones', [ @words, ('record:23:') x 40 ]);
		same($_, [ @words, $_ ]) for qw(clear:15030300020228 clear:140303000101
			record:21:015a record:21:0164 record:21:0300 record:21:0228 record:21:0100);
		accepted('16384 bytes', [ @words, 'long:23:16384' ]);
	};
}

subtest 'pg_basebackup -X stream, ten times' => sub {
	my $pg = start_pg();
	my $service = serve(pg => $pg);
	for my $n (1 .. 10) {
		my $r = pg_do([ 'pg_basebackup', '-X', 'stream', '-c', 'fast', '--no-sync', '-D',
			"$TMP/base" ], port => $service->port, user => 'postgres', seconds => 30);
		is($r->{status}, 0, "run $n") or diag($r->{err});
		T::run([ 'rm', '-rf', "$TMP/base" ]);
	}
};
done_testing;
