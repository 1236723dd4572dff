/*
 * connecting.c
 *		ic_listener_connect() on a host where connect() finds no port: while
 *		one 4-tuple is free, a connection gets it, on the caller's own
 *		socket. (oracle.py has every kind of holder.)
 */
#define _GNU_SOURCE

#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
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

/* What the library is denied, and with which errno. */
typedef enum Denied
{
	NOTHING, ROUTES, CLAIMS, NAMES, NETLINK
} Denied;

static Denied denied;
static int	denial;

static bool
is_denied(Denied what)
{
	if (denied == what)
		errno = denial;
	return denied == what;
}

#define WRAP(type, name, parameters) \
	extern type __real_##name parameters; \
	extern type __wrap_##name parameters; \
	type \
	__wrap_##name parameters

WRAP(int, socket, (int domain, int type, int protocol))
{
	if ((domain == AF_UNIX && is_denied(CLAIMS)) ||
		(domain == AF_NETLINK && is_denied(NETLINK)))
		return -1;
	asked.claims += domain == AF_UNIX;
	return __real_socket(domain, type, protocol);
}

WRAP(int, bind, (int fd, const struct sockaddr *address, socklen_t length))
{
	if (address->sa_family == AF_UNIX && is_denied(NAMES))
		return -1;
	asked.binds += address->sa_family == AF_INET || address->sa_family == AF_INET6;
	return __real_bind(fd, address, length);
}

WRAP(int, connect, (int fd, const struct sockaddr *address, socklen_t length))
{
	bool		named = !has_no_port(fd);
	int			returned;

	/* The search for a route is no connection. */
	if (socket_option(fd, SOL_SOCKET, SO_TYPE) != SOCK_STREAM)
		return is_denied(ROUTES) ? -1 : __real_connect(fd, address, length);
	returned = __real_connect(fd, address, length);
	asked.connects++;
	asked.lost += named && returned != 0 && errno == EADDRNOTAVAIL;
	return returned;
}

WRAP(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t size))
{
	asked.windows += level == IPPROTO_IP && name == IP_LOCAL_PORT_RANGE;
	return __real_setsockopt(fd, level, name, value, size);
}

