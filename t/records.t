# SPDX-License-Identifier: ISC
#
# libpq's asynchronous calls do not see what OpenSSL holds back of a longer record: pg_basebackup -X stream hung behind a tunnel in one of three runs
# (supabase/supavisor#993, cockroachdb/cockroach#148222). So no record to a client carries more than 8192 bytes.
# sabotage: s/define TLS_RECORD_MAX 8192/define TLS_RECORD_MAX 16384/ tls/internal.h
use lib 't/lib';
use T;

# What a record may have on the wire above its plaintext: TLS 1.3 a type byte and a tag, TLS 1.2 a nonce and a tag.
my %overhead = ('TLSv1.3' => 17, 'TLSv1.2' => 24);
my $size = 1_000_000;

for my $version (sort keys %overhead) {
	subtest $version => sub {
		my $fake = fake_backend(sub { my ($socket, $self) = @_; $self->take($socket, 20); syswrite $socket, 'x' x $size; $self->take($socket) });
		my $s = session(pg => $fake);
		ok($s->conn->negotiate(min => $version, max => $version), 'handshake');
		$s->conn->send(startup_packet(user => 'alice', database => 'sales'));
		is(length $s->conn->recv($size), $size, 'all bytes arrive');
		my @data = map { $_->[1] } grep { $_->[0] == 23 } $s->conn->records;
		my ($longest) = sort { $b <=> $a } @data;
		cmp_ok($longest, '<=', 8192 + $overhead{$version}, 'no record is longer than 8192 bytes of plaintext');
		cmp_ok($longest, '>', 4096, 'nor are they needlessly short');
	};
}

subtest 'records received may be of any size' => sub {
	my $fake = fake_backend();
	my $s = session(pg => $fake);
	$s->conn->negotiate;
	$s->conn->send(startup_packet(user => 'alice') . 'y' x 16000); # one record of 16 kB
	wait_for('it to arrive', sub { length $fake->bytes > 16000 });
	pass('a record of 16 kB');
};

subtest 'pg_basebackup -X stream, ten times' => sub {
	my $pg = start_pg();
	my $service = serve(pg => $pg);
	for my $n (1 .. 10) {
		my $r = pg_do([ 'pg_basebackup', '-X', 'stream', '-c', 'fast', '--no-sync', '-D', "$TMP/base" ], port => $service->port, user => 'postgres', seconds => 30);
		is($r->{status}, 0, "run $n") or diag($r->{err});
		T::run([ 'rm', '-rf', "$TMP/base" ]);
	}
};
done_testing;
