/*
 * connecting.c
 *		ic_listener_connect() on a host where connect() finds no port: while
 *		one 4-tuple is free, a connection gets it, on the caller's own
 *		socket. (oracle.py asks the kernel about every kind of holder.)
 */
#define _GNU_SOURCE

#include <fcntl.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "crowded.h"
#include "test.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

#define PORT_MIN 40000
#define PORT_MAX 40063
#define PORTS (PORT_MAX - PORT_MIN + 1)

/* Where connections go to; outside the range. */
#define SERVER_PORT 30000

/*
 * What this process asks the kernel for. The linker's --wrap leads the calls
 * here.
 */
static struct
{
	int			binds;			/* of IPv4 and IPv6 sockets */
	int			connects;		/* of stream sockets */
	int			lost;			/* of those, on a port that was named, in vain */
	int			windows;
	int			claims;			/* AF_UNIX */
	int			questions;		/* sock_diag about one 4-tuple... */
	int			dumps;			/* and about all */
}			asked;

static int	no_scout;			/* the errno of connect() on UDP sockets, or 0 */
static int	no_claim;			/* of socket(AF_UNIX), or 0 */
static int	squatted;			/* of bind() on AF_UNIX sockets, or 0 */
static int	no_netlink;			/* of socket(AF_NETLINK), or 0 */
static bool no_windows;			/* as kernels before Linux 6.3 */

#define WRAP(type, name, parameters) \
	extern type __real_##name parameters; \
	extern type __wrap_##name parameters; \
	type \
	__wrap_##name parameters

static int
fail_with(int error)
{
	errno = error;
	return -1;
}

WRAP(int, socket, (int domain, int type, int protocol))
{
	if (domain == AF_UNIX && no_claim != 0)
		return fail_with(no_claim);
	if (domain == AF_NETLINK && no_netlink != 0)
		return fail_with(no_netlink);
	asked.claims += domain == AF_UNIX;
	return __real_socket(domain, type, protocol);
}

WRAP(int, bind, (int fd, const struct sockaddr *address, socklen_t length))
{
	if (address->sa_family == AF_UNIX && squatted != 0)
		return fail_with(squatted);
	asked.binds += address->sa_family == AF_INET || address->sa_family == AF_INET6;
	return __real_bind(fd, address, length);
}

WRAP(int, connect, (int fd, const struct sockaddr *address, socklen_t length))
{
	bool		named = !has_no_port(fd);
	int			returned;

	/* The search for a route is no connection. */
	if (socket_option(fd, SOL_SOCKET, SO_TYPE) != SOCK_STREAM)
		return no_scout != 0 ? fail_with(no_scout) :
			__real_connect(fd, address, length);
	returned = __real_connect(fd, address, length);
	asked.connects++;
	asked.lost += named && returned != 0 && errno == EADDRNOTAVAIL;
	return returned;
}

static bool
is_window(int level, int name)
{
	return level == IPPROTO_IP && name == IP_LOCAL_PORT_RANGE;
}

WRAP(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *size))
{
	if (no_windows && is_window(level, name))
		return fail_with(ENOPROTOOPT);
	return __real_getsockopt(fd, level, name, value, size);
}

WRAP(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t size))
{
	if (no_windows && is_window(level, name))
		return fail_with(ENOPROTOOPT);
	asked.windows += is_window(level, name);
	return __real_setsockopt(fd, level, name, value, size);
}

/* A dump's NLM_F_DUMP is NLM_F_ROOT and NLM_F_MATCH. */
WRAP(ssize_t, send, (int fd, const void *data, size_t size, int flags))
{
	const struct nlmsghdr *header = data;

	if (size >= sizeof(*header) && header->nlmsg_len == size &&
		header->nlmsg_type == 20)	/* SOCK_DIAG_BY_FAMILY */
	{
		if (header->nlmsg_flags & NLM_F_DUMP)
			asked.dumps++;
		else
			asked.questions++;
	}
	return __real_send(fd, data, size, flags);
}

static void
count_anew(void)
{
	memset(&asked, 0, sizeof(asked));
}

static void
wait_for_connection(int fd)
{
	struct pollfd waiting = {.fd = fd, .events = POLLOUT};

	expect_equal(poll(&waiting, 1, 10000), 1);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_ERROR), 0);
}

/* A connection that must work, blocking or not. */
static int
connects_to(const char *address, int port, bool blocking, Ports *taken)
{
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	int			fd = stream_socket(address);
	uint64_t	cookie = cookie_of(fd);
	OpenFds		before = open_fds();
	struct sockaddr_storage peer;
	socklen_t	size = sizeof(peer);
	int			error;

	if (!blocking)
		expect(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
	error = ic_connect(fd, address, port, &report);
	require(error == 0 || (!blocking && error == EINPROGRESS), "%s: %s",
			strerror(error), report.message);
	expect_equal(report.error, error);
	wait_for_connection(fd);
	expect(open_fds_are(&before, -1));
	expect(cookie_of(fd) == cookie);
	expect_equal(getpeername(fd, (struct sockaddr *) &peer, &size), 0);
	expect_equal(ntohs(((struct sockaddr_in *) &peer)->sin_port), port);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_REUSEADDR), 1);
	if (!no_windows && kernel_has_windows())
		expect_equal(socket_option(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE), 0);
	require(local_port(fd) != port || strcmp(local_address(fd), address) != 0,
			"it is connected to itself");
	if (taken != NULL)
	{
		require(!taken->has[local_port(fd)], "port %d came twice", local_port(fd));
		taken->has[local_port(fd)] = true;
	}
	return fd;
}

