/*
 * connecting.c
 *		ic_listener_connect() on a host where connect() finds no port: while one
 *		4-tuple is free, a connection gets it.
 */
#define _GNU_SOURCE

#include "test.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

#include "crowded.h"

#define PORT_MIN 40000
#define PORT_MAX 40063
#define PORTS (PORT_MAX - PORT_MIN + 1)

/* Where connections go to; outside the range. */
#define SERVER_PORT 30000

/*
 * Counts the system calls of this process. The linker's --wrap leads them
 * here.
 */
static int	binds;
static int	last_bound;			/* the port */
static int	windows;
static int	connects;
static int	last_connect;		/* 0, or the errno */
static int	exchanges;
static int	no_scout;			/* the errno of connect() on UDP sockets, or 0 */

extern int	__real_bind(int fd, const struct sockaddr *address,
						socklen_t length);
extern int	__wrap_bind(int fd, const struct sockaddr *address,
						socklen_t length);
extern int	__real_connect(int fd, const struct sockaddr *address,
						   socklen_t length);
extern int	__wrap_connect(int fd, const struct sockaddr *address,
						   socklen_t length);
extern int	__real_setsockopt(int fd, int level, int name, const void *value,
							  socklen_t size);
extern int	__wrap_setsockopt(int fd, int level, int name, const void *value,
							  socklen_t size);
extern int	__real_getsockopt(int fd, int level, int name, void *value,
							  socklen_t *size);
extern int	__wrap_getsockopt(int fd, int level, int name, void *value,
							  socklen_t *size);
extern int	__real_dup3(int fd, int place, int flags);
extern int	__wrap_dup3(int fd, int place, int flags);

int
__wrap_bind(int fd, const struct sockaddr *address, socklen_t length)
{
	binds++;
	last_bound = ntohs(((const struct sockaddr_in *) address)->sin_port);
	return __real_bind(fd, address, length);
}

int
__wrap_connect(int fd, const struct sockaddr *address, socklen_t length)
{
	int			returned;

	/* The search for a route is no connection. */
	if (socket_option(fd, SOL_SOCKET, SO_TYPE) != SOCK_STREAM)
	{
		errno = no_scout;
		return no_scout != 0 ? -1 : __real_connect(fd, address, length);
	}
	returned = __real_connect(fd, address, length);
	connects++;
	last_connect = returned == 0 ? 0 : errno;
	return returned;
}

/* As kernels before Linux 6.3. */
static bool no_windows;

static bool
is_window(int level, int name)
{
	return level == IPPROTO_IP && name == IP_LOCAL_PORT_RANGE;
}

int
__wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *size)
{
	if (no_windows && is_window(level, name))
	{
		errno = ENOPROTOOPT;
		return -1;
	}
	return __real_getsockopt(fd, level, name, value, size);
}

int
__wrap_setsockopt(int fd, int level, int name, const void *value,
				  socklen_t size)
{
	if (no_windows && is_window(level, name))
	{
		errno = ENOPROTOOPT;
		return -1;
	}
	windows += is_window(level, name);
	return __real_setsockopt(fd, level, name, value, size);
}

int
__wrap_dup3(int fd, int place, int flags)
{
	exchanges++;
	return __real_dup3(fd, place, flags);
}

static void
count_anew(void)
{
	binds = windows = connects = exchanges = 0;
}

/* What is true of every connection that was made. */
static void
expect_connection(int fd, const OpenFds *before, const char *address, int port)
{
	struct sockaddr_storage peer;
	socklen_t	size = sizeof(peer);

	require(open_fds_are(before, fd), "other fds than %d are open", fd);
	expect_equal(getpeername(fd, (struct sockaddr *) &peer, &size), 0);
	expect_equal(ntohs(((struct sockaddr_in *) &peer)->sin_port), port);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_REUSEADDR), 1);
	require(local_port(fd) != port || strcmp(local_address(fd), address) != 0,
			"it is connected to itself");
}

static void
wait_for_connection(int fd)
{
	struct pollfd waiting = {.fd = fd, .events = POLLOUT};

	expect_equal(poll(&waiting, 1, 10000), 1);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_ERROR), 0);
}

