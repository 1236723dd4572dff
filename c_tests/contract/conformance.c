/*
 * conformance.c
 *		The contract of setup_listener(), line by line, as the kernel sees it.
 *		(Each test closes its sockets: valgrind.sh looks for those left open.)
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test.h"

#define LISTENERS_AT_ONCE 1000
#define CALLS_IN_A_ROW 10000
#define CALLERS 8
#define LISTENERS_PER_CALLER 50

/* Whether this host has IPv6 sockets, with or without addresses. */
static bool
host_has_ipv6(void)
{
	int			fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

static Call
get_listener(void)
{
	Call		call = call_setup_listener();

	require(call.returned == 0, "setup_listener: %s", strerror(call.error));
	return call;
}

/* Marks a port; false when it was marked before. */
static bool
mark(uint8_t *seen, int port)
{
	if (port < 1 || port > 65535 || seen[port])
		return false;
	seen[port] = 1;
	return true;
}

TEST(the_socket_is_as_promised)
{
	int			family = host_has_ipv6() ? AF_INET6 : AF_INET;
	const char *wildcard = family == AF_INET6 ? "::" : "0.0.0.0";
	struct sockaddr_storage expected;
	struct sockaddr_storage address;
	socklen_t	size = sizeof(address);
	OpenFds		before = open_fds();
	Call		call = get_listener();
	int			port = call.port;
	int			fd = call.fd;

	expect(open_fds_are(&before, fd));
	expect(port >= 1 && port <= 65535);

	expect_equal(socket_option(fd, SOL_SOCKET, SO_DOMAIN), family);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_ACCEPTCONN), 1);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_REUSEADDR), 1);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_REUSEPORT), 0);
	if (family == AF_INET6)
		expect_equal(socket_option(fd, IPPROTO_IPV6, IPV6_V6ONLY), 0);
	expect_equal(fcntl(fd, F_GETFL), O_RDWR | O_NONBLOCK);
	expect_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);

	memset(&address, 0, sizeof(address));
	expect_equal(getsockname(fd, (struct sockaddr *) &address, &size), 0);
	expect_equal(size, socket_address(wildcard, port, &expected));
	expect(memcmp(&address, &expected, size) == 0);

	expect_equal(accept(fd, NULL, NULL), -1);
	expect_equal(errno, EAGAIN);

	expect_equal(close(fd), 0);
	expect(open_fds_are(&before, -1));
}

/*
 * On a listening socket, tcpi_sacked is the backlog and tcpi_unacked what
 * stands in it (tcp_get_info() in net/ipv4/tcp.c).
 */
TEST(the_backlog_is_128)
{
	struct tcp_info info;
	socklen_t	size = sizeof(info);
	long		somaxconn;
	int			fd = get_listener().fd;

	expect(proc_numbers("/proc/sys/net/core/somaxconn", 1, &somaxconn));
	expect_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size), 0);
	expect_equal(info.tcpi_sacked, somaxconn < 128 ? somaxconn : 128);
	expect_equal(info.tcpi_unacked, 0);
	close(fd);
}

TEST(the_port_is_of_the_ephemeral_range)
{
	long		range[2];

	expect(proc_numbers("/proc/sys/net/ipv4/ip_local_port_range", 2, range));
	for (int i = 0; i < 100; i++)
	{
		Call		call = get_listener();

		require(call.port >= range[0] && call.port <= range[1], "port %d",
				call.port);
		close(call.fd);
	}
}

