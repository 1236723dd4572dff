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
#include <stdlib.h>
#include <sys/mman.h>
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
#define SERVER_PORT 30000

/* What close() leaves in errno, to see that errno is set after it. */
#define POISON ELOOP

/*
 * Calls taken over
 */

typedef enum Function
{
	SOCKET, SETSOCKOPT, GETSOCKOPT, BIND, LISTEN, CONNECT, SHUTDOWN,
	GETSOCKNAME, OPEN, READ, SEND, RECV, CLOSE, MMAP,
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
};

/* Whether the failure of a system call is the library call's. */
typedef enum Need
{
	OPTIONAL,					/* it can do without */
	EITHER,
	NEEDED,
} Need;

/* One call of the library. */
static struct Stage
{
	bool		active;
	Function	function;
	int			occurrence;		/* 0: no fault */
	bool		for_ever;
	int			error;
	int			caller_fd;		/* or -1 */
	int			listener_fd;	/* the library's own, or -1 */
	bool		hit;
	Need		need;			/* of what failed: the greatest */
	int			counts[FUNCTIONS];
	int			allocations;
	int			mapped;
}			stage;

static bool
fails(Function function, Need need)
{
	int			count;

	if (!stage.active)
		return false;
	count = ++stage.counts[function];
	if (function != stage.function || stage.occurrence == 0 ||
		(stage.for_ever ? count < stage.occurrence : count != stage.occurrence))
		return false;
	stage.need = need > stage.need ? need : stage.need;
	stage.hit = true;
	errno = stage.error;
	return true;
}

/* Sockets beside ours may be needed to find out. */
static Need
need_of(int fd)
{
	return fd == (stage.caller_fd >= 0 ? stage.caller_fd : stage.listener_fd) ?
		NEEDED : EITHER;
}

/*
 * A claim can be done without; connect() and listen() have their own words
 * for a bind() that fails.
 */
static Need
need_of_bind(int fd, const struct sockaddr *address)
{
	return address->sa_family == AF_UNIX ? OPTIONAL :
		stage.caller_fd >= 0 ? EITHER : need_of(fd);
}

extern int	__real_socket(int domain, int type, int protocol);
extern int	__real_close(int fd);
extern void *__real_mmap(void *at, size_t size, int access, int flags, int fd, off_t offset);
extern int	__real_munmap(void *at, size_t size);

/* Netlink, AF_UNIX and the search for a route can be done without. */
int
__wrap_socket(int domain, int type, int protocol)
{
	bool		ours = (domain == AF_INET || domain == AF_INET6) && stage.caller_fd < 0;
	int			fd;

	if (fails(SOCKET, ours ? NEEDED : OPTIONAL))
		return -1;
	fd = __real_socket(domain, type, protocol);
	if (stage.active && ours)
		stage.listener_fd = fd;
	return fd;
}

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

#define WRAP(type, name, parameters, arguments, function, need) \
	extern type __real_##name parameters; \
	type \
	__wrap_##name parameters \
	{ \
		return fails(function, need) ? -1 : __real_##name arguments; \
	}

WRAP(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t size),
	 (fd, level, name, value, size), SETSOCKOPT, EITHER)
WRAP(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *size),
	 (fd, level, name, value, size), GETSOCKOPT, EITHER)
WRAP(int, bind, (int fd, const struct sockaddr *address, socklen_t size),
	 (fd, address, size), BIND, need_of_bind(fd, address))
WRAP(int, listen, (int fd, int backlog), (fd, backlog), LISTEN, need_of(fd))
WRAP(int, connect, (int fd, const struct sockaddr *address, socklen_t size),
	 (fd, address, size), CONNECT, fd == stage.caller_fd ? NEEDED : OPTIONAL)
WRAP(int, shutdown, (int fd, int how), (fd, how), SHUTDOWN, EITHER)
WRAP(int, getsockname, (int fd, struct sockaddr *address, socklen_t *size),
	 (fd, address, size), GETSOCKNAME, EITHER)
WRAP(int, open64, (const char *path, int flags, mode_t mode), (path, flags, mode),
	 OPEN, OPTIONAL)
WRAP(ssize_t, read, (int fd, void *buffer, size_t size), (fd, buffer, size), READ, OPTIONAL)
WRAP(ssize_t, send, (int fd, const void *data, size_t size, int flags),
	 (fd, data, size, flags), SEND, OPTIONAL)
WRAP(ssize_t, recv, (int fd, void *buffer, size_t size, int flags),
	 (fd, buffer, size, flags), RECV, OPTIONAL)