/* A connection that must work, blocking or not. Returns its port. */
static int
connects_to(const char *address, int port, bool blocking, Ports *taken)
{
	OpenFds		before = open_fds();
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	int			fd = stream_socket(address);
	int			error;
	int			from;

	if (!blocking)
		expect_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	error = ic_connect(fd, address, port, &report);
	if (blocking || error == 0)
		require(error == 0, "%s: %s", strerror(error), report.message);
	else
	{
		require(error == EINPROGRESS, "%s: %s", strerror(error),
				report.message);
		expect_equal(report.error, EINPROGRESS);
		wait_for_connection(fd);
	}
	expect_connection(fd, &before, address, port);
	expect_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, blocking ? 0 : O_NONBLOCK);
	from = local_port(fd);
	if (taken != NULL)
	{
		require(!taken->has[from], "port %d came twice", from);
		taken->has[from] = true;
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
	require(open_fds_are(&before, fd), "other fds than %d are open", fd);
	expect(has_no_port(fd));

	/* The same without a report. */
	expect_equal(ic_connect(fd, address, port, NULL), EADDRNOTAVAIL);
	expect(has_no_port(fd));
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

/* How addresses are written, and where their servers are. */
static const struct
{
	const char *to;
	const char *server;
}			ways[] =
{
	{"127.0.0.1", "127.0.0.1"},
	{"::1", "::1"},
	{"::ffff:127.0.0.1", "127.0.0.1"},
};

/*
 * Every port once to each destination, and no port twice, where the system
 * call finds none.
 */
static void
fills_the_range_to(const char *to, const char *server, int server_port,
				   bool blocking)
{
	Ports		taken = {{false}};
	IcListenerReport report;

	server_on(server, server_port);
	plain_finds_no_port(to, server_port);
	for (int i = 0; i < PORTS; i++)
	{
		now_doing("%s %s, port %d, connection %d", to,
				  blocking ? "blocking" : "non-blocking", server_port, i);
		connects_to(to, server_port, blocking, &taken);
	}
	report = finds_no_port(to, server_port);
	expect_equal(report.connections_taken, PORTS);
	expect_equal(report.ports_tried, PORTS);
	expect_equal(report.ports_in_use, 0);
	expect_equal(report.port_min, PORT_MIN);
	expect_equal(report.port_max, PORT_MAX);
	expect_in(report.message, "no port to connect from in 40000-40063");
	expect_in(report.message, "64 connected to the same destination already");
	for (int port = PORT_MIN; port <= PORT_MAX; port++)
		require(taken.has[port], "port %d was not used", port);
}

static void
in_time_wait_of_listeners(void *argument)
{
	int			way = *(int *) argument / 2;
	bool		blocking = *(int *) argument % 2;

	skip_without_ipv6();
	crowd(PORT_MIN, PORT_MAX);
	for (int destination = 0; destination < 3; destination++)
		fills_the_range_to(ways[way].to, ways[way].server,
						   SERVER_PORT + destination, blocking);
}

static void
ports_that_listeners_left_serve_every_destination_once(void **state)
{
	(void) state;
	for (int i = 0; i < 6; i++)
		assert_passes_in_netns(in_time_wait_of_listeners, &i);
}

/* What connections leave that were closed here first. */
static void
connect_and_close_all(int server_port)
{
	int			server = server_on("127.0.0.1", server_port);

	for (int i = 0; i < PORTS; i++)
	{
		int			fd = stream_socket("127.0.0.1");
		int			accepted;

		expect_equal(ic_connect(fd, "127.0.0.1", server_port, NULL), 0);
		accepted = accept_from(server);
		close(fd);
		wait_for_end(accepted);
		close(accepted);
	}
	close(server);
}

/*
 * By name they are taken over at once, where timestamps tell old segments
 * from new ones. connect() waits for a second or longer.
 */
TEST_IN_NETNS(ports_in_time_wait_of_own_connections_are_taken_over)
{
	set_port_range(PORT_MIN, PORT_MAX);
	set_sysctl("net.ipv4.tcp_tw_reuse", "0");
	for (int round = 0; round < 3; round++)
	{
		if (round > 0)
			plain_finds_no_port("127.0.0.1", SERVER_PORT);
		connect_and_close_all(SERVER_PORT);
		expect_equal(ports_in_time_wait(PORT_MIN, PORT_MAX), PORTS);
	}
}

TEST_IN_NETNS(ports_in_time_wait_of_own_connections_serve_the_next_destination)
{
	set_port_range(PORT_MIN, PORT_MAX);
	set_sysctl("net.ipv4.tcp_timestamps", "0");
	connect_and_close_all(SERVER_PORT);
	expect_equal(finds_no_port("127.0.0.1", SERVER_PORT).connections_taken,
				 PORTS);

	server_on("127.0.0.1", SERVER_PORT + 1);
	for (int i = 0; i < PORTS; i++)
		connects_to("127.0.0.1", SERVER_PORT + 1, true, NULL);
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
	expect_equal(binds, 0);
	expect_equal(connects, PORTS);
}

TEST_IN_NETNS(the_last_port_is_found_among_listeners_and_holders)
{
	IcListenerReport report;
	Neighbour	exclusive = {.address = "0.0.0.0"};
	Neighbour	listening = {"127.0.0.1", .reuse_address = true,.listens = true};

	crowd(PORT_MIN + 17, PORT_MIN + 17);
	set_port_range(PORT_MIN, PORT_MAX);
	for (int port = PORT_MIN; port <= PORT_MAX; port++)
	{
		if (port != PORT_MIN + 17)
			expect(open_neighbour(port % 2 ? &exclusive : &listening, port) >= 0);
	}
	server_on("127.0.0.1", SERVER_PORT);
	plain_finds_no_port("127.0.0.1", SERVER_PORT);
	expect_equal(local_port(connects_to("127.0.0.1", SERVER_PORT, true, NULL)),
				 PORT_MIN + 17);
	report = finds_no_port("127.0.0.1", SERVER_PORT);
	expect_equal(report.ports_in_use, PORTS - 1);
	expect_equal(report.connections_taken, 1);
	/* Linux 6.8 and later show sockets that are only bound. */
	if (report.ports_unknown == 0)
		expect_equal(report.ports_bound, PORTS / 2 - 1);
	expect_equal(report.ports_listening, PORTS / 2);
}

/* A listener on another address is not in the way of the route's source. */
TEST_IN_NETNS(a_port_that_others_listen_on_elsewhere_will_do)
{
	Neighbour	listening = {"127.0.0.9", .reuse_address = true,.listens = true};

	set_port_range(PORT_MIN, PORT_MIN + 7);
	for (int port = PORT_MIN; port <= PORT_MIN + 7; port++)
		expect(open_neighbour(&listening, port) >= 0);
	server_on("127.0.0.1", SERVER_PORT);
	plain_finds_no_port("127.0.0.1", SERVER_PORT);
	for (int i = 0; i < 8; i++)
		connects_to("127.0.0.1", SERVER_PORT, true, NULL);
	finds_no_port("127.0.0.1", SERVER_PORT);
}

/*
 * The caller has bound an address, and leaves the port to connect().
 */
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
		require(strcmp(local_address(fd), "127.0.0.2") == 0,
				"it comes from %s", local_address(fd));
		expect_equal(socket_option(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT), 1);
	}

	/* Another address has its own ports. */
	fd = socket_from("127.0.0.3");
	expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), 0);

	/* On failure the address stays bound. */
	fd = socket_from("127.0.0.2");
	expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), EADDRNOTAVAIL);
	expect(has_no_port(fd));
	require(strcmp(local_address(fd), "127.0.0.2") == 0,
			"the address is %s now", local_address(fd));
}

