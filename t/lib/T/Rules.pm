# SPDX-License-Identifier: ISC
#
# T::Rules - clients that break the rules of TLS. The same bytes go to pgssl and to
# `openssl s_server`, and both must answer alike: with the same alerts, or with none.
#
# Messages and records are made by hand (hello, record, ...), or by t/bin/tls_records where keys are
# needed.
package T::Rules;

use strict;
use warnings;
use Exporter 'import';
use Test::More;
use T ();
use T::Handshake ();

our @EXPORT = qw(hello message record records_of extension key_share extensions_1_2 extensions_1_3
	without $X25519 $P256 servers same refused accepted);

# Public values: 9, and the generator of P-256.
our $X25519 = "\x09" . "\0" x 31;
our $P256 = pack 'H*', '046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296'
	. '4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5';

# ---- messages and records

sub record {
	my ($type, $content, %o) = @_;
	return pack 'C n n a*', $type, $o{version} // 0x303, $o{length} // length $content,
		$content;
}

# Records of `size` bytes each.
sub records_of {
	my ($size, $type, $content) = @_;
	return join '', map { record($type, $_) } unpack "(a$size)*", $content;
}

sub message {
	my ($type, $body, %o) = @_;
	my $length = $o{length} // length $body;
	return pack 'C C n a*', $type, $length >> 16, $length & 0xffff, $body;
}

