# SPDX-License-Identifier: ISC
#
# The shipped pgssl-wait.socket and pgssl-wait.service, installed as README says, under a systemd
# that is process 1: started by the first client, reloaded, stopped without cutting sessions, ended
# when idle and started again.
# sabotage: contrib/systemd/pgssl-wait.service s/^ExecReload=.*//
# sabotage: contrib/systemd/pgssl-wait.service s/-P.run.pgssl. //
# sabotage: contrib/systemd/pgssl-wait.service s/--grace=20/--grace=0/
# sabotage: contrib/systemd/pgssl-wait.socket s/^Accept=no/Accept=yes/
# sabotage: contrib/systemd/pgssl-wait.service s/^ProtectSystem=strict/&\nPrivateTmp=yes/
# sabotage: s/if (!any \&\& end/if (any \&\& end/ listen/listen.c
# sabotage: pgssl.8 s/ --grace=20$//
use lib 't/lib';
use T;

my $why = cannot_boot_systemd();
plan skip_all => $why if $why;

my $c = server_pem();
my $host = boot_systemd(tree => installed_tree('pgssl.pem' => slurp($c->{pem})));
my $pg = start_pg(netns => $host->{pid}, port => 5432);
net_do($host->{pid}, "ip link set lo up\nip addr add 192.0.2.7/32 dev lo");
$host->make_user;
$host->inside('systemctl enable --now pgssl-wait.socket');

