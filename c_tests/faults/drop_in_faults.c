/*
 * drop_in_faults.c
 *		Every system call below ic_listener_bind(), _listen() and
 *		_connect() fails: at each of its occurrences, once and for ever,
 *		with each errno that makes sense.
 *
 * The calls go to the kernel, on hosts that lead the library down its paths;
 * the linker's --wrap makes one of them fail. What must come of it: success,
 * or the errno of the fault or of missing ports; no descriptor more or less;
 * and under the caller's number a usable socket of the same kind.
 */
#define _GNU_SOURCE

#include "test.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

#include "crowded.h"

#define PORT_MIN 40000
#define PORT_MAX 40007
#define SERVER_PORT 30000

/* What close() leaves in errno, to see that errno is set after it. */
#define POISON ELOOP

typedef enum Function
{
	SOCKET,
	SETSOCKOPT,
	GETSOCKOPT,
	BIND,
	CONNECT,
	LISTEN,
	GETSOCKNAME,
	FCNTL,
	DUP3,
	OPEN,
	READ,
	FUNCTIONS
} Function;

static const struct
{
	const char *name;
	int			errnos[8];		/* 0 ends them */
}			functions[FUNCTIONS] =
{
	[SOCKET] = {"socket", {EMFILE, ENFILE, ENOBUFS, ENOMEM, EACCES, EPERM}},
	[SETSOCKOPT] = {"setsockopt", {EPERM, EINVAL, ENOPROTOOPT, ENOMEM}},
	[GETSOCKOPT] = {"getsockopt", {EPERM, EINVAL, ENOPROTOOPT, ENOMEM}},
	[BIND] = {"bind", {EADDRINUSE, EACCES, EPERM, ENOMEM, ENOBUFS}},
	[CONNECT] = {"connect", {EADDRNOTAVAIL, ECONNREFUSED, EINTR, EINPROGRESS,
	EHOSTUNREACH, ETIMEDOUT, EPERM}},
	[LISTEN] = {"listen", {EADDRINUSE, EINVAL, EACCES, ENOBUFS}},
	[GETSOCKNAME] = {"getsockname", {ENOBUFS, ENOMEM}},
	[FCNTL] = {"fcntl", {EPERM, EINVAL}},
	[DUP3] = {"dup3", {EBUSY, EINTR, EMFILE, EBADF}},
	[OPEN] = {"open", {ENOENT, EACCES, EMFILE, ENFILE, ENOMEM}},
	[READ] = {"read", {EIO, EINTR}},
};

static struct
{
	bool		active;
	Function	function;
	int			occurrence;		/* 0: no fault */
	bool		for_ever;
	int			error;
	int			counts[FUNCTIONS];

	/* What a connection was told last, and whether it was asked again. */
	int			connect_error;
	bool		connected_again;
}			stage;

static bool
fails(Function function)
{
	int			count;

	if (!stage.active)
		return false;
	count = ++stage.counts[function];

	/* An errno that no test expects stops an endless loop. */
	if (count > 10000)
	{
		errno = EDEADLK;
		return true;
	}
	if (function != stage.function || stage.occurrence == 0 ||
		(stage.for_ever ? count < stage.occurrence : count != stage.occurrence))
		return false;
	errno = stage.error;
	return true;
}

#define WRAP(function, returned, name, parameters, ...) \
	extern returned __real_##name parameters; \
	extern returned __wrap_##name parameters; \
	returned \
	__wrap_##name parameters \
	{ \
		return fails(function) ? -1 : __real_##name(__VA_ARGS__); \
	}

WRAP(SOCKET, int, socket, (int domain, int type, int protocol), domain, type,
	 protocol)
WRAP(SETSOCKOPT, int, setsockopt,
	 (int fd, int level, int name, const void *value, socklen_t size), fd,
	 level, name, value, size)
WRAP(GETSOCKOPT, int, getsockopt,
	 (int fd, int level, int name, void *value, socklen_t *size), fd, level,
	 name, value, size)
WRAP(BIND, int, bind, (int fd, const struct sockaddr *address, socklen_t size),
	 fd, address, size)