#define COUNT(type, name, parameters, arguments) \
	extern type __real_##name parameters; \
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
	OPEN_TCP, OPEN_NAMED_TCP, OPEN_UDP, OPEN_NAMED_UDP,	/* make a socket */
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
	{"open_tcp, quiet", quiet, OPEN_TCP, NULL, 0},
	{"open_tcp, TIME_WAIT", in_time_wait, OPEN_TCP, NULL, 0},
	{"open_tcp, held", held, OPEN_TCP, NULL, EADDRINUSE},
	{"open_tcp, one address", quiet, OPEN_TCP, "127.0.0.1", 0},
	{"open_tcp, named range", in_time_wait, OPEN_NAMED_TCP, "127.0.0.1", 0},
	{"open_tcp, link-local", quiet, OPEN_TCP, "fe80::1%lo", EADDRNOTAVAIL},
	{"open_udp", quiet, OPEN_UDP, NULL, 0},
	{"open_udp, named range", quiet, OPEN_NAMED_UDP, NULL, 0},
	{"connect, quiet", quiet, A_CONNECT, "127.0.0.1", 0},
	{"connect, TIME_WAIT", in_time_wait, A_CONNECT, "127.0.0.1", 0},
	{"connect, TIME_WAIT, IPv6", in_time_wait, A_CONNECT, "::1", 0},
	{"connect, one port", connected, A_CONNECT, "127.0.0.1", 0},
	{"connect, held", held, A_CONNECT, "127.0.0.1", EADDRNOTAVAIL},
	{"bind, quiet", quiet, A_BIND, "0.0.0.0", 0},
	{"bind, held", held, A_BIND, "0.0.0.0", EADDRINUSE},
	{"bind, TIME_WAIT", in_time_wait, A_BIND, "0.0.0.0", 0},
	{"listen, TIME_WAIT", in_time_wait, A_LISTEN, "0.0.0.0", 0},
	{"bind and listen, quiet", quiet, BIND_LISTEN, "0.0.0.0", 0},
	{"bind and listen, TIME_WAIT", in_time_wait, BIND_LISTEN, "0.0.0.0", 0},
	{"bind and connect, TIME_WAIT", in_time_wait, BIND_CONNECT, "127.0.0.1", 0},
	{"census", in_time_wait, CENSUS, NULL, 0},
};

static const Scenario *scenario;

/* report may be NULL. */
static int
act(int *port, int *fd, IcListenerReport *report)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerCensus census = IC_LISTENER_CENSUS_INIT;
	struct sockaddr_storage at;
	struct sockaddr_storage to;
	socklen_t	length = 0;

	options.address = scenario->address;
	if (scenario->action != OPEN_TCP && scenario->action != OPEN_UDP)
	{
		options.port_min = PORT_MIN;
		options.port_max = PORT_MAX;
	}
	if (scenario->action >= A_CONNECT)
	{
		socket_address(scenario->address, 0, &at);
		length = socket_address(scenario->address, SERVER_PORT, &to);
	}
	switch (scenario->action)
	{
		case OPEN_TCP:
		case OPEN_NAMED_TCP:
			return ic_listener_open_tcp(&options, port, fd, report);
		case OPEN_UDP:
		case OPEN_NAMED_UDP:
			return ic_listener_open_udp(&options, port, fd, report);
		case CENSUS:
			return ic_listener_census(&options, &census);
		case A_LISTEN:
			return ic_listener_listen(*fd, 8, report);
		case A_CONNECT:
			return ic_listener_connect(*fd, (struct sockaddr *) &to, length, report);
		default:
			break;
	}
	if (ic_listener_bind(*fd, (struct sockaddr *) &at, length, report) != 0)
		return -1;
	return scenario->action == A_BIND ? 0 :
		scenario->action == BIND_LISTEN ? ic_listener_listen(*fd, 8, report) :
		ic_listener_connect(*fd, (struct sockaddr *) &to, length, report);
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

static bool
is_one_of(int error, const int *errors)
{
	while (*errors != 0 && *errors != error)
		errors++;
	return *errors != 0;
}

/* The library call's errno for missing ports. */
static bool
is_no_port(int error)
{
	bool		connecting = scenario->action == A_CONNECT ||
		scenario->action == BIND_CONNECT;

	return (connecting && error == EADDRNOTAVAIL) ||
		(scenario->action != A_CONNECT && error == EADDRINUSE);
}

static bool
is_right(int error, Function function, int fault)
{
	/* The port is what bind() refuses, and there are others. */
	static const int of_the_port[] = {EADDRINUSE, EADDRNOTAVAIL, EACCES, EPERM, 0};
	/* Without IPv6 the wildcard is IPv4's. */
	static const int no_ipv6[] = {
		EAFNOSUPPORT, EPERM, EACCES, EPROTONOSUPPORT, ENOSYS, EINVAL, 0
	};
	bool		as_ever = error == scenario->error || is_no_port(error);

	if (!stage.hit)
		return error == scenario->error;
	/* What /proc lacks for a moment is asked for again; a signal is nothing. */
	if (function == READ && fault == EINTR)
		return error == scenario->error;
	if (function == OPEN && !stage.for_ever && fault != ENOENT && fault != EACCES &&
		(scenario->action < CENSUS || fault == EINTR))
		return error == scenario->error;
	if (scenario->action == CENSUS)
		return as_ever || error == fault;
	if (function == SOCKET && stage.need == NEEDED && is_one_of(fault, no_ipv6) &&
		scenario->address == NULL)
		return stage.for_ever ? error == fault : as_ever;
	if (function == BIND && stage.need != OPTIONAL && is_one_of(fault, of_the_port))
		return as_ever || error == EACCES || error == fault;
	/* A socket that has a port already: connect()'s answer stands. */
	if (function == BIND && fault == EINVAL && is_no_port(error))
		return true;
	if ((function == LISTEN && fault == EADDRINUSE) ||
		(function == CONNECT && fault == EADDRNOTAVAIL))
		return as_ever;
	/* A blocking socket goes on to wait. */
	if (function == CONNECT && fault == EINPROGRESS)
		return as_ever || error == fault;
	return stage.need == NEEDED ? error == fault :
		as_ever || (stage.need == EITHER && error == fault);
}

