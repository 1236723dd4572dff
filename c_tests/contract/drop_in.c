/*
 * drop_in.c
 *		ic_listener_bind(), _listen() and _connect() are the system calls
 *		of those names, with the same arguments and answers; the caller
 *		does not notice an exchange of sockets. (strategy/connecting.c has
 *		what they do beyond that.)
 */
#define _GNU_SOURCE

#include "test.h"

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

#define PORT_MIN 40000
#define PORT_MAX 40063
#define SERVER_PORT 30000

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

/* Counts exchanges of sockets: the linker's --wrap leads them here. */
static int	exchanges;

/* A rival listens on the port of the next socket that listens. */
static int	rivals;

extern int	__real_dup3(int fd, int place, int flags);
extern int	__wrap_dup3(int fd, int place, int flags);
extern int	__real_listen(int fd, int backlog);
extern int	__wrap_listen(int fd, int backlog);

int
__wrap_dup3(int fd, int place, int flags)
{
	exchanges++;
	return __real_dup3(fd, place, flags);
}

int
__wrap_listen(int fd, int backlog)
{
	if (rivals > 0)
	{
		struct sockaddr_storage address;
		socklen_t	size = sizeof(address);
		int			rival;

		rivals--;
		expect_equal(getsockname(fd, (struct sockaddr *) &address, &size), 0);
		rival = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		set_int(rival, SOL_SOCKET, SO_REUSEADDR, 1);
		expect_equal(bind(rival, (struct sockaddr *) &address, size), 0);
		expect_equal(__real_listen(rival, 1), 0);
	}
	return __real_listen(fd, backlog);
}

/*
 * The same answers
 */

typedef struct Opener
{
	const char *name;
	int			domain;
	int			type;
	int			protocol;
} Opener;

#define NO_SOCKET (-2)			/* a number that is no open file */
#define A_FILE (-3)

static const Opener openers[] =
{
	{"-1", -1, 0, 0},
	{"a closed fd", NO_SOCKET, 0, 0},
	{"a file", A_FILE, 0, 0},
	{"TCP", AF_INET, SOCK_STREAM, 0},
	{"TCP, IPv6", AF_INET6, SOCK_STREAM, 0},
	{"TCP, non-blocking", AF_INET, SOCK_STREAM | SOCK_NONBLOCK, IPPROTO_TCP},
	{"UDP", AF_INET, SOCK_DGRAM, 0},
	{"UDP, IPv6", AF_INET6, SOCK_DGRAM, 0},
	{"AF_UNIX", AF_UNIX, SOCK_STREAM, 0},
	{"AF_UNIX, datagrams", AF_UNIX, SOCK_DGRAM, 0},
	{"MPTCP", AF_INET, SOCK_STREAM, IPPROTO_MPTCP},
	{"raw", AF_INET, SOCK_RAW, IPPROTO_TCP},
	{"netlink", AF_NETLINK, SOCK_RAW, NETLINK_XFRM},
};

static int
open_as(const Opener *opener)
{
	int			fd;

	if (opener->domain == -1)
		return -1;
	if (opener->domain == NO_SOCKET)
		return 999;
	if (opener->domain == A_FILE)
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	else
		fd = socket(opener->domain, opener->type | SOCK_CLOEXEC,
					opener->protocol);
	/* The kernel may have no MPTCP, the user no raw sockets. */
	if (fd < 0)
		require(opener->protocol != 0, "%s: %s", opener->name, strerror(errno));
	return fd;
}

/* What is done with the socket first. */
typedef enum State
{
	FRESH,
	BOUND,
	LISTENING,
	CONNECTED,
	STATES
} State;

static const char *const state_names[] =
{"fresh", "bound", "listening", "connected"};

static bool
bring_to(int fd, const Opener *opener, State state)
{
	const char *host = opener->domain == AF_INET6 ? "::1" : "127.0.0.1";

	if (state == FRESH)
		return true;
	if (opener->domain != AF_INET && opener->domain != AF_INET6)
		return false;
	if (state == CONNECTED)
	{
		struct pollfd waiting = {.fd = fd, .events = POLLOUT};
		int			error;

		if (opener->type == SOCK_RAW)
			return false;
		error = plain_connect(fd, host, SERVER_PORT);
		expect(error == 0 || error == EINPROGRESS);
		expect_equal(poll(&waiting, 1, 10000), 1);
		return true;
	}
	if (plain_bind(fd, host, 0) != 0)
		return false;
	return state == BOUND || listen(fd, 8) == 0;
}

typedef struct Argument
{
	const char *name;
	const char *address;		/* NULL: raw, below */
	int			port;
	socklen_t	length;			/* 0: the address's own */
	int			family;			/* of a raw one */
} Argument;

#define NULL_ADDRESS (-1)

