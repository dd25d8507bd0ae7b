#!/usr/bin/perl
# SPDX-License-Identifier: ISC
#
# `make install` and `make uninstall`: what goes where, that the installed texts name the installed
# paths, and that a site's own files are never touched.
# sabotage: Makefile s/rm -f '$(DESTDIR)$(SBINDIR)\/pgssl'/rm -f/
use strict;
use warnings;
use Test::More;
use File::Temp qw(tempdir);
use File::Find;
use Cwd qw(getcwd);

my $top = getcwd();
my $root = tempdir(CLEANUP => 1);
plan skip_all => 'pgssl is not built' unless -x "$top/pgssl";

# -o pgssl: do not rebuild the program, since other tests use it at the same time.
sub make
{
	my @args = @_;
	my $pid = open(my $out, '-|') // die "fork: $!";
	if ($pid == 0) {
		open STDERR, '>&', \*STDOUT;
		delete @ENV{qw(MAKEFLAGS MAKELEVEL MFLAGS)};
		umask 077;
		exec 'make', '-s', '-C', $top, '-o', 'pgssl', @args or exit 127;
	}
	local $/;
	my $text = <$out> // '';
	close $out;
	my $what = "make @args" =~ s/\Q$root\E/ROOT/gr;
	is $? >> 8, 0, $what or diag $text;
	is $text, '', "$what prints nothing"; # uninstall printed an error from rmdir
	return;
}

sub files
{
	my ($dir) = @_;
	my %mode;
	my $wanted = sub { $mode{$_ =~ s/^\Q$dir\E//r} = sprintf '%04o', (lstat)[2] & 07777 if -f };
	find({no_chdir => 1, wanted => $wanted}, $dir);
	return \%mode;
}

sub slurp { open my $f, '<', shift or return ''; local $/; return scalar <$f> }

my @examples = qw(services.example inetd.conf.example xinetd.d/pgssl xinetd.d/pgssl-wait xinetd.d/pgssl-client apparmor/usr.local.sbin.pgssl);
my @lib = qw(systemd/system/pgssl.socket systemd/system/pgssl@.service systemd/system/pgssl-wait.socket systemd/system/pgssl-wait.service sysusers.d/pgssl.conf tmpfiles.d/pgssl.conf);

# The default paths, below DESTDIR. The umask of 077 must have no effect.
my $dest = "$root/dest with blank";
make('install', "DESTDIR=$dest");
is_deeply files($dest), {
	'/usr/local/sbin/pgssl' => '0755',
	'/usr/local/share/man/man8/pgssl.8' => '0644',
	(map { ("/usr/local/lib/$_" => '0644') } @lib),
	map { ("/usr/local/share/doc/pgssl/$_" => '0644') } qw(README DESIGN SECURITY CHANGES LICENSE),
		map { "examples/$_" } @examples,
}, 'program, manual, texts and examples are installed, and nothing else';
ok -d "$dest/etc/pgssl", 'a directory for the certificate';
is slurp("$dest/usr/local/sbin/pgssl"), slurp("$top/pgssl"),
	'the installed program is the one that was built';

# Other directories: every path is adapted.
my @vars = ("DESTDIR=$root/other", 'PREFIX=/opt/pg', 'SYSCONFDIR=/opt/conf');
make('install', @vars);
my $doc = "$root/other/opt/pg/share/doc/pgssl";
for my $file (qw(README DESIGN SECURITY CHANGES), (map { "examples/$_" } @examples), map { "../../../lib/$_" } @lib) {
	my $text = slurp("$doc/$file");
	ok length $text, "$file is installed";
	is join(' ', $text =~ m{(/usr/local\S*|/etc/pgssl\S*)}g), '',
		'... and names no default path';
}
for my $file ('inetd.conf.example', 'xinetd.d/pgssl', map { "../../../../lib/systemd/system/$_" } 'pgssl@.service', 'pgssl-wait.service') {
	my $text = slurp("$doc/examples/$file");
	like $text, qr{/opt/pg/sbin/pgssl\s}, "$file has the program's path";
	like $text, qr{-p /opt/conf/pgssl/pgssl\.pem -r 5432}, '... and the certificate\'s path';
}
like slurp("$root/other/opt/pg/share/man/man8/pgssl.8"), qr{/opt/conf/pgssl/pgssl\.pem},
	'the manual has the certificate\'s path';

# A second install, and an uninstall, keep what the site put there.
mkdir "$root/other/etc" or die;
for my $mine ("$root/other/opt/conf/pgssl/pgssl.pem", "$doc/mine") {
	open my $f, '>', $mine or die "$mine: $!";
	print $f "mine\n";
	close $f;
}
make('install', @vars);
is slurp("$root/other/opt/conf/pgssl/pgssl.pem"), "mine\n",
	'a second install does not touch the key';
make('uninstall', @vars);
my $left = files("$root/other");
is_deeply $left, {map { $_ => $left->{$_} } '/opt/conf/pgssl/pgssl.pem',
	'/opt/pg/share/doc/pgssl/mine'},
	'uninstall keeps the site\'s files and no others';
make('uninstall', "DESTDIR=$dest");
is_deeply files($dest), {}, 'uninstall removes every file';
ok -d "$dest/usr/local/lib/systemd/system", '... and no directory of systemd';
ok !-e "$dest/etc/pgssl", '... and the empty directory for the certificate';
make('uninstall', "DESTDIR=$dest");

done_testing;
