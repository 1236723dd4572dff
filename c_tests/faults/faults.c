/*
 * faults.c
 *		Every system call below the library fails: at each of its
 *		occurrences, once and from then on, with each errno that makes
 *		sense.
 *
 * A scenario is a host and a call of the library. It runs once to count the
 * system calls, and then again for each fault; the linker's --wrap leads them
 * here. What must come of it:
 *	- the errno of the fault, where the call cannot do without; elsewhere what
 *	  comes without the fault, or the errno for missing ports;
 *	- outputs reset; no descriptor more or less; no port held that was free;
 *	- a caller's socket is the same one, with its flags and without a window;
 *	- no allocation.
 */
#define _GNU_SOURCE

#include <fcntl.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

#include "crowded.h"
#include "test.h"

#define PORT_MIN 40000
#define PORT_MAX 40007
#define PORTS (PORT_MAX - PORT_MIN + 1)
#define SERVER_PORT 30000

/* What close() leaves in errno, to see that errno is set after it. */
#define POISON ELOOP

/*
 * Calls taken over
 */

typedef enum Function
{
	SOCKET, SETSOCKOPT, GETSOCKOPT, BIND, LISTEN, CONNECT, SHUTDOWN,
	GETSOCKNAME, OPEN, READ, SEND, RECV, CLOSE, MMAP, RANDOM,
	FUNCTIONS
} Function;

static const struct
{
	const char *name;
	int			errnos[12];		/* 0 ends them */
}			functions[FUNCTIONS] =
{
	[SOCKET] = {"socket", {EAFNOSUPPORT, EPERM, EACCES, EPROTONOSUPPORT, ENOSYS,
	EINVAL, EMFILE, ENFILE, ENOBUFS, ENOMEM}},
	[SETSOCKOPT] = {"setsockopt", {EINVAL, ENOPROTOOPT, ENOMEM, EACCES, EPERM}},
	[GETSOCKOPT] = {"getsockopt", {ENOPROTOOPT, EINVAL, EPERM}},
	[BIND] = {"bind", {EADDRINUSE, EACCES, EPERM, EINVAL, ENOMEM, ENOBUFS}},
	[LISTEN] = {"listen", {EADDRINUSE, EINVAL, EACCES, EPERM, ENOBUFS}},
	[CONNECT] = {"connect", {EADDRNOTAVAIL, ECONNREFUSED, EINTR, EINPROGRESS,
	ENETUNREACH, ETIMEDOUT, EPERM, EADDRINUSE}},
	[SHUTDOWN] = {"shutdown", {EPERM, ENOTCONN}},
	[GETSOCKNAME] = {"getsockname", {ENOBUFS, ENOMEM}},
	[OPEN] = {"open", {EINTR, ENOENT, EACCES, EMFILE, ENFILE, ENOMEM}},
	[READ] = {"read", {EINTR, EIO, EACCES}},
	[SEND] = {"send", {EPERM, ECONNREFUSED, ENOBUFS, EINTR}},
	[RECV] = {"recv", {EINTR, EAGAIN, ENOBUFS, EPERM}},
	[CLOSE] = {"close", {EINTR, EIO}},
	[MMAP] = {"mmap", {ENOMEM, EPERM}},
	[RANDOM] = {"getrandom", {ENOSYS, EAGAIN, EINTR}},
};

/* Whether the failure of a system call is the library call's. */
typedef enum Need
{
	OPTIONAL,					/* it can do without */
	EITHER,
	NEEDED,
} Need;

static struct
{
	bool		active;
	Function	function;
	int			occurrence;		/* 0: no fault */
	bool		for_ever;
	int			error;
	bool		hit;
	Need		need;			/* of what failed: the greatest */
	int			counts[FUNCTIONS];
	int			allocations;
	int			mapped;
	int			caller_fd;
}			stage;

static bool
fails(Function function, Need need)
{
	int			count;

	if (!stage.active)
		return false;
	count = ++stage.counts[function];

	/* An errno that no test expects stops an endless loop. */
	if (count > 20000)
	{
		errno = EDEADLK;
		return true;
	}
	if (function != stage.function || stage.occurrence == 0 ||
		(stage.for_ever ? count < stage.occurrence : count != stage.occurrence))
		return false;
	stage.need = need > stage.need ? need : stage.need;
	stage.hit = true;
	errno = stage.error;
	return true;
}

#define WRAP(type, name, parameters, arguments, function, need, failure) \
	extern type __real_##name parameters; \
	extern type __wrap_##name parameters; \
	type \
	__wrap_##name parameters \
	{ \
		return fails(function, need) ? (failure) : __real_##name arguments; \
	}