/*
 * A range wide enough for the windows of a crowded host, with one port for
 * connect(). Often it is outside the window, and the first port that is named
 * is taken.
 */
TEST_IN_NETNS(the_address_stays_bound_when_the_kernel_picks_the_port_at_last)
{
	int			port_max = PORT_MIN + 699;
	int			free_port = PORT_MIN + 3;	/* outside most windows */
	struct linger reset = {1, 0};

	leave_in_time_wait(PORT_MIN, free_port - 1);
	leave_in_time_wait(free_port + 1, port_max);
	set_port_range(PORT_MIN, port_max);
	server_on("127.0.0.1", SERVER_PORT);
	for (int port = PORT_MIN; port <= port_max; port++)
	{
		int			fd = stream_socket("127.0.0.2");

		if (port == free_port)
			continue;
		set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
		expect_equal(plain_bind(fd, "127.0.0.2", port), 0);
		connect_to(fd, "127.0.0.1", SERVER_PORT);
	}
	for (int i = 0; i < 24; i++)
	{
		int			fd = socket_from("127.0.0.2");

		now_doing("connection %d", i);
		expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), 0);
		expect_equal(local_port(fd), free_port);
		require(strcmp(local_address(fd), "127.0.0.2") == 0,
				"it comes from %s", local_address(fd));

		/* The next one finds no port, which makes the host crowded. */
		if (i % 2 == 0)
		{
			int			none = socket_from("127.0.0.2");

			expect_equal(ic_connect(none, "127.0.0.1", SERVER_PORT, NULL),
						 EADDRNOTAVAIL);
			close(none);
		}
		expect(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) == 0);
		close(fd);
	}
}

