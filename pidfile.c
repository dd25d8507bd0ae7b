/* SPDX-License-Identifier: ISC
 *
 * pidfile.c - pid files (DESIGN, "PID files"). --sessions reads them: check/sessions.c.
 */
#include "pidfile.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <libutil.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sandbox/path.h"

static struct pidfh *handle;
static pid_t owner;
static char path[PATH_MAX];
static char directory[PATH_MAX];

static bool is_directory(const char *where)
{
	struct stat st;
	size_t len = strlen(where);

	return (len > 0 && where[len - 1] == '/') || (stat(where, &st) == 0 && S_ISDIR(st.st_mode));
}

/* Split `path`. Later links in front of the directory then change nothing. */
static const char *resolve_directory(void)
{
	char parent[PATH_MAX], name[PATH_MAX];

	strlcpy(parent, path, sizeof parent);
	strlcpy(name, path, sizeof name);
	strlcpy(directory, dirname(parent), sizeof directory);
	const char *why = path_resolve(directory);
	int n = snprintf(path, sizeof path, "%s/%s", strcmp(directory, "/") == 0 ? "" : directory,
			 basename(name));
	return why == NULL && (size_t)n >= sizeof path ? "the path is too long" : why;
}

/* `id` is ".PID" or "". */
static bool set_path(const char *where, const char *host, const char *port, const char *id,
		     struct error *e)
{
	size_t len = strlen(where),
	       stem = len > 4 && strcmp(where + len - 4, ".pid") == 0 ? len - 4 : len;
	int n;

	if (is_directory(where))
		n = snprintf(path, sizeof path, "%s%spgssl.%s.%s%s.pid", where,
			     where[len - 1] == '/' ? "" : "/", host, port, id);
	else if (id[0] == '\0')
		n = snprintf(path, sizeof path, "%s", where);
	else
		n = snprintf(path, sizeof path, "%.*s%s.pid", (int)stem, where, id);
	const char *why = (size_t)n < sizeof path ? resolve_directory() : "the path is too long";
	return why == NULL || fail(e, EX_CANTCREAT, "-P %s: %s", where, why);
}

/*
 * Who can write to the directory, or to one above it, can replace the file by a link between two
 * calls, unless the sticky bit forbids that. So root trusts only what is root's.
 */
static bool check_as_root(struct error *e)
{
	char copy[PATH_MAX];

	strlcpy(copy, directory, sizeof copy);
	const char *found = path_replaceable(copy);
	return found == NULL ||
	       fail(e, EX_CANTCREAT,
		    "users other than root can write to pid file directory \"%s\": make root its "
		    "owner and its mode 0755, or choose another one",
		    found);
}

static bool check_directory(struct error *e)
{
	struct stat st;

	if (stat(directory, &st) < 0)
		return fail(e, EX_CANTCREAT, "could not write pid file \"%s\": %s", path,
			    strerror(errno));
	if ((st.st_mode & S_IWOTH) != 0 && (st.st_mode & S_ISVTX) == 0)
		return fail(e, EX_CANTCREAT,
			    "everybody can write to pid file directory \"%s\": set its sticky bit "
			    "(chmod +t), or choose another one",
			    directory);
	return geteuid() != 0 || check_as_root(e);
}

/* Make sure that `path` is a regular file of ours. */
static bool claim_path(struct error *e)
{
	struct stat st;
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd >= 0) {
		close(fd);
		return true;
	}
	if (errno != EEXIST || lstat(path, &st) < 0)
		return fail(e, EX_CANTCREAT, "could not write pid file \"%s\": %s", path,
			    strerror(errno));
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_nlink != 1)
		return fail(e, EX_TEMPFAIL,
			    "could not write pid file \"%s\": it exists and is not a regular file "
			    "of this user",
			    path);
	return true;
}

static bool create_file(struct error *e)
{
	pid_t other = 0;

	if (!check_directory(e) || !claim_path(e))
		return false;
	handle = pidfile_open(path, 0600, &other);
	if (handle == NULL && errno == EEXIST)
		return fail(e, EX_TEMPFAIL, "pid file \"%s\" is locked by process %d", path,
			    (int)other);
	owner = getpid();
	if (handle == NULL || pidfile_write(handle) < 0)
		return fail(e, EX_CANTCREAT, "could not write pid file \"%s\": %s", path,
			    strerror(errno));
	return true;
}

bool pidfile_create(const char *where, const char *host, const char *port, struct error *e)
{
	char id[16];

	if (strcmp(host, "127.0.0.1") == 0 || strcmp(host, "::1") == 0)
		host = "localhost";
	snprintf(id, sizeof id, ".%d", (int)getpid());
	return set_path(where, host, port, id, e) && create_file(e);
}

bool pidfile_create_parent(const char *where, const char *host, const char *port, struct error *e)
{
	return set_path(where, host, port, "", e) && create_file(e);
}

void pidfile_close_copy(void)
{
	if (handle != NULL)
		pidfile_close(handle);
	handle = NULL;
}

const char *pidfile_directory(void)
{
	return handle != NULL ? directory : NULL;
}

void pidfile_delete(void)
{
	if (handle != NULL && owner == getpid())
		pidfile_remove(handle);
	handle = NULL;
}
