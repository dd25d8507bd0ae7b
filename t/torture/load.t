# SPDX-License-Identifier: ISC
#
# Many sessions: 500 at once, each with data of its own; 5,000 in a row; 50 that work beside 300
# half-open ones; a client that reads a byte a second; certificates that are replaced all the time.
# Whatever runs pgssl, nothing is left behind: no process, zombie, descriptor, memory or pid file.
# sabotage: s/\tclose(ends\[1\]);/\t;/ listen/children.c
# sabotage: s/d->len += n;/d->len += n > 8000 ? n - 1 : n;/ net/splice.c
# sabotage: s/memcmp(now, seen, sizeof now) == 0/true/ listen/reload.c
# sabotage: s/\t\treload_discard(s);/;/ listen/reload.c
use lib 't/lib';
use T;
use T::Faults;
use File::Path qw(remove_tree);
use File::Temp qw(tempdir);
use Digest::MD5;
use Time::HiRes qw(time);

# LOAD=1 (make faults): as many as the name of each subtest says; else a share.
my $share = $ENV{LOAD} ? 1 : 10;
limit(2400);
my $c = server_pem();
my $pg = start_pg(max_connections => 620);

# 30 kB that only this session gets, and the test that it got them.
sub ask { my ($conn, $n) = @_; $conn->query("select repeat(md5('$n'), 1000), '$n'") }

sub told {
	my ($conn, $n) = @_;
	my $rows = '';
	while (my ($type, $body) = $conn->message) {
		$rows .= $body if $type eq 'D';
		last if $type eq 'Z';
	}
	return length $rows == 2 + 4 + 32_000 + 4 + length $n && $rows =~ /\Q$n\E\z/
		&& substr($rows, 6, 32_000) eq Digest::MD5::md5_hex($n) x 1000;
}

# Connections of this port that are neither listening nor in TIME_WAIT.
sub connections {
	my ($port) = @_;
	my $at = sprintf '127.0.0.1:%d', $port;
	return grep { /\Q$at\E\s/ && !/TIME-WAIT|LISTEN/ } split /\n/, T::run([qw(ss -Htan)])->{out};
}

sub all_gone {
	my ($s, $what, $backend) = @_;
	nothing_left($s, $what);
	wait_for("$what: the connections to end", sub { !connections($s->port) });
	wait_for("$what: those to PostgreSQL to end", sub { !connections(($backend || $pg)->port) });
	stop($s->{pid});
}

# A directory for pid files.
my $dirs = 0;
sub pid_dir { mkdir my $dir = "$TMP/run" . ++$dirs; chmod 01777, $dir; return $dir }

# ---- what is left of sessions that end in different ways

my @ends = (
	sub { $_[0]->send("X\0\0\0\4"); $_[0]->rest },
	sub { $_[0]->close_notify; $_[0]->close },
	sub { $_[0]->close },
	sub { $_[0]->reset },
	sub { $_[0]->query('select repeat(\'x\', 1000) from generate_series(1, 100000)'); $_[0]->recv(1000); $_[0]->reset },
	sub { $_[0]->query('select pg_terminate_backend(pg_backend_pid())'); $_[0]->rest },
	sub { $_[0]->raw_send("\x17\3\3\0\x40" . 'x' x 64); $_[0]->rest },
);

for my $kind ('-d', 'xinetd', 'waiting') {
	subtest "60 sessions that end in different ways, $kind" => sub {
		my $s = start_as($kind, pg => $pg, pids => pid_dir());
		my @conn = map { log_in($s) } 1 .. 60;
		is(scalar(grep { defined } @conn), 60, 'logins');
		$ends[ $_ % @ends ]->($conn[$_]) for 0 .. $#conn;
		connect_to($s->port)->close for 1 .. 20;
		connect_to($s->port)->reset for 1 .. 20;
		undef @conn;
		all_gone($s, $kind);
	};
}