WRAP(LISTEN, int, listen, (int fd, int backlog), fd, backlog)
WRAP(GETSOCKNAME, int, getsockname,
	 (int fd, struct sockaddr *address, socklen_t *size), fd, address, size)
WRAP(DUP3, int, dup3, (int fd, int place, int flags), fd, place, flags)
WRAP(READ, ssize_t, read, (int fd, void *buffer, size_t size), fd, buffer, size)

extern int	__real_connect(int fd, const struct sockaddr *address,
						   socklen_t size);
extern int	__wrap_connect(int fd, const struct sockaddr *address,
						   socklen_t size);
extern int	__real_fcntl(int fd, int command, int argument);
extern int	__wrap_fcntl(int fd, int command, int argument);
extern int	__real_open64(const char *path, int flags, mode_t mode);
extern int	__wrap_open64(const char *path, int flags, mode_t mode);
extern int	__real_close(int fd);
extern int	__wrap_close(int fd);

int
__wrap_connect(int fd, const struct sockaddr *address, socklen_t size)
{
	int			type = 0;
	socklen_t	type_size = sizeof(type);
	bool		failed;
	int			returned;

	/* The search for a route is no connection. */
	__real_getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_size);
	if (!stage.active || type != SOCK_STREAM)
		return __real_connect(fd, address, size);
	stage.connected_again |= stage.connect_error != EADDRNOTAVAIL;
	failed = fails(CONNECT);
	returned = failed ? -1 : __real_connect(fd, address, size);
	stage.connect_error = returned == 0 ? 0 : errno;
	return returned;
}

int
__wrap_fcntl(int fd, int command, int argument)
{
	return fails(FCNTL) ? -1 : __real_fcntl(fd, command, argument);
}

int
__wrap_open64(const char *path, int flags, mode_t mode)
{
	return fails(OPEN) ? -1 : __real_open64(path, flags, mode);
}

int
__wrap_close(int fd)
{
	int			returned = __real_close(fd);

	if (stage.active)
		errno = POISON;
	return returned;
}

/*
 * The hosts, and the calls on them
 */

typedef enum What
{
	A_BIND,
	A_LISTEN,
	A_CONNECT,
} What;

typedef struct Situation
{
	const char *name;
	void		(*host) (void);
	int			(*socket) (void);	/* before the call */
	What		what;
	const char *address;
	bool		nonblocking;
} Situation;

static void
quiet_host(void)
{
	set_port_range(PORT_MIN, PORT_MAX);
	server_on("127.0.0.1", SERVER_PORT);
	server_on("::1", SERVER_PORT);
}

static void
crowded_host(void)
{
	quiet_host();
	crowd(PORT_MIN, PORT_MAX);
}

/* All ports but one have their connection. */
static void
connected_host(void)
{
	crowded_host();
	for (int port = PORT_MIN; port < PORT_MAX; port++)
	{
		int			fd = stream_socket("127.0.0.1");

		set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
		expect_equal(plain_bind(fd, "127.0.0.1", port), 0);
		connect_to(fd, "127.0.0.1", SERVER_PORT);
	}
}

static const Situation *situation;
static int	rival = -1;

/* With options to carry over. */
static int
fresh_socket(void)
{
	int			fd = stream_socket(situation->address);

	set_int(fd, IPPROTO_IP, IP_TOS, 0x10);
	set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	return fd;
}