static const Argument arguments[] =
{
	{"NULL, 0", NULL, 0, 0, NULL_ADDRESS},
	{"NULL, 16", NULL, 0, 16, NULL_ADDRESS},
	{"length 0", "127.0.0.1", SERVER_PORT, UINT32_MAX, 0},
	{"length 1", "127.0.0.1", SERVER_PORT, 1, 0},
	{"length 2", "127.0.0.1", SERVER_PORT, 2, 0},
	{"length 15", "127.0.0.1", SERVER_PORT, 15, 0},
	{"length 16", "127.0.0.1", SERVER_PORT, 16, 0},
	{"length 128", "127.0.0.1", SERVER_PORT, 128, 0},
	{"length 129", "127.0.0.1", SERVER_PORT, 129, 0},
	{"length INT_MAX", "127.0.0.1", SERVER_PORT, 0x7fffffff, 0},
	{"length 2^31", "127.0.0.1", SERVER_PORT, 0x80000000, 0},
	{"IPv6, length 16", "::1", SERVER_PORT, 16, 0},
	{"IPv6, length 23", "::1", SERVER_PORT, 23, 0},
	{"IPv6, length 24", "::1", SERVER_PORT, 24, 0},
	{"IPv6, length 128", "::1", SERVER_PORT, 128, 0},
	{"IPv6, port 0, length 23", "::1", 0, 23, 0},
	{"IPv6, port 0, length 24", "::1", 0, 24, 0},
	{"port 0, length 15", "127.0.0.1", 0, 15, 0},
	{"port 0, length 128", "127.0.0.1", 0, 128, 0},
	{"0.0.0.0, port 0", "0.0.0.0", 0, 0, 0},
	{"127.0.0.1, port 0", "127.0.0.1", 0, 0, 0},
	{"127.0.0.1, server", "127.0.0.1", SERVER_PORT, 0, 0},
	{"127.0.0.1, nobody", "127.0.0.1", 9, 0, 0},
	{"127.0.0.1, free port", "127.0.0.1", 31111, 0, 0},
	{"::, port 0", "::", 0, 0, 0},
	{"::1, port 0", "::1", 0, 0, 0},
	{"::1, server", "::1", SERVER_PORT, 0, 0},
	{"::1, free port", "::1", 31111, 0, 0},
	{"::ffff:127.0.0.1, port 0", "::ffff:127.0.0.1", 0, 0, 0},
	{"::ffff:127.0.0.1, server", "::ffff:127.0.0.1", SERVER_PORT, 0, 0},
	{"fe80::1, no scope", "fe80::1", 0, 0, 0},
	{"another host, port 0", "192.0.2.1", 0, 0, 0},
	{"another host", "192.0.2.1", 80, 0, 0},
	{"another host, IPv6", "2001:db8::1", 0, 0, 0},
	{"multicast", "224.0.0.1", 0, 0, 0},
	{"multicast, IPv6", "ff02::1", 0, 0, 0},
	{"broadcast", "255.255.255.255", 0, 0, 0},
	{"AF_UNSPEC", NULL, 0, 16, AF_UNSPEC},
	{"AF_UNSPEC, length 2", NULL, 0, 2, AF_UNSPEC},
	{"AF_UNIX", NULL, 0, sizeof(struct sockaddr_un), AF_UNIX},
	{"AF_PACKET", NULL, 0, 20, AF_PACKET},
	{"family 999", NULL, 0, 16, 999},
};

/* What the caller sees afterwards. */
typedef struct Seen
{
	int			returned;
	int			error;
	int			family;
	char		host[64];
	bool		has_port;
	int			peer;
	int			listening;
	int			so_error;
	int			flags;
	int			fd_flags;
	int			reuse;			/* of what is not TCP */
} Seen;

static Seen
look_at(int fd, int returned, int error)
{
	Seen		seen;
	union
	{
		struct sockaddr_storage storage;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	}			address;
	socklen_t	size = sizeof(address);

	memset(&seen, 0, sizeof(seen));
	memset(&address, 0, sizeof(address));
	seen.returned = returned;
	seen.error = returned == 0 ? 0 : error;
	if (getsockname(fd, (struct sockaddr *) &address, &size) != 0)
		return seen;
	seen.family = address.storage.ss_family;
	if (seen.family == AF_INET)
		inet_ntop(AF_INET, &address.in.sin_addr, seen.host, sizeof(seen.host));
	else if (seen.family == AF_INET6)
		inet_ntop(AF_INET6, &address.in6.sin6_addr, seen.host,
				  sizeof(seen.host));
	seen.has_port = seen.family != AF_UNIX && seen.family != AF_NETLINK &&
		address.in.sin_port != 0;
	size = sizeof(address);
	seen.peer = getpeername(fd, (struct sockaddr *) &address, &size);
	seen.listening = socket_option(fd, SOL_SOCKET, SO_ACCEPTCONN);
	seen.flags = fcntl(fd, F_GETFL);
	seen.fd_flags = fcntl(fd, F_GETFD);
	if (socket_option(fd, SOL_SOCKET, SO_PROTOCOL) != IPPROTO_TCP ||
		socket_option(fd, SOL_SOCKET, SO_TYPE) != SOCK_STREAM)
		seen.reuse = socket_option(fd, SOL_SOCKET, SO_REUSEADDR);
	return seen;
}

typedef enum What
{
	BIND,
	CONNECT,
	LISTEN,
	WHATS
} What;

static const char *const what_names[] = {"bind", "connect", "listen"};

