/* SPDX-License-Identifier: ISC
 *
 * check/check.c - --check: the report and its order; files, users, and what PostgreSQL asks for.
 */
#include "check/check.h"

#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "auth/identmap.h"
#include "net/address.h"
#include "net/backend.h"
#include "pidfile.h"
#include "sandbox/sandbox.h"
#include "wire/startup.h"

/* ---- the report ---- */

static unsigned line_counts[LOG_DEBUG];

/* Each line is flushed: it keeps its place among the log's, and is there if the next trial hangs. */
void check_line(int level, const char *fmt, ...)
{
	static const char *const words[] = {[LOG_ERR] = "ERROR",
					    [LOG_WARNING] = "WARNING",
					    [LOG_NOTICE] = "note",
					    [LOG_INFO] = "ok"};
	va_list args;

	line_counts[level]++;
	printf("%-8s ", words[level]);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
}

static int end_report(void)
{
	unsigned errors = line_counts[LOG_ERR], warnings = line_counts[LOG_WARNING];
	const char *advice = errors > 0 ? ": connections will fail until the errors are corrected"
			     : warnings > 0 ? ": connections work, but see the warnings"
					    : "";

	printf("%u error%s, %u warning%s%s\n", errors, errors == 1 ? "" : "s", warnings,
	       warnings == 1 ? "" : "s", advice);
	return fflush(stdout) == 0 && errors == 0 ? EX_OK : EX_CONFIG;
}

/* ---- files ---- */

static bool is_open(const struct stat *st)
{
	return (st->st_mode & (S_IWGRP | S_IWOTH)) != 0;
}

static bool is_strange(const struct stat *st)
{
	return st->st_uid != 0 && st->st_uid != geteuid();
}

/* Whoever can write to a directory above a file can replace the file. */
static void report_directory(const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0)
		return;
	if (is_open(&st) && (st.st_mode & S_ISVTX) == 0)
		check_line(LOG_WARNING,
			   "directory \"%s\": mode %04o: others than its owner can replace what is "
			   "in it; chmod go-w",
			   path, (unsigned)st.st_mode & 07777);
	else if (is_strange(&st))
		check_line(LOG_WARNING, "directory \"%s\": its owner %s can replace what is in it",
			   path, user_from_uid(st.st_uid, 0));
}

static void report_file(const char *what, const char *path)
{
	struct stat st;

	if (path == NULL || stat(path, &st) != 0)
		return; /* its reader reports that */
	const char *danger = is_open(&st) ? ": others can change it; chmod go-w"
			     : is_strange(&st)
				 ? ": it should belong to root or to the user that starts pgssl"
				 : "";
	check_line(danger[0] != '\0' ? LOG_WARNING : LOG_INFO,
		   "%s \"%s\": owner %s, group %s, mode %04o%s", what, path,
		   user_from_uid(st.st_uid, 0), group_from_gid(st.st_gid, 0),
		   (unsigned)st.st_mode & 07777, danger);
	char *real = realpath(path, NULL), *slash;
	while (real != NULL && (slash = strrchr(real, '/')) != NULL) {
		*slash = '\0';
		report_directory(slash == real ? "/" : real);
	}
	free(real);
}

static void report_files(const struct options *o)
{
	for (int i = 0; i < OPTIONS_CERTS; i++)
		report_file("certificate", o->cert[i]);
	report_file("private key", o->key);
	report_file("authorities", o->ca);
	report_file("revocation lists", o->crl);
	report_file("ident map", o->ident_map);
}

static void report_map(const struct options *o)
{
	struct identmap *map;
	struct error e;

	if (o->map == NULL)
		return;
	if (identmap_load(o->ident_map, o->map, &map, &e))
		check_line(LOG_INFO, "map \"%s\": no errors in it", o->map);
	else
		check_line(LOG_ERR, "%s", e.text);
}

