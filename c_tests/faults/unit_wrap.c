/*
 * unit_wrap.c
 *		Every system call of the library fails: each one, at each of its
 *		occurrences, with each errno that makes sense, once and for ever.
 *
 * The calls are replaced by the linker (--wrap) and go to the kernel unless a
 * test has told them otherwise. A situation is a set of such refusals that
 * still ends in success; it leads the library down one of its paths. The path
 * is recorded, and then gone again and again with one more fault each time.
 * What has to come out is worked out from the contract, in expectation().
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

#include "test.h"

/* What the library is told the host's range is. */
#define RANGE_MIN 40000
#define RANGE_MAX 40199
#define RANGE_PORTS (RANGE_MAX - RANGE_MIN + 1)

/* As the header has them: lost listens, ports asked for before any is shared. */
#define LISTEN_RETRIES 256
#define PROBES 16

/* What close() and free() leave in errno, to see that it is set after them. */
#define POISON ELOOP

typedef enum CallKind
{
	SOCKET,
	SETSOCKOPT,
	BIND,
	LISTEN,
	GETSOCKNAME,
	OTHER,						/* counted, and never made to fail by itself */
	CALL_KINDS
} CallKind;

static const char *const call_names[] =
{"socket", "setsockopt", "bind", "listen", "getsockname", "other"};

static const IcListenerStep steps[] =
{IC_LISTENER_STEP_SOCKET, IC_LISTENER_STEP_SETSOCKOPT, IC_LISTENER_STEP_BIND,
IC_LISTENER_STEP_LISTEN, IC_LISTENER_STEP_GETSOCKNAME};

/* What the kernel may say; 0 ends each list. */
static const int errnos[][12] =
{
	[SOCKET] = {EAFNOSUPPORT, EMFILE, ENFILE, ENOBUFS, ENOMEM, EACCES, EPERM,
	EINVAL, EPROTONOSUPPORT},
	[SETSOCKOPT] = {EINVAL, ENOPROTOOPT, ENOMEM, ENOBUFS, EACCES, EPERM},
	[BIND] = {EADDRINUSE, EACCES, EPERM, EADDRNOTAVAIL, EAFNOSUPPORT, EINVAL,
	ENOMEM, ENOBUFS, EADDRNOTAVAIL, ENETDOWN},
	[LISTEN] = {EADDRINUSE, EINVAL, EOPNOTSUPP, ENOMEM, ENOBUFS, EACCES, EPERM},
	[GETSOCKNAME] = {ENOBUFS, ENOMEM, EINVAL},
};

/* A path through the library that ends in success. */
typedef struct Situation
{
	const char *name;
	const char *address;
	bool		udp;
	int			family;			/* of the socket in the end */
	IcListenerPortOrigin origin;
	bool		no_ipv6;		/* socket(AF_INET6) is refused */
	bool		no_proc;		/* the port range cannot be read */
	bool		nothing_free;	/* bind() without SO_REUSEADDR is refused */
	int			listens_lost;	/* the first listens are lost */
} Situation;

#define FREE IC_LISTENER_PORT_ORIGIN_FREE
#define REUSED IC_LISTENER_PORT_ORIGIN_REUSED
#define PICKED IC_LISTENER_PORT_ORIGIN_PICKED_BY_KERNEL

static Situation situations[] =
{
	{"quiet host", .family = AF_INET6,.origin = FREE},
	{"quiet host, 127.0.0.1", "127.0.0.1",.family = AF_INET,.origin = FREE},
	{"quiet host, ::1", "::1",.family = AF_INET6,.origin = FREE},
	{"host without IPv6", .family = AF_INET,.origin = FREE,.no_ipv6 = true},
	{"first listen lost", .family = AF_INET6,.origin = FREE,.listens_lost = 1},
	{"nothing free", .family = AF_INET6,.origin = REUSED,.nothing_free = true},
	{"nothing free, without IPv6", .family = AF_INET,.origin = REUSED,
	.nothing_free = true,.no_ipv6 = true},
	{"nothing free, three listens lost", .family = AF_INET6,.origin = REUSED,
	.nothing_free = true,.listens_lost = 3},
	{"no /proc", .family = AF_INET6,.origin = PICKED,.no_proc = true},
	{"no /proc, nothing free", .family = AF_INET6,.origin = PICKED,
	.no_proc = true,.nothing_free = true},
	{"no /proc, first listen lost", .family = AF_INET6,.origin = PICKED,
	.no_proc = true,.listens_lost = 1},
	{"UDP", .udp = true,.family = AF_INET6,.origin = FREE},
	{"UDP, host without IPv6", .udp = true,.family = AF_INET,.origin = FREE,
	.no_ipv6 = true},
	{"UDP, no /proc", .udp = true,.family = AF_INET6,.origin = PICKED,
	.no_proc = true},
};

#define SITUATIONS ((int) (sizeof(situations) / sizeof(situations[0])))