subtest 'the same under systemd' => sub {
	my $why = cannot_boot_systemd();
	plan skip_all => $why if $why;
	my $tree = installed_tree('pgssl.pem' => slurp($c->{pem}));
	my $host = boot_systemd(tree => $tree);
	my $inside = start_pg(netns => $host->{pid}, port => 5432, max_connections => 100);
	$host->make_user;
	my %port = ('pgssl.socket' => 9000, 'pgssl-wait.socket' => 9001);
	$host->drop_in('pgssl-wait.socket', 'port', "[Socket]\nListenStream=\nListenStream=9001\n");
	for my $unit (sort keys %port) {
		$host->inside("systemctl start $unit");
		my $port = $port{$unit};
		my $play = sub {
			my ($n) = @_;
			return T::Net::net_eval($host->{pid}, sub {
				my @conn = grep { $_->login } map { connect_to($port) } 1 .. $n;
				$ends[ $_ % @ends ]->($conn[$_]) for 0 .. $#conn;
				connect_to($port)->reset for 1 .. $n;
				scalar @conn;
			});
		};
		my $s = { pid => $host->{pid}, only => 'pgssl' };
		is($play->(2), 2, "$unit: the first sessions");
		my $listeners = $unit eq 'pgssl.socket' ? 0 : 1;
		wait_for('them to end', sub { $listeners == (() = T::Faults::processes($s)) / 2 });
		note_processes($s);
		is($play->(40), 40, "$unit: sessions");
		nothing_left($s, $unit);
		wait_for('the backends to end', sub { $inside->backends == 0 });
		my $list = sub { $host->systemctl(qw(list-units --no-legend --plain), @_)->{out} };
		wait_for('no instances', sub { $list->('--all', 'pgssl@*') !~ /pgssl@.*service/ });
		is($list->('--failed'), '', 'no unit of a session is left, none failed');
		my $files = $host->run([ 'ls', '/run/pgssl' ])->{out} =~ s/pgssl\.\S*\.9001\.pid\n//r;
		is($files, '', 'no pid file');
		$host->inside("systemctl stop $unit");
	}
	$host->stop;
};

# ---- many

subtest '500 sessions at once' => sub {
	my $many = 500 / $share;
	for my $kind ('-d', 'xinetd') {
		my $s = start_as($kind, pg => $pg);
		my $start = time;
		my @conn = grep { defined } map { log_in($s) } 1 .. $many;
		is(scalar @conn, $many, sprintf '%s: logins in %.0f s', $kind, time - $start);
		for my $round (1, 2) {
			ask($conn[$_], "$kind $round $_") for 0 .. $#conn;
			my $good = grep { told($conn[$_], "$kind $round $_") } 0 .. $#conn;
			is($good, $many, "round $round: each has its own data");
		}
		$_->close for @conn;
		undef @conn;
		all_gone($s, $kind);
	}
};

# A PostgreSQL that takes little time.
my $fake = bless { port => free_port() }, 'T::Fake';
spawn(cmd => [ "$ROOT/t/bin/crowd", 'backend', $fake->port ], out => "$TMP/backend.out");
wait_for('a backend', sub { slurp("$TMP/backend.out") =~ /ready/ });

subtest '5,000 sessions in a row' => sub {
	my %many = ('-d' => 4000 / $share, xinetd => 500 / $share, waiting => 500 / $share);
	for my $kind (sort keys %many) {
		my $s = start_as($kind, pg => $fake, pids => pid_dir());
		$s->{growth} = 100;
		my $start = time;
		my $r = T::run([ "$ROOT/t/bin/crowd", 'good', $s->port, 1, 600, $many{$kind} ], seconds => 600);
		like($r->{out}, qr/^$many{$kind}\t0\t/, sprintf '%s: logins in %.0f s', $kind, time - $start);
		all_gone($s, $kind, $fake);
	}
};

