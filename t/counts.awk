# SPDX-License-Identifier: ISC
#
# Line counts in README's reading order: "    wrapper.c    about 120 lines   the ten steps".
# mode=write prints README with the numbers updated, rounded to ten; mode=check fails if a number is
# wrong by more than a tenth (and ten lines).

function lines_of(file,    n, line, got)
{
	n = 0
	while ((got = (getline line < file)) > 0)
		n++
	close(file)
	return got < 0 ? -1 : n
}

/^ +[a-z_\/]+\.[ch] +about +[0-9]+ lines/ {
	seen++
	n = lines_of($1)
	if (n < 0) {
		printf "README: there is no file %s\n", $1 > "/dev/stderr"
		bad = 1
	} else if (mode == "write") {
		sub(/about +[0-9]+ lines/, sprintf("about %3d lines", int((n + 5) / 10) * 10))
	} else {
		off = n > $3 ? n - $3 : $3 - n
		if (off > 10 && off > n / 10) {
			printf "README: %s has %d lines, not about %d: run make counts\n", $1, n, $3 > "/dev/stderr"
			bad = 1
		}
	}
}
mode == "write" { print }
END {
	if (seen < 5) {
		print "README: the reading order names fewer than five files" > "/dev/stderr"
		bad = 1
	}
	exit bad
}