/* A connection that must fail. The socket is as good as before. */
static IcListenerReport
finds_no_port(const char *address, int port)
{
	OpenFds		before = open_fds();
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	int			fd = stream_socket(address);

	expect_equal(ic_connect(fd, address, port, &report), EADDRNOTAVAIL);
	expect_equal(report.error, EADDRNOTAVAIL);
	expect_equal(report.step, IC_LISTENER_STEP_CONNECT);
	expect(has_no_port(fd));
	expect_equal(ic_connect(fd, address, port, NULL), EADDRNOTAVAIL);
	expect(has_no_port(fd));
	require(open_fds_are(&before, fd), "other fds than %d are open", fd);
	close(fd);
	return report;
}

static void
plain_finds_no_port(const char *address, int port)
{
	int			fd = stream_socket(address);

	set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	expect_equal(plain_connect(fd, address, port), EADDRNOTAVAIL);
	close(fd);
}

/*
 * Every port once to each destination, where the system call finds none.
 */

/* How addresses are written, and where their servers are. */
static const char *const ways[][2] = {
	{"127.0.0.1", "127.0.0.1"},
	{"::1", "::1"},
	{"::ffff:127.0.0.1", "127.0.0.1"},
};

static void
fill_the_range(void *argument)
{
	const char *const *way = ways[*(int *) argument / 2 % 3];
	bool		blocking = *(int *) argument % 2;

	no_windows = *(int *) argument >= 6;
	skip_without_ipv6();
	crowd(PORT_MIN, PORT_MAX);
	for (int port = SERVER_PORT; port < SERVER_PORT + 3; port++)
	{
		Ports		taken = {{false}};
		IcListenerReport report;

		server_on(way[1], port);
		plain_finds_no_port(way[0], port);
		for (int i = 0; i < PORTS; i++)
		{
			now_doing("%s, blocking %d, windows %d, port %d, connection %d",
					  way[0], blocking, !no_windows, port, i);
			connects_to(way[0], port, blocking, &taken);
		}
		report = finds_no_port(way[0], port);
		expect_equal(report.connections_taken, PORTS);
		expect_equal(report.ports_tried, PORTS);
		expect_equal(report.ports_in_use, 0);
		expect_equal(report.port_min, PORT_MIN);
		expect_equal(report.port_max, PORT_MAX);
		expect_in(report.message, "no port to connect from in 40000-40063");
		expect_in(report.message, "64 connected to the same destination already");
	}
}

static void
ports_that_listeners_left_serve_every_destination_once(void **state)
{
	(void) state;
	for (int i = 0; i < 12; i++)
		assert_passes_in_netns(fill_the_range, &i);
}

/*
 * By name, own TIME_WAITs are taken over at once, where timestamps tell old
 * segments from new ones. connect() waits for a second or longer.
 */
TEST_IN_NETNS(own_time_waits_are_taken_over)
{
	int			server = server_on("127.0.0.1", SERVER_PORT);

	set_port_range(PORT_MIN, PORT_MAX);
	set_sysctl("net.ipv4.tcp_tw_reuse", "0");
	for (int round = 0; round < 3; round++)
	{
		if (round > 0)
			plain_finds_no_port("127.0.0.1", SERVER_PORT);
		for (int i = 0; i < PORTS; i++)
		{
			int			fd = stream_socket("127.0.0.1");
			int			accepted;

			expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), 0);
			accepted = accept_from(server);
			close(fd);
			wait_for_end(accepted);
			close(accepted);
		}
		expect_equal(ports_in_time_wait(PORT_MIN, PORT_MAX), PORTS);
	}
}

/* They serve the next destination. */
TEST_IN_NETNS(without_timestamps_own_time_waits_are_taken)
{
	int			server = server_on("127.0.0.1", SERVER_PORT);

	set_port_range(PORT_MIN, PORT_MAX);
	set_sysctl("net.ipv4.tcp_timestamps", "0");
	for (int port = PORT_MIN; port <= PORT_MAX; port++)
		leave_own_time_wait(port, "127.0.0.1", server);
	expect_equal(finds_no_port("127.0.0.1", SERVER_PORT).connections_taken, PORTS);
	server_on("127.0.0.1", SERVER_PORT + 1);
	for (int i = 0; i < PORTS; i++)
		connects_to("127.0.0.1", SERVER_PORT + 1, true, NULL);
}

TEST_IN_NETNS(own_time_waits_come_last)
{
	int			server = server_on("127.0.0.1", SERVER_PORT);

	crowd(PORT_MIN, PORT_MAX);
	set_sysctl("net.ipv4.tcp_tw_reuse", "0");
	for (int port = PORT_MIN; port <= PORT_MAX; port += 2)
		leave_own_time_wait(port, "127.0.0.1", server);
	for (int i = 0; i < PORTS; i++)
	{
		int			port = local_port(connects_to("127.0.0.1", SERVER_PORT, true, NULL));

		require(port % 2 == (i < PORTS / 2), "connection %d from port %d", i, port);
	}
	finds_no_port("127.0.0.1", SERVER_PORT);
}

