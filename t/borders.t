# SPDX-License-Identifier: ISC
#
# The rules of the source tree: which directory may use which (DESIGN's table), no cycles, sizes,
# names, and that texts and program agree.
# sabotage: 1i #include "wire/startup.h" net/splice.c
# sabotage: s|^#include <poll.h>|& /* .................................................................................... */| net/splice.c
# sabotage: $a static int note_signal(void)\n{\n\treturn 0;\n} log.c
# sabotage: s/The private key in memory after/The private keys in memory after/ DESIGN
use lib 't/lib';
use T;
use File::Find;

# ---- the files ----

my @skip = qw(.git build t/bin bench/out);
my @c; # all C files and headers, as paths from the top of the tree
find({ no_chdir => 1, wanted => sub {
	my $path = $_ =~ s{^\Q$ROOT\E/?}{}r;
	return $File::Find::prune = 1 if grep { $path eq $_ } @skip;
	push @c, $path if /\.[ch]$/ && -f;
} }, $ROOT);
@c = sort @c;
my @program = grep { !m{^(?:t|bench)/} } @c;
my %text = map { $_ => slurp("$ROOT/$_") } @c;

# Replace comments, and with $strings also strings, by blanks. Line numbers stay the same.
sub blank { return $_[0] =~ s/[^\n]/ /gr }
sub code {
	my ($text, $strings) = @_;
	$text =~ s{(/\*.*?\*/|//[^\n]*)|("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')}{ $1 ? blank($1) : $strings ? blank($2) : $2 }gse;
	return $text;
}
my %code = map { $_ => code($text{$_}) } @c;
my %bare = map { $_ => code($text{$_}, 1) } @c;

sub line_of { my ($text, $offset) = @_; return 1 + (substr($text, 0, $offset) =~ tr/\n//) }

# Test one rule: the list of violations must be empty.
sub none { my ($what, @bad) = @_; is(join('', map { "$_\n" } sort @bad), '', $what) }

# ---- the functions ----

# Macros with arguments that may precede the name of a function.
my $decoration = qr/\b(?:PRINTF_LIKE|STACK_OF|__attribute__|alignas)\s*\((?:[^()]|\([^()]*\))*\)/;
my @functions; # { name, file, static, line, lines }
my %defined;   # public functions and objects: name => the .c file that defines it
my %static;    # static functions: name => { file => 1 }

for my $file (@c) {
	my $bare = $bare{$file};
	$bare =~ s/^(?:#(?:[^\n]*\\\n)*[^\n]*)/blank($&)/gme;
	$bare =~ s/$decoration/blank($&)/ge;
	while ($bare =~ /^(?=\w)([^;{}]*?\b(\w+)\s*\([^;{}]*\))\s*\n\{\n(.*?)^\}/gms) {
		my ($head, $whole, $at) = ($1, $&, $-[0]);
		my ($name) = $head =~ /(\w+)\s*\(/;
		my %f = (name => $name, file => $file, static => $head =~ /\bstatic\b/ ? 1 : 0,
			line => line_of($bare, $at), lines => 1 + ($whole =~ tr/\n//));
		push @functions, \%f;
		next if $file =~ m{^(?:t|bench)/};
		$f{static} ? ($static{$name}{$file} = 1) : ($defined{$name} = $file);
	}
	next if $file =~ m{^(?:t|bench)/} || $file !~ /\.c$/;
	while ($bare
		=~ /^(?!static|extern|typedef|struct \w+ \{|enum)\w[\w\s*]*?\b(\w+)(?:\[[^\]]*\])*\s*(?:=|;)/gm) {
		$defined{$1} = $file;
	}
}

# ---- DESIGN ----

my $design = slurp("$ROOT/DESIGN");
# The heading of a section is a line in capitals that is not indented.
my (%section, $heading);
for (split /\n/, $design) {
	$heading = lc $_, next if /^[A-Z][A-Z ,'-]+$/;
	$section{$heading} .= "$_\n" if defined $heading;
}

# The rows of the section "Layers": number, paths, purpose, what the row may use.
my (@rows, @odd_rows, %row_of);
for (split /\n/, $section{layers} || '') {
	next unless /^ {4}\d/;
	my ($layer, $paths, $purpose, $uses) = /^ {4}(\d)  +(\S.*?)  +(\S.*?)  +(\S.*?)\s*$/
		or push(@odd_rows, $_), next;
	push @rows, { layer => $layer, name => (split ' ', $paths)[0],
		paths => [ split ' ', $paths ], uses => [ split /,\s*/, $uses ] };
}

# The row that a file belongs to.
sub row_of {
	my ($file) = @_;
	return $row_of{$file} //= (grep { my $row = $_; grep { $file eq $_
		|| (m{/$} && index($file, $_) == 0) } @{ $row->{paths} } } @rows)[0];
}

# Does `name` ("log", "tls", "net") mean this row?
sub is_named {
	my ($row, $name) = @_;
	return grep { m{^\Q$name\E(?:\.[ch]|/)$} } @{ $row->{paths} };
}

# May a file of `row` use `file`? "everything below", perhaps "but NAME", or a list of rows ("net")
# and files ("net/stream"); a row always may use itself.
sub may_use {
	my ($row, $file) = @_;
	my $other = row_of($file) or return 0;
	return 1 if $other == $row;
	return 0 unless $other->{layer} < $row->{layer};
	for my $use (@{ $row->{uses} }) {
		return !defined $1 || !is_named($other, $1)
			if $use =~ /^everything below(?: but (\w+))?$/;
		return 1 if is_named($other, $use) || $file =~ /^\Q$use\E\.[ch]$/;
	}
	return 0;
}

# ---- the arrows: from a file to the headers that it includes, and from a .c file to the files
# whose functions and objects it uses ----

my %includes = map { my $file = $_; $file => [ $code{$file} =~ /^#\s*include\s*"([^"]+)"/gm ] } @c;
my %calls;
for my $file (grep { /\.c$/ } @program) {
	my $bare = $bare{$file} =~ s/^#\s*include[^\n]*//gmr;
	my %seen;
	while ($bare =~ /(?<![.>\w])\s*\b([a-z]\w+)\b/g) {
		my ($name, $before) = ($1, substr($bare, 0, $-[1]));
		next if $seen{$name}++ || !defined $defined{$name} || $defined{$name} eq $file
			|| $static{$name}{$file};
		# A call, or a function passed as an argument; not a variable or a label with that
		# name.
		push @{ $calls{$file}{ $defined{$name} } }, $name
			if $bare =~ /(?<![.>\w])\b$name\s*\(/
			|| $bare =~ /[=,({?:]\s*&?$name\s*[,;)}\n]/;
	}
}

subtest 'each file of the program has a row in the table of layers in DESIGN' => sub {
	cmp_ok(scalar @rows, '>', 8, 'number of rows');
	none('rows without four columns separated by two blanks', @odd_rows);
	none('files without a row', grep { !row_of($_) } @program);
	my %known = map { $_ => 1 } map { @{ $_->{paths} } } @rows;
	my %file = map { $_ => 1 } @program;
	none('rows with missing files',
		map { my $path = $_; grep { !$file{$_} && !(m{/$} && -d "$ROOT/$_") } $path }
		sort keys %known);
	none('rows that may use something not in a lower layer', map {
		my $row = $_;
		map { "$row->{name}: $_" } grep {
			my $name = s/^everything below but //r;
			my ($other) = grep { is_named($_, $name) } @rows;
			$other ||= row_of("$name.h") if $text{"$name.h"};
			!($_ eq 'everything below' || $_ eq '-'
				|| ($other && $other->{layer} < $row->{layer}));
		} @{ $row->{uses} };
	} @rows);
};

subtest 'includes and calls follow the table' => sub {
	my (@include, @call);
	for my $file (@program) {
		my $row = row_of($file) or next;
		for my $header (@{ $includes{$file} }) {
			push @include,
				exists $text{$header} ? "$file includes $header"
				: "$file includes $header, which does not exist"
				unless exists $text{$header} && may_use($row, $header);
		}
		push @call, map { "$file uses $_ (" . join(', ', sort @{ $calls{$file}{$_} })
			. ')' } grep { !may_use($row, $_) } sort keys %{ $calls{$file} || {} };
	}
	none('includes', @include);
	none('calls', @call);
};

# The cycles that a depth-first walk of a graph finds, each one once, as "a -> b -> a".
sub cycles {
	my (%to) = @_;
	my (%state, @path, %found);
	my $walk; $walk = sub {
		my ($node) = @_;
		($state{$node}, @path) = (1, @path, $node);
		for my $next (sort @{ $to{$node} || [] }) {
			if (!$state{$next}) { $walk->($next) }
			elsif ($state{$next} == 1) {
				my ($from) = grep { $path[$_] eq $next } 0 .. $#path;
				my @ring = @path[$from .. $#path];
				my ($first) = sort { $ring[$a] cmp $ring[$b] } 0 .. $#ring;
				@ring = @ring[$first .. $#ring, 0 .. $first - 1];
				$found{join ' -> ', @ring, $ring[0]} = 1;
			}
		}
		$state{$node} = 2;
		pop @path;
	};
	$walk->($_) for grep { !$state{$_} } sort keys %to;
	return sort keys %found;
}

subtest 'no cycles between files' => sub {
	none('headers', cycles(map { $_ => $includes{$_} } @program));
	my %to = map { my $file = $_; $file => [ sort keys %{ $calls{$file} || {} } ] }
		grep { /\.c$/ } @program;
	none('calls', map {
		my @ring = split / -> /;
		"$_ (" . join('; ', map { join ', ',
			sort @{ $calls{ $ring[$_] }{ $ring[$_ + 1] } } } 0 .. $#ring - 1) . ')';
	} cycles(%to));
};

subtest 'OpenSSL headers only in tls.c, tls/ and check/' => sub {
	# This includes headers that include OpenSSL's: tls/internal.h may, tls.h may not.
	my %openssl = map { $_ => 1 } grep { $code{$_} =~ /^#\s*include\s*<openssl/m } @program;
	my $before;
	do {
		$before = keys %openssl;
		for my $file (@program) { $openssl{$file} = 1
			if grep { $openssl{$_} } @{ $includes{$file} } }
	} while (keys %openssl > $before);
	none('violations', grep { $_ ne 'tls.c' && !m{^(?:tls|check)/} } keys %openssl);
};

subtest 'a .c file includes its own header first' => sub {
	none('violations', grep {
		my $header = s/c$/h/r;
		/\.c$/ && exists $text{$header} && ($includes{$_}[0] // '') ne $header
			|| /\.c$/ && exists $text{$header}
				&& $code{$_} =~ /#\s*include\s*<.*?#\s*include\s*"\Q$header\E"/s;
	} @program);
};

# ---- sizes ----

subtest 'few files and directories at the top of the tree' => sub {
	my $git = T::run([ 'git', '-c', 'safe.directory=*', '-C', $ROOT, 'ls-files' ], quiet => 1);
	plan skip_all => 'this tree is not from git' if $git->{status} || !-e "$ROOT/.git";
	my %top = map { m{^([^/]+)(/?)} ? ($1 => $2) : () } split /\n/, $git->{out};
	my @files = grep { !$top{$_} } sort keys %top;
	my @directories = grep { $top{$_} } sort keys %top;
	cmp_ok(scalar @files, '<=', 22, "files: @files");
	cmp_ok(scalar @directories, '<=', 13, "directories: @directories");
};

sub columns {
	my ($line) = @_;
	1 while $line =~ s/^([^\t]*)\t/$1 . ' ' x (8 - length($1) % 8)/e;
	return length $line;
}

sub wide {
	my ($file, $text) = @_;
	my $n = 0;
	# A sabotage cannot be wrapped.
	my @wide = map { $n++; columns($_) > 100 && !/^ \* sabotage: / ? $n : () } split /\n/,
		$text;
	return @wide ? "$file: " . join(' ', @wide) : ();
}

subtest 'sizes' => sub {
	none('lines of C with more than 100 columns', map { wide($_, $text{$_}) } @c);
	none('lines of DESIGN, SECURITY and CHANGES with more than 100 columns',
		map { wide($_, slurp("$ROOT/$_")) } qw(DESIGN SECURITY CHANGES));
	cmp_ok(($design =~ tr/\n//), '<=', 300, 'lines of DESIGN');
	cmp_ok(scalar @functions, '>', 400, 'functions found');
	none('functions with more than 60 lines',
		map { "$_->{file}:$_->{line} $_->{name} has $_->{lines} lines" }
		grep { $_->{lines} > 60 } @functions);
};

# ---- names ----

subtest 'every C file begins with its license, path and purpose' => sub {
	none('violations',
		grep { $text{$_} !~ m{^/\* SPDX-License-Identifier: ISC\n \*\n \* \Q$_\E - \S} } @c);
};

subtest 'a static name has one meaning' => sub {
	none('static functions with the same name in two files',
		map { my $name = $_; keys %{ $static{$name} } > 1 ? "$name: "
		. join(' ', sort keys %{ $static{$name} }) : () } keys %static);
	none('static functions with the name of a public one', map {
		my $name = $_;
		defined $defined{$name} ? map { "$name: $_ and $defined{$name}" }
			grep { $_ ne $defined{$name} } keys %{ $static{$name} } : ();
	} keys %static);
};

# Public names begin with the name of their file or directory. These prefixes are allowed as well.
my %prefix = (
	'wrapper.c' => ['main'],
	'log.c' => [qw(fail die bug)],           # used in every file (error.h), so they are short
	'net/stream.c' => [qw(deadline fd_stream)], # named after the types in stream.h
);

subtest 'a public name begins with the name of its file or directory' => sub {
	my %used;
	my @bad = grep {
		my ($name, $file) = ($_, $defined{$_});
		my ($room, $stem) = $file =~ m{^(?:([^/]+)/)?([^/]+)\.c$};
		my ($fit) = grep { $name =~ /^\Q$_\E(?:_|$)/ }
			grep { defined } $stem, $room, @{ $prefix{$file} || [] };
		$used{"$file $fit"} = 1 if defined $fit;
		!defined $fit;
	} keys %defined;
	none('violations', map { "$_: $defined{$_}" } @bad);
	none('unused exceptions', grep { !$used{$_} }
		map { my $file = $_; map { "$file $_" } @{ $prefix{$file} } } keys %prefix);
};

# ---- texts ----

subtest 'options: program, --help and manual agree' => sub {
	my $help = T::run([ $PGSSL, '--help' ])->{out};
	my %help = map { $_ => 1 } $help =~ /(?<![\w-])--([a-z][a-z-]+)/g;
	cmp_ok(scalar keys %help, '>', 10, '--help names options');
	my ($table) = $text{'options.c'}
		=~ /^(?:static const )?struct \w+(?: \{.*?^\})? \w+\[\] = \{\n(.*?)^\};/ms;
	my %program = map { $_ => 1 } ($table // '') =~ /"([a-z][a-z-]+)"/g;
	none('options in --help but not in options.c', grep { !$program{$_} } keys %help);
	my $manual = slurp("$ROOT/pgssl.8");
	$manual =~ s/^\.(?:Cm|Ic) \w+ Fl .*$//gm; # an option of another program
	my %manual = map { s/\\-/-/gr => 1 } $manual =~ /Fl (?:-|\\-)([a-z][a-z\\-]+)/g;
	none('options in --help but not in the manual', grep { !$manual{$_} } keys %help);
	none('options in the manual but not in --help', grep { !$help{$_} } keys %manual);
};

subtest 'the source refers to sections of DESIGN that exist' => sub {
	my @bad;
	for my $file (@c, 'Makefile') {
		my $text = $text{$file} // slurp("$ROOT/$file");
		while ($text =~ /\bDESIGN\b(?:,\s+(?:\*\s+)?"([^"]+)")?/g) {
			my ($name, $line) = ($1, line_of($text, $-[0]));
			# a list of files
			next if $file eq 'Makefile' && !defined $name
				&& (split /\n/, $text)[$line - 1] !~ /^#/;
			push @bad, "$file:$line "
				. ($name // 'names no section: write DESIGN, "Section"')
				unless defined $name && exists $section{lc $name};
		}
	}
	none('violations', @bad);
};

subtest 'every "must never" of DESIGN has a test' => sub {
	my @items = ($section{'must never happen'} // '')
		=~ /^ {4}(\S.*?)  +(t\/\S+(?:,? t\/\S+)*)$/gm;
	cmp_ok(scalar @items, '>=', 14, 'items found');
	while (my ($item, $tests) = splice @items, 0, 2) {
		none($item, grep { slurp("$ROOT/$_") !~ /never: \Q$item\E$/m } split /,?\s+/,
			$tests);
	}
};

subtest 'every test names its sabotage' => sub {
	my @fuzz = grep { !m{/replay\.c$} } glob "$ROOT/t/fuzz/*.c";
	none('tests without one', grep { slurp("$ROOT/$_") !~ /^(?:#| \*) sabotage: /m }
		map { s{^\Q$ROOT\E/}{}r } glob("$ROOT/t/*.t $ROOT/t/torture/*.t"), @fuzz);
	my @bad;
	for my $test (map { s{^\Q$ROOT\E/}{}r } @fuzz,
		glob("$ROOT/t/*.t $ROOT/t/torture/*.t $ROOT/t/unit_*.c $ROOT/t/proofs/*.c")) {
		for (slurp("$ROOT/$test") =~ /^(?:#| \*).*?\bsabotage: (.+?)\s*$/mg) {
			# As in t/sabotage: EXPRESSION FILE or FILE EXPRESSION.
			my ($expression, $file) = /^(.*) (\S+)$/ && -f "$ROOT/$2" ? ($1, $2)
				: /^(\S+) (.*)$/ && -f "$ROOT/$1" ? ($2, $1) : ();
			push(@bad, "$test: $_: file not found"), next unless defined $file;
			open my $sed, '-|', 'sed', '-e', $expression, "$ROOT/$file"
				or die "sed: $!\n";
			my $changed = do { local $/; <$sed> } // '';
			push @bad, "$test: $_: changes nothing"
				if !close $sed || $changed eq slurp("$ROOT/$file");
		}
	}
	none('sabotages that do not apply', @bad);
};

subtest 'the manual has no warnings' => sub {
	plan skip_all => 'no mandoc'
		if T::run([ 'sh', '-c', 'command -v mandoc' ], quiet => 1)->{status};
	is(T::run([ qw(mandoc -T lint -W warning), "$ROOT/pgssl.8" ])->{out}, '', 'mandoc -T lint');
};
done_testing;
