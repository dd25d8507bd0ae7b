/* SPDX-License-Identifier: ISC
 *
 * sandbox/sandbox.c - step 5: privileges, limits, and the order of the layers.
 *
 * Assumes one thread, and that step 0 closed every descriptor that is not ours.
 */
#include "sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <malloc.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

extern char **environ;

/* A session needs about 3 MiB, with the largest chain that OpenSSL accepts about 10. */
#define MOST_MEMORY ((rlim_t)256 * 1024 * 1024)

/* A process with a saved uid of 0 can regain root too. */
static bool am_root(void)
{
	uid_t r, e, s;

	return getresuid(&r, &e, &s) != 0 || r == 0 || e == 0 || s == 0;
}

/* -1 means "no change" to setresuid() and is no valid id. */
static bool parse_id(const char *text, unsigned *id)
{
	const char *problem;
	long long n = strtonum(text, 0, UINT32_MAX - 1, &problem);

	*id = (unsigned)n;
	return problem == NULL;
}

/* Did getpwnam(3) or getgrnam(3) fail, rather than find nothing? */
static bool look_up_failed(const char *what, const char *name, struct error *e)
{
	switch (errno) {
	case ENOMEM:
		return !fail(e, EX_OSERR, "out of memory");
	case EACCES:
	case EINTR:
	case EIO:
	case EMFILE:
	case ENFILE:
		return !fail(e, EX_OSERR, "could not look up %s \"%s\": %s", what, name,
			     strerror(errno));
	default:
		return false;
	}
}

static bool find_group(const char *group, gid_t *gid, struct error *e)
{
	errno = 0;
	const struct group *gr = getgrnam(group);
	if (gr == NULL && look_up_failed("group", group, e))
		return false;
	if (gr != NULL)
		*gid = gr->gr_gid;
	return gr != NULL || parse_id(group, gid) ||
	       fail(e, EX_NOUSER, "group \"%s\" does not exist (see -g)", group);
}

static bool find_user(const char *user, bool has_group, struct sandbox_user *who, struct error *e)
{
	errno = 0;
	const struct passwd *pw = getpwnam(user);
	if (pw == NULL && look_up_failed("user", user, e))
		return false;
	if (pw == NULL && !parse_id(user, &who->uid))
		return fail(e, EX_NOUSER, "user \"%s\" does not exist; choose another one with -s",
			    user);
	if (pw == NULL && (pw = getpwuid(who->uid)) == NULL)
		return has_group ||
		       fail(e, EX_NOUSER,
			    "user %u has no passwd entry with a group; choose a group with -g",
			    (unsigned)who->uid);
	who->uid = pw->pw_uid;
	who->gid = pw->pw_gid;
	return true;
}

bool sandbox_find_user(const char *user, const char *group, struct sandbox_user *who,
		       struct error *e)
{
	bool root = am_root();

	*who = (struct sandbox_user){.uid = geteuid(), .gid = getegid(), .change = root};
	if (user == NULL && root)
		user = "nobody";
	if (user != NULL && !find_user(user, group != NULL, who, e))
		return false;
	if (group != NULL && !find_group(group, &who->gid, e))
		return false;
	if (!root && (who->uid != geteuid() || who->gid != getegid()))
		return fail(
		    e, EX_NOPERM,
		    "only root can become user %u, group %u; start as root or leave out -s and -g",
		    (unsigned)who->uid, (unsigned)who->gid);
	return true;
}

/* A user namespace or a security module may report success and do something else. */
static bool is_exactly(const struct sandbox_user *who)
{
	uid_t ru, eu, su;
	gid_t rg, eg, sg;

	if (getresuid(&ru, &eu, &su) != 0 || ru != who->uid || eu != who->uid || su != who->uid)
		return false;
	if (getresgid(&rg, &eg, &sg) != 0 || rg != who->gid || eg != who->gid || sg != who->gid)
		return false;
	return getgroups(0, NULL) == 0;
}

bool sandbox_drop_privileges(const struct sandbox_user *who, struct error *e)
{
	if (!who->change)
		return true;
	/* uid last: the other two need root. */
	if (setgroups(0, NULL) != 0)
		return fail(e, EX_NOPERM, "could not drop supplementary groups: %s",
			    strerror(errno));
	if (setresgid(who->gid, who->gid, who->gid) != 0)
		return fail(e, EX_NOPERM, "could not become group %u: %s", (unsigned)who->gid,
			    strerror(errno));
	if (setresuid(who->uid, who->uid, who->uid) != 0)
		return fail(e, EX_NOPERM, "could not become user %u: %s", (unsigned)who->uid,
			    strerror(errno));
	if (!is_exactly(who))
		return fail(e, EX_OSERR, "did not become user %u, group %u", (unsigned)who->uid,
			    (unsigned)who->gid);
	if (who->uid != 0 && (setuid(0) == 0 || seteuid(0) == 0 || setgroups(0, NULL) == 0))
		return fail(e, EX_OSERR,
			    "did not drop privileges for good: user %u can become root again",
			    (unsigned)who->uid);
	return true;
}

/* Lower the soft and the hard limit; never raise them. */
static bool set_limit(unsigned what, const char *name, rlim_t most, struct error *e)
{
	struct rlimit r = {0, 0};

	if (most > 0 && getrlimit(what, &r) != 0)
		return fail(e, EX_OSERR, "could not read limit %s: %s", name, strerror(errno));
	if (r.rlim_max == RLIM_INFINITY || r.rlim_max > most)
		r.rlim_max = most;
	r.rlim_cur = r.rlim_max;
	if (setrlimit(what, &r) != 0)
		return fail(e, EX_OSERR, "could not set limit %s: %s", name, strerror(errno));
	return true;
}