/* Connections without SO_REUSEADDR: the kernel shares their ports itself. */
TEST_IN_NETNS(ports_of_plain_connections_serve_the_next_destination)
{
	Ports		taken = {{false}};

	set_port_range(PORT_MIN, PORT_MAX);
	server_on("127.0.0.1", SERVER_PORT);
	server_on("127.0.0.1", SERVER_PORT + 1);
	for (int i = 0; i < PORTS; i++)
		connect_to(stream_socket("127.0.0.1"), "127.0.0.1", SERVER_PORT);
	count_anew();
	for (int i = 0; i < PORTS; i++)
		connects_to("127.0.0.1", SERVER_PORT + 1, true, &taken);
	expect_equal(asked.binds, 0);
	expect_equal(asked.connects, PORTS);
}

TEST_IN_NETNS(the_last_port_is_found_among_listeners_and_holders)
{
	IcListenerReport report;
	Neighbour	exclusive = {.address = "0.0.0.0"};
	Neighbour	listening = {"127.0.0.1", .reuse_address = true, .listens = true};

	crowd(PORT_MIN + 17, PORT_MIN + 17);
	set_port_range(PORT_MIN, PORT_MAX);
	for (int port = PORT_MIN; port <= PORT_MAX; port++)
		expect(port == PORT_MIN + 17 ||
			   open_neighbour(port % 2 ? &exclusive : &listening, port) >= 0);
	server_on("127.0.0.1", SERVER_PORT);
	plain_finds_no_port("127.0.0.1", SERVER_PORT);
	expect_equal(local_port(connects_to("127.0.0.1", SERVER_PORT, true, NULL)),
				 PORT_MIN + 17);
	report = finds_no_port("127.0.0.1", SERVER_PORT);
	expect_equal(report.ports_in_use, PORTS - 1);
	expect_equal(report.connections_taken, 1);
	expect_equal(report.holders.listening, PORTS / 2);
}

/* A listener on another address is not in the way of the route's source. */
TEST_IN_NETNS(a_port_that_others_listen_on_elsewhere_will_do)
{
	Neighbour	listening = {"127.0.0.9", .reuse_address = true, .listens = true};

	set_port_range(PORT_MIN, PORT_MIN + 7);
	for (int port = PORT_MIN; port <= PORT_MIN + 7; port++)
		expect(open_neighbour(&listening, port) >= 0);
	server_on("127.0.0.1", SERVER_PORT);
	plain_finds_no_port("127.0.0.1", SERVER_PORT);
	for (int i = 0; i < 8; i++)
		connects_to("127.0.0.1", SERVER_PORT, true, NULL);
	finds_no_port("127.0.0.1", SERVER_PORT);
}

/* The caller has bound an address, and leaves the port to connect(). */
static int
socket_from(const char *source)
{
	int			fd = stream_socket(source);

	set_int(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	expect_equal(plain_bind(fd, source, 0), 0);
	expect(has_no_port(fd));
	return fd;
}

TEST_IN_NETNS(the_address_that_the_caller_bound_is_the_source)
{
	int			fd;

	crowd(PORT_MIN, PORT_MAX);
	server_on("127.0.0.1", SERVER_PORT);
	for (int i = 0; i < PORTS; i++)
	{
		fd = socket_from("127.0.0.2");
		expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), 0);
		require(strcmp(local_address(fd), "127.0.0.2") == 0, "it comes from %s",
				local_address(fd));
		expect_equal(socket_option(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT), 1);
	}

	/* On failure the address stays bound. Another one has its own ports. */
	fd = socket_from("127.0.0.2");
	expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), EADDRNOTAVAIL);
	expect(has_no_port(fd));
	expect(strcmp(local_address(fd), "127.0.0.2") == 0);
	fd = socket_from("127.0.0.3");
	expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), 0);
}

/*
 * Where there is no way
 */

TEST_IN_NETNS(an_unreachable_destination_is_told_at_once)
{
	static const char *const unreachable[] = {"192.0.2.1", "2001:db8::1"};

	skip_without_ipv6();
	crowd(PORT_MIN, PORT_MAX);
	for (int i = 0; i < 2; i++)
	{
		int			fd = stream_socket(unreachable[i]);

		now_doing("%s", unreachable[i]);
		expect_equal(plain_connect(fd, unreachable[i], 80), ENETUNREACH);
		count_anew();
		expect_equal(ic_connect(fd, unreachable[i], 80, NULL), ENETUNREACH);
		expect_equal(asked.binds, 0);
		expect_equal(asked.connects, 1);
		expect(has_no_port(fd));
	}
}

/*
 * No socket listens there. The caller's has connected once, from a port that
 * was named for it, as after bind() and connect(). From there it can connect
 * later.
 */
TEST_IN_NETNS(a_connection_that_is_refused_was_tried_once)
{
	struct pollfd waiting = {.events = POLLOUT};
	int			fds[20];

	crowd(PORT_MIN, PORT_MAX);
	for (size_t i = 0; i < lengthof(fds); i++)
	{
		fds[i] = stream_socket("127.0.0.1");
		count_anew();
		expect_equal(ic_connect(fds[i], "127.0.0.1", SERVER_PORT, NULL),
					 ECONNREFUSED);
		/* The first one found no port. */
		expect_equal(asked.connects, 2);
	}
	server_on("127.0.0.1", SERVER_PORT);
	expect_equal(ic_connect(fds[0], "127.0.0.1", SERVER_PORT, NULL), 0);

	/* One that does not wait finds it in SO_ERROR. */
	fds[0] = stream_socket("127.0.0.1");
	expect(fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0);
	expect_equal(ic_connect(fds[0], "127.0.0.1", SERVER_PORT + 1, NULL),
				 EINPROGRESS);
	waiting.fd = fds[0];
	expect_equal(poll(&waiting, 1, 10000), 1);
	expect_equal(socket_option(fds[0], SOL_SOCKET, SO_ERROR), ECONNREFUSED);
}