subtest '50 sessions work beside 300 half-open ones' => sub {
	my $s = start_as('-d', pg => $pg);
	my $silent = spawn(cmd => [ "$ROOT/t/bin/crowd", 'silent', $s->port, 30, 10 ], out => "$TMP/silent.out");
	wait_for('silent clients', sub { slurp("$TMP/silent.out") =~ /ready/ });
	my @conn = grep { defined } map { log_in($s) } 1 .. 50;
	is(scalar @conn, 50, 'logins');
	cmp_ok(scalar(() = new_sessions($s)), '>=', 350, 'processes');
	is($pg->backends, 50, 'the silent ones have no backends');
	for my $round (1 .. 5) {
		ask($conn[$_], "$round $_") for 0 .. $#conn;
		is(scalar(grep { told($conn[$_], "$round $_") } 0 .. $#conn), 50, "round $round");
	}
	stop($silent, 'KILL');
	$_->close for @conn;
	undef @conn;
	all_gone($s, 'afterwards');
};

subtest 'a client that reads a byte a second' => sub {
	my $s = start_as('-d', pg => $pg);
	my $slow = connect_to($s->port, rcvbuf => 4096);
	ok($slow->login, 'a session');
	my ($pid) = new_sessions($s);
	$slow->query("select repeat(md5('slow'), 300000)"); # 9.6 MB, more than all buffers
	my $got = '';
	for (1 .. 8) {
		$got .= $slow->raw_read(1);
		nap(1);
	}
	my ($kb) = slurp("/proc/$pid/status") =~ /^VmRSS:\s+(\d+)/m;
	cmp_ok($kb, '<', 12_000, "its process has $kb KiB");
	my $ticks = T::ticks($pid);
	$got .= $slow->raw_read(1), nap(1) for 1 .. 3;
	cmp_ok(T::ticks($pid) - $ticks, '<', 3, 'and uses no processor time');
	my $other = log_in($s);
	ask($other, 'x');
	ok(told($other, 'x'), 'others are served');
	Net::SSLeay::BIO_write($slow->{rbio}, $got); # T::Conn has not seen these bytes
	my $row = '';
	while (my ($type, $body) = $slow->message) {
		$row .= $body if $type eq 'D';
		last if $type eq 'Z';
	}
	ok(substr($row, 6) eq Digest::MD5::md5_hex('slow') x 300_000, 'it gets all its data');
	$_->close for $slow, $other;
	all_gone($s, 'afterwards');
};

# ---- certificates replaced 500 times during 500 connections. In memory: on a busy ext4 a file that
# is rewritten can be empty for more than half a second.

my $dir = tempdir('pgssl-load-XXXXXX', DIR => -w '/dev/shm' ? '/dev/shm' : $TMP, CLEANUP => 1);
chmod 0755, $dir;
my @turn = map { make_cert(name => "turn$_", cn => "turn$_", issuer => $c->{ca}) } 0, 1;
$_ = { crt => slurp($_->{chain}), key => slurp($_->{key}) } for @turn;
my $n = 0;
my %replace = (
	'by rename' => [ sub {
		my ($t) = @_;
		my $new = spew("$dir/new", "$t->{crt}$t->{key}", 0600);
		rename $new, "$dir/pem" or die "rename: $!\n";
	}, '-p', "$dir/pem" ],
	# Kubernetes: tls.crt -> ..data/tls.crt, ..data -> a directory, and ..data is what is renamed.
	'..data' => [ sub {
		my ($t) = @_;
		my ($new, $last) = ('..' . ++$n, readlink "$dir/..data");
		mkdir "$dir/$new" or die "mkdir: $!\n";
		spew("$dir/$new/tls.$_", $t->{$_}, 0600) for qw(crt key);
		symlink $new, "$dir/..data_tmp" or die "symlink: $!\n";
		rename "$dir/..data_tmp", "$dir/..data" or die "rename: $!\n";
		defined $last ? remove_tree("$dir/$last")
			: map { symlink "..data/tls.$_", "$dir/tls.$_" } qw(crt key);
	}, '-p', "$dir/tls.crt", "--key=$dir/tls.key" ],
);

# A process that replaces the certificate once for each byte that it gets, at any moment of the
# connection that begins then, and answers each with a byte.
sub replacer {
	my ($replace) = @_;
	pipe(my $done, my $replaced) && pipe(my $begins, my $begun) or die "pipe: $!\n";
	$begun->autoflush;
	my $pid = fork // die "fork: $!\n";
	return ($pid, $begun, $done) if $pid;
	close $begun;
	$SIG{TERM} = 'DEFAULT';
	for (my $i = 1; sysread $begins, my $byte, 1; $i++) {
		nap(rand 0.01);
		$replace->($turn[ $i % 2 ]);
		syswrite $replaced, 'x';
	}
	POSIX::_exit(0);
}

for my $kind ('-d', 'xinetd') {
	for my $how (sort keys %replace) {
		subtest "certificates replaced 500 times $how, $kind" => sub {
			my $many = 500 / $share;
			my ($replace, @args) = @{ $replace{$how} };
			$replace->($turn[0]);
			my $log = "$TMP/replace" . ++$n . '.log';
			my @argv = (@args, '-r', '127.0.0.1:' . $fake->port, '-o', $log);
			my $s = $kind eq 'xinetd' ? serve_xinetd(argv => \@argv)
				: serve_listen(argv => \@argv, listening => 0)->wait_port;
			my ($pid, $begun, $done) = replacer($replace);
			my (%name, $good);
			$s->{growth} = 1000;
			for my $i (1 .. $many) {
				if ($i == $many / 10) {
					wait_for('the sessions to end', sub { !descendants($s->{pid}) });
					note_processes($s);
				}
				syswrite $begun, 'x';
				my $k = connect_to($s->port);
				$good++, $name{ ($k->chain)[0] }++ if $k->negotiate;
				$k->close;
				sysread $done, my $byte, 1 or last;
			}
			close $begun;
			is(wait_exit($pid), 0, 'replaced');
			is($good, $many, 'all handshakes succeed') or diag(slurp($log));
			is(join(' ', sort keys %name), '/CN=turn0 /CN=turn1', 'with both certificates');
			nothing_left($s, 'afterwards');
			stop($s->{pid});
		};
	}
}
done_testing;