static Seen
do_call(const Opener *opener, State state, What what, const Argument *argument,
		int backlog, bool ours)
{
	static struct sockaddr_storage storage[2];
	const struct sockaddr *address = (const struct sockaddr *) storage;
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	socklen_t	length = 0;
	Seen		seen;
	int			fd = open_as(opener);
	int			returned;

	memset(&seen, 0, sizeof(seen));
	if ((fd < 0 && opener->domain != -1) || !bring_to(fd, opener, state))
	{
		close(fd);
		return seen;
	}
	if (argument != NULL)
	{
		memset(storage, 0, sizeof(storage));
		if (argument->address != NULL)
			length = socket_address(argument->address, argument->port, storage);
		else if (argument->family == NULL_ADDRESS)
			address = NULL;
		else
			storage[0].ss_family = argument->family;
		if (argument->length != 0)
			length = argument->length == UINT32_MAX ? 0 : argument->length;
	}
	errno = 0;
	if (what == BIND)
		returned = ours ? ic_listener_bind(fd, address, length, &report) :
			bind(fd, address, length);
	else if (what == CONNECT)
		returned = ours ? ic_listener_connect(fd, address, length, &report) :
			connect(fd, address, length);
	else
		returned = ours ? ic_listener_listen(fd, backlog, &report) :
			listen(fd, backlog);
	seen = look_at(fd, returned, errno);
	if (ours)
	{
		expect_equal(report.error, seen.error);
		expect(report.message[0] != '\0');
		expect_equal(report.step == IC_LISTENER_STEP_NONE, returned == 0);
	}
	close(fd);
	return seen;
}

static int	compared;

static void
compare(const Opener *opener, State state, What what, const Argument *argument,
		int backlog)
{
	OpenFds		before = open_fds();
	Seen		plain;
	Seen		ours;

	now_doing("%s, %s: %s(%s)", opener->name, state_names[state],
			  what_names[what], argument != NULL ? argument->name : "backlog");
	plain = do_call(opener, state, what, argument, backlog, false);
	ours = do_call(opener, state, what, argument, backlog, true);
	require(ours.returned == plain.returned && ours.error == plain.error,
			"%d, %s instead of %d, %s", ours.returned, strerror(ours.error),
			plain.returned, strerror(plain.error));
	expect_equal(ours.family, plain.family);
	require(strcmp(ours.host, plain.host) == 0, "%s instead of %s", ours.host,
			plain.host);
	expect_equal(ours.has_port, plain.has_port);
	expect_equal(ours.peer, plain.peer);
	expect_equal(ours.listening, plain.listening);
	expect_equal(ours.flags, plain.flags);
	expect_equal(ours.fd_flags, plain.fd_flags);
	expect_equal(ours.reuse, plain.reuse);
	require(open_fds_are(&before, -1), "an fd was left open");
	compared++;
}

static void
compare_all(What what)
{
	static const int backlogs[] = {-1, 0, 1, 128, 0x7fffffff};

	skip_without_ipv6();
	server_on("127.0.0.1", SERVER_PORT);
	server_on("::1", SERVER_PORT);
	for (size_t i = 0; i < lengthof(openers); i++)
	{
		for (State state = FRESH; state < STATES; state++)
		{
			if (what == LISTEN)
				for (size_t j = 0; j < lengthof(backlogs); j++)
					compare(&openers[i], state, what, NULL, backlogs[j]);
			else
				for (size_t j = 0; j < lengthof(arguments); j++)
					compare(&openers[i], state, what, &arguments[j], 0);
		}
	}
	expect(compared > 100);
}

TEST_IN_NETNS(bind_answers_as_the_system_call_does)
{
	compare_all(BIND);
}

TEST_IN_NETNS(connect_answers_as_the_system_call_does)
{
	compare_all(CONNECT);
}

TEST_IN_NETNS(listen_answers_as_the_system_call_does)
{
	compare_all(LISTEN);
}

/* Where ports are short, bind() differs; nothing else does. */
TEST_IN_NETNS(in_a_crowd_connect_answers_as_the_system_call_does)
{
	static const char *const others[] =
	{"127.0.0.1, port 0, length 15", "another host", "another host, IPv6",
	"multicast, IPv6", "AF_UNSPEC", "length 15", "NULL, 0", "fe80::1, no scope"};

	crowd(PORT_MIN, PORT_MIN + 7);
	skip_without_ipv6();
	for (size_t i = 0; i < lengthof(arguments); i++)
	{
		for (size_t j = 0; j < lengthof(others); j++)
		{
			if (strcmp(arguments[i].name, others[j]) == 0)
			{
				compare(&openers[3], FRESH, CONNECT, &arguments[i], 0);
				compare(&openers[4], FRESH, CONNECT, &arguments[i], 0);
			}
		}
	}
}

/*
 * bind()
 */

TEST_IN_NETNS(bind_to_port_0_finds_every_port)
{
	Ports		taken = {{false}};
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	int			fd;

	crowd(PORT_MIN, PORT_MAX);
	fd = stream_socket("0.0.0.0");
	expect_equal(plain_bind(fd, "0.0.0.0", 0), EADDRINUSE);
	close(fd);
	for (int i = PORT_MIN; i <= PORT_MAX; i++)
	{
		OpenFds		before = open_fds();

		fd = stream_socket("0.0.0.0");
		expect_equal(ic_bind(fd, "0.0.0.0", 0, &report), 0);
		expect_equal(report.origin, IC_LISTENER_PORT_ORIGIN_REUSED);
		expect_equal(ic_listener_listen(fd, 8, &report), 0);
		require(!taken.has[local_port(fd)], "port %d came twice",
				local_port(fd));
		taken.has[local_port(fd)] = true;
		require(open_fds_are(&before, fd), "other fds than %d are open", fd);
	}
	fd = stream_socket("0.0.0.0");
	expect_equal(ic_bind(fd, "0.0.0.0", 0, &report), EADDRINUSE);
	expect_equal(report.ports_in_use, PORT_MAX - PORT_MIN + 1);
	expect(has_no_port(fd));
	expect_equal(socket_option(fd, SOL_SOCKET, SO_REUSEADDR), 0);
	expect_equal(socket_option(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT), 0);

	/* The socket is as good as before. */
	expect_equal(plain_bind(fd, "0.0.0.0", SERVER_PORT), 0);
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
	expect(open_neighbour(&sharing, local_port(fd)) < 0);
}

