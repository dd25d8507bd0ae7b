# SPDX-License-Identifier: ISC
#
# T::Conn - a client of the PostgreSQL protocol that the test controls byte by byte. TLS goes
# through memory BIOs, so that the test sees every byte on the wire and can send each in a write of
# its own.
package T::Conn;

use strict;
use warnings;
use Errno qw(EINTR EAGAIN);
use IO::Socket::INET;
use Net::SSLeay;
use Socket qw(IPPROTO_TCP TCP_NODELAY SOL_SOCKET SO_LINGER SO_RCVBUF);
use Time::HiRes qw(time);

our @EXPORT = qw(ssl_request gss_request cancel_request startup_packet packet parse_error connect_to);

Net::SSLeay::load_error_strings();
Net::SSLeay::SSLeay_add_ssl_algorithms();

sub packet { my ($code, $body) = @_; return pack('NN', 8 + length $body, $code) . $body }
sub ssl_request { return packet(80877103, '') }
sub gss_request { return packet(80877104, '') }
sub cancel_request { my ($pid, $key) = @_; return packet(80877102, pack('N', $pid) . $key) }

# startup_packet(user => 'alice', ...): the parameters in the order given. version => '2.0' may come
# first (default: 3.0).
sub startup_packet {
	my (@pairs) = @_;
	my $version = 3 << 16;
	if (@pairs && $pairs[0] eq 'version') {
		$version = ($1 << 16) + $2 if $pairs[1] =~ /^(\d+)\.(\d+)$/;
		splice @pairs, 0, 2;
	}
	return packet($version, join('', map { "$_\0" } @pairs) . "\0");
}

# The fields of an ErrorResponse as a hash (S V C M H ...); undef if the bytes are not exactly one
# ErrorResponse.
sub parse_error {
	my ($bytes) = @_;
	return undef
		unless defined $bytes && $bytes =~ /^E(.{4})/s
		&& unpack('N', $1) == length($bytes) - 1;
	my $body = substr $bytes, 5;
	return undef unless $body =~ s/\0\0\z//;
	return { map { (substr($_, 0, 1) => substr $_, 1) } split /\0/, $body };
}

# Connect to a port of 127.0.0.1. rcvbuf: size of the receive buffer.
sub connect_to {
	my ($port, %o) = @_;
	socket(my $socket, Socket::PF_INET(), Socket::SOCK_STREAM(), 0) or die "socket: $!\n";
	setsockopt $socket, SOL_SOCKET, SO_RCVBUF, $o{rcvbuf} if $o{rcvbuf};
	connect($socket, Socket::sockaddr_in($port, Socket::inet_aton('127.0.0.1')))
		or die "connect to $port: $!\n";
	return T::Conn->new($socket, $socket, %o);
}

# new(handle to read, handle to write, chop => 1). chop: send each byte in a write of its own.
sub new {
	my ($class, $read, $write, %o) = @_;
	my $self = bless { read => $read, write => $write, chop => $o{chop}, plain => '', raw => '',
		sent => '', seconds => $o{seconds} || $T::SECONDS }, $class;
	setsockopt $write, IPPROTO_TCP, TCP_NODELAY, 1 if -S $write;
	return $self;
}

sub local_port { return (Socket::unpack_sockaddr_in(getsockname $_[0]{read}))[0] }

# --- bytes on the wire

sub raw_send {
	my ($self, $bytes) = @_;
	$self->{sent} .= $bytes if length $self->{sent} < 1 << 20;
	while (length $bytes) {
		my $n = syswrite $self->{write}, $bytes, $self->{chop} ? 1 : length $bytes;
		next if !defined $n && $! == EINTR;
		return 0 unless defined $n;
		substr($bytes, 0, $n) = '';
	}
	return 1;
}

sub readable {
	my ($self, $seconds) = @_;
	my $bits = '';
	vec($bits, fileno $self->{read}, 1) = 1;
	return select $bits, undef, undef, $seconds;
}

