# SPDX-License-Identifier: ISC
#
# --sessions printed "742 pgssl: alice sales 192.0.2.7(51234)" in any order, nothing of a listener's
# sessions, and in /run every other daemon whose pid file is locked. It must print a table.
# sabotage: check/sessions.c s/add_children(pid);/;/
# sabotage: check/sessions.c s/flock(fd, LOCK_SH | LOCK_NB) == 0/false/
# sabotage: check/sessions.c s/\*c < ' ' ||/false ||/
# sabotage: check/sessions.c s/len > widths\[i\] && len <= WIDE/false/
# sabotage: wrapper.c s/if (fflush(stdout) != 0 || ferror(stdout) != 0)/if (false)/
# sabotage: check/sessions.c s/errno == ENXIO ||/true ||/
# sabotage: check/sessions.c s/EX_NOPERM, "could not/EX_OK, "could not/
# sabotage: check/sessions.c s/k == 0 || rows\[k\].pid != rows\[k - 1\].pid/true/
# sabotage: check/sessions.c s/strcmp(title, "looking up names") != 0/true/
# sabotage: options.c s/argv\[optind\]\[0\] != '-'/false/
use lib 't/lib';
use T;
use Fcntl qw(LOCK_EX);
use POSIX qw(strftime);

my $pg = start_pg();
my $pids = "$TMP/pids";
mkdir $pids;
chmod 01777, $pids;
my $aes256 = 'TLS_AES_256_GCM_SHA384';

sub list { return T::run([ $PGSSL, @_ ? @_ : "--sessions=$pids" ], quiet => 1) }

# The rows as "user database client tls cipher", without the port of the client, by process.
sub rows {
	my ($heading, @lines) = split /\n/, list(@_)->{out};
	is($heading =~ s/ +/ /gr, 'PROCESS USER DATABASE CLIENT TLS CIPHER SINCE', 'the heading');
	return map { my ($pid, @f) = split / +/; ($pid => join(' ', @f[ 0 .. 4 ]) =~ s/\(\d+\)/(PORT)/r) } @lines;
}

# An object's session, which has sent its startup packet.
sub login {
	my ($conn, %o) = @_;
	ok($conn->login(%o), 'a login');
	return $conn;
}

subtest 'none' => sub {
	my $r = list();
	is($r->{out}, "no sessions\n", 'an empty directory');
	is($r->{status}, 0, 'status');
	$r = list("--sessions=$TMP/nosuch");
	is($r->{status}, 66, 'no directory');
	like($r->{err}, qr/could not open pid file directory "\Q$TMP\E\/nosuch": No such file/, 'and why');
};

subtest 'sessions of a super-server' => sub {
	my $fake = fake_backend(sub { $_[1]->take($_[0]) });
	my $half = session(pg => $pg, args => [ '-P', $pids ]);
	wait_for('its pid file', sub { glob "$pids/*" });
	wait_for('its title', sub { slurp("/proc/$half->{pid}/cmdline") =~ /^pgssl: startup/ });
	my $began = time;
	my $s = session(pg => $pg, args => [ '-P', $pids ]);
	login($s->conn);
	my $old = session(pg => $fake, args => [ '-P', $pids ]);
	ok($old->conn->negotiate(max => 'TLSv1.2', ciphers => 'ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256'), 'TLS 1.2');
	$old->conn->send(startup_packet(user => 'bob'));
	$old->logged(qr/connection authorized/);
	my $peer = session(pg => $fake, args => [ '-P', $pids ], over => 'pair');
	ok($peer->conn->negotiate, 'a client on a Unix socket');
	$peer->conn->send(startup_packet(user => "\e[2J\x{07}x y"));
	$peer->logged(qr/connection authorized/);
	my $text = list()->{out};
	my %row = rows();
	is($row{ $half->{pid} }, '- - 127.0.0.1 - -', 'before the startup packet');
	is($row{ $s->{pid} }, "alice sales 127.0.0.1(PORT) TLSv1.3 $aes256", 'TLS 1.3');
	like($row{ $old->{pid} }, qr/^bob bob 127\.0\.0\.1\(PORT\) TLSv1\.2 ECDHE-\w+-AES128-GCM-SHA256$/, 'TLS 1.2');
	is($row{ $peer->{pid} }, "\\x1B[2J\\x07x\\x20y \\x1B[2J\\x07x\\x20y [local] TLSv1.3 $aes256", 'a name is escaped');
	is(scalar keys %row, 4, 'one row each');
	my %at = map { /^.*?\b(SINCE|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)$/ ? ($-[1] => 1) : ('no time' => 1) } split /\n/, $text;
	is(scalar keys %at, 1, 'the last column is aligned') or diag($text);
	my @order = $text =~ /^(\d+)/mg;
	is($order[0], $half->{pid}, 'the oldest is the first');
	my ($since) = $text =~ /^$s->{pid} .*  (.*)$/m;
	my @near = map { strftime('%Y-%m-%d %H:%M:%S', localtime($began + $_)) } -1 .. 60;
	ok((grep { $_ eq $since } @near), "since: $since");
	$_->conn->close for $half, $s, $old, $peer;
	$_->wait for $half, $s, $old, $peer;
	is(list()->{out}, "no sessions\n", 'after their end');
};

