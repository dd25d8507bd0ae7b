# SPDX-License-Identifier: ISC
#
# systemd-socket-activate --accept --inetd: the socket on 0 and 1, descriptor 2 is another one: there the log goes.
# The unit that we ship: its own verdict, and that a session needs no system call that it takes away.
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
wait_for('the log on descriptor 2', sub { log_lines($s->{err}, qr/disconnection: session time: .* user=alice/) });
ok(scalar log_lines($s->{err}, qr/connection authorized: user=alice/), 'both lines are there');

subtest 'the shipped unit' => sub {
	my $unit = slurp("$ROOT/contrib/systemd/pgssl\@.service");
	like($unit, qr/^User=pgssl$/m, 'runs as pgssl');
	like($unit, qr/^StandardError=journal$/m, 'descriptor 2 is not the client');
	my $security = T::run([ qw(systemd-analyze security --offline=true), "$ROOT/contrib/systemd/pgssl\@.service" ], quiet => 1);
	plan skip_all => 'systemd-analyze knows no --offline' unless $security->{out} =~ /exposure level.*: (\d+\.\d+)/;
	cmp_ok($1, '<=', 1.5, 'systemd-analyze security');
};

# The words of SystemCallFilter=: names and @sets, a ~ in front of the first takes away.
sub calls_of {
	my (@words) = @_;
	return map { /^@/ ? calls_of(members($_)) : $_ } @words;
}

sub members {
	my ($set) = @_;
	my (undef, @members) = map { /^\s*([\w@-]+)/ } split /\n/, T::run([ 'systemd-analyze', 'syscall-filter', $set ])->{out};
	return @members;
}

subtest 'all that a session calls passes the unit\'s filter' => sub {
	plan skip_all => 'needs strace' if T::run([qw(strace -V)], quiet => 1)->{status};
	plan skip_all => 'needs root' unless is_root();
	my %passes;
	for my $line (slurp("$ROOT/contrib/systemd/pgssl\@.service") =~ /^SystemCallFilter=(.*)$/mg) {
		my $take = $line =~ s/^~//;
		$passes{$_} = !$take for calls_of(split ' ', $line);
	}
	cmp_ok(scalar(grep { $_ } values %passes), '>', 150, 'the sets are known');
	my $gid = (getpwnam 'nobody')[3];
	my $pem = spew("$TMP/by-group.pem", slurp($c->{pem}), 0640);
	chown 0, $gid, $pem;
	my $traced = spew("$TMP/traced", "#!/bin/sh\nexec strace -qq -o $TMP/trace $PGSSL \"\$@\"\n", 0755);
	my $log = spew("$TMP/trace", '', 0666);
	my $service = serve(pg => $pg, program => $traced, user => 'nobody', pem => $pem, nolog => 1, stderr => spew("$TMP/traced.err", '', 0666));
	is(psql('select 6*7', port => $service->port, sslmode => 'verify-full', rootcert => $c->{root})->{out}, "42\n", 'a query, as a user without rights');
	wait_for('the end of the trace', sub { slurp($log) =~ /^exit_group\(0\)/m });
	my %called = map { $_ => 1 } slurp($log) =~ /^(\w+)\(/mg;
	ok($called{landlock_restrict_self}, 'it entered its sandbox');
	is(join(' ', sort grep { !$passes{$_} } keys %called), '', 'nothing else is called');
};
done_testing;
