# SPDX-License-Identifier: ISC
#
# Machine-checked borders of the source: who may include what, how long a function may be, and that program, --help and manual know the same options.
# sabotage: 1i #include <openssl/ssl.h> net/splice.c
use lib 't/lib';
use T;

my @sources = glob "$ROOT/*.[ch]";
my %text = map { (m{([^/]+)$})[0] => slurp($_) } @sources;

# Files that may be longer, functions that may be longer, and why.
my %long_file = ();
my %long_function = ();

subtest 'OpenSSL headers only in tls.c (and the files it is cut into, tls_*)' => sub {
	for my $file (sort keys %text) {
		next if $file =~ /^tls(?:_\w+)?\.[ch]$/;
		ok($text{$file} !~ /#\s*include\s*<openssl/, $file);
	}
	unlike($text{'tls.h'} || '', qr/#\s*include\s*<openssl/, "tls.h does not pass them on");
};

# DESIGN.md's module table: what a module may not do, as words that may not stand in its code (comments aside).
my %may_not = (
	'wrapper.c' => [ qr/\b(?:SSL|EVP|X509|BIO|ERR)_\w+\(/, qr/seccomp|BPF_|landlock/, qr/0x16|80877103/ ],
	'options.c' => [ qr/\b(?:open|fopen|openat|socket|connect)\(/ ],
	'startup.c' => [ qr/#include\s*["<](?:tls|sys\/socket|netinet|backend)/, qr/\b(?:recv|send|read|write|poll)\(/ ],
	'identmap.c' => [ qr/#include\s*["<](?:tls|sys\/socket|startup)/ ],
	'backend.c' => [ qr/\b(?:recv|send|read|write|sendmsg|recvmsg)\((?!.*MSG_PEEK)/, # a peek tells whether PostgreSQL closed
		 qr/#include\s*"(?:tls|startup|splice)\.h"/ ],
	'splice.c' => [ qr/#include\s*"(?:startup|tls|backend)\.h"/ ],
	'pidfile.c' => [ qr/#include\s*"(?:startup|tls|backend|stream|splice)\.h"/ ],
	'sandbox.c' => [ qr/#include\s*"(?:startup|tls|backend|splice)\.h"/ ],
	'log.c' => [ qr/#include\s*"(?!log\.h)\w+\.h"/ ],
	'stream.c' => [ qr/#include\s*"(?:startup|tls|backend|splice)\.h"/ ],
);

sub code { my ($text) = @_; $text =~ s{/\*.*?\*/}{}gs; $text =~ s{//.*}{}g; return $text }

# A test that shows the offending line, not the whole file.
sub lacks {
	my ($text, $pattern, $what) = @_;
	my ($line) = grep { $_ =~ $pattern } split /\n/, $text;
	ok(!defined $line, $what) or diag($line);
}

subtest 'each module knows only what is its own' => sub {
	for my $file (sort grep { exists $text{$_} } keys %may_not) {
		my $code = code($text{$file});
		lacks($code, $_, "$file: nothing like $_") for @{ $may_not{$file} };
	}
};

subtest 'one header a module, its own first' => sub {
	for my $file (sort grep { /\.c$/ && $_ ne 'wrapper.c' } keys %text) {
		my $header = $file =~ s/c$/h/r;
		next unless exists $text{$header};
		my ($first) = $text{$file} =~ /^#include (.*)$/m;
		is($first, "\"$header\"", $file);
	}
};

subtest 'sizes' => sub {
	for my $file (sort keys %text) {
		my $lines = () = $text{$file} =~ /\n/g;
		cmp_ok($lines, '<', $long_file{$file} || 500, "$file: lines");
		while ($text{$file} =~ /^(?:\w[^\n;]*?\b(\w+)\([^;{}]*\)\n)\{\n(.*?)^\}/msg) {
			my ($name, $body) = ($1, $2);
			my $length = () = $body =~ /\n/g;
			my $limit = $name eq 'main' ? 80 : $long_function{$name} || 60;
			fail("$file: $name has $length lines") if $length >= $limit;
		}
	}
};

subtest 'every file says whose it is and what for' => sub {
	for my $file (sort keys %text) {
		like($text{$file}, qr{^/\* SPDX-License-Identifier: ISC\n \*\n \* \Q$file\E - }, $file);
	}
};

subtest 'options: program, --help and manual agree' => sub {
	my $help = T::run([ $PGSSL, '--help' ])->{out};
	my %help = map { $_ => 1 } $help =~ /(?<![\w-])--([a-z][a-z-]+)/g;
	cmp_ok(scalar keys %help, '>', 10, '--help names options');
	my ($table) = $text{'options.c'} =~ /^static const struct option\w* \w+\[\] = \{\n(.*?)^\};/ms;
	my %program = map { $_ => 1 } ($table || '') =~ /"([a-z][a-z-]+)"/g if defined $table;
	for my $word (sort keys %help) {
		ok($program{$word}, "--$word stands in options.c's table") if %program;
	}
	my $manual = slurp("$ROOT/pgssl.8");
	plan skip_all => 'no manual' unless length $manual;
	my %manual = map { s/\\-/-/gr => 1 } $manual =~ /Fl (?:-|\\-)([a-z][a-z\\-]+)/g;
	is(join(' ', sort grep { !$manual{$_} } keys %help), '', 'options of --help that the manual lacks');
	is(join(' ', sort grep { !$help{$_} } keys %manual), '', 'options of the manual that --help lacks');
};

subtest 'every "must never be" names the test that watches it' => sub {
	my $tests = join '', map { slurp($_) } glob "$ROOT/t/*.t $ROOT/t/*.c";
	for my $never (
		'A session cache or session tickets; renegotiation; compression.',
		'A client byte parsed before step 5',
		'A byte on descriptor 2 while it is the client',
		'A PostgreSQL backend taken by a client that has not finished its handshake',
		'The private key in memory after the handshake.',
		'Plaintext to or from the client where TLS was promised.',
		'A byte lost, repeated or reordered.',
	) {
		like($tests, qr/never: \Q$never\E/, $never);
	}
};

subtest 'every test names its sabotage' => sub {
	for my $test (glob "$ROOT/t/*.t") {
		my ($line) = slurp($test) =~ /^# sabotage: (.+)$/m;
		ok(defined $line && grep({ -f "$ROOT/$_" } split ' ', $line), $test =~ s{.*/}{}r);
	}
};

subtest 'the manual is clean' => sub {
	plan skip_all => 'no mandoc or no manual' if !-e "$ROOT/pgssl.8" || T::run([ 'sh', '-c', 'command -v mandoc' ], quiet => 1)->{status};
	is(T::run([ qw(mandoc -T lint -W warning), "$ROOT/pgssl.8" ])->{out}, '', 'mandoc -T lint');
};
done_testing;
