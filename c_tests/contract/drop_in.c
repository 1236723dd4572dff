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

/* Below 0: no socket. */
static const int openers[][3] = {
	{-1}, {-2}, {-3},			/* -1, a number that is not open, a file */
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
enum Call_
{
	A_BIND, A_CONNECT, A_LISTEN, A_GETSOCKNAME
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
	{"127.0.0.1", SERVER_PORT, 129, 0}, {"127.0.0.1", SERVER_PORT, 0x7fffffff, 0},
	{"127.0.0.1", SERVER_PORT, 0x80000000, 0}, {"::1", SERVER_PORT, 16, 0},
	{"::1", SERVER_PORT, 23, 0}, {"::1", SERVER_PORT, 24, 0},
	{"::1", SERVER_PORT, 128, 0}, {"::1", 0, 23, 0}, {"::1", 0, 24, 0},
	{"127.0.0.1", 0, 15, 0}, {"127.0.0.1", 0, 128, 0},
	{"0.0.0.0", 0, -1, 0}, {"127.0.0.1", 0, -1, 0}, {"127.0.0.1", 9, -1, 0},
	{"127.0.0.1", 31111, -1, 0}, {"::", 0, -1, 0}, {"::1", 0, -1, 0},
	{"::1", 31111, -1, 0}, {"::ffff:127.0.0.1", 0, -1, 0},
	{"::ffff:127.0.0.1", SERVER_PORT, -1, 0}, {"fe80::1", 0, -1, 0},
	{"192.0.2.1", 0, -1, 0}, {"192.0.2.1", 80, -1, 0}, {"2001:db8::1", 0, -1, 0},
	{"224.0.0.1", 0, -1, 0}, {"ff02::1", 0, -1, 0}, {"255.255.255.255", 0, -1, 0},
	{NULL, 0, 16, AF_UNSPEC}, {NULL, 0, 2, AF_UNSPEC},
	{NULL, 0, sizeof(struct sockaddr_un), AF_UNIX}, {NULL, 0, 20, AF_PACKET},
	{NULL, 0, 16, 999},
};

static const int backlogs[] = {-1, 0, 1, 128, 0x7fffffff};

/* What the caller sees afterwards, in numbers; ports are there or not. */
typedef struct Seen
{
	int			returned;
	int			error;
	int			family;
	char		host[64];
	int			has_port;
	int			has_peer;
	int			listening;
	int			flags;
	int			fd_flags;
	socklen_t	length;			/* of getsockname() */
} Seen;

static int
open_as(const int *opener)
{
	switch (opener[0])
	{
		case -1:
			return -1;
		case -2:
			return 999;
		case -3:
			return open("/dev/null", O_RDWR | O_CLOEXEC);
		default:
			return socket(opener[0], opener[1] | SOCK_CLOEXEC, opener[2]);
	}
}

static bool
bring_to(int fd, const int *opener, int state)
{
	const char *host = opener[0] == AF_INET6 ? "::1" : "127.0.0.1";
	struct pollfd waiting = {.fd = fd, .events = POLLOUT};

	if (state == FRESH)
		return true;
	if ((opener[0] != AF_INET && opener[0] != AF_INET6) || opener[1] == SOCK_RAW)
		return false;
	if (state != CONNECTED)
		return plain_bind(fd, host, 0) == 0 &&
			(state == BOUND || listen(fd, 8) == 0);
	plain_connect(fd, host, SERVER_PORT);
	return poll(&waiting, 1, 10000) == 1;
}

static void
look_at(int fd, Seen *seen)
{
	union
	{
		struct sockaddr_storage storage;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	}			address = {.storage = {.ss_family = 0}};
	socklen_t	size = sizeof(address);

	if (getsockname(fd, (struct sockaddr *) &address, &size) != 0)
		return;
	seen->family = address.storage.ss_family;
	if (seen->family == AF_INET || seen->family == AF_INET6)
	{
		inet_ntop(seen->family, seen->family == AF_INET ?
				  (void *) &address.in.sin_addr : (void *) &address.in6.sin6_addr,
				  seen->host, sizeof(seen->host));
		seen->has_port = address.in.sin_port != 0;
	}
	size = sizeof(address);
	seen->has_peer = getpeername(fd, (struct sockaddr *) &address, &size) == 0;
	seen->listening = socket_option(fd, SOL_SOCKET, SO_ACCEPTCONN);
	seen->flags = fcntl(fd, F_GETFL);
	seen->fd_flags = fcntl(fd, F_GETFD);
}

static Seen
do_call(int call, const int *opener, int state, size_t argument, bool ours)
{
	struct sockaddr_storage storage[2];
	struct sockaddr *address = (struct sockaddr *) storage;
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	socklen_t	length = 0;
	Seen		seen;
	int			fd = open_as(opener);

	memset(&seen, 0, sizeof(seen));
	memset(storage, 0, sizeof(storage));
	/* The kernel may have no MPTCP, the user no raw sockets. */
	if ((fd < 0 && opener[0] != -1) || !bring_to(fd, opener, state))
	{
		close(fd);
		return seen;
	}
	if (call == A_BIND || call == A_CONNECT)
	{
		if (arguments[argument].address != NULL)
			length = socket_address(arguments[argument].address,
									arguments[argument].port, storage);
		storage[0].ss_family += arguments[argument].family;
		if (arguments[argument].family == -1)
			address = NULL;
		if (arguments[argument].length != -1)
			length = arguments[argument].length;
	}
	errno = 0;
	switch (call)
	{
		case A_BIND:
			seen.returned = ours ? ic_listener_bind(fd, address, length, &report) :
				bind(fd, address, length);
			break;
		case A_CONNECT:
			seen.returned = ours ?
				ic_listener_connect(fd, address, length, &report) :
				connect(fd, address, length);
			break;
		case A_LISTEN:
			seen.returned = ours ?
				ic_listener_listen(fd, backlogs[argument], &report) :
				listen(fd, backlogs[argument]);
			break;
		default:
			/* Too short, just so, longer, negative, and no pointers. */
			seen.length = (const socklen_t[]) {0, 7, 16, 128, -1, 16, 0}[argument];
			address = argument == 5 ? NULL : address;
			seen.returned = (ours ? ic_listener_getsockname : getsockname)
				(fd, address, argument == 6 ? NULL : &seen.length);
	}
	seen.error = seen.returned == 0 ? 0 : errno;
	/* On loopback too, a packet may wait for a softirq. */
	if (seen.error == EINPROGRESS)
		expect_equal(poll(&(struct pollfd) {.fd = fd, .events = POLLOUT}, 1, 10000), 1);
	look_at(fd, &seen);
	if (ours && call != A_GETSOCKNAME)
	{
		expect_equal(report.error, seen.error);
		expect_equal(report.step == IC_LISTENER_STEP_NONE, seen.returned == 0);
		expect(report.message[0] != '\0');
	}
	close(fd);
	return seen;
}

static void
compare(int call, const int *opener, int state, size_t argument)
{
	OpenFds		before = open_fds();
	Seen		plain;
	Seen		ours;

	now_doing("call %d on {%d, %d, %d}, state %d, argument %zu", call,
			  opener[0], opener[1], opener[2], state, argument);
	plain = do_call(call, opener, state, argument, false);
	ours = do_call(call, opener, state, argument, true);
	require(ours.returned == plain.returned && ours.error == plain.error,
			"%d, %s instead of %d, %s", ours.returned, strerror(ours.error),
			plain.returned, strerror(plain.error));
	expect(memcmp(&ours, &plain, sizeof(plain)) == 0);
	require(open_fds_are(&before, -1), "an fd was left open");
}

TEST_IN_NETNS(answers_are_those_of_the_system_calls)
{
	static const size_t counts[] = {
		lengthof(arguments), lengthof(arguments), lengthof(backlogs), 7
	};

	skip_without_ipv6();
	/* TIME_WAITs are left here, and not where the crowd will be. */
	set_port_range(20000, 29999);
	server_on("127.0.0.1", SERVER_PORT);
	server_on("::1", SERVER_PORT);
	for (int call = A_BIND; call <= A_GETSOCKNAME; call++)
	{
		for (size_t i = 0; i < lengthof(openers) * STATES * counts[call]; i++)
			compare(call, openers[i / counts[call] / STATES],
					i / counts[call] % STATES, i % counts[call]);
	}

	/* Where ports are short, port 0 differs, and connections to the server. */
	crowd(PORT_MIN, PORT_MIN + 7);
	for (size_t i = 0; i < lengthof(arguments); i++)
	{
		if (arguments[i].address != NULL && arguments[i].port != 80)
			continue;
		compare(A_BIND, openers[3], FRESH, i);
		compare(A_CONNECT, openers[3], FRESH, i);
		compare(A_CONNECT, openers[4], FRESH, i);
	}
}

/*
 * Nothing is exchanged
 */

/* Everything that can be read of a socket. */
typedef struct Everything
{
	uint64_t	cookie;
	struct stat stat;
	char		fdinfo[1024];
	int			flags;
	int			fd_flags;
	struct
	{
		int			size;
		unsigned char bytes[64];
	}			of[4][128];
} Everything;

static const int levels[] = {SOL_SOCKET, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP};

/* They describe a socket, or are what the calls are for. */
static bool
is_no_option(int level, int name)
{
	return (level == IPPROTO_IP && (name == IP_MTU || name == 52 /* IP_PROTOCOL */ )) ||
		/* bind() to a unicast address sets IPV6_V6ONLY: kernel_facts.c. */
		(level == IPPROTO_IPV6 &&
		 (name == 1 /* IPV6_ADDRFORM */ || name == IPV6_MTU ||
		  name == IPV6_PATHMTU || name == IPV6_V6ONLY)) ||
		(level == SOL_SOCKET &&
			(name == SO_REUSEADDR || name == SO_MEMINFO || name == SO_ERROR ||
			 name == SO_ACCEPTCONN || name == SO_INCOMING_CPU ||
			 name == SO_INCOMING_NAPI_ID || name == SO_PEERNAME)) ||
		(level == IPPROTO_TCP &&
		 (name == TCP_INFO || name == TCP_FASTOPEN_KEY || name == TCP_CC_INFO ||
		  name == TCP_TIMESTAMP || name == TCP_QUICKACK ||
		  name == 35 /* TCP_ZEROCOPY_RECEIVE */ ));
}

static Everything
everything_of(int fd)
{
	static Everything all;
	char		path[64];
	int			info;

	memset(&all, 0, sizeof(all));
	all.cookie = cookie_of(fd);
	expect(fstat(fd, &all.stat) == 0);
	all.flags = fcntl(fd, F_GETFL);
	all.fd_flags = fcntl(fd, F_GETFD);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = open(path, O_RDONLY | O_CLOEXEC);
	expect(read(info, all.fdinfo, sizeof(all.fdinfo) - 1) > 0);
	close(info);
	for (int i = 0; i < 4; i++)
	{
		for (int name = 0; name < 128; name++)
		{
			socklen_t	size = sizeof(all.of[i][name].bytes);

			if (!is_no_option(levels[i], name) &&
				getsockopt(fd, levels[i], name, all.of[i][name].bytes, &size) == 0)
				all.of[i][name].size = size + 1;
		}
	}
	return all;
}

/* A connection negotiates what TCP's options show, and has a route. */
static void
expect_untouched(const Everything *before, const Everything *after, bool connected)
{
	expect(before->cookie == after->cookie);
	expect(memcmp(&before->stat, &after->stat, sizeof(before->stat)) == 0);
	expect(strcmp(before->fdinfo, after->fdinfo) == 0);
	expect_equal(after->flags, before->flags);
	expect_equal(after->fd_flags, before->fd_flags);
	for (int i = 0; i < 4 - connected; i++)
	{
		for (int name = 0; name < 128; name++)
		{
			if (connected && levels[i] == SOL_SOCKET &&
				(name == SO_SNDBUF || name == SO_RCVBUF))
				continue;
			require(memcmp(&before->of[i][name], &after->of[i][name],
						   sizeof(before->of[i][name])) == 0,
					"option %d of level %d was %d and is %d", name, levels[i],
					*(const int *) before->of[i][name].bytes,
					*(const int *) after->of[i][name].bytes);
		}
	}
}

/* A socket with options of its own, and an owner. */
static int
socket_with_options(const char *address)
{
	static const int options[][3] = {
		{SOL_SOCKET, SO_KEEPALIVE, 1}, {SOL_SOCKET, SO_MARK, 77},
		{SOL_SOCKET, SO_OOBINLINE, 1}, {SOL_SOCKET, SO_PRIORITY, 3},
		{IPPROTO_IP, IP_TTL, 33}, {IPPROTO_IP, IP_FREEBIND, 1},
		{IPPROTO_TCP, TCP_KEEPCNT, 4}, {IPPROTO_TCP, TCP_USER_TIMEOUT, 1234},
		{IPPROTO_TCP, TCP_NODELAY, 1}, {IPPROTO_TCP, TCP_SYNCNT, 3},
	};
	int			fd = stream_socket(address);

	for (size_t i = 0; i < lengthof(options); i++)
		setsockopt(fd, options[i][0], options[i][1], &options[i][2], sizeof(int));
	expect(fcntl(fd, F_SETFL, O_APPEND) == 0);
	if (fchown(fd, 1000, 1000) != 0)
		skip_child("fchown: run as root");
	return fd;
}

static void
keep_the_socket(void *argument)
{
	const char *address = argument;
	struct sockaddr_storage name;
	Everything	before;
	Everything	after;

	skip_without_ipv6();
	crowd(PORT_MIN, PORT_MAX);
	server_on(address, SERVER_PORT);
	for (int i = 0; i < 48; i++)
	{
		int			fd = socket_with_options(address);
		socklen_t	length = sizeof(name);
		bool		connects = i % 4 < 2;

		now_doing("%s, way %d, round %d", address, i % 4, i / 4);
		before = everything_of(fd);
		if (i % 4 != 0)
			expect_equal(ic_bind(fd, address, 0, NULL), 0);
		if (i % 4 == 3)
			expect_equal(ic_listener_getsockname(fd, (struct sockaddr *) &name,
												 &length), 0);
		expect_equal(connects ? ic_connect(fd, address, SERVER_PORT, NULL) :
					 ic_listen(fd, 8), 0);
		after = everything_of(fd);
		expect_untouched(&before, &after, connects);
	}

	/* And where it fails: no port is left for either. */
	for (int port = PORT_MIN; port <= PORT_MAX; port++)
	{
		Neighbour	listening = {address, .reuse_address = true, .listens = true};

		open_neighbour(&listening, port);
	}
	for (int i = 0; i < 2; i++)
	{
		int			fd = socket_with_options(address);

		now_doing("%s, failing call %d", address, i);
		before = everything_of(fd);
		if (i == 0)
			expect_equal(ic_bind(fd, address, 0, NULL), EADDRINUSE);
		else
			expect_equal(ic_connect(fd, address, SERVER_PORT, NULL), EADDRNOTAVAIL);
		expect(has_no_port(fd));
		after = everything_of(fd);
		expect_untouched(&before, &after, false);
	}
}

static void
the_socket_stays_the_caller_s(void **state)
{
	(void) state;
	assert_passes_in_netns(keep_the_socket, "127.0.0.1");
	assert_passes_in_netns(keep_the_socket, "::1");
	assert_passes_in_netns(keep_the_socket, "::ffff:127.0.0.1");
}

/*
 * bind(), and then?
 */

/* The backlog of a listener is tcpi_sacked (tcp_get_info()). */
static int
backlog_of(int fd)
{
	struct tcp_info info;
	socklen_t	size = sizeof(info);

	expect(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0);
	return info.tcpi_sacked;
}

static int
ic_port(int fd)
{
	struct sockaddr_storage name;
	socklen_t	length = sizeof(name);

	expect_equal(ic_listener_getsockname(fd, (struct sockaddr *) &name, &length), 0);
	return ntohs(((struct sockaddr_in *) &name)->sin_port);
}

static const char *const addresses[] = {
	"0.0.0.0", "127.0.0.1", "::", "::1", "::ffff:127.0.0.1"
};

/* On 64 ports in TIME_WAIT, all of those that are held: 40 of 40. */
static void
bind_and_listen(void *argument)
{
	const char *address = addresses[*(int *) argument / 2];
	const char *host = strcmp(address, "::1") == 0 ? "::1" : "127.0.0.1";
	bool		asks = *(int *) argument % 2;
	Ports		taken = {{false}};

	skip_without_ipv6();
	crowd(PORT_MIN, PORT_MAX);
	expect_equal(plain_bind(stream_socket(address), address, 0), EADDRINUSE);
	for (int i = 0; i < PORTS; i++)
	{
		int			fd = stream_socket(address);
		int			port = 0;
		OpenFds		before = open_fds();
		int			accepted;

		now_doing("%s, %s getsockname(), listener %d", address,
				  asks ? "with" : "without", i);
		expect_equal(ic_bind(fd, address, 0, NULL), 0);
		require(strcmp(local_address(fd), address) == 0, "it is bound to %s",
				local_address(fd));
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
		expect(!taken.has[local_port(fd)]);
		taken.has[local_port(fd)] = true;
		require(strcmp(local_address(fd), address) == 0, "it listens on %s",
				local_address(fd));
		expect_equal(socket_option(fd, SOL_SOCKET, SO_REUSEADDR), 1);
		expect(open_fds_are(&before, -1));
		expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), EISCONN);
		connected_from(host, 9000 + i, host, local_port(fd));
		accepted = accept_from(fd);
		if (!kernel_has_windows())
			continue;
		expect_equal(socket_option(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE), 0);
		expect_equal(socket_option(accepted, IPPROTO_IP, IP_LOCAL_PORT_RANGE), 0);
	}
}

