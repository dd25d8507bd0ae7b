#!/bin/sh
# SPDX-License-Identifier: ISC
#
# demo.sh: the newcomer's one command, called by `make demo`. Installs what is missing (Debian), builds, makes a certificate,
# starts a throw-away PostgreSQL and a private xinetd that serves the shipped xinetd.d/pgssl, connects psql with
# sslmode=verify-full, and stops and removes all of it. KEEP=1 leaves it running. Everything lives in one temporary folder and
# listens on 127.0.0.1 only; no file of the system is changed but by apt-get.

set -eu
cd "$(dirname "$0")/.."
PACKAGES='gcc libc6-dev make pkg-config libssl-dev libbsd-dev openssl postgresql postgresql-client xinetd'
POLICY=/usr/sbin/policy-rc.d
dir='' policy_is_ours='' kept='' running_xinetd=''

step() { printf '\n== %s\n' "$*"; }
say() { printf '   %s\n' "$*"; }
die() {
	printf 'demo: %s\n' "$*" >&2
	exit 1
}

# PostgreSQL's programs are not on the PATH on Debian; take the newest.
find_pg_bin() {
	for d in $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -rV) $(dirname "$(command -v initdb || echo /)"); do
		[ -x "$d/initdb" ] && [ -x "$d/pg_ctl" ] && echo "$d" && return
	done
	return 0
}

# The names of the packages that are missing; judged by what is there, so that it works on other systems too.
missing() {
	have() { command -v "$1" >/dev/null; }
	have cc && echo '#include <stdio.h>' | cc -E - >/dev/null 2>&1 || echo gcc libc6-dev
	have pkg-config || echo pkg-config
	have pkg-config && pkg-config --atleast-version=3.0 libssl 2>/dev/null || echo libssl-dev
	have pkg-config && pkg-config --exists libbsd-overlay || echo libbsd-dev
	have openssl || echo openssl
	[ -n "$(find_pg_bin)" ] || echo postgresql
	have psql || echo postgresql-client
	PATH=$PATH:/usr/sbin have xinetd || echo xinetd
}

# A fresh install of postgresql or xinetd would start them, now and at every boot. policy-rc.d says no to the first while apt-get
# runs (it is removed at once, and one that was there before is left alone); disable_service says no to the second.
install_packages() {
	if [ ! -e $POLICY ]; then
		printf '#!/bin/sh\n# Put here by the demo of pgssl while it installs packages.\nexit 101\n' >$POLICY
		chmod 755 $POLICY
		policy_is_ours=yes
	fi
	apt-get update -q >"$dir/apt.log" 2>&1 || { tail -n 3 "$dir/apt.log"; say "(apt-get update failed; trying all the same)"; }
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@" >>"$dir/apt.log" 2>&1 || {
		tail -n 15 "$dir/apt.log"
		die "apt-get could not install: $*"
	}
	remove_policy
	for service in postgresql xinetd; do
		case " $* " in *" $service "*) ;; *) continue ;; esac
		disable_service $service
	done
}

disable_service() {
	if command -v systemctl >/dev/null; then
		systemctl disable "$1" >/dev/null 2>&1 || true
		say "the service $1 was not started, now or at boot: systemctl enable --now $1 does that"
	else
		update-rc.d "$1" disable >/dev/null 2>&1 || true
		say "the service $1 was not started, now or at boot: update-rc.d $1 enable; service $1 start does that"
	fi
}

remove_policy() {
	[ -z "$policy_is_ours" ] || rm -f $POLICY
	policy_is_ours=''
}

free_port() {
	perl -MIO::Socket::INET -e '
		my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => 0, Listen => 1) or die "no free port: $!\n";
		print $s->sockport'
}

# Wait until a condition holds, looking every 50 ms, at most 20 s.
wait_for() {
	tries=400
	while ! "$@"; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || return 1
		sleep 0.05
	done
}
listening() { grep -qi "0100007F:$(printf %04X "$1") 00000000:0000 0A" /proc/net/tcp; }
logged() { grep -q "$1" "$dir/pgssl.log" 2>/dev/null; }