TEST_IN_NETNS(a_window_of_the_caller_s_confines_every_call)
{
	int			ends = (int) ((unsigned int) (PORT_MIN + 3) << 16 | PORT_MIN);

	if (!kernel_has_windows())
		return;					/* The caller cannot set one, either. */
	crowd(PORT_MIN, PORT_MAX);
	for (int i = 0; i < 5; i++)
	{
		bool		last = i == 4;
		bool		unbound = i % 2;
		int			fd = stream_socket("0.0.0.0");

		set_window(fd, PORT_MIN, PORT_MIN + 3);
		if (!unbound)
			expect_equal(ic_bind(fd, "0.0.0.0", 0, NULL), last ? EADDRINUSE : 0);
		if (!last)
		{
			expect_equal(ic_listener_listen(fd, 8, NULL), 0);
			require(local_port(fd) <= PORT_MIN + 3, "port %d", local_port(fd));
		}
		expect_equal(socket_option(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE), ends);
	}
}

/*
 * listen()
 */

/*
 * The socket may be registered somewhere, and have duplicates. The odd ports
 * are those that the strategy would share first.
 */
TEST_IN_NETNS(bind_never_exchanges_the_socket)
{
	const int	port_max = PORT_MIN + 199;
	char		odd_ports[1024];
	int			length = 0;

	crowd(PORT_MIN, port_max);
	for (int port = PORT_MIN + 1; port <= port_max; port += 2)
		length += sprintf(odd_ports + length, "%d,", port);
	odd_ports[length - 1] = '\0';
	set_sysctl("net.ipv4.ip_local_reserved_ports", odd_ports);
	for (int i = 0; i < 20; i++)
	{
		int			fd = stream_socket("0.0.0.0");
		struct stat before;
		struct stat after;

		require(fstat(fd, &before) == 0, "%s", strerror(errno));
		expect_equal(ic_bind(fd, "0.0.0.0", 0, NULL), 0);
		require(fstat(fd, &after) == 0, "%s", strerror(errno));
		expect(after.st_ino == before.st_ino);
		require(local_port(fd) % 2 == 0, "port %d", local_port(fd));
		close(fd);
	}
}

TEST_IN_NETNS(listen_on_an_unbound_socket_finds_a_port)
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

/* The option that every Unix server sets. */
static int
bound_and_shared(const char *address)
{
	int			fd = stream_socket(address);

	set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	expect_equal(ic_bind(fd, address, 0, NULL), 0);
	return fd;
}

static void
lose_a_port(void *argument)
{
	const char *address = argument;
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	int			fd;
	int			port;

	skip_without_ipv6();
	crowd(PORT_MIN, PORT_MAX);

	/* On ::1 ports are free, and a free port is not lost again. */
	for (int lost = 1; lost <= (strcmp(address, "::1") == 0 ? 1 : 5); lost++)
	{
		OpenFds		before = open_fds();

		now_doing("%s, %d lost", address, lost);
		fd = bound_and_shared(address);
		port = local_port(fd);
		exchanges = 0;
		rivals = lost;
		expect_equal(ic_listener_listen(fd, 8, &report), 0);
		expect_equal(rivals, 0);
		expect_equal(exchanges, lost);
		expect_equal(report.listens_lost, lost);
		require(local_port(fd) != port, "port %d is still the rival's", port);
		require(strcmp(local_address(fd), address) == 0, "it listens on %s",
				local_address(fd));
		expect_equal(socket_option(fd, SOL_SOCKET, SO_ACCEPTCONN), 1);
		expect_equal(socket_option(fd, SOL_SOCKET, SO_REUSEADDR), 1);
		expect_equal(socket_option(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT), 0);
		expect_equal(open_fds().count, before.count + 1 + lost);
	}
}

static void
a_port_that_was_lost_is_exchanged(void **state)
{
	(void) state;
	assert_passes_in_netns(lose_a_port, "0.0.0.0");
	assert_passes_in_netns(lose_a_port, "127.0.0.1");
	assert_passes_in_netns(lose_a_port, "::");
	assert_passes_in_netns(lose_a_port, "::1");
	assert_passes_in_netns(lose_a_port, "::ffff:127.0.0.1");
}

TEST_IN_NETNS(when_every_port_is_lost_the_socket_is_left)
{
	OpenFds		before;
	int			fd;

	crowd(PORT_MIN, PORT_MIN + 7);
	fd = stream_socket("0.0.0.0");
	expect_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	expect_equal(ic_bind(fd, "0.0.0.0", 0, NULL), 0);
	for (int port = PORT_MIN; port <= PORT_MIN + 7; port++)
	{
		Neighbour	listening = {"0.0.0.0", .reuse_address = true,.listens = true};

		expect(open_neighbour(&listening, port) >= 0);
	}
	before = open_fds();
	expect_equal(ic_listener_listen(fd, 8, NULL), -1);
	expect_equal(errno, EADDRINUSE);
	require(open_fds_are(&before, -1), "the open fds are others");
	expect(has_no_port(fd));
	expect_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);

	/* Now there is another port, and this socket gets it. */
	set_port_range(PORT_MIN, PORT_MIN + 8);
	expect_equal(ic_bind(fd, "0.0.0.0", 0, NULL), 0);
	expect_equal(ic_listener_listen(fd, 8, NULL), 0);
	expect_equal(local_port(fd), PORT_MIN + 8);
}

