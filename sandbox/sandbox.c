/* SPDX-License-Identifier: ISC
 *
 * sandbox/sandbox.c - step 5: privileges, limits, and the order in which the doors close.
 *
 * The layers that a kernel may lack are in sandbox_landlock.c and sandbox_seccomp.c.
 * Assumes one thread, and that step 0 closed every descriptor that is not ours.
 */
#include "sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

extern char **environ;

/* The most memory that a session may take. A session needs about 3 MiB, a chain of certificates as large as OpenSSL accepts about 10. */
#define MOST_MEMORY ((rlim_t)256 * 1024 * 1024)

/* Any of the three ids: a process whose saved uid is 0 can be root again. */
static bool am_root(void)
{
	uid_t r, e, s;

	return getresuid(&r, &e, &s) != 0 || r == 0 || e == 0 || s == 0;
}

/* A number as user and group options take it; -1 means "no change" to setresuid and is no id. */
static bool parse_id(const char *text, unsigned *id)
{
	const char *problem;
	long long n = strtonum(text, 0, UINT32_MAX - 1, &problem);

	*id = (unsigned)n;
	return problem == NULL;
}

static bool find_group(const char *group, gid_t *gid, struct error *e)
{
	const struct group *gr = getgrnam(group);
	unsigned id;

	if (gr != NULL)
		*gid = gr->gr_gid;
	else if (parse_id(group, &id))
		*gid = id;
	else
		return fail(e, EX_NOUSER, "there is no group \"%s\" (-g)", group);
	return true;
}

static bool find_passwd(const char *user, bool has_group, struct sandbox_user *who, struct error *e)
{
	const struct passwd *pw = getpwnam(user);
	unsigned id;

	if (pw == NULL && parse_id(user, &id)) {
		pw = getpwuid(id);
		who->uid = id;
		if (pw == NULL && !has_group)
			return fail(e, EX_NOUSER,
				    "user %u has no entry to take the group from; name one with -g",
				    id);
	} else if (pw == NULL) {
		return fail(e, EX_NOUSER, "there is no user \"%s\"; name another with -s", user);
	}
	if (pw != NULL) {
		who->uid = pw->pw_uid;
		who->gid = pw->pw_gid;
	}
	return true;
}

bool sandbox_find_user(const char *user, const char *group, struct sandbox_user *who,
		       struct error *e)
{
	bool root = am_root();

	*who = (struct sandbox_user){.uid = geteuid(), .gid = getegid(), .change = root};
	if (user == NULL && root)
		user = "nobody";
	if (user != NULL && !find_passwd(user, group != NULL, who, e))
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

/* What was set is read back: a kernel, a user namespace or a security module may have said yes and done otherwise. */
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
	/* Groups first, then gid: both need the root that the last call gives away. */
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
		return fail(e, EX_OSERR, "became another user or group than %u, %u",
			    (unsigned)who->uid, (unsigned)who->gid);
	if (who->uid != 0 && (setuid(0) == 0 || seteuid(0) == 0 || setgroups(0, NULL) == 0))
		return fail(e, EX_OSERR, "could become root again after becoming user %u",
			    (unsigned)who->uid);
	return true;
}

/* Soft and hard limit, never raised: root could, others would fail. */
static bool limit(unsigned what, const char *name, rlim_t most, struct error *e)
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

