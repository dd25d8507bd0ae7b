# SPDX-License-Identifier: ISC
#
# 260 silent TCP connections locked everybody out of a PostgreSQL with max_connections=100, because
# each held a backend. Behind pgssl, clients that send nothing, send garbage or never finish a
# handshake must not take backends: with 300 of each kind, psql works with max_connections=10.
# never: A PostgreSQL backend taken by a client that has not finished its handshake
# sabotage: s/s->place = STARTUP_NEGOTIATED;/backend_start(\&s->connector); &/ session/server.c
use lib 't/lib';
use T;

limit(280);
my $c = server_pem();
my $pg = start_pg(max_connections => 10);
my $service = serve(pg => $pg, args => ['--handshake-timeout=200']);

# The first 100 bytes of a ClientHello.
my $hello = do {
	my $k = T::Conn->new(\*STDIN, \*STDOUT);
	my $bytes = '';
	no warnings 'redefine';
	local *T::Conn::raw_send = sub { $bytes .= $_[1]; 1 };
	local *T::Conn::raw_read = sub { $_[0]{ended} = 'closed'; '' };
	$k->start_tls;
	substr $bytes, 0, 100;
};

my %kind = (
	'silent' => '',
	'garbage' => "\0\0\0\x20\4\xd2",
	'half-open: only an SSLRequest' => ssl_request(),
	'half-open: SSLRequest and part of a ClientHello' => ssl_request() . $hello,
);

for my $kind (sort keys %kind) {
	subtest "300 clients, $kind" => sub {
		my @held = map { my $k = connect_to($service->port); $k->send($kind{$kind}); $k } 1 .. 300;
		wait_for('300 processes', sub { my @s = $service->sessions; @s >= 300 });
		is($pg->backends, 0, 'no backend is taken');
		my $r = psql('select 6*7', port => $service->port);
		is($r->{out}, "42\n", 'psql works') or diag($r->{err});
		$_->close for @held;
		wait_for('their processes to end',
			sub { my @s = grep { alive($_) } $service->sessions; !@s });
	};
}
done_testing;