typedef enum Choice
{
	BY_BIND,
	BY_OURS,
	BY_OURS_NO_PORT,			/* with IP_BIND_ADDRESS_NO_PORT */
	CHOICES
} Choice;

TEST_IN_NETNS(a_port_that_the_caller_chose_is_never_exchanged)
{
	set_port_range(PORT_MIN, PORT_MAX);
	for (Choice choice = BY_BIND; choice < CHOICES; choice++)
	{
		int			port = SERVER_PORT + (int) choice;
		int			fd = stream_socket("0.0.0.0");

		now_doing("choice %d", choice);
		set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
		if (choice == BY_OURS_NO_PORT)
			set_int(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
		if (choice == BY_BIND)
			expect_equal(plain_bind(fd, "0.0.0.0", port), 0);
		else
			expect_equal(ic_bind(fd, "0.0.0.0", port, NULL), 0);
		exchanges = 0;
		rivals = 1;
		expect_equal(ic_listener_listen(fd, 8, NULL), -1);
		expect_equal(errno, EADDRINUSE);
		expect_equal(local_port(fd), port);
		expect_equal(exchanges, 0);
	}
}

/* The ports of its connections can be listened on again. */
TEST_IN_NETNS(listen_makes_ports_reusable)
{
	int			fd = stream_socket("127.0.0.1");

	set_port_range(PORT_MIN, PORT_MIN);
	for (int i = 0; i < 3; i++)
	{
		fd = stream_socket("127.0.0.1");
		expect_equal(ic_bind(fd, "127.0.0.1", 0, NULL), 0);
		expect_equal(ic_listener_listen(fd, 8, NULL), 0);
		leave_time_wait(fd, "127.0.0.1");
		close(fd);
		expect_equal(ports_in_time_wait(PORT_MIN, PORT_MIN), 1);
	}
}

/*
 * What goes over to another socket
 */

typedef struct Option
{
	int			level;
	int			name;
	const char *words;
	int			value;			/* not a new socket's */
	bool		only_v6;
} Option;

/* Not in every libc. */
#define IP_PROTOCOL_ 52
#define TCP_ZEROCOPY_RECEIVE_ 35
#define IPV6_AUTOFLOWLABEL_ 70
#define IPV6_MINHOPCOUNT_ 73
#define IPV6_UNICAST_IF_ 76

static const Option options[] =
{
	{SOL_SOCKET, SO_BROADCAST, "SO_BROADCAST", 1, false},
	{SOL_SOCKET, SO_BUSY_POLL, "SO_BUSY_POLL", 50, false},
	{SOL_SOCKET, SO_DEBUG, "SO_DEBUG", 1, false},
	{SOL_SOCKET, SO_INCOMING_CPU, "SO_INCOMING_CPU", 0, false},
	{SOL_SOCKET, SO_KEEPALIVE, "SO_KEEPALIVE", 1, false},
	{SOL_SOCKET, SO_MARK, "SO_MARK", 77, false},
	{SOL_SOCKET, SO_MAX_PACING_RATE, "SO_MAX_PACING_RATE", 1000000000, false},
	{SOL_SOCKET, SO_OOBINLINE, "SO_OOBINLINE", 1, false},
	{SOL_SOCKET, SO_RCVBUF, "SO_RCVBUF", 12345, false},
	{SOL_SOCKET, SO_RCVLOWAT, "SO_RCVLOWAT", 7, false},
	{SOL_SOCKET, SO_REUSEPORT, "SO_REUSEPORT", 1, false},
	{SOL_SOCKET, SO_SNDBUF, "SO_SNDBUF", 23456, false},
	{SOL_SOCKET, SO_TIMESTAMP, "SO_TIMESTAMP", 1, false},
	{SOL_SOCKET, SO_ZEROCOPY, "SO_ZEROCOPY", 1, false},
	{IPPROTO_IP, IP_FREEBIND, "IP_FREEBIND", 1, false},
	{IPPROTO_IP, IP_MINTTL, "IP_MINTTL", 5, false},
	{IPPROTO_IP, IP_MTU_DISCOVER, "IP_MTU_DISCOVER", IP_PMTUDISC_DO, false},
	{IPPROTO_IP, IP_RECVERR, "IP_RECVERR", 1, false},
	{IPPROTO_IP, IP_TOS, "IP_TOS", 0x10, false},
	{SOL_SOCKET, SO_PRIORITY, "SO_PRIORITY", 3, false},
	{IPPROTO_IP, IP_TRANSPARENT, "IP_TRANSPARENT", 1, false},
	{IPPROTO_IP, IP_TTL, "IP_TTL", 33, false},
	{IPPROTO_IPV6, IPV6_AUTOFLOWLABEL_, "IPV6_AUTOFLOWLABEL", 0, true},
	{IPPROTO_IPV6, IPV6_FREEBIND, "IPV6_FREEBIND", 1, true},
	{IPPROTO_IPV6, IPV6_MINHOPCOUNT_, "IPV6_MINHOPCOUNT", 5, true},
	{IPPROTO_IPV6, IPV6_MTU_DISCOVER, "IPV6_MTU_DISCOVER", IPV6_PMTUDISC_DO,
	true},
	{IPPROTO_IPV6, IPV6_TCLASS, "IPV6_TCLASS", 0x20, true},
	{IPPROTO_IPV6, IPV6_TRANSPARENT, "IPV6_TRANSPARENT", 1, true},
	{IPPROTO_IPV6, IPV6_UNICAST_HOPS, "IPV6_UNICAST_HOPS", 34, true},
	{IPPROTO_IPV6, IPV6_V6ONLY, "IPV6_V6ONLY", 1, true},
	{IPPROTO_TCP, TCP_CORK, "TCP_CORK", 1, false},
	{IPPROTO_TCP, TCP_DEFER_ACCEPT, "TCP_DEFER_ACCEPT", 3, false},
	{IPPROTO_TCP, TCP_FASTOPEN, "TCP_FASTOPEN", 5, false},
	{IPPROTO_TCP, TCP_KEEPCNT, "TCP_KEEPCNT", 4, false},
	{IPPROTO_TCP, TCP_KEEPIDLE, "TCP_KEEPIDLE", 44, false},
	{IPPROTO_TCP, TCP_KEEPINTVL, "TCP_KEEPINTVL", 11, false},
	{IPPROTO_TCP, TCP_LINGER2, "TCP_LINGER2", 9, false},
	{IPPROTO_TCP, TCP_MAXSEG, "TCP_MAXSEG", 1000, false},
	{IPPROTO_TCP, TCP_NODELAY, "TCP_NODELAY", 1, false},
	{IPPROTO_TCP, TCP_NOTSENT_LOWAT, "TCP_NOTSENT_LOWAT", 65536, false},
	{IPPROTO_TCP, TCP_SAVE_SYN, "TCP_SAVE_SYN", 1, false},
	{IPPROTO_TCP, TCP_SYNCNT, "TCP_SYNCNT", 3, false},
	{IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, "TCP_THIN_LINEAR_TIMEOUTS", 1,
	false},
	{IPPROTO_TCP, TCP_USER_TIMEOUT, "TCP_USER_TIMEOUT", 1234, false},
	{IPPROTO_TCP, TCP_WINDOW_CLAMP, "TCP_WINDOW_CLAMP", 50000, false},
};

/* All options of a level that can be read, as bytes. */
#define LEVELS 4
#define NAMES 128
#define BYTES 64

typedef struct Everything
{
	struct
	{
		socklen_t	size;
		unsigned char bytes[BYTES];
	}			of[LEVELS][NAMES];
} Everything;

static const int levels[LEVELS] =
{SOL_SOCKET, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP};

/* They describe a socket; they are not set. */
static bool
is_no_option(int level, int name)
{
	return (level == SOL_SOCKET &&
			(name == SO_COOKIE || name == SO_REUSEADDR ||
			 name == SO_MEMINFO || name == SO_ERROR)) ||
		(level == IPPROTO_IP && name == IP_PROTOCOL_) ||
		(level == IPPROTO_TCP &&
		 (name == TCP_INFO || name == TCP_FASTOPEN_KEY ||
		  name == TCP_CC_INFO || name == TCP_TIMESTAMP ||
		  name == TCP_QUICKACK || name == TCP_ZEROCOPY_RECEIVE_));
}

static void
read_everything(int fd, Everything *all)
{
	memset(all, 0, sizeof(*all));
	for (int i = 0; i < LEVELS; i++)
	{
		for (int name = 0; name < NAMES; name++)
		{
			socklen_t	size = BYTES;

			if (is_no_option(levels[i], name))
				continue;
			if (getsockopt(fd, levels[i], name, all->of[i][name].bytes,
						   &size) == 0)
				all->of[i][name].size = size + 1;
		}
	}
}

static void
expect_the_same(const Everything *before, const Everything *after)
{
	for (int i = 0; i < LEVELS; i++)
	{
		for (int name = 0; name < NAMES; name++)
			require(memcmp(&before->of[i][name], &after->of[i][name],
						   sizeof(before->of[i][name])) == 0,
					"option %d of level %d was %d and is %d", name, levels[i],
					*(const int *) before->of[i][name].bytes,
					*(const int *) after->of[i][name].bytes);
	}
}

/* Gives every option another value than that of a new socket. */
static void
set_options(int fd, bool v6)
{
	struct linger linger = {1, 5};
	struct timeval timeout = {3, 250000};

	for (size_t i = 0; i < lengthof(options); i++)
	{
		if (options[i].only_v6 && !v6)
			continue;
		if (setsockopt(fd, options[i].level, options[i].name,
					   &options[i].value, sizeof(int)) != 0)
			/* Older kernels know less. */
			require(errno == ENOPROTOOPT, "%s: %s", options[i].words,
					strerror(errno));
	}
	expect(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) == 0);
	expect(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout,
					  sizeof(timeout)) == 0);
	timeout.tv_sec = 4;
	expect(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout,
					  sizeof(timeout)) == 0);
	expect(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3) == 0);
	/* Every kernel has it besides the default. */
	setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
}

