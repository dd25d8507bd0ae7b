# SPDX-License-Identifier: ISC
#
# pg_basebackup -X stream hung in one of three runs behind other TLS proxies
# (supabase/supavisor#993, cockroachdb/cockroach#148222): libpq's asynchronous calls do not see what
# OpenSSL still buffers of a longer record. No record to a client may carry more than 8192 bytes.
# sabotage: s/define TLS_RECORD_MAX 8192/define TLS_RECORD_MAX 16384/ tls/internal.h
use lib 't/lib';
use T;

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
