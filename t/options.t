# SPDX-License-Identifier: ISC
#
# Usage errors are one line that names the option and the reason, with exit status 64. Also -h, -V
# and the letters of the classic pgssl.
# sabotage: s/EX_USAGE/EX_SOFTWARE/ options.c
use lib 't/lib';
use T;

sub pgssl { return T::run([ $PGSSL, @_ ], quiet => 1) }

# [arguments, what the line must name]
my @bad = (
	[ [ '--nonsense' ], qr/--nonsense|nonsense/ ],
	[ [ '-Z' ], qr/-Z|'Z'/ ],
	[ [ '-p' ], qr/-p/ ],
	[ [ '--cert' ], qr/cert/ ],
	[ [ '-r', '' ], qr/-r|--connect/ ],
	[ [ '-r', 'localhost:0' ], qr/-r.*\b0\b/ ],
	[ [ '-r', 'localhost:65536' ], qr/-r.*\b65536\b/ ],
	[ [ '-r', '[::1' ], qr/\[::1/ ],
	[ [ '--handshake-timeout=abc' ], qr/handshake-timeout.*abc|abc.*handshake-timeout/ ],
	[ [ '--handshake-timeout=-1' ], qr/handshake-timeout/ ],
	[ [ '--handshake-timeout=' ], qr/handshake-timeout/ ],
	[ [ '--handshake-timeout=1x' ], qr/handshake-timeout/ ],
	[ [ '--connect-timeout=99999999999999999999' ], qr/connect-timeout/ ],
	[ [ '--idle-timeout=1.5' ], qr/idle-timeout/ ],
	[ [ '--keepalive=often' ], qr/keepalive/ ],
	[ [ '-D', '8' ], qr/-D|--debug/ ],
	[ [ '-D', 'loud' ], qr/loud/ ],
	[ [ '--min-protocol=TLSv1.1' ], qr/TLSv1\.1/ ],
	[ [ '--min-protocol=SSLv3' ], qr/SSLv3/ ],
	[ [ '--min-protocol=TLSv1.3', '--max-protocol=TLSv1.2' ], qr/m(?:in|ax)-protocol/ ],
	[ [ '--alpn=maybe' ], qr/maybe/ ],
	[ [ '--clientcert=perhaps' ], qr/perhaps/ ],
	[ [ '--clientcert=verify-ca' ], qr/clientcert.*(?:-A|--ca)/ ],
	[ [ '--clientname=UID' ], qr/UID/ ],
	[ [ '--clientname=DN' ], qr/clientname/ ],
	[ [ '--map=x' ], qr/map/ ],
	[ [ '--ident-map=/etc/passwd' ], qr/ident-map/ ],
	[ [ '--gss', '--clientcert=verify-ca', '-A', '/etc/passwd' ], qr/gss/ ],
	[ ['--early-connect'], qr/--early-connect is no longer supported: use -d/ ],
	[ [ '--crl=x' ], qr/--crl.*-A/ ],
	[ [ '-c', '--crl=x' ], qr/--crl.*-A/ ],
	[ [ '-c', '--sslmode=prefer' ], qr/prefer.*require\|verify-ca\|verify-full/ ],
	[ [ '-c', '--sslmode=disable' ], qr/disable/ ],
	[ [ '-c', '--sslmode=verify-ca' ], qr/sslmode.*-A/ ],
	[ [ '-c', '--sslmode=verify-full' ], qr/sslmode.*-A/ ],
	[ [ '-c', '-A', 'system', '--sslmode=require' ], qr/-A system.*verify-full/ ],
	[ [ '-c', '-A', 'system', '--sslmode=verify-ca' ], qr/-A system.*verify-full/ ],
	[ [ '-c', '--sslnegotiation=maybe' ], qr/maybe/ ],
	[ [ '-c', '-r', '/var/run/postgresql' ], qr/-r.*Unix socket/ ],
	[ [ '-c', '-p', 'a', '-p', 'b' ], qr/-p: client mode \(-c\) uses only one certificate/ ],
	[ [ '-c', '--key=x' ], qr/--key.*-p/ ],
	[ [ '-c', '-A', 'x', '--clientcert=verify-ca' ], qr/--clientcert.*-c/ ],
	[ [ '-c', '-A', 'x', '--clientcert-expiry' ], qr/--clientcert-expiry.*-c/ ],
	[ [ '-c', '-v', '0' ], qr/-v.*-c/ ],
	[ [ '-c', '--gss' ], qr/--gss.*-c/ ],
	[ [ '-c', '--alpn=require' ], qr/--alpn.*-c/ ],
	[ [ '--sslmode=require' ], qr/--sslmode.*-c/ ],
	[ [ '--sslnegotiation=direct' ], qr/--sslnegotiation.*-c/ ],
	[ [ '--servername=x' ], qr/--servername.*-c/ ],
	[ [ '--help=me' ], qr/help/ ],
	[ [ 'stray' ], qr/stray/ ],
	[ [ '-v', '7' ], qr/-v/ ],
	[ [ '-n', 'smtp' ], qr/smtp/ ],
	map { [ [ "-$_", 'x' ], qr/-$_/ ] } qw(a l u),
);

my $help = pgssl('--help')->{out};

for my $case (@bad) {
	my ($args, $names) = @$case;
	# Options that this build does not have: unknown options are refused with another message.
	next if grep { my ($word) = /^(--(?:clientcert|proxy-protocol|gss|map|ident-map|clientname)|-T)\b/; $word && $help !~ /\Q$word\E\b/ } @$args;
	my $r = pgssl(@$args);
	my $title = "pgssl @$args";
	is($r->{status}, 64, "$title: exit status 64");
	my @lines = split /\n/, $r->{err};
	is(scalar @lines, 1, "$title: one line") or diag($r->{err});
	like($r->{err}, $names, "$title: names the option");
	is($r->{out}, '', "$title: nothing on standard output");
}

subtest '-h' => sub {
	for my $word (qw(-h --help)) {
		my $r = pgssl($word);
		is($r->{status}, 0, 'status');
		like($r->{out}, qr/--cert.*--connect.*--pidfile/s, 'lists the options');
		is($r->{err}, '', 'on standard output');
		is_deeply([ grep { length > 80 } split /\n/, $r->{out} ], [], '80 columns');
		# The completion for bash takes each line that begins with an option for one.
		unlike($r->{out}, qr/^ {8,}-/m, 'no line of text begins like an option');
	}
};

subtest 'standard output cannot be written' => sub {
	for my $word (qw(--help --version)) {
		my $r = T::run([ 'sh', '-c', "exec $PGSSL $word >/dev/full" ], quiet => 1);
		is($r->{status}, 74, "$word: status");
		like($r->{err}, qr/could not write to standard output: No space left on device/, 'why');
	}
};

subtest '-V' => sub {
	my $major = int T::OpenSSL::of_command();
	for my $word (qw(-V --version)) {
		my $r = pgssl($word);
		is($r->{status}, 0, 'status');
		like($r->{out}, qr/^pgssl \d+\.\d/, 'the version of pgssl');
		my $count = () = $r->{out} =~ /OpenSSL $major\.\d/g;
		is($count, 2, "the versions of OpenSSL, compiled-in and running");
	}
};

subtest 'attached and separate arguments, and the classic letters' => sub {
	my $c = server_pem();
	my $fake = fake_backend();
	my $r = '127.0.0.1:' . $fake->port;
	for my $args (
		[ '-p', $c->{pem}, '-r', $r ], [ "-p$c->{pem}", "-r$r" ],
		[ "--cert=$c->{pem}", "--connect=$r" ], [ '--cert', $c->{pem}, '--connect', $r ],
		[ '-p', $c->{pem}, '-r', $fake->port ],
			[ '-p', $c->{pem}, '-r', 'localhost:' . $fake->port ],
		[ '-p', $c->{pem}, '-r', $r, '-v', '0' ],
			[ '-p', $c->{pem}, '-r', $r, '-n', 'pgsql' ],
		[
			'-p', $c->{pem}, '-r', $r, '-t', '300', '-O', 'l:SO_LINGER=1:60',
			'-R', '/dev/urandom', '-E', '/egd', '-B', '64', '-W',
		],
	) {
		my $s = session(argv => [ @$args, '-o', "$TMP/opt.log" ]);
		ok($s->conn->negotiate, join(' ', @$args) =~ s/\Q$TMP\E/TMP/r);
		$s->conn->close;
		$s->wait;
	}
	watch_log("$TMP/opt.log");
};
done_testing;
