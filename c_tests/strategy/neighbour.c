/*
 * neighbour.c
 *		Others on the same host and in the same process. Ports that they
 *		have bound and do not listen on yet stay theirs while there are
 *		free ones. Threads in other network namespaces, and forks, do not
 *		disturb each other.
 *
 * What is asserted of the order of ports holds where the kernel searches in
 * windows (IP_LOCAL_PORT_RANGE, Linux 6.3). Elsewhere the figures are
 * printed.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "test.h"

#define PORT_MIN 20000
#define PORTS 1000

/* ip(7), Linux 6.3. */
#define IP_LOCAL_PORT_RANGE 51

/*
 * The linker's --wrap leads these through here.
 */
extern int	__real_bind(int fd, const struct sockaddr *address,
						socklen_t length);
extern int	__wrap_bind(int fd, const struct sockaddr *address,
						socklen_t length);
extern int	__real_open64(const char *path, int flags,...);
extern int	__wrap_open64(const char *path, int flags, mode_t mode);

static int	bind_calls;
static int	proc_opens;

int
__wrap_bind(int fd, const struct sockaddr *address, socklen_t length)
{
	bind_calls++;
	return __real_bind(fd, address, length);
}

int
__wrap_open64(const char *path, int flags, mode_t mode)
{
	proc_opens += strncmp(path, "/proc/sys/", 10) == 0;
	return __real_open64(path, flags, mode);
}

static bool
kernel_has_windows(void)
{
	int			fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	uint32_t	none = 0;
	bool		has = setsockopt(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, &none,
								 sizeof(none)) == 0;

	close(fd);
	return has;
}

static void
allow_many_descriptors(void)
{
	struct rlimit limit = {4096, 4096};

	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		skip_child("4096 descriptors: ulimit -n 4096, or run as root");
}

/* Moves so many ports, drawn at random, from one set to the other. */
static void
move_ports(Ports *from, Ports *to, int count)
{
	while (count > 0)
	{
		int			port = PORT_MIN + rand() % PORTS;

		if (!from->has[port])
			continue;
		from->has[port] = false;
		to->has[port] = true;
		count--;
	}
}

TEST_IN_NETNS(free_ports_before_bound_ones)
{
	const int	calls = 2000;
	Neighbour	listener = {.address = "::", .listens = true};
	Neighbour	starter = {.address = "::", .reuse_address = true};
	Ports		listening = ports_from_to(PORT_MIN, PORT_MIN + PORTS - 1);
	Ports		bound = {.has = {false}};
	Ports		unheld = {.has = {false}};
	int			taken = 0;

	skip_without_ipv6();
	allow_many_descriptors();
	set_port_range(PORT_MIN, PORT_MIN + PORTS - 1);
	move_ports(&listening, &bound, 50);
	move_ports(&listening, &unheld, 50);
	hold_ports(&listener, &listening);
	hold_ports(&starter, &bound);
	for (int count = 0; count < calls; count++)
	{
		Call		call = require_listener(NULL);

		expect(bound.has[call.port] || unheld.has[call.port]);
		taken += bound.has[call.port];
		close(call.fd);
	}
	print_message("# 1000 ports, 900 listening, 50 free, 50 bound: %d of %d "
				  "calls took a bound one\n", taken, calls);
	fflush(stdout);
	if (kernel_has_windows())
		require(taken <= calls * 3 / 100, "%d of %d took a bound port", taken,
				calls);
}

/*
 * Two calls of the library end between a neighbour's bind() to port 0 with
 * SO_REUSEADDR and its listen(). They take turns here, so that it is two
 * however busy the host is.
 */
static void
start_beside_a_neighbour(int ports_left, int rounds)
{
	Neighbour	listener = {.address = "::", .listens = true};
	Neighbour	starter = {.address = "::", .reuse_address = true};
	Ports		listening = ports_from_to(PORT_MIN, PORT_MIN + PORTS - 1);
	Ports		unheld = {.has = {false}};
	int			lost = 0;

	skip_without_ipv6();
	allow_many_descriptors();
	set_port_range(PORT_MIN, PORT_MIN + PORTS - 1);
	move_ports(&listening, &unheld, ports_left);
	hold_ports(&listener, &listening);
	for (int round = 0; round < rounds; round++)
	{
		int			fd = open_neighbour(&starter, 0);
		Call		ours[2];

		expect(fd >= 0);
		for (int call = 0; call < 2; call++)
			ours[call] = require_listener(NULL);
		if (listen(fd, 8) != 0)
		{
			expect_equal(errno, EADDRINUSE);
			lost++;
		}
		for (int call = 0; call < 2; call++)
			close(ours[call].fd);
		close(fd);
	}
	print_message("# %d ports left of 1000: a neighbour lost %d of %d "
				  "listens\n", ports_left, lost, rounds);
	fflush(stdout);
	if (kernel_has_windows())
		require(lost * 200 < rounds, "%d of %d listens lost", lost, rounds);
}

TEST_IN_NETNS(a_neighbour_keeps_its_port_where_20_are_left)
{
	/*
	 * Enough rounds to rule out chance: one in 300 is lost, one in 200 would
	 * fail.
	 */
	start_beside_a_neighbour(20, 12000);
}

TEST_IN_NETNS(a_neighbour_keeps_its_port_where_100_are_left)
{
	start_beside_a_neighbour(100, 3000);
}

