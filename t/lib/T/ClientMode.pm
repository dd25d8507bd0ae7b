# SPDX-License-Identifier: ISC
#
# T::ClientMode - what client mode has at its other end: a fake PostgreSQL that speaks TLS and shows what it got, and pgssl -c with the test as its local client.
package T::ClientMode;

use strict;
use warnings;
use Exporter 'import';
use IO::Socket::SSL ();
use T ();

our @EXPORT = qw(tls_backend local_session first_message msg);

sub msg { my ($type, $body) = @_; return $type . pack('N', 4 + length $body) . $body }

# tls_backend(certificate, direct => 1, ssl => { IO::Socket::SSL's }, then => sub (socket, fake, startup packet)). Without `then` whoever comes is let in, and what comes is
# noted. {base}.N.hello has the ALPN and SNI that were sent.
sub tls_backend {
	my ($cert, %o) = @_;
	return T::Pg::fake_backend(sub {
		my ($socket, $fake) = @_;
		if (!$o{direct}) {
			return if T::Fake::take({ %$fake, base => "$fake->{base}.clear" }, $socket, 8) ne T::Conn::ssl_request();
			syswrite $socket, 'S';
		}
		my %half = (SSL_on_peer_shutdown => sub { return 0 }); # IO::Socket::SSL 2.09x answers a close_notify with one
		my %alpn = $o{alpn} ? (SSL_alpn_protocols => $o{alpn}) : ();
		my $tls = IO::Socket::SSL->start_SSL($socket, SSL_server => 1, SSL_cert_file => $cert->{chain}, SSL_key_file => $cert->{key}, %alpn, %half, %{ $o{ssl} || {} })
			or return T::append("$fake->{base}.$fake->{n}.end", "handshake: $IO::Socket::SSL::SSL_ERROR");
		T::spew("$fake->{base}.$fake->{n}.hello", join ' ', $tls->alpn_selected || '-', $tls->get_servername || '-');
		my $startup = $fake->take($tls, 4);
		$startup .= $fake->take($tls, unpack('N', $startup) - 4) if length $startup == 4;
		return $o{then}->($tls, $fake, $startup) if $o{then};
		syswrite $tls, msg('R', pack 'N', 0) . msg('Z', 'I');
		$fake->take($tls);
		$tls->close;
	});
}

# pgssl -c before `pg` (an object with a port), with the test as the local client; host: in -r.
sub local_session {
	my (%o) = @_;
	my $host = $o{host} || '127.0.0.1';
	return T::Serve::session(%o, client => 1, connect => $host . ':' . $o{pg}->port);
}

# Send the startup packet of a local_session; (type, body) of the first message, for an error ('E', its fields).
sub first_message {
	my ($s) = @_;
	$s->{conn}->send(T::Conn::startup_packet(user => 'alice', database => 'sales'));
	my ($type, $body) = $s->{conn}->message;
	return ('', $s->{conn}{ended}) unless defined $type;
	return ($type, $type eq 'E' ? T::Conn::parse_error(msg('E', $body)) : $body);
}

1;
