/* SPDX-License-Identifier: ISC
 *
 * check/check.c - --check: files, user, pid file and PostgreSQL; what OpenSSL has to say is in tls_report.c.
 *
 * PostgreSQL is asked by a StartupMessage what it wants of a login: the answer to a stranger who gives no proof is the answer that every client of pgssl gets.
 */
#include "check/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/address.h"
#include "net/backend.h"
#include "auth/identmap.h"
#include "pidfile.h"
#include "check/report.h"
#include "sandbox/sandbox.h"
#include "net/sock.h"
#include "wire/startup.h"
#include "tls.h"

#define PROBES      3
#define MESSAGE_MAX 4096

/* One connection to PostgreSQL; its sockets are made before privileges go, as a connection does. */
struct probe {
	char user[64]; /* "" asks for GSSAPI encryption instead */
	enum clientcert clientcert;
	struct address_list addresses;
	struct backend backend;
	struct fd_stream server;
	deadline when;
};

/* ---- files and users ---- */

static const char *user_name(uid_t uid, char buf[64])
{
	const struct passwd *pw = getpwuid(uid);

	if (pw != NULL)
		snprintf(buf, 64, "%s", pw->pw_name);
	else
		snprintf(buf, 64, "%u", (unsigned)uid);
	return buf;
}

static const char *group_name(gid_t gid, char buf[64])
{
	const struct group *gr = getgrgid(gid);

	if (gr != NULL)
		snprintf(buf, 64, "%s", gr->gr_name);
	else
		snprintf(buf, 64, "%u", (unsigned)gid);
	return buf;
}

/* Whoever may write to a folder on the way can put another file in the place of this one. */
static void report_folders(const char *path)
{
	char *real = realpath(path, NULL), *slash, owner[64];
	struct stat st;

	while (real != NULL && (slash = strrchr(real, '/')) != NULL) {
		bool top = slash == real;

		slash[top] = '\0';
		if (stat(real, &st) != 0)
			break;
		if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0 && (st.st_mode & S_ISVTX) == 0)
			report(FOUND_WARNING,
			       "folder \"%s\": mode %04o: others than its owner can replace what "
			       "is in it; chmod go-w",
			       real, (unsigned)st.st_mode & 07777);
		else if (st.st_uid != 0 && st.st_uid != geteuid())
			report(FOUND_WARNING,
			       "folder \"%s\": belongs to %s, who can replace what is in it", real,
			       user_name(st.st_uid, owner));
		if (top)
			break;
	}
	free(real);
}

static void report_file(const char *what, const char *path)
{
	char owner[64], group[64];
	struct stat st;

	if (path == NULL || stat(path, &st) != 0)
		return; /* a file that is missing is told of by whoever reads it */
	bool open = (st.st_mode & (S_IWGRP | S_IWOTH)) != 0;
	bool strange = st.st_uid != 0 && st.st_uid != geteuid();
	report(open || strange ? FOUND_WARNING : FOUND_OK,
	       "%s \"%s\": owner %s, group %s, mode %04o%s", what, path,
	       user_name(st.st_uid, owner), group_name(st.st_gid, group),
	       (unsigned)st.st_mode & 07777,
	       open      ? ": others can change it; chmod go-w"
	       : strange ? ": it should belong to root or to the user that starts pgssl"
			 : "");
	report_folders(path);
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
		report(FOUND_OK, "map \"%s\": no errors in it", o->map);
	else
		report(FOUND_ERROR, "%s", e.text);
}

/* ---- who runs it ---- */

static bool become_final_user(const struct sandbox_user *who)
{
	char user[64], group[64];
	struct error e;

	report(who->uid == 0 ? FOUND_WARNING : FOUND_OK, "runs as: user %s, group %s%s",
	       user_name(who->uid, user), group_name(who->gid, group),
	       who->uid == 0 ? ": leave out -s, or give a user that owns nothing" : "");
	if (!sandbox_drop_privileges(who, &e)) {
		report(FOUND_ERROR, "%s", e.text);
		return false;
	}
	return true;
}

static void report_pidfile(const char *path)
{
	struct error e;

	if (path == NULL)
		return;
	if (pidfile_create(path, "localhost", "check", &e))
		report(FOUND_OK, "pid files: \"%s\" can be written", path);
	else
		report(FOUND_WARNING, "pid files: %s", e.text);
	pidfile_delete();
}

/* ---- PostgreSQL ---- */

