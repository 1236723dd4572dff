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
	{AF_UNIX, SOCK_STREAM}, {AF_INET, SOCK_STREAM, IPPROTO_MPTCP},
	{AF_INET, SOCK_RAW, IPPROTO_TCP}, {AF_NETLINK, SOCK_RAW, NETLINK_XFRM},
};

/* What is done with the socket first. NO_PORT: IP_BIND_ADDRESS_NO_PORT. */
enum State
{
	FRESH, NO_PORT, BOUND, LISTENING, CONNECTED, STATES
};

/* What is called. */
enum Function
{
	BIND, CONNECT, LISTEN, FUNCTIONS
};

static const struct
{
	const char *address;		/* NULL: a family, and no more */
	int			port;			/* or the family, or the backlog; -1: NULL */
	int64_t		length;			/* -1: the address's own */
}			arguments[] =
{
	{NULL, -1, 0}, {NULL, -1, 16}, {NULL, AF_UNSPEC, 16}, {NULL, AF_UNSPEC, 2},
	{NULL, AF_UNIX, sizeof(struct sockaddr_un)}, {NULL, 999, 16},
	{"127.0.0.1", SERVER_PORT, 1}, {"127.0.0.1", SERVER_PORT, 15},
	{"127.0.0.1", SERVER_PORT, 16}, {"127.0.0.1", SERVER_PORT, 128},
	{"127.0.0.1", SERVER_PORT, 129}, {"127.0.0.1", SERVER_PORT, 0x80000000},
	{"::1", SERVER_PORT, 23}, {"::1", SERVER_PORT, 24}, {"::1", 0, 23}, {"::1", 0, 24},
	{"127.0.0.1", 0, 15}, {"127.0.0.1", 0, 128},
	{"0.0.0.0", 0, -1}, {"127.0.0.1", 0, -1}, {"127.0.0.1", 9, -1}, {"::", 0, -1},
	{"::1", 0, -1}, {"::1", 31111, -1}, {"::ffff:127.0.0.1", 0, -1},
	{"::ffff:127.0.0.1", SERVER_PORT, -1}, {"fe80::1", 0, -1}, {"192.0.2.1", 0, -1},
	{"192.0.2.1", 80, -1}, {"2001:db8::1", 0, -1}, {"224.0.0.1", 0, -1},
	{"255.255.255.255", 0, -1},
};

static int
open_as(const int *wanted)
{
	if (wanted[0] > 0)
		return socket(wanted[0], wanted[1] | SOCK_CLOEXEC, wanted[2]);
	return wanted[0] == -3 ? open("/dev/null", O_RDWR | O_CLOEXEC) : wanted[0] == -2 ? 999 : -1;
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
	if (state == NO_PORT)
		return setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &(int) {1}, sizeof(int)) == 0;
	if (state != CONNECTED)
		return plain_bind(fd, host, 0) == 0 && (state == BOUND || listen(fd, 8) == 0);
	plain_connect(fd, host, SERVER_PORT);
	return poll(&waiting, 1, 10000) == 1;
}

