/* SPDX-License-Identifier: ISC
 *
 * sandbox/landlock.c - step 5: no file system, and no TCP but to the backend.
 *
 * Assumes one thread: Landlock confines the calling thread only.
 */
#include "sandbox/sandbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What <linux/landlock.h> of Debian 12, which ends at ABI 2, does not have. */
#define NET_BIND_TCP    (1ULL << 0)
#define NET_CONNECT_TCP (1ULL << 1)
#define NET_TCP         (NET_BIND_TCP | NET_CONNECT_TCP)
#define RULE_NET_PORT   2

struct ruleset {
	uint64_t fs, net, scoped;
};

/* The access rights that the kernel supports, by its ABI. All are denied. */
static const struct ruleset known[] = {
    [1] = {.fs = (1ULL << 13) - 1},
    [2] = {.fs = (1ULL << 14) - 1}, /* refer */
    [3] = {.fs = (1ULL << 15) - 1}, /* truncate */
    [4] = {.fs = (1ULL << 15) - 1, .net = NET_TCP},
    [5] = {.fs = (1ULL << 16) - 1, .net = NET_TCP},              /* ioctl on devices */
    [6] = {.fs = (1ULL << 16) - 1, .net = NET_TCP, .scoped = 3}, /* abstract sockets, signals */
};

#define LAST_ABI ((int)(sizeof known / sizeof *known) - 1)

/* Allow `rights` beneath the directory `path`. */
static bool allow_beneath(int fd, const char *path, uint64_t rights, struct error *e)
{
	struct landlock_path_beneath_attr rule = {
	    .allowed_access = rights, .parent_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC)};

	if (rule.parent_fd < 0)
		return fail(e, EX_OSFILE, "could not open directory \"%s\": %s", path,
			    strerror(errno));
	long result = syscall(SYS_landlock_add_rule, fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
	close(rule.parent_fd);
	return result == 0 ||
	       fail(e, EX_OSERR, "could not allow \"%s\" in Landlock: %s", path, strerror(errno));
}

/* Allow what the links in a directory of certificates or lists lead to. */
static bool allow_links(int fd, const char *directory, uint64_t rights, struct error *e)
{
	char name[PATH_MAX], target[PATH_MAX];
	DIR *d = opendir(directory);
	const struct dirent *entry;
	struct stat st;
	bool ok = d != NULL || errno == ENOTDIR || errno == ENOENT; /* a file, or not there now */

	if (!ok)
		return fail(e, EX_OSERR, "could not open directory \"%s\": %s", directory,
			    strerror(errno));
	while (ok && d != NULL && (entry = readdir(d)) != NULL) {
		int len = snprintf(name, sizeof name, "%s/%s", directory, entry->d_name);
		if ((size_t)len < sizeof name && stat(name, &st) == 0 && S_ISREG(st.st_mode) &&
		    realpath(name, target) != NULL)
			ok = allow_beneath(fd, dirname(target), rights, e);
	}
	if (d != NULL)
		closedir(d);
	return ok;
}

/* Allow the directory in which a new version will be, and the one that a link leads to. */
static bool allow_reading(int fd, const char *file, struct error *e)
{
	static const uint64_t rights = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
	char name[PATH_MAX], target[PATH_MAX];

	if (strlcpy(name, file, sizeof name) >= sizeof name)
		return fail(e, EX_USAGE, "file name too long: \"%.100s...\"", file);
	if (!allow_beneath(fd, dirname(name), rights, e))
		return false;
	if (realpath(file, target) != NULL)
		return allow_beneath(fd, dirname(target), rights, e) &&
		       allow_links(fd, file, rights, e);
	return errno == ENOENT || /* not there now */
	       fail(e, EX_OSERR, "could not find \"%s\": %s", file, strerror(errno));
}

static bool allow_needs(int fd, const struct sandbox_needs *needs, const struct ruleset *denied,
			struct error *e)
{
	const uint64_t rule[] = {NET_CONNECT_TCP, needs->tcp_port}; /* landlock_net_port_attr */

	for (unsigned i = 0; i < needs->read_count; i++)
		if (!allow_reading(fd, needs->read_again[i], e))
			return false;
	if (needs->remove_in != NULL &&
	    !allow_beneath(fd, needs->remove_in, LANDLOCK_ACCESS_FS_REMOVE_FILE, e))
		return false;
	if (needs->tcp_port != 0 && (denied->net & NET_CONNECT_TCP) != 0 &&
	    syscall(SYS_landlock_add_rule, fd, RULE_NET_PORT, rule, 0) != 0)
		return fail(e, EX_OSERR, "could not allow port %u in Landlock: %s", needs->tcp_port,
			    strerror(errno));
	return true;
}

bool sandbox_landlock(const struct sandbox_needs *needs, int *missing, struct error *e)
{
	int abi =
	    (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	*missing = abi >= 1 ? 0 : errno;
	if (*missing != 0)
		return true;
	struct ruleset denied = known[abi < LAST_ABI ? abi : LAST_ABI];
	if (needs->bind) /* to any port: the kernel chooses it */
		denied.net &= ~NET_BIND_TCP;
	int fd = (int)syscall(SYS_landlock_create_ruleset, &denied, sizeof denied, 0);
	if (fd < 0)
		return fail(e, EX_OSERR, "could not create a Landlock ruleset, ABI %d: %s", abi,
			    strerror(errno));
	bool ok = allow_needs(fd, needs, &denied, e);
	if (ok && syscall(SYS_landlock_restrict_self, fd, 0) != 0)
		ok = fail(e, EX_OSERR, "could not enter Landlock: %s", strerror(errno));
	close(fd);
	return ok;
}