static void report_pidfile(const char *path)
{
	struct error e;

	if (path == NULL)
		return;
	if (pidfile_create(path, "localhost", "check", &e))
		check_line(LOG_INFO, "pid files: \"%s\" can be written", path);
	else
		check_line(LOG_WARNING, "pid files: %s", e.text);
	pidfile_delete();
}

/* ---- PostgreSQL: what it asks of a stranger, it asks of every client ---- */

static struct address_list addresses;
static struct login {
	const char *user; /* NULL: ask for GSSAPI encryption instead */
	struct backend backend;
} logins[3];
static unsigned login_count;

static void add_login(const struct options *o, const char *user)
{
	struct login *l = &logins[login_count];
	struct error e;

	l->user = user;
	if (backend_open(&l->backend, &addresses, o, &e))
		login_count++;
	else
		check_line(LOG_ERR, "PostgreSQL at %s", e.text);
}

/* Step 4: sockets are made before privileges are dropped. */
static void prepare_logins(const struct options *o, uid_t uid)
{
	char danger[256];
	struct error e;

	if (!address_look_up(&addresses, o, &e)) {
		check_line(LOG_ERR, "PostgreSQL at %s", e.text);
		return;
	}
	add_login(o, "postgres");
	char *self = strdup(user_from_uid(uid, 0)); /* whom a "peer" line sees */
	if (self != NULL && strcmp(self, "postgres") != 0)
		add_login(o, self);
	if (o->gss)
		add_login(o, NULL);
	if (address_peer_danger(&addresses, uid, danger, sizeof danger))
		check_line(LOG_WARNING, "%s", danger);
	if (address_is_remote(&addresses))
		check_line(LOG_WARNING,
			   "PostgreSQL at %s is another machine: the connection to it is in CLEAR "
			   "on the network; run pgssl there",
			   addresses.name);
}

/* Nothing is asked for (trust or peer): the certificate decides who gets in, or nothing does. */
static void report_open_door(const char *user, enum clientcert clientcert)
{
	static const char *const who[] = {
	    [CLIENTCERT_UNSET] = "EVERYBODY who reaches pgssl",
	    [CLIENTCERT_VERIFY_CA] = "everybody who has ANY certificate of -A's authorities"};
	static const char *const methods[] = {
	    "trust (or ident) for this address",
	    "trust for this socket, or peer for the user that pgssl runs as"};

	if (clientcert == CLIENTCERT_VERIFY_FULL)
		check_line(
		    LOG_NOTICE,
		    "login of user \"%s\": PostgreSQL asks for nothing: the certificate that "
		    "--clientcert=verify-full demands is the only proof; programs on this "
		    "machine may need none",
		    user);
	else
		check_line(LOG_WARNING,
			   "login of user \"%s\": PostgreSQL lets it in WITHOUT ANY PROOF, and so "
			   "%s: pg_hba.conf has %s; change that line to scram-sha-256 and reload "
			   "PostgreSQL",
			   user, who[clientcert], methods[address_is_unix(&addresses)]);
}

/* The codes of AuthenticationRequest: "Message Formats" of PostgreSQL's protocol. */
static void report_method(const char *user, uint32_t code)
{
	static const struct {
		uint32_t code;
		int level;
		const char *text;
	} methods[] = {
	    {3, LOG_NOTICE, "the password itself (password, ldap, pam or radius)"},
	    {5, LOG_NOTICE, "a password (md5: scram-sha-256 is stronger)"},
	    {7, LOG_INFO, "a Kerberos ticket (gss)"},
	    {9, LOG_INFO, "SSPI"},
	    {10, LOG_INFO, "a password (scram-sha-256)"},
	    {0, LOG_NOTICE, "something that pgssl does not know"},
	};
	size_t i = 0;

	while (methods[i].code != 0 && methods[i].code != code)
		i++;
	check_line(methods[i].level, "login of user \"%s\": PostgreSQL asks for %s", user,
		   methods[i].text);
}

