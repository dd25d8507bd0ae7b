/* SPDX-License-Identifier: ISC
 *
 * check/sessions.c - --sessions: a table of live sessions, from pid files and process titles.
 *
 * Both may be anybody's: nothing but printable ASCII goes to the terminal.
 */
#include "check/check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#define TITLE "pgssl: "
#define WIDE  40 /* a longer field moves the columns of its own line only */

enum column { PROCESS, USER, DATABASE, CLIENT, TLS, CIPHER, SINCE, COLUMNS };

struct row {
	long pid;
	unsigned long long started; /* in ticks since the boot */
	const char *fields[COLUMNS];
};

static struct row *rows;
static size_t count;

static char *copy(const char *text)
{
	char *new = strdup(text);

	if (new == NULL)
		die(EX_OSERR, "out of memory");
	return new;
}

/* Read /proc/PID/NAME; "" if the process is gone. */
static char *read_proc(long pid, const char *name, char *text, size_t size)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/%ld/%s", pid, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);
	if (n < 0 && errno != ENOENT && errno != ESRCH)
		log_line(LOG_WARNING, "could not read %s: %s", path, strerror(errno));
	text[n > 0 ? n : 0] = '\0';
	if (fd >= 0)
		close(fd);
	return text;
}

/* Field 22 of proc_pid_stat(5). The name, field 2, may contain anything. */
static unsigned long long start_ticks(long pid)
{
	char text[1024];
	const char *at = strrchr(read_proc(pid, "stat", text, sizeof text), ')');

	for (int field = 3; at != NULL && field <= 22; field++)
		at = strchr(at + 1, ' ');
	return at != NULL ? strtoull(at, NULL, 10) : 0;
}

static const char *format_start(unsigned long long ticks)
{
	char text[32];
	struct timespec boot;
	struct tm tm;

	clock_gettime(CLOCK_BOOTTIME, &boot);
	time_t start = time(NULL) - boot.tv_sec + (time_t)ticks / sysconf(_SC_CLK_TCK);
	strftime(text, sizeof text, "%F %T", localtime_r(&start, &tm));
	return copy(text);
}

/* `title`: "alice sales 192.0.2.7(51234) TLSv1.3 TLS_AES_256_GCM_SHA384", "startup 192.0.2.7" */
static void add_session(long pid, char *title)
{
	struct row r = {.pid = pid, .started = start_ticks(pid)};
	char number[24];
	int last = USER;

	title = copy(title);
	for (char *word; last < SINCE && (word = strsep(&title, " ")) != NULL; last++)
		r.fields[last] = word;
	if (last <= CLIENT) { /* the startup packet is not in */
		r.fields[CLIENT] = r.fields[DATABASE];
		r.fields[USER] = r.fields[DATABASE] = NULL;
	}
	snprintf(number, sizeof number, "%ld", pid);
	r.fields[PROCESS] = copy(number);
	r.fields[SINCE] = format_start(r.started);
	for (int i = 0; i < COLUMNS; i++)
		if (r.fields[i] == NULL)
			r.fields[i] = "-";
	rows = reallocarray(rows, count + 1, sizeof *rows);
	if (rows == NULL)
		die(EX_OSERR, "out of memory");
	rows[count++] = r;
}