/* One call of the library into the kernel. */
typedef struct Recorded
{
	CallKind	kind;
	int			occurrence;		/* among its kind, from 1 */
	int			family;
	int			port;			/* bind() only */
} Recorded;

/* What is to happen and what has happened while `active`. */
static struct
{
	bool		active;
	Situation	situation;

	/* The fault. */
	CallKind	kind;
	int			occurrence;		/* 0: no fault */
	bool		for_ever;
	int			error;

	/* The files of /proc: what they say, and which is open. */
	const char *range;
	const char *reserved;
	int			open_error;
	int			open_error_at;	/* which open, from 1 */
	int			read_error;
	bool		reads_range;

	/* A rival who listens between our bind() and our listen(). */
	int			rivals_wanted;
	int			rivals[128];
	int			rival_count;

	/* Memory. */
	bool		no_memory;
	int			allocations;

	bool		forge_port_0;	/* in getsockname() */
	long		clock_offset;	/* seconds */

	int			opens;
	int			listens_lost;
	int			counts[CALL_KINDS];
	int			recorded_count;
	Recorded	recorded[4096];
}			stage;

extern int	__real_socket(int domain, int type, int protocol);
extern int	__real_setsockopt(int fd, int level, int name, const void *value,
							  socklen_t size);
extern int	__real_getsockopt(int fd, int level, int name, void *value,
							  socklen_t *size);
extern int	__real_bind(int fd, const struct sockaddr *address,
						socklen_t size);
extern int	__real_listen(int fd, int backlog);
extern int	__real_getsockname(int fd, struct sockaddr *address,
							   socklen_t *size);
extern int	__real_open64(const char *path, int flags,...);
extern ssize_t __real_read(int fd, void *buffer, size_t size);
extern int	__real_close(int fd);
extern int	__real_clock_gettime(clockid_t clock, struct timespec *now);
extern void *__real_malloc(size_t size);
extern void *__real_calloc(size_t count, size_t size);
extern void *__real_realloc(void *memory, size_t size);
extern void __real_free(void *memory);
extern int	__real_posix_memalign(void **memory, size_t alignment,
								  size_t size);

/* What the linker calls for socket() and the others. */
extern int	__wrap_socket(int domain, int type, int protocol);
extern int	__wrap_setsockopt(int fd, int level, int name, const void *value,
							  socklen_t size);
extern int	__wrap_getsockopt(int fd, int level, int name, void *value,
							  socklen_t *size);
extern int	__wrap_bind(int fd, const struct sockaddr *address,
						socklen_t size);
extern int	__wrap_listen(int fd, int backlog);
extern int	__wrap_getsockname(int fd, struct sockaddr *address,
							   socklen_t *size);
extern int	__wrap_open64(const char *path, int flags, mode_t mode);
extern ssize_t __wrap_read(int fd, void *buffer, size_t size);
extern int	__wrap_close(int fd);
extern int	__wrap_clock_gettime(clockid_t clock, struct timespec *now);
extern void *__wrap_malloc(size_t size);
extern void *__wrap_calloc(size_t count, size_t size);
extern void *__wrap_realloc(void *memory, size_t size);
extern void __wrap_free(void *memory);
extern int	__wrap_posix_memalign(void **memory, size_t alignment,
								  size_t size);

static int
port_of(const struct sockaddr *address)
{
	return ntohs(((const struct sockaddr_in *) address)->sin_port);
}

static bool
is_reusable(int fd)
{
	int			on = 0;
	socklen_t	size = sizeof(on);

	__real_getsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, &size);
	return on != 0;
}

/* Records a call. True, with errno, when it is the one that has to fail. */
static bool
fails(CallKind kind, int family, int port)
{
	int			occurrence = ++stage.counts[kind];
	int			capacity = sizeof(stage.recorded) / sizeof(stage.recorded[0]);

	if (stage.recorded_count < capacity)
		stage.recorded[stage.recorded_count++] =
			(Recorded) {kind, occurrence, family, port};

	/* Whoever would go on for ever is stopped by an errno nobody expects. */
	if (occurrence > 100000)
	{
		errno = EDEADLK;
		return true;
	}
	errno = stage.error;
	return stage.kind == kind && stage.occurrence != 0 &&
		(stage.for_ever ? occurrence >= stage.occurrence :
		 occurrence == stage.occurrence);
}

static int
refuse(int error)
{
	errno = error;
	return -1;
}

int
__wrap_socket(int domain, int type, int protocol)
{
	if (!stage.active)
		return __real_socket(domain, type, protocol);

	if (domain == AF_NETLINK)
		return refuse(EPERM);	/* the census, which follows a failure */
	if (fails(SOCKET, domain, 0))
		return -1;
	if (stage.situation.no_ipv6 && domain == AF_INET6)
		return refuse(EAFNOSUPPORT);
	return __real_socket(domain, type, protocol);
}

