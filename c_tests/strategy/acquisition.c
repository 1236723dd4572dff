/*
 * acquisition.c
 *		Who gets a port: while one of the range can be listened on, the
 *		caller gets it, and ports that neighbours have bound and do not
 *		listen on yet stay theirs while there are free ones. (oracle.py has
 *		every kind of holder.)
 */
#define _GNU_SOURCE

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "crowded.h"
#include "test.h"

/* The small range: 64 ports, as in the Greenplum that ran out of them. */
#define PORT_MIN 40000
#define PORT_MAX 40063
#define PORTS (PORT_MAX - PORT_MIN + 1)

/* A thousand ports. */
#define MEDIUM_MIN 20000
#define MEDIUM_MAX 20999

/* The range that Greenplum's documents recommend. */
#define LARGE_MIN 10000
#define LARGE_MAX 65535
#define LARGE_PORTS (LARGE_MAX - LARGE_MIN + 1)

/* The linker's --wrap leads these through here. */
static long bind_calls;
static int	proc_opens;
static int	listens_to_lose;

#define WRAP(name, parameters) \
	extern int	__real_##name parameters; \
	extern int	__wrap_##name parameters; \
	int \
	__wrap_##name parameters

WRAP(bind, (int fd, const struct sockaddr *address, socklen_t length))
{
	bind_calls += address->sa_family != AF_UNIX;
	return __real_bind(fd, address, length);
}

WRAP(listen, (int fd, int backlog))
{
	/* A claim, which listens too, is not lost. */
	if (listens_to_lose == 0 || socket_option(fd, SOL_SOCKET, SO_DOMAIN) == AF_UNIX)
		return __real_listen(fd, backlog);
	listens_to_lose--;
	errno = EADDRINUSE;
	return -1;
}

WRAP(open64, (const char *path, int flags, mode_t mode))
{
	proc_opens += strncmp(path, "/proc/sys/", 10) == 0;
	return __real_open64(path, flags, mode);
}

/* Moves so many ports, drawn at random, from one set to the other. */
static void
move_ports(Ports *from, Ports *to, int count)
{
	while (count > 0)
	{
		int			port = MEDIUM_MIN + random() % (MEDIUM_MAX - MEDIUM_MIN + 1);

		count -= from->has[port];
		to->has[port] |= from->has[port];
		from->has[port] = false;
	}
}

/* The library's own listeners on every port leave each in TIME_WAIT. */
static void
leave_own_time_waits(int port_min, int port_max)
{
	int			ports = port_max - port_min + 1;
	int			fds[ports];

	set_port_range(port_min, port_max);
	for (int i = 0; i < ports; i++)
	{
		fds[i] = require_listener(NULL).fd;
		leave_time_wait(fds[i], i % 2 ? "127.0.0.1" : "::1");
	}
	for (int i = 0; i < ports; i++)
		close(fds[i]);
	expect_equal(ports_in_time_wait(port_min, port_max), ports);
}

/* Where the kernel searches in windows (Linux 6.3). */
static void
take_free_ports_first(void *argument)
{
	/* Bound, free, and how many of 100 calls may take a bound one. */
	const int  *numbers = argument;
	const int	calls = 1000;
	Neighbour	listener = {.address = "::", .listens = true};
	Neighbour	starter = {.address = "::", .reuse_address = true};
	Ports		listening = ports_from_to(MEDIUM_MIN, MEDIUM_MAX);
	Ports		bound = {.has = {false}};
	Ports		free_now = {.has = {false}};
	int			taken = 0;

	skip_without_ipv6();
	now_doing("%d bound, %d free", numbers[0], numbers[1]);
	set_port_range(MEDIUM_MIN, MEDIUM_MAX);
	move_ports(&listening, &bound, numbers[0]);
	move_ports(&listening, &free_now, numbers[1]);
	hold_ports(&listener, &listening);
	hold_ports(&starter, &bound);
	for (int i = 0; i < calls; i++)
	{
		Call		call = require_listener(NULL);

		expect(bound.has[call.port] || free_now.has[call.port]);
		taken += bound.has[call.port];
		close(call.fd);
	}
	if (kernel_has_windows())
		require(taken * 100 <= calls * numbers[2], "%d of %d took a bound port",
				taken, calls);
}

