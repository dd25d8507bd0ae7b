/* SPDX-License-Identifier: ISC
 *
 * t/unit_pump.c - the relay against a model, in random schedules: peers that send, read, pause,
 * end and break the connection as they like, over sockets and pipes, in clear, under OpenSSL and
 * under a toy TLS with key updates; short reads and writes; failures of memory; SIGTERM; deadlines.
 *
 * The model sees what the relay's calls return and what poll() reports. Bytes out must equal bytes
 * in, a direction may hold 64 KiB, the reason for the end must be the model's and come when the
 * model says so, poll() must not return without something to do, nor wait with something to do.
 *
 * SCHEDULES=N runs so many. The seed of a failed schedule is printed; SEED=N runs that one.
 *
 * sabotage: net/splice.c s/unsent(s) || (out->ended/(out->ended/
 * sabotage: net/splice.c s/bool read = !ended \&\& empty(in) \&\&/bool read = !ended \&\&/
 * sabotage: net/splice.c s/d->shut = io != IO_WANT_WRITE;/d->shut = true;/
 * sabotage: net/splice.c s/in->hung_up \&\& !read/false/
 */
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/random.h>
#include <sys/wait.h>

#include "net/splice.h"
#include "options.h"
#include "tls.h"

#include "pump_peers.h"
#include "tap.h"

enum { MANY = 400, BUFFER_MAX = 65536, GIVE_UP_MS = 5000, NONE = -1, ENDED = 10 };

/* ---- the model: what it has seen ---- */

enum { CLIENT, BACKEND };

/* One side: what reads from it and writes to it returned, and what poll() said of it. */
struct side {
	struct stream probe; /* first: what the relay gets */
	struct stream *inner;
	size_t read, written;
	enum io_status last_read, last_write;
	bool read_ended, read_failed, write_failed, shut;
	bool error, hang_up, hung_up_for_good;
	bool loses;        /* the failed sink still had bytes */
	int64_t failed_at; /* when the sink failed */
	unsigned fails_in; /* calls until one fails; 0: never */
	enum io_status fails_with;
	bool only_writes;
};

static struct side sides[2];
static bool no_memory, timed_out;
static enum io_status polled;            /* what the relay's last wait returned */
static int64_t last_byte_at, stopped_at; /* the end of that wait */
static struct splice sp;

/* Bytes that the relay has read and not yet written. */
static size_t held(int from)
{
	const struct side *sink = &sides[!from];

	return sink->write_failed ? 0 : sides[from].read - sink->written;
}

static bool source_is_done(int from)
{
	return sides[from].read_ended || sides[from].read_failed;
}

static bool has_unsent(int side)
{
	struct stream *s = sides[side].inner;

	return (s->verbs->pending(s) & STREAM_UNSENT) != 0;
}

static bool client_lost(void)
{
	const struct side *c = &sides[CLIENT];
	bool stuck = c->last_write == IO_WANT_READ && (c->read_ended || source_is_done(BACKEND));

	return (c->read_failed && held(CLIENT) == 0) || c->write_failed || c->hung_up_for_good ||
	       stuck;
}

/* Why the session is over, by splice.h; NONE: it is not. */
static int reason(void)
{
	const struct side *c = &sides[CLIENT], *b = &sides[BACKEND];

	if (client_lost()) {
		bool all = c->read_ended && held(CLIENT) == 0 && held(BACKEND) == 0 && !c->loses;
		return all ? SPLICE_CLIENT_CLOSED : SPLICE_CLIENT_RESET;
	}
	if (held(BACKEND) > 0 || has_unsent(CLIENT))
		return NONE;
	if (b->read_ended)
		return c->read_ended ? SPLICE_CLIENT_CLOSED : SPLICE_BACKEND_CLOSED;
	return b->read_failed ? SPLICE_BACKEND_RESET : NONE;
}

/* When it must end if nothing happens. */
static int64_t give_up_at(void)
{
	const struct side *b = &sides[BACKEND];
	bool alone = b->write_failed && !b->error && !b->hang_up; /* the backend does not know */

	return alone ? b->failed_at + GIVE_UP_MS : DEADLINE_NEVER;
}