/*
 * Where there is no way
 */

static const char *const unreachable[] = {"192.0.2.1", "2001:db8::1"};

TEST_IN_NETNS(an_unreachable_destination_is_told_at_once)
{
	skip_without_ipv6();
	crowd(PORT_MIN, PORT_MAX);
	for (int i = 0; i < 2; i++)
	{
		int			plain = stream_socket(unreachable[i]);
		int			fd = stream_socket(unreachable[i]);

		now_doing("%s", unreachable[i]);
		expect_equal(plain_connect(plain, unreachable[i], 80), ENETUNREACH);
		count_anew();
		expect_equal(ic_connect(fd, unreachable[i], 80, NULL), ENETUNREACH);
		expect_equal(binds, 0);
		expect_equal(connects, 1);
		expect_equal(exchanges, 0);
		expect(has_no_port(fd));
	}
}

/* No socket listens there. The caller's is as good as after connect(). */
TEST_IN_NETNS(a_refused_connection_leaves_the_socket_unbound)
{
	crowd(PORT_MIN, PORT_MAX);
	for (int i = 0; i < 20; i++)
	{
		OpenFds		before = open_fds();
		int			fd = stream_socket("127.0.0.1");

		count_anew();
		expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL),
					 ECONNREFUSED);
		expect(binds > 0);
		require(open_fds_are(&before, fd), "other fds than %d are open", fd);
		expect(has_no_port(fd));
		close(fd);
	}
}

/* Its old port may be another connection's by now. */
TEST_IN_NETNS(a_socket_that_was_refused_can_connect_later)
{
	int			fd = stream_socket("127.0.0.1");
	int			neighbour = stream_socket("127.0.0.1");
	int			port;
	int			server;

	crowd(PORT_MIN, PORT_MIN + 1);
	expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), ECONNREFUSED);
	port = last_bound;
	server = server_on("127.0.0.1", SERVER_PORT);
	set_int(neighbour, SOL_SOCKET, SO_REUSEADDR, 1);
	expect_equal(plain_bind(neighbour, "127.0.0.1", port), 0);
	connect_to(neighbour, "127.0.0.1", SERVER_PORT);
	accept_from(server);
	expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), 0);
	pass_a_number(fd, accept_from(server));
}

/* On a quiet host, where connect() picked that port and getsockname() shows it. */
TEST_IN_NETNS(nor_is_a_port_of_connect_s_the_caller_s_choice)
{
	int			fd = stream_socket("127.0.0.1");

	set_port_range(PORT_MIN, PORT_MAX);
	expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), ECONNREFUSED);
	crowd(PORT_MIN, PORT_MAX);
	server_on("127.0.0.1", SERVER_PORT);
	expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), 0);
}

TEST_IN_NETNS(a_refused_nonblocking_connection_says_so_in_so_error)
{
	struct pollfd waiting = {.events = POLLOUT};
	int			fd = stream_socket("127.0.0.1");

	crowd(PORT_MIN, PORT_MAX);
	expect_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), EINPROGRESS);
	waiting.fd = fd;
	expect_equal(poll(&waiting, 1, 10000), 1);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
}

/*
 * Oneself
 */

