# SPDX-License-Identifier: ISC
#
# -r NAME under a listener: it is looked up again when its address has failed and at SIGHUP, by a
# process that has neither a client nor the key.
# sabotage: s/WEXITSTATUS(status) == EX_UNAVAILABLE/false/ listen/listen.c
# sabotage: s/hup_signals = 0;/hup_signals = 0; if (false)/ listen/listen.c
# sabotage: s/alarm((unsigned)o->connect_timeout);/;/ listen/resolver.c
# sabotage: s/!sandbox_drop_privileges(&s->who, &e)/false/ listen/resolver.c
# sabotage: s/if (dup2(null, i) < 0)/if (false)/ listen/resolver.c
# sabotage: s/closefrom(CHANNEL + 1);/;/ listen/resolver.c
# sabotage: s/!is_sound(&a)/false/ listen/resolver.c
# sabotage: s/!resolver_start(s, e) || !reload_first(s, e) ||/!reload_first(s, e) || !resolver_start(s, e) ||/ listen/listen.c
# sabotage: s/return next_question;/return DEADLINE_NEVER;/ listen/resolver.c
# sabotage: s/if (e->status != EX_NOHOST || deadline_left(until) == 0)/if (true)/ listen/listen.c
use lib 't/lib';
use T;
use IO::Socket::INET;

needs(is_root() && T::run([qw(unshare -m true)], quiet => 1)->{status} == 0,
	'root and mount namespaces');
my $c = server_pem();

# Files of our own in /etc for one process and its children. The hosts file is changed in place: a
# new one would not be the mounted one.
my $names = 0;

sub with_names {
	my ($hosts, $server) = @_;
	my $base = "$TMP/names" . ++$names;
	spew("$base.hosts", $hosts);
	spew("$base.resolv",
		'nameserver ' . ($server || '127.255.255.254') . "\noptions timeout:30 attempts:5\n");
	spew("$base.nsswitch", 'hosts: files' . ($server ? ' dns' : '') . "\n");
	my %file = (hosts => 'hosts', resolv => 'resolv.conf', nsswitch => 'nsswitch.conf');
	my $mounts = join ' && ', map { "mount --bind $base.$_ /etc/$file{$_}" } sort keys %file;
	$mounts .= ' && exec "$@"';
	return ("$base.hosts", wrap => [ qw(unshare -m sh -c), $mounts, 'sh' ]);
}

# In one write of the same length, so that nobody reads half of it.
sub move {
	my ($hosts, $line) = @_;
	open my $fh, '+<', $hosts or die "$hosts: $!\n";
	syswrite $fh, $line;
	close $fh;
}

sub resolver {
	my ($s) = @_;
	return wait_for('the process that looks up names', sub {
		return (grep { slurp("/proc/$_/cmdline") =~ /looking up names/ } $s->sessions)[0];
	});
}

sub there {
	my ($s) = @_;
	return psql("select current_setting('listen_addresses')", port => $s->port);
}

my ($two, $three) = do {
	my $port = free_port();
	my $hba = "local all all trust\nhost all all 127.0.0.0/8 trust\n";
	map { start_pg(listen => $_, port => $port, hba => $hba) } '127.0.0.2', '127.0.0.3';
};