static int64_t idle_at(void)
{
	return sp.idle_ms > 0 ? last_byte_at + sp.idle_ms : DEADLINE_NEVER;
}

static int64_t time_is_up(void)
{
	return deadline_min(deadline_min(give_up_at(), idle_at()), sp.until);
}

/* Why it was ended by time or a signal; NONE: it was not. */
static int reason_in_time(void)
{
	if (polled == IO_TERMINATED)
		return SPLICE_TERMINATED;
	if (!timed_out)
		return NONE;
	return stopped_at >= give_up_at() ? SPLICE_BACKEND_UNREACHED
	       : stopped_at >= sp.until   ? SPLICE_EXPIRED
					  : SPLICE_IDLE;
}

/* ---- the probes ---- */

static bool fails_now(struct side *s, bool write, enum io_status *io)
{
	if (!relaying || s->fails_in == 0 || (s->only_writes && !write) || --s->fails_in > 0)
		return false;
	*io = s->fails_with;
	progress++;
	return true;
}

static enum io_status probe_read(struct stream *stream, void *buf, size_t size, size_t *got)
{
	struct side *s = (struct side *)stream;
	int self = (int)(s - sides);
	enum io_status io;

	if (!fails_now(s, false, &io))
		io = s->inner->verbs->read(s->inner, buf, size, got);
	s->last_read = io;
	if (io == IO_DONE) {
		s->read += *got;
		sides[!self].loses |= sides[!self].write_failed;
		last_byte_at = now_ms;
		if (*got == 0 || *got > size)
			broken("a stream of the test read %zu of %zu bytes", *got, size);
		if (held(self) > BUFFER_MAX)
			broken("%zu bytes are held", held(self));
	}
	s->read_ended |= io == IO_END;
	s->read_failed |= io == IO_FAILED || io == IO_NO_MEMORY;
	no_memory |= io == IO_NO_MEMORY;
	return io;
}

static void note_sink_failed(struct side *s)
{
	int from = s == sides; /* CLIENT is written to from BACKEND */

	if (s->write_failed)
		return;
	s->loses |= held(from) > 0 || has_unsent(!from);
	s->write_failed = true;
	s->failed_at = now_ms;
}

static enum io_status probe_write(struct stream *stream, const void *buf, size_t size, size_t *put)
{
	struct side *s = (struct side *)stream;
	enum io_status io;

	if (!fails_now(s, true, &io))
		io = s->inner->verbs->write(s->inner, buf, size, put);
	if (size > 0 || io != IO_DONE)
		s->last_write = io;
	if (io == IO_DONE)
		s->written += *put;
	if (reason_in_time() != NONE)
		return io; /* the last words */
	if (io == IO_FAILED || io == IO_NO_MEMORY) {
		s->loses |= size == 0;
		note_sink_failed(s);
	}
	no_memory |= io == IO_NO_MEMORY;
	return io;
}

static unsigned probe_pending(struct stream *stream)
{
	struct side *s = (struct side *)stream;

	return s->inner->verbs->pending(s->inner);
}

static enum io_status probe_shut(struct stream *stream)
{
	struct side *s = (struct side *)stream;
	enum io_status io;

	if (!fails_now(s, true, &io))
		io = s->inner->verbs->shut(s->inner);
	if (s == sides || !sides[CLIENT].read_ended || held(CLIENT) > 0)
		broken("the wrong stream is shut, or too early");
	s->shut = io == IO_DONE;
	if (io == IO_FAILED || io == IO_NO_MEMORY)
		note_sink_failed(s);
	no_memory |= io == IO_NO_MEMORY;
	return io;
}

static const struct stream_verbs probe_verbs = {probe_read, probe_write, probe_pending, probe_shut};

/* ---- what is checked when the relay waits ---- */

enum { RELAY_SLOTS = 4 }; /* two for each stream; the handshake and the last words have fewer */

enum io_status __wrap_stream_poll(struct pollfd *fds, unsigned n, deadline when);
enum io_status __real_stream_poll(struct pollfd *fds, unsigned n, deadline when);