static int
fresh_from_address(void)
{
	int			fd = fresh_socket();

	set_int(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	expect_equal(plain_bind(fd, "127.0.0.2", 0), 0);
	return fd;
}

static int
bound_socket(void)
{
	int			fd = fresh_socket();

	expect_equal(ic_bind(fd, situation->address, 0, NULL), 0);
	return fd;
}

/* Another socket listens on its port. */
static int
lost_socket(void)
{
	int			fd = fresh_socket();
	Neighbour	neighbour = {situation->address, .reuse_address = true,
	.listens = true};

	set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	expect_equal(ic_bind(fd, situation->address, 0, NULL), 0);
	rival = open_neighbour(&neighbour, local_port(fd));
	expect(rival >= 0);
	return fd;
}

static const Situation situations[] =
{
	{"connect, quiet", quiet_host, fresh_socket, A_CONNECT, "127.0.0.1", false},
	{"connect, crowded", crowded_host, fresh_socket, A_CONNECT, "127.0.0.1",
	false},
	{"connect, crowded, IPv6", crowded_host, fresh_socket, A_CONNECT, "::1",
	false},
	{"connect, crowded, non-blocking", crowded_host, fresh_socket, A_CONNECT,
	"127.0.0.1", true},
	{"connect, one port", connected_host, fresh_socket, A_CONNECT, "127.0.0.1",
	false},
	{"connect, address bound", crowded_host, fresh_from_address, A_CONNECT,
	"127.0.0.1", false},
	{"bind, quiet", quiet_host, fresh_socket, A_BIND, "0.0.0.0", false},
	{"bind, crowded", crowded_host, fresh_socket, A_BIND, "0.0.0.0", false},
	{"listen, bound", crowded_host, bound_socket, A_LISTEN, "0.0.0.0", false},
	{"listen, unbound", crowded_host, fresh_socket, A_LISTEN, "0.0.0.0", false},
	{"listen, lost", crowded_host, lost_socket, A_LISTEN, "0.0.0.0", true},
	{"listen, lost, quiet", quiet_host, lost_socket, A_LISTEN, "127.0.0.1",
	false},
};

static int
make_call(int fd, IcListenerReport *report)
{
	struct sockaddr_storage storage;
	socklen_t	length = socket_address(situation->address,
										situation->what == A_CONNECT ?
										SERVER_PORT : 0, &storage);
	const struct sockaddr *address = (const struct sockaddr *) &storage;
	int			returned;
	int			error;

	memset(stage.counts, 0, sizeof(stage.counts));
	stage.connect_error = EADDRNOTAVAIL;
	stage.connected_again = false;
	errno = 0;
	stage.active = true;
	returned = situation->what == A_BIND ?
		ic_listener_bind(fd, address, length, report) :
		situation->what == A_LISTEN ? ic_listener_listen(fd, 8, report) :
		ic_listener_connect(fd, address, length, report);
	error = errno;
	stage.active = false;
	expect(returned == 0 || returned == -1);
	if (returned == 0)
		return 0;
	expect(error != 0);
	return error;
}

/* What success is. */
static void
expect_success(int fd)
{
	struct sockaddr_storage peer;
	socklen_t	size = sizeof(peer);

	expect(!has_no_port(fd));
	switch (situation->what)
	{
		case A_BIND:
			break;
		case A_LISTEN:
			expect_equal(socket_option(fd, SOL_SOCKET, SO_ACCEPTCONN), 1);
			break;
		case A_CONNECT:
			expect_equal(getpeername(fd, (struct sockaddr *) &peer, &size), 0);
			break;
	}
}

static bool
is_underway(int error)
{
	return situation->what == A_CONNECT &&
		(error == EINPROGRESS || error == EINTR);
}

/* The system call's errno for missing ports. */
static bool
is_want_of_ports(int error)
{
	return error == (situation->what == A_CONNECT ? EADDRNOTAVAIL : EADDRINUSE);
}

static int	faults_tried;

/* False when the fault was not reached. */
static bool
try_fault(Function function, int occurrence, bool for_ever, int fault)
{
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	struct linger reset = {1, 0};
	OpenFds		before;
	bool		reached;
	int			error;
	int			fd;
	int			flags;

	now_doing("%s: %s #%d %s %s", situation->name, functions[function].name,
			  occurrence, for_ever ? "for ever" : "once", strerror(fault));
	stage.occurrence = 0;
	fd = situation->socket();
	if (situation->nonblocking)
		expect_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	flags = fcntl(fd, F_GETFL);
	before = open_fds();
	stage.function = function;
	stage.occurrence = occurrence;
	stage.for_ever = for_ever;
	stage.error = fault;
	error = make_call(fd, occurrence % 2 ? &report : NULL);
	stage.occurrence = 0;
	reached = stage.counts[function] >= occurrence;
	faults_tried += reached;

	require(open_fds_are(&before, -1), "the open fds are others");
	if (error == 0)
		expect_success(fd);
	else
	{
		require(error == fault || is_want_of_ports(error) ||
				(fault == EPERM && error == EACCES) ||
				(situation->nonblocking && error == EINPROGRESS),
				"errno is %s", strerror(error));
		if (occurrence % 2)
			expect_equal(report.error, error);
	}
	require(!stage.connected_again, "it connected twice");
	if (situation->what == A_CONNECT && reached && function == CONNECT &&
		fault != EADDRNOTAVAIL)
		expect_equal(error, fault);
	if (!reached && error != 0)
		expect(situation->nonblocking && error == EINPROGRESS);

	/* Unchanged. What cannot be read cannot be carried over. */
	expect_equal(socket_option(fd, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
	if (function != GETSOCKOPT)
	{
		expect_equal(socket_option(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
		expect_equal(socket_option(fd, IPPROTO_IP, IP_TOS), 0x10);
	}
	expect_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	expect_equal(fcntl(fd, F_GETFL), flags);

	/* And usable, unless it was left with a port that it could not give up. */
	if (error != 0 && !is_underway(error))
	{
		bool		bound = !has_no_port(fd);
		int			again = make_call(fd, NULL);

		require(again == 0 || (situation->nonblocking && again == EINPROGRESS) ||
				(bound && is_want_of_ports(again)) ||
				(bound && situation->what == A_BIND && again == EINVAL),
				"then, without a fault: %s", strerror(again));
		if (bound)
			require(situation->what == A_LISTEN || function == SOCKET ||
					function == SETSOCKOPT || function == FCNTL ||
					function == DUP3 || function == GETSOCKNAME ||
					function == GETSOCKOPT || function == BIND,
					"it is bound to port %d", local_port(fd));
	}
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd);
	if (rival >= 0)
		close(rival);
	rival = -1;
	return reached;
}

/* There are many options: not every call is made to fail. */
static int
step_of(Function function)
{
	int			step = function == GETSOCKOPT || function == SETSOCKOPT ? 7 : 1;

	return RUNNING_ON_VALGRIND ? 3 * step : step;
}

/* Valgrind must see nothing open in the end. Leaks have been looked for. */
static void
close_own_sockets(const OpenFds *before)
{
	OpenFds		now = open_fds();

	for (int fd = 0; fd < OPEN_FDS_MAX; fd++)
	{
		if ((now.bits[fd / 64] & ~before->bits[fd / 64]) & UINT64_C(1) << (fd % 64))
			close(fd);
	}
}

static void
try_all(void *argument)
{
	OpenFds		before = open_fds();

	situation = argument;
	skip_without_ipv6();
	situation->host();
	for (Function function = 0; function < FUNCTIONS; function++)
	{
		for (const int *fault = functions[function].errnos; *fault != 0; fault++)
		{
			for (int for_ever = 0; for_ever <= 1; for_ever++)
			{
				/* After these for ever, dup3() is retried for ever. */
				if (for_ever && (*fault == EBUSY || *fault == EINTR))
					continue;
				for (int occurrence = 1;
					 occurrence < 400 &&
					 try_fault(function, occurrence, for_ever, *fault);
					 occurrence += occurrence < 8 ? 1 : step_of(function))
					;
			}
		}
	}
	printf("# %s: %d faults tried\n", situation->name, faults_tried);
	fflush(stdout);
	expect(faults_tried > 10);
	close_own_sockets(&before);
}

static void
test_situation(void **state)
{
	assert_passes_in_netns(try_all, *state);
}

int
main(void)
{
	struct CMUnitTest tests[lengthof(situations)];

	for (size_t i = 0; i < lengthof(situations); i++)
		tests[i] = (struct CMUnitTest)
	{
		situations[i].name, test_situation, NULL, NULL, (void *) &situations[i]
	};
	return cmocka_run_group_tests_name("drop_in_faults", tests, NULL, NULL);
}
