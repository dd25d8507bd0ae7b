/* SPDX-License-Identifier: ISC
 *
 * listen/resolver.c - the process that looks up the host of -r for a listener.
 *
 * A look-up loads libraries and opens files and sockets, which the listener's sandbox forbids; it
 * may block; and it parses what a name server sends. So a process that was forked before, and that
 * has neither the key nor a client, does it as the user of the sessions. It ends with the listener.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "listen/internal.h"

#define INTERVAL_MS 1000                /* between two look-ups */
#define CHANNEL     (STDERR_FILENO + 1) /* in the other process */

struct answer {
	struct error error; /* status 0: found */
	struct address_list addresses;
};

static int channel = -1; /* to the other process; -1: nothing is looked up */
static bool wanted;      /* a question is to be sent */
static bool asked;       /* an answer is due */
static deadline next_question;

static bool needs_resolver(const char *connect)
{
	char host[256], number[sizeof((struct sock_name *)0)->host];

	address_host(connect, host, sizeof host);
	return strchr(connect, ':') != NULL && connect[0] != '/' &&
	       !address_is_number(host, number, sizeof number);
}

/* ---- the other process ---- */

static bool send_answer(int fd, const struct answer *a)
{
	return send(fd, a, sizeof *a, MSG_NOSIGNAL) == sizeof *a;
}

static noreturn void answer_in_time(const struct options *o, int fd)
{
	static struct answer a;

	alarm((unsigned)o->connect_timeout);
	if (address_look_up(&a.addresses, o, &a.error))
		a.error.status = 0;
	alarm(0);
	_exit(send_answer(fd, &a) ? EX_OK : EX_OSERR);
}

/* Each look-up has its own process, which SIGALRM ends after --connect-timeout. */
static void answer_one(struct session *s, int fd)
{
	static struct answer failure;
	const char *host = s->options.connect;
	int status = 0;
	pid_t pid = fork();

	if (pid == 0)
		answer_in_time(&s->options, fd);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == EX_OK)
		return;
	if (pid > 0 && WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		fail(&failure.error, EX_NOHOST,
		     "%s: could not look up the host: no answer after %d s", host,
		     s->options.connect_timeout);
	else
		fail(&failure.error, EX_NOHOST, "%s: could not look up the host: %s", host,
		     pid < 0 ? strerror(errno) : "the process that did it has failed");
	(void)!send_answer(fd, &failure);
}

static void set_resolver_signals(void)
{
	static const int ignored[] = {SIGHUP, SIGINT, SIGTERM};
	sigset_t none;

	for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
		signal(ignored[i], SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	signal(SIGALRM, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/*
 * Keep only the channel: no listening socket, and no output of the starting process, whose reader
 * waits for its end. From here on nothing is logged.
 */
static void keep_channel_only(int fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int i = STDIN_FILENO; i <= STDERR_FILENO; i++)
		if (dup2(null, i) < 0)
			_exit(EX_OSERR);
	if (dup2(fd, CHANNEL) < 0)
		_exit(EX_OSERR);
	closefrom(CHANNEL + 1);
}

static noreturn void serve_questions(struct session *s, int fd)
{
	struct error e;
	char byte;

	set_resolver_signals();
	setproctitle("looking up names");
	if (!sandbox_drop_privileges(&s->who, &e))
		die(e.status, "%s", e.text);
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	keep_channel_only(fd);
	while (recv(CHANNEL, &byte, 1, 0) == 1)
		answer_one(s, CHANNEL);
	_exit(EX_OK);
}

/* ---- in the listener ---- */

bool resolver_start(struct session *s, struct error *e)
{
	int ends[2];

	if (!needs_resolver(s->options.connect))
		return true;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
		return fail(e, EX_OSERR, "could not start the look-up process: %s",
			    strerror(errno));
	pid_t pid = fork();
	if (pid < 0)
		return fail(e, EX_OSERR, "could not start the look-up process: %s",
			    strerror(errno));
	if (pid == 0)
		serve_questions(s, ends[1]);
	close(ends[1]);
	channel = ends[0];
	return true;
}

int resolver_descriptor(void)
{
	return channel;
}

void resolver_close(void)
{
	if (channel >= 0)
		close(channel);
	channel = -1;
}

void resolver_ask(void)
{
	wanted = true;
}

deadline resolver_send(void)
{
	if (channel < 0 || !wanted || asked)
		return DEADLINE_NEVER;
	if (deadline_left(next_question) > 0)
		return next_question;
	asked = send(channel, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1;
	wanted = false;
	next_question = deadline_in(INTERVAL_MS);
	return DEADLINE_NEVER;
}

static bool is_sound_address(const struct address *a)
{
	socklen_t len = a->sa.ss_family == AF_INET    ? sizeof(struct sockaddr_in)
			: a->sa.ss_family == AF_INET6 ? sizeof(struct sockaddr_in6)
						      : 0;

	return len != 0 && a->len == len && (a->local_len == 0 || a->local_len == len);
}

/* The other process has parsed untrusted answers of name servers. Do not trust its sizes. */
static bool is_sound(const struct answer *a)
{
	const struct address_list *list = &a->addresses;

	if (memchr(a->error.text, '\0', sizeof a->error.text) == NULL ||
	    memchr(list->name, '\0', sizeof list->name) == NULL)
		return false;
	if (a->error.status != 0)
		return true;
	for (unsigned i = 0; i < list->count && list->count <= ADDRESS_MAX; i++)
		if (!is_sound_address(&list->all[i]))
			return false;
	return list->count > 0 && list->count <= ADDRESS_MAX;
}

enum resolver_answer resolver_take(struct session *s, struct error *e)
{
	static struct answer a;
	ssize_t n = recv(channel, &a, sizeof a, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return RESOLVER_PENDING;
	asked = false;
	if (n != sizeof a || !is_sound(&a)) {
		resolver_close();
		(void)fail(e, EX_OSERR, "the look-up process %s",
			   n <= 0 ? "has exited" : "sent an invalid answer");
		return RESOLVER_FAILED;
	}
	*e = a.error;
	if (e->status != 0)
		return RESOLVER_FAILED;
	s->addresses = a.addresses;
	return RESOLVER_FOUND;
}

void resolver_update(struct session *s)
{
	static char last_error[sizeof((struct error *)0)->text];
	char old[sizeof s->addresses.name];
	struct error e;

	strlcpy(old, s->addresses.name, sizeof old);
	enum resolver_answer answer = resolver_take(s, &e);
	if (answer == RESOLVER_FOUND) {
		last_error[0] = '\0';
		if (strcmp(old, s->addresses.name) != 0)
			log_line(LOG_NOTICE, "PostgreSQL's address has changed from %s to %s", old,
				 s->addresses.name);
	} else if (answer == RESOLVER_FAILED && strcmp(last_error, e.text) != 0) {
		log_line(LOG_ERR, "%s; the previous addresses stay in use", e.text);
		strlcpy(last_error, e.text, sizeof last_error);
	}
}