# Read once; returns '' at the end and sets {ended} to closed, reset or timeout.
sub raw_read {
	my ($self, $size, $seconds) = @_;
	if (!$self->readable(defined $seconds ? $seconds : $self->{seconds})) {
		$self->{ended} = 'timeout';
		return '';
	}
	my $n = sysread $self->{read}, my $data, $size || 65536;
	$self->{ended} = defined $n ? 'closed' : 'reset' unless $n;
	return $n ? $data : '';
}

# --- TLS

# start_tls(alpn => [...], min => 'TLSv1.2', max => ..., ciphers => ..., sni => ..., cert => path,
# key => path, session => previous) does the handshake; returns false and sets {tls_error} on
# failure.
sub start_tls {
	my ($self, %o) = @_;
	my $ctx = Net::SSLeay::CTX_new_with_method(Net::SSLeay::TLS_client_method())
		or die "SSL_CTX\n";
	my %v = ('TLSv1' => 0x301, 'TLSv1.1' => 0x302, 'TLSv1.2' => 0x303, 'TLSv1.3' => 0x304);
	Net::SSLeay::CTX_set_min_proto_version($ctx, $v{ $o{min} }) if $o{min};
	Net::SSLeay::CTX_set_max_proto_version($ctx, $v{ $o{max} }) if $o{max};
	Net::SSLeay::CTX_set_cipher_list($ctx, $o{ciphers}) if $o{ciphers};
	Net::SSLeay::CTX_set_alpn_protos($ctx, $o{alpn}) if $o{alpn};
	Net::SSLeay::set_cert_and_key($ctx, $o{cert}, $o{key} || $o{cert}) if $o{cert};
	my $ssl = Net::SSLeay::new($ctx);
	$self->{rbio} = Net::SSLeay::BIO_new(Net::SSLeay::BIO_s_mem());
	$self->{wbio} = Net::SSLeay::BIO_new(Net::SSLeay::BIO_s_mem());
	Net::SSLeay::set_bio($ssl, $self->{rbio}, $self->{wbio});
	Net::SSLeay::set_session($ssl, $o{session}) if $o{session};
	Net::SSLeay::set_tlsext_host_name($ssl, $o{sni}) if $o{sni};
	Net::SSLeay::set_connect_state($ssl);
	@$self{qw(ctx ssl)} = ($ctx, $ssl);
	return $self->tls_call(sub { Net::SSLeay::do_handshake($ssl) }) == 1;
}

# Repeat an OpenSSL call until it is complete; returns 1 for done, 0 for the end, -1 for a failure.
sub tls_call {
	my ($self, $call) = @_;
	while (1) {
		Net::SSLeay::ERR_clear_error();
		my $r = $call->();
		my $e = $r > 0 ? 0 : Net::SSLeay::get_error($self->{ssl}, $r);
		$self->flush or $e == 2 or return -1;
		return 1 if $r > 0;
		return 0 if $e == 6;
		if ($e != 2) {
			$self->{tls_error} = Net::SSLeay::ERR_error_string(Net::SSLeay::ERR_get_error());
			return -1;
		}
		my $data = $self->raw_read;
		return $self->{ended} eq 'closed' ? 0 : -1 unless length $data;
		$self->{raw} .= $data;
		Net::SSLeay::BIO_write($self->{rbio}, $data);
	}
}

sub flush {
	my ($self) = @_;
	my $ok = 1;
	while ((my $n = Net::SSLeay::BIO_pending($self->{wbio})) > 0) {
		$ok = $self->raw_send(Net::SSLeay::BIO_read($self->{wbio}, $n));
	}
	return $ok;
}

sub tls_version { return Net::SSLeay::get_version($_[0]{ssl}) }
sub alpn { return Net::SSLeay::P_alpn_selected($_[0]{ssl}) }
sub close_notify { my ($self) = @_; Net::SSLeay::shutdown($self->{ssl}); return $self->flush }
sub got_close_notify { return Net::SSLeay::get_shutdown($_[0]{ssl}) & 2 ? 1 : 0 }

# The subjects of the certificates that the server sent, leaf first.
sub chain {
	my ($self) = @_;
	return map { Net::SSLeay::X509_NAME_oneline(Net::SSLeay::X509_get_subject_name($_)) } Net::SSLeay::get_peer_cert_chain($self->{ssl});
}

