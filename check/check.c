/* SPDX-License-Identifier: ISC
 *
 * check/check.c - --check: the report and its order; files, users, and what PostgreSQL asks for.
 */
#include "check/check.h"

#include <errno.h>
#include <grp.h>
#include <libgen.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "auth/identmap.h"
#include "net/address.h"
#include "net/backend.h"
#include "net/sock.h"
#include "pidfile.h"
#include "sandbox/sandbox.h"
#include "wire/startup.h"

static void report_path(const char *what, const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0) {
		check_warning("%s \"%s\": could not see its owner and mode: %s", what, path,
			      strerror(errno));
		return;
	}
	unsigned mode = st.st_mode & 07777;
	const char *owner = user_from_uid(st.st_uid, 0);
	bool foreign = st.st_uid != 0 && st.st_uid != geteuid();
	bool dir = S_ISDIR(st.st_mode);
	bool open = (mode & (S_IWGRP | S_IWOTH)) != 0 && !(dir && (mode & S_ISVTX) != 0);

	if (open)
		check_warning("%s \"%s\": mode %04o: others %s; chmod go-w", what, path, mode,
			      dir ? "than its owner can replace files" : "can change it");
	else if (foreign)
		check_warning("%s \"%s\": its owner %s can %s: give it to root or to the user that "
			      "starts pgssl",
			      what, path, owner, dir ? "replace files" : "change it");
	else if (!dir)
		check_ok("%s \"%s\": owner %s, group %s, mode %04o", what, path, owner,
			 group_from_gid(st.st_gid, 0), mode);
}

/* With the directories above it: a user who can write to one of them can replace the file. */
static void report_file(const char *what, const char *path)
{
	char *real = path == NULL ? NULL : realpath(path, NULL);

	if (real != NULL)
		report_path(what, path);
	for (char *at = real; at != NULL && strcmp(at, "/") != 0;)
		report_path("directory", at = dirname(at));
	free(real);
}

/* ---- PostgreSQL: the login that any client gets ---- */

#define ANYBODY     "pgssl_check" /* need not exist */
#define REPLICATION " for replication"

/* Lines of pg_hba.conf may differ for the superuser, for a database of the user's name and for
 * another one. Replication always has its own. */
static struct login {
	const char *user; /* NULL: ask for GSSAPI encryption instead */
	const char *database, *what;
} logins[] = {{"postgres", "postgres", ""},
	      {ANYBODY, ANYBODY, ""},
	      {ANYBODY, "template1", " to database \"template1\""},
	      {"postgres", NULL, REPLICATION},
	      {ANYBODY, NULL, REPLICATION},
	      {NULL, NULL, NULL}};
static struct address_list addresses;
enum { LOGINS = sizeof logins / sizeof *logins };
static struct backend backends[LOGINS];
static int backends_ready;

static void look_up_backend(const struct options *o, uid_t uid)
{
	char danger[256];
	struct error e;

	if (!address_look_up(&addresses, o, &e))
		check_error("PostgreSQL at %s", e.text);
	else if (address_peer_danger(&addresses, uid, danger, sizeof danger))
		check_warning("%s", danger);
	else if (address_is_remote(&addresses))
		check_warning(
		    "PostgreSQL at %s is not on this machine: the connection to it is NOT "
		    "ENCRYPTED; run pgssl there",
		    addresses.name);
}

static void prepare_logins(const struct options *o, uid_t uid)
{
	const char *self = user_from_uid(uid, 0); /* the user that a "peer" line sees */
	int count = o->gss ? LOGINS : LOGINS - 1;
	struct error e;

	if (strcmp(self, "postgres") != 0)
		logins[1].user = logins[1].database = self;
	for (; addresses.count > 0 && backends_ready < count; backends_ready++)
		if (!backend_open(&backends[backends_ready], &addresses, o, &e)) {
			check_error("PostgreSQL at %s", e.text);
			return;
		}
}

/* As a connection does it: with -T the sockets need root. */
static bool drop_to_session_user(const struct options *o, const struct sandbox_user *who,
				 struct error *e)
{
	if (o->transparent)
		prepare_logins(o, who->uid);
	if (!sandbox_drop_privileges(who, e))
		return false;
	if (!o->transparent)
		prepare_logins(o, who->uid);
	return true;
}