static int
family_of(int fd)
{
	int			family = 0;
	socklen_t	size = sizeof(family);

	__real_getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &size);
	return family;
}

int
__wrap_setsockopt(int fd, int level, int name, const void *value,
				  socklen_t size)
{
	if (stage.active && fails(SETSOCKOPT, family_of(fd), 0))
		return -1;
	return __real_setsockopt(fd, level, name, value, size);
}

int
__wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *size)
{
	if (stage.active)
		fails(OTHER, 0, 0);
	return __real_getsockopt(fd, level, name, value, size);
}

int
__wrap_bind(int fd, const struct sockaddr *address, socklen_t size)
{
	if (!stage.active)
		return __real_bind(fd, address, size);
	if (fails(BIND, address->sa_family, port_of(address)))
		return -1;
	if (stage.situation.nothing_free && !is_reusable(fd))
		return refuse(EADDRINUSE);
	return __real_bind(fd, address, size);
}

/* Somebody else listens on the port of a socket that is about to listen. */
static void
let_a_rival_win(int fd)
{
	struct sockaddr_storage address;
	socklen_t	size = sizeof(address);
	int			on = 1;
	int			rival;

	__real_getsockname(fd, (struct sockaddr *) &address, &size);
	rival = __real_socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	__real_setsockopt(rival, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	require(__real_bind(rival, (struct sockaddr *) &address, size) == 0 &&
			__real_listen(rival, 1) == 0, "no rival on port %d: %s",
			port_of((struct sockaddr *) &address), strerror(errno));
	stage.rivals[stage.rival_count++] = rival;
}

int
__wrap_listen(int fd, int backlog)
{
	if (!stage.active)
		return __real_listen(fd, backlog);
	if (fails(LISTEN, 0, 0))
	{
		stage.listens_lost += errno == EADDRINUSE;
		return -1;
	}
	if (stage.listens_lost < stage.situation.listens_lost)
	{
		stage.listens_lost++;
		return refuse(EADDRINUSE);
	}
	if (stage.rival_count < stage.rivals_wanted)
		let_a_rival_win(fd);
	return __real_listen(fd, backlog);
}

int
__wrap_getsockname(int fd, struct sockaddr *address, socklen_t *size)
{
	int			result;

	if (stage.active && fails(GETSOCKNAME, family_of(fd), 0))
		return -1;
	result = __real_getsockname(fd, address, size);
	if (stage.active && stage.forge_port_0)
		((struct sockaddr_in *) address)->sin_port = 0;
	return result;
}

int
__wrap_open64(const char *path, int flags, mode_t mode)
{
	if (!stage.active)
		return __real_open64(path, flags, mode);
	if (strncmp(path, "/proc/thread-self/", 18) == 0)
		return refuse(EACCES);	/* the census */
	fails(OTHER, 0, 0);
	stage.opens++;
	if (stage.situation.no_proc)
		return refuse(ENOENT);
	if (stage.open_error != 0 && stage.opens == stage.open_error_at)
		return refuse(stage.open_error);
	stage.reads_range = strstr(path, "ip_local_port_range") != NULL;
	return __real_open64(path, flags, mode);
}

ssize_t
__wrap_read(int fd, void *buffer, size_t size)
{
	const char *text;

	if (!stage.active)
		return __real_read(fd, buffer, size);
	fails(OTHER, 0, 0);
	if (stage.read_error != 0)
		return refuse(stage.read_error);
	text = stage.reads_range ? stage.range : stage.reserved;
	if (strlen(text) < size)
		size = strlen(text);
	memcpy(buffer, text, size);
	return size;
}

int
__wrap_close(int fd)
{
	int			result;

	if (!stage.active)
		return __real_close(fd);
	fails(OTHER, 0, 0);
	result = __real_close(fd);
	errno = POISON;
	return result;
}

int
__wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
	int			result = __real_clock_gettime(clock, now);

	now->tv_sec += stage.clock_offset;
	return result;
}

static bool
memory_is_refused(void)
{
	if (!stage.active)
		return false;
	stage.allocations++;
	return stage.no_memory;
}

void *
__wrap_malloc(size_t size)
{
	return memory_is_refused() ? NULL : __real_malloc(size);
}

void *
__wrap_calloc(size_t count, size_t size)
{
	return memory_is_refused() ? NULL : __real_calloc(count, size);
}

void *
__wrap_realloc(void *memory, size_t size)
{
	return memory_is_refused() ? NULL : __real_realloc(memory, size);
}

int
__wrap_posix_memalign(void **memory, size_t alignment, size_t size)
{
	return memory_is_refused() ? ENOMEM :
		__real_posix_memalign(memory, alignment, size);
}

/* glibc before 2.33 did change errno there now and then. */
void
__wrap_free(void *memory)
{
	__real_free(memory);
	if (stage.active)
		errno = POISON;
}