static void
free_ports_come_before_bound_ones(void **state)
{
	/* The last are 77 of 100, and chance. */
	static const int cases[][3] = {{50, 50, 3}, {700, 300, 1}, {950, 50, 28}};

	(void) state;
	for (size_t i = 0; i < lengthof(cases); i++)
		assert_passes_in_netns(take_free_ports_first, (void *) cases[i]);
}

/* A search costs little where no port is free. */
TEST_IN_NETNS(a_range_in_time_wait_takes_few_calls)
{
	leave_own_time_waits(MEDIUM_MIN, MEDIUM_MIN + 199);
	for (int round = 0; round < 100; round++)
	{
		Call		call;

		bind_calls = 0;
		call = require_listener(NULL);
		expect_equal(call.report.origin, IC_LISTENER_PORT_ORIGIN_REUSED);
		close(call.fd);
		require(bind_calls <= 17, "%ld times bind()", bind_calls);
	}
}

/* Each port is lost once, and no socket has it: the second pass gets it. */
TEST_IN_NETNS(ports_whose_listen_was_lost_are_asked_for_again)
{
	Neighbour	neighbour = {.address = "::", .reuse_address = true};
	Ports		ports = ports_from_to(PORT_MIN, PORT_MAX);

	set_port_range(PORT_MIN, PORT_MAX);
	hold_ports(&neighbour, &ports);
	for (int left = PORTS; left > 0; left--)
	{
		listens_to_lose = left;
		expect_equal(require_listener(NULL).report.listens_lost, left);
	}

	/* The range bounds how many may be lost. */
	set_port_range(MEDIUM_MIN, MEDIUM_MAX);
	listens_to_lose = 600;
	expect_equal(require_listener(NULL).report.listens_lost, 600);
}

/* Processes that all want a port at the same moment, again and again. */
typedef struct Crowd
{
	const char *name;
	int			processes;
	bool		time_wait;
	bool		half_on_ipv4;
	bool		autobind_reuse;
} Crowd;

#define ROUNDS 20

/* The ports of one process; 0: EADDRINUSE. */
static void
start_in_rounds(int index, void *result, void *argument)
{
	const Crowd *crowd = argument;
	int		   *ports = result;
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	if (crowd->half_on_ipv4 && index % 2 == 0)
		options.address = "0.0.0.0";
	for (int round = 0; round < ROUNDS; round++)
	{
		Call		call;

		wait_for_all();
		call = open_listener(&options);
		require(call.returned == 0 || call.error == EADDRINUSE, "round %d: %s",
				round, call.report.message);
		ports[round] = call.port;
		wait_for_all();
		if (call.returned == 0)
			close(call.fd);
	}
}

static void
let_loose(void *argument)
{
	const Crowd *crowd = argument;
	static int	ports[PORTS * 2][ROUNDS];

	if (crowd->autobind_reuse && !has_autobind_reuse())
		return;
	set_port_range(PORT_MIN, PORT_MAX);
	if (crowd->autobind_reuse)
		set_sysctl(AUTOBIND_REUSE, "1");
	/* A listener that comes and goes leaves the TIME_WAIT it found. */
	if (crowd->time_wait)
		leave_own_time_waits(PORT_MIN, PORT_MAX);
	run_at_once(crowd->processes, start_in_rounds, argument, ports, sizeof(ports[0]));
	for (int round = 0; round < ROUNDS; round++)
	{
		Ports		taken = {.has = {false}};
		int			winners = 0;

		now_doing("%s, round %d", crowd->name, round);
		for (int index = 0; index < crowd->processes; index++)
		{
			int			port = ports[index][round];

			if (port == 0)
				continue;
			expect(PORT_MIN <= port && port <= PORT_MAX);
			require(!taken.has[port], "port %d came twice", port);
			taken.has[port] = true;
			winners++;
		}
		expect_equal(winners, PORTS);
	}
}