/* Is it a log, or output that a shell redirected? With RLIMIT_FSIZE 0 a write to it would fail. */
static bool is_regular_file(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

/* Revocation lists, which may have any size, do not count: the heap in steps of 16 MiB. */
static rlim_t lists_size(void)
{
	struct mallinfo2 heap = mallinfo2();

	return (heap.arena + heap.hblkhd) >> 24 << 24;
}

static bool limit_sizes(bool log_to_file, struct error *e)
{
	bool files =
	    log_to_file || is_regular_file(STDOUT_FILENO) || is_regular_file(STDERR_FILENO);

	return (files || set_limit(RLIMIT_FSIZE, "FSIZE", 0, e)) &&
	       set_limit(RLIMIT_CORE, "CORE", 0, e) &&
	       set_limit(RLIMIT_DATA, "DATA", MOST_MEMORY + lists_size(), e);
}

/* No new descriptors. Step 0 left no gaps, so the next free number is the count. */
static bool limit_descriptors(struct error *e)
{
	int next = dup(STDERR_FILENO);

	if (next >= 0)
		close(next);
	return set_limit(RLIMIT_NOFILE, "NOFILE",
			 next > SANDBOX_POLL_SLOTS ? (rlim_t)next : SANDBOX_POLL_SLOTS, e);
}

/* The environment may hold PGPASSWORD and the like: wipe the strings too, not only the list. */
static void wipe_environment(void)
{
	for (char **p = environ; p != NULL && *p != NULL; p++)
		explicit_bzero(*p, strlen(*p));
	environ = NULL;
}

/* The parent of -d keeps what reloading, its children's step 5, -T and ending its children need. */
static bool read_parents_capabilities(struct __user_cap_header_struct *header,
				      struct __user_cap_data_struct *data, struct error *e)
{
	static const uint32_t keep = 1U << CAP_SETUID | 1U << CAP_SETGID | 1U << CAP_KILL |
				     1U << CAP_DAC_OVERRIDE | 1U << CAP_DAC_READ_SEARCH |
				     1U << CAP_NET_ADMIN;

	if (syscall(SYS_capget, header, data) != 0)
		return fail(e, EX_OSERR, "could not read capabilities: %s", strerror(errno));
	if (geteuid() == 0 && (data[0].permitted & 1U << CAP_KILL) == 0)
		log_line(LOG_WARNING, "cannot end sessions that run as another user: "
				      "start with CAP_KILL, or as that user");
	data[0].effective &= keep;
	data[0].permitted &= keep;
	data[0].inheritable = 0;
	data[1] = (struct __user_cap_data_struct){0};
	return true;
}

/* No capabilities, no core or ptrace, no privileges by execve(). */
static bool restrict_process(bool parent, struct error *e)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct keep[2] = {{0}};

	if (parent && !read_parents_capabilities(&header, keep, e))
		return false;
	if (syscall(SYS_capset, &header, keep) != 0)
		return fail(e, EX_OSERR, "could not drop capabilities: %s", strerror(errno));
	/* Changing credentials resets this, so it comes last. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
		return fail(e, EX_OSERR, "could not clear the dumpable flag: %s", strerror(errno));
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return fail(e, EX_OSERR, "could not set no_new_privs: %s", strerror(errno));
	return true;
}

static char missing[160];

/* A container's system-call filter answers with an errno of its choice, mostly EPERM. */
static void note_missing(const char *layer, int error)
{
	size_t len = strlen(missing), room = sizeof missing - len;
	const char *and = len > 0 ? "; " : "";

	if (error == ENOSYS || error == EOPNOTSUPP || error == EINVAL)
		snprintf(missing + len, room, "%sthis kernel has no %s", and, layer);
	else if (error != 0)
		snprintf(missing + len, room, "%s%s is forbidden here: %s", and, layer,
			 strerror(error));
}

const char *sandbox_missing(void)
{
	return missing[0] != '\0' ? missing : NULL;
}

bool sandbox_enter(const struct sandbox_needs *needs, struct error *e)
{
	int landlock, seccomp;

	wipe_environment();
	if (!limit_sizes(needs->log_to_file, e) || !set_limit(RLIMIT_NPROC, "NPROC", 0, e) ||
	    !restrict_process(false, e) || !sandbox_landlock(needs, &landlock, e))
		return false;
	/* After Landlock, which needs two descriptors for a moment. */
	if (!limit_descriptors(e) || !sandbox_seccomp(needs, false, &seccomp, e))
		return false;
	note_missing("Landlock", landlock);
	note_missing("seccomp", seccomp);
	return true;
}

bool sandbox_enter_parent(const struct sandbox_needs *needs, struct error *e)
{
	int landlock, seccomp;

	/* No RLIMIT_DATA: a reload may need any size, and no client's byte is read here. */
	if (!set_limit(RLIMIT_CORE, "CORE", 0, e) || !restrict_process(true, e) ||
	    !sandbox_landlock(needs, &landlock, e) || !sandbox_seccomp(needs, true, &seccomp, e))
		return false;
	note_missing("Landlock", landlock);
	note_missing("seccomp", seccomp);
	return true;
}