static int
socket_with_options(const char *address)
{
	int			fd = stream_socket(address);

	set_options(fd, strchr(address, ':') != NULL);
	return fd;
}

/*
 * Every port has a connection to the server, so that the next one is
 * exchanged.
 */
static void
connect_from_all(const char *address)
{
	server_on(address, SERVER_PORT);
	for (int port = PORT_MIN; port <= PORT_MIN + 3; port++)
		expect_equal(ic_connect(stream_socket(address), address, SERVER_PORT,
								NULL), 0);
}

static void
options_go_over(void *argument)
{
	static Everything before;
	static Everything after;
	const char *address = argument;
	int			fd;

	skip_without_ipv6();
	now_doing("%s", address);
	crowd(PORT_MIN, PORT_MIN + 3);
	connect_from_all(address);
	fd = socket_with_options(address);
	read_everything(fd, &before);
	exchanges = 0;
	expect_equal(ic_connect(fd, address, SERVER_PORT, NULL), EADDRNOTAVAIL);
	expect(exchanges > 0);
	read_everything(fd, &after);
	expect_the_same(&before, &after);

	/* It connects as well. */
	server_on(address, SERVER_PORT + 1);
	expect_equal(ic_connect(fd, address, SERVER_PORT + 1, NULL), 0);
}