static void
every_port_can_be_bound_and_listened_on(void **state)
{
	(void) state;
	for (int i = 0; i < (int) lengthof(addresses) * 2; i++)
		assert_passes_in_netns(bind_and_listen, &i);
}

/*
 * A port that was shown is kept, although there may be a connection from it by
 * then.
 */
static void
bind_and_connect(void *argument)
{
	const char *address = addresses[*(int *) argument / 2];
	const char *server = strcmp(address, "::1") == 0 ? "::1" : "127.0.0.1";
	const char *to = strcmp(address, "::") == 0 ||
		strcmp(address, "::ffff:127.0.0.1") == 0 ? "::ffff:127.0.0.1" : server;
	bool		asks = *(int *) argument % 2;

	skip_without_ipv6();
	crowd(PORT_MIN, PORT_MAX);
	server_on(server, SERVER_PORT);
	for (int i = 0; i < 40; i++)
	{
		int			fd = stream_socket(address);
		int			port = 0;
		int			error;

		now_doing("%s, %s getsockname(), connection %d", address,
				  asks ? "with" : "without", i);
		expect_equal(ic_bind(fd, address, 0, NULL), 0);
		if (asks)
			port = ic_port(fd);
		error = ic_connect(fd, to, SERVER_PORT, NULL);
		require(error == 0 || (asks && error == EADDRNOTAVAIL), "%s",
				strerror(error));
		expect(!asks || local_port(fd) == port);
		if (kernel_has_windows())
			expect_equal(socket_option(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE), 0);
	}
}

