#!/usr/bin/perl
# SPDX-License-Identifier: ISC
#
# make install and uninstall: what goes where, that the installed texts name the installed paths, and that a site's files are never touched.
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

# -o pgssl: as it is built now, so that tests may run beside each other.
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
	is $? >> 8, 0, "make @args" =~ s/\Q$root\E/ROOT/gr or diag $text;
	return;
}

sub files
{
	my ($dir) = @_;
	my %mode;
	find({no_chdir => 1, wanted => sub { $mode{$_ =~ s/^\Q$dir\E//r} = sprintf '%04o', (lstat)[2] & 07777 if -f }}, $dir);
	return \%mode;
}

sub slurp { open my $f, '<', shift or return ''; local $/; return scalar <$f> }

my @examples = qw(services.example inetd.conf.example xinetd.d/pgssl systemd/pgssl.socket systemd/pgssl@.service xinetd.d/pgssl-client
	systemd/pgssl.sysusers apparmor/usr.local.sbin.pgssl);

# The default places, below DESTDIR; the umask is 077 and must not matter.
my $dest = "$root/dest with blank";
make('install', "DESTDIR=$dest");
is_deeply files($dest), {
	'/usr/local/sbin/pgssl' => '0755',
	'/usr/local/share/man/man8/pgssl.8' => '0644',
	map { ("/usr/local/share/doc/pgssl/$_" => '0644') } qw(README DESIGN SECURITY CHANGES LICENSE), map { "examples/$_" } @examples,
}, 'program, manual, texts and examples, and nothing else';
ok -d "$dest/etc/pgssl", 'a directory for the certificate';
is slurp("$dest/usr/local/sbin/pgssl"), slurp("$top/pgssl"), 'the program is the one that was built';

# Somewhere else: every path follows.
my @vars = ("DESTDIR=$root/other", 'PREFIX=/opt/pg', 'SYSCONFDIR=/opt/conf');
make('install', @vars);
my $doc = "$root/other/opt/pg/share/doc/pgssl";
for my $file (qw(README DESIGN SECURITY CHANGES), map { "examples/$_" } @examples) {
	my $text = slurp("$doc/$file");
	ok length $text, "$file is there";
	is join(' ', $text =~ m{(/usr/local\S*|/etc/pgssl\S*)}g), '', '... and names no path of another installation';
}
for my $file (@examples[1, 2, 4]) {
	my $text = slurp("$doc/examples/$file");
	like $text, qr{/opt/pg/sbin/pgssl\s}, "$file has the program's place";
	like $text, qr{-p /opt/conf/pgssl/pgssl\.pem -r 5432}, '... and the certificate\'s';
}
like slurp("$root/other/opt/pg/share/man/man8/pgssl.8"), qr{/opt/conf/pgssl/pgssl\.pem}, 'so does the manual';

# A second install and an uninstall leave what the site put there.
mkdir "$root/other/etc" or die;
for my $mine ("$root/other/opt/conf/pgssl/pgssl.pem", "$doc/mine") {
	open my $f, '>', $mine or die "$mine: $!";
	print $f "mine\n";
	close $f;
}
make('install', @vars);
is slurp("$root/other/opt/conf/pgssl/pgssl.pem"), "mine\n", 'the key is not touched by a second install';
make('uninstall', @vars);
is_deeply files("$root/other"), {'/opt/conf/pgssl/pgssl.pem' => files("$root/other")->{'/opt/conf/pgssl/pgssl.pem'},
	'/opt/pg/share/doc/pgssl/mine' => files("$root/other")->{'/opt/pg/share/doc/pgssl/mine'}}, 'uninstall leaves the site\'s files and no other';
make('uninstall', "DESTDIR=$dest");
is_deeply files($dest), {}, 'uninstall leaves no file';
ok !-e "$dest/etc/pgssl", '... and no empty directory for the certificate';
make('uninstall', "DESTDIR=$dest");

done_testing;
