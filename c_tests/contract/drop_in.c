/*
 * drop_in.c
 *		ic_listener_bind(), _listen(), _connect() and _getsockname() are the
 *		system calls of those names, with the same arguments and answers, and
 *		the caller's socket stays the caller's. (strategy/connecting.c has
 *		the ports of connections.)
 */
#define _GNU_SOURCE

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "crowded.h"
#include "test.h"

#define PORT_MIN 40000
#define PORT_MAX 40063
#define PORTS (PORT_MAX - PORT_MIN + 1)
#define SERVER_PORT 30000

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

/*
 * The same answers
 */

static const int sockets[][3] = {
	{-1}, {-2}, {-3},			/* none, a number that is not open, a file */
	{AF_INET, SOCK_STREAM}, {AF_INET6, SOCK_STREAM},
	{AF_INET, SOCK_STREAM | SOCK_NONBLOCK, IPPROTO_TCP},
	{AF_INET, SOCK_DGRAM}, {AF_INET6, SOCK_DGRAM},
	{AF_UNIX, SOCK_STREAM}, {AF_UNIX, SOCK_DGRAM},
	{AF_INET, SOCK_STREAM, IPPROTO_MPTCP}, {AF_INET, SOCK_RAW, IPPROTO_TCP},
	{AF_NETLINK, SOCK_RAW, NETLINK_XFRM},
};

/* What is done with the socket first. */
enum State
{
	FRESH, BOUND, LISTENING, CONNECTED, STATES
};

/* What is called. */
enum Function
{
	BIND, CONNECT, LISTEN, GETSOCKNAME
};

static const struct
{
	const char *address;		/* NULL: the family alone */
	int			port;
	int64_t		length;			/* -1: the address's own */
	int			family;			/* -1: the pointer is NULL */
}			arguments[] =
{
	{NULL, 0, 0, -1}, {NULL, 0, 16, -1},
	{"127.0.0.1", SERVER_PORT, 0, 0}, {"127.0.0.1", SERVER_PORT, 1, 0},
	{"127.0.0.1", SERVER_PORT, 2, 0}, {"127.0.0.1", SERVER_PORT, 15, 0},
	{"127.0.0.1", SERVER_PORT, 16, 0}, {"127.0.0.1", SERVER_PORT, 128, 0},
	{"127.0.0.1", SERVER_PORT, 129, 0}, {"127.0.0.1", SERVER_PORT, 0x80000000, 0},
	{"::1", SERVER_PORT, 23, 0}, {"::1", SERVER_PORT, 24, 0},
	{"::1", 0, 23, 0}, {"::1", 0, 24, 0}, {"127.0.0.1", 0, 15, 0},
	{"127.0.0.1", 0, 128, 0},
	{"0.0.0.0", 0, -1, 0}, {"127.0.0.1", 0, -1, 0}, {"127.0.0.1", 9, -1, 0},
	{"::", 0, -1, 0}, {"::1", 0, -1, 0}, {"::1", 31111, -1, 0},
	{"::ffff:127.0.0.1", 0, -1, 0}, {"::ffff:127.0.0.1", SERVER_PORT, -1, 0},
	{"fe80::1", 0, -1, 0}, {"192.0.2.1", 0, -1, 0}, {"192.0.2.1", 80, -1, 0},
	{"2001:db8::1", 0, -1, 0}, {"224.0.0.1", 0, -1, 0}, {"255.255.255.255", 0, -1, 0},
	{NULL, 0, 16, AF_UNSPEC}, {NULL, 0, 2, AF_UNSPEC},
	{NULL, 0, sizeof(struct sockaddr_un), AF_UNIX}, {NULL, 0, 16, 999},
};

static const int backlogs[] = {-1, 0, 1, 128, 0x7fffffff};

/* Of getsockname(); then it is called with no address, and with no length. */
static const int lengths[] = {0, 7, 16, 128, -1, 16, 16};

static int
open_as(const int *wanted)
{
	switch (wanted[0])
	{
		case -1:
			return -1;
		case -2:
			return 999;
		case -3:
			return open("/dev/null", O_RDWR | O_CLOEXEC);
		default:
			return socket(wanted[0], wanted[1] | SOCK_CLOEXEC, wanted[2]);
	}
}