/* The port is what is refused, and there are others. */
static bool
is_about_the_port(int error)
{
	return error == EADDRINUSE || error == EADDRNOTAVAIL || error == EACCES ||
		error == EPERM;
}

extern int	__real_socket(int domain, int type, int protocol);
extern int	__wrap_socket(int domain, int type, int protocol);

static int	listener_fd = -1;

/* Netlink, AF_UNIX and the search for a route can be done without. */
int
__wrap_socket(int domain, int type, int protocol)
{
	bool		inet = domain == AF_INET || domain == AF_INET6;
	bool		ours = inet && stage.caller_fd < 0;
	int			fd;

	if (fails(SOCKET, ours ? NEEDED : OPTIONAL))
		return -1;
	fd = __real_socket(domain, type, protocol);
	if (stage.active && ours)
		listener_fd = fd;
	return fd;
}

/* Sockets beside ours may be needed to find out. */
static Need
need_of(int fd)
{
	return fd == (stage.caller_fd >= 0 ? stage.caller_fd : listener_fd) ?
		NEEDED : EITHER;
}

/* connect() and listen() have their own words for a bind() that fails. */
static Need
need_of_bind(int fd)
{
	return stage.caller_fd >= 0 ? EITHER : need_of(fd);
}

WRAP(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t size),
	 (fd, level, name, value, size), SETSOCKOPT, EITHER, -1)
WRAP(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *size),
	 (fd, level, name, value, size), GETSOCKOPT, EITHER, -1)
WRAP(int, bind, (int fd, const struct sockaddr *address, socklen_t size),
	 (fd, address, size), BIND,
	 address->sa_family == AF_UNIX ? OPTIONAL : need_of_bind(fd), -1)
WRAP(int, listen, (int fd, int backlog), (fd, backlog), LISTEN, need_of(fd), -1)
WRAP(int, connect, (int fd, const struct sockaddr *address, socklen_t size),
	 (fd, address, size), CONNECT, fd == stage.caller_fd ? NEEDED : OPTIONAL, -1)
WRAP(int, shutdown, (int fd, int how), (fd, how), SHUTDOWN, EITHER, -1)
WRAP(int, getsockname, (int fd, struct sockaddr *address, socklen_t *size),
	 (fd, address, size), GETSOCKNAME, EITHER, -1)
WRAP(int, open64, (const char *path, int flags, mode_t mode),
	 (path, flags, mode), OPEN, OPTIONAL, -1)
WRAP(ssize_t, read, (int fd, void *buffer, size_t size), (fd, buffer, size),
	 READ, OPTIONAL, -1)
WRAP(ssize_t, send, (int fd, const void *data, size_t size, int flags),
	 (fd, data, size, flags), SEND, OPTIONAL, -1)
WRAP(ssize_t, sendto, (int fd, const void *data, size_t size, int flags,
					   const struct sockaddr *to, socklen_t length),
	 (fd, data, size, flags, to, length), SEND, OPTIONAL, -1)
WRAP(ssize_t, recv, (int fd, void *buffer, size_t size, int flags),
	 (fd, buffer, size, flags), RECV, OPTIONAL, -1)
WRAP(ssize_t, recvfrom, (int fd, void *buffer, size_t size, int flags,
						 struct sockaddr *from, socklen_t *length),
	 (fd, buffer, size, flags, from, length), RECV, OPTIONAL, -1)
WRAP(ssize_t, getrandom, (void *buffer, size_t size, unsigned flags),
	 (buffer, size, flags), RANDOM, OPTIONAL, -1)

extern int	__real_close(int fd);
extern int	__wrap_close(int fd);
extern void *__real_mmap(void *at, size_t size, int access, int flags, int fd,
						 off_t offset);
extern void *__wrap_mmap(void *at, size_t size, int access, int flags, int fd,
						 off_t offset);
extern int	__real_munmap(void *at, size_t size);
extern int	__wrap_munmap(void *at, size_t size);

/* A descriptor is gone also where close() fails. */
int
__wrap_close(int fd)
{
	int			returned = __real_close(fd);

	if (fails(CLOSE, OPTIONAL))
		return -1;
	if (stage.active)
		errno = POISON;
	return returned;
}

void *
__wrap_mmap(void *at, size_t size, int access, int flags, int fd, off_t offset)
{
	if (fails(MMAP, OPTIONAL))
		return MAP_FAILED;
	stage.mapped += stage.active;
	return __real_mmap(at, size, access, flags, fd, offset);
}

int
__wrap_munmap(void *at, size_t size)
{
	stage.mapped -= stage.active;
	return __real_munmap(at, size);
}

