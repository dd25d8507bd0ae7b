# SPDX-License-Identifier: ISC
#
# 260 silent TCP connections locked out a server with max_connections=100, because each held a backend. Behind pgssl strangers who say nothing, talk nonsense or
# never finish a handshake cost PostgreSQL nothing: 300 of each leave psql working with max_connections=10.
# never: A PostgreSQL backend taken by a client that has not finished its handshake
# sabotage: s/s->place = STARTUP_NEGOTIATED;/backend_start(\&s->connector); &/ session/server.c
use lib 't/lib';
use T;

limit(280);
my $c = server_pem();
my $pg = start_pg(max_connections => 10);
my $service = serve(pg => $pg, args => ['--handshake-timeout=200']);

# The first flight of a TLS client, cut in the middle.
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
	'senseless' => "\0\0\0\x20\4\xd2",
	'half-open: SSLRequest and no more' => ssl_request(),
	'half-open: SSLRequest and half a ClientHello' => ssl_request() . $hello,
);

for my $kind (sort keys %kind) {
	subtest "300 $kind" => sub {
		my @held = map { my $k = connect_to($service->port); $k->send($kind{$kind}); $k } 1 .. 300;
		wait_for('all 300 to be served', sub { my @s = $service->sessions; @s >= 300 });
		is($pg->backends, 0, 'no backend is held');
		my $r = psql('select 6*7', port => $service->port);
		is($r->{out}, "42\n", 'psql works') or diag($r->{err});
		$_->close for @held;
		wait_for('their processes to end', sub { my @s = grep { alive($_) } $service->sessions; !@s });
	};
}
done_testing;
