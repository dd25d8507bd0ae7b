# SPDX-License-Identifier: ISC
#
# What pgssl says when a setting cannot be used: the cause, and the cure.
# sabotage: s/o->ciphersuites != NULL \&\& SSL/false \&\& SSL/ tls/settings.c
# sabotage: s/return buf\[0\] != /return true || buf[0] != / tls/passphrase.c
# sabotage: s/n == 0 || buf\[line\] != '.0'/true/ tls/passphrase.c
# sabotage: s/isatty(STDIN_FILENO)/false/ wrapper.c
# sabotage: s/could not forward a cancel request: %s"/cancel request forwarded"/ session/session.c
use lib 't/lib';
use T;

my $fake = fake_backend();

# A session with these arguments, whose client sends `bytes` under TLS if the handshake succeeds.
sub refused {
	my ($what, $status, $why, %o) = @_;
	subtest $what => sub {
		my $s = session(pg => $fake, %o);
		$s->conn->send($o{bytes}) if $s->conn->negotiate && $o{bytes};
		$s->conn->rest;
		$s->conn->close;
		is($s->wait, $status, 'status');
		like(slurp($s->{err}) . $s->log, $why, 'the log');
	};
}

refused('ciphers', 64, qr/: -C NONE-SUCH: OpenSSL has no such ciphers \(see openssl-ciphers\(1\)\)/,
	args => [qw(-C NONE-SUCH)]);
refused('cipher suites', 64, qr/: --ciphersuites=NONE-SUCH: OpenSSL has no such TLS 1\.3 suites/,
	args => ['--ciphersuites=NONE-SUCH']);
refused('groups', 64, qr/: --groups=none-such: OpenSSL has no such key-exchange groups/,
	args => ['--groups=none-such']);

my $pem = make_pem(make_cert(name => 'locked', passphrase => 'x'));
my $command = qr/: could not load private key "\Q$pem\E": --passphrase-command/;
my $unusable = qr/did not print a passphrase of at most 1022 bytes, none of them NUL, and exit within 10 s/;
my %says = (
	'true' => qr/printed nothing; its first line must be the passphrase/,
	'exit 3' => qr/failed with exit status 3/,
	"head -c 100000 /dev/zero | tr '\\0' x" => $unusable,
	'sleep 1000' => $unusable,
	'yes x | head -c 100 | tr x "\\0"' => $unusable,
	'printf "x\\0y\n"' => $unusable,
);
refused("a passphrase command: $_", 78, qr/$command $says{$_}/, pem => $pem,
	args => ["--passphrase-command=$_"]) for sort keys %says;

refused('a cancel request, and PostgreSQL is down', 69,
	qr/: could not forward a cancel request: 127\.0\.0\.1:\d+: Connection refused /,
	connect => '127.0.0.1:' . free_port(), bytes => cancel_request(1, 'KEY!'));

subtest 'standard input is a terminal' => sub {
	my $r = T::run([ qw(script -qec), "$PGSSL -p $pem -r 5432", '/dev/null' ],
		in => '/dev/null', quiet => 1);
	is($r->{status}, 64, 'status');
	like($r->{out}, qr/standard\ input\ is\ a\ terminal:\ start\ pgssl\ from\ xinetd,\ inetd\ or
		\ systemd,\ or\ with\ -d\ to\ listen\ on\ a\ port\ \(see\ --help\)/x, 'the message');
};

subtest 'another user, without root' => sub {
	plan skip_all => 'needs root' unless is_root();
	my ($uid, $gid) = (getpwnam nobody())[2, 3];
	mkdir "$TMP/nobody";
	chown $uid, $gid, server_pem()->{pem}, "$TMP/nobody";
	my $s = session(pg => $fake, nolog => 1,
		args => [ '-s', 'daemon', '-o', "$TMP/nobody/log" ],
		wrap => [ qw(setpriv --clear-groups --reuid), $uid, '--regid', $gid ]);
	$s->conn->rest;
	is($s->wait, 77, 'status');
	like(slurp("$TMP/nobody/log"),
		qr/: only root can become user \d+, group \d+; start as root or leave out -s and -g/,
		'the log');
};
done_testing;
