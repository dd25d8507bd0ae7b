# SPDX-License-Identifier: ISC
#
# T::ClientMode - the two peers of a session in client mode: a fake PostgreSQL that speaks TLS and
# records what it receives, and the test as the local client of pgssl -c.
package T::ClientMode;

use strict;
use warnings;
use Exporter 'import';
use IO::Socket::SSL ();
use T ();

our @EXPORT = qw(tls_backend local_session first_message msg);

sub msg { my ($type, $body) = @_; return $type . pack('N', 4 + length $body) . $body }

# tls_backend(certificate, direct => 1, alpn => [...], ssl => { options of IO::Socket::SSL }, then
# => sub (socket, fake, startup packet)). Without `then` it accepts every login and records what the
# client sends. The file {base}.N.hello has the ALPN and SNI of connection N.
sub tls_backend {
	my ($cert, %o) = @_;
	return T::Pg::fake_backend(sub {
		my ($socket, $fake) = @_;
		if (!$o{direct}) {
			my $in_clear = { %$fake, base => "$fake->{base}.clear" };
			return if T::Fake::take($in_clear, $socket, 8) ne T::Conn::ssl_request();
			syswrite $socket, 'S';
		}
		# IO::Socket::SSL 2.09x answers a close_notify by itself
		my %half = (SSL_on_peer_shutdown => sub { return 0 });
		my %alpn = $o{alpn} ? (SSL_alpn_protocols => $o{alpn}) : ();
		my $tls = IO::Socket::SSL->start_SSL($socket, SSL_server => 1,
			SSL_cert_file => $cert->{chain}, SSL_key_file => $cert->{key}, %alpn, %half,
			%{ $o{ssl} || {} })
			or return T::append("$fake->{base}.$fake->{n}.end",
				"handshake: $IO::Socket::SSL::SSL_ERROR");
		T::spew("$fake->{base}.$fake->{n}.hello", join ' ', $tls->alpn_selected || '-',
			$tls->get_servername || '-');
		my $startup = $fake->take($tls, 4);
		$startup .= $fake->take($tls, unpack('N', $startup) - 4) if length $startup == 4;
		return $o{then}->($tls, $fake, $startup) if $o{then};
		syswrite $tls, msg('R', pack 'N', 0) . msg('Z', 'I');
		$fake->take($tls);
		$tls->close;
	});
}

# Start pgssl -c in front of `pg` (an object with a port); the test is its local client. host: the
# host in -r.
sub local_session {
	my (%o) = @_;
	my $host = $o{host} || '127.0.0.1';
	return T::Serve::session(%o, client => 1, connect => $host . ':' . $o{pg}->port);
}

# Send a startup packet in a local_session; returns the first message: (type, body), or for an error
# ('E', its fields).
sub first_message {
	my ($s) = @_;
	$s->{conn}->send(T::Conn::startup_packet(user => 'alice', database => 'sales'));
	my ($type, $body) = $s->{conn}->message;
	return ('', $s->{conn}{ended}) unless defined $type;
	return ($type, $type eq 'E' ? T::Conn::parse_error(msg('E', $body)) : $body);
}

1;
