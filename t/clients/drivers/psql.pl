# SPDX-License-Identifier: ISC
# psql, with its own commands.
use strict;
use warnings;
use IPC::Open3;

my @psql = qw(psql -XAtq -v VERBOSITY=verbose);

# Run psql on a script; returns its output, both descriptors together.
sub psql {
	my ($script, @options) = @_;
	my $pid = open3(my $in, my $out, undef, @psql, @options);
	local $SIG{PIPE} = 'IGNORE';
	print $in $script;
	close $in;
	local $/;
	my $text = <$out>;
	waitpid $pid, 0;
	return $text =~ s/\n$//r;
}

my $sleeping = "select count(*) from pg_stat_activity where state = 'active' and query = 'select pg_sleep(60)'";
my %check = (
	connected => sub { psql('select current_user') },
	parameters => sub {
		psql("select :'a'::text, :b::int, nullif(:'a', :'a')", '-P', 'null=NULL', '-v', "a=käse 'x'", '-v', 'b=42');
	},
	rows => sub {
		my @all = split /\n/, psql('select repeat(md5(i::text), 320) from generate_series(1, 10000) i');
		@all . ' rows, ' . length(join '', @all) . ' bytes';
	},
	copy => sub {
		my $lines = join '', map { "$_\tline $_\n" } 0 .. 9999;
		my @out = split /\n/, psql("create temp table t (a int, b text);\n\\copy t from stdin\n$lines\\.\n\\copy (select * from t order by a) to stdout\n");
		@out . " lines, last $out[-1]";
	},
	error => sub {
		psql("select 1/0;\nselect 1;\n") =~ /ERROR:  (\w{5}).*\n(\d)\z/s ? "$1 then $2" : 'no match';
	},
	notify => sub {
		psql("listen c;\n\\! psql -Xqc \"notify c, 'hello'\"\nselect 1;\n") =~ /notification "(.*?)" with payload "(.*?)"/
			? "$1 $2" : 'no match';
	},
	cancel => sub {
		my $pid = open3(my $in, my $out, undef, @psql, '-c', 'select pg_sleep(60)');
		1 until psql($sleeping);
		kill 'INT', $pid;
		join('', <$out>) =~ /ERROR:  (\w{5})/ ? $1 : 'no match';
	},
	many => sub {
		my %pid;
		my @all = map { open3(my $in, my $out, undef, @psql, '-f', '-'); [ $in, $out ] } 1 .. 50;
		$_->[0]->autoflush(1), print { $_->[0] } "select pg_backend_pid();\n" for @all;
		$pid{ readline $_->[1] } = 1 for @all;
		scalar keys %pid;
	},
);

$| = 1;
for my $name (@ARGV) {
	my $failed = psql('select 1') =~ s/^1$//r; # an error of the connection
	print "$name ", $failed ? 'failed: ' . join ' ', split ' ', $failed : $check{$name}->(), "\n";
}
