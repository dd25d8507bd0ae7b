# SPDX-License-Identifier: ISC
#
# The machine of the clients, and then PostgreSQL's, vanishes while sessions are idle or data is in
# flight in either direction. With --keepalive=1 they end after about a minute, and new clients are
# told that PostgreSQL cannot be reached.
# sabotage: s/sock_keepalive(fd, o->keepalive);/;/ listen/listen.c
# sabotage: s/set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);/;/ net/sock.c
use lib 't/lib';
use T;
use Time::HiRes qw(time);

limit(900);
needs(can_netns(), 'root and network namespaces');

my ($here, $clients, $server) = map { net_host() } 1 .. 3;
net_link($here, '192.0.2.1/24', $clients, '192.0.2.2/24');
net_link($here, '198.51.100.1/24', $server, '198.51.100.2/24');
my $remote = start_pg(listen => '198.51.100.2', netns => $server, hba => "host all all all trust\nlocal all all trust\n");
my $port = $remote->port;
my $s = serve_listen(connect => "198.51.100.2:$port", netns => $here, args => ['--keepalive=1']);
my @held;
# An idle session, one whose client gets data, and one whose client sends some.
my $start = sub {
	my ($where) = @_;
	my $seen = () = $s->log =~ /connection authorized/g;
	my %in;
	pipe $in{idle}, my $held or die;
	pipe $in{sends}, my $data or die;
	push @held, $held;
	spawn(cmd => ['yes'], out => $data);
	my %sql = (idle => [], gets => [ '-c', "select repeat('x', 1000), pg_sleep(0.001) from generate_series(1, 10000000)" ],
		sends => [ '-c', 'create temp table t (x text)', '-c', 'copy t from stdin' ]);
	spawn(cmd => T::Pg::psql_cmd(@{ $sql{$_} }), netns => $where, in => $in{$_},
		env => T::Pg::pg_env(host => '192.0.2.1', port => $s->port)) for sort keys %sql;
	wait_for('three sessions', sub { $seen + 3 == (() = $s->log =~ /connection authorized/g) });
	nap(1); # data flows
};
my $ended = sub { my ($how) = @_; return scalar(() = $s->log =~ /disconnection: .*reason=$how/g) };
$start->($clients);
net_do($clients, 'ip link set w1 down');
my $began = time;
wait_for('the sessions to end', sub { $ended->('connection to client lost') == 3 }, 150);
note sprintf 'clients vanished: %.0f s', time - $began;
pass('the clients have gone: all sessions end');
wait_for('their backends to end', sub { $remote->backends == 0 });
$start->($here);
net_do($server, 'ip link set w2 down');
$began = time;
wait_for('the sessions to end', sub { $ended->('.*') == 6 }, 150);
note sprintf 'PostgreSQL vanished: %.0f s', time - $began;
is($ended->('connection to server lost'), 3, 'PostgreSQL has gone: all sessions end') or diag($s->log);
my $r = psql('select 1', host => '192.0.2.1', port => $s->port, netns => $here);
like($r->{err}, qr/57P03|could not connect|No route|timed out/i, 'a new client is told');
net_do($server, 'ip link set w2 up');
wait_for('a login', sub { psql('select 6*7', host => '192.0.2.1', port => $s->port, netns => $here)->{out} eq "42\n" });
stop($s->{pid});
done_testing;