static int
call(int function, size_t argument, int fd, IcListenerReport *report)
{
	struct sockaddr_storage storage = {.ss_family = 0};
	struct sockaddr *address = (struct sockaddr *) &storage;
	int			port = arguments[argument].port;
	socklen_t	length = 0;

	if (function == LISTEN)
		return report != NULL ? ic_listener_listen(fd, port, report) : listen(fd, port);
	if (arguments[argument].address != NULL)
		length = socket_address(arguments[argument].address, port, &storage);
	else if (port == -1)
		address = NULL;
	else
		storage.ss_family = port;
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
	int			fd = open_as(wanted);
	int			returned;
	int			error;

	text[0] = '\0';
	/* The kernel may have no MPTCP, the user no raw sockets. */
	if (bring_to(fd, wanted, state))
	{
		errno = 0;
		returned = call(function, argument, fd, ours ? &report : NULL);
		error = returned == 0 ? 0 : errno;
		/* On loopback too, a packet may wait for a softirq. */
		if (error == EINPROGRESS)
			expect_equal(poll(&(struct pollfd) {.fd = fd, .events = POLLOUT}, 1, 10000), 1);
		snprintf(text, 256, "%d, %s: on %s, %s port, peer %d, listening %d, flags %x %x",
				 returned, strerror(error), is_internet(fd) ? local_address(fd) : "nothing",
				 is_internet(fd) && has_no_port(fd) ? "no" : "a",
				 getpeername(fd, (struct sockaddr *) &peer, &size),
				 socket_option(fd, SOL_SOCKET, SO_ACCEPTCONN), fcntl(fd, F_GETFL),
				 fcntl(fd, F_GETFD));
		if (ours)
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
	const size_t count = lengthof(arguments);

	skip_without_ipv6();
	/* TIME_WAITs are left here, and not where the crowd will be. */
	set_port_range(20000, 29999);
	server_on("127.0.0.1", SERVER_PORT);
	server_on("::1", SERVER_PORT);
	for (int function = BIND; function < FUNCTIONS; function++)
	{
		for (size_t i = 0; i < lengthof(sockets) * STATES * count; i++)
			compare(function, sockets[i / count / STATES], i / count % STATES, i % count);
	}
	expect_equal(ic_listener_getsockname(-1, NULL, NULL), -1);
	expect_equal(errno, EBADF);

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

/*
 * What the calls set on their way, and what a caller has set. No other socket
 * has the cookie.
 */
static const int kept_options[][2] = {
	{SOL_SOCKET, SO_COOKIE}, {SOL_SOCKET, SO_SNDTIMEO}, {SOL_SOCKET, SO_RCVTIMEO},
	{SOL_SOCKET, SO_LINGER}, {SOL_SOCKET, SO_KEEPALIVE}, {SOL_SOCKET, SO_REUSEPORT},
	{SOL_SOCKET, SO_MARK}, {SOL_SOCKET, SO_PRIORITY}, {SOL_SOCKET, SO_BINDTODEVICE},
	{IPPROTO_IP, IP_RETOPTS}, {IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT},
	{IPPROTO_IP, IP_LOCAL_PORT_RANGE}, {IPPROTO_IP, IP_TTL}, {IPPROTO_IP, IP_TOS},
	{IPPROTO_IP, IP_FREEBIND}, {IPPROTO_IP, IP_TRANSPARENT}, {IPPROTO_TCP, TCP_NODELAY},
	{IPPROTO_TCP, TCP_DEFER_ACCEPT}, {IPPROTO_TCP, TCP_FASTOPEN}, {IPPROTO_TCP, TCP_USER_TIMEOUT},
};

typedef struct Kept
{
	int			flags;
	unsigned char options[lengthof(kept_options)][16];
} Kept;

static Kept
kept_of(int fd)
{
	Kept		kept = {.flags = fcntl(fd, F_GETFL)};

	for (size_t i = 0; i < lengthof(kept_options); i++)
	{
		socklen_t	size = sizeof(kept.options[i]);

		getsockopt(fd, kept_options[i][0], kept_options[i][1], kept.options[i], &size);
	}
	return kept;
}

static void
expect_untouched(const Kept *before, int fd)
{
	Kept		after = kept_of(fd);

	expect_equal(after.flags, before->flags);
	for (size_t i = 0; i < lengthof(kept_options); i++)
		require(memcmp(before->options[i], after.options[i], sizeof(after.options[i])) == 0,
				"option %d of level %d was %d and is %d", kept_options[i][1], kept_options[i][0],
				*(const int *) before->options[i], *(const int *) after.options[i]);
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

/* A socket with options and flags of its own. */
static int
socket_with_options(const char *address)
{
	static const struct timeval timeout = {3, 0};
	int			fd = stream_socket(address);

	expect(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) == 0);
	set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_int(fd, IPPROTO_IP, IP_TTL, 33);
	set_int(fd, IPPROTO_IP, IP_FREEBIND, 1);
	set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	return fd;
}

/* An address to bind, and how its host is reached. */
static const char *const addresses[][2] = {
	{"0.0.0.0", "127.0.0.1"}, {"127.0.0.1", "127.0.0.1"}, {"::", "::ffff:127.0.0.1"},
	{"::1", "::1"}, {"::ffff:127.0.0.1", "::ffff:127.0.0.1"},
};

TEST_EACH_IN_NETNS(connections_leave_the_socket_the_caller_s, lengthof(addresses))
{
	const char *address = addresses[number][0];
	const char *to = addresses[number][1];

	skip_without_ipv6();
	crowd(PORT_MIN, PORT_MAX);
	server_on(to, SERVER_PORT);
	for (int i = 0; i < 40; i++)
	{
		int			way = i % 4;
		int			fd = socket_with_options(address);
		int			port = 0;
		int			error;
		Kept		before;

		now_doing("%s, way %d, round %d", address, way, i / 4);
		if (i / 4 % 2 == 0 && way == 3)
			expect(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
		before = kept_of(fd);
		if (way == 1 || way == 2)
			expect_equal(ic_bind(fd, address, 0, NULL), 0);
		if (way == 2)
			port = ic_port(fd);
		error = way == 3 ? begin_connect(fd, to, SERVER_PORT) : ic_connect(fd, to, SERVER_PORT, NULL);
		/* A port that was shown is kept, although it may have the connection by then. */
		require(error == 0 || (way == 2 && error == EADDRNOTAVAIL), "%s", strerror(error));
		expect(port == 0 || local_port(fd) == port);
		expect_untouched(&before, fd);
	}

	/* And where it fails: no port is left for anything. */
	for (int port = PORT_MIN; port <= PORT_MAX; port++)
		open_neighbour(&(Neighbour) {address, .reuse_address = true, .listens = true}, port);
	for (int i = 0; i < 3; i++)
	{
		int			fd = socket_with_options(address);
		Kept		before = kept_of(fd);

		now_doing("%s, failing call %d", address, i);
		if (i == 0)
			expect_equal(ic_bind(fd, address, 0, NULL), EADDRINUSE);
		else if (i == 1)
			expect_equal(ic_connect(fd, to, SERVER_PORT, NULL), EADDRNOTAVAIL);
		else
			expect_equal(begin_connect(fd, to, SERVER_PORT), EADDRNOTAVAIL);
		expect(has_no_port(fd));
		expect_untouched(&before, fd);
	}
}

/*
 * bind(), and then?
 */

/* On 64 ports in TIME_WAIT, all of those that are held: 64 of 64. */
TEST_EACH_IN_NETNS(every_port_can_be_bound_and_listened_on, lengthof(addresses) * 2)
{
	const char *address = addresses[number / 2][0];
	const char *host = addresses[number / 2][1];
	bool		asks = number % 2;

	skip_without_ipv6();
	crowd(PORT_MIN, PORT_MAX);
	expect_equal(plain_bind(stream_socket(address), address, 0), EADDRINUSE);
	for (int i = 0; i < PORTS; i++)
	{
		int			fd = socket_with_options(address);
		int			port = 0;
		Kept		kept = kept_of(fd);
		OpenFds		before = open_fds();

		now_doing("%s, %s getsockname(), listener %d", address, asks ? "with" : "without", i);
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
		for (int backlog = 7; backlog <= 8; backlog++)
		{
			expect_equal(ic_listen(fd, backlog), 0);
			expect_equal(backlog_of(fd), backlog);
			expect_untouched(&kept, fd);
		}
		expect(!asks || local_port(fd) == port);
		expect(strcmp(local_address(fd), address) == 0);
		expect_equal(socket_option(fd, SOL_SOCKET, SO_REUSEADDR), 1);
		expect(open_fds_are(&before, -1));
		expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), EISCONN);
		connected_from(host, 9000 + i, host, local_port(fd));
		accept_from(fd);
	}
}

/* Neighbours take every port but two between bind() and listen(). */
TEST_IN_NETNS(a_neighbour_in_between_costs_nothing)
{
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	int			fds[4];

	crowd(PORT_MIN, PORT_MIN + 7);
	for (int i = 0; i < 4; i++)
	{
		fds[i] = stream_socket("0.0.0.0");
		if (i > 0)
			expect_equal(ic_bind(fds[i], "0.0.0.0", 0, NULL), 0);
	}
	for (int port = PORT_MIN; port < PORT_MIN + 6; port++)
		server_on("0.0.0.0", port);
	/* The first was never bound. */
	expect_equal(listen(fds[0], 8), -1);
	expect_equal(ic_listen(fds[0], 8), 0);
	expect_equal(ic_listen(fds[1], 8), 0);
	expect_equal(local_port(fds[0]) + local_port(fds[1]), 2 * PORT_MIN + 6 + 7);

	/* None is left: the socket is as after bind(), and gets the next one. */
	expect_equal(ic_listener_listen(fds[2], 8, &report), -1);
	expect_equal(errno, EADDRINUSE);
	expect_equal(report.step, IC_LISTENER_STEP_BIND);
	expect(has_no_port(fds[2]));
	set_port_range(PORT_MIN, PORT_MIN + 8);
	expect_equal(ic_listen(fds[3], 8), 0);
	expect_equal(local_port(fds[3]), PORT_MIN + 8);
	expect_equal(ic_listen(fds[2], 8), EADDRINUSE);
	expect_equal(ic_bind(stream_socket("0.0.0.0"), "0.0.0.0", 0, NULL), EADDRINUSE);
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
		int			port = SERVER_PORT + i;
		int			fd = stream_socket("0.0.0.0");

		set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
		expect_equal(i == 0 ? plain_bind(fd, "0.0.0.0", port) :
					 ic_bind(fd, "0.0.0.0", port, NULL), 0);
		server_on("0.0.0.0", port);
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
 * does so by a value of SO_REUSEADDR that only the kernel can set. Here, the
 * library would help another socket.
 */
TEST_IN_NETNS(repair_has_the_system_calls_answers)
{
	Neighbour	neighbour = {.address = "127.0.0.1", .listens = true};
	int			fd = socket_in_repair();
	int			reuse = socket_option(fd, SOL_SOCKET, SO_REUSEADDR);

	expect(open_neighbour(&neighbour, SERVER_PORT) >= 0);
	crowd(PORT_MIN, PORT_MIN + 7);
	expect_equal(ic_bind(fd, "127.0.0.1", 0, NULL), EADDRINUSE);
	expect(has_no_port(fd));
	expect_equal(ic_bind(fd, "127.0.0.1", SERVER_PORT, NULL), 0);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_REUSEADDR), reuse);
	expect_equal(ic_listen(fd, 8), 0);
	close(fd);

	/* Nobody listens there. */
	fd = socket_in_repair();
	expect_equal(ic_bind(fd, "127.0.0.1", SERVER_PORT, NULL), 0);
	expect_equal(ic_connect(fd, "127.0.0.1", 9, NULL), 0);
	expect_equal(local_port(fd), SERVER_PORT);
	fd = socket_in_repair();
	expect_equal(ic_connect(fd, "127.0.0.1", 9, NULL), 0);
	expect(PORT_MIN <= local_port(fd));
}