/* Whatever connect() does: it may pick the destination's own port. */
static void
from_the_only_port(void *argument)
{
	const char *address = argument;
	int			fd = stream_socket(address);

	skip_without_ipv6();
	now_doing("%s", address);
	crowd(PORT_MIN, PORT_MIN);
	for (no_scout = 0; no_scout <= EPERM; no_scout += EPERM)
	{
		expect_equal(ic_connect(fd, address, PORT_MIN, NULL), EADDRNOTAVAIL);
		expect(has_no_port(fd));
	}
	no_scout = 0;

	/* The next port would do, but no socket answers there. */
	crowd(PORT_MIN + 1, PORT_MIN + 1);
	set_port_range(PORT_MIN, PORT_MIN + 1);
	for (int i = 0; i < 16; i++)
		expect_equal(ic_connect(stream_socket(address), address, PORT_MIN, NULL),
					 ECONNREFUSED);
}

static void
nobody_connects_to_himself(void **state)
{
	static const char *const own[] = {
		"127.0.0.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "::ffff:0.0.0.0"
	};

	(void) state;
	for (size_t i = 0; i < lengthof(own); i++)
		assert_passes_in_netns(from_the_only_port, (void *) own[i]);
}

/* The same port number on another address is not oneself. */
TEST_IN_NETNS(the_same_port_on_another_address_will_do)
{
	int			fd = socket_from("127.0.0.2");

	crowd(PORT_MIN, PORT_MIN);
	server_on("127.0.0.1", PORT_MIN);
	expect_equal(ic_connect(fd, "127.0.0.1", PORT_MIN, NULL), 0);
	expect_equal(local_port(fd), PORT_MIN);
}

TEST_IN_NETNS(reserved_ports_are_passed_over)
{
	IcListenerReport report;

	crowd(PORT_MIN, PORT_MAX);
	set_sysctl("net.ipv4.ip_local_reserved_ports", "%d-%d,%d", PORT_MIN,
			   PORT_MIN + 29, PORT_MAX);
	server_on("127.0.0.1", SERVER_PORT);
	for (int i = 0; i < PORTS - 31; i++)
	{
		int			port = local_port(connects_to("127.0.0.1", SERVER_PORT,
												  true, NULL));

		require(PORT_MIN + 30 <= port && port < PORT_MAX, "port %d", port);
	}
	report = finds_no_port("127.0.0.1", SERVER_PORT);
	expect_equal(report.ports_tried, PORTS - 31);
	expect_equal(report.ports_reserved, 31);
}

TEST_IN_NETNS(the_caller_s_window_is_obeyed_and_left)
{
	int			ends = (int) ((unsigned) (PORT_MIN + 13) << 16 | (PORT_MIN + 10));

	if (!kernel_has_windows())
		return;					/* The caller cannot set one, either. */
	crowd(PORT_MIN, PORT_MAX);
	server_on("127.0.0.1", SERVER_PORT);
	for (int i = 0; i < 5; i++)
	{
		int			fd = stream_socket("127.0.0.1");

		set_window(fd, PORT_MIN + 10, PORT_MIN + 13);
		expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL),
					 i < 4 ? 0 : EADDRNOTAVAIL);
		expect(i < 4 ? PORT_MIN + 10 <= local_port(fd) &&
			   local_port(fd) <= PORT_MIN + 13 : has_no_port(fd));
		expect_equal(socket_option(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE), ends);
	}
}

/* Its connection exists, so the call fails, as connect() does. */
TEST_IN_NETNS(a_port_that_the_caller_chose_is_kept)
{
	int			fd = stream_socket("127.0.0.1");

	crowd(PORT_MIN, PORT_MAX);
	server_on("127.0.0.1", SERVER_PORT);
	connected_from("127.0.0.1", PORT_MIN + 5, "127.0.0.1", SERVER_PORT);
	set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	expect_equal(plain_bind(fd, "127.0.0.1", PORT_MIN + 5), 0);
	count_anew();
	expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), EADDRNOTAVAIL);
	expect_equal(local_port(fd), PORT_MIN + 5);
	expect_equal(asked.connects, 1);
}

/*
 * Who watches the socket
 */

TEST_IN_NETNS(epoll_that_was_told_before_is_told)
{
	int			watching = epoll_create1(EPOLL_CLOEXEC);

	crowd(PORT_MIN, PORT_MAX);
	server_on("127.0.0.1", SERVER_PORT);
	for (int i = 0; i < PORTS; i++)
	{
		int			fd = stream_socket("127.0.0.1");
		struct epoll_event event = {
			.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.fd = fd
		};
		int			error;

		expect(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
		expect(epoll_ctl(watching, EPOLL_CTL_ADD, fd, &event) == 0);
		error = ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL);
		require(error == 0 || error == EINPROGRESS, "%s", strerror(error));
		do
			expect_equal(epoll_wait(watching, &event, 1, 5000), 1);
		while ((event.events & EPOLLOUT) == 0 || (event.events & EPOLLHUP) != 0);
		expect_equal(event.data.fd, fd);
	}
}

