/* SPDX-License-Identifier: ISC
 *
 * sandbox.c - step 5: privileges, limits, and the order in which the doors close.
 *
 * Linux's own means are in sandbox_landlock.c and sandbox_seccomp.c; those of OpenBSD and FreeBSD, which are short, at the end of this file.
 * Assumes one thread, and that step 0 closed every descriptor that is not ours.
 */
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sandbox_os.h"

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
			return fail(e, EX_NOUSER, "user %u has no entry to take the group from; name one with -g", id);
	} else if (pw == NULL) {
		return fail(e, EX_NOUSER, "there is no user \"%s\"; name another with -s", user);
	}
	if (pw != NULL) {
		who->uid = pw->pw_uid;
		who->gid = pw->pw_gid;
	}
	return true;
}

bool sandbox_find_user(const char *user, const char *group, struct sandbox_user *who, struct error *e)
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
		return fail(e, EX_NOPERM,
			    "only root can become user %u, group %u; start as root or leave out -s and -g",
			    (unsigned)who->uid, (unsigned)who->gid);
	return true;
}

/* What was set is read back: a kernel, a user namespace or a security module may have said yes and done otherwise. */
static bool is_exactly(const struct sandbox_user *who)
{
	uid_t ru, eu, su;
	gid_t rg, eg, sg, groups[2];

	if (getresuid(&ru, &eu, &su) != 0 || ru != who->uid || eu != who->uid || su != who->uid)
		return false;
	if (getresgid(&rg, &eg, &sg) != 0 || rg != who->gid || eg != who->gid || sg != who->gid)
		return false;
	int n = getgroups(2, groups);
	return n == 0 || (n == 1 && groups[0] == who->gid); /* BSD counts the group itself */
}

bool sandbox_drop_privileges(const struct sandbox_user *who, struct error *e)
{
	if (!who->change)
		return true;
	/* Groups first, then gid: both need the root that the last call gives away. */
	if (setgroups(0, NULL) != 0)
		return fail(e, EX_NOPERM, "could not drop supplementary groups: %s", strerror(errno));
	if (setresgid(who->gid, who->gid, who->gid) != 0)
		return fail(e, EX_NOPERM, "could not become group %u: %s", (unsigned)who->gid, strerror(errno));
	if (setresuid(who->uid, who->uid, who->uid) != 0)
		return fail(e, EX_NOPERM, "could not become user %u: %s", (unsigned)who->uid, strerror(errno));
	if (!is_exactly(who))
		return fail(e, EX_OSERR, "became another user or group than %u, %u", (unsigned)who->uid,
			    (unsigned)who->gid);
	if (who->uid != 0 && (setuid(0) == 0 || seteuid(0) == 0 || setgroups(0, NULL) == 0))
		return fail(e, EX_OSERR, "could become root again after becoming user %u", (unsigned)who->uid);
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
	return limit(RLIMIT_NOFILE, "NOFILE", next > SANDBOX_POLL_SLOTS ? (rlim_t)next : SANDBOX_POLL_SLOTS, e);
}

/* The environment may hold PGPASSWORD and the like: the strings go too, not only the list. */
static void shut_environment(void)
{
	for (char **p = environ; p != NULL && *p != NULL; p++)
		explicit_bzero(*p, strlen(*p));
	environ = NULL;
}

static bool calls_shut; /* or there is no filter that sandbox_connected could add to */

static void tell_missing(unsigned missing)
{
	static const char *const words[] = {"", "Landlock", "seccomp", "Landlock and no seccomp"};

	if (missing != 0)
		log_line(LOG_NOTICE, "sandbox: this kernel has no %s; the other lines of defence hold",
			 words[missing & 3]);
}

bool sandbox_enter(const struct sandbox_needs *needs, struct error *e)
{
	unsigned missing = 0;

	shut_environment();
	if (!shut_sizes(needs->log_to_file, e) || !limit(RLIMIT_NPROC, "NPROC", 0, e))
		return false;
	if (!os_shut_process(true, e) || !os_shut_files(needs, &missing, e) || !shut_descriptors(e))
		return false;
	if (!os_shut_calls(needs, &missing, e))
		return false;
	calls_shut = (missing & LAYER_CALLS) == 0;
	tell_missing(missing);
	return true;
}