subtest 'sessions of a listener' => sub {
	my $s = serve_listen(pg => $pg, connect => 'localhost:' . $pg->port, args => [ '-P', "$pids/" ]);
	is(list()->{out}, "no sessions\n", 'none yet');
	my @conns = map { login(connect_to($s->port)) } 1 .. 2;
	push @conns, connect_to($s->port);
	$conns[2]->send(ssl_request());
	$conns[2]->recv(1);
	my %row = rows();
	is(join(', ', sort values %row), "- - 127.0.0.1 - -, alice sales 127.0.0.1(PORT) TLSv1.3 $aes256, alice sales 127.0.0.1(PORT) TLSv1.3 $aes256", 'a row each');
	is((grep { !alive($_) || $_ == $s->{pid} } keys %row), 0, 'of the sessions, not of the listener');
	$_->close for @conns;
	stop($s->{pid});
};

subtest 'client mode, and GSSAPI' => sub {
	my $fake = fake_backend(sub { my ($socket, $self) = @_; $self->take($socket, 8); syswrite $socket, 'G'; $self->take($socket) });
	my $server = serve(pg => $pg);
	my $c = session(client => 1, connect => '127.0.0.1:' . $server->port, args => [ '-P', $pids ]);
	$c->conn->send(startup_packet(user => 'alice', database => 'sales'));
	$c->logged(qr/connection authorized/);
	my $g = session(pg => $fake, args => [ '--gss', '-P', $pids ]);
	$g->conn->raw_send(gss_request());
	$g->logged(qr/connection received/);
	my %row = rows();
	is($row{ $c->{pid} }, "alice sales 127.0.0.1(PORT) TLSv1.3 $aes256", 'client mode');
	is($row{ $g->{pid} }, 'gssapi encrypted 127.0.0.1(PORT) gss -', 'GSSAPI');
	$_->conn->close for $c, $g;
	$_->wait for $c, $g;
};