/* What follows "pgssl: " in the title of a process of pgssl, or NULL. */
static char *read_title(long pid, char *buf, size_t size)
{
	read_proc(pid, "cmdline", buf, size);
	for (char *c = buf; *c != '\0'; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
	return strncmp(buf, TITLE, strlen(TITLE)) == 0 ? buf + strlen(TITLE) : NULL;
}

/* Sessions of a listener have no pid files. */
static void add_children(long listener)
{
	char path[64], buf[1024];
	long pid;

	snprintf(path, sizeof path, "/proc/%ld/task/%ld/children", listener, listener);
	FILE *f = fopen(path, "re");
	while (f != NULL && fscanf(f, "%ld", &pid) == 1) {
		char *title = read_title(pid, buf, sizeof buf);
		if (title != NULL && strcmp(title, "looking up names") != 0)
			add_session(pid, title);
	}
	if (f == NULL || ferror(f) != 0)
		log_line(LOG_WARNING, "could not list the sessions of listener %ld: %s", listener,
			 strerror(errno));
	if (f != NULL)
		fclose(f);
}

/*
 * The lock says whether it is still the process that wrote the file. To ask for it takes it for a
 * moment, so the number and the title are looked at first: a new file has no number yet. False if
 * it cannot be read.
 */
static bool read_file(int fd)
{
	char number[24] = "", buf[1024];

	if (read(fd, number, sizeof number - 1) < 0)
		return errno == EISDIR;
	long pid = strtol(number, NULL, 10);
	char *title = pid > 0 ? read_title(pid, buf, sizeof buf) : NULL;
	if (title == NULL || flock(fd, LOCK_SH | LOCK_NB) == 0)
		return true;
	if (errno != EWOULDBLOCK)
		return false;
	if (strncmp(title, "listening on port ", 18) == 0 ||
	    strcmp(title, "listening on a Unix socket") == 0)
		add_children(pid);
	else
		add_session(pid, title);
	return true;
}

static int by_start(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	if (x->started != y->started)
		return x->started < y->started ? -1 : 1;
	return (x->pid > y->pid) - (x->pid < y->pid);
}

static void print_row(const char *const *fields, const int *widths)
{
	for (int i = 0; i < SINCE; i++)
		printf("%-*s  ", widths[i], fields[i]);
	puts(fields[SINCE]);
}

static void print_table(void)
{
	static const char *const headings[COLUMNS] = {"PROCESS", "USER",   "DATABASE", "CLIENT",
						      "TLS",     "CIPHER", "SINCE"};
	int widths[COLUMNS];

	qsort(rows, count, sizeof *rows, by_start);
	for (int i = 0; i < COLUMNS; i++) {
		widths[i] = (int)strlen(headings[i]);
		for (size_t k = 0; k < count; k++) {
			int len = (int)strlen(rows[k].fields[i]);
			if (len > widths[i] && len <= WIDE)
				widths[i] = len;
		}
	}
	print_row(headings, widths);
	for (size_t k = 0; k < count; k++)
		if (k == 0 || rows[k].pid != rows[k - 1].pid) /* named by two files */
			print_row(rows[k].fields, widths);
}

/* Another kind of file, or one that has gone or may not be read, is no error yet. */
static bool read_entry(int dir, const char *name, unsigned *unreadable, struct error *e)
{
	size_t len = strlen(name);

	if (len <= 4 || strcmp(name + len - 4, ".pid") != 0)
		return true;
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0) {
		*unreadable += errno == EACCES;
		return errno == EACCES || errno == ENOENT || errno == ELOOP || errno == ENXIO ||
		       fail(e, EX_IOERR, "could not open pid file \"%s\": %s", name,
			    strerror(errno));
	}
	bool ok = read_file(fd) ||
		  fail(e, EX_IOERR, "could not read pid file \"%s\": %s", name, strerror(errno));
	close(fd);
	return ok;
}

static bool read_directory(const char *directory, unsigned *unreadable, struct error *e)
{
	DIR *d = opendir(directory);
	struct dirent *entry;
	bool ok = true;

	if (d == NULL)
		return fail(e, EX_NOINPUT, "could not open pid file directory \"%s\": %s",
			    directory, strerror(errno));
	for (errno = 0; ok && (entry = readdir(d)) != NULL; errno = 0)
		ok = read_entry(dirfd(d), entry->d_name, unreadable, e);
	if (ok && errno != 0)
		ok = fail(e, EX_IOERR, "could not read pid file directory \"%s\": %s", directory,
			  strerror(errno));
	closedir(d);
	return ok;
}

bool check_sessions(const char *directory, struct error *e)
{
	unsigned unreadable = 0;

	if (!read_directory(directory, &unreadable, e))
		return false;
	if (count > 0)
		print_table();
	else if (unreadable == 0)
		puts("no sessions");
	return unreadable == 0 ||
	       fail(e, EX_NOPERM, "could not read %u pid file%s in \"%s\": run --sessions as root",
		    unreadable, unreadable == 1 ? "" : "s", directory);
}