bool sandbox_connected(struct error *e)
{
	return !calls_shut || os_shut_connect(e);
}

bool sandbox_enter_parent(const struct sandbox_parent_needs *needs, struct error *e)
{
	unsigned missing = 0;

	if (!limit(RLIMIT_CORE, "CORE", 0, e) || !limit(RLIMIT_DATA, "DATA", MOST_MEMORY, e))
		return false;
	if (!os_shut_process(false, e) || !os_shut_parent_files(needs, &missing, e) ||
	    !os_shut_parent_calls(needs, &missing, e))
		return false;
	tell_missing(missing);
	return true;
}

#if defined(__OpenBSD__) /* written from pledge(2) and unveil(2); never compiled there, untested */

bool os_shut_process(bool drop_capabilities, struct error *e)
{
	(void)drop_capabilities;
	(void)e;
	return true;
}

bool os_shut_files(const struct sandbox_needs *needs, unsigned *missing, struct error *e)
{
	(void)missing;
	if (needs->remove_in != NULL && unveil(needs->remove_in, "c") != 0)
		return fail(e, EX_OSERR, "unveil \"%s\": %s", needs->remove_in, strerror(errno));
	if (unveil(NULL, NULL) != 0)
		return fail(e, EX_OSERR, "unveil: %s", strerror(errno));
	return true;
}

bool os_shut_parent_files(const struct sandbox_parent_needs *needs, unsigned *missing, struct error *e)
{
	(void)missing;
	for (unsigned i = 0; i < needs->read_count; i++)
		if (unveil(needs->read_again[i], "r") != 0)
			return fail(e, EX_OSERR, "unveil \"%s\": %s", needs->read_again[i], strerror(errno));
	if (needs->pid_folder != NULL && unveil(needs->pid_folder, "rwc") != 0)
		return fail(e, EX_OSERR, "unveil \"%s\": %s", needs->pid_folder, strerror(errno));
	return true; /* not locked: a child unveils less */
}

static bool promise(const char *promises, struct error *e)
{
	if (pledge(promises, NULL) != 0)
		return fail(e, EX_OSERR, "pledge: %s", strerror(errno));
	return true;
}

static bool removes_pid_file;

bool os_shut_calls(const struct sandbox_needs *needs, unsigned *missing, struct error *e)
{
	(void)missing;
	removes_pid_file = needs->remove_in != NULL;
	return promise(removes_pid_file ? "stdio inet unix cpath" : "stdio inet unix", e);
}

bool os_shut_parent_calls(const struct sandbox_parent_needs *needs, unsigned *missing, struct error *e)
{
	(void)needs;
	(void)missing;
	return promise("stdio rpath wpath cpath flock inet unix proc id unveil", e);
}

bool os_shut_connect(struct error *e)
{
	return promise(removes_pid_file ? "stdio cpath" : "stdio", e);
}

#elif defined(__FreeBSD__) /* written from cap_enter(2) and capsicum(4); never compiled there, untested */

#include <sys/capsicum.h>

bool os_shut_process(bool drop_capabilities, struct error *e)
{
	(void)drop_capabilities;
	(void)e;
	return true;
}

bool os_shut_files(const struct sandbox_needs *needs, unsigned *missing, struct error *e)
{
	(void)needs;
	(void)missing;
	(void)e;
	return true;
}

bool os_shut_parent_files(const struct sandbox_parent_needs *needs, unsigned *missing, struct error *e)
{
	(void)needs;
	(void)e;
	*missing |= LAYER_FILES;
	return true;
}

/* Capability mode has no connect(2): an address is a global name. So the door closes only in os_shut_connect. */
bool os_shut_calls(const struct sandbox_needs *needs, unsigned *missing, struct error *e)
{
	(void)needs;
	(void)missing;
	(void)e;
	return true;
}

bool os_shut_parent_calls(const struct sandbox_parent_needs *needs, unsigned *missing, struct error *e)
{
	(void)needs;
	(void)e;
	*missing |= LAYER_CALLS;
	return true;
}

bool os_shut_connect(struct error *e)
{
	if (cap_enter() != 0)
		return fail(e, EX_OSERR, "cap_enter: %s", strerror(errno));
	return true;
}

#endif