/* A list of the listeners only shows that there is somebody to ask. */
WRAP(ssize_t, send, (int fd, const void *data, size_t size, int flags))
{
	const struct nlmsghdr *header = data;
	const struct inet_diag_req_v2 *request = NLMSG_DATA(header);

	if (size >= NLMSG_LENGTH(sizeof(*request)) && header->nlmsg_len == size &&
		header->nlmsg_type == SOCK_DIAG_BY_FAMILY)
	{
		asked.questions += (header->nlmsg_flags & NLM_F_DUMP) == 0;
		asked.dumps += (header->nlmsg_flags & NLM_F_DUMP) != 0 &&
			request->idiag_states != 1 << TCP_LISTEN;
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
	expect_equal(socket_option(fd, SOL_SOCKET, SO_REUSEADDR), 1);
	if (kernel_has_windows())
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
	require(open_fds_are(&before, fd), "other fds than %d are open", fd);
	close(fd);
	return report;
}

/* How addresses are written, and where their servers are. */
static const char *const ways[][2] = {
	{"127.0.0.1", "127.0.0.1"},
	{"::1", "::1"},
	{"::ffff:127.0.0.1", "127.0.0.1"},
};

/* Every port once to each destination, where the system call finds none. */
static void
fill_the_range(void *argument)
{
	const char *const *way = argument;

	skip_without_ipv6();
	crowd(PORT_MIN, PORT_MAX);
	for (int port = SERVER_PORT; port < SERVER_PORT + 2; port++)
	{
		Ports		taken = {{false}};
		IcListenerReport report;

		server_on(way[1], port);
		expect_equal(plain_connect(stream_socket(way[0]), way[0], port), EADDRNOTAVAIL);
		for (int i = 0; i < PORTS; i++)
		{
			now_doing("%s, port %d, connection %d", way[0], port, i);
			connects_to(way[0], port, i % 2, &taken);
		}
		report = finds_no_port(way[0], port);
		expect_equal(report.connections_taken, PORTS);
		expect_equal(report.ports_tried, PORTS);
		expect_equal(report.ports_in_use, 0);
		expect_equal(report.port_min, PORT_MIN);
		expect_equal(report.port_max, PORT_MAX);
	}
}

static void
ports_that_listeners_left_serve_every_destination_once(void **state)
{
	(void) state;
	for (size_t i = 0; i < lengthof(ways); i++)
		assert_passes_in_netns(fill_the_range, (void *) ways[i]);
}

/* Own TIME_WAITs on half of the ports, those of listeners on all. */
static void
connect_beside_own_time_waits(void *argument)
{
	bool		timestamps = *(bool *) argument;
	int			server = server_on("127.0.0.1", SERVER_PORT);

	now_doing("timestamps: %d", timestamps);
	crowd(PORT_MIN, PORT_MAX);
	set_sysctl("net.ipv4.tcp_tw_reuse", "0");
	set_sysctl("net.ipv4.tcp_timestamps", "%d", timestamps);
	for (int port = PORT_MIN; port <= PORT_MAX; port += 2)
		leave_own_time_wait(port, "127.0.0.1", server);
	for (int i = 0; i < (timestamps ? PORTS : PORTS / 2); i++)
	{
		int			port = local_port(connects_to("127.0.0.1", SERVER_PORT, true, NULL));

		require(port % 2 == (i < PORTS / 2), "connection %d from port %d", i, port);
	}
	finds_no_port("127.0.0.1", SERVER_PORT);
}

/* By name they are taken over at once, where connect() waits for a minute. */
static void
own_time_waits_come_last_and_with_timestamps_only(void **state)
{
	(void) state;
	for (int timestamps = 0; timestamps <= 1; timestamps++)
		assert_passes_in_netns(connect_beside_own_time_waits, &(bool) {timestamps});
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
	int			fd = stream_socket("127.0.0.1");
	int			port;

	crowd(PORT_MIN, PORT_MAX);
	count_anew();
	expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), ECONNREFUSED);
	/* The first one found no port, and the last one waited. */
	expect_equal(asked.connects, 3);
	port = local_port(fd);
	server_on("127.0.0.1", SERVER_PORT);
	expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), 0);
	expect_equal(local_port(fd), port);
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
	for (int i = 0; i < 2; i++)
	{
		denied = i == 0 ? NOTHING : ROUTES;
		denial = EPERM;
		expect_equal(ic_connect(fd, address, PORT_MIN, NULL), EADDRNOTAVAIL);
		expect(has_no_port(fd));
	}
	denied = NOTHING;

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
	int			fd = stream_socket("127.0.0.2");

	crowd(PORT_MIN, PORT_MIN);
	server_on("127.0.0.1", PORT_MIN);
	set_int(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	expect_equal(plain_bind(fd, "127.0.0.2", 0), 0);
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

static int	waiting_fd;
static int	flags_when_waiting;
static int	fd_when_waiting;

static void
look_at_the_wait(int signal)
{
	(void) signal;
	flags_when_waiting = fcntl(waiting_fd, F_GETFL);
	fd_when_waiting = dup(waiting_fd);
	close(fd_when_waiting);
}

TEST_IN_NETNS(a_signal_interrupts_and_the_connection_goes_on)
{
	struct sigaction action = {.sa_handler = look_at_the_wait};
	struct itimerval soon = {.it_value = {0, 100000}};
	struct pollfd waiting = {.events = POLLIN};
	Neighbour	neighbour = {"127.0.0.1", .reuse_address = true, .listens = true};
	int			server = open_neighbour(&neighbour, SERVER_PORT);
	int			fd = stream_socket("127.0.0.1");
	int			next_fd;
	int			port;

	waiting_fd = fd;
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
	next_fd = dup(fd);
	close(next_fd);
	expect_equal(ic_connect(fd, "127.0.0.1", SERVER_PORT, NULL), EINTR);
	/* It waits as it was made, and without a claim. */
	expect_equal(flags_when_waiting, O_RDWR);
	expect_equal(fd_when_waiting, next_fd);
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
}

/*
 * Many at once
 */

#define STARTERS 96

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

typedef struct Crowd
{
	bool		listens;		/* else it connects */
	int			destinations;
} Crowd;

/* The process keeps its socket. 0: there was no port. */
static void
get_a_port(int index, void *port, void *argument)
{
	const Crowd *crowd = argument;
	int			fd = stream_socket("0.0.0.0");
	int			error;

	if (!crowd->listens)
		error = ic_connect(fd, "127.0.0.1", SERVER_PORT + index % crowd->destinations, NULL);
	else if ((error = ic_bind(fd, "0.0.0.0", 0, NULL)) == 0)
		error = ic_listen(fd, 8);
	require(error == 0 || error == (crowd->listens ? EADDRINUSE : EADDRNOTAVAIL), "%s",
			strerror(error));
	*(int *) port = error == 0 ? local_port(fd) : 0;
}

static void
start_at_once(void *argument)
{
	const Crowd *starters = argument;
	int			ports[STARTERS];
	Ports		taken[2] = {{{false}}};
	int			count = 0;

	need_tcp_diag();
	crowd(PORT_MIN, PORT_MAX);
	for (int i = 0; i < starters->destinations; i++)
		server_on("127.0.0.1", SERVER_PORT + i);
	run_at_once(STARTERS, get_a_port, argument, ports, sizeof(*ports));
	for (int i = 0; i < STARTERS; i++)
	{
		bool	   *has = &taken[i % starters->destinations].has[ports[i]];

		if (ports[i] == 0)
			continue;
		require(PORT_MIN <= ports[i] && ports[i] <= PORT_MAX && !*has, "port %d", ports[i]);
		*has = true;
		count++;
	}
	expect_equal(count, starters->destinations == 1 ? PORTS : STARTERS);
}

static void
processes_that_start_at_once_have_every_port(void **state)
{
	static const Crowd crowds[] = {{false, 1}, {false, 2}, {true, 1}};

	(void) state;
	for (size_t i = 0; i < lengthof(crowds); i++)
		assert_passes_in_netns(start_at_once, (void *) &crowds[i]);
}

typedef struct Outcome
{
	int			connections;
	int			lost;
} Outcome;

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
		outcome->connections += error == 0;
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
		made += outcomes[i].connections;
		lost += outcomes[i].lost;
	}
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
		Denied		what;
		int			error;
	}			cases[] = {
		{ROUTES, EPERM}, {CLAIMS, EMFILE}, {NAMES, EACCES}, {NAMES, EADDRINUSE},
		{NETLINK, EPROTONOSUPPORT},
	};

	crowd(PORT_MIN, PORT_MAX);
	for (size_t i = 0; i < lengthof(cases); i++)
	{
		int			made = 0;

		now_doing("case %zu", i);
		server_on("127.0.0.1", SERVER_PORT + i);
		denied = cases[i].what;
		denial = cases[i].error;
		for (int j = 0; j < PORTS; j++)
			made += ic_connect(stream_socket("127.0.0.1"), "127.0.0.1", SERVER_PORT + i,
							   NULL) == 0;
		denied = NOTHING;
		require(made == PORTS, "%d connections", made);
	}
}