# The TLS records received so far: [type, length on the wire].
sub records {
	my ($self) = @_;
	my @records;
	for (my $at = 0; $at + 5 <= length $self->{raw};) {
		my ($type, $length) = unpack 'x' . $at . 'C x2 n', $self->{raw};
		push @records, [ $type, $length ];
		$at += 5 + $length;
	}
	return @records;
}

# --- with TLS or in clear

# Send under TLS if it has been started, else in clear.
sub send {
	my ($self, $bytes) = @_;
	return $self->raw_send($bytes) unless $self->{ssl};
	while (length $bytes) {
		my $piece = substr $bytes, 0, $self->{chop} ? 1 : 16384, '';
		return 0 unless $self->tls_call(sub { Net::SSLeay::write($self->{ssl}, $piece) })
			== 1;
	}
	return 1;
}

# Read `want` bytes; fewer only at the end.
sub recv {
	my ($self, $want) = @_;
	while (length $self->{plain} < $want) {
		$self->read_more($want - length $self->{plain}) or last;
	}
	return substr $self->{plain}, 0, $want, '';
}

# Append one more piece to {plain}; false at the end.
sub read_more {
	my ($self, $size) = @_;
	my $data = '';
	if (!$self->{ssl}) {
		$data = $self->raw_read($size);
	} else {
		my $r = $self->tls_call(sub {
			($data, my $n) = Net::SSLeay::read($self->{ssl}, 65536);
			defined $data && length $data ? length $data : defined $n ? $n : -1;
		});
		$data = '' unless $r == 1;
		$self->{ended} ||= 'closed' if $r == 0;
		$self->{ended} ||= 'failed' if $r < 0;
	}
	$self->{plain} .= $data if defined $data;
	return length $data;
}

# Read one message: (type, body), or () at the end.
sub message {
	my ($self) = @_;
	my $head = $self->recv(5);
	return () unless length $head == 5;
	my ($type, $length) = unpack 'a N', $head;
	return ($type, $self->recv($length - 4));
}

# Read everything until the end; {ended} says how it ended: closed, reset, timeout.
sub rest {
	my ($self) = @_;
	1 while $self->read_more(65536);
	my $all = $self->{plain};
	$self->{plain} = '';
	return $all;
}

# How the TCP connection ends: closed, reset or timeout. Discards what is still received.
sub ending {
	my ($self) = @_;
	if ($self->{ended} && $self->{ended} ne 'closed') { return $self->{ended} }
	delete $self->{ended};
	1 while length $self->raw_read;
	return $self->{ended};
}

# Start TLS as libpq does: SSLRequest, a one-byte answer, handshake.
sub negotiate {
	my ($self, %o) = @_;
	$self->raw_send(ssl_request());
	return 0 unless $self->recv(1) eq 'S';
	return $self->start_tls(%o);
}

# Log in as libpq does; true when ReadyForQuery arrives. Keeps the cancel key in {cancel}. clear =>
# 1: without TLS, as in client mode.
sub login {
	my ($self, %o) = @_;
	my $tls = delete $o{tls} || {};
	if (!delete $o{clear} && !$self->{ssl}) {
		$self->negotiate(%$tls) or return 0;
	}
	$self->send(startup_packet(user => 'alice', database => 'sales', %o));
	while (my ($type, $body) = $self->message) {
		$self->{cancel} = [ unpack 'N a*', $body ] if $type eq 'K';
		$self->{error} = $body if $type eq 'E';
		return 1 if $type eq 'Z';
	}
	return 0;
}

sub query {
	my ($self, $sql) = @_;
	return $self->send('Q' . pack('N', 5 + length $sql) . "$sql\0");
}

# End our direction; close; reset.
sub finish {
	my ($self) = @_;
	-S $self->{write} ? shutdown($self->{write}, 1) : close $self->{write};
}
sub close { my ($self) = @_; CORE::close $self->{write}; CORE::close $self->{read} }

sub reset {
	my ($self) = @_;
	setsockopt $self->{read}, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0);
	$self->close;
}

sub DESTROY {
	my ($self) = @_;
	Net::SSLeay::free($self->{ssl}) if $self->{ssl};
	Net::SSLeay::CTX_free($self->{ctx}) if $self->{ctx};
}

1;