static void
do_nothing(int signal)
{
	(void) signal;
}

TEST_IN_NETNS(a_signal_interrupts_and_the_connection_goes_on)
{
	struct sigaction action = {.sa_handler = do_nothing};
	struct itimerval soon = {.it_value = {0, 100000}};
	struct pollfd waiting = {.events = POLLIN};
	Neighbour	neighbour = {"127.0.0.1", .reuse_address = true, .listens = true};
	int			server = open_neighbour(&neighbour, SERVER_PORT);
	int			fd = stream_socket("127.0.0.1");
	int			port;

	/*
	 * The queue has room for two, which are there. (With a backlog of 0 old
	 * kernels answer none without SYN cookies.)
	 */
	expect(listen(server, 1) == 0);
	for (int i = 0; i < 2; i++)
		connect_to(stream_socket("127.0.0.1"), "127.0.0.1", SERVER_PORT);
	crowd(PORT_MIN, PORT_MAX);
	expect(sigaction(SIGALRM, &action, NULL) == 0);
	expect(setitimer(ITIMER_REAL, &soon, NULL) == 0);
	expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), EINTR);
	port = local_port(fd);
	require(PORT_MIN <= port && port <= PORT_MAX, "port %d", port);

	/* It was sent once, and comes through. */
	for (int i = 0; i < 2; i++)
		close(accept_from(server));
	wait_for_connection(fd);
	pass_a_number(fd, accept_from(server));
	waiting.fd = server;
	expect_equal(poll(&waiting, 1, 0), 0);
	expect_equal(local_port(fd), port);

	/* As connect() does. */
	expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), 0);
	expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), EISCONN);
}

/*
 * Many at once
 */

#define STARTERS 96

typedef struct Outcome
{
	int			port;			/* 0: none */
	int			listener_port;
	int			lost;
} Outcome;

static void
connect_one(int index, void *result, void *argument)
{
	int			destinations = *(int *) argument;
	Outcome    *outcome = result;
	int			fd = stream_socket("127.0.0.1");
	int			error;

	count_anew();
	error = ic_connect(fd, "127.0.0.1", SERVER_PORT + index % destinations, NULL);
	require(error == 0 || error == EADDRNOTAVAIL, "%s", strerror(error));
	outcome->port = error == 0 ? local_port(fd) : 0;
	outcome->lost = asked.lost;
}

static void
connect_at_once(int processes, int destinations, int expected)
{
	Outcome		outcomes[STARTERS];
	Ports		taken[2] = {{{false}}};
	int			connected = 0;

	for (int i = 0; i < destinations; i++)
		server_on("127.0.0.1", SERVER_PORT + i);
	run_at_once(processes, connect_one, &destinations, outcomes, sizeof(*outcomes));
	for (int i = 0; i < processes; i++)
	{
		int			port = outcomes[i].port;
		bool	   *has = &taken[i % destinations].has[port];

		expect_equal(outcomes[i].lost, 0);
		if (port == 0)
			continue;
		require(PORT_MIN <= port && port <= PORT_MAX && !*has, "port %d", port);
		*has = true;
		connected++;
	}
	expect_equal(connected, expected);
}

/*
 * Without tcp_diag nobody can be asked after the claim: /proc is read before,
 * and is slow.
 */
static void
need_tcp_diag(void)
{
	IcListenerCensus census = IC_LISTENER_CENSUS_INIT;

	ic_listener_census(NULL, &census);
	if (census.holders.source != IC_LISTENER_CENSUS_SOURCE_NETLINK)
		skip_child("tcp_diag: a kernel with CONFIG_INET_TCP_DIAG");
}

TEST_IN_NETNS(as_many_processes_as_ports_connect_at_once)
{
	need_tcp_diag();
	crowd(PORT_MIN, PORT_MAX);
	connect_at_once(PORTS, 1, PORTS);
}

TEST_IN_NETNS(a_crowd_has_every_port)
{
	need_tcp_diag();
	crowd(PORT_MIN, PORT_MAX);
	connect_at_once(STARTERS, 1, PORTS);
}

TEST_IN_NETNS(a_crowd_to_two_destinations_is_connected)
{
	need_tcp_diag();
	crowd(PORT_MIN, PORT_MAX);
	connect_at_once(STARTERS, 2, STARTERS);
}

/* Free ports, which connect() and naming find together. */
TEST_IN_NETNS(a_crowd_on_free_ports_has_every_port)
{
	set_port_range(PORT_MIN, PORT_MAX);
	connect_at_once(STARTERS, 1, PORTS);
}

static int
try_to_listen(void)
{
	int			fd = stream_socket("0.0.0.0");
	int			error = ic_bind(fd, "0.0.0.0", 0, NULL);

	if (error == 0)
		error = ic_listen(fd, 8);
	require(error == 0 || error == EADDRINUSE, "%s", strerror(error));
	if (error != 0)
		close(fd);
	return error == 0 ? local_port(fd) : 0;
}