static bool
is_internet(int fd)
{
	int			domain = socket_option(fd, SOL_SOCKET, SO_DOMAIN);

	return domain == AF_INET || domain == AF_INET6;
}

static bool
bring_to(int fd, const int *wanted, int state)
{
	const char *host = wanted[0] == AF_INET6 ? "::1" : "127.0.0.1";
	struct pollfd waiting = {.fd = fd, .events = POLLOUT};

	if (state == FRESH)
		return fd >= 0 || wanted[0] < 0;
	if (!is_internet(fd) || wanted[1] == SOCK_RAW)
		return false;
	if (state != CONNECTED)
		return plain_bind(fd, host, 0) == 0 && (state == BOUND || listen(fd, 8) == 0);
	plain_connect(fd, host, SERVER_PORT);
	return poll(&waiting, 1, 10000) == 1;
}

static int
call(int function, size_t argument, int fd, IcListenerReport *report, socklen_t *shown)
{
	struct sockaddr_storage storage = {.ss_family = 0};
	struct sockaddr *address = (struct sockaddr *) &storage;
	socklen_t	length = 0;

	if (function == LISTEN)
		return report != NULL ? ic_listener_listen(fd, backlogs[argument], report) :
			listen(fd, backlogs[argument]);
	if (function == GETSOCKNAME)
	{
		*shown = lengths[argument];
		return (report != NULL ? ic_listener_getsockname : getsockname)
			(fd, argument == 5 ? NULL : address, argument == 6 ? NULL : shown);
	}
	if (arguments[argument].address != NULL)
		length = socket_address(arguments[argument].address, arguments[argument].port, &storage);
	else
		storage.ss_family = arguments[argument].family;
	if (arguments[argument].family == -1)
		address = NULL;
	if (arguments[argument].length != -1)
		length = arguments[argument].length;
	if (function == BIND)
		return report != NULL ? ic_listener_bind(fd, address, length, report) :
			bind(fd, address, length);
	return report != NULL ? ic_listener_connect(fd, address, length, report) :
		connect(fd, address, length);
}

/* What a call returns, and what the caller sees afterwards. */
static void
answer(char text[256], int function, const int *wanted, int state, size_t argument, bool ours)
{
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	struct sockaddr_storage peer;
	socklen_t	size = sizeof(peer);
	socklen_t	shown = 0;
	int			fd = open_as(wanted);
	int			returned;
	int			error;

	text[0] = '\0';
	/* The kernel may have no MPTCP, the user no raw sockets. */
	if (bring_to(fd, wanted, state))
	{
		errno = 0;
		returned = call(function, argument, fd, ours ? &report : NULL, &shown);
		error = returned == 0 ? 0 : errno;
		/* On loopback too, a packet may wait for a softirq. */
		if (error == EINPROGRESS)
			expect_equal(poll(&(struct pollfd) {.fd = fd, .events = POLLOUT}, 1, 10000), 1);
		snprintf(text, 256, "%d, %s: on %s, %s port, peer %d, listening %d, flags %x %x, length %u",
				 returned, strerror(error), is_internet(fd) ? local_address(fd) : "nothing",
				 is_internet(fd) && has_no_port(fd) ? "no" : "a",
				 getpeername(fd, (struct sockaddr *) &peer, &size),
				 socket_option(fd, SOL_SOCKET, SO_ACCEPTCONN), fcntl(fd, F_GETFL),
				 fcntl(fd, F_GETFD), shown);
		if (ours && function != GETSOCKNAME)
		{
			expect_equal(report.error, error);
			expect_equal(report.step == IC_LISTENER_STEP_NONE, returned == 0);
			expect(report.message[0] != '\0');
		}
	}
	close(fd);
}

static void
compare(int function, const int *wanted, int state, size_t argument)
{
	OpenFds		before = open_fds();
	char		plain[256];
	char		ours[256];

	now_doing("function %d on {%d, %d, %d}, state %d, argument %zu", function,
			  wanted[0], wanted[1], wanted[2], state, argument);
	answer(plain, function, wanted, state, argument, false);
	answer(ours, function, wanted, state, argument, true);
	require(strcmp(plain, ours) == 0, "%s; instead of %s", ours, plain);
	expect(open_fds_are(&before, -1));
}