static const char *const own_addresses[] =
{"127.0.0.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "::ffff:0.0.0.0"};

static void
from_the_only_port(void *argument)
{
	const char *address = *(const char *const *) argument;
	int			fd = stream_socket(address);

	skip_without_ipv6();
	now_doing("%s", address);
	crowd(PORT_MIN, PORT_MIN);
	expect_equal(ic_connect(fd, address, PORT_MIN, NULL), EADDRNOTAVAIL);
	expect(has_no_port(fd));

	/* The next port would do, but no socket answers there. */
	crowd(PORT_MIN + 1, PORT_MIN + 1);
	set_port_range(PORT_MIN, PORT_MIN + 1);
	for (int i = 0; i < 16; i++)
		expect_equal(ic_connect(fd, address, PORT_MIN, NULL), ECONNREFUSED);
}

static void
nobody_connects_to_himself(void **state)
{
	(void) state;
	for (size_t i = 0; i < lengthof(own_addresses); i++)
		assert_passes_in_netns(from_the_only_port, (void *) &own_addresses[i]);
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

/*
 * Ports that are not for us
 */

TEST_IN_NETNS(reserved_ports_are_passed_over)
{
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
	expect_equal(finds_no_port("127.0.0.1", SERVER_PORT).ports_tried,
				 PORTS - 31);
	set_sysctl("net.ipv4.ip_local_reserved_ports", "%d-%d", PORT_MIN, PORT_MAX);
	expect_in(finds_no_port("127.0.0.1", SERVER_PORT).message, "reserved");
}

TEST_IN_NETNS(the_caller_s_window_is_obeyed_and_left)
{
	int			ends = PORT_MIN + 10;
	int			fd;

	if (!kernel_has_windows())
		return;					/* The caller cannot set one, either. */
	crowd(PORT_MIN, PORT_MAX);
	server_on("127.0.0.1", SERVER_PORT);
	ends = (int) ((unsigned int) (PORT_MIN + 13) << 16 | (PORT_MIN + 10));
	for (int i = 0; i < 4; i++)
	{
		fd = stream_socket("127.0.0.1");
		set_window(fd, PORT_MIN + 10, PORT_MIN + 13);
		expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), 0);
		expect(PORT_MIN + 10 <= local_port(fd) && local_port(fd) <= PORT_MIN + 13);
		expect_equal(socket_option(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE), ends);
	}
	fd = stream_socket("127.0.0.1");
	set_window(fd, PORT_MIN + 10, PORT_MIN + 13);
	expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), EADDRNOTAVAIL);
	expect_equal(socket_option(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE), ends);
	expect(has_no_port(fd));

	/* Who set none has none afterwards, crowded or not. */
	for (int i = 0; i < 8; i++)
		expect_equal(socket_option(connects_to("127.0.0.1", SERVER_PORT, true,
											   NULL), IPPROTO_IP,
								   IP_LOCAL_PORT_RANGE), 0);
}

/*
 * A port that the caller chose is kept: the connection exists, so the call
 * fails.
 */
TEST_IN_NETNS(a_port_that_the_caller_chose_is_not_exchanged)
{
	int			first = stream_socket("127.0.0.1");
	int			second = stream_socket("127.0.0.1");

	crowd(PORT_MIN, PORT_MAX);
	server_on("127.0.0.1", SERVER_PORT);
	set_int(first, SOL_SOCKET, SO_REUSEADDR, 1);
	set_int(second, SOL_SOCKET, SO_REUSEADDR, 1);
	expect_equal(plain_bind(first, "127.0.0.1", PORT_MIN + 5), 0);
	expect_equal(plain_bind(second, "127.0.0.1", PORT_MIN + 5), 0);
	expect_equal(ic_connect(first, "127.0.0.1", SERVER_PORT, NULL), 0);
	count_anew();
	expect_equal(ic_connect(second, "127.0.0.1", SERVER_PORT, NULL),
				 EADDRNOTAVAIL);
	expect_equal(local_port(second), PORT_MIN + 5);
	expect_equal(exchanges, 0);
	expect_equal(connects, 1);
}

/* A port that ic_listener_bind() chose is not the caller's. */
TEST_IN_NETNS(a_port_that_bind_found_is_exchanged)
{
	crowd(PORT_MIN, PORT_MAX);
	server_on("127.0.0.1", SERVER_PORT);
	for (int i = 0; i < 8; i++)
	{
		int			fd = stream_socket("127.0.0.2");
		int			neighbour = stream_socket("127.0.0.2");
		OpenFds		before;
		int			port;

		set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
		expect_equal(ic_bind(fd, "127.0.0.2", 0, NULL), 0);
		port = local_port(fd);
		set_int(neighbour, SOL_SOCKET, SO_REUSEADDR, 1);
		expect_equal(plain_bind(neighbour, "127.0.0.2", port), 0);
		connect_to(neighbour, "127.0.0.1", SERVER_PORT);
		before = open_fds();
		expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), 0);
		require(local_port(fd) != port, "port %d is still the neighbour's", port);
		require(strcmp(local_address(fd), "127.0.0.2") == 0,
				"it comes from %s", local_address(fd));
		require(open_fds_are(&before, -1), "the open fds are others");
	}
}

