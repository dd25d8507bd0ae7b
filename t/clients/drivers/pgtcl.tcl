# SPDX-License-Identifier: ISC
package require Pgtcl
fconfigure stdout -encoding utf-8 -buffering line

proc connect {} { return [pg_connect -conninfo ""] }
proc state {result} { return [pg_result $result -error sqlstate] }
proc value {c sql} { return [pg_result [pg_exec $c $sql] -getTuple 0] }

proc connected {c} { return [value $c "select current_user"] }

# Pgtcl cannot send a null.
proc parameters {c} {
	pg_exec $c "prepare s as select \$1::text, \$2::int, nullif(\$3::text, '')"
	set r [pg_exec_prepared $c s "käse 'x'" 42 ""]
	pg_result $r -null_value_string NULL
	return [join [pg_result $r -getTuple 0] |]
}

proc rows {c} {
	set n 0
	set bytes 0
	pg_select $c "select repeat(md5(i::text), 320) as v from generate_series(1, 10000) i" row {
		incr n
		incr bytes [string length $row(v)]
	}
	return "$n rows, $bytes bytes"
}

proc copy {c} {
	pg_exec $c "create temp table t (a int, b text)"
	pg_exec $c "copy t from stdin"
	for {set i 0} {$i < 10000} {incr i} { puts $c "$i\tline $i" }
	puts $c "\\."
	flush $c
	pg_exec $c "copy (select * from t order by a) to stdout"
	set n 0
	while {[gets $c line] >= 0} {
		incr n
		set last $line
	}
	return "$n lines, last $last"
}

proc error_ {c} {
	return "[state [pg_exec $c "select 1/0"]] then [value $c "select 1"]"
}

proc notify {c} {
	proc notified {channel pid payload} { set ::got "$channel $payload" }
	pg_listen $c c notified
	pg_exec [connect] "notify c, 'hello'"
	vwait ::got
	return $::got
}

# A request that comes before the query has no effect: repeat it.
proc cancel {c} {
	pg_sendquery $c "select pg_sleep(60)"
	while {[pg_isbusy $c]} {
		pg_cancelrequest $c
		after 100
	}
	return [state [pg_getresult $c]]
}

proc many {c} {
	for {set i 0} {$i < 50} {incr i} { lappend all [connect] }
	foreach c $all { set pid([value $c "select pg_backend_pid()"]) 1 }
	return [array size pid]
}

foreach check $argv {
	set name [string map {error error_} $check]
	if {[catch {$name [connect]} result]} {
		set result "failed: [join [split $result "\n"]]"
	}
	puts "$check $result"
}