TEST_IN_NETNS(answers_are_those_of_the_system_calls)
{
	static const size_t counts[] = {
		lengthof(arguments), lengthof(arguments), lengthof(backlogs), lengthof(lengths)
	};

	skip_without_ipv6();
	/* TIME_WAITs are left here, and not where the crowd will be. */
	set_port_range(20000, 29999);
	server_on("127.0.0.1", SERVER_PORT);
	server_on("::1", SERVER_PORT);
	for (int function = BIND; function <= GETSOCKNAME; function++)
	{
		for (size_t i = 0; i < lengthof(sockets) * STATES * counts[function]; i++)
			compare(function, sockets[i / counts[function] / STATES],
					i / counts[function] % STATES, i % counts[function]);
	}

	/* Where ports are short, port 0 differs, and connections to the server. */
	crowd(PORT_MIN, PORT_MIN + 7);
	for (size_t i = 0; i < lengthof(arguments); i++)
	{
		if (arguments[i].address != NULL && arguments[i].port != 80)
			continue;
		compare(BIND, sockets[3], FRESH, i);
		compare(CONNECT, sockets[3], FRESH, i);
		compare(CONNECT, sockets[4], FRESH, i);
	}
}

/*
 * Nothing is exchanged
 */

/* Everything that can be read of a socket: its cookie is an option. */
typedef struct Everything
{
	struct stat stat;
	char		fdinfo[1024];	/* with its flags */
	struct
	{
		int			size;
		unsigned char bytes[64];
	}			options[4][128];
} Everything;

static const int levels[] = {SOL_SOCKET, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP};

/*
 * They describe a socket, or are what the calls are for. bind() to a unicast
 * address sets IPV6_V6ONLY: kernel_facts.c. Those without a name here are
 * IP_PROTOCOL, IPV6_ADDRFORM and TCP_ZEROCOPY_RECEIVE.
 */
static const int no_options[][2] = {
	{IPPROTO_IP, IP_MTU}, {IPPROTO_IP, 52}, {IPPROTO_IPV6, 1}, {IPPROTO_IPV6, IPV6_MTU},
	{IPPROTO_IPV6, IPV6_PATHMTU}, {IPPROTO_IPV6, IPV6_V6ONLY},
	{SOL_SOCKET, SO_REUSEADDR}, {SOL_SOCKET, SO_MEMINFO}, {SOL_SOCKET, SO_ERROR},
	{SOL_SOCKET, SO_ACCEPTCONN}, {SOL_SOCKET, SO_INCOMING_CPU},
	{SOL_SOCKET, SO_INCOMING_NAPI_ID}, {SOL_SOCKET, SO_PEERNAME},
	{IPPROTO_TCP, TCP_INFO}, {IPPROTO_TCP, TCP_FASTOPEN_KEY}, {IPPROTO_TCP, TCP_CC_INFO},
	{IPPROTO_TCP, TCP_TIMESTAMP}, {IPPROTO_TCP, TCP_QUICKACK}, {IPPROTO_TCP, 35},
};

static bool
is_no_option(int level, int name)
{
	for (size_t i = 0; i < lengthof(no_options); i++)
	{
		if (no_options[i][0] == level && no_options[i][1] == name)
			return true;
	}
	return false;
}

static Everything
everything_of(int fd)
{
	Everything	all;
	char		path[64];
	int			info;

	memset(&all, 0, sizeof(all));
	expect(fstat(fd, &all.stat) == 0);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = open(path, O_RDONLY | O_CLOEXEC);
	expect(read(info, all.fdinfo, sizeof(all.fdinfo) - 1) > 0);
	close(info);
	for (int i = 0; i < 4; i++)
	{
		for (int name = 0; name < 128; name++)
		{
			socklen_t	size = sizeof(all.options[i][name].bytes);

			if (!is_no_option(levels[i], name) &&
				getsockopt(fd, levels[i], name, all.options[i][name].bytes, &size) == 0)
				all.options[i][name].size = size + 1;
		}
	}
	return all;
}

