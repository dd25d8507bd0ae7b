# SPDX-License-Identifier: ISC
#
# What a machine may lack: disk, descriptors, processes, syslogd, or a clock that does not jump.
# Sessions go on or say why they end, and the log resumes. (t/torture/killed.t has parties that are
# killed, t/torture/vanished.t peers that vanish.)
# sabotage: s/clock_gettime(CLOCK_MONOTONIC, &ts)/clock_gettime(CLOCK_REALTIME, \&ts)/ net/stream.c
# sabotage: s/if (sink.syslog == 0 ||/if (true ||/ log.c
use lib 't/lib';
use T;
use T::Faults;
use Socket qw(MSG_DONTWAIT AF_UNIX SOCK_DGRAM pack_sockaddr_un);
use Time::HiRes qw(time);

limit(900);
my $pg = start_pg(max_connections => 60);

my $can_mount = is_root() && !T::run([qw(unshare -m true)], quiet => 1)->{status};

# A file as that process sees it.
sub inside { my ($s, $path) = @_; return "/proc/$s->{pid}/root$path" }

# Run a program with file systems of its own: [ DIRECTORY, OPTIONS of tmpfs ] each.
sub with_tmpfs {
	my @mounts = map { mkdir $_->[0]; "mount -t tmpfs -o $_->[1] none $_->[0] && " } @_;
	return [ 'unshare', '-m', 'sh', '-c', "mount --make-rprivate / && @mounts exec \"\$@\"", 'sh' ];
}

subtest 'the disk with the log is full' => sub {
	plan skip_all => 'needs root and mount namespaces' unless $can_mount;
	my $log = "$TMP/full/log";
	my $s = serve_listen(pg => $pg, nolog => 1, args => [ '-o', $log ], listening => 0,
		wrap => with_tmpfs([ "$TMP/full", 'size=64k,mode=755' ]));
	wait_for('pgssl to listen', sub { slurp(inside($s, $log)) =~ /listening/ });
	open my $fill, '>', inside($s, "$TMP/full/fill") or die;
	1 while syswrite $fill, 'x' x 4096;
	my $lines = -s inside($s, $log);
	for my $n (1 .. 40) { # 2 lines each: more than the rest of the last page
		my $conn = connect_to($s->port);
		$conn->login or fail("login $n");
		$conn->close;
	}
	cmp_ok(-s inside($s, $log), '<', 4097, "only the page that was begun was filled ($lines bytes before)");
	my $open = connect_to($s->port);
	ok($open->login, 'logins go on');
	truncate $fill, 0;
	ok($open->query('select 1') && ($open->message)[0] eq 'T', 'so does a session');
	my $size = -s inside($s, $log);
	$open->close;
	wait_for('a line when there is room again', sub { substr(slurp(inside($s, $log)), $size) =~ /disconnection: / });
	pass('a line when there is room again');
	stop($s->{pid});
};