# A process of another program that holds the lock of its pid file, whose title is `title`.
sub holder {
	my ($file, $title, $number) = @_;
	my $pid = spawn(cmd => [ $^X, '-e', 'use Fcntl qw(:flock); open my $f, ">>", $ARGV[0] or die; flock $f, LOCK_EX or die; $| = 1; print $f $ARGV[2] || $$; $f->flush; $0 = $ARGV[1]; select undef, undef, undef, 600', $file, $title, $number // 0 ]);
	wait_for('its title', sub { slurp("/proc/$pid/cmdline") =~ /^\Q$title\E/ });
	return $pid;
}

subtest 'what others leave in the directory' => sub {
	my $s = session(pg => $pg, args => [ '-P', $pids ]);
	login($s->conn);
	my $elsewhere = session(pg => $pg, args => [ '-P', $TMP ]);
	login($elsewhere->conn);
	spew("$pids/pgssl.stale.1.pid", $elsewhere->{pid});
	spew("$pids/pgssl.stale.2.pid", "999999999\n");
	spew("$pids/pgssl.text.pid", "\e[2J\n" x 100);
	spew("$pids/pgssl.negative.pid", '-1');
	spew("$pids/pgssl.empty.pid", '');
	spew("$pids/pgssl.\e[2J.pid", "1\n");
	mkdir "$pids/directory.pid";
	POSIX::mkfifo("$pids/pipe.pid", 0666);
	symlink '/dev/tty', "$pids/link.pid";
	my @others = (
		holder("$pids/cron.pid", 'cron -f'),
		holder("$pids/same.pid", 'cron -f', $s->{pid}),
		holder("$pids/title.pid", "pgssl: \e]0;owned\x{07} \x{9b}2J \e[2J " . 'x' x 700),
	);
	my $r = list();
	is($r->{err}, '', 'nothing is reported');
	unlike($r->{out}, qr/[^\n -~]/, 'printable ASCII');
	my @rows = split /\n/, $r->{out};
	is(scalar @rows, 3, 'the session once, and what says that it is one') or diag($r->{out});
	like($rows[1], qr/^$s->{pid} +alice +sales /, 'the session');
	cmp_ok(length $rows[1], '<', 150, 'a long field does not widen the others');
	kill 'KILL', @others;
	$_->conn->close for $s, $elsewhere;
	$_->wait for $s, $elsewhere;
	T::run([ 'rm', '-rf', glob "$pids/*" ]);
};

subtest 'as another user' => sub {
	plan skip_all => 'needs root' unless is_root();
	my $s = session(pg => $pg, args => [ '-P', $pids, '-s', 'daemon' ]);
	login($s->conn);
	my $r = T::run([ $PGSSL, "--sessions=$pids" ], user => 'nobody', quiet => 1);
	is($r->{out}, '', 'it does not say "no sessions"');
	like($r->{err}, qr/could not read 1 pid file in "\Q$pids\E": run --sessions as root/, 'but why');
	is($r->{status}, 77, 'status');
	$s->conn->close;
	$s->wait;
};

# It said "no sessions".
subtest 'what cannot be read or written is said' => sub {
	my $s = session(pg => $pg, args => [ '-P', $pids ]);
	login($s->conn);
	my $sh = sub { T::run([ 'sh', '-c', "$_[0] $PGSSL --sessions=$pids $_[1]" ], quiet => 1) };
	my $r = $sh->('ulimit -n 4; exec', '');
	like($r->{err}, qr/could not open pid file "[^"]+\.pid": Too many open files/, 'no descriptors');
	is($r->{status}, 74, 'status');
	$r = $sh->('exec', '>/dev/full');
	like($r->{err}, qr/could not write to standard output: No space left on device/, 'a full disk');
	is($r->{status}, 74, 'status');
	$s->conn->close;
	$s->wait;
};

subtest 'the forms of the option' => sub {
	is(list('--sessions', $pids)->{out}, "no sessions\n", 'a word of its own');
	is(list('--sessions', $pids, 'x')->{status}, 64, 'but one only');
	is(list('--sessions', '')->{status}, 64, 'an empty word');
	plan(skip_all => 'needs mount namespaces') if !is_root() || T::run([qw(unshare -m true)], quiet => 1)->{status};
	my @in = (qw(unshare -m --propagation private sh -c), 'mount -t tmpfs none /run && mkdir $1 && $2 --sessions $3', 'sh');
	is(T::run([ @in, '/run/pgssl', $PGSSL ])->{out}, "no sessions\n", '/run/pgssl is the default');
	like(T::run([ @in, '/run/other', $PGSSL, '-Dinfo' ], quiet => 1)->{err}, qr{"/run/pgssl"}, 'also with an option behind it');
};
done_testing;