/* A connection negotiates what TCP's options show, and its buffers. */
static void
expect_untouched(const Everything *before, int fd, bool connected)
{
	Everything	after = everything_of(fd);

	expect(memcmp(&before->stat, &after.stat, sizeof(after.stat)) == 0);
	expect(strcmp(before->fdinfo, after.fdinfo) == 0);
	for (int i = 0; i < 4 - connected; i++)
	{
		for (int name = 0; name < 128; name++)
		{
			if (connected && levels[i] == SOL_SOCKET &&
				(name == SO_SNDBUF || name == SO_RCVBUF))
				continue;
			require(memcmp(&before->options[i][name], &after.options[i][name],
						   sizeof(after.options[i][name])) == 0,
					"option %d of level %d was %d and is %d", name, levels[i],
					*(const int *) before->options[i][name].bytes,
					*(const int *) after.options[i][name].bytes);
		}
	}
}

/* ic_listener_getsockname() */
static int
ic_port(int fd)
{
	struct sockaddr_storage name;
	socklen_t	length = sizeof(name);

	expect_equal(ic_listener_getsockname(fd, (struct sockaddr *) &name, &length), 0);
	return ntohs(((struct sockaddr_in *) &name)->sin_port);
}

/* A caller that connects itself has the connection begun. 0, or the errno. */
static int
begin_connect(int fd, const char *address, int port)
{
	struct sockaddr_storage to;
	socklen_t	length = socket_address(address, port, &to);
	struct pollfd waiting = {.fd = fd, .events = POLLOUT};
	int			returned;

	expect_equal(plain_connect(fd, address, port), EADDRNOTAVAIL);
	returned = ic_listener_begin_connect(fd, (struct sockaddr *) &to, length, NULL);
	if (returned != 0 && errno != EINPROGRESS)
		return errno;
	expect_equal(poll(&waiting, 1, 10000), 1);
	expect_equal(plain_connect(fd, address, port), returned == 0 ? EISCONN : 0);
	return 0;
}

/* A socket with options and flags of its own, and an owner. */
static int
socket_with_options(const char *address)
{
	static const struct timeval timeout = {3, 0};
	int			fd = stream_socket(address);

	expect(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) == 0);
	set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_int(fd, SOL_SOCKET, SO_MARK, 77);
	set_int(fd, SOL_SOCKET, SO_PRIORITY, 3);
	set_int(fd, IPPROTO_IP, IP_TTL, 33);
	set_int(fd, IPPROTO_IP, IP_FREEBIND, 1);
	set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, 4);
	set_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 1234);
	set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	expect(fcntl(fd, F_SETFL, O_APPEND) == 0);
	if (fchown(fd, 1000, 1000) != 0)
		skip_child("fchown: run as root");
	return fd;
}

/* An address to bind, and how its host is reached. */
static const char *const addresses[][2] = {
	{"0.0.0.0", "127.0.0.1"}, {"127.0.0.1", "127.0.0.1"}, {"::", "::ffff:127.0.0.1"},
	{"::1", "::1"}, {"::ffff:127.0.0.1", "::ffff:127.0.0.1"},
};

