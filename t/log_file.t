# SPDX-License-Identifier: ISC
#
# -o FILE is opened as root. In a directory that others can write to, a link, a hard link or a FIFO
# may have been put there to make root write elsewhere: it was followed, unless the kernel's
# fs.protected_symlinks and the like forbade it. These do not cover the directories below but one.
# sabotage: s/return !is_trusted(dir->st_uid) ||/return false \&\&/ sandbox/path.c
use lib 't/lib';
use T;
use Cwd ();
use POSIX ();

needs(is_root(), 'root');

my ($uid, $gid) = (getpwnam 'nobody')[2, 3];
my $secret = spew("$TMP/secret", "secret\n");
my $reason = qr/in a directory that others can write to$/;

# A directory, with its owner, group and mode.
my $made = 0;
sub directory {
	my ($owner, $group, $mode) = @_;
	my $dir = "$TMP/logs" . ++$made;
	mkdir $dir or die "$dir: $!\n";
	chown $owner, $group, $dir;
	chmod $mode, $dir;
	return $dir;
}

# Start pgssl, which fails after it has opened the log.
sub start_logging {
	my ($file, %o) = @_;
	return run([ $PGSSL, '-d', free_port(), '-f', '-p', "$TMP/missing.pem", '-o', $file ], quiet => 1, %o);
}

sub logs {
	my ($file, $what, %o) = @_;
	my $r = start_logging($file, %o);
	is($r->{status}, 66, "$what is used") or diag($r->{err});
	return $r;
}

sub refused {
	my ($file, $pattern, $what) = @_;
	my $r = start_logging($file);
	is($r->{status}, 73, "$what is refused");
	like($r->{err}, qr/could not open log file "\Q$file\E": $pattern $reason/, 'the reason');
	is(slurp($secret), "secret\n", 'nothing is written');
}

# The links belong to the owner of the directory, whom fs.protected_symlinks trusts.
sub lchown {
	my ($path) = @_;
	my ($owner, $group) = (stat $path =~ s{/[^/]*$}{}r)[4, 5];
	T::run([ 'chown', '-h', "$owner:$group", $path ]);
}

my %shared = ('everybody, sticky' => [ 0, 0, 01777 ], 'everybody' => [ 0, 0, 0777 ],
	'a group' => [ 0, $gid, 0775 ], 'its owner' => [ $uid, $gid, 0755 ]);
for my $who (sort keys %shared) {
	subtest "a directory that can be written by $who" => sub {
		my $dir = directory(@{ $shared{$who} });
		symlink $secret, "$dir/link";
		lchown("$dir/link");
		refused("$dir/link", 'there is a link', 'a link');
		symlink "$TMP/new", "$dir/dangling";
		lchown("$dir/dangling");
		refused("$dir/dangling", 'there is a link', 'a link to nothing');
		ok(!-e "$TMP/new", '... and not created');
		symlink $TMP, "$dir/way";
		lchown("$dir/way");
		refused("$dir/way/secret", 'there is a link', 'a link on the way');
		symlink "$dir/link", "$TMP/to$made";
		refused("$TMP/to$made", 'there is a link', 'a link to a link there');
		link $secret, "$dir/hard";
		refused("$dir/hard", 'it is a hard link', 'a hard link');
		unlink "$dir/hard";
		POSIX::mkfifo("$dir/fifo", 0666);
		refused("$dir/fifo", 'it is not a regular file', 'a FIFO');
		open my $reader, '+<', "$dir/fifo" or die;
		refused("$dir/fifo", 'it is not a regular file', 'a FIFO with a reader');
		logs("$dir/log", 'a new file');
		logs("$dir/log", 'the same file again');
		is(() = slurp("$dir/log") =~ /missing\.pem/g, 2, 'two lines');
		is((stat "$dir/log")[2] & 07777, 0640, 'mode');
	};
}

subtest 'a file of somebody else in a directory of everybody' => sub {
	my $dir = directory(0, 0, 0777);
	chown $uid, $gid, spew("$dir/his", '');
	refused("$dir/his", "it is another user's file", 'it');
};

subtest 'a link that is put there while pgssl looks' => sub {
	my $dir = directory(0, 0, 0777);
	my $racer = fork // die;
	if (!$racer) {
		$SIG{TERM} = 'DEFAULT';
		for (my $n = 0;; $n = !$n) {
			$n ? symlink($secret, "$dir/next") : spew("$dir/next", '');
			rename "$dir/next", "$dir/log";
		}
	}
	T::at_end(sub { kill 'KILL', $racer });
	wait_for('the racer', sub { -e "$dir/log" });
	my %status;
	$status{ start_logging("$dir/log")->{status} }++ for 1 .. 40;
	kill 'KILL', $racer;
	waitpid $racer, 0;
	is(join(' ', grep { !/^(?:66|73)$/ } keys %status), '', 'each start logs or refuses');
	is(slurp($secret), "secret\n", 'nothing is written');
};

subtest 'a directory of root' => sub {
	my $dir = directory(0, 0, 0755);
	symlink "$dir/log", "$dir/absolute";
	symlink '../' . ($dir =~ s{.*/}{}r) . '/log', "$dir/relative";
	logs("$dir/absolute", 'a link to a new file');
	logs("$dir/relative", 'a relative link');
	logs("$dir/../" . ($dir =~ s{.*/}{}r) . '//log', 'a roundabout path');
	logs('log', 'a relative path', dir => $dir);
	is(() = slurp("$dir/log") =~ /missing\.pem/g, 4, 'all go to one file');
	link "$dir/log", "$dir/hard";
	logs("$dir/hard", 'a hard link');
	like(logs('/dev/stderr', '/dev/stderr')->{err}, qr/missing\.pem/, '... which gets the line');
	like(logs("/proc/self/cwd/log", 'a path through /proc', dir => $dir)->{err}, qr/^$/, 'no error');
	symlink 'loop', "$dir/loop";
	like(start_logging("$dir/loop")->{err}, qr/: Too many levels of symbolic links$/, 'a loop');
	like(start_logging("$dir/missing/log")->{err}, qr/: No such file or directory$/, 'a missing directory');
	like(start_logging("$dir/log/log")->{err}, qr/: Not a directory$/, 'a file as a directory');
	like(start_logging("$dir/" . 'x' x 256)->{err}, qr/: File name too long$/, 'a name that is too long');
	like(start_logging($dir)->{err}, qr/: Is a directory$/, 'a directory');
};

subtest 'a kernel without openat2()' => sub {
	plan skip_all => 'needs strace' if run([qw(strace -V)], quiet => 1)->{status};
	my $dir = directory(0, 0, 0777);
	my @wrap = (qw(strace -qq -e inject=openat2:error=ENOSYS -o), "$TMP/trace", $PGSSL);
	my $r = run([ @wrap, '-d', free_port(), '-f', '-p', "$TMP/missing.pem", '-o', "$dir/log" ], quiet => 1);
	is($r->{status}, 66, 'a file is used');
	like(slurp("$dir/log"), qr/missing\.pem/, 'it gets the line');
	like(slurp("$TMP/trace"), qr/ENOSYS.*INJECTED/, 'so it was');
};

subtest 'pgssl trusts the user who starts it' => sub {
	my $dir = directory($uid, $gid, 0755);
	symlink "$dir/log", "$dir/link";
	logs("$dir/link", 'a link in its own directory', user => 'nobody');
};
done_testing;
