# SPDX-License-Identifier: ISC
#
# --idle-exit: no client is lost, refused or reset when it comes at the moment at which the listener
# ends. Each super-server has several services at once. The client of each comes about a second
# after its last one was done. When the old listener has served it, the next comes a little later,
# else a little earlier: so the rounds find that moment and stay around it. IDLE_ROUNDS: how many
# for each super-server (`make check-idle-exit`: 2,000).
# never: A client lost because a waiting listener ended.
# sabotage: s/^\tlog_line(LOG_INFO, "stopped after/\twait_event(true, deadline_in(50)); (void)!accept4(listeners[0].fd, NULL, NULL, 0);\n&/ listen/listen.c
use lib 't/lib';
use T;
use POSIX qw(_exit);
use Time::HiRes qw(time);

my $rounds = $ENV{IDLE_ROUNDS} || 50;
my $services = $rounds > 100 ? 50 : 10;
T::limit(1200) if $rounds > 100;

my $c = server_pem();
my $pg = start_pg(max_connections => 100);

# Says in its log when it starts; a client that is answered has been accepted by it.
sub starts { my ($log) = @_; return scalar(() = slurp($log) =~ /listening on/g) }

# The rounds of one service, in a process of its own: a line "old" or "new" for each, that is, which
# listener has served it, or what went wrong.
sub client {
	my ($port, $log, $count, $out) = @_;
	my ($delay, $step, $done) = (1, 0.04, 0);
	my ($last, $result, $found) = ('', '', 0);
	for my $round (0 .. $count) {
		my $before = starts($log);
		T::nap($done + $delay - time) if $round;
		my $said = eval { $round % 10 ? ask($port) : login($port) } || $@ || 'nothing';
		$done = time;
		my $old = starts($log) == $before;
		$said = $old ? 'old' : 'new' if $said eq 'served';
		$result .= "$said\n" if $round; # the first one finds no listener
		# On a busy machine the listener learns late that a session has ended. So look for the
		# moment in growing steps, then in shrinking ones.
		$found ||= $round > 1 && $last ne $said;
		$step *= 2 if $round && !$found;
		$step /= 2 if $found && $step > 0.005 && $last ne $said;
		$last = $said;
		$delay += ($old ? 1 : -1) * (0.5 + rand) * $step;
	}
	T::spew($out, $result);
}

sub ask {
	my ($port) = @_;
	my $conn = connect_to($port);
	$conn->raw_send(ssl_request());
	my $answer = $conn->recv(1);
	$conn->close;
	return $answer eq 'S' ? 'served' : "no answer: $conn->{ended}";
}

sub login {
	my ($port) = @_;
	my $conn = connect_to($port);
	my $ok = $conn->login;
	$conn->close;
	return $ok ? 'served' : 'no login: ' . ($conn->{error} || $conn->{tls_error} || $conn->{ended});
}

# services: [ port, log ] each; netns: where the clients are.
sub rounds_of {
	my ($name, $netns, @all) = @_;
	my $each = $rounds / @all;
	my @pid;
	for my $service (@all) {
		my $pid = fork;
		die "fork: $!\n" unless defined $pid;
		push @pid, $pid;
		next if $pid;
		alarm 0;
		T::Net::enter($netns) if $netns;
		client(@$service, $each, "$service->[1].rounds");
		_exit(0);
	}
	wait_exit($_, 1000) for @pid;
	my %count;
	$count{$_}++ for map { split /\n/, slurp("$_->[1].rounds") } @all;
	my ($old, $new) = map { $_ || 0 } delete @count{qw(old new)};
	is($old + $new, $rounds, "$name: all clients are served ($old by the old listener, $new by the next)");
	is(join('; ', map { "$count{$_} x $_" } keys %count), '', '... and none is lost');
	$T::SAN or cmp_ok($_, '>', $rounds / 10, 'the rounds are around the end') for $old, $new;
}

my %common = (pg => $pg, args => ['--idle-exit=1']);
sub ports { return ports => [ map { free_port() } 1 .. $services ] }

sub inetd_rounds {
	my ($name, @started) = @_;
	rounds_of($name, undef, map { [ $_->port, $_->{log} ] } @started);
	stop($started[0]{pid});
}

inetd_rounds('xinetd', serve_xinetd(shipped => 'pgssl-wait', %common, ports()));
inetd_rounds('openbsd-inetd', serve_inetd(shipped => 'wait', %common, ports()));
inetd_rounds('inetutils-inetd', serve_inetd(shipped => 'wait', inetd => 'inetutils', %common, ports()));

# The shipped units as templates: %i is the port.
SKIP: {
	my $why = cannot_boot_systemd();
	skip $why, 4 if $why;
	my $tree = installed_tree('pgssl.pem' => slurp($c->{pem}));
	my $host = boot_systemd(tree => $tree);
	my $inside = start_pg(netns => $host->{pid}, port => 5432, max_connections => 100);
	$host->make_user;
	$host->inside(<<'EOS');
cd /usr/local/lib/systemd/system
sed 's/^ListenStream=9000/ListenStream=%i/' pgssl-wait.socket >'idle@.socket'
sed -e 's/pgssl-wait\.socket/idle@%i.socket/' -e 's|^ExecStart=.*|& -o /var/log/pgssl/%i --idle-exit=1\nLogsDirectory=pgssl|' pgssl-wait.service >'idle@.service'
systemctl daemon-reload
EOS
	my @ports = map { 9000 + $_ } 1 .. $services;
	$host->inside("systemctl start @{[ map { qq(idle\@$_.socket) } @ports ]}");
	rounds_of('systemd', $host->{pid}, map { [ $_, "/proc/$host->{pid}/root/var/log/pgssl/$_" ] } @ports);
	$host->stop;
}
done_testing;
