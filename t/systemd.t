# SPDX-License-Identifier: ISC
#
# systemd-socket-activate --accept --inetd: the socket on 0 and 1, descriptor 2 is another one: there the log goes.
# sabotage: s/return !closed && !client && !void_already;/return false;/ wrapper.c
use lib 't/lib';
use T;

my ($activate) = grep { -x } map { "$_/systemd-socket-activate" } qw(/usr/bin /bin);
needs($activate, 'systemd-socket-activate');
my $c = server_pem();
my $pg = start_pg();

my $s = serve_systemd(pg => $pg, nolog => 1);
my $r = psql('\conninfo', port => $s->port, sslmode => 'verify-full', rootcert => $c->{root});
like($r->{out}, qr/SSL connection \(protocol: TLSv1\.3/, 'conninfo');
is($r->{err}, '', 'nothing on standard error');
wait_for('the log on descriptor 2', sub { log_lines($s->{err}, qr/disconnection: session time: .* user=alice/) });
ok(scalar log_lines($s->{err}, qr/connection authorized: user=alice/), 'both lines are there');
done_testing;