static int
try_to_connect(void)
{
	int			fd = stream_socket("127.0.0.1");
	int			error = ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL);

	require(error == 0 || error == EADDRNOTAVAIL, "%s", strerror(error));
	if (error != 0)
		close(fd);
	return error == 0 ? local_port(fd) : 0;
}

/* Asks the kernel for every port, one by one. */
static void
require_no_port(bool to_listen)
{
	for (int port = PORT_MIN; port <= PORT_MAX; port++)
	{
		int			fd = stream_socket("127.0.0.1");
		int			error;

		set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
		error = plain_bind(fd, to_listen ? "0.0.0.0" : "127.0.0.1", port);
		if (error == 0)
			error = to_listen ? listen(fd, 8) :
				plain_connect(fd, "127.0.0.1", SERVER_PORT);
		require(error != 0, "port %d was free to %s", port,
				to_listen ? "listen on" : "connect from");
		close(fd);
	}
}

static void
listen_and_connect(int index, void *result, void *unused)
{
	Outcome    *outcome = result;

	(void) unused;
	if (index % 2 == 0)
		outcome->listener_port = try_to_listen();
	outcome->port = try_to_connect();
	if (index % 2 != 0)
		outcome->listener_port = try_to_listen();

	/* All hold what they got until it has been looked at. */
	wait_for_all();
	if (index == 0)
	{
		require_no_port(true);
		require_no_port(false);
	}
	wait_for_all();
}

static void
fill_both_ways(void *crowded)
{
	Outcome		outcomes[STARTERS];
	Ports		listening = {{false}};
	int			listeners = 0;

	if (*(bool *) crowded)
		crowd(PORT_MIN, PORT_MAX);
	set_port_range(PORT_MIN, PORT_MAX);
	server_on("127.0.0.1", SERVER_PORT);
	run_at_once(STARTERS, listen_and_connect, NULL, outcomes, sizeof(*outcomes));
	for (int i = 0; i < STARTERS; i++)
	{
		int			port = outcomes[i].listener_port;

		require(port == 0 || !listening.has[port], "port %d has two listeners", port);
		listening.has[port] = true;
		listeners += port != 0;
	}
	expect_equal(listeners, PORTS);
}

static void
listeners_and_connections_fill_the_range_both_ways(void **state)
{
	static bool crowded[] = {false, true};

	(void) state;
	for (int i = 0; i < 2; i++)
		assert_passes_in_netns(fill_both_ways, &crowded[i]);
}

/* Short connections of many processes, where few ports are left. */
static void
connect_again_and_again(int index, void *result, void *unused)
{
	Outcome    *outcome = result;
	struct timespec held = {0, 1000000};
	struct linger reset = {1, 0};

	(void) index;
	(void) unused;
	count_anew();
	for (int i = 0; i < 100; i++)
	{
		int			fd = stream_socket("127.0.0.1");
		int			error = ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL);

		require(error == 0 || error == EADDRNOTAVAIL, "%s", strerror(error));
		outcome->port += error == 0;
		nanosleep(&held, NULL);
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(fd);
	}
	outcome->lost = asked.lost;
}

TEST_IN_NETNS(nothing_is_lost_to_a_race)
{
	Neighbour	listening = {"127.0.0.1", .listens = true};
	Outcome		outcomes[16];
	int			made = 0;
	int			lost = 0;
	int			server = server_on("127.0.0.1", SERVER_PORT);

	need_tcp_diag();
	crowd(PORT_MIN + 50, PORT_MAX);
	set_port_range(PORT_MIN, PORT_MAX);
	for (int port = PORT_MIN; port < PORT_MIN + 50; port++)
		expect(open_neighbour(&listening, port) >= 0);
	/* If it closed first, a new SYN could overtake the old RST. */
	allow_descriptors(4096);
	if (fork_child() == 0)
		while (accept(server, NULL, NULL) >= 0)
			;
	run_at_once(16, connect_again_and_again, NULL, outcomes, sizeof(*outcomes));
	for (int i = 0; i < 16; i++)
	{
		made += outcomes[i].port;
		lost += outcomes[i].lost;
	}
	printf("# 16 processes on 14 ports: %d of 1600 connections, %d lost to a race\n",
		   made, lost);
	expect_equal(lost, 0);
	expect(made > 800);
}

/*
 * What is refused to the library costs no connection
 */

TEST_IN_NETNS(no_port_is_lost_where_something_is_refused)
{
	static const struct
	{
		const char *name;
		int		   *refused;
		int			error;
	}			cases[] = {
		{"the way", &no_scout, EPERM}, {"the way", &no_scout, EAGAIN},
		{"AF_UNIX", &no_claim, EACCES}, {"AF_UNIX", &no_claim, EAFNOSUPPORT},
		{"AF_UNIX", &no_claim, EMFILE}, {"names", &squatted, EACCES},
		{"names", &squatted, EADDRINUSE}, {"netlink", &no_netlink, EPERM},
		{"netlink", &no_netlink, EPROTONOSUPPORT},
	};

	crowd(PORT_MIN, PORT_MAX);
	for (size_t i = 0; i < lengthof(cases); i++)
	{
		int			port = SERVER_PORT + (int) i;
		int			made = 0;

		now_doing("%s: %s", cases[i].name, strerror(cases[i].error));
		server_on("127.0.0.1", port);
		*cases[i].refused = cases[i].error;

		/* Without netlink, one port is named, and the answer stands. */
		for (int j = 0; j < PORTS; j++)
			made += ic_connect(stream_socket("127.0.0.1"), "127.0.0.1", port,
							   NULL) == 0;
		require(made == PORTS || (cases[i].refused == &no_netlink && made > PORTS / 3),
				"%d connections", made);
		*cases[i].refused = 0;
	}
}