static void
keep_the_socket(void *number)
{
	const char *address = addresses[*(int *) number][0];
	const char *to = addresses[*(int *) number][1];
	Everything	before;

	skip_without_ipv6();
	crowd(PORT_MIN, PORT_MAX);
	server_on(to, SERVER_PORT);
	for (int i = 0; i < 60; i++)
	{
		int			way = i % 6;
		bool		connects = way % 2 == 0 || way == 5;
		int			fd = socket_with_options(address);
		int			port = 0;
		int			error;

		now_doing("%s, way %d, round %d", address, way, i / 6);
		if (way == 5 && i / 6 % 2 == 0)
			expect(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
		before = everything_of(fd);
		if (way > 0 && way < 5)
			expect_equal(ic_bind(fd, address, 0, NULL), 0);
		if (way == 3 || way == 4)
			port = ic_port(fd);
		error = way == 5 ? begin_connect(fd, to, SERVER_PORT) :
			connects ? ic_connect(fd, to, SERVER_PORT, NULL) : ic_listen(fd, 8);
		/* A port that was shown is kept, although it may have the connection by then. */
		require(error == 0 || (way == 4 && error == EADDRNOTAVAIL), "%s", strerror(error));
		expect(port == 0 || local_port(fd) == port);
		expect_untouched(&before, fd, connects);
	}

	/* And where it fails: no port is left for either. */
	for (int port = PORT_MIN; port <= PORT_MAX; port++)
	{
		Neighbour	listening = {address, .reuse_address = true, .listens = true};

		open_neighbour(&listening, port);
	}
	for (int i = 0; i < 3; i++)
	{
		int			fd = socket_with_options(address);

		now_doing("%s, failing call %d", address, i);
		before = everything_of(fd);
		if (i == 0)
			expect_equal(ic_bind(fd, address, 0, NULL), EADDRINUSE);
		else if (i == 1)
			expect_equal(ic_connect(fd, to, SERVER_PORT, NULL), EADDRNOTAVAIL);
		else
			expect_equal(begin_connect(fd, to, SERVER_PORT), EADDRNOTAVAIL);
		expect(has_no_port(fd));
		expect_untouched(&before, fd, false);
	}
}

static void
the_socket_stays_the_caller_s(void **state)
{
	(void) state;
	for (int i = 0; i < (int) lengthof(addresses); i++)
		assert_passes_in_netns(keep_the_socket, &i);
}

/*
 * bind(), and then?
 */

/* On 64 ports in TIME_WAIT, all of those that are held: 64 of 64. */
static void
bind_and_listen(void *argument)
{
	const char *address = addresses[*(int *) argument / 2][0];
	const char *host = addresses[*(int *) argument / 2][1];
	bool		asks = *(int *) argument % 2;

	skip_without_ipv6();
	crowd(PORT_MIN, PORT_MAX);
	expect_equal(plain_bind(stream_socket(address), address, 0), EADDRINUSE);
	for (int i = 0; i < PORTS; i++)
	{
		int			fd = stream_socket(address);
		int			port = 0;
		OpenFds		before = open_fds();

		now_doing("%s, %s getsockname(), listener %d", address,
				  asks ? "with" : "without", i);
		expect_equal(ic_bind(fd, address, 0, NULL), 0);
		expect_equal(ic_bind(fd, address, 0, NULL), EINVAL);
		expect(strcmp(local_address(fd), address) == 0);
		expect(has_no_port(fd));
		expect_equal(socket_option(fd, SOL_SOCKET, SO_ACCEPTCONN), 0);
		if (asks)
		{
			port = ic_port(fd);
			expect(port != 0 && port == local_port(fd) && port == ic_port(fd));
			expect_equal(socket_option(fd, SOL_SOCKET, SO_ACCEPTCONN), 1);
		}
		expect_equal(ic_listen(fd, 7), 0);
		expect_equal(backlog_of(fd), 7);
		expect_equal(ic_listen(fd, 9), 0);
		expect_equal(backlog_of(fd), 9);
		expect(!asks || local_port(fd) == port);
		expect(strcmp(local_address(fd), address) == 0);
		expect_equal(socket_option(fd, SOL_SOCKET, SO_REUSEADDR), 1);
		expect(open_fds_are(&before, -1));
		expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), EISCONN);
		connected_from(host, 9000 + i, host, local_port(fd));
		accept_from(fd);
	}
}

static void
every_port_can_be_bound_and_listened_on(void **state)
{
	(void) state;
	for (int i = 0; i < (int) lengthof(addresses) * 2; i++)
		assert_passes_in_netns(bind_and_listen, &i);
}

/* Neighbours take every port but the last between bind() and listen(). */
TEST_IN_NETNS(a_neighbour_in_between_costs_nothing)
{
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	int			fds[3];

	crowd(PORT_MIN, PORT_MIN + 7);
	for (int i = 0; i < 3; i++)
	{
		fds[i] = stream_socket("0.0.0.0");
		expect_equal(ic_bind(fds[i], "0.0.0.0", 0, NULL), 0);
	}
	for (int port = PORT_MIN; port < PORT_MIN + 7; port++)
	{
		Neighbour	listening = {"0.0.0.0", .reuse_address = true, .listens = true};

		expect(open_neighbour(&listening, port) >= 0);
	}
	expect_equal(ic_listen(fds[0], 8), 0);
	expect_equal(local_port(fds[0]), PORT_MIN + 7);

	/* None is left: the socket is as after bind(), and gets the next one. */
	expect_equal(ic_listener_listen(fds[1], 8, &report), -1);
	expect_equal(errno, EADDRINUSE);
	expect_equal(report.step, IC_LISTENER_STEP_BIND);
	expect(has_no_port(fds[1]));
	set_port_range(PORT_MIN, PORT_MIN + 8);
	expect_equal(ic_listen(fds[2], 8), 0);
	expect_equal(local_port(fds[2]), PORT_MIN + 8);
	expect_equal(ic_listen(fds[1], 8), EADDRINUSE);
	expect_equal(ic_bind(stream_socket("0.0.0.0"), "0.0.0.0", 0, NULL), EADDRINUSE);
}