#define LOGIN "login of user \"%s\"%s: PostgreSQL "

/* Trust or peer: only the certificate, if one is required, decides who can log in. */
static void report_open_door(const struct login *l, enum clientcert clientcert)
{
	const char *who = clientcert == CLIENTCERT_UNSET
			      ? "EVERYBODY who can connect to pgssl"
			      : "everybody who has ANY certificate from the authorities in -A";
	const char *line = address_is_unix(&addresses)
			       ? "trust for this socket, or peer for the user that pgssl runs as"
			       : "trust (or ident) for this address";

	if (clientcert == CLIENTCERT_VERIFY_FULL)
		check_note(LOGIN "asks for no password: the client certificate decides "
				 "(--clientcert=verify-full)",
			   l->user, l->what);
	else
		check_warning(LOGIN "asks for NO PASSWORD: %s can log in%s; pg_hba.conf has "
				    "%s: change it to scram-sha-256",
			      l->user, l->what, who,
			      l->database != NULL ? "" : " and copy all data", line);
}

static bool report_login(const struct login *l, const struct options *o, struct stream *s,
			 deadline when)
{
	struct startup_reply reply;
	char type = startup_ask(&reply, s, l->user, l->database, when);
	const char *method = type == 'R' ? startup_method_text(reply.method) : NULL;

	if (type == 'R' && reply.method == 0)
		report_open_door(l, o->clientcert);
	else if (type == 'R') /* 5: MD5 */
		check_line(method != NULL && reply.method > 5 ? LOG_INFO : LOG_NOTICE,
			   LOGIN "asks for %s", l->user, l->what,
			   method != NULL ? method : "a method that pgssl does not know");
	else if (type == 'E') /* SQLSTATE class 28: invalid authorization */
		check_line(strncmp(reply.sqlstate, "28", 2) == 0 ? LOG_NOTICE : LOG_WARNING,
			   LOGIN "refuses: %s (%s)", l->user, l->what, reply.message,
			   reply.sqlstate);
	else
		check_error("PostgreSQL at %s: no valid answer in time: is -r correct, and is it "
			    "PostgreSQL?",
			    addresses.name);
	return type == 'R' || type == 'E';
}

static bool report_gss(struct stream *s, deadline when)
{
	char answer;
	size_t n;
	bool yes =
	    stream_write_all(s, startup_gss_request, STARTUP_REQUEST_SIZE, when) == IO_DONE &&
	    stream_read_exactly(s, &answer, 1, &n, when) == IO_DONE && answer == 'G';

	check_line(yes ? LOG_INFO : LOG_NOTICE, "--gss: PostgreSQL %s GSSAPI encryption%s",
		   yes ? "accepts" : "does not accept", yes ? "" : ": clients continue with TLS");
	return true;
}

/* Step 7. False if the next login would only fail in the same way. */
static bool try_login(const struct login *l, struct backend *b, const struct options *o)
{
	struct fd_stream fs;
	struct error e;

	if (!backend_finish(b, &e)) {
		check_error(
		    "could not connect to PostgreSQL at %s: is it running, and is -r correct?",
		    e.text);
		return false;
	}
	if (l == logins)
		check_ok("PostgreSQL: connected to %s", addresses.name);
	deadline when = deadline_in(b->timeout_ms);
	fd_stream_init(&fs, b->fd, b->fd);
	bool ok =
	    l->user == NULL ? report_gss(&fs.stream, when) : report_login(l, o, &fs.stream, when);
	close(b->fd);
	return ok;
}

/* ---- the pid file, and the address of -d ---- */

/* A session continues without its pid file, so this is a warning. */
static void report_pidfile(const struct options *o)
{
	struct error e;

	if (!pidfile_create(o->pidfile, "localhost", "check", &e))
		check_warning("pid files: %s", e.text);
	else
		check_ok("pid files: \"%s\" can be written", o->pidfile);
	pidfile_delete();
}