/*
 * A new stage. The clock goes on by a second, so that nothing is remembered
 * from the last one: the header promises that for a tenth of it.
 */
static void
set_stage(const Situation *situation)
{
	long		clock_offset = stage.clock_offset + 1;

	memset(&stage, 0, sizeof(stage));
	stage.clock_offset = clock_offset;
	stage.situation = *situation;
	stage.range = "40000\t40199\n";
	stage.reserved = "\n";
	now_doing("%s", stage.situation.name);
}

static void
start_recording(void)
{
	memset(stage.counts, 0, sizeof(stage.counts));
	stage.recorded_count = 0;
	stage.allocations = 0;
	stage.opens = 0;
}

static Call
call_with(const IcListenerOptions *options, bool is_udp)
{
	Call		result;

	start_recording();
	stage.active = true;
	result = open_socket(is_udp ? &udp : &tcp, options);
	stage.active = false;
	return result;
}

static Call
call_as_the_situation_says(void)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	options.address = stage.situation.address;
	return call_with(&options, stage.situation.udp);
}

static Call
call_without_options(void)
{
	Call		result;

	start_recording();
	stage.active = true;
	result = call_setup_listener();
	stage.active = false;
	return result;
}

/* For messages of failures: the situation, and the fault that is being tried. */
static void
now_trying(void)
{
	if (stage.occurrence == 0)
		now_doing("%s, no fault", stage.situation.name);
	else
		now_doing("%s, %s #%d %s %s", stage.situation.name,
				  call_names[stage.kind], stage.occurrence,
				  stage.for_ever ? "for ever" : "once",
				  strerror(stage.error));
}

/*
 * What the contract says of a result: everything that does not depend on why
 * it came out so. Closes the socket.
 */
static void
expect_success(const Call *result, int family, const OpenFds *before)
{
	bool		udp = stage.situation.udp;

	require(result->returned == 0, "returned %d, errno %s", result->returned,
		   strerror(result->error));
	require(open_fds_are(before, result->fd), "other fds than %d are open",
		   result->fd);
	require(result->port >= 1 && result->port == local_port(result->fd),
		   "port %d, but the socket has %d", result->port,
		   local_port(result->fd));
	require(stage.situation.no_proc || (result->port >= RANGE_MIN &&
									   result->port <= RANGE_MAX),
		   "port %d is not of the range", result->port);
	require(socket_option(result->fd, SOL_SOCKET, SO_DOMAIN) == family,
		   "not of family %d", family);
	require(socket_option(result->fd, SOL_SOCKET, SO_TYPE) ==
		   (udp ? SOCK_DGRAM : SOCK_STREAM), "the wrong type");
	require(socket_option(result->fd, SOL_SOCKET, SO_ACCEPTCONN) == !udp,
		   "listens: %d", udp);
	require(socket_option(result->fd, SOL_SOCKET, SO_REUSEADDR) == !udp,
		   "SO_REUSEADDR: %d", udp);
	require(family == AF_INET || stage.situation.address != NULL ||
		   socket_option(result->fd, IPPROTO_IPV6, IPV6_V6ONLY) == 0,
		   "IPv6 only");
	require((fcntl(result->fd, F_GETFL) & O_NONBLOCK) != 0, "blocking");
	require(fcntl(result->fd, F_GETFD) == FD_CLOEXEC, "not close-on-exec");
	require(result->report.error == 0 &&
		   result->report.step == IC_LISTENER_STEP_NONE, "error %d, step %d",
		   result->report.error, result->report.step);
	close(result->fd);
}

static void
expect_failure(const Call *result, int error, const OpenFds *before)
{
	require(result->returned == -1, "returned %d", result->returned);
	require(result->error == error, "errno %s, not %s",
		   strerror(result->error), strerror(error));
	require(result->port == 0, "port %d", result->port);
	require(result->fd == -1, "fd %d", result->fd);
	require(open_fds_are(before, -1), "an fd leaked, or one was closed");
}

static void
expect_report(const Call *result, int error, IcListenerStep step)
{
	const IcListenerReport *report = &result->report;

	require(report->error == error, "the report says %s, not %s",
		   strerror(report->error), strerror(error));
	require(report->step == step, "step %s, not %s",
		   ic_listener_step_name(report->step), ic_listener_step_name(step));
	require(report->message[0] != '\0', "no message");
	require((int) report->listens_lost <= stage.listens_lost,
		   "%u listens lost, but there were %d", report->listens_lost,
		   stage.listens_lost);
}

/*
 * Nobody is left alone on a port number in one family while somebody else has
 * it in the other: a lost port is never tried in the other one.
 */
static void
expect_no_change_of_family(void)
{
	for (int i = 1; i < stage.recorded_count; i++)
		require(stage.recorded[i].kind != BIND ||
			   stage.recorded[i].family == stage.situation.family,
			   "tried family %d", stage.recorded[i].family);
}