TEST_IN_NETNS(a_socket_that_was_never_bound_listens)
{
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	int			fd = stream_socket("0.0.0.0");

	crowd(PORT_MIN, PORT_MAX);
	expect_equal(listen(fd, 8), -1);
	expect_equal(errno, EADDRINUSE);
	expect_equal(ic_listener_listen(fd, 8, &report), 0);
	expect_equal(report.origin, IC_LISTENER_PORT_ORIGIN_REUSED);
	expect(PORT_MIN <= local_port(fd) && local_port(fd) <= PORT_MAX);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_ACCEPTCONN), 1);
}

/* Such a socket wants no port yet, and connect() will choose it. */
TEST_IN_NETNS(an_address_is_bound_without_a_port)
{
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	int			fd = stream_socket("127.0.0.1");

	set_int(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	expect_equal(ic_bind(fd, "127.0.0.1", 0, &report), 0);
	expect_equal(report.origin, IC_LISTENER_PORT_ORIGIN_PICKED_BY_KERNEL);
	expect(has_no_port(fd));
}

/* Without SO_REUSEADDR, no other socket can bind it. With it, that stays. */
TEST_IN_NETNS(a_port_that_nobody_held_is_not_shared)
{
	set_port_range(PORT_MIN, PORT_MAX);
	for (int reuse = 0; reuse <= 1; reuse++)
	{
		IcListenerReport report = IC_LISTENER_REPORT_INIT;
		Neighbour	sharing = {"0.0.0.0", .reuse_address = true};
		int			fd = stream_socket("0.0.0.0");

		set_int(fd, SOL_SOCKET, SO_REUSEADDR, reuse);
		expect_equal(ic_bind(fd, "0.0.0.0", 0, &report), 0);
		expect_equal(report.origin, IC_LISTENER_PORT_ORIGIN_FREE);
		expect_equal(socket_option(fd, SOL_SOCKET, SO_REUSEADDR), reuse);
		expect(!has_no_port(fd));
		expect((open_neighbour(&sharing, local_port(fd)) < 0) == !reuse);
	}
}

TEST_IN_NETNS(a_port_that_the_caller_chose_stays_lost)
{
	for (int i = 0; i < 2; i++)
	{
		Neighbour	listening = {"0.0.0.0", .reuse_address = true, .listens = true};
		int			port = SERVER_PORT + i;
		int			fd = stream_socket("0.0.0.0");

		set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
		expect_equal(i == 0 ? plain_bind(fd, "0.0.0.0", port) :
					 ic_bind(fd, "0.0.0.0", port, NULL), 0);
		expect(open_neighbour(&listening, port) >= 0);
		expect_equal(ic_listen(fd, 8), EADDRINUSE);
		expect_equal(local_port(fd), port);
	}
}

TEST_IN_NETNS(a_window_of_the_caller_s_confines_every_call)
{
	int			ends = (int) ((unsigned) (PORT_MIN + 3) << 16 | PORT_MIN);

	if (!kernel_has_windows())
		return;					/* The caller cannot set one, either. */
	crowd(PORT_MIN, PORT_MAX);
	for (int i = 0; i < 5; i++)
	{
		int			fd = stream_socket("0.0.0.0");

		set_window(fd, PORT_MIN, PORT_MIN + 3);
		if (i % 2 == 0)
			expect_equal(ic_bind(fd, "0.0.0.0", 0, NULL), i < 4 ? 0 : EADDRINUSE);
		if (i < 4)
		{
			expect_equal(ic_listen(fd, 8), 0);
			require(local_port(fd) <= PORT_MIN + 3, "port %d", local_port(fd));
		}
		expect_equal(socket_option(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE), ends);
	}
}

/* The ports of its connections can be listened on again. */
TEST_IN_NETNS(listen_makes_ports_reusable)
{
	set_port_range(PORT_MIN, PORT_MIN);
	for (int i = 0; i < 3; i++)
	{
		int			fd = stream_socket("127.0.0.1");

		expect_equal(ic_bind(fd, "127.0.0.1", 0, NULL), 0);
		expect_equal(ic_listen(fd, 8), 0);
		leave_time_wait(fd, "127.0.0.1");
		close(fd);
		expect_equal(ports_in_time_wait(PORT_MIN, PORT_MIN), 1);
	}
}

TEST_IN_NETNS(a_connection_to_no_address_is_not_begun)
{
	struct sockaddr_storage storage;
	socklen_t	length = socket_address("127.0.0.1", SERVER_PORT, &storage);
	int			fd = stream_socket("127.0.0.1");

	expect_equal(ic_listener_begin_connect(fd, NULL, length, NULL), -1);
	expect_equal(errno, EINVAL);
	expect_equal(ic_listener_begin_connect(fd, (struct sockaddr *) &storage, 15, NULL), -1);
	expect_equal(errno, EINVAL);
	expect(has_no_port(fd));
}

/*
 * Sockets with ports of their own
 */

static int
socket_in_repair(void)
{
	int			fd = stream_socket("127.0.0.1");

	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &(int) {1}, sizeof(int)) != 0)
		skip_child("TCP_REPAIR: run as root with CAP_NET_ADMIN");
	return fd;
}