/*
 * Connected once from a port that was named, a socket keeps that: it was
 * refused, or nobody could be asked whether the connection exists. So does one
 * whose listen() was lost.
 */
static bool
may_keep_a_port(Function function)
{
	return scenario->action >= BIND_LISTEN || function == CONNECT || function == LISTEN ||
		function == GETSOCKNAME || function == SOCKET || function == SEND || function == RECV;
}

static int	faults_tried;
static int	shareable;

/* False when the fault was not reached. */
static bool
try_fault(Function function, int occurrence, bool for_ever, int fault)
{
	bool		opens_one = scenario->action < CENSUS;
	bool		takes_one = scenario->action > CENSUS;
	bool		has_report = scenario->action != CENSUS && occurrence % 2 != 0;
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	struct linger reset = {1, 0};
	int			port = UNTOUCHED;
	int			fd = takes_one ? stream_socket(scenario->address) : UNTOUCHED;
	uint64_t	cookie = takes_one ? cookie_of(fd) : 0;
	OpenFds		before = open_fds();
	int			returned;
	int			error;

	now_doing("%s: %s #%d %s %s", scenario->name, functions[function].name,
			  occurrence, for_ever ? "for ever" : "once", strerror(fault));
	stage = (struct Stage) {
		.function = function, .occurrence = occurrence, .for_ever = for_ever,
		.error = fault, .caller_fd = takes_one ? fd : -1, .listener_fd = -1
	};
	errno = 0;
	stage.active = true;
	returned = act(&port, &fd, has_report ? &report : NULL);
	error = returned == 0 ? 0 : errno;
	stage.active = false;
	faults_tried += stage.hit;

	expect(returned == 0 || (returned == -1 && error != 0));
	require(is_right(error, function, fault), "errno %d (%s)", error, strerror(error));
	expect_equal(stage.allocations, 0);
	expect_equal(stage.mapped, 0);
	if (has_report)
	{
		expect_equal(report.error, error);
		if (opens_one && error == EADDRINUSE)
			expect_equal(report.step, report.listens_lost > 0 ?
						 IC_LISTENER_STEP_LISTEN : IC_LISTENER_STEP_BIND);
	}
	if (opens_one && error == 0)
	{
		expect(open_fds_are(&before, fd));
		expect_equal(local_port(fd), port);
		expect_equal(socket_option(fd, SOL_SOCKET, SO_REUSEADDR),
					 socket_option(fd, SOL_SOCKET, SO_TYPE) == SOCK_STREAM);
		expect(PORT_MIN <= port && port <= PORT_MAX);
	}
	else
		expect(open_fds_are(&before, -1));
	if (opens_one && error != 0)
		expect(port == 0 && fd == -1);
	if (takes_one)
	{
		expect(cookie_of(fd) == cookie);
		expect_equal(fcntl(fd, F_GETFL), O_RDWR);
		expect_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
		/* A window that cannot be taken off stays. */
		if (function != SETSOCKOPT && kernel_has_windows())
			expect_equal(socket_option(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE), 0);
		if (error != 0 && !may_keep_a_port(function))
			require(has_no_port(fd), "port %d is left", local_port(fd));
		/* The mark of a port that is chosen later. */
		if (error != 0 && scenario->action == A_BIND && function != SETSOCKOPT)
			expect_equal(socket_option(fd, IPPROTO_IP, IP_RETOPTS), 0);
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	}
	if (scenario->action != CENSUS)
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
			int			occurrence = 1;

			/* In a long row, each errno at every third. */
			while (try_fault(function, occurrence, false, *fault))
				occurrence += occurrence < 3 ? 1 : RUNNING_ON_VALGRIND ? 7 :
					3 - (occurrence == 3) * (*fault % 3);

			/* From then on: two errnos will do. A signal does not stay. */
			if (*fault == EINTR || fault > functions[function].errnos + 1)
				continue;
			for (occurrence = 1; try_fault(function, occurrence, true, *fault);)
				occurrence += occurrence < 3 ? 1 : RUNNING_ON_VALGRIND ? 7 : 3;
		}
	}
	expect(faults_tried > 10);

	/* Valgrind must see nothing open in the end. */
	after = open_fds();
	for (int fd = 0; fd < OPEN_FDS_MAX; fd++)
	{
		if (after.has[fd] && !before.has[fd])
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
