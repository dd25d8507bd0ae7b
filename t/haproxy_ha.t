# SPDX-License-Identifier: ISC
#
# The section SEVERAL MACHINES of the manual, word for word: haproxy and PostgreSQL on one host, pgssl
# on two others, one of which is disconnected under load. Its sessions end, those on the other host
# continue, new ones go to the other host, and the lost host is used again when it is back.
# sabotage: s/if (!client.given)/if (true)/ session/server.c
use lib 't/lib';
use T;

needs(-x '/usr/sbin/haproxy', 'haproxy');
needs(can_netns(), 'root and network namespaces');

my ($balancer, @host) = map { net_host() } 1 .. 3;
net_do($balancer, "ip link add br0 type bridge\nip link set br0 up\nip addr add 192.0.2.1/24 dev br0");
my @port = map { (net_link($balancer, '', $host[$_], '192.0.2.1' . ($_ + 1) . '/24'))[0] } 0, 1;
net_do($balancer, "ip link set $_ master br0") for @port;

my $pg = start_pg(netns => $balancer, port => 5432, listen => '192.0.2.1',
	hba => "local all all trust\nhost all all 192.0.2.0/24 trust\n");
my @s = map { serve_listen(netns => $_, port => 9000, connect => '192.0.2.1:5432', args => ['--proxy-protocol']) } @host;
$s[0]->logged(qr/PostgreSQL at 192\.0\.2\.1:5432 is not on this machine: the connection to it is not encrypted/);

my ($conf) = slurp("$ROOT/pgssl.8") =~ /^\.Pa haproxy\.cfg :\n\.Bd[^\n]*\n(.*?)^\.Ed/ms;
like($conf || '', qr/listen pgssl/, 'the manual contains an haproxy.cfg');
my $haproxy = spawn(cmd => [ '/usr/sbin/haproxy', '-db', '-f', spew("$TMP/haproxy.cfg", $conf) ],
	netns => $balancer);

my @to = (netns => $balancer, host => '127.0.0.1', port => 9000, sslmode => 'verify-full',
	rootcert => server_pem()->{root});
wait_for('the first session', sub { psql('select 1', @to)->{status} == 0 });

sub sessions_of { my ($n) = @_; return scalar log_lines($s[$n]{log}, qr/connection authorized/) }
is(psql('select 1', @to)->{status}, 0, 'psql with verify-full') for 1 .. 4;
cmp_ok(sessions_of($_), '>', 0, "host $_ serves sessions") for 0, 1;
like($s[0]->log, qr/connection authorized:.* host=127\.0\.0\.1 port=/,
	"the log has the client's address, not haproxy's");
is(psql('select inet_client_addr()', @to)->{out} =~ /^192\.0\.2\.1[12]$/ ? 1 : 0, 1,
	'PostgreSQL sees the pgssl host');

# Load: long sessions, spread over both hosts.
my $work = spew("$TMP/work.sql", "select pg_sleep(0.05);\n" x 150);
my @busy = map { spawn(cmd => psql_cmd('-f', $work), env => T::Pg::pg_env(@to), netns => $balancer, out => "$TMP/busy.$_", quiet => 1) } 0 .. 7;
sub live { my ($n) = @_; return sessions_of($n) - log_lines($s[$n]{log}, qr/disconnection/) }
wait_for('eight sessions', sub { live(0) + live(1) == 8 });
my @share = map { live($_) } 0, 1;
cmp_ok($share[$_], '>=', 2, "host $_ serves its share") for 0, 1;

net_do($balancer, "ip link set $port[0] down");
my @new = map { psql('select 6*7', @to) } 1 .. 12;
my @failed = grep { $_->{status} } @new;
cmp_ok(scalar @failed, '<=', 1, 'new sessions succeed, except for one that may be connecting when haproxy notices the loss') or diag(map { $_->{err} } @failed);
is($new[-1]{out}, "42\n", 'new sessions keep working');
my %ended = (ok => 0, lost => 0);
$ended{ wait_exit($_, 30) == 0 ? 'ok' : 'lost' }++ for @busy;
is_deeply([ @ended{qw(ok lost)} ], [ @share[ 1, 0 ] ],
	'sessions of the remaining host succeed, those of the lost host end');

my $before = sessions_of(0);
net_do($balancer, "ip link set $port[0] up");
wait_for('the host to be used again', sub { psql('select 1', @to); sessions_of(0) > $before });
pass('the host is used again');
unlike($_->log, qr/terminated by signal|bug:/, 'no process crashed') for @s;
done_testing;
