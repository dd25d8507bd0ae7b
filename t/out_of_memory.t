# SPDX-License-Identifier: ISC
#
# An allocation fails before the handshake: the session goes on, or ends with a line and status 71.
# It crashed, ended without a line, blamed openssl.cnf or a damaged file, or went on without the
# settings of openssl.cnf. (A name after -r is not tested: glibc's getaddrinfo() crashes.)
# sabotage: s/starting = true;/;/ tls/credential.c
# sabotage: s/bool no_memory = t == NULL .*/bool no_memory = false;/ tls.c
use lib 't/lib';
use T;

my $c = server_pem();
my @server = ('-p', $c->{pem}, '-A', $c->{root}, '--clientcert=verify-full', '--map=m',
	'--ident-map=' . spew("$TMP/map", "m /^(.*)\$ \\1\nm alice bob\n"));
my @client = ('-c', '-A', $c->{root});
my $end = 1_000_000;

# The program fails allocations FIRST, FIRST + STEP, ... up to LAST.
sub test {
	my ($what, $first, $step, $last, @args) = @_;
	my $r = run([ 'env', '-i', "$ROOT/t/bin/failing_malloc", $first, $step, $last, @args, '-r',
		'127.0.0.1:1', '-D', 'debug' ]);
	my @runs = split /\n/, $r->{out};
	my @wrong = grep { !/ exit 0 .*\|$|^\d+ \w+ exit 71 [^|]*out of memory[^|]*host=\[local\]\|$/ } @runs;
	is(join("\n", @wrong), '', "$what: @{[ scalar @runs ]} runs");
	cmp_ok(scalar(grep { / exit 71 / } @runs), '>', 10, 'that ended the session');
	cmp_ok(scalar(grep { / exit 0 / } @runs), '>', 0, 'that did not');
}

test('a server, from the start', 1, 1, 60, @server);
test('a server, samples', 61, 401, $end, @server);
test('a client, samples', 61, 401, $end, @client);
done_testing;