static void
processes_that_start_at_once_get_a_port_each(void **state)
{
	static const Crowd crowds[] = {
		{.name = "64 processes", .processes = 64},
		{.name = "64, TIME_WAIT, half of them on 0.0.0.0", .processes = 64,
		.time_wait = true, .half_on_ipv4 = true},
		{.name = "64, TIME_WAIT, ip_autobind_reuse=1", .processes = 64,
		.time_wait = true, .autobind_reuse = true},
		{.name = "96, TIME_WAIT", .processes = 96, .time_wait = true},
	};

	(void) state;
	for (size_t i = 0; i < lengthof(crowds); i++)
		assert_passes_in_netns(let_loose, (void *) &crowds[i]);
}

static void
open_one(int index, void *result, void *unused)
{
	(void) index;
	(void) unused;
	*(Call *) result = require_listener(NULL);
}

/*
 * In one common order, each caller would pass the ports of those before it:
 * 136 ports for 16 callers.
 */
TEST_IN_NETNS(callers_at_once_do_not_follow_each_other)
{
	set_port_range(LARGE_MIN, LARGE_MAX);
	for (int round = 0; round < 10; round++)
	{
		Call		calls[16];
		int			tried = 0;

		run_at_once(16, open_one, NULL, calls, sizeof(Call));
		for (int i = 0; i < 16; i++)
			tried += calls[i].report.ports_tried;
		require(tried <= 20, "16 callers tried %d ports", tried);
	}
}

TEST_IN_NETNS(one_pass_finds_the_last_port_of_a_large_range)
{
	static const int gaps[] = {
		LARGE_MIN, LARGE_MIN + 1, 32767, LARGE_MAX - 1, LARGE_MAX
	};
	Neighbour	neighbour = {.address = "::", .listens = true};
	Ports		held = ports_from_to(LARGE_MIN, LARGE_MAX);
	int			fds[lengthof(gaps)];
	Call		call;

	skip_without_ipv6();
	set_port_range(LARGE_MIN, LARGE_MAX);
	for (size_t i = 0; i < lengthof(gaps); i++)
		held.has[gaps[i]] = false;
	hold_ports(&neighbour, &held);
	for (size_t i = 0; i < lengthof(gaps); i++)
	{
		fds[i] = open_neighbour(&neighbour, gaps[i]);
		expect(fds[i] >= 0);
	}

	/* The windows before it come on top of one bind() for each port. */
	bind_calls = 0;
	call = open_listener(NULL);
	expect_failed(&call, EADDRINUSE);
	expect_equal(call.report.ports_in_use, LARGE_PORTS);
	require(bind_calls <= 40 + LARGE_PORTS, "%ld bind calls", bind_calls);
	for (size_t i = 0; i < lengthof(gaps); i++)
	{
		close(fds[i]);
		expect_equal(require_listener(NULL).port, gaps[i]);
	}
}

static void *
call_for_ever(void *unused)
{
	for (;;)
		close(require_listener(NULL).fd);
	return unused;
}

/*
 * A child that is forked during another thread's call is like any other
 * child: no lock stays held, and /proc is not read again.
 */
TEST_IN_NETNS(forks_beside_a_calling_thread)
{
	pthread_t	thread;

	/* Not Linux's default: the first call finds out, the second reads it. */
	set_port_range(10000, 30000);
	for (int round = 0; round < 2; round++)
		close(require_listener(NULL).fd);
	expect(pthread_create(&thread, NULL, call_for_ever, NULL) == 0);
	for (int count = 0; count < 100; count++)
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
		test(free_ports_come_before_bound_ones),
		test(a_range_in_time_wait_takes_few_calls),
		test(ports_whose_listen_was_lost_are_asked_for_again),
		test(processes_that_start_at_once_get_a_port_each),
		test(callers_at_once_do_not_follow_each_other),
		test(one_pass_finds_the_last_port_of_a_large_range),
		test(forks_beside_a_calling_thread));
}