/*
 * Signals
 */

static void
do_nothing(int signal)
{
	(void) signal;
}

/*
 * A server with room for two connections, which are taken. (With a backlog of
 * 0 it has room for one, but old kernels answer none without SYN cookies.)
 */
static int
full_server(void)
{
	Neighbour	neighbour = {"127.0.0.1", .reuse_address = true,.listens = true};
	int			fd = open_neighbour(&neighbour, SERVER_PORT);

	expect(fd >= 0);
	expect(listen(fd, 1) == 0);
	for (int i = 0; i < 2; i++)
		connect_to(stream_socket("127.0.0.1"), "127.0.0.1", SERVER_PORT);
	return fd;
}

TEST_IN_NETNS(a_signal_interrupts_and_the_connection_goes_on)
{
	struct sigaction action = {.sa_handler = do_nothing};
	struct itimerval soon = {.it_value = {0, 100000}};
	struct pollfd waiting = {.events = POLLIN};
	int			server = full_server();
	int			fd = stream_socket("127.0.0.1");
	int			port;
	int			accepted;

	crowd(PORT_MIN, PORT_MAX);
	expect(sigaction(SIGALRM, &action, NULL) == 0);
	expect(setitimer(ITIMER_REAL, &soon, NULL) == 0);
	count_anew();
	expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), EINTR);
	expect_equal(last_connect, EINTR);
	port = local_port(fd);
	require(PORT_MIN <= port && port <= PORT_MAX, "port %d", port);

	/* The last of the calls sent it, once, and it comes through. */
	for (int i = 0; i < 2; i++)
		close(accept_from(server));
	wait_for_connection(fd);
	accepted = accept_from(server);
	pass_a_number(fd, accepted);
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

typedef struct Outcome
{
	int			error;
	int			port;
	int			listener_error;
	int			listener_port;
	uint32_t	in_use;
	uint32_t	taken;
} Outcome;

static void
connect_one(int index, void *result, void *argument)
{
	int			destinations = *(int *) argument;
	Outcome    *outcome = result;
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	int			fd = stream_socket("127.0.0.1");

	outcome->error = ic_connect(fd, "127.0.0.1",
								SERVER_PORT + index % destinations, &report);
	outcome->port = local_port(fd);
	outcome->in_use = report.ports_in_use;
	outcome->taken = report.connections_taken;
}

#define STARTERS 96

static int
connect_at_once(int destinations)
{
	static Outcome outcomes[STARTERS];
	int			connected = 0;
	Ports		taken[2] = {{{false}}};

	for (int i = 0; i < destinations; i++)
		server_on("127.0.0.1", SERVER_PORT + i);
	run_at_once(STARTERS, connect_one, &destinations, outcomes,
				sizeof(*outcomes));
	for (int i = 0; i < STARTERS; i++)
	{
		const Outcome *outcome = &outcomes[i];
		bool	   *has = &taken[i % destinations].has[outcome->port];

		if (outcome->error != 0)
		{
			require(outcome->error == EADDRNOTAVAIL, "%s",
					strerror(outcome->error));
			continue;
		}
		connected++;
		require(PORT_MIN <= outcome->port && outcome->port <= PORT_MAX,
				"port %d", outcome->port);
		require(!*has, "port %d came twice", outcome->port);
		*has = true;
	}
	return connected;
}

TEST_IN_NETNS(a_crowd_that_connects_at_once_has_every_port)
{
	crowd(PORT_MIN, PORT_MAX);
	expect_equal(connect_at_once(1), PORTS);
}

TEST_IN_NETNS(a_crowd_to_two_destinations_is_connected)
{
	crowd(PORT_MIN, PORT_MAX);
	expect_equal(connect_at_once(2), STARTERS);
}

/* Free ports, which connect() and naming find together. */
TEST_IN_NETNS(a_crowd_on_free_ports_has_every_port)
{
	set_port_range(PORT_MIN, PORT_MAX);
	expect_equal(connect_at_once(1), PORTS);
}

/*
 * Listeners and connections together, until the range is full both ways
 */