static void
every_option_goes_over_to_another_socket(void **state)
{
	(void) state;
	assert_passes_in_netns(options_go_over, "127.0.0.1");
	assert_passes_in_netns(options_go_over, "::1");
}

/* One at a time, so that none comes by way of another. */
static void
one_option_goes_over(void *argument)
{
	static Everything before;
	static Everything after;
	const char *address = argument;
	bool		v6 = strchr(address, ':') != NULL;

	skip_without_ipv6();
	crowd(PORT_MIN, PORT_MIN + 3);
	connect_from_all(address);
	for (size_t i = 0; i < lengthof(options); i++)
	{
		int			fd = stream_socket(address);

		now_doing("%s, %s", address, options[i].words);
		if ((!options[i].only_v6 || v6) &&
			setsockopt(fd, options[i].level, options[i].name,
					   &options[i].value, sizeof(int)) == 0)
		{
			read_everything(fd, &before);
			expect_equal(ic_connect(fd, address, SERVER_PORT, NULL),
						 EADDRNOTAVAIL);
			read_everything(fd, &after);
			expect_the_same(&before, &after);
		}
		close(fd);
	}
	expect(exchanges > 0);
}

static void
each_option_goes_over_by_itself(void **state)
{
	(void) state;
	assert_passes_in_netns(one_option_goes_over, "127.0.0.1");
	assert_passes_in_netns(one_option_goes_over, "::1");
}

/* IP_TOS sets the priority; what was set after it counts. */
TEST_IN_NETNS(a_priority_set_back_stays_so)
{
	static Everything before;
	static Everything after;
	int			fd = stream_socket("127.0.0.1");

	crowd(PORT_MIN, PORT_MIN + 3);
	connect_from_all("127.0.0.1");
	set_int(fd, IPPROTO_IP, IP_TOS, 0x10);
	set_int(fd, SOL_SOCKET, SO_PRIORITY, 0);
	read_everything(fd, &before);
	expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), EADDRNOTAVAIL);
	expect(exchanges > 0);
	read_everything(fd, &after);
	expect_the_same(&before, &after);
}

/* Above net.core.wmem_max, which privilege permits. */
TEST_IN_NETNS(forced_buffers_go_over)
{
	static Everything before;
	static Everything after;
	int			fd = stream_socket("127.0.0.1");
	int			size = 64 << 20;

	crowd(PORT_MIN, PORT_MIN + 3);
	connect_from_all("127.0.0.1");
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) != 0 ||
		setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) != 0)
		skip_child("SO_SNDBUFFORCE: run as root");
	read_everything(fd, &before);
	expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), EADDRNOTAVAIL);
	expect(exchanges > 0);
	read_everything(fd, &after);
	expect_the_same(&before, &after);
}

TEST_IN_NETNS(flags_go_over)
{
	crowd(PORT_MIN, PORT_MIN + 3);
	connect_from_all("127.0.0.1");
	for (int i = 0; i < 8; i++)
	{
		int			status = (i & 1 ? O_NONBLOCK : 0) | (i & 2 ? O_APPEND : 0);
		int			descriptor = i & 4 ? FD_CLOEXEC : 0;
		int			fd = stream_socket("127.0.0.1");

		now_doing("flags %d", i);
		expect_equal(fcntl(fd, F_SETFL, status), 0);
		expect_equal(fcntl(fd, F_SETFD, descriptor), 0);
		exchanges = 0;
		expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL),
					 EADDRNOTAVAIL);
		expect(exchanges > 0);
		expect_equal(fcntl(fd, F_GETFL) & (O_NONBLOCK | O_APPEND), status);
		expect_equal(fcntl(fd, F_GETFD), descriptor);
	}
}

/* ic_listener_listen() exchanges in the same way. */
TEST_IN_NETNS(options_go_over_to_another_listener)
{
	static Everything before;
	static Everything after;
	int			fd = stream_socket("127.0.0.1");

	set_port_range(PORT_MIN, PORT_MAX);
	set_options(fd, false);
	/* A listener may not change its mind about it. */
	set_int(fd, SOL_SOCKET, SO_REUSEPORT, 0);
	set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	expect_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	read_everything(fd, &before);
	expect_equal(ic_bind(fd, "127.0.0.1", 0, NULL), 0);
	rivals = 1;
	expect_equal(ic_listener_listen(fd, 8, NULL), 0);
	expect_equal(exchanges, 1);
	read_everything(fd, &after);
	after.of[0][SO_ACCEPTCONN] = before.of[0][SO_ACCEPTCONN];
	expect_the_same(&before, &after);
	expect_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
}

