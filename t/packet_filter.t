# SPDX-License-Identifier: ISC
#
# A packet filter by user must see the user that pgssl becomes. Sockets belong to the user who makes
# them, and pgssl made them as root: SECURITY's filter never matched when pgssl was started as root.
# sabotage: s/if (\(!*\)s->options.transparent)/if (\1true)/ wrapper.c
use lib 't/lib';
use T;

needs(can_netns(), 'root and network namespaces');

# SECURITY's commands, with another user.
my @rules = slurp("$ROOT/SECURITY") =~ /^ +(nft add .*)$/mg;
is(scalar @rules, 3, 'SECURITY has a filter');
s/skuid pgssl/skuid nobody/ for @rules;

my ($here, $elsewhere) = map { net_host() } 1, 2;
net_link($here, '192.0.2.1/24', $elsewhere, '192.0.2.7/24');
my $hba = "local all all trust\nhost all all all trust\n";
my $local = start_pg(netns => $here, hba => $hba);
my $remote = start_pg(netns => $elsewhere, listen => '192.0.2.7', hba => $hba);
my %to = (local => '127.0.0.1:' . $local->port, remote => '192.0.2.7:' . $remote->port);

# The answer of PostgreSQL, or of pgssl, to a login through one session that becomes nobody.
sub login {
	my ($to) = @_;
	my $s = session(netns => $here, connect => $to{$to}, args => [qw(-s nobody)]);
	return 'login' if $s->conn->login;
	return $s->conn->{error};
}

# The same through a listener.
sub login_at {
	my ($s) = @_;
	my $r = psql('select 1', netns => $here, port => $s->port);
	return $r->{status} ? $r->{err} : 'login';
}

my %listener = map { $_ => serve_listen(netns => $here, connect => $to{$_}, args => [qw(-s nobody)]) } keys %to;
for my $to (qw(local remote)) {
	is(login($to), 'login', "$to PostgreSQL, without a filter");
	is(login_at($listener{$to}), 'login', '... from a listener');
}
net_do($here, join "\n", @rules);
is(login('local'), 'login', 'local PostgreSQL, with the filter');
is(login_at($listener{local}), 'login', '... from a listener');
my $refused = qr/could not connect to PostgreSQL at \Q$to{remote}\E: Connection refused/;
like(login('remote'), $refused, 'remote PostgreSQL, with the filter');
like(login_at($listener{remote}), $refused, '... from a listener');
my $direct = psql('select 1', netns => $here, host => '192.0.2.7', port => $remote->port, sslmode => 'disable');
is($direct->{out}, "1\n", 'another user is not filtered') or diag($direct->{err});
done_testing;