static int
try_to_listen(void)
{
	int			fd = stream_socket("0.0.0.0");
	int			error = ic_bind(fd, "0.0.0.0", 0, NULL);

	if (error == 0 && ic_listener_listen(fd, 8, NULL) != 0)
		error = errno;
	if (error != 0)
	{
		expect_equal(error, EADDRINUSE);
		close(fd);
		return -1;
	}
	return fd;
}

static int
try_to_connect(void)
{
	int			fd = stream_socket("127.0.0.1");
	int			error = ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL);

	if (error != 0)
	{
		expect_equal(error, EADDRNOTAVAIL);
		close(fd);
		return -1;
	}
	return fd;
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
		{
			if (to_listen)
				error = listen(fd, 8) == 0 ? 0 : errno;
			else
				error = plain_connect(fd, "127.0.0.1", SERVER_PORT);
		}
		require(error != 0, "port %d was free to %s", port,
				to_listen ? "listen on" : "connect from");
		close(fd);
	}
}

static void
fill_both_ways(void *argument)
{
	int			first_listeners = *(int *) argument;
	bool		may_listen = true;
	bool		may_connect = true;
	int			listeners = 0;
	int			connections = 0;

	set_port_range(PORT_MIN, PORT_MAX);
	server_on("127.0.0.1", SERVER_PORT);
	for (int i = 0; may_listen || may_connect; i++)
	{
		now_doing("%d listeners, %d connections", listeners, connections);
		if (i < first_listeners || i % 2 == 0)
		{
			may_listen = may_listen && try_to_listen() >= 0;
			listeners += may_listen;
			if (!may_listen)
				require_no_port(true);
		}
		else
		{
			may_connect = may_connect && try_to_connect() >= 0;
			connections += may_connect;
			if (!may_connect)
				require_no_port(false);
		}
	}
	expect_equal(listeners, PORTS);
	require(connections >= (PORTS - first_listeners) / 2 - 1,
			"%d connections beside %d listeners", connections, listeners);
}

static void
listeners_and_connections_fill_the_range_both_ways(void **state)
{
	static int	first_listeners[] = {0, 1, 17, 64};

	(void) state;
	for (size_t i = 0; i < lengthof(first_listeners); i++)
		assert_passes_in_netns(fill_both_ways, &first_listeners[i]);
}

static void
listen_and_connect(int index, void *result, void *argument)
{
	Outcome    *outcome = result;
	int			fd;

	(void) argument;
	if (index % 2 == 0)
	{
		fd = try_to_listen();
		outcome->listener_port = fd >= 0 ? local_port(fd) : 0;
		fd = try_to_connect();
		outcome->port = fd >= 0 ? local_port(fd) : 0;
	}
	else
	{
		fd = try_to_connect();
		outcome->port = fd >= 0 ? local_port(fd) : 0;
		fd = try_to_listen();
		outcome->listener_port = fd >= 0 ? local_port(fd) : 0;
	}

	/* All hold what they got until it has been looked at. */
	wait_for_all();
	if (index == 0)
	{
		require_no_port(true);
		require_no_port(false);
	}
	wait_for_all();
}

TEST_IN_NETNS(a_crowd_of_both_leaves_no_port)
{
	static Outcome outcomes[STARTERS];
	Ports		listening = {{false}};
	int			listeners = 0;

	crowd(PORT_MIN, PORT_MAX);
	server_on("127.0.0.1", SERVER_PORT);
	run_at_once(STARTERS, listen_and_connect, NULL, outcomes, sizeof(*outcomes));
	for (int i = 0; i < STARTERS; i++)
	{
		int			port = outcomes[i].listener_port;

		if (port == 0)
			continue;
		listeners++;
		require(!listening.has[port], "port %d has two listeners", port);
		listening.has[port] = true;
	}
	expect_equal(listeners, PORTS);
}

/*
 * A policy against UDP, or a lack of UDP ports, does not keep TCP from a
 * port.
 */
TEST_IN_NETNS(where_the_way_cannot_be_asked_for_ports_are_named_all_the_same)
{
	static const int errnos[] = {EPERM, EACCES, EAGAIN, ENOBUFS};

	crowd(PORT_MIN, PORT_MAX);
	server_on("127.0.0.1", SERVER_PORT);
	for (size_t i = 0; i < lengthof(errnos); i++)
	{
		no_scout = errnos[i];
		now_doing("%s", strerror(no_scout));
		connects_to("127.0.0.1", SERVER_PORT, true, NULL);
	}

	/* The destination's own port is not named then either. */
	no_scout = EPERM;
	set_port_range(PORT_MIN, PORT_MIN);
	expect_equal(ic_connect(stream_socket("127.0.0.1"), "127.0.0.1", PORT_MIN,
							NULL), EADDRNOTAVAIL);
}