/* An option that may not be set again does not cost the socket. */
TEST_IN_NETNS(an_option_that_may_not_be_set_again_is_eperm)
{
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	int			fd = stream_socket("127.0.0.1");
	int			mark = 7;

	crowd(PORT_MIN, PORT_MIN + 3);
	connect_from_all("127.0.0.1");
	set_int(fd, SOL_SOCKET, SO_MARK, mark);
	drop_privileges();
	expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, &report), EPERM);
	expect_equal(report.step, IC_LISTENER_STEP_SETSOCKOPT);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_MARK), mark);
}

/*
 * The report
 */

static const size_t bad_sizes[] = {0, 1, 8, 100, 4097, (size_t) -1};

/* What version 0.1 has, and a later one's. */
#define FIRST_SIZE (offsetof(IcListenerReport, message) + IC_LISTENER_MESSAGE_SIZE)

TEST_IN_NETNS(a_report_of_another_size_is_filled_as_far_as_it_goes)
{
	static const size_t sizes[] = {FIRST_SIZE, FIRST_SIZE + 4,
	sizeof(IcListenerReport), sizeof(IcListenerReport) + 64, 4096};

	set_port_range(PORT_MIN, PORT_MAX);
	server_on("127.0.0.1", SERVER_PORT);
	for (size_t i = 0; i < lengthof(sizes); i++)
	{
		unsigned char bytes[4096 + 16];
		IcListenerReport *report = (IcListenerReport *) bytes;
		int			listener = stream_socket("127.0.0.1");
		int			fd = stream_socket("127.0.0.1");

		for (int call = 0; call < 3; call++)
		{
			now_doing("size %zu, call %d", sizes[i], call);
			memset(bytes, 0xee, sizeof(bytes));
			report->size = sizes[i];
			expect_equal(call == 0 ? ic_bind(listener, "127.0.0.1", 0, report) :
						 call == 1 ? ic_listener_listen(listener, 8, report) :
						 ic_connect(fd, "127.0.0.1", SERVER_PORT, report), 0);
			expect_equal(report->size, sizes[i]);
			expect_equal(report->error, 0);
			expect(report->message[0] != '\0');
			for (size_t at = sizeof(IcListenerReport); at < sizes[i]; at++)
				expect_equal(bytes[at], 0);
			for (size_t at = sizes[i]; at < sizeof(bytes); at++)
				expect_equal(bytes[at], 0xee);
		}
		close(listener);
		close(fd);
	}
}

TEST_IN_NETNS(a_report_of_no_size_is_einval_and_nothing_is_done)
{
	server_on("127.0.0.1", SERVER_PORT);
	for (size_t i = 0; i < lengthof(bad_sizes); i++)
	{
		unsigned char bytes[sizeof(IcListenerReport)];
		IcListenerReport *report = (IcListenerReport *) bytes;
		int			fd = stream_socket("127.0.0.1");
		struct sockaddr_storage peer;
		socklen_t	size = sizeof(peer);

		now_doing("size %zu", bad_sizes[i]);
		memset(bytes, 0xee, sizeof(bytes));
		report->size = bad_sizes[i];
		expect_equal(ic_bind(fd, "127.0.0.1", 0, report), EINVAL);
		expect_equal(ic_listener_listen(fd, 8, report), -1);
		expect_equal(errno, EINVAL);
		expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, report), EINVAL);
		expect(has_no_port(fd));
		expect_equal(socket_option(fd, SOL_SOCKET, SO_ACCEPTCONN), 0);
		expect_equal(getpeername(fd, (struct sockaddr *) &peer, &size), -1);
		expect_equal(report->size, bad_sizes[i]);
		for (size_t at = sizeof(size_t); at < sizeof(bytes); at++)
			expect_equal(bytes[at], 0xee);
		close(fd);
	}
}

int
main(void)
{
	return run_all(
		test(bind_answers_as_the_system_call_does),
		test(connect_answers_as_the_system_call_does),
		test(listen_answers_as_the_system_call_does),
		test(in_a_crowd_connect_answers_as_the_system_call_does),
		test(bind_to_port_0_finds_every_port),
		test(a_port_that_nobody_held_is_not_shared),
		test(a_window_of_the_caller_s_confines_every_call),
		test(bind_never_exchanges_the_socket),
		test(listen_on_an_unbound_socket_finds_a_port),
		test(a_port_that_was_lost_is_exchanged),
		test(when_every_port_is_lost_the_socket_is_left),
		test(a_port_that_the_caller_chose_is_never_exchanged),
		test(listen_makes_ports_reusable),
		test(every_option_goes_over_to_another_socket),
		test(each_option_goes_over_by_itself),
		test(a_priority_set_back_stays_so),
		test(forced_buffers_go_over),
		test(flags_go_over),
		test(options_go_over_to_another_listener),
		test(an_option_that_may_not_be_set_again_is_eperm),
		test(a_report_of_another_size_is_filled_as_far_as_it_goes),
		test(a_report_of_no_size_is_einval_and_nothing_is_done)
	);
}