write_stop() {
	cat >"$dir/stop" <<END
#!/bin/sh
# Stops what the demo of pgssl left running and removes its folder.
[ ! -f '$dir/xinetd.pid' ] || kill -TERM "\$(cat '$dir/xinetd.pid')"
[ ! -f '$dir/data/postmaster.pid' ] || runuser -u postgres -- '$pg_bin/pg_ctl' -D '$dir/data' -m fast -w stop >/dev/null
cd / && rm -rf '$dir'
END
}

finish() {
	status=$?
	trap - EXIT HUP INT TERM
	remove_policy
	[ -z "$kept" ] || exit $status
	if [ $status -ne 0 ] && [ -n "$dir" ]; then
		for f in build.log postgresql.log xinetd.log pgssl.log; do
			[ ! -s "$dir/$f" ] || { echo "-- the end of $f"; tail -n 10 "$dir/$f"; }
		done >&2
	fi
	[ ! -f "$dir/stop" ] || sh "$dir/stop" || true
	if [ -n "$running_xinetd" ]; then
		kill "$running_xinetd" 2>/dev/null || true
		wait "$running_xinetd" 2>/dev/null || true
	fi
	[ -z "$dir" ] || rm -rf "$dir"
	[ $status -ne 0 ] || say "stopped; nothing is left running and the folder is gone"
	exit $status
}

start_postgresql() {
	install -d -o postgres -g postgres -m 700 "$dir/data"
	printf '%s\n' "$PGPASSWORD" >"$dir/password"
	chown postgres "$dir/password"
	install -o postgres -m 600 /dev/null "$dir/postgresql.log"
	(cd / && runuser -u postgres -- "$pg_bin/initdb" -D "$dir/data" -U demo --pwfile="$dir/password" \
		--auth=scram-sha-256 -E UTF8 --locale=C --no-sync >>"$dir/postgresql.log" 2>&1) || die "initdb failed"
	cat >>"$dir/data/postgresql.conf" <<END
listen_addresses = '127.0.0.1'
port = $pg_port
unix_socket_directories = ''
fsync = off
END
	(cd / && runuser -u postgres -- "$pg_bin/pg_ctl" -D "$dir/data" -l "$dir/postgresql.log" -w start >/dev/null) ||
		die "PostgreSQL did not start"
	psql -qX -h 127.0.0.1 -p "$pg_port" -U demo -d postgres -c 'CREATE DATABASE demo' || die "PostgreSQL does not let us in"
}

start_xinetd() {
	sed -e "s|^\([[:blank:]]*user[[:blank:]]*=\).*|\1 nobody|" -e "s|/usr/local/sbin/pgssl|$dir/pgssl|" -e "s|/etc/pgssl/pgssl.pem|$dir/pgssl.pem|" \
		-e "s|-P/tmp/|-P $dir/run/ -o $dir/pgssl.log|" -e "s|-r 5432|-r $pg_port|" \
		-e "s|^\([[:blank:]]*port[[:blank:]]*=\).*|\1 $port\n\tbind\t\t= 127.0.0.1|" \
		-e "s|log_type.*|log_type\t= FILE $dir/xinetd.log|" xinetd.d/pgssl >"$dir/xinetd.conf"
	install -d -m 1777 "$dir/run"
	install -o nobody -m 640 /dev/null "$dir/pgssl.log"
	cp pgssl "$dir/pgssl" # a home folder may be closed to others
	setsid xinetd -dontfork -f "$dir/xinetd.conf" -pidfile "$dir/xinetd.pid" -filelog "$dir/xinetd.log" </dev/null >/dev/null 2>&1 &
	running_xinetd=$!
	wait_for listening "$port" || die "xinetd did not open port $port"
	wait_for test -s "$dir/xinetd.pid" || die "xinetd did not write its pid file"
}