TEST(nobody_else_can_bind_the_port)
{
	static const char *const hosts[] = {"::", "::1", "0.0.0.0", "127.0.0.1"};
	Call		call = get_listener();

	for (size_t i = 0; i < lengthof(hosts); i++)
	{
		struct sockaddr_storage address;
		socklen_t	size = socket_address(hosts[i], call.port, &address);
		int			rival = socket(address.ss_family, SOCK_STREAM, 0);
		int			on = 1;
		int			result;
		int			error;

		if (rival < 0 && address.ss_family == AF_INET6)
			continue;
		setsockopt(rival, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
		result = bind(rival, (struct sockaddr *) &address, size);
		error = errno;
		close(rival);

		/* A host with ::1 switched off cannot bind it. */
		if (result == -1 && error == EADDRNOTAVAIL &&
			strcmp(hosts[i], "::1") == 0)
			continue;
		require(result == -1 && error == EADDRINUSE,
				"bind to %s: %d, errno %d", hosts[i], result, error);
	}
	close(call.fd);
}

/* Data goes both ways, and nothing is left of it. */
static void
reach_listener(const char *host)
{
	OpenFds		before = open_fds();
	Call		call = get_listener();

	reach(call.fd, host);
	close(call.fd);
	expect(open_fds_are(&before, -1));
}

TEST(data_goes_both_ways_over_ipv4)
{
	reach_listener("127.0.0.1");
}

TEST(data_goes_both_ways_over_ipv6)
{
	skip_without_ipv6();
	reach_listener("::1");
}

TEST(no_port_twice_among_1000_listeners)
{
	uint8_t		seen[65536] = {0};
	int			fds[LISTENERS_AT_ONCE];
	OpenFds		before = open_fds();

	for (int i = 0; i < LISTENERS_AT_ONCE; i++)
	{
		Call		call = get_listener();

		fds[i] = call.fd;
		require(mark(seen, call.port), "port %d came twice", call.port);
		expect_equal(local_port(fds[i]), call.port);
		expect_equal(socket_option(fds[i], SOL_SOCKET, SO_ACCEPTCONN), 1);
	}
	for (int i = 0; i < LISTENERS_AT_ONCE; i++)
		expect_equal(close(fds[i]), 0);
	expect(open_fds_are(&before, -1));
}

TEST(many_calls_leave_nothing_open)
{
	OpenFds		before = open_fds();

	for (int i = 0; i < CALLS_IN_A_ROW; i++)
		close(get_listener().fd);
	expect(open_fds_are(&before, -1));
}

/* What each of several callers got. */
typedef struct Haul
{
	int			error;
	int			ports[LISTENERS_PER_CALLER];
	int			fds[LISTENERS_PER_CALLER];
} Haul;

static void
open_haul(Haul *haul)
{
	for (int i = 0; i < LISTENERS_PER_CALLER; i++)
	{
		if (setup_listener(&haul->ports[i], &haul->fds[i]) != 0)
		{
			haul->error = errno;
			return;
		}
		if (local_port(haul->fds[i]) != haul->ports[i])
			haul->error = EBADMSG;
	}
}

static void
close_haul(const Haul *haul)
{
	for (int i = 0; i < LISTENERS_PER_CALLER; i++)
		close(haul->fds[i]);
}

/* Returns a port that came twice, or 0. */
static int
port_seen_twice(const Haul *hauls)
{
	uint8_t		seen[65536] = {0};

	for (int caller = 0; caller < CALLERS; caller++)
	{
		for (int i = 0; i < LISTENERS_PER_CALLER; i++)
		{
			if (!mark(seen, hauls[caller].ports[i]))
				return hauls[caller].ports[i];
		}
	}
	return 0;
}

static pthread_barrier_t start;

static void *
thread_main(void *haul)
{
	pthread_barrier_wait(&start);
	open_haul(haul);
	return NULL;
}

TEST(eight_threads_at_once)
{
	static Haul hauls[CALLERS];
	pthread_t	threads[CALLERS];
	OpenFds		before = open_fds();

	expect_equal(pthread_barrier_init(&start, NULL, CALLERS), 0);
	for (int i = 0; i < CALLERS; i++)
		expect_equal(pthread_create(&threads[i], NULL, thread_main, &hauls[i]),
					 0);
	for (int i = 0; i < CALLERS; i++)
		expect_equal(pthread_join(threads[i], NULL), 0);
	pthread_barrier_destroy(&start);
	for (int i = 0; i < CALLERS; i++)
		expect_equal(hauls[i].error, 0);
	expect_equal(port_seen_twice(hauls), 0);
	for (int i = 0; i < CALLERS; i++)
		close_haul(&hauls[i]);
	expect(open_fds_are(&before, -1));
}

static void
open_haul_in_child(int index, void *haul, void *argument)
{
	(void) index;
	(void) argument;
	open_haul(haul);
	wait_for_all();
	close_haul(haul);
}

TEST(eight_children_at_once)
{
	static Haul hauls[CALLERS];

	run_at_once(CALLERS, open_haul_in_child, NULL, hauls, sizeof(Haul));
	for (int i = 0; i < CALLERS; i++)
		require(hauls[i].error == 0, "child %d: %s", i,
				strerror(hauls[i].error));
	require(port_seen_twice(hauls) == 0, "port %d came twice",
			port_seen_twice(hauls));
}

/* What cannot be written is refused, and leaves no trace. */
static void
refuse_outputs(int *port, int *fd)
{
	OpenFds		before = open_fds();

	errno = 0;
	expect_equal(setup_listener(port, fd), -1);
	expect_equal(errno, EINVAL);
	expect(open_fds_are(&before, -1));
}

TEST(null_pointers_are_refused)
{
	int			port = UNTOUCHED;
	int			fd = UNTOUCHED;

	refuse_outputs(NULL, &fd);
	expect_equal(fd, -1);
	refuse_outputs(&port, NULL);
	expect_equal(port, 0);
	refuse_outputs(NULL, NULL);
}

/* Which of the two values it holds afterwards is not promised. */
TEST(one_pointer_for_both_is_refused)
{
	int			both = UNTOUCHED;

	refuse_outputs(&both, &both);
	expect(both == 0 || both == -1);
}

/*
 * As PostgreSQL's %m does: errno is read after the arguments of the report
 * have been computed.
 */
TEST(errno_is_right_when_it_is_formatted)
{
	char		line[128];
	int			port;

	errno = ENOTTY;
	expect_equal(setup_listener(&port, NULL), -1);
	snprintf(line, sizeof(line), "listener: %m");
	require(strcmp(line, "listener: Invalid argument") == 0, "%s", line);
}

#define RANGE_MIN 40000
#define RANGE_MAX 40007
#define RANGE_PORTS (RANGE_MAX - RANGE_MIN + 1)

TEST_IN_NETNS(a_full_range_is_eaddrinuse)
{
	uint8_t		seen[65536] = {0};
	Call		calls[RANGE_PORTS];
	OpenFds		before;
	Call		call;

	set_port_range(RANGE_MIN, RANGE_MAX);
	for (int i = 0; i < RANGE_PORTS; i++)
	{
		calls[i] = call_setup_listener();
		require(calls[i].returned == 0, "%d of %d: %s", i, RANGE_PORTS,
				strerror(calls[i].error));
		require(calls[i].port >= RANGE_MIN && calls[i].port <= RANGE_MAX &&
				mark(seen, calls[i].port), "port %d", calls[i].port);
	}
	before = open_fds();
	call = call_setup_listener();
	expect_failed(&call, EADDRINUSE);
	expect(open_fds_are(&before, -1));

	close(calls[3].fd);
	call = call_setup_listener();
	expect_equal(call.returned, 0);
	require(call.port == calls[3].port, "port %d, but %d was free", call.port,
			calls[3].port);
	calls[3].fd = call.fd;
	for (int i = 0; i < RANGE_PORTS; i++)
		close(calls[i].fd);
}

/*
 * Every fd below the limit is in use: this process cannot even look into
 * /proc. The limit goes up again to list what is open.
 */
TEST(no_fd_left_is_emfile)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	struct rlimit normal;
	struct rlimit low;
	OpenFds		before;
	int			filler[64];
	int			count = 0;
	Call		call;

	getrlimit(RLIMIT_NOFILE, &normal);
	low = normal;
	low.rlim_cur = 64;
	expect(setrlimit(RLIMIT_NOFILE, &low) == 0);
	while (count < 64 && (filler[count] = dup(STDERR_FILENO)) >= 0)
		count++;
	require(count > 0 && count < 64 && errno == EMFILE, "%d fds, errno %d",
			count, errno);

	setrlimit(RLIMIT_NOFILE, &normal);
	before = open_fds();
	setrlimit(RLIMIT_NOFILE, &low);

	now_doing("no fd at all");
	call = call_setup_listener();
	expect_failed(&call, EMFILE);
	call = open_listener(NULL);
	expect_failed(&call, EMFILE);
	expect_equal(call.report.error, EMFILE);
	expect_equal(call.report.step, IC_LISTENER_STEP_SOCKET);

	now_doing("no fd to look for an interface");
	options.address = "fe80::1%lo";
	call = open_listener(&options);
	expect_failed(&call, EMFILE);
	expect_equal(call.report.step, IC_LISTENER_STEP_SOCKET);
	setrlimit(RLIMIT_NOFILE, &normal);
	expect(open_fds_are(&before, -1));
	setrlimit(RLIMIT_NOFILE, &low);

	now_doing("one fd");
	close(filler[--count]);
	call = require_listener(NULL);
	expect_equal(call.fd, filler[count]);
	expect_equal(socket_option(call.fd, SOL_SOCKET, SO_ACCEPTCONN), 1);
	expect_equal(local_port(call.fd), call.port);
	close(call.fd);
	while (count > 0)
		close(filler[--count]);
}