#define COUNT(type, name, parameters, arguments) \
	extern type __real_##name parameters; \
	extern type __wrap_##name parameters; \
	type \
	__wrap_##name parameters \
	{ \
		stage.allocations += stage.active; \
		return __real_##name arguments; \
	}

COUNT(void *, malloc, (size_t size), (size))
COUNT(void *, calloc, (size_t count, size_t size), (count, size))
COUNT(void *, realloc, (void *memory, size_t size), (memory, size))
COUNT(int, posix_memalign, (void **memory, size_t alignment, size_t size),
	  (memory, alignment, size))
COUNT(void, free, (void *memory), (memory))

/*
 * Hosts
 */

static void
quiet(void)
{
	set_port_range(PORT_MIN, PORT_MAX);
	server_on("127.0.0.1", SERVER_PORT);
	server_on("::1", SERVER_PORT);
}

static void
in_time_wait(void)
{
	quiet();
	crowd(PORT_MIN, PORT_MAX);
}

static void
held(void)
{
	Neighbour	neighbour = {.address = "::", .listens = true};

	quiet();
	for (int port = PORT_MIN; port <= PORT_MAX; port++)
		expect(open_neighbour(&neighbour, port) >= 0);
}

/* All ports but one have a connection to the server. */
static void
connected(void)
{
	in_time_wait();
	for (int port = PORT_MIN; port < PORT_MAX; port++)
		connected_from("127.0.0.1", port, "127.0.0.1", SERVER_PORT);
}

/*
 * Scenarios
 */

typedef enum Action
{
	SETUP, OPEN_TCP, OPEN_NAMED, OPEN_UDP,	/* make a socket */
	CENSUS,
	A_CONNECT, A_BIND, A_LISTEN, BIND_LISTEN, BIND_CONNECT	/* take one */
} Action;

typedef struct Scenario
{
	const char *name;
	void		(*host) (void);
	Action		action;
	const char *address;
	int			error;			/* without a fault */
} Scenario;

static const Scenario scenarios[] = {
	{"setup_listener, quiet", quiet, SETUP, NULL, 0},
	{"setup_listener, TIME_WAIT", in_time_wait, SETUP, NULL, 0},
	{"setup_listener, held", held, SETUP, NULL, EADDRINUSE},
	{"open_tcp, quiet", quiet, OPEN_TCP, "127.0.0.1", 0},
	{"open_tcp, held", held, OPEN_TCP, NULL, EADDRINUSE},
	{"open_tcp, named range", in_time_wait, OPEN_NAMED, "127.0.0.1", 0},
	{"open_tcp, link-local", quiet, OPEN_TCP, "fe80::1%lo", EADDRNOTAVAIL},
	{"open_udp", quiet, OPEN_UDP, NULL, 0},
	{"open_udp, named range", quiet, OPEN_NAMED, NULL, 0},
	{"connect, quiet", quiet, A_CONNECT, "127.0.0.1", 0},
	{"connect, TIME_WAIT", in_time_wait, A_CONNECT, "127.0.0.1", 0},
	{"connect, TIME_WAIT, IPv6", in_time_wait, A_CONNECT, "::1", 0},
	{"connect, one port", connected, A_CONNECT, "127.0.0.1", 0},
	{"connect, held", held, A_CONNECT, "127.0.0.1", EADDRNOTAVAIL},
	{"bind, quiet", quiet, A_BIND, "0.0.0.0", 0},
	{"bind, held", held, A_BIND, "0.0.0.0", EADDRINUSE},
	{"listen, TIME_WAIT", in_time_wait, A_LISTEN, "0.0.0.0", 0},
	{"bind and listen, quiet", quiet, BIND_LISTEN, "0.0.0.0", 0},
	{"bind and listen, TIME_WAIT", in_time_wait, BIND_LISTEN, "0.0.0.0", 0},
	{"bind and connect, TIME_WAIT", in_time_wait, BIND_CONNECT, "127.0.0.1", 0},
	{"census", in_time_wait, CENSUS, NULL, 0},
};

static const Scenario *scenario;

/* What one run gave. */
typedef struct Run
{
	int			error;
	int			port;
	int			fd;
	int			reported;		/* the report's error, or -1 */
	int			step;
} Run;