/* A listener does not, unless another process holds it: then *held says so. */
static void report_parent_pidfile(const struct options *o, const char *port, struct error *held)
{
	char host[256];

	*held = (struct error){.status = 0};
	if (o->pidfile == NULL)
		return;
	address_host(o->listen, host, sizeof host);
	if (pidfile_create_parent(o->pidfile, host, port, held))
		check_ok("pid file: \"%s\" can be written", o->pidfile);
	else
		check_line(held->status == EX_TEMPFAIL ? LOG_WARNING : LOG_ERR, "%s", held->text);
	pidfile_delete();
}

/* True if the parent can start with this address. */
static bool report_address(const struct address *a, bool needed, const struct error *held)
{
	struct sock_name name;
	int fd = sock_bind(&a->sa, a->len), reason = errno;
	bool missing = reason == EAFNOSUPPORT || reason == EADDRNOTAVAIL;
	bool running = reason == EADDRINUSE && held->status == EX_TEMPFAIL;

	sock_format((const struct sockaddr *)&a->sa, a->len, &name);
	if (fd >= 0) {
		close(fd);
		check_ok("listener: address %s, port %s is free", name.host, name.port);
		return true;
	}
	check_line(running              ? LOG_WARNING
		   : missing && !needed ? LOG_NOTICE
					: LOG_ERR,
		   "listener: address %s, port %s: %s%s", name.host, name.port, strerror(reason),
		   running ? ": expected if this listener is already running"
		   : reason == EADDRINUSE
		       ? ": another program uses the port, or this listener is running"
		       : "");
	return !missing;
}

/* What the parent of -d does first, as the user who starts it. */
static void report_listener(const struct options *o)
{
	struct address_list list;
	struct sock_name name;
	struct error e;
	bool any = false;

	if (!address_look_up_listen(&list, o, &e)) {
		check_error("%s", e.text);
		return;
	}
	sock_format((struct sockaddr *)&list.all[0].sa, list.all[0].len, &name);
	report_parent_pidfile(o, name.port, &e);
	for (unsigned i = 0; i < list.count; i++)
		any |= report_address(&list.all[i], i + 1 == list.count && !any, &e);
}

int check_run(const struct options *o)
{
	struct sandbox_needs needs = {.log_to_file = true};
	struct sandbox_user who;
	struct identmap *map;
	struct error e;

	for (int i = 0; i < OPTIONS_CERTS; i++)
		report_file("certificate", o->cert[i]);
	report_file("private key", o->key);
	report_file("authorities", o->ca);
	report_file("revocation lists", o->crl);
	report_file("ident map", o->ident_map);
	if (o->listen != NULL)
		report_listener(o);
	check_tls(o); /* step 3 */
	if (o->map != NULL && !identmap_load(o->ident_map, o->map, true, &map, &e)) {
		check_error("%s", e.text);
	} else if (o->map != NULL) {
		check_ok("map \"%s\": no errors", o->map);
		identmap_free(map);
	}
	bool ok = sandbox_find_user(o->user, o->group, &who, &e);
	if (ok) {
		look_up_backend(o, who.uid); /* step 4 */
		check_line(who.uid == 0 ? LOG_WARNING : LOG_INFO, "runs as: user %s, group %s%s",
			   user_from_uid(who.uid, 0), group_from_gid(who.gid, 0),
			   who.uid == 0 ? ": leave out -s, or choose a user that owns nothing"
					: "");
		ok = drop_to_session_user(o, &who, &e); /* step 5 */
	}
	if (!ok) {
		check_error("%s", e.text);
		return check_end();
	}
	if (o->pidfile != NULL && o->listen == NULL)
		report_pidfile(o);
	if (o->log == NULL && !o->foreground && !log_syslogd_listens())
		check_warning(
		    "log: no syslog daemon listens on /dev/log, so the log is lost: start "
		    "one, or use -o FILE");
	for (int i = 0; i < backends_ready && try_login(&logins[i], &backends[i], o); i++)
		;
	if (!sandbox_enter(&needs, &e)) /* last, since the rest is not possible inside it */
		check_error("sandbox: %s", e.text);
	else if (sandbox_missing() != NULL)
		check_note("sandbox: %s; the other layers are entered", sandbox_missing());
	else
		check_ok("sandbox: entered");
	return check_end();
}