#define VRF_ADDRESS "192.0.2.1"

static int
socket_in_vrf(void)
{
	int			fd = stream_socket(VRF_ADDRESS);

	expect(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "vrf0", sizeof("vrf0")) == 0);
	return fd;
}

/* Each port of the host has a listener. In the VRF it is in TIME_WAIT. */
TEST_IN_NETNS(a_vrf_has_ports_of_its_own)
{
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
	{
		int			listener = socket_in_vrf();
		int			client = socket_in_vrf();

		server_on("0.0.0.0", port);
		expect_equal(ic_bind(listener, VRF_ADDRESS, port, NULL), 0);
		expect_equal(ic_listen(listener, 8), 0);
		expect_equal(plain_bind(client, VRF_ADDRESS, port - 20000), 0);
		connect_to(client, VRF_ADDRESS, port);
		close(accept_from(listener));
		wait_for_end(client);
		close(client);
		close(listener);
	}
	server = socket_in_vrf();
	expect_equal(ic_bind(server, VRF_ADDRESS, SERVER_PORT, NULL), 0);
	expect_equal(ic_listen(server, 64), 0);
	expect_equal(plain_connect(socket_in_vrf(), VRF_ADDRESS, SERVER_PORT), EADDRNOTAVAIL);
	for (int i = 0; i <= 8; i++)
		expect_equal(ic_connect(socket_in_vrf(), VRF_ADDRESS, SERVER_PORT, NULL), i < 8 ? 0 : EADDRNOTAVAIL);
	expect_equal(plain_bind(socket_in_vrf(), VRF_ADDRESS, 0), EADDRINUSE);
	for (int i = 0; i <= 8; i++)
	{
		int			fd = socket_in_vrf();

		expect_equal(ic_bind(fd, VRF_ADDRESS, 0, NULL), i < 8 ? 0 : EADDRINUSE);
		expect_equal(i < 8 ? ic_listen(fd, 8) : 0, 0);
	}
}

int
main(void)
{
	return run_all(
		test(answers_are_those_of_the_system_calls),
		test(connections_leave_the_socket_the_caller_s),
		test(every_port_can_be_bound_and_listened_on),
		test(a_neighbour_in_between_costs_nothing),
		test(a_port_that_nobody_held_is_not_shared),
		test(a_port_that_the_caller_chose_stays_lost),
		test(a_window_of_the_caller_s_confines_every_call),
		test(listen_makes_ports_reusable),
		test(a_connection_to_no_address_is_not_begun),
		test(repair_has_the_system_calls_answers),
		test(a_vrf_has_ports_of_its_own));
}
