# SPDX-License-Identifier: ISC
#
# T::Handshake - many TLS handshakes in little time: `openssl s_server` to compare with, and t/bin/handshakes as the client of both.
package T::Handshake;

use strict;
use warnings;
use Exporter 'import';
use T ();

our @EXPORT = qw(openssl_list s_server handshakes in_parallel conf_file);

# What `openssl COMMAND...` prints, cut into names; () if this version does not know the command.
sub openssl_list {
	my (@command) = @_;
	my $r = T::run([ 'openssl', @command ], quiet => 1);
	return $r->{status} ? () : grep { length } split /[:\s]+/, $r->{out};
}

# A file in the place of openssl.cnf: what its initial section has, and further sections. Gives the environment that names it.
my $files = 0;

sub conf_file {
	my ($init, $sections) = @_;
	return { OPENSSL_CONF => T::spew("$T::TMP/openssl" . ++$files . '.cnf', "openssl_conf = init\n[init]\n$init\n$sections\n") };
}

# Shell commands, some at a time. Whether one worked shows in the files that it was to make.
sub in_parallel {
	my (@commands) = @_;
	T::run([ qw(xargs -d \n -n 1 -P 4 sh -c), 'eval "$1" 2>&1', 'sh' ], stdin => join('', map { "$_\n" } @commands), quiet => 1);
}

# `openssl s_server` that answers each client with a page. Options are those of T::spawn; listening => 0: do not wait for it.
sub s_server {
	my ($args, %o) = @_;
	my $self = bless { port => T::free_port() }, 'T::Serve';
	$self->{pid} = T::spawn(%o, cmd => [ qw(openssl s_server -www -quiet -accept), "127.0.0.1:$self->{port}", @$args ]);
	return defined $o{listening} && !$o{listening} ? $self : $self->wait_port;
}

# One handshake for each line of t/bin/handshakes; gives its answers in the same order. Of many, two processes do half each.
sub handshakes {
	my (@lines) = @_;
	my $processes = @lines > 20 ? 2 : 1;
	my (@pids, @part, @answers);
	for my $i (0 .. $processes - 1) {
		$part[$i] = [ grep { $_ % $processes == $i } 0 .. $#lines ];
		T::spew("$T::TMP/handshakes$i.in", join '', map { "$lines[$_]\n" } @{ $part[$i] });
		push @pids, T::spawn(cmd => ["$T::ROOT/t/bin/handshakes"], in => "$T::TMP/handshakes$i.in", out => "$T::TMP/handshakes$i.out", env => { OPENSSL_CONF => '/dev/null' });
	}
	for my $i (0 .. $processes - 1) {
		die "t/bin/handshakes failed\n" if T::wait_exit($pids[$i], 300);
		@answers[ @{ $part[$i] } ] = split /\n/, T::slurp("$T::TMP/handshakes$i.out");
	}
	return @answers;
}

1;