static int
calls_of(CallKind kind, int family)
{
	int			count = 0;

	for (int i = 0; i < stage.recorded_count; i++)
		count += stage.recorded[i].kind == kind &&
			stage.recorded[i].family == family;
	return count;
}

/*
 * The work is bounded. In each family, a port is asked for by a probe, by the
 * sweep, and once more if its listen was lost; each lost listen costs a socket,
 * and there are so many of them and no more.
 */
static void
expect_bounds(void)
{
	int			lost = stage.listens_lost;

	require(stage.counts[LISTEN] <= LISTEN_RETRIES + 1, "%d listens",
			stage.counts[LISTEN]);
	for (int i = 0; i < 2; i++)
	{
		int			family = i == 0 ? AF_INET6 : AF_INET;
		int			binds = calls_of(BIND, family);
		int			sockets = calls_of(SOCKET, family);

		require(binds <= PROBES + RANGE_PORTS + lost,
				"%d binds in family %d", binds, family);
		require(sockets <= 1 + lost, "%d sockets of family %d", sockets,
				family);
	}
}

/* What has to come of a fault. */
typedef struct Expectation
{
	int			error;			/* 0: success */
	int			family;			/* in case of success */
} Expectation;

static Expectation
expectation(const Recorded *hit, int error, bool for_ever)
{
	const Situation *situation = &stage.situation;
	bool		other_family = situation->address == NULL &&
		hit->family == AF_INET6;
	bool		this_port = hit->kind == BIND &&
		(error == EADDRINUSE || error == EACCES || error == EPERM);
	bool		no_family =
		(hit->kind == SOCKET && error == EAFNOSUPPORT) ||
		(hit->kind == BIND && (error == EAFNOSUPPORT ||
							   error == EADDRNOTAVAIL));
	bool		another_pick;

	/* Where IPv6 is not to be had, IPv4 is. */
	if (no_family && other_family && !for_ever)
		return (Expectation) {0, AF_INET};

	/* A listen that was lost costs the port, and no more. */
	if (hit->kind == LISTEN && error == EADDRINUSE)
		return (Expectation) {for_ever ? EADDRINUSE : 0, situation->family};

	/*
	 * Nor does a bind. When the kernel picks, there is a second try with
	 * SO_REUSEADDR; UDP has none.
	 */
	another_pick = hit->occurrence == 1 && !situation->udp;
	if (this_port && !for_ever && (!situation->no_proc || another_pick))
		return (Expectation) {0, situation->family};

	/* Privilege is what is missing when it was missing for all ports. */
	if (this_port)
		return (Expectation) {error != EADDRINUSE && hit->occurrence == 1 ?
			EACCES : EADDRINUSE, 0};

	return (Expectation) {error, 0};
}

static int	faults_tried;

/* One fault: the call once with a report, and once without. */
static void
try_fault(const Situation *situation, const Recorded *hit, int error,
		  bool for_ever)
{
	bool		simple = situation->address == NULL && !situation->udp;

	for (int way = 0; way <= (int) simple; way++)
	{
		OpenFds		before = open_fds();
		Expectation expected;
		Call		result;

		faults_tried++;
		set_stage(situation);
		stage.kind = hit->kind;
		stage.occurrence = hit->occurrence;
		stage.for_ever = for_ever;
		stage.error = error;
		expected = expectation(hit, error, for_ever);
		now_trying();

		result = way == 0 ? call_as_the_situation_says() :
			call_without_options();

		require(stage.counts[hit->kind] >= hit->occurrence, "was not reached");
		expect_bounds();
		if (hit->kind == LISTEN)
			expect_no_change_of_family();
		if (expected.error == 0)
			expect_success(&result, expected.family, &before);
		else
		{
			expect_failure(&result, expected.error, &before);
			if (way == 0)
			{
				IcListenerStep step = steps[hit->kind];

				/* Out of ports: what counts is that one was lost. */
				if (hit->kind == BIND && expected.error == EADDRINUSE &&
					stage.listens_lost > 0)
					step = IC_LISTENER_STEP_LISTEN;
				expect_report(&result, expected.error, step);
			}
		}
	}
}

/* No port is asked for twice on the way to success. */
static void
expect_fresh_ports(void)
{
	uint8_t		seen[65536] = {0};

	for (int i = 0; i < stage.recorded_count; i++)
	{
		const Recorded *call = &stage.recorded[i];

		if (call->kind != BIND || call->port == 0)
			continue;
		require(!seen[call->port], "port %d was tried twice", call->port);
		seen[call->port] = 1;
	}
}