subtest 'the name moves to another address' => sub {
	my ($hosts, @wrap) = with_names("127.0.0.2 moving\n");
	my $s = serve_listen(@wrap, connect => 'moving:' . $two->port);
	is(there($s)->{out}, "127.0.0.2\n", 'the first address');
	move($hosts, "127.0.0.3 moving\n");
	kill 'HUP', $s->{pid};
	$s->logged(qr/PostgreSQL's address has changed from 127\.0\.0\.2:\d+ to 127\.0\.0\.3:/);
	is(there($s)->{out}, "127.0.0.3\n", 'SIGHUP: the second one');

	move($hosts, "127.0.0.2 moving\n");
	is(there($s)->{out}, "127.0.0.3\n", 'without a reason there is no look-up');
	$three->stop;
	like(there($s)->{err}, qr/could not connect to PostgreSQL/, 'a client that fails');
	$s->logged(qr/PostgreSQL's address has changed from 127\.0\.0\.3:\d+ to 127\.0\.0\.2:/);
	is(there($s)->{out}, "127.0.0.2\n", 'is a reason: the next one gets through');
	$three->start;

	# The second of two look-ups within a second was forgotten.
	for my $to (3, 2, 3, 2) {
		move($hosts, "127.0.0.$to moving\n");
		my $before = log_lines($s->{log}, qr/address has changed/);
		kill 'HUP', $s->{pid};
		wait_for('each SIGHUP to count', sub { log_lines($s->{log}, qr/address has changed/) > $before });
	}
	is(there($s)->{out}, "127.0.0.2\n", 'also SIGHUPs in haste');
	stop($s->{pid});
};

# Receives questions and never answers.
sub silent_server {
	for (1 .. 20) {
		my $address = '127.' . join '.', map { 1 + int rand 250 } 1 .. 3;
		my $socket = IO::Socket::INET->new(LocalAddr => $address, LocalPort => 53,
			Proto => 'udp') or next;
		return ($address, $socket);
	}
	return ();
}

sub asked {
	my ($socket) = @_;
	vec(my $bits = '', fileno $socket, 1) = 1;
	wait_for('a question', sub { select my $ready = $bits, undef, undef, 0 });
}

subtest 'a name server that does not answer keeps nobody waiting' => sub {
	my ($address, $dns) = silent_server();
	plan skip_all => 'needs port 53' unless $dns;
	my ($hosts, @wrap) = with_names("127.0.0.2 moving\n", $address);
	my $s = serve_listen(@wrap, connect => 'moving:' . $two->port, args => ['--connect-timeout=300']);
	move($hosts, "127.0.0.2 moved2\n");
	kill 'HUP', $s->{pid};
	asked($dns);
	is(there($s)->{out}, "127.0.0.2\n", 'a client is served while the look-up lasts') for 1 .. 3;
	unlike($s->log, qr/could not look up/, 'which it still does');
	stop($s->{pid});
	ok(!alive($s->{pid}), 'nor does it keep the listener from ending');

	($hosts, @wrap) = with_names("127.0.0.2 moving\n", $address);
	$s = serve_listen(@wrap, connect => 'moving:' . $two->port, args => ['--connect-timeout=1']);
	move($hosts, "127.0.0.2 moved2\n");
	kill 'HUP', $s->{pid};
	$s->logged(qr/moving:\d+: could not look up the host: no answer after 1 s; the previous addresses stay in use/);
	is(there($s)->{out}, "127.0.0.2\n", 'they do');
	stop($s->{pid});
};

subtest 'a start waits for the name' => sub {
	my ($hosts, @wrap) = with_names("127.0.0.2 others\n");
	my $s = serve_listen(@wrap, connect => 'moving:' . $two->port, listening => 0);
	$s->logged(qr/moving:\d+: could not look up the host: .*; trying again for up to a minute/);
	unlike($s->log, qr/listening on/, 'it does not say yet that it listens');
	move($hosts, "127.0.0.2 moving\n");
	$s->logged(qr/listening on/);
	is(there($s)->{out}, "127.0.0.2\n", 'it serves when the name is there');
	is(log_lines($s->{log}, qr/trying again for up to a minute/), 1, 'said once');
	stop($s->{pid});

	($hosts, @wrap) = with_names("127.0.0.2 others\n");
	$s = serve_listen(@wrap, connect => 'moving:' . $two->port, listening => 0);
	$s->logged(qr/trying again for up to a minute/);
	is(stop($s->{pid}), 0, 'SIGTERM ends the wait');
};

# Is a part of the key in a process's memory?
sub has_key {
	my ($pid, $cert) = @_;
	my $memory = memory($pid);
	die "memory: $!\n" unless defined $memory;
	return scalar grep { index($memory, $_) >= 0 } secrets($cert->{key});
}

subtest 'the process that looks up names has little' => sub {
	my ($hosts, @wrap) = with_names("127.0.0.2 moving\n");
	my $s = serve_listen(@wrap, connect => 'moving:' . $two->port);
	is(there($s)->{out}, "127.0.0.2\n", 'a session');
	my $pid = resolver($s);
	my $status = slurp("/proc/$pid/status");
	my ($uid, $gid) = (getpwnam 'nobody')[ 2, 3 ];
	like($status, qr/^Uid:\t$uid\t$uid\t$uid\t$uid\nGid:\t$gid\t$gid\t$gid\t$gid\n/m,
		'it runs as the user of the sessions');
	like($status, qr/^Groups:\s*$/m, 'without other groups');
	like($status, qr/^CapPrm:\t0+\nCapEff:\t0+$/m, 'without capabilities');
	like($status, qr/^NoNewPrivs:\t1$/m, 'for good');
	my %is = map { (m{/(\d+)$})[0] => readlink } glob "/proc/$pid/fd/*";
	# In a chroot the link begins with the path of the root.
	is(join(' ', map { s{^/.*(?=/dev/null$)}{}r } @is{ 0, 1, 2 }), '/dev/null /dev/null /dev/null',
		'it reads and writes nothing of the starter');
	delete @is{ 0, 1, 2 };
	like("@{[ values %is ]}", qr/^socket:\S+$/, 'besides it has one socket, to the listener');
	SKIP: {
		skip 'there is too much memory to search', 2 if $T::SAN;
		ok(has_key($s->{pid}, $c->{cert}), 'the listener has the key in memory');
		ok(!has_key($pid, $c->{cert}), 'this process does not');
	}

	kill 'KILL', $s->{pid};
	wait_for('it to end with a listener that is killed', sub { reap($s->{pid}); !alive($pid) });
	pass('it ends with a listener that is killed');
};

subtest 'an address needs no such process' => sub {
	for my $host ('127.0.0.2', '127.0.0.2.', '[::ffff:127.0.0.2]') {
		my $s = serve_listen(connect => "$host:" . $two->port);
		is(there($s)->{out}, "127.0.0.2\n", $host);
		is(scalar(grep { slurp("/proc/$_/cmdline") =~ /looking up names/ } $s->sessions), 0, 'none');
	}
};

# A process that stays must not hold the starter's output: whoever reads it would wait for ever.
subtest 'in the background it keeps nothing of the starter' => sub {
	my ($hosts, @wrap) = with_names("127.0.0.2 moving\n");
	my $port = free_port();
	my $start = "$PGSSL -P $TMP/background.pid -p $c->{pem} -d $port -r moving:" . $two->port;
	my $r = T::run([ @{ $wrap[1] }, 'sh', '-c', "$start -o $TMP/background.log 2>&1 | cat" ]);
	is($r->{status}, 0, 'the pipe has come to its end');
	my ($pid) = slurp("$TMP/background.pid") =~ /^(\d+)/;
	ok($pid && alive($pid), 'and the listener is there');
	is(psql('select 1', port => $port)->{out}, "1\n", 'and serves');
	kill 'TERM', $pid;
	wait_for('its end', sub { reap($pid); !alive($pid) });
};

# With a listening socket on descriptors 0 and 1 it could have taken clients.
subtest 'under a super-server it does not have the listening socket' => sub {
	my ($hosts, @wrap) = with_names("127.0.0.2 moving\n");
	my $s = T::Serve::service(connect => 'moving:' . $two->port);
	my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $s->port,
		Listen => 5, ReuseAddr => 1) or die "listen: $!\n";
	$s->{pid} = spawn(cmd => [ @{ $wrap[1] }, $PGSSL, @{ $s->{args} } ], in => $listener,
		out => $listener);
	my $inode = (stat $listener)[1];
	close $listener;
	is(there($s)->{out}, "127.0.0.2\n", 'a session');
	my $has = sub { grep { (readlink || '') eq "socket:[$inode]" } glob "/proc/$_[0]/fd/*" };
	ok(scalar($has->($s->{pid})), 'the listener has it');
	is(scalar($has->(resolver($s))), 0, 'this process does not');
	stop($s->{pid});
};

# What a hostile name server could make of that process: the listener takes no lengths from it.
subtest 'an answer that cannot be true is not used' => sub {
	my $source = spew("$TMP/hostile.c", <<'EOT');
#define _GNU_SOURCE
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
ssize_t send(int fd, const void *data, size_t size, int flags)
{
	char bad[65536];
	memcpy(bad, data, size);
	if (size > 1000) /* of the error's text, the end; of the addresses, all */
		memset(bad + 4, 0xff, size - 4);
	return syscall(SYS_sendto, fd, bad, size, flags, 0, 0);
}
EOT
	my $r = T::run([ qw(cc -shared -fPIC -o), "$TMP/hostile.so", $source ]);
	is($r->{status}, 0, 'built') or return;
	my ($hosts, @wrap) = with_names("127.0.0.2 moving\n");
	my $s = serve_listen(@wrap, connect => 'moving:' . $two->port, listening => 0,
		env => { LD_PRELOAD => "$TMP/hostile.so" });
	is($s->wait, 71, 'the start fails');
	like($s->log, qr/the look-up process sent an invalid answer/, 'and says so');
};
done_testing;