static void
bound_sockets_connect_forty_of_forty(void **state)
{
	(void) state;
	for (int i = 0; i < (int) lengthof(addresses) * 2; i++)
		assert_passes_in_netns(bind_and_connect, &i);
}

TEST_IN_NETNS(a_port_chosen_late_is_not_shown_early)
{
	int			fd = stream_socket("127.0.0.1");

	crowd(PORT_MIN, PORT_MAX);
	expect_equal(ic_bind(fd, "127.0.0.1", 0, NULL), 0);
	expect(has_no_port(fd));
	expect_equal(socket_option(fd, SOL_SOCKET, SO_ACCEPTCONN), 0);
	expect(ic_port(fd) >= PORT_MIN);
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

/* Without SO_REUSEADDR, no other socket can bind it. */
TEST_IN_NETNS(a_port_that_nobody_held_is_not_shared)
{
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	Neighbour	sharing = {"0.0.0.0", .reuse_address = true};
	int			fd = stream_socket("0.0.0.0");

	set_port_range(PORT_MIN, PORT_MAX);
	expect_equal(ic_bind(fd, "0.0.0.0", 0, &report), 0);
	expect_equal(report.origin, IC_LISTENER_PORT_ORIGIN_FREE);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_REUSEADDR), 0);
	expect(!has_no_port(fd));
	expect(open_neighbour(&sharing, local_port(fd)) < 0);
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