[ "$(uname -s)" = Linux ] || die "this demonstration is for Linux; install $PACKAGES or their like and follow README"
[ "$(id -u)" = 0 ] || die "run me as root (it starts PostgreSQL as user postgres, and xinetd): sudo make demo. Packages needed: $PACKAGES"
PATH=$PATH:/usr/sbin:/sbin
unset PGHOST PGPORT PGUSER PGDATABASE PGSERVICE PGOPTIONS PGSSLMODE PGSSLROOTCERT PGSSLCERT PGSSLKEY PGREQUIRESSL PGCHANNELBINDING 2>/dev/null || true
export LC_ALL=C PAGER=cat PGCONNECT_TIMEOUT=20
trap finish EXIT
trap 'exit 1' HUP INT TERM
dir=$(mktemp -d /tmp/pgssl-demo.XXXXXX)
chmod 755 "$dir"

step "1. Packages"
need=$(missing | tr '\n' ' ')
need=${need% }
if [ -z "$need" ]; then
	say "nothing is missing"
elif [ -f /etc/debian_version ] && command -v apt-get >/dev/null; then
	say "apt-get install $need (this may take a minute)"
	# shellcheck disable=SC2086 # one word a package
	install_packages $need
else
	die "not a Debian system; install these, or what they are called here, and try again: $need"
fi
pg_bin=$(find_pg_bin)
[ -n "$pg_bin" ] || die "PostgreSQL's initdb and pg_ctl were not found"
id postgres >/dev/null 2>&1 || die "there is no user postgres"

step "2. Build"
${MAKE:-make} pgssl >"$dir/build.log" 2>&1 || die "the build failed"
say "$(./pgssl -V 2>&1 | head -n 1)"

# The shipped entry runs as user pgssl, who reads the key by group. No user is made here: nobody takes that part, for this throw-away key.
group=$(id -gn nobody)
step "3. Certificate: make cert CN=localhost GROUP=$group"
CN=localhost SAN='localhost 127.0.0.1' DAYS=30 GROUP=$group OUT="$dir/pgssl.pem" contrib/mkcert | sed -n '1,2s/^/   /p'
openssl x509 -in "$dir/pgssl.pem" -out "$dir/pgssl.crt"
chmod 644 "$dir/pgssl.crt"

step "4. A throw-away PostgreSQL"
pg_port=$(free_port)
port=$(free_port)
PGPASSWORD=$(openssl rand -hex 12)
export PGPASSWORD
write_stop
start_postgresql
say "$("$pg_bin/postgres" --version), port $pg_port of 127.0.0.1, passwords by SCRAM, ssl = off"

step "5. A private xinetd, serving xinetd.d/pgssl with our paths, port $port, and user nobody for pgssl"
start_xinetd
grep -E '^[[:blank:]]*(port|bind|user|server|server_args)[[:blank:]]' "$dir/xinetd.conf" | sed 's/^[[:blank:]]*/   /'

step "6. psql through pgssl"
url="host=localhost port=$port user=demo dbname=demo sslmode=verify-full sslrootcert=$dir/pgssl.crt"
say "psql \"$url\""
psql -X "$url" -c '\conninfo' -c 'SELECT count(*) AS tables, current_user FROM pg_class' >"$dir/out" 2>&1 || {
	cat "$dir/out"
	die "psql could not connect"
}
sed 's/^/   /' "$dir/out"

step "7. And without TLS"
psql -X "host=localhost port=$port user=demo dbname=demo sslmode=disable" -c '\conninfo' 2>&1 | sed 's/^/   /' || true

step "8. The log of pgssl (syslog, if it were not for -o)"
wait_for logged disconnection: || die "the end of the session is not in the log"
sed 's/^/   /' "$dir/pgssl.log"

if [ -n "${KEEP:-}" ] && [ "$KEEP" != 0 ]; then
	kept=yes
	step "9. Left running, as you asked"
	say "connect:  PGPASSWORD=$PGPASSWORD psql \"$url\""
	say "log:      $dir/pgssl.log"
	say "stop:     sh $dir/stop"
else
	step "9. Stopping"
fi
