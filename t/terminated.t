# SPDX-License-Identifier: ISC
#
# SIGTERM, and the end of the time, in each step before a session: the process exits by itself, and
# the line names what ended it. A server that did not answer an SSLRequest in time was said to have
# closed the connection.
# sabotage: s/if (io == IO_TERMINATED)/if (false)/ tls.c
# sabotage: s/st->io == IO_TERMINATED ?/false ?/ wire/startup.c
# sabotage: s/case IO_TERMINATED:/case IO_WANT_READ:/ session/client.c
# sabotage: s/case IO_TIMEOUT:/case IO_WANT_READ:/ session/client.c
# sabotage: s/error == EINTR ?/false ?/ net/backend.c
use lib 't/lib';
use T;
use T::ClientMode;
use IO::Socket::INET;

my $hello = "\x16\3\1\1";
my $startup = startup_packet(user => 'alice', database => 'sales');
my $silent = fake_backend();
my $in_handshake = fake_backend(sub {
	my ($socket, $self) = @_;
	$self->take($socket, 8);
	syswrite $socket, 'S';
	$self->take($socket);
});
my $in_login = tls_backend(server_pem()->{cert}, then => sub { $_[1]->take($_[0]) });

# A port whose backlog is full.
my $full = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die;
my @queued = map { IO::Socket::INET->new(Proto => 'tcp') } 1 .. 4;
for (@queued) {
	$_->blocking(0);
	connect $_, getsockname $full;
}

# What the client does until pgssl waits for the step; what the log has at SIGTERM, and when the
# time is over; the status; seconds in which the step begins even on a busy machine.
sub ends {
	my ($step, $start, $client, $at_term, $at_timeout, $status, $seconds) = @_;
	$seconds ||= 1;
	for my $end ('SIGTERM', 'timeout') {
		my @soon = ("--handshake-timeout=$seconds", "--connect-timeout=$seconds");
		my $s = $start->($end eq 'SIGTERM' ? () : @soon);
		$client->($s);
		if ($end eq 'SIGTERM') {
			is_idle($step, $s->{pid});
			kill 'TERM', $s->{pid};
		}
		$s->conn->rest;
		$s->conn->close;
		is($s->wait, $status, "$step, $end: status");
		like($s->log, $end eq 'SIGTERM' ? $at_term : $at_timeout, 'the line');
	}
}

sub server { my @args = @_; return session(pg => $silent, args => \@args) }

sub unconnected {
	my @args = @_;
	return session(connect => '127.0.0.1:' . $full->sockport, args => \@args);
}

# Client mode in front of a backend that is silent from some step on.
sub client_of {
	my ($pg) = @_;
	return sub {
		my @args = ('-A', server_pem()->{root}, @_);
		return local_session(pg => $pg, args => \@args);
	};
}

sub sends { my ($bytes) = @_; return sub { $_[0]->conn->raw_send($bytes) } }

sub sends_under_tls {
	my ($bytes) = @_;
	return sub { $_[0]->conn->negotiate or die 'no TLS'; $_[0]->conn->send($bytes) };
}

# Send a startup packet, and wait until this backend has received so many bytes.
sub asks {
	my ($pg, $bytes) = @_;
	return sub {
		my $n = $pg->connections + 1;
		$_[0]->conn->raw_send($startup);
		wait_for('the step', sub { length $pg->bytes($n) >= $bytes });
	};
}

my $early = qr/: terminated by SIGTERM before the session began /;
my $late = qr/: client did not send its startup packet in time /;
my $shaking = qr/: terminated by SIGTERM during the TLS handshake /;
my $slow = qr/: client did not finish the TLS handshake in time /;
my $no_tls = 'could not establish a TLS connection to PostgreSQL at [\d.:]+: ';
ends('the first packet', \&server, sends("\0"), $early, $late, 76);
ends('the ClientHello', \&server, sub {
	my ($s) = @_;
	$s->conn->raw_send(ssl_request());
	$s->conn->recv(1);
	$s->conn->raw_send($hello);
}, $shaking, $slow, 76);
ends('the ClientHello, direct', \&server, sends($hello), $shaking, $slow, 76);
ends('the startup packet', \&server, sends_under_tls("\0"), $early, $late, 76, 3);
ends('the connection to PostgreSQL', \&unconnected, sends_under_tls($startup),
	qr/could not connect to PostgreSQL at [\d.:]+: terminated by SIGTERM /,
	qr/could not connect to PostgreSQL at [\d.:]+: Connection timed out /, 69, 3);
ends('client mode, the first packet', client_of($silent), sends("\0"), $early, $late, 76);
ends('client mode, the answer to SSLRequest', client_of($silent), asks($silent, 8),
	qr/$no_tls\Qterminated by SIGTERM before the session began\E /,
	qr/$no_tls\Qthe server did not answer the request for TLS in time\E /, 69, 3);
ends('client mode, the ServerHello', client_of($in_handshake), asks($in_handshake, 100),
	qr/$no_tls\Qterminated by SIGTERM during the TLS handshake\E /,
	qr/$no_tls\Qthe server did not finish the TLS handshake in time\E /, 69, 3);
ends('client mode, the answer to the startup packet', client_of($in_login),
	asks($in_login, length $startup),
	qr/$no_tls\Qterminated by SIGTERM before the session began\E /,
	qr/$no_tls\Qthe server did not answer the startup packet in time\E /, 69, 10);
done_testing;