/*
 * TCP_REPAIR binds and listens on anybody's port, and connects to nobody. It
 * does so by a value of SO_REUSEADDR that only the kernel can set.
 */
TEST_IN_NETNS(repair_has_the_system_calls_answers)
{
	Neighbour	neighbour = {.address = "127.0.0.1", .listens = true};

	expect(open_neighbour(&neighbour, SERVER_PORT) >= 0);
	for (int crowded = 0; crowded <= 1; crowded++)
	{
		int			answers[2][8];
		int			fd;

		now_doing("%s host", crowded ? "crowded" : "quiet");
		if (crowded)
			crowd(PORT_MIN, PORT_MIN + 7);
		for (int ours = 0; ours <= 1; ours++)
		{
			int		   *answer = answers[ours];

			fd = socket_in_repair();
			answer[0] = (ours ? ic_bind(fd, "127.0.0.1", SERVER_PORT, NULL) :
						 plain_bind(fd, "127.0.0.1", SERVER_PORT));
			answer[1] = socket_option(fd, SOL_SOCKET, SO_REUSEADDR);
			answer[2] = ours ? ic_listen(fd, 8) : listen(fd, 8);
			close(fd);

			fd = socket_in_repair();
			answer[3] = (ours ? ic_bind(fd, "127.0.0.1", 0, NULL) :
						 plain_bind(fd, "127.0.0.1", 0));
			answer[4] = socket_option(fd, SOL_SOCKET, SO_REUSEADDR);
			answer[5] = has_no_port(fd);
			close(fd);

			/* Nobody listens there. */
			fd = socket_in_repair();
			expect_equal(plain_bind(fd, "127.0.0.1", SERVER_PORT), 0);
			answer[6] = (ours ? ic_connect(fd, "127.0.0.1", 9, NULL) :
						 plain_connect(fd, "127.0.0.1", 9));
			answer[7] = local_port(fd);
			close(fd);
		}
		for (size_t i = 0; i < lengthof(answers[0]); i++)
			require(answers[1][i] == answers[0][i], "answer %zu is %d instead of %d", i,
					answers[1][i], answers[0][i]);
		expect_equal(answers[0][0], 0);
		expect_equal(answers[0][2], 0);
		expect_equal(answers[0][3], crowded ? EADDRINUSE : 0);
		expect_equal(answers[0][6], 0);
		fd = socket_in_repair();
		expect_equal(ic_connect(fd, "127.0.0.1", 9, NULL), 0);
		expect(PORT_MIN <= local_port(fd) || !crowded);
		close(fd);
	}
}