static int
act(Run *run, IcListenerReport *report)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerCensus census = IC_LISTENER_CENSUS_INIT;
	struct sockaddr_storage at;
	struct sockaddr_storage to;
	const struct sockaddr *address = (const struct sockaddr *) &at;
	const char *host = scenario->address != NULL ? scenario->address : "0.0.0.0";
	socklen_t	length = 0;

	options.address = scenario->address;
	if (scenario->action >= A_CONNECT)
	{
		length = socket_address(host, 0, &at);
		socket_address(host, SERVER_PORT, &to);
	}
	if (scenario->action == OPEN_NAMED || scenario->action == CENSUS)
	{
		options.port_min = PORT_MIN;
		options.port_max = PORT_MAX;
	}
	errno = 0;
	stage.active = true;
	switch (scenario->action)
	{
		case SETUP:
			return setup_listener(&run->port, &run->fd);
		case OPEN_TCP:
			return ic_listener_open_tcp(&options, &run->port, &run->fd, report);
		case OPEN_NAMED:
			return (scenario->address != NULL ? ic_listener_open_tcp :
					ic_listener_open_udp) (&options, &run->port, &run->fd,
										   report);
		case OPEN_UDP:
			return ic_listener_open_udp(&options, &run->port, &run->fd, report);
		case CENSUS:
			return ic_listener_census(&options, &census);
		case A_CONNECT:
			return ic_listener_connect(run->fd, (struct sockaddr *) &to, length,
									   report);
		case A_LISTEN:
			return ic_listener_listen(run->fd, 8, report);
		default:
			if (ic_listener_bind(run->fd, address, length, report) != 0)
				return -1;
			return scenario->action == A_BIND ? 0 :
				scenario->action == BIND_LISTEN ?
				ic_listener_listen(run->fd, 8, report) :
				ic_listener_connect(run->fd, (struct sockaddr *) &to, length,
									report);
	}
}

static Run
go(int caller_fd, bool with_report)
{
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	Run			run = {.port = UNTOUCHED, .fd = UNTOUCHED, .reported = -1};
	int			returned;

	if (caller_fd >= 0)
		run.fd = caller_fd;
	memset(stage.counts, 0, sizeof(stage.counts));
	stage.caller_fd = caller_fd;
	stage.hit = false;
	stage.need = OPTIONAL;
	stage.allocations = stage.mapped = 0;
	listener_fd = -1;
	returned = act(&run, with_report ? &report : NULL);
	run.error = errno;
	stage.active = false;
	expect(returned == 0 || (returned == -1 && run.error != 0));
	if (returned == 0)
		run.error = 0;
	if (with_report && scenario->action != SETUP && scenario->action != CENSUS)
	{
		run.reported = report.error;
		run.step = report.step;
	}
	return run;
}

/* How many ports of the range another socket can share. */
static int
shareable_ports(void)
{
	int			count = 0;

	for (int port = PORT_MIN; port <= PORT_MAX; port++)
	{
		int			fd = stream_socket("0.0.0.0");

		set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
		count += plain_bind(fd, "0.0.0.0", port) == 0;
		close(fd);
	}
	return count;
}

/* The library call's errno for missing ports. */
static bool
is_want_of_ports(int error)
{
	bool		connecting = scenario->action == A_CONNECT ||
		scenario->action == BIND_CONNECT;

	return (connecting && error == EADDRNOTAVAIL) ||
		(scenario->action != A_CONNECT && error == EADDRINUSE);
}

/* Without IPv6 the wildcard is IPv4's. */
static bool
is_lack_of_ipv6(int error)
{
	return error == EAFNOSUPPORT || error == EPERM || error == EACCES ||
		error == EPROTONOSUPPORT || error == ENOSYS || error == EINVAL;
}

static bool
is_right(int error, Function function, int fault)
{
	bool		as_ever = error == scenario->error || is_want_of_ports(error);

	if (!stage.hit)
		return error == scenario->error;
	/* What /proc lacks for a moment is asked for again; a signal is nothing. */
	if (function == OPEN && !stage.for_ever && fault != ENOENT && fault != EACCES &&
		(scenario->action < CENSUS || fault == EINTR))
		return error == scenario->error;
	if (scenario->action == CENSUS)
		return as_ever || error == fault;
	if (function == SOCKET && stage.need == NEEDED && is_lack_of_ipv6(fault) &&
		scenario->address == NULL)
		return stage.for_ever ? error == fault : as_ever;
	if (function == BIND && stage.need != OPTIONAL && is_about_the_port(fault))
		return as_ever || error == EACCES || error == fault;
	/* A socket that has a port already: connect()'s answer stands. */
	if (function == BIND && fault == EINVAL && is_want_of_ports(error))
		return true;
	if ((function == LISTEN && fault == EADDRINUSE) ||
		(function == CONNECT && fault == EADDRNOTAVAIL))
		return as_ever;
	return stage.need == NEEDED ? error == fault :
		as_ever || (stage.need == EITHER && error == fault);
}