/* RLIMIT_FSIZE 0 ends a process at its next write to a file: a log, or output that a shell sent to one. */
static bool writes_file(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

static bool shut_sizes(bool log_to_file, struct error *e)
{
	/* A log whose file system is full, or larger than a limit that we inherited, costs lines and not the session. */
	signal(SIGXFSZ, SIG_IGN);
	if (!log_to_file && !writes_file(STDOUT_FILENO) && !writes_file(STDERR_FILENO) &&
	    !limit(RLIMIT_FSIZE, "FSIZE", 0, e))
		return false;
	return limit(RLIMIT_CORE, "CORE", 0, e) && limit(RLIMIT_DATA, "DATA", MOST_MEMORY, e);
}

/* Just what it has: step 0 left no gaps, so that the next free number is the count. Comes after Landlock, which takes two for a moment. */
static bool shut_descriptors(struct error *e)
{
	int next = dup(STDERR_FILENO);

	if (next >= 0)
		close(next);
	return limit(RLIMIT_NOFILE, "NOFILE",
		     next > SANDBOX_POLL_SLOTS ? (rlim_t)next : SANDBOX_POLL_SLOTS, e);
}

/* The environment may hold PGPASSWORD and the like: the strings go too, not only the list. */
static void shut_environment(void)
{
	for (char **p = environ; p != NULL && *p != NULL; p++)
		explicit_bzero(*p, strlen(*p));
	environ = NULL;
}

/* The parent of -d: what reading its files, its children's step 5, -T and ending its children take, as far as it has them. */
static bool keep_parents(struct __user_cap_header_struct *header,
			 struct __user_cap_data_struct *data, struct error *e)
{
	static const uint32_t keep = 1U << CAP_SETUID | 1U << CAP_SETGID | 1U << CAP_KILL |
				     1U << CAP_DAC_OVERRIDE | 1U << CAP_DAC_READ_SEARCH |
				     1U << CAP_NET_ADMIN;

	if (syscall(SYS_capget, header, data) != 0)
		return fail(e, EX_OSERR, "could not read capabilities: %s", strerror(errno));
	if (geteuid() == 0 && (data[0].permitted & 1U << CAP_KILL) == 0)
		log_line(LOG_WARNING, "sessions of another user cannot be ended without CAP_KILL: "
				      "give it, or start as their user");
	data[0].effective &= keep;
	data[0].permitted &= keep;
	data[0].inheritable = 0;
	data[1] = (struct __user_cap_data_struct){0};
	return true;
}

/* No core, no ptrace by others, no privileges by execve. */
static bool shut_process(bool drop_capabilities, struct error *e)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0}};

	/* CAP_NET_ADMIN for -T has done its work on the prepared socket; `-s root` keeps uid 0 and nothing with it. */
	if (!drop_capabilities && !keep_parents(&header, none, e))
		return false;
	if (syscall(SYS_capset, &header, none) != 0)
		return fail(e, EX_OSERR, "could not drop capabilities: %s", strerror(errno));
	/* After the last change of credentials, which would reset it. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
		return fail(e, EX_OSERR, "could not become undumpable: %s", strerror(errno));
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return fail(e, EX_OSERR, "could not set no_new_privs: %s", strerror(errno));
	return true;
}

static bool calls_shut; /* or there is no filter that sandbox_connected could add to */

static void tell_missing(unsigned missing)
{
	static const char *const words[] = {"", "Landlock", "seccomp", "Landlock and no seccomp"};

	if (missing != 0)
		log_line(LOG_NOTICE,
			 "sandbox: this kernel has no %s; the other lines of defence hold",
			 words[missing & 3]);
}

bool sandbox_enter(const struct sandbox_needs *needs, struct error *e)
{
	unsigned missing = 0;

	shut_environment();
	if (!shut_sizes(needs->log_to_file, e) || !limit(RLIMIT_NPROC, "NPROC", 0, e))
		return false;
	if (!shut_process(true, e) || !sandbox_landlock(needs, &missing, e) || !shut_descriptors(e))
		return false;
	if (!sandbox_seccomp(needs, &missing, e))
		return false;
	calls_shut = (missing & SANDBOX_SECCOMP) == 0;
	tell_missing(missing);
	return true;
}

bool sandbox_connected(struct error *e)
{
	return !calls_shut || sandbox_seccomp_connected(e);
}

bool sandbox_enter_parent(const struct sandbox_parent_needs *needs, struct error *e)
{
	unsigned missing = 0;

	if (!limit(RLIMIT_CORE, "CORE", 0, e) || !limit(RLIMIT_DATA, "DATA", MOST_MEMORY, e))
		return false;
	if (!shut_process(false, e) || !sandbox_landlock_parent(needs, &missing, e) ||
	    !sandbox_seccomp_parent(&missing, e))
		return false;
	tell_missing(missing);
	return true;
}
