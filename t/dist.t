# SPDX-License-Identifier: ISC
#
# The version stands in one place, `make dist` makes the same tarball of the same commit whenever
# and wherever it runs, the tarball has what make needs, and the completion for bash knows what
# --help knows. t/check-packages builds, installs and removes the packages.
# sabotage: Makefile s/^VERSION = .*/VERSION = 9.9/
# sabotage: contrib/dist s/ --mode=u=rwX,go=rX//
# sabotage: contrib/dist s/--mtime="@$date" //
# sabotage: contrib/dist s/^\tsed -i "s.^VERSION.*/:/
# sabotage: contrib/completion/pgssl.bash s/USER)/OWNER)/
use lib 't/lib';
use T;
use File::Find qw(find);

my ($version) = slurp("$ROOT/Makefile") =~ /^VERSION = (\S+)$/m;
my ($newest) = slurp("$ROOT/CHANGES") =~ /^(\d[\d.]*)(?: \(unreleased\))?$/m;
is($newest, $version, 'the newest section of CHANGES is that of the version in the Makefile');
is((split ' ', T::run([ $PGSSL, '-V' ])->{out})[1], $version, 'pgssl -V');

sub dist {
	my ($tree, $umask, %env) = @_;
	my $r = T::run([ 'sh', '-c', "umask $umask; cd '$tree' && contrib/dist 7.8" ], env => { %env });
	is($r->{out}, "build/pgssl-7.8.tar.gz\n", "make dist with umask $umask") or return '';
	return slurp("$tree/build/pgssl-7.8.tar.gz");
}

sub unpack_dist {
	my ($tree) = @_;
	is(T::run([ qw(tar -xzf), "$tree/build/pgssl-7.8.tar.gz", '-C', $TMP ])->{status}, 0, 'tar');
	return "$TMP/pgssl-7.8";
}

# A copy of the sources, also where this tree is not from git.
my $tree = "$TMP/tree";
mkdir $tree;
my @files;
find({ no_chdir => 1, wanted => sub {
	my $name = s{^\Q$ROOT\E/?}{}r;
	return $File::Find::prune = 1 if $name =~ m{^(?:\.git|build|t/bin|bench/out)$};
	push @files, $name if -f && $name !~ m{\.[od]$|^pgssl$|^contrib/debian/changelog$|^MANIFEST$};
} }, $ROOT);
spew("$tree/MANIFEST", join '', map { "$_\n" } sort @files, 'MANIFEST');
T::run([ 'sh', '-c', "grep -vx MANIFEST '$tree/MANIFEST' | tar -cf - -C '$ROOT' -T - | tar -xf - -C '$tree'" ])->{status} == 0 or die "copy failed\n";
utime 1e9, 1e9, "$tree/MANIFEST";

subtest 'the tarball depends on nothing but the tree and its date' => sub {
	my $first = dist($tree, '022');
	my $unpacked = unpack_dist($tree);
	T::run([ 'chmod', '-R', 'g-rwx,o-rwx', $unpacked ]);
	utime 1.1e9, 1.1e9, grep { -f && !/MANIFEST$/ } glob "$unpacked/* $unpacked/*/*";
	ok($first eq dist($unpacked, '077', TZ => 'Asia/Tokyo', LC_ALL => 'C.UTF-8'), 'a tarball of an unpacked tarball is the same');
	my $git = 'git -c user.name=a -c user.email=a@example.org';
	my $r = T::run([ 'sh', '-ec', "cd '$tree'; rm MANIFEST; git init -q; git add .; $git commit -qm x" ],
		env => { GIT_COMMITTER_DATE => '1000000000 +0900', HOME => $TMP }, quiet => 1);
	plan skip_all => 'no git' if $r->{status};
	spew("$tree/README", 'not committed');
	ok($first eq dist($tree, '000'), 'and so is that of a commit');
};

subtest 'the tarball' => sub {
	my $dir = "$TMP/pgssl-7.8";
	my $r = T::run([ 'make', '-n', '-C', $dir, 'all', 'units' ], env => { MAKEFLAGS => undef, MAKELEVEL => undef, MFLAGS => undef });
	is($r->{status}, 0, 'make has all that it needs');
	like($r->{out}, qr/-DVERSION='"7\.8"'/, '... and the version of the tarball');
	like(slurp("$dir/contrib/debian/changelog"), qr/^pgssl \(7\.8\) unstable; .*^ -- .*>  Sun, 09 Sep 2001 01:46:40 \+0000$/ms, 'so has the changelog for Debian');
	like(slurp("$dir/contrib/rpm/pgssl.spec"), qr/^Version:\s+7\.8\n.*^%changelog\n\* Sun Sep 09 2001 .* - 7\.8-1$/ms, 'and the RPM spec');
	is_deeply([ split /\n/, slurp("$dir/MANIFEST") ], [ sort @files, 'MANIFEST', 'contrib/debian/changelog' ], 'MANIFEST');
};

# What bash would offer for these words, the last of which is being typed.
sub completions {
	my (@words) = @_;
	my $r = T::run([ 'bash', '-c', <<'EOS', 'bash', "$ROOT/contrib/completion/pgssl.bash", $PGSSL, @words ]);
source "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_pgssl "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\n' "${COMPREPLY[@]}"
EOS
	return join ' ', sort split /\n/, $r->{out};
}

subtest 'completion for bash' => sub {
	my $help = T::run([ $PGSSL, '--help' ])->{out};
	my @options = map { /^ +(?:-\w, )? *(--[\w-]+=?)/ ? $1 : () } split /\n/, $help;
	cmp_ok(scalar @options, '>', 40, 'options in --help');
	is(completions('--'), join(' ', sort @options), 'all of them are offered');
	like(completions(''), qr/ -A -C -D -I .* -s$/, '... and the letters');
	is(completions('--sslm'), '--sslmode=', 'a part of one');
	is(completions('--sslmode', '=', 'verify-'), 'verify-ca verify-full', 'a choice');
	is(completions('--sslmode', '='), 'require verify-ca verify-full', 'all choices');
	is(completions('-p', "$tree/Make"), "$tree/Makefile", 'a file');
	is(completions('--sessions', '=', "$tree/sess"), "$tree/session", 'a directory');
	is(completions('--user', '=', 'roo'), 'root', 'a user');
	is(completions('--grace', '=', ''), '', 'nothing for a number');
};
done_testing;
