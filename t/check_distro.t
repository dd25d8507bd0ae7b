# SPDX-License-Identifier: ISC
#
# t/check-distro with a fake debootstrap: which mirror it uses, and that it leaves nothing behind,
# however it ends. `make check-distro` runs it for real.
# sabotage: t/check-distro s/'Origin: Debian' //
# sabotage: t/check-distro s/'Label: Debian' //
# sabotage: t/check-distro s/setpriv --pdeathsig KILL //
# sabotage: t/check-distro s/	rm -rf --one-file-system/	true/
# sabotage: t/check-distro s/ --kill-child//
use lib 't/lib';
use T;
use File::Path qw(remove_tree);

needs(is_root() && !T::run([qw(unshare --mount --pid --ipc --fork true)], quiet => 1)->{status},
	'root and namespaces');
needs(-x '/usr/bin/apt-get', 'apt');
my $script = "$ROOT/t/check-distro";
mkdir "$TMP/$_" for qw(roots apt lists lists/partial);
spew("$TMP/running", '');

subtest 'an invalid release' => sub {
	for my $case ([], [''], ['wheezy'], ['../trixie'], [ 'trixie', ARCH => 'mips' ]) {
		my ($distro, %arch) = @$case;
		my $r = T::run([ $script, $distro // () ], env => \%arch, quiet => 1);
		is($r->{status}, 64, "@$case: EX_USAGE");
		like($r->{err},
			qr/^\S+: unknown (?:distribution|architecture) ".*"; usage: make check-distro DISTRO=bookworm\|trixie\|sid\|experimental \[ARCH=arm64\]$/,
			'one line');
	}
	my $r = T::run([ 'bash', '-s', 'trixie' ], stdin => slurp($script), user => 'nobody',
		quiet => 1);
	is($r->{status}, 77, 'as another user than root: EX_NOPERM');
	like($r->{err}, qr/needs root/, 'with the reason');
};
# Run the script with our apt sources and debootstrap. $as is the shell code of debootstrap, whose
# arguments are OPTION... SUITE ROOT MIRROR.
sub check_distro {
	my ($as) = @_;
	spew("$TMP/bin/debootstrap", "#!/bin/sh\necho \"\$*\" >$TMP/arguments\n$as\n", 0755);
	spew("$TMP/apt.conf",
		qq(Dir::Etc::sourcelist "$TMP/apt/sources.list";\nDir::Etc::sourceparts "$TMP/apt";\nDir::State::lists "$TMP/lists";\nDir::Cache "$TMP/cache";\n));
	unlink "$TMP/arguments";
	return spawn(cmd => [ $script, 'trixie' ],
		env => { PATH => "$TMP/bin:$ENV{PATH}", APT_CONFIG => "$TMP/apt.conf",
		TMPDIR => "$TMP/roots" });
}

# Write the files that `apt-get update` would have left for a source.
my $architecture = `dpkg --print-architecture` =~ s/\n//r;

sub release {
	my ($uri, $suite, $origin, $label) = @_;
	my $list = "$TMP/lists/" . "$uri/dists/$suite/" =~ s{^https?://}{}r =~ tr{/}{_}r;
	spew("${list}Release", "Origin: $origin\nLabel: $label\nSuite: $suite\nCodename: $suite\n");
	spew("${list}main_binary-${architecture}_Packages", '');
}

sub mirror { return (split ' ', slurp("$TMP/arguments"))[-1] }

subtest "the mirror is the main archive's, in both formats of apt sources" => sub {
	release('http://vendor.test/apt', 'bookworm', 'Vendor', 'Debian');
	release('http://security.test/debian-security', 'bookworm-security', 'Debian',
		'Debian-Security');
	release('http://mirror.test/debian', 'bookworm', 'Debian', 'Debian');
	my $others = "deb http://vendor.test/apt bookworm main\n# deb http://old.test/debian bookworm main\ndeb http://security.test/debian-security bookworm-security main\n";
	spew("$TMP/apt/sources.list",
		"${others}deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.test/debian bookworm main contrib\n");
	is(wait_exit(check_distro('exit 3')) >> 8, 3, "debootstrap's status");
	is(mirror(), 'http://mirror.test/debian/', 'sources.list');
	spew("$TMP/apt/sources.list", $others);
	spew("$TMP/apt/debian.sources",
		"Types: deb deb-src\nURIs: http://mirror.test/debian\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n");
	is(wait_exit(check_distro('exit 3')) >> 8, 3, "debootstrap's status");
	is(mirror(), 'http://mirror.test/debian/', 'debian.sources');
	is_deeply([ glob "$TMP/roots/*" ], [], 'a root that could not be made is removed');
};

# Processes with our marker in their command line, in any namespace.
sub running { return grep { slurp($_) =~ /\0\Q$TMP\E\/running\0/ } glob '/proc/[0-9]*/cmdline' }
sub mounts { return grep { m{\Q$TMP\E/roots} } split /\n/, slurp('/proc/self/mountinfo') }

for my $signal (qw(INT TERM HUP KILL)) {
	subtest "ended by $signal" => sub {
		my $pid = check_distro(qq(root=\$(echo "\$*" | awk '{ print \$(NF - 1) }')\nmount -t tmpfs tmpfs "\$root"\nsetsid tail -f /dev/null $TMP/running 2>/dev/null &\ntail -f /dev/null $TMP/running 2>/dev/null));
		wait_for('debootstrap to run', sub { running() == 2 });
		is_deeply([ mounts() ], [], 'no mount is visible outside');
		kill $signal, $pid;
		my $status = wait_exit($pid);
		is($status, $signal eq 'KILL' ? 9
			: { INT => 130, TERM => 143, HUP => 129 }->{$signal} << 8, 'status');
		wait_for('its processes to end', sub { !running() }) if $signal eq 'KILL';
		is_deeply([ running() ], [], 'no process is left');
		my @roots = glob "$TMP/roots/*";
		is(scalar @roots, $signal eq 'KILL' ? 1 : 0,
			'no root is left, except after SIGKILL');
		remove_tree(@roots);
	};
}
done_testing;