static void note_events(int side, short events, bool only_writes)
{
	struct side *s = &sides[side];
	bool error = (events & POLLERR) != 0, hang_up = (events & POLLHUP) != 0;
	bool all_read = source_is_done(side) && held(side) == 0; /* else it may have sent more */

	s->error |= error;
	s->hang_up |= hang_up;
	if (error || (hang_up && (all_read || only_writes))) {
		s->hung_up_for_good = true;
		note_sink_failed(s);
	}
}

/* The linker puts this in the place of stream_poll(). */
enum io_status __wrap_stream_poll(struct pollfd *fds, unsigned n, deadline when)
{
	static struct pollfd last[RELAY_SLOTS];
	static uint64_t progress_then;
	bool same = n == RELAY_SLOTS && polled == IO_DONE && progress == progress_then;

	for (unsigned i = 0; same && i < n; i++)
		same = fds[i].fd == last[i].fd && fds[i].events == last[i].events;
	if (n == RELAY_SLOTS && reason() != NONE)
		broken("it goes on after the end: %s", splice_reason((enum splice_end)reason()));
	if (same)
		broken("poll() returned without something to do");
	enum io_status io = __real_stream_poll(fds, n, when);
	if (n != RELAY_SLOTS)
		return io;
	memcpy(last, fds, sizeof last);
	progress_then = progress;
	polled = io;
	stopped_at = now_ms;
	timed_out = io == IO_TIMEOUT && now_ms >= time_is_up();
	for (unsigned i = 0; i < n && io == IO_DONE; i++)
		note_events((int)(i / 2), fds[i].revents, i % 2 == 1);
	return io;
}

/* May the relay wait until the peers act? */
static void world_is_quiet(nfds_t n)
{
	if (!relaying || n != RELAY_SLOTS)
		return;
	for (int i = 0; i < 2; i++) {
		const struct side *s = &sides[i];
		const struct link *l = &links[i];
		bool writable = link_writable(l);
		bool readable = l->in.len > 0 || l->in.fin || l->reset ||
				(s->inner->verbs->pending(s->inner) & STREAM_READABLE) != 0;
		const char *who = i == CLIENT ? "client" : "backend";

		if (!source_is_done(i) && held(i) == 0 && readable &&
		    (s->last_read != IO_WANT_WRITE || (writable && !s->write_failed)))
			broken("it does not read from the %s", who);
		if (s->write_failed || !writable)
			continue;
		if (held(!i) > 0 && s->last_write != IO_WANT_READ)
			broken("it does not write to the %s", who);
		if (has_unsent(i) && !s->read_failed)
			broken("it does not send to the %s what TLS has buffered", who);
		if (i == BACKEND && sides[CLIENT].read_ended && held(CLIENT) == 0 && !s->shut)
			broken("it does not shut the backend's stream");
	}
}

/* ---- TLS ---- */

static struct tls *server;
static SSL_CTX *client_ctx;

static void write_certificate(FILE *f)
{
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"); /* signatures of one length */
	X509 *x = X509_new();

	X509_set_version(x, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	X509_gmtime_adj(X509_getm_notBefore(x), -3600);
	X509_gmtime_adj(X509_getm_notAfter(x), 3600);
	X509_set_pubkey(x, key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
				   (const unsigned char *)"localhost", -1, -1, 0);
	X509_set_issuer_name(x, X509_get_subject_name(x));
	if (X509_sign(x, key, NULL) == 0 || PEM_write_X509(f, x) != 1 ||
	    PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) != 1 || fclose(f) != 0)
		abort();
	X509_free(x);
	EVP_PKEY_free(key);
}

/* Before the schedules, which are children and have copies, as the children of -d. */
static void prepare_tls(void)
{
	static struct options o;
	char pem[] = "/tmp/unit_pump-XXXXXX";
	char *argv[] = {(char[]){"pgssl"}, (char[]){"-p"}, pem, (char[]){"-r"}, (char[]){"5432"}};
	struct error e = {.status = 0};
	int fd = mkstemp(pem);

	if (fd < 0)
		abort();
	/* In a child: tls_open insists on being the first to use OpenSSL. */
	pid_t pid = fork();
	if (pid == 0) {
		write_certificate(fdopen(fd, "w"));
		_exit(0);
	}
	if (waitpid(pid, NULL, 0) != pid)
		abort();
	if (!options_parse(&o, 5, argv, false, &e) || !tls_open(&server, &o, &e))
		broken("%s", e.text);
	close(fd);
	unlink(pem);
	client_ctx = SSL_CTX_new(TLS_client_method());
}