/*
 * Without CAP_NET_BIND_SERVICE no port below 1024 can be bound: that is
 * ip_unprivileged_port_start in a new network namespace. The ephemeral range
 * may not begin below it, so the range is named.
 */
TEST_IN_NETNS(no_privilege_is_eacces)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	OpenFds		before = open_fds();
	Call		call;

	drop_privileges();
	options.port_min = 500;
	options.port_max = 1023;
	call = open_listener(&options);
	expect_failed(&call, EACCES);
	expect_equal(call.report.error, EACCES);
	expect_equal(call.report.step, IC_LISTENER_STEP_BIND);
	expect_equal(call.report.ports_tried, 524);
	expect_equal(call.report.ports_forbidden, 524);
	expect_equal(call.report.ports_in_use, 0);
	expect(open_fds_are(&before, -1));

	/* Ports that need the privilege are passed over. */
	options.port_max = 1024;
	call = require_listener(&options);
	expect_equal(call.port, 1024);
	close(call.fd);
}

int
main(void)
{
	struct rlimit fds;

	/* The usual limit, 1024, is too low for what is open at once. */
	if (getrlimit(RLIMIT_NOFILE, &fds) == 0)
	{
		fds.rlim_cur = fds.rlim_max;
		setrlimit(RLIMIT_NOFILE, &fds);
	}
	return run_all(
		test(a_full_range_is_eaddrinuse),
		test(no_privilege_is_eacces),
		test(the_socket_is_as_promised),
		test(the_backlog_is_128),
		test(the_port_is_of_the_ephemeral_range),
		test(nobody_else_can_bind_the_port),
		test(data_goes_both_ways_over_ipv4),
		test(data_goes_both_ways_over_ipv6),
		test(no_port_twice_among_1000_listeners),
		test(many_calls_leave_nothing_open),
		test(eight_threads_at_once),
		test(eight_children_at_once),
		test(null_pointers_are_refused),
		test(one_pointer_for_both_is_refused),
		test(errno_is_right_when_it_is_formatted),
		test(no_fd_left_is_emfile));
}
