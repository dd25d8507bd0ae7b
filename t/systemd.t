# SPDX-License-Identifier: ISC
#
# systemd-socket-activate --accept --inetd: descriptors 0 and 1 are the socket, descriptor 2 is not,
# and receives the log. The shipped unit: the verdict of systemd-analyze, and its filter allows
# every system call that a session makes.
# sabotage: contrib/systemd/pgssl@.service s/ landlock_create_ruleset / /
# sabotage: s/found.is_log = !closed .*/;/ wrapper.c
use lib 't/lib';
use T;

my ($activate) = grep { -x } map { "$_/systemd-socket-activate" } qw(/usr/bin /bin);
needs($activate, 'systemd-socket-activate');
my $c = server_pem();
my $pg = start_pg();

my $s = serve_systemd(pg => $pg, nolog => 1);
my $r = psql('\conninfo', port => $s->port, sslmode => 'verify-full', rootcert => $c->{root});
is(conninfo($r->{out})->{protocol}, 'TLSv1.3', 'conninfo');
is($r->{err}, '', 'nothing on standard error');
wait_for('the log on descriptor 2',
	sub { log_lines($s->{err}, qr/disconnection: session time: .* user=alice/) });
ok(scalar log_lines($s->{err}, qr/connection authorized: user=alice/), 'both lines are logged');

subtest 'the shipped unit' => sub {
	my $unit = slurp("$ROOT/contrib/systemd/pgssl\@.service");
	like($unit, qr/^User=pgssl$/m, 'runs as pgssl');
	like($unit, qr/^StandardError=journal$/m, 'StandardError is not the client');
	my $security = T::run([ qw(systemd-analyze security --offline=true),
		"$ROOT/contrib/systemd/pgssl\@.service" ], quiet => 1);
	plan skip_all => 'systemd-analyze knows no --offline'
		unless $security->{out} =~ /exposure level.*: (\d+\.\d+)/;
	cmp_ok($1, '<=', 1.5, 'systemd-analyze security');
};

# The system calls that these words of a SystemCallFilter= stand for: names and @sets.
sub calls_of {
	my (@words) = @_;
	return map { /^@/ ? calls_of(members($_)) : $_ } @words;
}

sub members {
	my ($set) = @_;
	my (undef, @members) = map { /^\s*([\w@-]+)/ } split /\n/,
		T::run([ 'systemd-analyze', 'syscall-filter', $set ])->{out};
	return @members;
}

subtest 'the filter of the unit allows every system call of a session' => sub {
	plan skip_all => 'has no sandbox' if $T::SAN;
	plan skip_all => 'needs strace' if T::run([qw(strace -V)], quiet => 1)->{status};
	plan skip_all => 'needs root' unless is_root();
	my %allowed;
	for my $line (slurp("$ROOT/contrib/systemd/pgssl\@.service") =~ /^SystemCallFilter=(.*)$/mg) {
		my $deny = $line =~ s/^~//;
		$allowed{$_} = !$deny for calls_of(split ' ', $line);
	}
	cmp_ok(scalar(grep { $_ } values %allowed), '>', 150, 'the sets are known');
	my $gid = (getpwnam 'nobody')[3];
	my $pem = spew("$TMP/by-group.pem", slurp($c->{pem}), 0640);
	chown 0, $gid, $pem;
	my $traced = spew("$TMP/traced",
		"#!/bin/sh\nexec strace -qq -o $TMP/trace $PGSSL \"\$@\"\n", 0755);
	my $log = spew("$TMP/trace", '', 0666);
	my $service = serve(pg => $pg, program => $traced, user => 'nobody', pem => $pem,
		nolog => 1, stderr => spew("$TMP/traced.err", '', 0666));
	is(psql('select 6*7', port => $service->port, sslmode => 'verify-full',
		rootcert => $c->{root})->{out}, "42\n", 'a query, as an unprivileged user');
	wait_for('the end of the trace', sub { slurp($log) =~ /^exit_group\(0\)/m });
	my %called = map { $_ => 1 } slurp($log) =~ /^(\w+)\(/mg;
	ok($called{landlock_restrict_self}, 'the sandbox is entered');
	is(join(' ', sort grep { !$allowed{$_} } keys %called), '', 'no other system call is made');
};
done_testing;