subtest 'the disk with the pid files is full' => sub {
	plan skip_all => 'needs root and mount namespaces' unless $can_mount;
	my %full = ('no inodes' => 'nr_inodes=1', 'no blocks' => 'size=4k');
	for my $lack (sort keys %full) {
		my $dir = "$TMP/pid" . ($lack =~ /inodes/ ? 1 : 2);
		my $wrap = with_tmpfs([ $dir, $full{$lack} ]);
		$wrap->[4] =~ s/exec/cat \/dev\/zero >$dir\/fill 2>\/dev\/null; exec/;
		my $s = session(pg => $pg, args => [ '-P', "$dir/" ], wrap => $wrap);
		ok($s->conn->login, "$lack: the session goes on");
		like($s->log, qr/could not write pid file "$dir\/.*: No space left on device /, 'with a warning');
		$s->conn->close;
		is($s->wait, 0, 'status');
	}
};

# From too few for the dynamic loader to enough.
subtest 'few descriptors' => sub {
	my (%status, $good);
	for my $n (3 .. 12) {
		my $s = session(pg => $pg, wrap => [ 'bash', '-c', "ulimit -n $n; exec \"\$@\"", 'bash' ]);
		my $login = $s->conn->negotiate && $s->conn->login;
		$good++ if $login;
		my $error = parse_error($s->conn->{error} ? 'E' . pack('N', 4 + length $s->conn->{error}) . $s->conn->{error} : '');
		$s->conn->close;
		my $status = $s->wait;
		unlike($status, qr/signal/, "$n: status $status");
		my $said = slurp($s->{err}) . $s->log;
		like($said, $login ? qr/disconnection/ : qr/Too many open files|cannot open shared object|error while loading/, $login ? 'a session' : 'says why') or diag($said);
		is($status, 0, 'status') if $login;
	}
	cmp_ok($good || 0, '>', 0, 'some are enough');
};

# The limit counts all processes of the user, who has only these.
subtest 'no processes' => sub {
	plan skip_all => 'needs root, to be another user' unless is_root();
	my $dir = "$TMP/other";
	mkdir $dir;
	my $pem = spew("$dir/pem", slurp(server_pem()->{pem}), 0600);
	chown 54321, 54321, $dir, $pem;
	my $s = serve_listen(pg => $pg, pem => $pem, nolog => 1, args => [ '-o', "$dir/log" ],
		listening => 0, wrap => [qw(prlimit --nproc=4:4 setpriv --reuid=54321 --regid=54321 --clear-groups)]);
	$s->{log} = "$dir/log";
	T::Faults::warm_up($s->wait_port);
	my @conn = map { connect_to($s->port) } 1 .. 4;
	my @served = grep { $_->login } @conn;
	cmp_ok(scalar @served, '>', 0, 'sessions: ' . @served);
	cmp_ok(scalar @served, '<', 4, 'not all');
	$s->logged(qr/could not start a process for a connection: Resource temporarily unavailable; trying again shortly/);
	for (@served) { ok($_->query('select 1') && ($_->message)[0] eq 'T', 'a session goes on') }
	$_->close for @conn;
	nothing_left($s, 'afterwards');
	is(psql('select 6*7', port => $s->port)->{out}, "42\n", 'clients are served again');
	stop($s->{pid});
};

# The wall clock is a day ahead or behind at each look. Time zones and logs see it; no deadline may.
subtest 'a clock that jumps' => sub {
	my $shim = "$TMP/jump.so";
	my $source = spew("$TMP/jump.c", <<~'END');
		#define _GNU_SOURCE
		#include <dlfcn.h>
		#include <sys/time.h>
		#include <time.h>
		int clock_gettime(clockid_t clock, struct timespec *ts)
		{
			static int looks;
			int (*next)(clockid_t, struct timespec *) = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
			int result = next(clock, ts);
			if (clock == CLOCK_REALTIME)
				ts->tv_sec += looks++ % 2 == 0 ? 86400 : -86400;
			return result;
		}
		time_t time(time_t *out)
		{
			struct timespec ts;
			clock_gettime(CLOCK_REALTIME, &ts);
			if (out)
				*out = ts.tv_sec;
			return ts.tv_sec;
		}
		int gettimeofday(struct timeval *restrict tv, void *restrict zone)
		{
			struct timespec ts;
			(void)zone;
			clock_gettime(CLOCK_REALTIME, &ts);
			tv->tv_sec = ts.tv_sec;
			tv->tv_usec = ts.tv_nsec / 1000;
			return 0;
		}
		END
	is(T::run([ qw(cc -shared -fPIC -w -o), $shim, $source ])->{status}, 0, 'a library that changes the clock');
	my $s = serve_listen(pg => $pg, env => { LD_PRELOAD => $shim }, args => [qw(--idle-timeout=3 --handshake-timeout=3)]);
	my $silent = connect_to($s->port);
	my $conn = connect_to($s->port);
	my $start = time;
	ok($conn->login, 'a login');
	my %days = map { $_ => 1 } $s->log =~ /^(\d{4}-\d\d-\d\d) /mg;
	cmp_ok(scalar keys %days, '>', 1, 'the log shows the jumps');
	for (1 .. 6) {
		nap(0.7);
		$conn->query('select 1');
		while (my ($type) = $conn->message) { last if $type eq 'Z' }
	}
	cmp_ok(time - $start, '>', 4, 'the session goes on');
	$start = time;
	$conn->rest;
	my $waited = time - $start;
	ok($waited > 2 && $waited < 20, "--idle-timeout=3 ends it after $waited s");
	is($silent->rest, '', 'and --handshake-timeout=3 the silent one');
	like($s->log, qr/did not send its startup packet in time|client .* in time/, 'logged');
	stop($s->{pid});
};

subtest 'syslogd goes and comes back' => sub {
	plan skip_all => 'needs root and mount namespaces' unless $can_mount;
	my $wrap = [ 'unshare', '-m', 'sh', '-c', 'mount --make-rprivate / && mkdir -p "$T/dev" && mount --rbind /dev "$T/dev" && mount -t tmpfs none /dev && '
		. 'for f in null zero random urandom; do touch /dev/$f && mount --bind "$T/dev/$f" /dev/$f; done && ln -s "$T/syslog" /dev/log && exec "$@" 2>/dev/null', 'sh' ];
	my $syslogd = sub {
		unlink "$TMP/syslog";
		socket(my $socket, AF_UNIX, SOCK_DGRAM, 0) or die;
		bind($socket, pack_sockaddr_un("$TMP/syslog")) or die;
		chmod 0666, "$TMP/syslog";
		return $socket;
	};
	my $heard = sub {
		my ($socket, $pattern) = @_;
		my $all = '';
		wait_for("syslogd to hear $pattern", sub { recv $socket, my $line, 4096, MSG_DONTWAIT; $all .= "$line\n"; $all =~ $pattern });
		pass("syslogd hears $pattern");
	};
	my $first = $syslogd->();
	my $s = serve_listen(pg => $pg, nolog => 1, wrap => $wrap, env => { T => $TMP }, listening => 0);
	$s->wait_port;
	$heard->($first, qr/listening on/);
	my @conn = map { connect_to($s->port) } 1, 2;
	ok($conn[0]->login, 'a session');
	$heard->($first, qr/connection authorized/);
	close $first;
	unlink "$TMP/syslog";
	ok($conn[1]->login, 'a session while there is no syslogd');
	my $second = $syslogd->();
	$_->close for @conn;
	$heard->($second, qr/disconnection.*(?s:.*)disconnection/);
	kill 'HUP', $s->{pid};
	$heard->($second, qr/reload|loaded|certificate/i);
	stop($s->{pid});
};
done_testing;
