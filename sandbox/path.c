/* SPDX-License-Identifier: ISC
 *
 * sandbox/path.c - files that root opens, and directories that others can write to.
 *
 * The kernel's fs.protected_* settings can be off, and do not cover every such directory.
 */
#include "sandbox/path.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LINKS_MAX   40 /* as many as the kernel follows */
#define SHARED      "in a directory that others can write to"
#define NOT_REGULAR "it is not a regular file " SHARED

static bool is_trusted(uid_t user)
{
	return user == 0 || user == geteuid();
}

static bool is_writable(const struct stat *dir)
{
	return !is_trusted(dir->st_uid) || (dir->st_mode & (S_IWGRP | S_IWOTH)) != 0;
}

/* Can others put something in the place of `file`? Writes its directory to `dir`. */
static bool is_shared(const char *file, char dir[PATH_MAX])
{
	char copy[PATH_MAX];
	struct stat st;

	strlcpy(copy, file, sizeof copy);
	strlcpy(dir, dirname(copy), PATH_MAX);
	strlcpy(copy, dir, sizeof copy);
	return stat(dir, &st) != 0 || is_writable(&st) || path_replaceable(copy) != NULL;
}

/* Put the target of the link `path`, if it is one, before `rest`. NULL, or why that failed. */
static const char *follow_link(char path[PATH_MAX], const char *rest, bool *found)
{
	char target[PATH_MAX], dir[PATH_MAX];
	ssize_t n = readlink(path, target, sizeof target - 1);

	*found = n >= 0;
	if (n < 0)
		return NULL;
	if (is_shared(path, dir))
		return "there is a link " SHARED;
	target[n] = '\0';
	n = target[0] == '/' ? snprintf(path, PATH_MAX, "%s%s", target, rest)
			     : snprintf(path, PATH_MAX, "%s/%s%s", dir, target, rest);
	return n >= PATH_MAX ? strerror(ENAMETOOLONG) : NULL;
}

/* These links are the kernel's; what they lead to may have no path. */
static bool is_descriptor(const char *path)
{
	return strncmp(path, "/proc/self/fd/", strlen("/proc/self/fd/")) == 0;
}

const char *path_resolve(char path[PATH_MAX])
{
	char rest[PATH_MAX], here[PATH_MAX];
	unsigned links = 0;

	if (path[0] != '/') {
		strlcpy(rest, path, sizeof rest);
		if (getcwd(here, sizeof here) == NULL)
			return strerror(errno);
		if (snprintf(path, PATH_MAX, "%s/%s", here, rest) >= PATH_MAX)
			return strerror(ENAMETOOLONG);
	}
	for (size_t end = 0; path[end] != '\0' && !is_descriptor(path);) {
		bool found;

		end += strspn(path + end, "/");
		end += strcspn(path + end, "/");
		strlcpy(rest, path + end, sizeof rest);
		path[end] = '\0';
		const char *why = follow_link(path, rest, &found);
		if (why != NULL)
			return why;
		if (found && ++links > LINKS_MAX)
			return strerror(ELOOP);
		if (found)
			end = 0;
		else
			strlcat(path, rest, PATH_MAX);
	}
	return NULL;
}

const char *path_replaceable(char *path)
{
	struct stat st;

	while (stat(path, &st) == 0) {
		if (!is_trusted(st.st_uid) || (is_writable(&st) && (st.st_mode & S_ISVTX) == 0))
			return path;
		if (strcmp(path, "/") == 0)
			return NULL;
		path = dirname(path);
	}
	return path;
}

/* Others may have made it for this process to open. */
static const char *find_trap(int fd, const char *dir)
{
	struct stat st, of_dir;

	if (fstat(fd, &st) < 0 || stat(dir, &of_dir) < 0)
		return strerror(errno);
	if (!S_ISREG(st.st_mode))
		return NOT_REGULAR;
	if (st.st_nlink > 1)
		return "it is a hard link " SHARED;
	if ((of_dir.st_mode & S_IWOTH) != 0 && !is_trusted(st.st_uid))
		return "it is another user's file " SHARED;
	return NULL;
}

/* A link that others put into the resolved `path` since is not followed. */
static int open_resolved(const char *path, int flags)
{
	struct open_how how = {.mode = 0640, .resolve = RESOLVE_NO_SYMLINKS};

	flags |= O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY;
	if (is_descriptor(path))
		return open(path, flags, how.mode);
	how.flags = (unsigned)flags;
	int fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
	/* Before Linux 5.6; EPERM: an old container runtime */
	bool missing = fd < 0 && (errno == ENOSYS || errno == EPERM);
	return missing ? open(path, flags | O_NOFOLLOW, how.mode) : fd;
}

int path_append(const char *file, const char **why)
{
	char path[PATH_MAX], dir[PATH_MAX];

	*why = strlcpy(path, file, sizeof path) < sizeof path ? path_resolve(path)
							      : strerror(ENAMETOOLONG);
	if (*why != NULL)
		return -1;
	bool shared = is_shared(path, dir);
	/* Do not wait for the reader of a FIFO of others. */
	int fd = open_resolved(path, shared ? O_NONBLOCK : 0);
	if (fd < 0)
		*why = errno == ELOOP             ? "there is a link " SHARED
		       : shared && errno == ENXIO ? NOT_REGULAR
						  : strerror(errno);
	else if (shared)
		*why = find_trap(fd, dir);
	if (fd >= 0 && *why != NULL) {
		close(fd);
		fd = -1;
	}
	return fd;
}