/*
 * A socket of another network namespace gets the system call's own answer.
 */

/* The call was made in a namespace whose range is full; ours has free ports. */
TEST_IN_NETNS(another_namespace_has_the_system_call_s_answers)
{
	int			here;
	int			there;
	int			fd;
	uint64_t	cookie;
	socklen_t	size = sizeof(cookie);

	crowd(PORT_MIN, PORT_MIN + 7);
	server_on("127.0.0.1", SERVER_PORT);
	if (getsockopt(stream_socket("127.0.0.1"), SOL_SOCKET, SO_NETNS_COOKIE,
				   &cookie, &size) != 0)
		skip_child("SO_NETNS_COOKIE: Linux 5.14");
	here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (unshare(CLONE_NEWNET) != 0)
		skip_child("a network namespace: run as root with CAP_SYS_ADMIN");
	there = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	expect(here >= 0 && there >= 0);
	for (int i = 0; i < 8; i++)
	{
		expect(setns(here, CLONE_NEWNET) == 0);
		fd = stream_socket("127.0.0.1");
		if (i >= 4)
		{
			/* At home, for comparison. */
			expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), 0);
			continue;
		}
		expect(setns(there, CLONE_NEWNET) == 0);
		count_anew();
		expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), EADDRNOTAVAIL);
		expect(has_no_port(fd));
		expect_equal(asked.binds + asked.questions + asked.dumps + asked.claims, 0);
		expect_equal(ic_bind(fd, "127.0.0.1", 0, NULL), EADDRINUSE);
		expect_equal(ic_bind(stream_socket("127.0.0.1"), "127.0.0.1", 0, NULL), 0);
		expect_equal(ic_listen(fd, 8), EADDRINUSE);
		expect(has_no_port(fd));
	}
}

/*
 * What it costs
 */

TEST_IN_NETNS(a_quiet_host_costs_one_connect_and_nothing_else)
{
	server_on("127.0.0.1", SERVER_PORT);
	count_anew();
	for (int i = 0; i < 8; i++)
		connects_to("127.0.0.1", SERVER_PORT, i % 2, NULL);
	expect_equal(asked.connects, 8);
	expect_equal(asked.binds + asked.windows + asked.questions + asked.dumps +
				 asked.claims, 0);
}

/* A crowded host does not stay one. */
TEST_IN_NETNS(when_the_crowd_is_gone_so_is_the_search)
{
	Ports		all = ports_from_to(PORT_MIN, PORT_MIN + 599);
	Neighbour	exclusive = {.address = "0.0.0.0"};
	int			holder;

	set_port_range(PORT_MIN, PORT_MIN + 599);
	server_on("127.0.0.1", SERVER_PORT);
	holder = hold_ports(&exclusive, &all);
	finds_no_port("127.0.0.1", SERVER_PORT);
	end_child(holder);
	connects_to("127.0.0.1", SERVER_PORT, true, NULL);
	count_anew();
	connects_to("127.0.0.1", SERVER_PORT, true, NULL);
	expect_equal(asked.connects, 1);
	expect_equal(asked.binds + asked.windows, 0);
}

/* CPU time, which other processes do not change, in microseconds. */
static double
microseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

/* The average of eight calls, which are held. */
static double
cost_of(int (*call) (int fd, int number), int error)
{
	double		sum = 0;

	for (int i = 0; i < 8; i++)
	{
		int			fd = stream_socket("127.0.0.1");
		double		start = microseconds();
		int			returned = call(fd, i);

		sum += microseconds() - start;
		expect_equal(returned, error);
		if (error != 0)
			close(fd);
	}
	return sum / 8;
}

static int
call_connect(int fd, int number)
{
	(void) number;
	return plain_connect(fd, "127.0.0.1", SERVER_PORT);
}

static int
call_ours(int fd, int number)
{
	(void) number;
	return ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL);
}