static int	faults_tried;
static int	shareable;

/* False when the fault was not reached. */
static bool
try_fault(Function function, int occurrence, bool for_ever, int fault)
{
	bool		takes_one = scenario->action >= A_CONNECT;
	struct linger reset = {1, 0};
	int			fd = takes_one ? stream_socket(scenario->address) : -1;
	uint64_t	cookie = takes_one ? cookie_of(fd) : 0;
	OpenFds		before = open_fds();
	Run			run;

	now_doing("%s: %s #%d %s %s", scenario->name, functions[function].name,
			  occurrence, for_ever ? "for ever" : "once", strerror(fault));
	stage.function = function;
	stage.occurrence = occurrence;
	stage.for_ever = for_ever;
	stage.error = fault;
	run = go(fd, occurrence % 2);
	stage.occurrence = 0;
	faults_tried += stage.hit;

	require(is_right(run.error, function, fault), "errno %d (%s)", run.error,
			strerror(run.error));
	require(run.reported == -1 || run.reported == run.error,
			"the report says %s", strerror(run.reported));
	expect_equal(stage.allocations, 0);
	expect_equal(stage.mapped, 0);
	if (takes_one)
	{
		expect(open_fds_are(&before, -1));
		expect(cookie_of(fd) == cookie);
		expect_equal(fcntl(fd, F_GETFL), O_RDWR);
		expect_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
		/* A window that cannot be taken off stays. */
		if (function != SETSOCKOPT && kernel_has_windows())
			expect_equal(socket_option(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE), 0);
		/*
		 * Connected once from a port that was named, it keeps that: it was
		 * refused, or nobody could be asked whether the connection exists. So
		 * does one whose listen() was lost.
		 */
		if (run.error != 0 && scenario->action < BIND_LISTEN &&
			function != CONNECT && function != LISTEN && function != GETSOCKNAME &&
			function != SOCKET && function != SEND && function != RECV)
			require(has_no_port(fd), "port %d is left", local_port(fd));
	}
	else if (scenario->action == CENSUS)
		expect(open_fds_are(&before, -1));
	else if (run.error == 0)
	{
		expect(open_fds_are(&before, run.fd));
		expect_equal(local_port(run.fd), run.port);
		expect(PORT_MIN <= run.port && run.port <= PORT_MAX);
		fd = run.fd;
	}
	else
	{
		expect(open_fds_are(&before, -1));
		expect(run.port == 0 && run.fd == -1);
	}
	if (scenario->action == A_CONNECT || scenario->action == BIND_CONNECT)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd);
	expect_equal(shareable_ports(), shareable);
	return stage.hit;
}

static void
try_all(void *argument)
{
	OpenFds		before = open_fds();
	OpenFds		after;

	scenario = argument;
	skip_without_ipv6();
	scenario->host();
	shareable = shareable_ports();

	/* Occurrence 0: no fault. The second call knows the range. */
	for (int i = 0; i < 2; i++)
		try_fault(SOCKET, 0, false, 0);
	for (Function function = 0; function < FUNCTIONS; function++)
	{
		for (const int *fault = functions[function].errnos; *fault != 0; fault++)
		{
			for (int for_ever = 0; for_ever <= 1; for_ever++)
			{
				int			occurrence = 1;

				/* From then on: two errnos will do. A signal does not stay. */
				if (for_ever && (*fault == EINTR ||
								 fault > functions[function].errnos + 1))
					continue;
				/* In a long row, each errno at every third. */
				while (try_fault(function, occurrence, for_ever, *fault))
					occurrence += occurrence < 3 ? 1 : RUNNING_ON_VALGRIND ? 7 :
						3 - (occurrence == 3) * (*fault % 3);
			}
		}
	}
	printf("# %s: %d faults tried\n", scenario->name, faults_tried);
	fflush(stdout);
	expect(faults_tried > 10);

	/* Valgrind must see nothing open in the end. */
	after = open_fds();
	for (int fd = 0; fd < OPEN_FDS_MAX; fd++)
	{
		if ((after.bits[fd / 64] & ~before.bits[fd / 64]) & UINT64_C(1) << fd % 64)
			close(fd);
	}
}

static void
test_scenario(void **state)
{
	assert_passes_in_netns(try_all, *state);
}

int
main(void)
{
	struct CMUnitTest tests[lengthof(scenarios)];

	for (size_t i = 0; i < lengthof(scenarios); i++)
		tests[i] = (struct CMUnitTest) {
			scenarios[i].name, test_scenario, NULL, NULL, (void *) &scenarios[i]
		};
	return cmocka_run_group_tests_name("faults", tests, NULL, NULL);
}
