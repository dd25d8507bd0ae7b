/* SPDX-License-Identifier: ISC
 *
 * options.h - step 1: the command line, which decides everything; there is no configuration file.
 *
 * Opens nothing and asks nothing of the system. The letters are those of the classic wrapper command lines.
 */
#ifndef PGSSL_OPTIONS_H
#define PGSSL_OPTIONS_H

#include <stdbool.h>

#include "log.h"

#define OPTIONS_CERTS 2

/* What --clientcert demands. */
enum clientcert { CLIENTCERT_OPTIONAL, CLIENTCERT_VERIFY_CA, CLIENTCERT_VERIFY_FULL };

/* Texts point into argv. A text that was not given is NULL, a choice 0. */
struct options {
	const char *cert[OPTIONS_CERTS];
	const char *key, *passphrase_command;
	const char *ciphers, *ciphersuites, *groups;
	int min_protocol, max_protocol; /* 1: TLSv1.2, 2: TLSv1.3 */
	int alpn;                       /* 1: optional, 2: require */
	int clientcert, clientname; /* enum clientcert; 1: CN, 2: DN, 3: SAN, as enum tls_name */
	int classic_verify;         /* -v: 1, 2, 3 for 0, 1, 2; only for options_parse */
	bool clientcert_expiry;
	const char *ident_map, *map;
	const char *connect, *local;
	bool client;
	const char *ca, *crl;
	int sslmode;        /* 1: require, 2: verify-ca, 3: verify-full */
	int sslnegotiation; /* 1: postgres, 2: direct */
	const char *servername;
	const char *listen; /* NULL: the client is on standard input and output */
	bool foreground;
	int max_connections, grace;
	bool proxy_protocol, transparent, application_name_host;
	const char *pidfile, *sessions;
	const char *user, *group;
	int handshake_timeout, connect_timeout, idle_timeout, keepalive; /* seconds */
	int spin;                                                       /* microseconds */
	bool gss;
	const char *log, *service;
	int debug; /* syslog's levels */
	bool check, help, version;
};

/*
 * Take argv[1..argc) apart; argv[0] is a name, or an option that inetd.conf left there, and is passed over. On failure `e` has EX_USAGE and names
 * the option and what is wrong with it; what was understood before stands in `o`, so that the log can be opened where it was asked for.
 */
bool options_parse(struct options *o, int argc, char **argv, struct error *e) MUST_USE;

/* --help: all options, a line each, to standard output. */
void options_help(void);

/* --version, with what `library` says. */
void options_version(const char *library);

#endif
