/* SPDX-License-Identifier: ISC
 *
 * options.h - step 1: the command line, the only configuration.
 *
 * Opens nothing and asks the system nothing. The letters are those of the classic wrapper.
 */
#ifndef PGSSL_OPTIONS_H
#define PGSSL_OPTIONS_H

#include <stdbool.h>

#include "log.h"

#define OPTIONS_CERTS 2 /* an RSA and an ECDSA certificate */

/* The choices: 0 if the option was not given, else numbered as in the option's row in options.c. */
enum protocol { PROTOCOL_UNSET, PROTOCOL_TLS_1_2, PROTOCOL_TLS_1_3 };
enum alpn { ALPN_UNSET, ALPN_OPTIONAL, ALPN_REQUIRE };
enum clientcert { CLIENTCERT_UNSET, CLIENTCERT_VERIFY_CA, CLIENTCERT_VERIFY_FULL };
enum clientname { CLIENTNAME_UNSET, CLIENTNAME_CN, CLIENTNAME_DN, CLIENTNAME_SAN };
enum classic_verify { CLASSIC_UNSET, CLASSIC_IGNORE, CLASSIC_REQUEST, CLASSIC_REQUIRE };
enum sslmode { SSLMODE_UNSET, SSLMODE_REQUIRE, SSLMODE_VERIFY_CA, SSLMODE_VERIFY_FULL };
enum sslnegotiation { SSLNEGOTIATION_UNSET, SSLNEGOTIATION_POSTGRES, SSLNEGOTIATION_DIRECT };

/* Strings point into argv, and are NULL if not given. */
struct options {
	const char *cert[OPTIONS_CERTS];
	const char *key, *passphrase_command;
	const char *ciphers, *ciphersuites, *groups;
	enum protocol min_protocol, max_protocol;
	enum alpn alpn;
	enum clientcert clientcert;
	enum clientname clientname;         /* never UNSET */
	enum classic_verify classic_verify; /* -v; only for options_parse */
	bool clientcert_expiry;
	const char *ident_map, *map;
	const char *connect, *local;
	bool client;
	const char *ca, *crl; /* in client mode `ca` may be "system" */
	enum sslmode sslmode; /* client mode: what is verified; REQUIRE: nothing. Never UNSET */
	enum sslnegotiation sslnegotiation;
	const char *servername; /* NULL: the host in `connect` */
	const char *listen;     /* -d */
	bool inherited;         /* a super-server passed a listening socket: as -d -f */
	bool foreground;
	int max_connections, max_per_source, grace, idle_exit;
	bool proxy_protocol, transparent, application_name_host;
	const char *pidfile, *sessions;
	const char *user, *group;
	int handshake_timeout, connect_timeout, idle_timeout, keepalive; /* seconds */
	int spin;                                                        /* microseconds */
	bool gss;
	const char *log, *service;
	int debug; /* syslog's levels */
	bool check, help, version;
};

/*
 * Parse argv[1..argc); argv[0] is a name, or an option that inetd.conf put there, and is skipped.
 * `inherited`: a super-server passed a listening socket, so the options of -d hold without it.
 * Fails with EX_USAGE, and `e` names option and fault. What was parsed before is in `o` even then,
 * so that the log can be opened where it belongs.
 */
bool options_parse(struct options *o, int argc, char **argv, bool inherited,
		   struct error *e) MUST_USE;

/* Is this process to accept clients? Otherwise its client is on standard input and output. */
bool options_listener(const struct options *o);

/* --help, to standard output. */
void options_help(void);

#endif