static bool report_login(const char *user, const struct options *o, struct stream *s, deadline when)
{
	const char *const parameters[] = {
	    "user", user, "database", "postgres", "application_name", "pgssl --check", NULL};
	struct startup_reply reply;

	char type = startup_ask(&reply, s, parameters, when);
	if (type == 'R' && reply.method == 0)
		report_open_door(user, o->clientcert);
	else if (type == 'R')
		report_method(user, reply.method);
	else if (type == 'E') /* SQLSTATE class 28: invalid authorization */
		check_line(strncmp(reply.sqlstate, "28", 2) == 0 ? LOG_NOTICE : LOG_WARNING,
			   "login of user \"%s\": PostgreSQL refuses: %s (%s)", user, reply.message,
			   reply.sqlstate);
	else
		check_line(LOG_ERR,
			   "PostgreSQL at %s: what answers there does not speak its protocol, or "
			   "not in time: is -r right?",
			   addresses.name);
	return type == 'R' || type == 'E';
}

static bool report_gss(struct stream *s, deadline when)
{
	char answer = 0;
	size_t n;

	if (stream_write_all(s, startup_gss_request, STARTUP_REQUEST_SIZE, when) == IO_DONE)
		(void)!stream_read_exactly(s, &answer, 1, &n, when);
	if (answer == 'G')
		check_line(LOG_INFO, "--gss: PostgreSQL accepts GSSAPI encryption");
	else
		check_line(LOG_NOTICE,
			   "--gss: PostgreSQL does not accept GSSAPI encryption (on a Unix socket "
			   "it never does): clients go on to TLS");
	return true;
}

/* Step 7. False if the next one would only fail in the same way. */
static bool try_login(struct login *l, const struct options *o)
{
	struct fd_stream fs;
	struct error e;

	if (!backend_finish(&l->backend, &e)) {
		check_line(LOG_ERR,
			   "PostgreSQL cannot be reached at %s: is it running, and is -r right?",
			   e.text);
		return false;
	}
	if (l == logins)
		check_line(LOG_INFO, "PostgreSQL: connected to %s", addresses.name);
	deadline when = deadline_in(l->backend.timeout_ms);
	fd_stream_init(&fs, l->backend.fd, l->backend.fd);
	bool ok = l->user == NULL ? report_gss(&fs.stream, when)
				  : report_login(l->user, o, &fs.stream, when);
	close(l->backend.fd);
	return ok;
}

/* ---- the steps ---- */

static void report_user(const struct sandbox_user *who)
{
	bool root = who->uid == 0;

	check_line(root ? LOG_WARNING : LOG_INFO, "runs as: user %s, group %s%s",
		   user_from_uid(who->uid, 0), group_from_gid(who->gid, 0),
		   root ? ": leave out -s, or give a user that owns nothing" : "");
}

static void report_sandbox(void)
{
	struct sandbox_needs needs = {.log_to_file = true};
	struct error e;
	bool ok = sandbox_enter(&needs, &e);

	check_line(ok ? LOG_INFO : LOG_ERR, "sandbox: %s", ok ? "entered" : e.text);
}

int check_run(const struct options *o)
{
	struct sandbox_user who;
	struct error e;

	report_files(o);
	check_tls(o); /* step 3 */
	report_map(o);
	bool found = sandbox_find_user(o->user, o->group, &who, &e);
	if (found) {
		prepare_logins(o, who.uid); /* step 4 */
		report_user(&who);
	}
	if (!found || !sandbox_drop_privileges(&who, &e)) { /* step 5 */
		check_line(LOG_ERR, "%s", e.text);
		return end_report();
	}
	report_pidfile(o->pidfile);
	for (unsigned i = 0; i < login_count && try_login(&logins[i], o); i++)
		;
	report_sandbox(); /* last, since the rest is not possible inside it */
	return end_report();
}
