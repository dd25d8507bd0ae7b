/* SPDX-License-Identifier: ISC
 *
 * sandbox/landlock.c - step 5: an empty file system and no TCP but to PostgreSQL, by Landlock.
 *
 * Assumes one thread (Landlock binds the thread that asks) and that it is called before the system-call filter.
 */
#include "sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * The kernel's own names and numbers; <linux/landlock.h> of the oldest system that we build on ends at ABI 2.
 */

#define FS_EXECUTE     (1ULL << 0)
#define FS_WRITE_FILE  (1ULL << 1)
#define FS_READ_FILE   (1ULL << 2)
#define FS_READ_DIR    (1ULL << 3)
#define FS_REMOVE_FILE (1ULL << 5)
#define FS_MAKE_REG    (1ULL << 8)
#define FS_TRUNCATE    (1ULL << 14)
#define FS_FIRST_13    ((1ULL << 13) - 1)

#define NET_BIND_TCP    (1ULL << 0)
#define NET_CONNECT_TCP (1ULL << 1)

#define SCOPE_ABSTRACT_UNIX (1ULL << 0)
#define SCOPE_SIGNAL        (1ULL << 1)

#define RULE_PATH_BENEATH 1
#define RULE_NET_PORT     2
#define ASK_VERSION       1U

struct ruleset_attr {
	uint64_t fs, net, scoped;
};

struct path_rule {
	uint64_t allowed;
	int32_t folder;
} __attribute__((packed));

struct port_rule {
	uint64_t allowed, port;
};

/* What each ABI brought: all of it is denied, as far as this kernel knows it. */
static const struct {
	int abi;
	struct ruleset_attr denied;
} abis[] = {
    {1, {.fs = FS_FIRST_13}},
    {2, {.fs = 1ULL << 13 /* refer: rename and link between folders */}},
    {3, {.fs = FS_TRUNCATE}},
    {4, {.net = NET_BIND_TCP | NET_CONNECT_TCP}},
    {5, {.fs = 1ULL << 15 /* ioctl on devices */}},
    {6, {.scoped = SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL}},
};

static int landlock_abi(void)
{
	return (int)syscall(SYS_landlock_create_ruleset, NULL, 0, ASK_VERSION);
}

static void all_denied(int abi, struct ruleset_attr *denied)
{
	*denied = (struct ruleset_attr){0};
	for (size_t i = 0; i < sizeof abis / sizeof *abis && abis[i].abi <= abi; i++) {
		denied->fs |= abis[i].denied.fs;
		denied->net |= abis[i].denied.net;
		denied->scoped |= abis[i].denied.scoped;
	}
}

/* An empty ruleset: all that it handles is denied. -1 and no error where the kernel (or the container's own filter) has no Landlock. */
static bool deny_all(bool bind, struct ruleset_attr *denied, int *ruleset, struct error *e)
{
	int abi = landlock_abi();

	*ruleset = -1;
	if (abi < 1)
		return true;
	all_denied(abi, denied);
	if (bind) /* any port: the client's own, or one that the kernel chooses; the filter takes bind() away afterwards */
		denied->net &= ~NET_BIND_TCP;
	*ruleset = (int)syscall(SYS_landlock_create_ruleset, denied, sizeof *denied, 0);
	if (*ruleset < 0)
		return fail(e, EX_OSERR, "could not create a Landlock ruleset, ABI %d: %s", abi,
			    strerror(errno));
	return true;
}

/* `rights` beneath `path`, as far as they are denied elsewhere. */
static bool allow_beneath(int ruleset, const struct ruleset_attr *denied, const char *path,
			  uint64_t rights, struct error *e)
{
	struct path_rule rule = {.allowed = rights & denied->fs,
				 .folder = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC)};

	if (rule.folder < 0)
		return fail(e, EX_OSFILE, "could not open folder \"%s\": %s", path,
			    strerror(errno));
	long result = syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &rule, 0);
	close(rule.folder);
	if (result != 0)
		return fail(e, EX_OSERR, "could not except \"%s\" from Landlock: %s", path,
			    strerror(errno));
	return true;
}

static bool allow_port(int ruleset, const struct ruleset_attr *denied, uint16_t port,
		       struct error *e)
{
	struct port_rule rule = {.allowed = NET_CONNECT_TCP, .port = port};

	if (port != 0 && (denied->net & NET_CONNECT_TCP) != 0 &&
	    syscall(SYS_landlock_add_rule, ruleset, RULE_NET_PORT, &rule, 0) != 0)
		return fail(e, EX_OSERR, "could not except port %u from Landlock: %s", port,
			    strerror(errno));
	return true;
}

static bool shut_landlock(int ruleset, struct error *e)
{
	long result = syscall(SYS_landlock_restrict_self, ruleset, 0);

	close(ruleset);
	if (result != 0)
		return fail(e, EX_OSERR, "could not enter Landlock: %s", strerror(errno));
	return true;
}

bool sandbox_landlock(const struct sandbox_needs *needs, unsigned *missing, struct error *e)
{
	struct ruleset_attr denied;
	int ruleset;

	if (!deny_all(needs->bind, &denied, &ruleset, e))
		return false;
	if (ruleset < 0) {
		*missing |= SANDBOX_LANDLOCK;
		return true;
	}
	if (needs->remove_in != NULL &&
	    !allow_beneath(ruleset, &denied, needs->remove_in, FS_REMOVE_FILE, e))
		return false;
	if (!allow_port(ruleset, &denied, needs->tcp_port, e))
		return false;
	return shut_landlock(ruleset, e);
}

/* The folder of the name, in which a renewed file will stand, and the one where a link ends (certbot's archive/ and the like). */
static bool allow_reading(int ruleset, const struct ruleset_attr *denied, const char *file,
			  struct error *e)
{
	char name[PATH_MAX], target[PATH_MAX];

	if (strlcpy(name, file, sizeof name) >= sizeof name)
		return fail(e, EX_USAGE, "file name too long: \"%.100s...\"", file);
	if (!allow_beneath(ruleset, denied, dirname(name), FS_READ_FILE | FS_READ_DIR, e))
		return false;
	if (realpath(file, target) == NULL)
		return true; /* is not there now; when it is, it stands in its folder */
	return allow_beneath(ruleset, denied, dirname(target), FS_READ_FILE | FS_READ_DIR, e);
}

bool sandbox_landlock_parent(const struct sandbox_parent_needs *needs, unsigned *missing,
			     struct error *e)
{
	static const uint64_t pid_files = FS_REMOVE_FILE; /* it has been written */
	struct ruleset_attr denied;
	int ruleset;

	if (!deny_all(needs->bind, &denied, &ruleset, e))
		return false;
	if (ruleset < 0) {
		*missing |= SANDBOX_LANDLOCK;
		return true;
	}
	for (unsigned i = 0; i < needs->read_count; i++)
		if (!allow_reading(ruleset, &denied, needs->read_again[i], e))
			return false;
	if (needs->pid_folder != NULL &&
	    !allow_beneath(ruleset, &denied, needs->pid_folder, pid_files, e))
		return false;
	if (!allow_port(ruleset, &denied, needs->tcp_port, e))
		return false;
	return shut_landlock(ruleset, e);
}