/* Version 3.0, user, database postgres. */
static size_t build_startup(unsigned char *packet, size_t size, const char *user)
{
	static const char rest[] =
	    "\0database\0postgres\0application_name\0pgssl --check\0"; /* and the last NUL */
	uint32_t version = htonl(3 << 16), len;
	int n = snprintf((char *)packet + 8, size - 8, "user%c%s", '\0', user);
	size_t at = 8 + (size_t)n;

	memcpy(packet + 4, &version, 4);
	memcpy(packet + at, rest, sizeof rest);
	at += sizeof rest;
	len = htonl((uint32_t)at);
	memcpy(packet, &len, 4);
	return at;
}

/* One message of PostgreSQL's: its type, or 0 if there is none. `body` ends in a NUL of ours. */
static char read_message(struct probe *p, char body[MESSAGE_MAX + 1], size_t *len)
{
	unsigned char head[5];
	uint32_t n;
	size_t got;

	if (stream_read_exactly(&p->server.stream, head, sizeof head, &got, p->when) != IO_DONE)
		return 0;
	memcpy(&n, head + 1, 4);
	n = ntohl(n) - 4;
	if (n > MESSAGE_MAX ||
	    stream_read_exactly(&p->server.stream, body, n, &got, p->when) != IO_DONE)
		return 0;
	body[n] = '\0';
	*len = n;
	return (char)head[0];
}

/* A field of an ErrorResponse. */
static const char *error_field(const char *body, size_t len, char type)
{
	for (const char *at = body; at < body + len && *at != '\0'; at += strlen(at) + 1)
		if (*at == type)
			return at + 1;
	return "";
}

/* Trust or peer: who gets in is then decided by the certificate, if one that names the user is demanded, or by nobody. */
static void report_open_door(const struct probe *p)
{
	static const char *const who[] = {
	    [CLIENTCERT_UNSET] = "EVERYBODY who reaches pgssl",
	    [CLIENTCERT_VERIFY_CA] = "everybody who has ANY certificate of -A's authorities",
	};

	if (p->clientcert == CLIENTCERT_VERIFY_FULL)
		report(FOUND_NOTE,
		       "login of user \"%s\": PostgreSQL asks for nothing: the certificate that "
		       "--clientcert=verify-full demands "
		       "is the only proof, and programs on this machine may need none",
		       p->user);
	else
		report(FOUND_WARNING,
		       "login of user \"%s\": PostgreSQL lets it in WITHOUT ANY PROOF, and so %s: "
		       "pg_hba.conf has %s; "
		       "change "
		       "that line to scram-sha-256 and reload PostgreSQL",
		       p->user, who[p->clientcert],
		       address_is_unix(&p->addresses)
			   ? "trust for this socket, or peer for the user that pgssl runs as"
			   : "trust (or ident) for this address");
}

/* What PostgreSQL asks of a login (AuthenticationRequest, "Message Formats" of its protocol). */
static void report_method(const struct probe *p, uint32_t code)
{
	static const struct {
		uint32_t code;
		enum finding found;
		const char *text;
	} methods[] = {
	    {3, FOUND_NOTE, "asks for the password itself (password, ldap, pam or radius)"},
	    {5, FOUND_NOTE, "asks for a password (md5: scram-sha-256 is stronger)"},
	    {7, FOUND_OK, "asks for a Kerberos ticket (gss)"},
	    {9, FOUND_OK, "asks for SSPI"},
	    {10, FOUND_OK, "asks for a password (scram-sha-256)"},
	};

	for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
		if (methods[i].code == code) {
			report(methods[i].found, "login of user \"%s\": PostgreSQL %s", p->user,
			       methods[i].text);
			return;
		}
	if (code != 0)
		report(FOUND_NOTE, "login of user \"%s\": PostgreSQL asks for method %u", p->user,
		       (unsigned)code);
	else
		report_open_door(p);
}

/* False if nothing was said that PostgreSQL would say. */
static bool report_login(struct probe *p)
{
	unsigned char packet[256];
	char body[MESSAGE_MAX + 1];
	uint32_t code;
	size_t len = build_startup(packet, sizeof packet, p->user);

	char type = 0;
	if (stream_write_all(&p->server.stream, packet, len, p->when) == IO_DONE)
		type = read_message(p, body, &len);
	if (type == 'R' && len >= 4) {
		memcpy(&code, body, 4);
		report_method(p, ntohl(code));
	} else if (type == 'E') {
		const char *state = error_field(body, len, 'C');
		bool refused =
		    strncmp(state, "28", 2) == 0; /* Invalid Authorization Specification */
		report(refused ? FOUND_NOTE : FOUND_WARNING,
		       "login of user \"%s\": PostgreSQL refuses: %s (%s)", p->user,
		       error_field(body, len, 'M'), state);
	} else {
		report(FOUND_ERROR,
		       "PostgreSQL at %s: what answers there does not speak its protocol, or not "
		       "in time: is -r right?",
		       p->addresses.name);
		return false;
	}
	return true;
}