sub extension { my ($type, $data) = @_; return [ $type, $data // '' ] }

# A key_share of [ group, value ] each; default: of X25519.
sub key_share {
	my @shares = @_ ? @_ : [ 29, $X25519 ];
	return extension(51, pack 'n/a', join '', map { pack 'n n/a', @$_ } @shares);
}

# What a good ClientHello has: groups, point formats, signature algorithms; versions, key share.
sub extensions_1_2 {
	return (extension(10, pack 'n/a', pack 'n*', 29, 23), extension(11, "\1\0"),
		extension(13, pack 'n/a', pack 'n*', 0x403, 0x804, 0x401));
}

sub extensions_1_3 {
	return (extensions_1_2(), extension(43, pack 'C/a', pack 'n', 0x304), key_share());
}

# Leave out the extensions of these types, and add others.
sub without {
	my ($types, @others) = @_;
	return [ (grep { my $e = $_; !grep { $e->[0] == $_ } @$types } extensions_1_3()),
		@others ];
}

# A ClientHello, of TLS 1.3 by default. Each part can be replaced: version, session (identifier),
# ciphers, compression, extensions, block (their bytes), or all after the compression (rest).
sub hello {
	my (%o) = @_;
	my $block = $o{block} // join '', map { pack 'n n/a', @$_ } @{ $o{extensions} || [ extensions_1_3() ] };
	return message(1, pack('n a32 C/a n/a C/a', $o{version} // 0x303, 'random' x 6, $o{session} // 's' x 32, $o{ciphers} // pack('n*', 0x1301, 0xc02b), $o{compression} // "\0")
		. ($o{rest} // pack 'n/a', $block));
}

# ---- the two servers

my ($reference, @to_pgssl);

# Start the reference. Both servers get the same certificate and groups.
sub servers {
	my (%o) = @_;
	my $groups = $o{groups} || 'X25519:P-256:X448:P-521:P-384';
	my @same = (env => { OPENSSL_CONF => '/dev/null' });
	T::stop($reference->{pid}) if $reference;
	# -rev: unlike -www it completes the handshake before it reads
	$reference = T::Handshake::s_server([ qw(-rev -no_tls1 -no_tls1_1 -no_renegotiation),
		qw(-no_ticket -num_tickets 0 -serverpref -ignore_unexpected_eof -alpn postgresql),
		qw(-cipher ECDHE+AESGCM:ECDHE+CHACHA20 -groups), $groups,
		'-cert', T::Serve::server_pem()->{pem} ], @same);
	@to_pgssl = (pg => T::Pg::fake_backend(), args => ["--groups=$groups"], @same);
}

my %alert = (0 => 'close_notify', 10 => 'unexpected_message', 20 => 'bad_record_mac',
	22 => 'record_overflow', 40 => 'handshake_failure', 47 => 'illegal_parameter',
	50 => 'decode_error', 51 => 'decrypt_error', 70 => 'protocol_version',
	86 => 'inappropriate_fallback', 100 => 'no_renegotiation', 109 => 'missing_extension',
	120 => 'no_application_protocol');

sub alert {
	my ($level, $number) = @_;
	return ($level == 2 ? 'fatal ' : "level $level ") . ($alert{$number} || $number);
}

# The alerts and the kinds of ServerHello in these records. What TLS 1.3 encrypts is not seen.
sub described {
	my ($bytes) = @_;
	my @seen;
	while ($bytes =~ s/^(.)..(..)//s) {
		my ($type, $content) = (ord $1, substr $bytes, 0, unpack('n', $2), '');
		push @seen, alert(unpack 'CC', $content) if $type == 21;
		push @seen, $content =~ /^.{6}\xcf\x21\xad\x74/s ? 'HelloRetryRequest'
			: 'ServerHello' if $type == 22 && $content =~ /^\x02/;
	}
	return @seen;
}

# Send the steps, wait for an answer after each but the last, and end our direction.
sub answer {
	my ($conn, @steps) = @_;
	my $got = '';
	for (0 .. $#steps) {
		$got .= $conn->raw_read if $_ > 0;
		$conn->raw_send($steps[$_]);
	}
	$conn->finish;
	while (length(my $more = $conn->raw_read)) { $got .= $more }
	return (described($got), $conn->{ended});
}

# The alerts that t/bin/tls_records receives.
sub answer_with_keys {
	my ($conn, @words) = @_;
	my $out = T::run([ "$T::ROOT/t/bin/tls_records", @words, 'end' ],
		in => $conn->{write})->{out};
	$out =~ /^connected/m or return "no handshake: $out";
	return ('handshake', map { alert(split) } $out =~ /^alert (.*)/mg);
}

# Test that both servers do the same, and that pgssl logs why it sends a fatal alert, once. Steps:
# bytes in clear, or a reference to words of t/bin/tls_records. Returns what both do.
sub same {
	my ($name, @steps) = @_;
	my $s = T::Serve::session(@to_pgssl);
	my $other = T::Conn::connect_to($reference->port);
	my (@ours, @theirs);
	if (ref $steps[0]) {
		@ours = answer_with_keys($s->conn, @{ $steps[0] });
		@theirs = answer_with_keys($other, 'direct', @{ $steps[0] });
	} else {
		$s->conn->raw_send(T::Conn::ssl_request());
		$s->conn->recv(1) eq 'S' or die "no S\n";
		@ours = answer($s->conn, @steps);
		@theirs = answer($other, @steps);
	}
	$s->conn->close;
	$other->close;
	unlike($s->wait, qr/signal/, "$name: @theirs");
	my @lines = split /\n/, $s->log;
	my @why = grep { !/ DEBUG: | connection authorized: | disconnection: / } @lines;
	my $closed = grep { /client closed the connection/ } @why;
	my $told = "@theirs" =~ /fatal/ ? @why == 1 && !$closed : @why < 2;
	ok("@ours" eq "@theirs" && $told, '... and so does pgssl, with a line if it is a failure')
		or diag("pgssl: @ours", map { "\n    $_" } @lines);
	return ("@theirs", scalar @why, $closed);
}

# The same with bytes that break a rule, and with bytes that do not.
sub refused {
	my ($answer, $why, $closed) = same(@_);
	ok($answer =~ /fatal/ || ($answer !~ /ServerHello/ && $why && !$closed), '... refused');
}

sub accepted {
	my ($answer) = same(@_);
	ok($answer !~ /fatal/, '... accepted');
}
1;