sub query { return ask('select 6*7', @_) }
sub ask { my ($query, @more) = @_; return psql($query, port => 9000, sslmode => 'verify-full', rootcert => $c->{root}, netns => $host->{pid}, @more) }
sub property { my ($name) = @_; return $host->systemctl('show', '--value', "--property=$name", 'pgssl-wait.service')->{out} =~ s/\n//r }
sub is_state { my ($state) = @_; wait_for("the service to be $state", sub { property('ActiveState') eq $state }) }
sub log_has { my ($pattern) = @_; return wait_for("a log line $pattern", sub { $host->journal('-t', 'pgssl') =~ $pattern }) }

is(property('ActiveState'), 'inactive', 'nothing runs while nobody is connected');
is(query()->{out}, "42\n", 'psql with sslmode=verify-full');
log_has(qr/^listening on IPv6 address "::", port 9000$/m);
my $listener = property('MainPID');
my $uid = $host->run([qw(id -u pgssl)])->{out} + 0;
like(slurp("/proc/$host->{pid}/root/proc/$listener/status"), qr/^Uid:\s+$uid\s+$uid\s+$uid\s.*^CapPrm:\s+0+\n.*^Seccomp:\s+2\n/ms, 'a listener of user pgssl, without rights and with a filter');
is(query()->{out}, "42\n", 'another client');
is(property('MainPID'), $listener, 'is served by the same listener');
like(ask($host->list_sessions)->{out}, qr/^\d+ +alice +sales .* TLSv1\.3 /m, 'pgssl --sessions lists a session of the listener');

# IPAddressDeny= is for what the service connects to. The clients' socket is systemd's.
subtest 'clients from other machines' => sub {
	my $r = psql('select 6*7', port => 9000, host => '192.0.2.7', netns => $host->{pid});
	is($r->{out}, "42\n", 'are served') or diag $r->{err};
	log_has(qr/^connection authorized: .* host=192\.0\.2\.7 /m);
	plan skip_all => 'no IPAddressDeny= here' if $host->journal() =~ /(?:BPF|IP firewall).*not (?:supported|available)/i;
	$host->drop_in('pgssl-wait.service', 'far', "[Service]\nExecStart=\nExecStart=/usr/local/sbin/pgssl -r 192.0.2.7:5432 --connect-timeout=2\n");
	$host->systemctl(qw(restart pgssl-wait.service));
	like(query()->{err}, qr/could not connect to PostgreSQL at 192\.0\.2\.7:5432: (?!Connection refused)/, 'but it cannot connect to another machine');
	$host->inside('rm -r /etc/systemd/system/pgssl-wait.service.d; systemctl daemon-reload; systemctl restart pgssl-wait.service');
};

subtest 'systemctl reload' => sub {
	query();
	my $pid = property('MainPID');
	$host->inside('systemctl reload pgssl-wait.service');
	log_has(qr/^reloaded certificate and key$/m);
	is(property('MainPID'), $pid, 'the same process');
};

# A client held in hand on the host: its part runs there, ours tells it when to go on.
sub hold_session {
	my $go = "$TMP/go";
	my $pid = spawn(cmd => psql_cmd(), in => fifo($go), out => "$TMP/held", env => pg_env(port => 9000), netns => $host->{pid});
	open my $in, '>', $go or die "$go: $!\n";
	$in->autoflush;
	return { in => $in, pid => $pid };
}

sub fifo {
	my ($path) = @_;
	POSIX::mkfifo($path, 0600) or die "$path: $!\n";
	open my $both, '+<', $path or die "$path: $!\n"; # so that nobody waits for the other end
	return $both;
}

sub answers {
	my ($held, $number) = @_;
	print { $held->{in} } "select 'answer ' || $number;\n";
	wait_for("answer $number", sub { slurp("$TMP/held") =~ /^answer $number$/m });
	pass("the session answers ($number)");
}

subtest 'systemctl stop gives sessions --grace' => sub {
	my $held = hold_session();
	answers($held, 1);
	my $pid = property('MainPID');
	$host->inside('systemctl stop --no-block pgssl-wait.service');
	log_has(qr/^stopping: no new connections; 1 session may continue for 20 s$/m);
	is_state('deactivating');
	answers($held, 2);
	my $next = spawn(cmd => psql_cmd('-c', 'select 6*7'), out => "$TMP/next", env => pg_env(port => 9000), netns => $host->{pid});
	answers($held, 3);
	print { $held->{in} } "\\q\n";
	is(wait_exit($held->{pid}), 0, 'it ends as it likes');
	is(wait_exit($next), 0, 'a client that came meanwhile has waited');
	is(slurp("$TMP/next"), "42\n", '... and is served by the next listener');
	isnt(property('MainPID'), $pid, 'which is another process');
	is(property('Result'), 'success', 'nothing has failed');
};

subtest 'ended when idle, started again' => sub {
	$host->drop_in('pgssl-wait.service', 'idle', "[Service]\nExecStart=\nExecStart=/usr/local/sbin/pgssl -r 5432 -D info --idle-exit=1\n");
	$host->systemctl(qw(restart pgssl-wait.service));
	for (1, 2) {
		is_state('inactive');
		is(property('Result'), 'success', 'ended');
		is(query()->{out}, "42\n", 'the socket starts it again');
	}
	log_has(qr/^stopped after 1 s without a session \(--idle-exit\)$/m);
	is_state('inactive');
};

subtest 'a start that fails' => sub {
	$host->inside('mv /etc/pgssl/pgssl.pem /etc/pgssl/gone');
	like(query()->{err}, qr/alert internal error/, 'the client gets an alert') for 1 .. 3;
	is(scalar(() = $host->journal('-t', 'pgssl') =~ m{^could not .*"/etc/pgssl/pgssl\.pem"}mg), 3, 'one start for each client');
	is_state('failed');
	is(property('ExecMainStatus'), 66, 'the service has failed');
	$host->inside('mv /etc/pgssl/gone /etc/pgssl/pgssl.pem');
	is(query()->{out}, "42\n", 'the next client finds it mended');
};

subtest 'a PostgreSQL whose socket is in /tmp' => sub {
	$host->postgres_in_tmp;
	$host->drop_in('pgssl-wait.service', 'idle', "[Service]\nExecStart=\nExecStart=/usr/local/sbin/pgssl -r /tmp\n");
	$host->systemctl(qw(restart pgssl-wait.service));
	is(query()->{out}, "42\n", 'psql');
};

subtest 'the unit for -d in the manual' => sub {
	my ($unit) = slurp("$ROOT/pgssl.8") =~ /^(\[Unit\]\n.*?)^\.Ed$/ms;
	$unit =~ s/\\e$/\\/mg;
	$host->inside('systemctl stop pgssl-wait.socket pgssl-wait.service; rm -r /run/pgssl');
	spew("/proc/$host->{pid}/root/etc/systemd/system/pgssl-listen.service", $unit);
	is($host->run([qw(systemd-analyze verify --man=no pgssl-listen.service)])->{err}, '', 'systemd-analyze verify');
	$host->inside('systemctl daemon-reload; systemctl enable --now pgssl-listen.service');
	unlink "$TMP/go", "$TMP/held";
	my $held = hold_session();
	answers($held, 1);
	$host->inside('test -s /run/pgssl/pgssl.localhost.9000.pid; systemctl reload pgssl-listen.service');
	$host->inside('systemctl stop --no-block pgssl-listen.service');
	wait_for('the stop', sub { $host->journal('-u', 'pgssl-listen') =~ /^stopping: /m });
	answers($held, 2);
	print { $held->{in} } "\\q\n";
	is(wait_exit($held->{pid}), 0, 'the session ends as it likes');
};

subtest 'systemd-analyze security' => sub {
	my $security = T::run([ qw(systemd-analyze security --offline=true), "$ROOT/contrib/systemd/pgssl-wait.service" ], quiet => 1);
	plan skip_all => 'systemd-analyze knows no --offline' unless $security->{out} =~ /exposure level.*: (\d+\.\d+)/;
	cmp_ok($1, '<=', 1.5, 'exposure');
};

$host->stop;
done_testing;