#define VRF_ADDRESS "192.0.2.1"

static int
socket_in_vrf(void)
{
	int			fd = stream_socket(VRF_ADDRESS);

	expect(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "vrf0", sizeof("vrf0")) == 0);
	return fd;
}

/*
 * Each port of the host has a listener. In the VRF it is free, then in
 * TIME_WAIT, and taken by a listener each time.
 */
TEST_IN_NETNS(a_vrf_has_ports_of_its_own)
{
	Neighbour	neighbour = {.address = "0.0.0.0", .reuse_address = true, .listens = true};
	int			server;

	if (system("ip -V >/dev/null 2>&1") != 0)
		skip_child("ip: apt-get install iproute2");
	if (system("{ ip link add vrf0 type vrf table 10 && ip link set vrf0 up && "
			   "ip address add " VRF_ADDRESS "/32 dev vrf0; } >/dev/null 2>&1") != 0)
	{
		printf("# it does not apply: this kernel has no VRF (CONFIG_NET_VRF)\n");
		return;
	}
	set_port_range(PORT_MIN, PORT_MIN + 7);
	for (int port = PORT_MIN; port < PORT_MIN + 8; port++)
		expect(open_neighbour(&neighbour, port) >= 0);
	expect_equal(ic_bind(stream_socket("127.0.0.1"), "127.0.0.1", 0, NULL), EADDRINUSE);
	server = socket_in_vrf();
	expect_equal(ic_bind(server, VRF_ADDRESS, SERVER_PORT, NULL), 0);
	expect_equal(ic_listen(server, 64), 0);

	for (int time_wait = 0; time_wait <= 1; time_wait++)
	{
		Ports		taken = {{false}};
		int			fds[8];
		int			plain = socket_in_vrf();

		expect_equal(plain_bind(plain, VRF_ADDRESS, 0), time_wait ? EADDRINUSE : 0);
		close(plain);
		for (int i = 0; i < 8; i++)
		{
			fds[i] = socket_in_vrf();
			now_doing("%s, listener %d", time_wait ? "TIME_WAIT" : "free", i);
			expect_equal(ic_bind(fds[i], VRF_ADDRESS, 0, NULL), 0);
			expect_equal(ic_listen(fds[i], 8), 0);
			expect(!taken.has[local_port(fds[i])]);
			taken.has[local_port(fds[i])] = true;
		}
		expect_equal(ic_bind(socket_in_vrf(), VRF_ADDRESS, 0, NULL), EADDRINUSE);
		for (int i = 0; i < 8; i++)
		{
			int			client = socket_in_vrf();

			/* From outside of the range. */
			expect_equal(plain_bind(client, VRF_ADDRESS, 20000 + 8 * time_wait + i), 0);
			connect_to(client, VRF_ADDRESS, local_port(fds[i]));
			close(accept_from(fds[i]));
			wait_for_end(client);
			close(client);
			close(fds[i]);
		}
	}

	expect_equal(plain_connect(socket_in_vrf(), VRF_ADDRESS, SERVER_PORT), EADDRNOTAVAIL);
	for (int i = 0; i <= 8; i++)
	{
		now_doing("connection %d", i);
		expect_equal(ic_connect(socket_in_vrf(), VRF_ADDRESS, SERVER_PORT, NULL),
					 i < 8 ? 0 : EADDRNOTAVAIL);
	}
}

int
main(void)
{
	return run_all(
		test(answers_are_those_of_the_system_calls),
		test(the_socket_stays_the_caller_s),
		test(every_port_can_be_bound_and_listened_on),
		test(a_neighbour_in_between_costs_nothing),
		test(a_socket_that_was_never_bound_listens),
		test(an_address_is_bound_without_a_port),
		test(a_port_that_nobody_held_is_not_shared),
		test(a_port_that_the_caller_chose_stays_lost),
		test(a_window_of_the_caller_s_confines_every_call),
		test(listen_makes_ports_reusable),
		test(a_connection_to_no_address_is_not_begun),
		test(repair_has_the_system_calls_answers),
		test(a_vrf_has_ports_of_its_own));
}
