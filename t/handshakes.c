/* SPDX-License-Identifier: ISC
 *
 * t/handshakes.c - a client that does one TLS handshake for each line of standard input.
 *
 * A line is "PORT PROTOCOL [OPTION VALUE]...". PROTOCOL is postgres (SSLRequest, handshake,
 * StartupMessage), direct (no SSLRequest) or http (handshake, GET). The options are those of
 * SSL_CONF_cmd(3), such as -groups, -sigalgs and -cert, and "-pad N", which makes the ClientHello N
 * bytes longer. The client has security level 0 and verifies nothing, so that only the server can
 * refuse. The answer to each line is one of
 *
 *	done VERSION CIPHER GROUP    the handshake is complete, and the server answered
 *	failed REASON                it is not, or the server did not answer
 *	unknown OPTION VALUE         this OpenSSL does not know the option's value
 */
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define PATIENCE 60 /* seconds without an answer */

static const char ssl_request[] = "\0\0\0\010\004\322\026\057";
static const char startup[] = "\0\0\0\024\0\003\0\0user\0alice\0";
static const char get[] = "GET / HTTP/1.0\r\n\r\n";

/* An extension with a number for private use (RFC 8446, 11). Servers must ignore it. */
static int add_padding(SSL *ssl, unsigned type, unsigned context, const unsigned char **out,
		       size_t *len, X509 *x, size_t chain_index, int *alert, void *size)
{
	static const unsigned char zeros[UINT16_MAX];

	(void)ssl, (void)type, (void)context, (void)x, (void)chain_index, (void)alert;
	*out = zeros;
	*len = *(const size_t *)size;
	return 1;
}

static int pad(SSL_CTX *ctx, const char *length)
{
	static size_t size;

	size = (size_t)atoi(length);
	return SSL_CTX_add_custom_ext(ctx, 65282, SSL_EXT_CLIENT_HELLO, add_padding, NULL, &size,
				      NULL, NULL);
}

/* Apply the OPTION VALUE pairs of a line. Return the first that OpenSSL does not know, or NULL. */
static const char *configure(SSL_CTX *ctx, char *words, char **save)
{
	static char refused[256];
	SSL_CONF_CTX *conf = SSL_CONF_CTX_new();
	char *option, *value;

	refused[0] = '\0';
	SSL_CONF_CTX_set_flags(conf, SSL_CONF_FLAG_CMDLINE | SSL_CONF_FLAG_CLIENT |
					 SSL_CONF_FLAG_CERTIFICATE);
	SSL_CONF_CTX_set_ssl_ctx(conf, ctx);
	while (refused[0] == '\0' && (option = strtok_r(words, " \n", save)) != NULL &&
	       (value = strtok_r(NULL, " \n", save)) != NULL)
		if ((strcmp(option, "-pad") == 0 ? pad(ctx, value)
						 : SSL_CONF_cmd(conf, option, value)) <= 0)
			snprintf(refused, sizeof refused, "%s %s", option, value);
	if (SSL_CONF_CTX_finish(conf) != 1)
		snprintf(refused, sizeof refused, "certificate");
	SSL_CONF_CTX_free(conf);
	return refused[0] != '\0' ? refused : NULL;
}

static int connect_to(const char *port)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
				 .sin_port = htons((unsigned short)atoi(port)),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval patience = {.tv_sec = PATIENCE};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
		return fd;
	close(fd);
	return -1;
}

static bool wants_tls(int fd)
{
	char answer;

	return send(fd, ssl_request, 8, 0) == 8 && recv(fd, &answer, 1, 0) == 1 && answer == 'S';
}

/* Send the request and read to the end. */
static bool is_answered(SSL *ssl, bool postgres)
{
	char buf[16384];
	bool answered = false;

	SSL_write(ssl, postgres ? startup : get, (int)(postgres ? sizeof startup : sizeof get - 1));
	while (SSL_read(ssl, buf, sizeof buf) > 0)
		answered = true;
	return answered;
}

static const char *group(SSL *ssl)
{
	const char *name = SSL_group_to_name(ssl, (int)SSL_get_negotiated_group(ssl));

	return name != NULL ? name : "-";
}

static void report_failure(void)
{
	const char *reason = ERR_reason_error_string(ERR_peek_error());

	printf("failed %s\n", reason != NULL ? reason : "no answer");
}

static void handshake(SSL_CTX *ctx, const char *port, const char *protocol)
{
	int fd = connect_to(port);
	SSL *ssl = SSL_new(ctx);

	SSL_set_fd(ssl, fd);
	ERR_clear_error();
	if (fd == -1 || (strcmp(protocol, "postgres") == 0 && !wants_tls(fd)))
		puts("failed no TLS there");
	else if (SSL_connect(ssl) != 1 || !is_answered(ssl, strcmp(protocol, "http") != 0))
		report_failure();
	else
		printf("done %s %s %s\n", SSL_get_version(ssl), SSL_get_cipher_name(ssl),
		       group(ssl));
	SSL_free(ssl);
	if (fd != -1)
		close(fd);
}

int main(void)
{
	char line[8192];

	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof line, stdin) != NULL) {
		char *save, *port = strtok_r(line, " \n", &save),
			    *protocol = strtok_r(NULL, " \n", &save);
		SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

		if (port == NULL || protocol == NULL)
			return 1;
		SSL_CTX_set_security_level(ctx, 0);
		SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
		const char *refused = configure(ctx, NULL, &save);
		if (refused != NULL)
			printf("unknown %s\n", refused);
		else
			handshake(ctx, port, protocol);
		SSL_CTX_free(ctx);
	}
	return 0;
}