/* The second half of ic_listener_connect(): on a blocking socket, and not. */
TEST_IN_NETNS(a_caller_that_connects_itself_has_it_begun)
{
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	struct sockaddr_storage to;
	socklen_t	length = socket_address("127.0.0.1", SERVER_PORT, &to);
	struct timeval timeout = {3, 0};
	int			fd;

	crowd(PORT_MIN, PORT_MAX);
	server_on("127.0.0.1", SERVER_PORT);
	for (int i = 0; i <= PORTS; i++)
	{
		struct pollfd waiting = {.events = POLLOUT};
		OpenFds		before;
		Everything	was;
		Everything	is;
		int			returned;

		fd = socket_with_options("127.0.0.1");
		expect(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) == 0);
		if (i % 2)
			expect(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
		set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
		before = open_fds();
		was = everything_of(fd);
		expect_equal(plain_connect(fd, "127.0.0.1", SERVER_PORT), EADDRNOTAVAIL);
		returned = ic_listener_begin_connect(fd, (struct sockaddr *) &to, length,
											 &report);
		if (i == PORTS)
		{
			expect_equal(returned, -1);
			expect_equal(errno, EADDRNOTAVAIL);
			expect_equal(report.error, EADDRNOTAVAIL);
			expect(has_no_port(fd));
			break;
		}
		require(returned == 0 || errno == EINPROGRESS, "%s", report.message);
		waiting.fd = fd;
		expect_equal(poll(&waiting, 1, 10000), 1);
		expect_equal(plain_connect(fd, "127.0.0.1", SERVER_PORT),
					 returned == 0 ? EISCONN : 0);
		is = everything_of(fd);
		expect_untouched(&was, &is, true);
		expect(open_fds_are(&before, -1));
	}
}

int
main(void)
{
	return run_all(
		test(answers_are_those_of_the_system_calls),
		test(the_socket_stays_the_caller_s),
		test(every_port_can_be_bound_and_listened_on),
		test(bound_sockets_connect_forty_of_forty),
		test(a_port_chosen_late_is_not_shown_early),
		test(a_neighbour_in_between_costs_nothing),
		test(a_socket_that_was_never_bound_listens),
		test(a_port_that_nobody_held_is_not_shared),
		test(a_port_that_the_caller_chose_stays_lost),
		test(a_window_of_the_caller_s_confines_every_call),
		test(listen_makes_ports_reusable),
		test(a_caller_that_connects_itself_has_it_begun));
}