/*
 * Kernels without windows
 */

static void
without_windows(void *argument)
{
	int			which = *(int *) argument;
	int			first_listeners = 17;

	no_windows = true;
	if (which < 6)
		in_time_wait_of_listeners(&which);
	else if (which == 6)
		fill_both_ways(&first_listeners);
	else
		from_the_only_port((void *) &own_addresses[which - 7]);
}

static void
older_kernels_without_windows_do_as_well(void **state)
{
	(void) state;
	for (int which = 0; which < 7 + (int) lengthof(own_addresses); which++)
		assert_passes_in_netns(without_windows, &which);
}

/*
 * The path of the quiet host
 */

TEST_IN_NETNS(a_quiet_host_costs_one_connect_and_no_bind)
{
	server_on("127.0.0.1", SERVER_PORT);
	count_anew();
	for (int i = 0; i < 8; i++)
		connects_to("127.0.0.1", SERVER_PORT, i % 2, NULL);
	expect_equal(connects, 8);
	expect_equal(binds, 0);
	expect_equal(windows, 0);
	expect_equal(exchanges, 0);
}

/* A crowded host does not stay one. */
static void
crowded_and_quiet_again(void *argument)
{
	bool		blocking = *(int *) argument;
	int			port_max = PORT_MIN + 599;
	Ports		all = ports_from_to(PORT_MIN, port_max);
	Neighbour	exclusive = {.address = "0.0.0.0"};
	int			holder;

	set_port_range(PORT_MIN, port_max);
	server_on("127.0.0.1", SERVER_PORT);
	holder = hold_ports(&exclusive, &all);
	finds_no_port("127.0.0.1", SERVER_PORT);
	end_child(holder);
	connects_to("127.0.0.1", SERVER_PORT, blocking, NULL);
	count_anew();
	connects_to("127.0.0.1", SERVER_PORT, blocking, NULL);
	expect_equal(connects, 1);
	expect_equal(binds, 0);
	expect_equal(windows, 0);
}

static void
when_the_crowd_is_gone_so_is_the_search(void **state)
{
	(void) state;
	for (int blocking = 0; blocking <= 1; blocking++)
		assert_passes_in_netns(crowded_and_quiet_again, &blocking);
}

int
main(void)
{
	return run_all(
		test(ports_that_listeners_left_serve_every_destination_once),
		test(ports_in_time_wait_of_own_connections_are_taken_over),
		test(ports_in_time_wait_of_own_connections_serve_the_next_destination),
		test(ports_of_plain_connections_serve_the_next_destination),
		test(the_last_port_is_found_among_listeners_and_holders),
		test(a_port_that_others_listen_on_elsewhere_will_do),
		test(the_address_that_the_caller_bound_is_the_source),
		test(the_address_stays_bound_when_the_kernel_picks_the_port_at_last),
		test(an_unreachable_destination_is_told_at_once),
		test(a_refused_connection_leaves_the_socket_unbound),
		test(a_socket_that_was_refused_can_connect_later),
		test(nor_is_a_port_of_connect_s_the_caller_s_choice),
		test(a_refused_nonblocking_connection_says_so_in_so_error),
		test(nobody_connects_to_himself),
		test(the_same_port_on_another_address_will_do),
		test(reserved_ports_are_passed_over),
		test(the_caller_s_window_is_obeyed_and_left),
		test(a_port_that_the_caller_chose_is_not_exchanged),
		test(a_port_that_bind_found_is_exchanged),
		test(a_signal_interrupts_and_the_connection_goes_on),
		test(a_crowd_that_connects_at_once_has_every_port),
		test(a_crowd_to_two_destinations_is_connected),
		test(a_crowd_on_free_ports_has_every_port),
		test(listeners_and_connections_fill_the_range_both_ways),
		test(a_crowd_of_both_leaves_no_port),
		test(where_the_way_cannot_be_asked_for_ports_are_named_all_the_same),
		test(older_kernels_without_windows_do_as_well),
		test(a_quiet_host_costs_one_connect_and_no_bind),
		test(when_the_crowd_is_gone_so_is_the_search)
	);
}