static void
try_all_faults(void *argument)
{
	const Situation *situation = argument;
	OpenFds		before = open_fds();
	Recorded   *path;
	int			length;
	int			step;
	Call		result;

	/* The path without a fault. */
	set_stage(situation);
	result = call_as_the_situation_says();
	expect_success(&result, situation->family, &before);
	require(result.report.origin == situation->origin, "port origin %d",
		   result.report.origin);
	require((int) result.report.listens_lost == situation->listens_lost,
		   "%u listens lost", result.report.listens_lost);
	expect_fresh_ports();
	if (situation->udp)
		require(stage.counts[LISTEN] == 0, "UDP listens");

	length = stage.recorded_count;
	path = malloc(length * sizeof(Recorded));
	require(path != NULL, "out of memory");
	memcpy(path, stage.recorded, length * sizeof(Recorded));

	/* Under valgrind, a few of the many ports that are tried in a row. */
	step = RUNNING_ON_VALGRIND ? 29 : 1;
	for (int i = 0; i < length; i++)
	{
		if (path[i].kind == OTHER ||
			(path[i].kind == BIND && path[i].occurrence % step != 1 % step))
			continue;
		for (const int *error = errnos[path[i].kind]; *error != 0; error++)
		{
			try_fault(situation, &path[i], *error, false);
			try_fault(situation, &path[i], *error, true);
		}
	}
	free(path);
	printf("# %s: %d faults tried\n", situation->name, faults_tried);
}

static void
test_situation(void **situation)
{
	assert_passes_in_child(try_all_faults, *situation);
}

/*
 * The rest are single cases.
 */

static const Situation quiet = {"quiet host",.family = AF_INET6,.origin = FREE};
static const Situation nothing_free = {"nothing free",.family = AF_INET6,
.origin = REUSED,.nothing_free = true};
static const Situation no_proc = {"no /proc",.family = AF_INET6,
.origin = PICKED,.no_proc = true};

TEST(a_quiet_host_costs_five_calls)
{
	OpenFds		before = open_fds();
	Call		result;

	set_stage(&quiet);
	result = call_without_options();
	require(stage.opens > 0, "the range was not read");
	expect_success(&result, AF_INET6, &before);

	result = call_without_options();
	require(stage.opens == 0, "the range was read again");
	/* socket, IPV6_V6ONLY, bind, listen, SO_REUSEADDR */
	require(stage.recorded_count == 5, "%d calls", stage.recorded_count);
	expect_success(&result, AF_INET6, &before);
}

TEST(success_allocates_no_memory)
{
	for (int i = 0; i < SITUATIONS; i++)
	{
		OpenFds		before = open_fds();
		Call		result;

		set_stage(&situations[i]);
		result = call_as_the_situation_says();
		require(stage.allocations == 0, "%d allocations", stage.allocations);
		expect_success(&result, situations[i].family, &before);
	}
}

/* The very first call of a process, when whatever is lazy is done. */
TEST(nor_does_the_first_call)
{
	Call		result;

	set_stage(&quiet);
	stage.no_memory = true;
	result = call_without_options();
	require(result.returned == 0, "%s", strerror(result.error));
	require(stage.allocations == 0, "%d allocations", stage.allocations);
	close(result.fd);
}

TEST(without_memory_nothing_breaks)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	OpenFds		before = open_fds();
	char		long_list[4096];
	Call		result;

	/* An address that is quoted in the message. */
	set_stage(&quiet);
	stage.no_memory = true;
	options.address = "nonsense";
	result = call_with(&options, false);
	require(stage.allocations > 0, "nothing was allocated");
	expect_failure(&result, EINVAL, &before);
	expect_report(&result, EINVAL, IC_LISTENER_STEP_ADDRESS);

	/* The kernel is short of it, too. */
	set_stage(&quiet);
	stage.no_memory = true;
	stage.kind = SOCKET;
	stage.occurrence = 1;
	stage.for_ever = true;
	stage.error = ENOMEM;
	result = call_with(NULL, false);
	require(stage.allocations == 0, "%d allocations", stage.allocations);
	expect_failure(&result, ENOMEM, &before);
	expect_report(&result, ENOMEM, IC_LISTENER_STEP_SOCKET);

	/* A list of reserved ports too long for the stack: the kernel picks. */
	for (size_t i = 0; i < sizeof(long_list) - 1; i++)
		long_list[i] = "1,"[i % 2];
	long_list[sizeof(long_list) - 2] = '\n';
	long_list[sizeof(long_list) - 1] = '\0';
	set_stage(&quiet);
	stage.reserved = long_list;
	stage.no_memory = true;
	stage.situation.no_proc = false;
	result = call_with(NULL, false);
	require(stage.allocations > 0, "nothing was allocated");
	stage.situation.no_proc = true; /* any port will do */
	require(result.report.origin == PICKED, "origin %d", result.report.origin);
	expect_success(&result, AF_INET6, &before);
}