/* Where the route cannot be asked for, the source may be any address. */
TEST_IN_NETNS(connections_of_the_other_family_are_seen)
{
	server_on("127.0.0.1", SERVER_PORT);
	crowd(PORT_MIN, PORT_MAX);
	for (int i = 0; i < PORTS / 2; i++)
		connects_to("::ffff:127.0.0.1", SERVER_PORT, true, NULL);
	denied = ROUTES;
	denial = EPERM;
	for (int i = 0; i < PORTS / 2; i++)
		connects_to("127.0.0.1", SERVER_PORT, true, NULL);
	denied = NOTHING;
}

TEST_IN_NETNS(a_name_that_somebody_sits_on_keeps_no_time_wait)
{
	int			server = server_on("127.0.0.1", SERVER_PORT);

	set_sysctl("net.ipv4.tcp_tw_reuse", "0");
	crowd(PORT_MIN, PORT_MIN);
	leave_own_time_wait(PORT_MIN, "127.0.0.1", server);
	denied = NAMES;
	denial = EADDRINUSE;
	connects_to("127.0.0.1", SERVER_PORT, true, NULL);
	denied = NOTHING;
}

/* It is made in a namespace whose range is full; ours has free ports. */
TEST_IN_NETNS(a_socket_of_another_namespace_has_the_system_call_s_answers)
{
	int			fds[2];
	uint64_t	cookie;
	socklen_t	size = sizeof(cookie);

	crowd(PORT_MIN, PORT_MIN + 7);
	server_on("127.0.0.1", SERVER_PORT);
	for (int i = 0; i < 2; i++)
		fds[i] = stream_socket("127.0.0.1");
	if (getsockopt(fds[0], SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) != 0)
		skip_child("SO_NETNS_COOKIE: Linux 5.14");
	/* At home, for comparison. */
	expect_equal(ic_connect(fds[1], "127.0.0.1", SERVER_PORT, NULL), 0);
	if (unshare(CLONE_NEWNET) != 0)
		skip_child("a network namespace: run as root with CAP_SYS_ADMIN");
	count_anew();
	expect_equal(ic_connect(fds[0], "127.0.0.1", SERVER_PORT, NULL), EADDRNOTAVAIL);
	expect_equal(asked.binds + asked.questions + asked.dumps + asked.claims, 0);
	expect_equal(ic_bind(fds[0], "127.0.0.1", 0, NULL), EADDRINUSE);
	expect_equal(ic_listen(fds[0], 8), EADDRINUSE);
	expect(has_no_port(fds[0]));
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

/*
 * On a crowded host connect() looks at 512 ports first, and at all of them in
 * the end: a connection without SO_REUSEADDR has a port that connect() shares
 * and bind() cannot name. A crowded host does not stay one.
 */
TEST_IN_NETNS(the_part_of_the_range_that_is_looked_at_first_costs_nothing)
{
	Ports		held = ports_from_to(PORT_MIN + 1, PORT_MIN + 1023);
	Neighbour	exclusive = {.address = "0.0.0.0"};
	int			holder;

	server_on("127.0.0.1", SERVER_PORT);
	server_on("127.0.0.1", SERVER_PORT + 1);
	set_port_range(PORT_MIN, PORT_MIN);
	connect_to(stream_socket("127.0.0.1"), "127.0.0.1", SERVER_PORT);
	holder = hold_ports(&exclusive, &held);
	set_port_range(PORT_MIN, PORT_MIN + 1023);
	finds_no_port("127.0.0.1", SERVER_PORT);
	count_anew();
	expect_equal(local_port(connects_to("127.0.0.1", SERVER_PORT + 1, true, NULL)),
				 PORT_MIN);
	expect(asked.windows > 0 || !kernel_has_windows());

	end_child(holder);
	connects_to("127.0.0.1", SERVER_PORT + 1, true, NULL);
	count_anew();
	connects_to("127.0.0.1", SERVER_PORT + 1, true, NULL);
	expect_equal(asked.connects, 1);
	expect_equal(asked.binds + asked.windows, 0);
}

/*
 * From every port of the range a connection to the server in TIME_WAIT, which
 * cannot be taken over, or the TIME_WAIT of a listener, by turns.
 */
static void
fill_range(int port_min, int port_max, int every)
{
	int			server = server_on("127.0.0.1", SERVER_PORT);
	double		start = seconds_of(CLOCK_MONOTONIC);

	need_tcp_diag();
	set_sysctl("net.ipv4.tcp_timestamps", "0");
	write_sysctl("net.ipv4.tcp_max_tw_buckets", "262144");
	set_port_range(port_min, port_max);
	for (int port = port_min; port <= port_max; port++)
	{
		if (port % every == 0)
			leave_in_time_wait(port, port);
		else
			leave_own_time_wait(port, "127.0.0.1", server);
	}
	if (seconds_of(CLOCK_MONOTONIC) - start > 30)
		skip_child("a faster processor: TIME_WAIT is over after 60 s");
}

/*
 * Eight 4-tuples are left of the default range: a list of the others finds
 * them. When all are taken, the process does not search the whole range again
 * for ten times as long as that took, in CPU time.
 */
TEST_IN_NETNS(the_last_ports_are_found_and_a_search_in_vain_is_not_repeated)
{
	double		used;
	double		start;
	int			in_between = -2;

	fill_range(32768, 60999, 3500);
	for (int i = 0; i < 8; i++)
	{
		count_anew();
		connects_to("127.0.0.1", SERVER_PORT, true, NULL);
		expect(asked.dumps <= 2 && asked.questions <= 64);
	}
	start = seconds_of(CLOCK_MONOTONIC);
	for (int searches = 0; searches < 2; in_between++)
	{
		double		before = seconds_of(CLOCK_THREAD_CPUTIME_ID);

		count_anew();
		expect_equal(ic_connect(stream_socket("127.0.0.1"), "127.0.0.1", SERVER_PORT,
								NULL), EADDRNOTAVAIL);
		expect(asked.dumps <= 2 && asked.questions <= 64);
		if (asked.dumps > 0 && searches++ == 0)
			used = seconds_of(CLOCK_THREAD_CPUTIME_ID) - before;
	}
	/* On a busy machine the pause may be over before the next call. */
	require(in_between > 0 || seconds_of(CLOCK_MONOTONIC) - start > 5 * used,
			"the next call searched again, after %.3f s of CPU time", used);
}

/* A few questions find one, and the range is not listed. */
TEST_IN_NETNS(half_of_the_ports_are_as_good_as_all)
{
	fill_range(40000, 42047, 2);
	count_anew();
	for (int i = 0; i < 8; i++)
		connects_to("127.0.0.1", SERVER_PORT, true, NULL);
	expect_equal(asked.dumps, 0);
}

int
main(void)
{
	return run_all(
		test(ports_that_listeners_left_serve_every_destination_once),
		test(own_time_waits_come_last_and_with_timestamps_only),
		test(an_unreachable_destination_is_told_at_once),
		test(a_connection_that_is_refused_was_tried_once),
		test(nobody_connects_to_himself),
		test(the_same_port_on_another_address_will_do),
		test(reserved_ports_are_passed_over),
		test(a_port_that_the_caller_chose_is_kept),
		test(a_signal_interrupts_and_the_connection_goes_on),
		test(processes_that_start_at_once_have_every_port),
		test(nothing_is_lost_to_a_race),
		test(no_port_is_lost_where_something_is_refused),
		test(connections_of_the_other_family_are_seen),
		test(a_name_that_somebody_sits_on_keeps_no_time_wait),
		test(a_socket_of_another_namespace_has_the_system_call_s_answers),
		test(a_quiet_host_costs_one_connect_and_nothing_else),
		test(the_part_of_the_range_that_is_looked_at_first_costs_nothing),
		test(the_last_ports_are_found_and_a_search_in_vain_is_not_repeated),
		test(half_of_the_ports_are_as_good_as_all));
}
