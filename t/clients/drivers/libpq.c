/* SPDX-License-Identifier: ISC
 *
 * t/clients/drivers/libpq.c - libpq in C. The parameters are sent in a pipeline; COPY out and rows
 * in single-row mode.
 */
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static PGconn *open_connection(void)
{
	PGconn *c = PQconnectdb("");
	if (PQstatus(c) == CONNECTION_OK)
		return c;
	printf("failed: %s", PQerrorMessage(c));
	exit(0);
}

static const char *state(PGresult *r)
{
	return PQresultErrorField(r, PG_DIAG_SQLSTATE);
}

static void connected(PGconn *c)
{
	puts(PQgetvalue(PQexec(c, "select current_user"), 0, 0));
}

static void parameters(PGconn *c)
{
	const char *value[] = {"käse 'x'", "42", NULL};
	PQenterPipelineMode(c);
	PQsendPrepare(c, "s", "select $1::text, $2::int, $3::text", 0, NULL);
	PQsendQueryPrepared(c, "s", 3, value, NULL, NULL, 0);
	PQpipelineSync(c);
	PGresult *r, *row = NULL;
	while ((r = PQgetResult(c)) != NULL || (r = PQgetResult(c)) != NULL) {
		if (PQresultStatus(r) == PGRES_TUPLES_OK)
			row = r;
		if (PQresultStatus(r) == PGRES_PIPELINE_SYNC)
			break;
	}
	printf("%s|%s|%s\n", PQgetvalue(row, 0, 0), PQgetvalue(row, 0, 1),
	       PQgetisnull(row, 0, 2) ? "NULL" : PQgetvalue(row, 0, 2));
}

static void rows(PGconn *c)
{
	PGresult *r;
	long n = 0, bytes = 0;
	PQsendQuery(c, "select repeat(md5(i::text), 320) from generate_series(1, 10000) i");
	PQsetSingleRowMode(c);
	while ((r = PQgetResult(c)) != NULL) {
		if (PQresultStatus(r) == PGRES_SINGLE_TUPLE)
			n++, bytes += PQgetlength(r, 0, 0);
		PQclear(r);
	}
	printf("%ld rows, %ld bytes\n", n, bytes);
}

static void copy(PGconn *c)
{
	char line[64] = "", *out;
	int n = 0, length;
	PQexec(c, "create temp table t (a int, b text)");
	PQexec(c, "copy t from stdin");
	for (int i = 0; i < 10000; i++)
		PQputCopyData(c, line, sprintf(line, "%d\tline %d\n", i, i));
	PQputCopyEnd(c, NULL);
	while (PQgetResult(c) != NULL)
		;
	PQexec(c, "copy (select * from t order by a) to stdout");
	for (; (length = PQgetCopyData(c, &out, 0)) > 0; n++)
		sprintf(line, "%.*s", length, out);
	printf("%d lines, last %s", n, line);
}

static void error(PGconn *c)
{
	PGresult *r = PQexec(c, "select 1/0");
	printf("%s then %s\n", state(r), PQgetvalue(PQexec(c, "select 1"), 0, 0));
}

static void notify(PGconn *c)
{
	PGnotify *n;
	PQexec(c, "listen c");
	PQexec(open_connection(), "notify c, 'hello'");
	while ((n = PQnotifies(c)) == NULL) {
		poll(&(struct pollfd){.fd = PQsocket(c), .events = POLLIN}, 1, -1);
		PQconsumeInput(c);
	}
	printf("%s %s\n", n->relname, n->extra);
}

/* A request that comes before the query has no effect: repeat it. */
static void cancel(PGconn *c)
{
	char message[256];
	PQsendQuery(c, "select pg_sleep(60)");
	do {
		PQcancel(PQgetCancel(c), message, sizeof message);
		poll(&(struct pollfd){.fd = PQsocket(c), .events = POLLIN}, 1, 100);
		PQconsumeInput(c);
	} while (PQisBusy(c));
	puts(state(PQgetResult(c)));
}

static void many(PGconn *c)
{
	int n = 0;
	for (; n < 50; n++)
		PQclear(PQexec(c = open_connection(), "select 1"));
	printf("%d\n", n);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(PGconn *);
	} checks[] = {{"connected", connected}, {"parameters", parameters},
		      {"rows", rows},           {"copy", copy},
		      {"error", error},         {"notify", notify},
		      {"cancel", cancel},       {"many", many}};
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int i = 1; i < argc; i++) {
		for (size_t k = 0; k < sizeof checks / sizeof *checks; k++) {
			if (strcmp(argv[i], checks[k].name) == 0) {
				printf("%s ", argv[i]);
				checks[k].run(open_connection());
			}
		}
	}
}