/* The message of a refused address is the one thing that is ever freed. */
TEST(errno_is_set_when_all_is_freed)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	OpenFds		before = open_fds();
	Call		result;

	set_stage(&quiet);
	options.address = "nonsense";
	result = call_with(&options, false);
	require(stage.allocations > 0, "nothing was allocated");
	expect_failure(&result, EINVAL, &before);
	expect_report(&result, EINVAL, IC_LISTENER_STEP_ADDRESS);
}

TEST(an_unreadable_range_leaves_it_to_the_kernel)
{
	static const int open_errors[] = {ENOENT, EACCES, EPERM, EMFILE, ENFILE,
	ENOMEM, EIO};
	static const char *const nonsense[] = {"", "\n", "x", "32768\n",
	"60999\t32768\n", "1\t65536\n", "1\t2\t3\n", "-1\t5\n"};
	int			count = sizeof(open_errors) / sizeof(open_errors[0]);

	for (int i = 0; i < 2 * count + 1 + 8; i++)
	{
		OpenFds		before = open_fds();
		Call		result;

		set_stage(&quiet);
		if (i < 2 * count)
		{
			stage.open_error = open_errors[i / 2];
			stage.open_error_at = i % 2 + 1;
		}
		else if (i == 2 * count)
			stage.read_error = EIO;
		else
			stage.range = nonsense[i - 2 * count - 1];
		result = call_with(NULL, false);
		stage.situation.no_proc = true;
		require(result.report.origin == PICKED, "case %d: origin %d", i,
			   result.report.origin);
		require(result.report.port_min == 0, "case %d: range from %d", i,
			   result.report.port_min);
		expect_success(&result, AF_INET6, &before);
	}
}

TEST(a_port_0_from_getsockname_is_refused)
{
	OpenFds		before = open_fds();
	Call		result;

	set_stage(&no_proc);
	stage.forge_port_0 = true;
	result = call_as_the_situation_says();
	expect_failure(&result, EADDRNOTAVAIL, &before);
	expect_report(&result, EADDRNOTAVAIL, IC_LISTENER_STEP_GETSOCKNAME);
}

/* The header: the range "as it was at most a tenth of a second ago". */
TEST(a_changed_range_counts)
{
	OpenFds		before = open_fds();
	Call		result;

	set_stage(&quiet);
	result = call_as_the_situation_says();
	expect_success(&result, AF_INET6, &before);

	set_stage(&quiet);
	stage.range = "40100 40100\n";
	result = call_as_the_situation_says();
	require(result.port == 40100, "port %d", result.port);
	expect_success(&result, AF_INET6, &before);

	set_stage(&quiet);
	stage.reserved = "40000-40054,40056-40199\n";
	result = call_as_the_situation_says();
	require(result.port == 40055, "port %d", result.port);
	expect_success(&result, AF_INET6, &before);
}

/* Of every port that is refused, the report says how. */
TEST(the_report_counts_what_was_refused)
{
	static const int refusals[] = {EADDRINUSE, EACCES, EPERM};

	for (int udp = 0; udp <= 1; udp++)
	{
		for (int i = 0; i < 3; i++)
		{
			bool		in_use = refusals[i] == EADDRINUSE;
			OpenFds		before = open_fds();
			Call		result;

			set_stage(&quiet);
			stage.situation.udp = udp;
			stage.kind = BIND;
			stage.occurrence = 1;
			stage.for_ever = true;
			stage.error = refusals[i];
			result = call_as_the_situation_says();
			expect_failure(&result, in_use ? EADDRINUSE : EACCES, &before);
			require(result.report.ports_tried == RANGE_PORTS, "%u tried",
				   result.report.ports_tried);
			require(result.report.ports_in_use == (in_use ? RANGE_PORTS : 0),
				   "%u in use", result.report.ports_in_use);
			require(result.report.ports_forbidden ==
				   (in_use ? 0 : RANGE_PORTS), "%u forbidden",
				   result.report.ports_forbidden);
			require(result.report.listens_lost == 0, "%u listens lost",
				   result.report.listens_lost);
		}
	}
}

TEST(lost_listens_are_limited_by_the_option)
{
	static const int limits[] = {1, 7, 63, 64, 100};
	const Situation *const both[] = {&quiet, &nothing_free};

	for (int i = 0; i < 10; i++)
	{
		IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
		OpenFds		before = open_fds();
		Call		result;

		set_stage(both[i % 2]);
		options.listen_retries = limits[i / 2];
		stage.kind = LISTEN;
		stage.occurrence = 1;
		stage.for_ever = true;
		stage.error = EADDRINUSE;
		result = call_with(&options, false);
		expect_failure(&result, EADDRINUSE, &before);
		expect_report(&result, EADDRINUSE, IC_LISTENER_STEP_LISTEN);
		require(stage.counts[LISTEN] == options.listen_retries + 1,
			   "%d listens with %d retries", stage.counts[LISTEN],
			   options.listen_retries);
		require((int) result.report.listens_lost == stage.counts[LISTEN],
			   "the report says %u", result.report.listens_lost);
		expect_no_change_of_family();
	}
}