static void report_gss(struct probe *p)
{
	char answer = 0;
	size_t n;

	if (stream_write_all(&p->server.stream, startup_gss_request, STARTUP_REQUEST_SIZE,
			     p->when) == IO_DONE)
		(void)!stream_read_exactly(&p->server.stream, &answer, 1, &n, p->when);
	if (answer == 'G')
		report(FOUND_OK, "--gss: PostgreSQL accepts GSSAPI encryption");
	else
		report(FOUND_NOTE, "--gss: PostgreSQL does not accept GSSAPI encryption (on a Unix "
				   "socket it never does): "
				   "clients go on to TLS");
}

static bool connect_probe(struct probe *p)
{
	struct error e;

	if (!backend_finish(&p->backend, &e)) {
		report(FOUND_ERROR,
		       "PostgreSQL cannot be reached at %s: is it running, and -r right?", e.text);
		return false;
	}
	fd_stream_init(&p->server, p->backend.fd, p->backend.fd);
	p->when = deadline_in(p->backend.timeout_ms);
	return true;
}

static void report_backend(struct probe *probes, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct probe *p = &probes[i];

		if (!connect_probe(p))
			return;
		if (i == 0)
			report(FOUND_OK, "PostgreSQL: connected to %s", p->addresses.name);
		if (p->user[0] == '\0')
			report_gss(p);
		else if (!report_login(p))
			return;
		close(p->backend.fd);
	}
}

/* What is dangerous about the way there. */
static void report_way(const struct address_list *list, const struct sandbox_user *who)
{
	char text[256];

	if (address_peer_danger(list, who->uid, text, sizeof text))
		report(FOUND_WARNING, "%s", text);
	if (address_is_remote(list))
		report(FOUND_WARNING,
		       "PostgreSQL at %s is another machine: what passes between pgssl and it is "
		       "in CLEAR on the "
		       "network; run pgssl there",
		       list->name);
}

static bool prepare(struct probe *p, const struct options *o, const char *user)
{
	struct error e;

	snprintf(p->user, sizeof p->user, "%s", user);
	p->clientcert = o->clientcert;
	if (address_look_up(&p->addresses, o, &e) &&
	    backend_open(&p->backend, &p->addresses, o, &e))
		return true;
	report(FOUND_ERROR, "PostgreSQL at %s", e.text);
	return false;
}

/* Who is asked for: the superuser, the user whose name a `peer` line would see, and GSSAPI. */
static unsigned prepare_all(struct probe *probes, const struct options *o,
			    const struct sandbox_user *who)
{
	char self[64];
	unsigned n = 0;

	if (!prepare(&probes[n], o, "postgres"))
		return 0;
	n++;
	if (strcmp(user_name(who->uid, self), "postgres") != 0 && prepare(&probes[n], o, self))
		n++;
	if (o->gss && prepare(&probes[n], o, ""))
		n++;
	return n;
}

/* The one thing out of its order: what comes after it could not do the rest. */
static void report_sandbox(void)
{
	struct sandbox_needs needs = {.log_to_file = true};
	struct error e;

	if (sandbox_enter(&needs, &e))
		report(FOUND_OK, "sandbox: entered");
	else
		report(FOUND_ERROR, "sandbox: %s", e.text);
}

int check_run(const struct options *o)
{
	static struct probe probes[PROBES];
	struct sandbox_user who;
	struct error e;

	report_files(o);
	tls_report(o); /* 3 */
	report_map(o);
	if (!sandbox_find_user(o->user, o->group, &who, &e)) {
		report(FOUND_ERROR, "%s", e.text);
		return report_end();
	}
	unsigned n = prepare_all(probes, o, &who); /* 4 */
	if (n > 0)
		report_way(&probes[0].addresses, &who);
	if (!become_final_user(&who)) /* 5 */
		return report_end();
	report_pidfile(o->pidfile);
	report_backend(probes, n); /* 7 */
	report_sandbox();
	return report_end();
}