static void start_tls(struct peer *p)
{
	struct error e;

	p->ssl = SSL_new(client_ctx);
	p->from_wire = BIO_new(BIO_s_mem());
	p->to_wire = BIO_new(BIO_s_mem());
	BIO_set_mem_eof_return(p->from_wire, -1);
	SSL_set_bio(p->ssl, p->from_wire, p->to_wire);
	if (one_in(4))
		SSL_set_max_proto_version(p->ssl, TLS1_2_VERSION);
	SSL_set_connect_state(p->ssl);
	(void)SSL_do_handshake(p->ssl);
	flush_openssl(p);
	if (!tls_accept(server, &links[CLIENT].stream, false, DEADLINE_NEVER, &e))
		broken("handshake: %s", e.text);
}

/* ---- a schedule ---- */

static size_t some_bytes(void)
{
	return one_in(6) ? 0 : size_up_to(one_in(8) ? 400000 : 60000);
}

static void plan_peer(struct peer *p, struct link *l)
{
	static const enum ending endings[] = {SHUTS, SHUTS, SHUTS, CLOSES, CLOSES, RESETS, STAYS};

	link_open(l, one_in(3) ? LINK_UNIX : LINK_TCP);
	if (p == peers && one_in(4))
		link_open(l, LINK_PIPES);
	p->link = l;
	p->total = some_bytes();
	p->ending = endings[chance() % 7];
	p->awaits_end = one_in(3);
	p->notifies = !one_in(3);
	p->reads = !one_in(20);
	if (p->ending == RESETS)
		p->ends_at = size_up_to(p->total + 1000) - 1;
}

static void plan_failure(struct side *s)
{
	static const enum io_status kinds[] = {IO_FAILED, IO_NO_MEMORY};

	if (!one_in(10))
		return;
	s->fails_in = (unsigned)size_up_to(60);
	s->fails_with = kinds[chance() % 2];
	s->only_writes = one_in(2);
}

/* What the relay gets for a peer. */
static struct stream *speak(struct peer *p, enum speech speech)
{
	static struct toy toys[2];
	struct toy *t = &toys[p - peers];

	p->speech = speech;
	if (speech == PLAIN)
		return &p->link->stream;
	if (speech == OPENSSL) {
		start_tls(p);
		return tls_stream(server);
	}
	t->stream = p->link->stream;
	t->stream.verbs = &toy_verbs;
	t->raw = &p->link->stream;
	return &t->stream;
}

static void plan(void)
{
	static const enum speech speeches[] = {PLAIN, TOY, TOY, OPENSSL};

	plan_peer(&peers[CLIENT], &links[CLIENT]);
	plan_peer(&peers[BACKEND], &links[BACKEND]);
	struct stream *backend = speak(&peers[BACKEND], one_in(2) ? PLAIN : TOY);
	if (links[BACKEND].kind == LINK_PIPES)
		links[BACKEND].kind = LINK_TCP;
	struct stream *inner[] = {speak(&peers[CLIENT], speeches[chance() % 4]), backend};
	for (int i = 0; i < 2; i++) {
		sides[i].inner = inner[i];
		sides[i].probe = *inner[i];
		sides[i].probe.verbs = &probe_verbs;
		plan_failure(&sides[i]);
	}
	sp = (struct splice){.client = &sides[CLIENT].probe,
			     .backend = &sides[BACKEND].probe,
			     .until = now_ms + 600000,
			     .idle_ms = one_in(6) ? (int)size_up_to(5000) : 0,
			     .spin_us = one_in(10) ? 2000 : 0};
	if (one_in(10))
		sp.until = now_ms + (int64_t)size_up_to(10000);
	if (one_in(15))
		signal_at = now_ms + (int64_t)size_up_to(10000);
}

