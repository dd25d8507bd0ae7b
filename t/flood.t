# SPDX-License-Identifier: ISC
#
# A client whose next byte is always there: no read ever waits, so whoever looks for deadlines and SIGTERM only while waiting never looks. They bind all the same.
# sabotage: s/if (t->reads++ == READS_MAX)/if (false)/ tls.c
# sabotage: s/return left == 0 ? IO_TIMEOUT/return false ? IO_TIMEOUT/ stream.c
# sabotage: s/if (ready > 0 \&\& sigterm_waits())/if (false)/ stream.c
use lib 't/lib';
use T;
use T::X509;
use Time::HiRes qw(time);

# A session with tls13_records as its client: (session, what says how far the client has come).
sub flooded {
	my ($words, %o) = @_;
	my $s = session(over => 'pair', %o);
	my $said = "$TMP/said.$s->{pid}";
	spawn(cmd => [ "$ROOT/t/bin/tls13_records", @$words ], in => $s->conn->{write}, out => $said);
	$s->conn->close;
	return ($s, sub { slurp($said) });
}

# More of them than are read in the time; were all read, the client would name its word and not be "cut".
subtest 'KeyUpdates before the startup packet' => sub {
	my $fake = fake_backend();
	my ($s, $said) = flooded([ 'keyupdates:600000' ], pg => $fake, args => ['--handshake-timeout=3']);
	is($s->wait, 76, 'the deadline ends it');
	wait_for('the client to notice', sub { $said->() =~ /^cut$/m });
	($s, $said) = flooded([ 'keyupdates:600000' ], pg => $fake);
	wait_for('the flood', sub { $said->() =~ /^made/m });
	kill 'TERM', $s->{pid};
	is($s->wait, 76, 'SIGTERM ends it');
	wait_for('the client to notice', sub { $said->() =~ /^cut$/m });
	like($s->log, qr/SIGTERM/, 'logged');
};

subtest 'a session whose client never stops sending' => sub {
	my $sink = fake_backend(sub { my ($socket) = @_; 1 while sysread $socket, my $data, 1 << 20 });
	my ($s, $said) = flooded([ 'startup', 'data' ], pg => $sink);
	$s->logged(qr/connection authorized/);
	nap(0.2);
	kill 'TERM', $s->{pid};
	is($s->wait, 0, 'SIGTERM ends it');
	like($s->log, qr/reason=terminated/, 'logged');

	my $root = issue(cn => 'Root', ca => 1);
	my $brief = issue(issuer => $root, cn => 'alice', until => 3);
	my $pem = spew("$TMP/brief.pem", slurp($brief->{cert}) . slurp($brief->{key}), 0600);
	my @args = ('-A', $root->{cert}, '--clientcert=verify-full', '--clientcert-expiry');
	($s, $said) = flooded([ "cert:$pem", 'startup', 'data' ], pg => $sink, args => \@args);
	is($s->wait, 0, "the certificate's end ends it");
	like($s->log, qr/reason=client certificate expired/, 'logged');
};

done_testing;