/* The default range, with that many ports left for the destination. */
static void
fill_default_range(int left)
{
	Ports		leave = {{false}};
	int			server = server_on("127.0.0.1", SERVER_PORT);
	struct timespec start;
	struct timespec end;

	clock_gettime(CLOCK_MONOTONIC, &start);
	set_sysctl("net.ipv4.tcp_timestamps", "0");
	write_sysctl("net.ipv4.tcp_max_tw_buckets", "262144");
	set_port_range(32768, 60999);
	srandom(7);
	for (int i = 0; i < left;)
	{
		int			port = 32768 + random() % 28232;

		i += !leave.has[port];
		leave.has[port] = true;
	}
	for (int port = 32768; port <= 60999; port++)
	{
		if (leave.has[port])
			leave_in_time_wait(port, port);
		else
			leave_own_time_wait(port, "127.0.0.1", server);
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	if (end.tv_sec - start.tv_sec > 30)
		skip_child("a faster processor: TIME_WAIT is over after 60 s");
}

/*
 * Every 4-tuple is taken. One whole search finds it out, and then there is none
 * towards that destination for ten times as long, but a short one. Other
 * destinations are not held up.
 */
TEST_IN_NETNS(where_there_is_no_port_nobody_searches_for_long)
{
	double		failing;
	double		ours;
	struct timespec pause;
	struct timespec start;
	struct timespec end;
	int			fd = stream_socket("127.0.0.1");

	need_tcp_diag();
	fill_default_range(0);
	failing = cost_of(call_connect, EADDRNOTAVAIL);
	count_anew();
	clock_gettime(CLOCK_MONOTONIC, &start);
	ours = microseconds();
	expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), EADDRNOTAVAIL);
	ours = microseconds() - ours;
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("# every 4-tuple taken: connect() %.0f us of CPU time, the first call "
		   "%.0f, %d questions, %d dumps\n", failing, ours, asked.questions,
		   asked.dumps);
	/* A question for each port takes a hundred times as long. */
	require(ours <= 50 * failing, "%.0f of %.0f us", ours, failing);
	expect(asked.dumps >= 1 && asked.dumps <= 2);

	count_anew();
	ours = cost_of(call_ours, EADDRNOTAVAIL);
	printf("# the next calls: %.0f us, %d questions for 8\n", ours, asked.questions);
	expect_equal(asked.dumps, 0);
	expect(asked.questions <= 8 * 20);
	server_on("127.0.0.1", SERVER_PORT + 1);
	count_anew();
	expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT + 1, NULL), 0);
	fd = stream_socket("127.0.0.1");

	/* Not a wait for something: the time that was promised. */
	pause.tv_sec = 0;
	pause.tv_nsec = ((end.tv_sec - start.tv_sec) * 1000000000L + end.tv_nsec -
					 start.tv_nsec) * 10;
	pause.tv_sec = pause.tv_nsec / 1000000000;
	pause.tv_nsec %= 1000000000;
	nanosleep(&pause, NULL);
	count_anew();
	expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), EADDRNOTAVAIL);
	expect(asked.dumps >= 1 && asked.dumps <= 2);
}

TEST_IN_NETNS(the_last_ten_ports_are_found)
{
	double		failing;
	double		ours;

	need_tcp_diag();
	fill_default_range(10);
	failing = cost_of(call_connect, EADDRNOTAVAIL);
	ours = cost_of(call_ours, 0);
	printf("# ten 4-tuples left: connect() %.0f us of CPU time, ours %.0f\n",
		   failing, ours);
	require(ours <= 50 * failing, "%.0f of %.0f us", ours, failing);
}

/* A successful connect() by name. */
static int
call_named(int fd, int number)
{
	set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	expect_equal(plain_bind(fd, "127.0.0.1", 20000 + number), 0);
	return plain_connect(fd, "127.0.0.1", SERVER_PORT);
}

/* Every second port has a connection there; listeners left the others. */
TEST_IN_NETNS(half_of_the_ports_are_as_good_as_all)
{
	int			server = server_on("127.0.0.1", SERVER_PORT);
	double		named;
	double		ours;

	need_tcp_diag();
	set_sysctl("net.ipv4.tcp_timestamps", "0");
	set_port_range(40000, 42047);
	for (int port = 40000; port <= 42047; port++)
	{
		if (port % 2 == 0)
			leave_in_time_wait(port, port);
		else
			leave_own_time_wait(port, "127.0.0.1", server);
	}
	cost_of(call_ours, 0);
	named = cost_of(call_named, 0);
	ours = cost_of(call_ours, 0);
	printf("# half of the 4-tuples taken: by name %.0f us of CPU time, ours %.0f\n",
		   named, ours);
	require(ours <= 20 * named, "%.0f of %.0f us", ours, named);
}

int
main(void)
{
	return run_all(
		test(ports_that_listeners_left_serve_every_destination_once),
		test(own_time_waits_are_taken_over),
		test(without_timestamps_own_time_waits_are_taken),
		test(own_time_waits_come_last),
		test(ports_of_plain_connections_serve_the_next_destination),
		test(the_last_port_is_found_among_listeners_and_holders),
		test(a_port_that_others_listen_on_elsewhere_will_do),
		test(the_address_that_the_caller_bound_is_the_source),
		test(an_unreachable_destination_is_told_at_once),
		test(a_connection_that_is_refused_was_tried_once),
		test(nobody_connects_to_himself),
		test(the_same_port_on_another_address_will_do),
		test(reserved_ports_are_passed_over),
		test(the_caller_s_window_is_obeyed_and_left),
		test(a_port_that_the_caller_chose_is_kept),
		test(epoll_that_was_told_before_is_told),
		test(a_signal_interrupts_and_the_connection_goes_on),
		test(as_many_processes_as_ports_connect_at_once),
		test(a_crowd_has_every_port),
		test(a_crowd_to_two_destinations_is_connected),
		test(a_crowd_on_free_ports_has_every_port),
		test(listeners_and_connections_fill_the_range_both_ways),
		test(nothing_is_lost_to_a_race),
		test(no_port_is_lost_where_something_is_refused),
		test(another_namespace_has_the_system_call_s_answers),
		test(a_quiet_host_costs_one_connect_and_nothing_else),
		test(when_the_crowd_is_gone_so_is_the_search),
		test(where_there_is_no_port_nobody_searches_for_long),
		test(the_last_ten_ports_are_found),
		test(half_of_the_ports_are_as_good_as_all));
}
