# SPDX-License-Identifier: ISC
#
# The shipped binary under strace: what a session calls after step 5 is on the list of sandbox_seccomp.c, nothing that it calls is refused, and
# it is not killed, whatever the way in, the log and the end. (What an intruder would call is tried in unit_sandbox.c.)
# sabotage: sandbox_seccomp.c s/^    REFUSE(socket, EACCES),//
# sabotage: log.c s/^\ttzset();.*//
# sabotage: sandbox_seccomp.c s/^    ALLOW(shutdown),//
use lib 't/lib';
use T;
use IO::Socket::UNIX;
use Socket qw(SOCK_DGRAM);
use strict;
use warnings;

limit(120);
my $c = server_pem();
my $pg = start_pg();
my ($lists) = split /^static const struct sock_filter parent\[\]/m, slurp("$T::ROOT/sandbox_seccomp.c");
my %allowed = map { $_ => 1 } $lists =~ /\bALLOW(?:_IF\w*)?\((\w+)/g;
my $pids = "$T::TMP/pids";
mkdir $pids;
chmod 01777, $pids;

my $program = spew("$T::TMP/traced", "#!/bin/sh\nexec strace -qq -o $T::TMP/trace.\$\$ $T::PGSSL \"\$@\"\n");
chmod 0755, $program;

# The calls behind the filter's loading, one string a call; and how it ended.
sub calls_after {
	my @lines = split /\n/, slurp($_[0]);
	while (defined(my $line = shift @lines)) {
		return @lines if $line =~ /^prctl\(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, \{.*= 0$/;
	}
	return;
}

sub check_traces {
	my ($what, $service) = @_;
	wait_for('the sessions to end', sub { !$service->sessions });
	my @traces = glob "$T::TMP/trace.*";
	ok(scalar @traces, "$what: traced");
	for my $trace (@traces) {
		my @calls = calls_after($trace);
		@calls = grep { !/^socket\(AF_UNIX, SOCK_DGRAM.*EACCES/ } @calls if $what eq 'syslog'; # no syslogd here, and asked again
		ok(@calls > 3, "$what: a filter was loaded") or diag(slurp($trace));
		is_deeply([ grep { /^(\w+)\(/ && !$allowed{$1} } @calls ], [], "$what: no call that is not listed");
		is_deeply([ grep { /= -1 (?:EACCES|EPERM|ENOSYS|ESPIPE|ENOTTY) / } @calls ], [], "$what: nothing was refused");
		like($calls[-1], qr/^\+\+\+ exited with|^exit_group/, "$what: it ended by itself");
		unlink $trace;
	}
}

my @ways = (
	[ 'TLS 1.3, log file, pid file', { args => [ "-P$pids/" ] }, {} ],
	[ 'TLS 1.2', { args => ['--max-protocol=TLSv1.2'] }, {} ],
	[ 'the log is descriptor 2', { nolog => 1, stderr => "$T::TMP/err" }, {} ],
	[ 'syslog', { nolog => 1 }, {} ],
	[ 'early connect', { args => ['--early-connect'] }, {} ],
	[ 'no TLS', {}, { sslmode => 'disable' } ],
	[ 'a FATAL of PostgreSQL', {}, { dbname => 'nosuch' } ],
	[ 'PostgreSQL is not there', { connect => '127.0.0.1:' . free_port() }, {} ],
);

for my $way (@ways) {
	my ($name, $serve, $psql) = @$way;
	subtest $name => sub {
		my $service = serve(pg => $pg, program => $program, %$serve);
		my $r = psql('select count(*) from generate_series(1, 100000)', port => $service->port, %$psql);
		is($r->{out}, "100000\n", 'a query') unless %$psql || $serve->{connect};
		check_traces($name, $service);
		is_deeply([ glob "$pids/*" ], [], 'no pid file is left');
	};
}

# A /dev of its own, in a mount name space, where the test is syslogd.
subtest 'syslogd goes away: log lines are lost, the session is not' => sub {
	plan(skip_all => 'needs root') unless is_root();
	my $dev = "$T::TMP/dev";
	mkdir $dev;
	system("mknod -m 666 $dev/null c 1 3 && mknod -m 666 $dev/urandom c 1 9") == 0 or plan(skip_all => 'needs mknod');
	my $syslogd = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => "$dev/log") or die "log: $!\n";
	chmod 0666, "$dev/log";
	my $s = session(pg => $pg, nolog => 1, stderr => 'client', wrap => [ qw(unshare -m sh -c), "mount --bind $dev /dev && exec \"\$0\" \"\$@\"" ]);
	ok($s->conn->login, 'login');
	my $line = '';
	wait_for('a line in syslog', sub { $syslogd->recv($line, 4096); $line =~ /connection authorized/ });
	like($line, qr/^<\d+>.*pgssl\[\d+\]: connection authorized: user=alice/, 'syslog has the first line');
	$syslogd->close;
	unlink "$dev/log";
	ok($s->conn->query('select 1') && $s->conn->message, 'the session goes on');
	$s->conn->send("X\0\0\0\4");
	$s->conn->rest;
	is($s->wait, 0, 'and ends in order');
};

done_testing;