/* A longer search costs little where no port is free. */
TEST_IN_NETNS(a_range_in_time_wait_takes_few_calls)
{
	Ports		all;
	Call		last;

	allow_many_descriptors();
	set_port_range(PORT_MIN, PORT_MIN + PORTS - 1);
	expect_equal(take_all_ports(NULL, &all, &last), PORTS);
	for (int fd = 3; fd < 3 + 2 * PORTS; fd++)
	{
		if (local_port(fd) < PORT_MIN)
			continue;
		leave_time_wait(fd, "127.0.0.1");
		close(fd);
	}
	expect_equal(ports_in_time_wait(PORT_MIN, PORT_MIN + PORTS - 1), PORTS);
	for (int round = 0; round < 100; round++)
	{
		Call		call;

		bind_calls = 0;
		call = require_listener(NULL);
		expect_equal(call.report.origin, IC_LISTENER_PORT_ORIGIN_REUSED);
		close(call.fd);
		require(bind_calls <= 17, "%d times bind()", bind_calls);
	}
}

/* A thread in its own network namespace, with ports from port_min. */
typedef struct Namespace
{
	int			port_min;
	int			ports;
	pthread_barrier_t *barrier;
} Namespace;

static void *
stay_in_own_range(void *argument)
{
	const Namespace *mine = argument;
	const int	port_max = mine->port_min + mine->ports - 1;
	const char *missing = enter_netns();
	Ports		taken = {.has = {false}};
	Call		call;

	if (missing != NULL)
		skip_child("%s", missing);
	set_port_range(mine->port_min, port_max);
	set_sysctl("net.ipv4.ip_local_reserved_ports", "%d", mine->port_min + 1);
	pthread_barrier_wait(mine->barrier);
	for (int count = 0; count < 1000; count++)
	{
		call = require_listener(NULL);
		require(mine->port_min <= call.port && call.port <= port_max &&
				call.port != mine->port_min + 1,
				"port %d, of %d-%d", call.port, mine->port_min, port_max);
		close(call.fd);
		call = open_socket(&udp, NULL);
		expect(mine->port_min <= call.port && call.port <= port_max);
		close(call.fd);
		sched_yield();
	}

	/* To the last, and no more. */
	for (int count = 0; count < mine->ports - 1; count++)
	{
		call = require_listener(NULL);
		require(mine->port_min <= call.port && call.port <= port_max &&
				call.port != mine->port_min + 1 && !taken.has[call.port],
				"port %d, of %d-%d", call.port, mine->port_min, port_max);
		taken.has[call.port] = true;
	}
	call = open_listener(NULL);
	expect_failed(&call, EADDRINUSE);
	expect_equal(call.report.port_min, mine->port_min);
	expect_equal(call.report.port_max, port_max);
	return NULL;
}

static void
stay_apart(int first, int second, int ports)
{
	pthread_barrier_t barrier;
	Namespace	namespaces[] = {
		{first, ports, &barrier}, {second, ports, &barrier},
	};
	pthread_t	threads[2];

	now_doing("%d ports from %d, and from %d", ports, first, second);
	allow_many_descriptors();
	pthread_barrier_init(&barrier, NULL, 2);
	for (int index = 0; index < 2; index++)
		expect_equal(pthread_create(&threads[index], NULL, stay_in_own_range,
									&namespaces[index]), 0);
	for (int index = 0; index < 2; index++)
		pthread_join(threads[index], NULL);
}

TEST(threads_in_two_namespaces)
{
	stay_apart(20000, 40000, 1000);
}

TEST(threads_in_two_namespaces_with_overlapping_ranges)
{
	stay_apart(20000, 20500, 1000);
}

TEST(threads_in_two_namespaces_with_small_ranges)
{
	stay_apart(20000, 40000, 64);
}

static void *
call_for_ever(void *unused)
{
	(void) unused;
	for (;;)
		close(require_listener(NULL).fd);
	return NULL;
}

/*
 * A child that is forked during another thread's call is like any other
 * child: no lock stays held, and /proc is not read again.
 */
TEST_IN_NETNS(forks_beside_a_calling_thread)
{
	pthread_t	thread;

	/*
	 * A range without a port of Linux's default: the first call finds out,
	 * the second reads the range. Where nothing was read, a child reads it as
	 * soon as it is refused a port that the thread holds.
	 */
	set_port_range(10000, 30000);
	for (int round = 0; round < 2; round++)
		close(require_listener(NULL).fd);
	expect_equal(pthread_create(&thread, NULL, call_for_ever, NULL), 0);
	for (int count = 0; count < 500; count++)
	{
		int			pid = fork_child();

		if (pid != 0)
		{
			wait_for_child(pid);
			continue;
		}
		alarm(10);
		proc_opens = 0;
		for (int round = 0; round < 3; round++)
			close(require_listener(NULL).fd);
		require(proc_opens == 0 || !kernel_has_windows(),
				"child %d opened /proc %d times", count, proc_opens);
		_exit(0);
	}
}

int
main(void)
{
	return run_all(
		test(free_ports_before_bound_ones),
		test(a_neighbour_keeps_its_port_where_20_are_left),
		test(a_neighbour_keeps_its_port_where_100_are_left),
		test(a_range_in_time_wait_takes_few_calls),
		test(threads_in_two_namespaces),
		test(threads_in_two_namespaces_with_overlapping_ranges),
		test(threads_in_two_namespaces_with_small_ranges),
		test(forks_beside_a_calling_thread));
}
