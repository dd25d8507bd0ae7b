# SPDX-License-Identifier: ISC
#
# A client that always has more data to read: no read ever waits, so code that checks deadlines and
# SIGTERM only while it waits never checks them. They must take effect all the same.
# sabotage: s/t->reads++ == READS_MAX || throttle(t)/false/ tls.c
# sabotage: s/return left == 0 ? IO_TIMEOUT/return false ? IO_TIMEOUT/ net/stream.c
# sabotage: s/if (ready > 0 \&\& end_signal_pending())/if (false)/ net/stream.c
# sabotage: s/t->key_updates <= KEY_UPDATES_PER_S/true/ tls.c
use lib 't/lib';
use T;
use T::X509;
use Time::HiRes qw(time);

# A session whose client is tls_records: (session, client). The client must be stopped last,
# because pgssl keeps reading from it until it closes.
sub flooded {
	my ($words, %o) = @_;
	my $s = session(over => 'pair', %o);
	my $said = "$TMP/said.$s->{pid}";
	my $client = spawn(cmd => [ "$ROOT/t/bin/tls_records", @$words ], in => $s->conn->{write},
		out => $said);
	$s->conn->close;
	wait_for('the handshake', sub { slurp($said) =~ /^connected/ });
	return ($s, $client);
}

sub ends {
	my ($s, $client, $pattern, $status, $what) = @_;
	ok($s->logged($pattern), $what);
	stop($client);
	is($s->wait, $status, "exit status $status");
}

subtest 'KeyUpdates before the startup packet' => sub {
	my $fake = fake_backend();
	my ($s, $client) = flooded(['keyupdates'], pg => $fake, args => ['--handshake-timeout=2']);
	ends($s, $client, qr/did not send its startup packet in time/, 76,
		'--handshake-timeout ends the session');
	($s, $client) = flooded(['keyupdates'], pg => $fake);
	nap(0.2);
	kill 'TERM', $s->{pid};
	ends($s, $client, qr/SIGTERM/, 76, 'SIGTERM ends the session');
};

# A KeyUpdate costs ten times as much as its record, so a flood kept a processor busy until the
# time-out.
subtest 'a flood of KeyUpdates is throttled' => sub {
	my $cpu = sub { my (undef, undef, $user, $system) = times; $user + $system };
	my $before = $cpu->();
	my ($s, $client) = flooded(['keyupdates'], pg => fake_backend(),
		args => ['--handshake-timeout=3']);
	ends($s, $client, qr/did not send its startup packet in time/, 76, 'it goes on for 3 s');
	cmp_ok($cpu->() - $before, '<', 1, 'processor time of both sides');
	note($cpu->() - $before);
};

subtest 'data or KeyUpdates in a session' => sub {
	my $sink = fake_backend(sub { my ($socket) = @_; 1 while sysread $socket, my $data, 1 << 20 });
	my $root = issue(cn => 'Root', ca => 1);
	for my $flood (qw(data keyupdates)) {
		my ($s, $client) = flooded([ 'startup', $flood ], pg => $sink);
		$s->logged(qr/connection authorized/);
		nap(0.2);
		kill 'TERM', $s->{pid};
		ends($s, $client, qr/reason=terminated/, 0, "$flood: SIGTERM ends the session");

		my $brief = issue(issuer => $root, cn => 'alice', until => 3);
		my $pem = spew("$TMP/brief.pem", slurp($brief->{cert}) . slurp($brief->{key}),
			0600);
		my @args = ('-A', $root->{cert}, '--clientcert=verify-full', '--clientcert-expiry');
		($s, $client) = flooded([ "cert:$pem", 'startup', $flood ], pg => $sink,
			args => \@args);
		ends($s, $client, qr/reason=client certificate expired/, 0,
			"$flood: the expiry of the client certificate ends the session");
	}
};

# A client that only sent KeyUpdates kept its backend forever. --idle-timeout was restarted by every
# wake-up; it must be restarted only by data.
subtest 'KeyUpdates do not count as activity' => sub {
	my $sink = fake_backend(sub { my ($socket) = @_; 1 while sysread $socket, my $data, 1 << 20 });
	my ($s, $client) = flooded([ 'startup', 'keyupdates' ], pg => $sink,
		args => ['--idle-timeout=1']);
	ends($s, $client, qr/reason=idle timeout/, 0, 'the idle session ends');
};

done_testing;