/* The retries of the test with real rivals; there are more ports than that. */
#define RIVALRY_RETRIES 20

static void
close_rivals(void)
{
	while (stage.rival_count > 0)
		close(stage.rivals[--stage.rival_count]);
}

/* Rivals who really listen on the port between our bind() and listen(). */
TEST_IN_NETNS(a_rival_costs_one_port)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	OpenFds		before = open_fds();

	set_port_range(RANGE_MIN, RANGE_MAX);
	options.listen_retries = RIVALRY_RETRIES;

	/* They win up to as many times as there are retries. */
	for (int rivals = 1; rivals <= RIVALRY_RETRIES; rivals++)
	{
		Call		result;

		set_stage(&nothing_free);
		stage.rivals_wanted = rivals;
		result = call_with(&options, false);
		require(result.returned == 0, "%d rivals: %s", rivals,
				strerror(result.error));
		require((int) result.report.listens_lost == rivals,
				"%d rivals, %u listens lost", rivals,
				result.report.listens_lost);
		require(result.report.origin == REUSED, "origin %d",
				result.report.origin);
		for (int i = 0; i < rivals; i++)
			require(local_port(stage.rivals[i]) != result.port,
					"port %d is the rival's", result.port);
		require(socket_option(result.fd, SOL_SOCKET, SO_DOMAIN) == AF_INET6,
				"the family was changed");
		close_rivals();
		require(open_fds_are(&before, result.fd), "an fd leaked");
		close(result.fd);
	}

	/* Once more is too often. */
	{
		Call		result;

		set_stage(&nothing_free);
		stage.rivals_wanted = RIVALRY_RETRIES + 1;
		result = call_with(&options, false);
		require(result.returned == -1 && result.error == EADDRINUSE &&
				result.port == 0 && result.fd == -1,
				"returned %d, errno %d, port %d, fd %d", result.returned,
				result.error, result.port, result.fd);
		require(result.report.step == IC_LISTENER_STEP_LISTEN, "step %s",
				ic_listener_step_name(result.report.step));
		require(result.report.listens_lost == RIVALRY_RETRIES + 1,
				"%u listens lost", result.report.listens_lost);
		require(stage.rival_count == RIVALRY_RETRIES + 1, "%d rivals",
				stage.rival_count);
		close_rivals();
		require(open_fds_are(&before, -1), "an fd leaked");
	}
}

/* Every port of a small range is won by somebody else. */
TEST_IN_NETNS(rivals_on_all_ports_are_eaddrinuse)
{
	OpenFds		before = open_fds();
	Call		result;

	set_port_range(RANGE_MIN, RANGE_MIN + 15);
	set_stage(&nothing_free);
	stage.range = "40000\t40015\n";
	stage.rivals_wanted = 128;
	result = call_with(NULL, false);
	require(result.returned == -1 && result.error == EADDRINUSE &&
			result.port == 0 && result.fd == -1,
			"returned %d, errno %d, port %d, fd %d", result.returned,
			result.error, result.port, result.fd);
	require(result.report.listens_lost == 16 &&
			result.report.ports_tried == 16 &&
			result.report.ports_in_use == 0,
			"%u listens lost, %u tried, %u in use", result.report.listens_lost,
			result.report.ports_tried, result.report.ports_in_use);
	require(stage.counts[LISTEN] == 16, "%d listens", stage.counts[LISTEN]);
	require(result.report.step == IC_LISTENER_STEP_LISTEN, "step %s",
			ic_listener_step_name(result.report.step));
	close_rivals();
	require(open_fds_are(&before, -1), "an fd leaked");
}

int
main(void)
{
	const struct CMUnitTest single_cases[] = {
		test(a_quiet_host_costs_five_calls),
		test(success_allocates_no_memory),
		test(nor_does_the_first_call),
		test(without_memory_nothing_breaks),
		test(errno_is_set_when_all_is_freed),
		test(an_unreadable_range_leaves_it_to_the_kernel),
		test(a_port_0_from_getsockname_is_refused),
		test(a_changed_range_counts),
		test(the_report_counts_what_was_refused),
		test(lost_listens_are_limited_by_the_option),
		test(a_rival_costs_one_port),
		test(rivals_on_all_ports_are_eaddrinuse),
	};
	const int	single = sizeof(single_cases) / sizeof(single_cases[0]);
	struct CMUnitTest tests[SITUATIONS + single];
	const char *missing = enter_netns();

	/* Where nobody else holds a port of the range. */
	if (missing != NULL)
		print_message("# in the host's network namespace, where others may "
					  "be in the way: no %s\n", missing);
	memcpy(tests, single_cases, sizeof(single_cases));
	for (int i = 0; i < SITUATIONS; i++)
		tests[single + i] = (struct CMUnitTest)
	{
		situations[i].name, test_situation, NULL, NULL, &situations[i]
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