/* After the end the peers read what is on its way. */
static void check_arrivals(void)
{
	struct peer *c = &peers[CLIENT], *b = &peers[BACKEND];
	const struct side *cs = &sides[CLIENT], *bs = &sides[BACKEND];

	for (int i = 0; i < 2; i++)
		while (!peers[i].gone && peer_reads(&peers[i]))
			;
	if (sp.received != cs->read || sp.sent != bs->read)
		broken("the bytes are counted wrongly");
	if (!cs->write_failed && !c->gone && !has_unsent(CLIENT) && c->received != cs->written)
		broken("%zu of %zu bytes reach the client", c->received, cs->written);
	if (bs->read_ended && !cs->write_failed && b->ending != RESETS && cs->written != b->made)
		broken("%zu of the %zu bytes of the backend are written", cs->written, b->made);
	if (bs->shut && !b->gone && c->ending != RESETS && b->received != c->made)
		broken("%zu of %zu bytes reach the backend", b->received, c->made);
}

static void run_schedule(uint64_t seed)
{
	chance_state = seed * 0x2545f4914f6cdd1dU;
	alarm(60);
	plan();
	relaying = true;
	last_byte_at = now_ms;
	splice_run(&sp);
	relaying = false;
	int must = reason_in_time() != NONE ? reason_in_time() : reason();
	if (no_memory)
		must = SPLICE_NO_MEMORY;
	if (must == NONE)
		broken("it ends without a reason: %s", splice_reason(sp.end));
	if (must != (int)sp.end)
		broken("it ends with \"%s\" instead of \"%s\"", splice_reason(sp.end),
		       splice_reason((enum splice_end)must));
	check_arrivals();
	_exit(ENDED + (int)sp.end);
}

/* ---- all schedules ---- */

enum { AT_ONCE = 2 };

static struct {
	pid_t pid; /* 0: none */
	uint64_t seed;
} running[AT_ONCE];

static unsigned ends[SPLICE_TERMINATED + 1], failures;

static void wait_for_one(void)
{
	int status;
	pid_t pid = wait(&status);

	for (unsigned i = 0; i < AT_ONCE; i++) {
		if (running[i].pid != pid)
			continue;
		running[i].pid = 0;
		if (WIFEXITED(status) && WEXITSTATUS(status) >= ENDED) {
			ends[WEXITSTATUS(status) - ENDED]++;
			return;
		}
		failures++;
		if (WIFSIGNALED(status))
			note("seed %llu: signal %d", (unsigned long long)running[i].seed,
			     WTERMSIG(status));
		return;
	}
	abort();
}

/* In a process of its own: SIGTERM is reported once, and there is one TLS connection. */
static void start_schedule(uint64_t seed)
{
	unsigned i = 0;

	while (running[i].pid != 0) {
		if (++i < AT_ONCE)
			continue;
		wait_for_one();
		i = 0;
	}
	fflush(stdout);
	running[i].seed = seed;
	running[i].pid = fork();
	if (running[i].pid < 0)
		abort();
	if (running[i].pid == 0) {
		printf("# seed %llu: ", (unsigned long long)seed); /* read by nobody if it passes */
		run_schedule(seed);
	}
}

static void run_many(uint64_t seed, unsigned long count)
{
	note("seeds from %llu on", (unsigned long long)seed);
	for (unsigned long i = 0; i < count; i++)
		start_schedule(seed + i);
	for (unsigned i = 0; i < AT_ONCE; i++)
		if (running[i].pid != 0)
			wait_for_one();
	ok(failures == 0, "%lu schedules, %u of which failed", count, failures);
	for (enum splice_end e = SPLICE_CLIENT_CLOSED; count >= 10 * MANY && e <= SPLICE_TERMINATED;
	     e++)
		ok(ends[e] > 0, "%u: %s", ends[e], splice_reason(e));
}

int main(void)
{
	const char *seed_text = getenv("SEED"), *count_text = getenv("SCHEDULES");
	uint64_t seed;

	if (getrandom(&seed, sizeof seed, 0) != sizeof seed)
		abort();
	seed = seed_text != NULL ? strtoull(seed_text, NULL, 10) : seed % 1000000000000;
	signal(SIGPIPE, SIG_IGN);
	stream_catch_signals();
	log_open(-1, false, "unit_pump", -1);
	prepare_tls();
	run_many(seed, count_text != NULL  ? strtoul(count_text, NULL, 10)
		       : seed_text != NULL ? 1
					   : MANY);
	return done_testing();
}
