#!/bin/sh
# SPDX-License-Identifier: ISC
#
# contrib/demo.sh - show pgssl at work with one command. Called by `make demo`.
#
# Installs missing packages (Debian), builds pgssl, makes a certificate, starts a temporary
# PostgreSQL and a private xinetd with the shipped xinetd.d/pgssl, connects psql with
# sslmode=verify-full, and stops and removes everything. KEEP=1 leaves it running. All files are in
# one temporary directory, and all servers listen on 127.0.0.1 only. Only apt-get changes files of
# the system.

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

# Debian has PostgreSQL's programs outside PATH. Use the newest version.
find_pg_bin() {
	for d in $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -rV) $(dirname "$(command -v initdb || echo /)"); do
		[ -x "$d/initdb" ] && [ -x "$d/pg_ctl" ] && echo "$d" && return
	done
	return 0
}

# The names of the missing packages. Looks for the programs and headers, not for packages, so that
# it works on other systems, too.
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

# Installing postgresql or xinetd would start them, now and at every boot. A policy-rc.d prevents
# the first; it is removed after apt-get has run, and an existing one is not touched.
# disable_service prevents the second.
install_packages() {
	if [ ! -e $POLICY ]; then
		printf '#!/bin/sh\n# Written by the demo of pgssl, while it installs packages.\nexit 101\n' >$POLICY
		chmod 755 $POLICY
		policy_is_ours=yes
	fi
	apt-get update -q >"$dir/apt.log" 2>&1 || {
		tail -n 3 "$dir/apt.log"
		say "(apt-get update failed; continuing)"
	}
	export DEBIAN_FRONTEND=noninteractive
	apt-get install -q -y --no-install-recommends "$@" >>"$dir/apt.log" 2>&1 || {
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
		say "the service $1 was not started and will not start at boot: systemctl enable $1 && systemctl start $1"
	else
		update-rc.d "$1" disable >/dev/null 2>&1 || true
		say "the service $1 was not started and will not start at boot: update-rc.d $1 enable; service $1 start starts it"
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

# Wait at most 20 s until a command succeeds.
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
# Stops what the demo of pgssl left running, and removes its directory.
[ ! -f '$dir/xinetd.pid' ] || kill -TERM "\$(cat '$dir/xinetd.pid')"
[ ! -f '$dir/data/postmaster.pid' ] ||
	runuser -u postgres -- '$pg_bin/pg_ctl' -D '$dir/data' -m fast -w stop >/dev/null
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
			[ ! -s "$dir/$f" ] || { echo "-- end of $f"; tail -n 10 "$dir/$f"; }
		done >&2
	fi
	[ ! -f "$dir/stop" ] || sh "$dir/stop" || true
	if [ -n "$running_xinetd" ]; then
		kill "$running_xinetd" 2>/dev/null || true
		wait "$running_xinetd" 2>/dev/null || true
	fi
	[ -z "$dir" ] || rm -rf "$dir"
	[ $status -ne 0 ] || say "stopped; nothing is left running, and the directory is removed"
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
	psql -qX -h 127.0.0.1 -p "$pg_port" -U demo -d postgres -c 'CREATE DATABASE demo' || die "could not connect to PostgreSQL"
}

start_xinetd() {
	sed -e "s|^\([[:blank:]]*user[[:blank:]]*=\).*|\1 nobody|" \
		-e "s|/usr/local/sbin/pgssl|$dir/pgssl|" -e "s|/etc/pgssl/pgssl.pem|$dir/pgssl.pem|" \
		-e "s|-P/run/pgssl/|-P $dir/run/ -o $dir/pgssl.log|" -e "s|-r 5432|-r $pg_port|" \
		-e "s|^\([[:blank:]]*port[[:blank:]]*=\).*|\1 $port\n\tbind\t\t= 127.0.0.1|" \
		-e "s|log_type.*|log_type\t= FILE $dir/xinetd.log|" xinetd.d/pgssl >"$dir/xinetd.conf"
	install -d -m 1777 "$dir/run"
	install -o nobody -m 640 /dev/null "$dir/pgssl.log"
	cp pgssl "$dir/pgssl" # a home directory may be closed to other users
	setsid xinetd -dontfork -f "$dir/xinetd.conf" -pidfile "$dir/xinetd.pid" \
		-filelog "$dir/xinetd.log" </dev/null >/dev/null 2>&1 &
	running_xinetd=$!
	wait_for listening "$port" || die "xinetd did not open port $port"
	wait_for test -s "$dir/xinetd.pid" || die "xinetd did not write its pid file"
}

[ "$(uname -s)" = Linux ] ||
	die "this demonstration needs Linux; install $PACKAGES or their equivalents, and follow README"
[ "$(id -u)" = 0 ] ||
	die "needs root, to start PostgreSQL as user postgres, and xinetd: sudo make demo. Packages needed: $PACKAGES"
PATH=$PATH:/usr/sbin:/sbin
unset PGHOST PGPORT PGUSER PGDATABASE PGSERVICE PGOPTIONS PGSSLMODE PGSSLROOTCERT PGSSLCERT PGSSLKEY \
	PGREQUIRESSL PGCHANNELBINDING 2>/dev/null || true
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
	# shellcheck disable=SC2086 # one word for each package
	install_packages $need
else
	die "not a Debian system; install these packages or their equivalents, and try again: $need"
fi
pg_bin=$(find_pg_bin)
[ -n "$pg_bin" ] || die "PostgreSQL's initdb and pg_ctl were not found"
id postgres >/dev/null 2>&1 || die "there is no user postgres"

step "2. Build"
${MAKE:-make} pgssl >"$dir/build.log" 2>&1 || die "the build failed"
say "$(./pgssl -V 2>&1 | head -n 1)"

# The shipped entry runs as user pgssl, whose group may read the key. The demo creates no user: for
# this temporary key, nobody is used instead.
group=$(id -gn nobody)
step "3. Certificate: make cert CN=localhost GROUP=$group"
CN=localhost SAN='localhost 127.0.0.1' DAYS=30 GROUP=$group OUT="$dir/pgssl.pem" contrib/mkcert |
	sed -n '1,2s/^/   /p'
openssl x509 -in "$dir/pgssl.pem" -out "$dir/pgssl.crt"
chmod 644 "$dir/pgssl.crt"

step "4. A temporary PostgreSQL"
pg_port=$(free_port)
port=$(free_port)
PGPASSWORD=$(openssl rand -hex 12)
export PGPASSWORD
write_stop
start_postgresql
say "$("$pg_bin/postgres" --version), port $pg_port of 127.0.0.1, passwords by SCRAM, ssl = off"

step "5. A private xinetd: xinetd.d/pgssl with the paths of the demo, port $port, user nobody"
start_xinetd
grep -E '^[[:blank:]]*(port|bind|user|server|server_args)[[:blank:]]' "$dir/xinetd.conf" |
	sed 's/^[[:blank:]]*/   /'

step "6. psql through pgssl"
url="host=localhost port=$port user=demo dbname=demo sslmode=verify-full sslrootcert=$dir/pgssl.crt"
say "psql \"$url\""
psql -X "$url" -c '\conninfo' -c 'SELECT count(*) AS tables, current_user FROM pg_class' >"$dir/out" 2>&1 || {
	cat "$dir/out"
	die "psql could not connect"
}
sed 's/^/   /' "$dir/out"

step "7. The same without TLS"
psql -X "host=localhost port=$port user=demo dbname=demo sslmode=disable" -c '\conninfo' 2>&1 |
	sed 's/^/   /' || true

step "8. The log of pgssl (without -o it goes to syslog)"
wait_for logged disconnection: || die "the end of the session is not in the log"
sed 's/^/   /' "$dir/pgssl.log"

if [ -n "${KEEP:-}" ] && [ "$KEEP" != 0 ]; then
	kept=yes
	step "9. Left running (KEEP=1)"
	say "connect:  PGPASSWORD=$PGPASSWORD psql \"$url\""
	say "log:      $dir/pgssl.log"
	say "stop:     sh $dir/stop"
else
	step "9. Stopping"
fi
