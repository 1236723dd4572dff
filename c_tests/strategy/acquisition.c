/*
 * acquisition.c
 *		Who gets a port: while one of the range can be listened on, the
 *		caller gets it. It may be in TIME_WAIT, bound by a socket that does
 *		not listen, or wanted by other processes at the same moment.
 *
 * IC_LISTENER_TEST_ROUNDS is how often processes start at once on one range
 * (default 100).
 */
#define _GNU_SOURCE

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test.h"

/* The small range: 64 ports, as in the Greenplum that ran out of them. */
#define PORT_MIN 40000
#define PORT_MAX 40063
#define PORTS (PORT_MAX - PORT_MIN + 1)

/* The range that Greenplum's documents recommend. */
#define LARGE_MIN 10000
#define LARGE_MAX 65535
#define LARGE_PORTS (LARGE_MAX - LARGE_MIN + 1)

/*
 * The windows that are searched before and after the first port is named, and
 * that port, which is asked for again in the sweep. There are fewer where the
 * kernel has no windows, or is slow.
 */
#define BEFORE_THE_PASS (7 + 1 + 32)

/* The linker's --wrap leads bind() and listen() through here. */
static long bind_calls;
static int	listens_to_lose;

extern int	__real_bind(int fd, const struct sockaddr *address,
						socklen_t length);
extern int	__wrap_bind(int fd, const struct sockaddr *address,
						socklen_t length);
extern int	__real_listen(int fd, int backlog);
extern int	__wrap_listen(int fd, int backlog);

int
__wrap_bind(int fd, const struct sockaddr *address, socklen_t length)
{
	bind_calls++;
	return __real_bind(fd, address, length);
}

int
__wrap_listen(int fd, int backlog)
{
	if (listens_to_lose == 0)
		return __real_listen(fd, backlog);
	listens_to_lose--;
	errno = EADDRINUSE;
	return -1;
}

/*
 * The report of a call that found all ports of the range in use, and by which
 * sockets.
 */
static void
require_all_in_use(const Call *call, int port_min, int port_max,
				   const char *holders)
{
	const IcListenerReport *report = &call->report;
	uint32_t	ports = port_max - port_min + 1;
	char		message[128];
	int			length;

	require(call->returned == -1 && call->error == EADDRINUSE,
			"returned %d with errno %d", call->returned, call->error);
	require(call->port == 0 && call->fd == -1, "port %d, fd %d", call->port,
			call->fd);
	require(report->error == EADDRINUSE &&
			report->step == IC_LISTENER_STEP_BIND &&
			report->origin == IC_LISTENER_PORT_ORIGIN_NONE,
			"error %d, step %d, origin %d", report->error, report->step,
			report->origin);
	require(report->port_min == port_min && report->port_max == port_max,
			"range %d-%d", report->port_min, report->port_max);
	require(report->ports_tried == ports && report->ports_in_use == ports &&
			report->ports_forbidden == 0 && report->listens_lost == 0,
			"%u tried, %u in use, %u forbidden, %u lost", report->ports_tried,
			report->ports_in_use, report->ports_forbidden,
			report->listens_lost);
	length = snprintf(message, sizeof(message),
					  "no port to listen on in %d-%d: %u tried, %u in use: ",
					  port_min, port_max, ports, ports);
	/* An emulated machine may not count them all in half a second. */
	if (report->census_complete || ports <= PORTS)
		snprintf(message + length, sizeof(message) - length, "%u %s", ports,
				 holders);
	require(strncmp(report->message, message, strlen(message)) == 0,
			"message: %s", report->message);
}

/* Takes all ports of the small range, each of them with SO_REUSEADDR. */
static void
require_all_reused(void)
{
	Call		call;

	for (int count = 0; count < PORTS; count++)
	{
		call = require_listener(NULL);
		require(call.report.origin == IC_LISTENER_PORT_ORIGIN_REUSED,
				"call %d: %s", count, call.report.message);
		require(PORT_MIN <= call.port && call.port <= PORT_MAX, "port %d",
				call.port);
	}
	call = open_listener(NULL);
	require_all_in_use(&call, PORT_MIN, PORT_MAX, "listeners");
}

/* The library's own listeners on every port leave each in TIME_WAIT. */
static void
leave_all_in_time_wait(void)
{
	Call		calls[PORTS];

	for (int index = 0; index < PORTS; index++)
	{
		calls[index] = require_listener(NULL);
		leave_time_wait(calls[index].fd, index % 2 ? "127.0.0.1" : "::1");
	}
	for (int index = 0; index < PORTS; index++)
		close(calls[index].fd);
	require(ports_in_time_wait(PORT_MIN, PORT_MAX) == PORTS,
			"%d ports in TIME_WAIT", ports_in_time_wait(PORT_MIN, PORT_MAX));
}

static void
take_own_time_waits(void *unused)
{
	(void) unused;
	set_port_range(PORT_MIN, PORT_MAX);
	leave_all_in_time_wait();
	require_all_reused();
}

static void
all_ports_in_time_wait_of_the_library_are_taken(void **state)
{
	(void) state;
	assert_passes_in_netns(take_own_time_waits, NULL);
}

static void
fail_on_foreign_time_waits(void *unused)
{
	Neighbour	neighbour = {.address = "::", .listens = true};
	Call		call;

	(void) unused;
	set_port_range(PORT_MIN, PORT_MAX);
	for (int port = PORT_MIN; port <= PORT_MAX; port++)
	{
		int			fd = open_neighbour(&neighbour, port);

		require(fd >= 0, "port %d: %s", port, strerror(errno));
		leave_time_wait(fd, "127.0.0.1");
		close(fd);
	}
	require(ports_in_time_wait(PORT_MIN, PORT_MAX) == PORTS,
			"%d ports in TIME_WAIT", ports_in_time_wait(PORT_MIN, PORT_MAX));
	call = open_listener(NULL);
	require_all_in_use(&call, PORT_MIN, PORT_MAX,
					   "in TIME_WAIT without SO_REUSEADDR (");
}

static void
no_port_in_time_wait_without_so_reuseaddr_is_taken(void **state)
{
	(void) state;
	assert_passes_in_netns(fail_on_foreign_time_waits, NULL);
}

static void
take_bound_ports(void *address)
{
	Neighbour	neighbour = {.address = address, .reuse_address = true};
	Ports		ports = ports_from_to(PORT_MIN, PORT_MAX);

	set_port_range(PORT_MIN, PORT_MAX);
	hold_ports(&neighbour, &ports);
	require_all_reused();
}

static void
all_ports_that_are_bound_but_not_listening_are_taken(void **state)
{
	(void) state;
	assert_passes_in_netns(take_bound_ports, "::");
	assert_passes_in_netns(take_bound_ports, "0.0.0.0");
	assert_passes_in_netns(take_bound_ports, "127.0.0.1");
}

static void
take_the_free_ones_first(void *unused)
{
	Neighbour	neighbour = {.address = "::", .reuse_address = true};

	(void) unused;
	set_port_range(PORT_MIN, PORT_MAX);
	srandom(getpid());
	for (int round = 0; round < 30; round++)
	{
		Ports		bound = ports_from_to(PORT_MIN, PORT_MAX);
		Call		calls[5];
		int			holder;

		for (int free_ports = 0; free_ports < 4;)
		{
			int			port = PORT_MIN + random() % PORTS;

			free_ports += bound.has[port];
			bound.has[port] = false;
		}
		holder = hold_ports(&neighbour, &bound);
		for (int index = 0; index < 5; index++)
		{
			IcListenerPortOrigin origin;

			calls[index] = require_listener(NULL);
			origin = calls[index].report.origin;
			if (index < 4)
				require(!bound.has[calls[index].port] &&
						origin == IC_LISTENER_PORT_ORIGIN_FREE,
						"call %d took port %d of another process", index,
						calls[index].port);
			else
				require(origin == IC_LISTENER_PORT_ORIGIN_REUSED,
						"a fifth port was free");
		}
		for (int index = 0; index < 5; index++)
			close(calls[index].fd);
		end_child(holder);
	}
}

static void
free_ports_are_taken_before_those_others_have_bound(void **state)
{
	(void) state;
	assert_passes_in_netns(take_the_free_ones_first, NULL);
}

/*
 * One process may not have that many fds: several neighbours hold the ports.
 */
static void
hold_large_range(const Neighbour *neighbour, const Ports *ports)
{
	struct rlimit limit;
	int			ports_per_process;

	require(getrlimit(RLIMIT_NOFILE, &limit) == 0, "getrlimit");
	limit.rlim_cur = limit.rlim_max;
	require(setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit");
	ports_per_process = limit.rlim_max > LARGE_PORTS + 64 ? LARGE_PORTS :
		(int) limit.rlim_max - 64;
	for (int first = LARGE_MIN; first <= LARGE_MAX; first += ports_per_process)
	{
		Ports		share = {.has = {false}};

		for (int port = first;
			 port <= LARGE_MAX && port < first + ports_per_process; port++)
			share.has[port] = ports->has[port];
		hold_ports(neighbour, &share);
	}
}

/*
 * In a large range the kernel searches 28 ports for us, and 256 more after
 * one was refused. A quarter of the range is bound, so one of the 28 is
 * always free.
 */
static void
leave_bound_ports_alone(void *unused)
{
	Neighbour	neighbour = {.address = "::", .reuse_address = true};
	Ports		bound = {.has = {false}};

	(void) unused;
	set_port_range(LARGE_MIN, LARGE_MAX);
	srandom(getpid());
	for (int left = LARGE_PORTS / 4; left > 0;)
	{
		int			port = LARGE_MIN + random() % LARGE_PORTS;

		left -= !bound.has[port];
		bound.has[port] = true;
	}
	hold_large_range(&neighbour, &bound);
	for (int count = 0; count < 200; count++)
	{
		Call		call = require_listener(NULL);

		require(!bound.has[call.port] &&
				call.report.origin == IC_LISTENER_PORT_ORIGIN_FREE,
				"call %d took port %d of another process", count, call.port);
		close(call.fd);
	}
}

static void
ports_others_have_bound_are_left_alone_in_a_large_range(void **state)
{
	(void) state;
	assert_passes_in_netns(leave_bound_ports_alone, NULL);
}

/*
 * Each port is lost once, and no socket has it, as when two starters refuse
 * each other (listen_race.c). The second look gets all of them.
 */
static void
look_again(void *unused)
{
	Neighbour	neighbour = {.address = "::", .reuse_address = true};
	Ports		ports = ports_from_to(PORT_MIN, PORT_MAX);

	(void) unused;
	set_port_range(PORT_MIN, PORT_MAX);
	hold_ports(&neighbour, &ports);
	for (int left = PORTS; left > 0; left--)
	{
		Call		call;

		listens_to_lose = left;
		call = require_listener(NULL);
		require(call.report.listens_lost == (uint32_t) left, "%u lost",
				call.report.listens_lost);
	}
}

static void
ports_whose_listen_was_lost_are_looked_at_again(void **state)
{
	(void) state;
	assert_passes_in_netns(look_again, NULL);
}

/* Processes that all want a port at the same moment, again and again. */
typedef struct Crowd
{
	const char *name;
	int			processes;
	bool		autobind_reuse;
	bool		time_wait;
	bool		half_on_ipv4;
	int			rounds;
} Crowd;

#define ROUNDS_MAX 10000

/* One process's rounds. */
typedef struct Starter
{
	uint16_t	ports[ROUNDS_MAX];	/* 0: EADDRINUSE */
	uint16_t	lost[ROUNDS_MAX];
	uint16_t	reused[ROUNDS_MAX];
} Starter;

static void
start_in_rounds(int index, void *result, void *argument)
{
	const Crowd *crowd = argument;
	Starter    *starter = result;
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	if (crowd->half_on_ipv4 && index % 2 == 0)
		options.address = "0.0.0.0";
	for (int round = 0; round < crowd->rounds; round++)
	{
		Call		call;

		wait_for_all();
		call = open_listener(&options);
		require(call.returned == 0 || call.error == EADDRINUSE,
				"round %d: %s", round, call.report.message);
		starter->ports[round] = call.port;
		starter->lost[round] = call.report.listens_lost;
		starter->reused[round] =
			call.report.origin == IC_LISTENER_PORT_ORIGIN_REUSED;
		wait_for_all();
		if (call.returned == 0)
			close(call.fd);
	}
}

static void
count_what_the_crowd_got(const Crowd *crowd, const Starter *starters)
{
	int			expected =
		crowd->processes < PORTS ? crowd->processes : PORTS;
	long		reused = 0;
	long		lost = 0;
	int			lost_at_most = 0;

	for (int round = 0; round < crowd->rounds; round++)
	{
		Ports		taken = {.has = {false}};
		int			winners = 0;

		for (int index = 0; index < crowd->processes; index++)
		{
			int			port = starters[index].ports[round];
			int			lost_here = starters[index].lost[round];

			lost += lost_here;
			lost_at_most = lost_here > lost_at_most ? lost_here : lost_at_most;
			reused += starters[index].reused[round];
			if (port == 0)
				continue;
			require(PORT_MIN <= port && port <= PORT_MAX, "port %d", port);
			require(!taken.has[port], "round %d: port %d came twice", round,
					port);
			taken.has[port] = true;
			winners++;
		}
		require(winners == expected, "round %d: %d of %d got a port", round,
				winners, expected);
	}
	if (crowd->time_wait)
		require(reused == (long) expected * crowd->rounds,
				"only %ld ports were in TIME_WAIT", reused);
	printf("# %s: %d rounds, listens lost: %ld, by one call at most %d\n",
		   crowd->name, crowd->rounds, lost, lost_at_most);
	fflush(stdout);
}

static void
let_loose(void *argument)
{
	const Crowd *crowd = argument;
	Starter    *starters = calloc(crowd->processes, sizeof(Starter));

	require(starters != NULL, "out of memory");
	set_port_range(PORT_MIN, PORT_MAX);
	if (crowd->autobind_reuse)
		set_sysctl(AUTOBIND_REUSE, "1");

	/*
	 * A listener that comes and goes leaves the TIME_WAIT it found. That
	 * lasts a minute, and so for all rounds.
	 */
	if (crowd->time_wait)
		leave_all_in_time_wait();
	run_at_once(crowd->processes, start_in_rounds, argument, starters,
				sizeof(Starter));
	count_what_the_crowd_got(crowd, starters);
}

static void
processes_that_start_at_once_get_a_port_each(void **state)
{
	Crowd		crowds[] = {
		{.name = "64 processes, free ports", .processes = 64},
		{.name = "64 processes, half of them on 0.0.0.0", .processes = 64,
		.half_on_ipv4 = true},
		{.name = "64 processes, ip_autobind_reuse=1", .processes = 64,
		.autobind_reuse = true},
		{.name = "64 processes, TIME_WAIT", .processes = 64,
		.time_wait = true},
		{.name = "64 processes, TIME_WAIT, half of them on 0.0.0.0",
		.processes = 64, .time_wait = true, .half_on_ipv4 = true},
		{.name = "64 processes, TIME_WAIT, ip_autobind_reuse=1",
		.processes = 64, .time_wait = true, .autobind_reuse = true},
		{.name = "96 processes, free ports", .processes = 96},
		{.name = "96 processes, TIME_WAIT", .processes = 96,
		.time_wait = true},
	};
	const char *rounds = getenv("IC_LISTENER_TEST_ROUNDS");

	(void) state;
	for (size_t index = 0; index < sizeof(crowds) / sizeof(*crowds); index++)
	{
		if (crowds[index].autobind_reuse && !has_autobind_reuse())
		{
			print_message("# %s: this kernel has no " AUTOBIND_REUSE "\n",
						  crowds[index].name);
			continue;
		}
		crowds[index].rounds = rounds == NULL ? 100 : atoi(rounds);
		assert_in_range(crowds[index].rounds, 1, ROUNDS_MAX);
		assert_passes_in_netns(let_loose, &crowds[index]);
	}
}

#define CALLERS 16

static void
open_one(int index, void *result, void *unused)
{
	(void) index;
	(void) unused;
	*(Call *) result = require_listener(NULL);
}

/*
 * In one common order, each caller would pass the ports of those before it:
 * 136 ports for 16 callers. In orders of their own, two seldom meet in a
 * large range.
 */
static void
spread_callers(void *unused)
{
	(void) unused;
	set_port_range(LARGE_MIN, LARGE_MAX);
	for (int round = 0; round < 10; round++)
	{
		Call		calls[CALLERS];
		int			tried = 0;

		run_at_once(CALLERS, open_one, NULL, calls, sizeof(Call));
		for (int index = 0; index < CALLERS; index++)
			tried += calls[index].report.ports_tried;
		require(tried <= CALLERS + CALLERS / 4, "%d callers tried %d ports",
				CALLERS, tried);
	}
}

static void
callers_at_once_do_not_follow_each_other(void **state)
{
	(void) state;
	assert_passes_in_netns(spread_callers, NULL);
}

static void
search_large_range(void *unused)
{
	static const int gaps[] = {
		LARGE_MIN, LARGE_MIN + 1, 32767, LARGE_MAX - 1, LARGE_MAX
	};
	enum
	{
		GAPS = sizeof(gaps) / sizeof(*gaps)
	};
	Neighbour	neighbour = {.address = "::", .listens = true};
	Ports		held = ports_from_to(LARGE_MIN, LARGE_MAX);
	int			fds[GAPS];
	Call		call;

	(void) unused;
	set_port_range(LARGE_MIN, LARGE_MAX);
	for (int index = 0; index < GAPS; index++)
		held.has[gaps[index]] = false;
	hold_large_range(&neighbour, &held);
	for (int index = 0; index < GAPS; index++)
	{
		fds[index] = open_neighbour(&neighbour, gaps[index]);
		require(fds[index] >= 0, "port %d: %s", gaps[index], strerror(errno));
	}

	bind_calls = 0;
	call = open_listener(NULL);
	require_all_in_use(&call, LARGE_MIN, LARGE_MAX, "listeners");
	require(bind_calls > LARGE_PORTS &&
			bind_calls <= BEFORE_THE_PASS + LARGE_PORTS,
			"%ld bind calls", bind_calls);
	printf("# %d ports all taken: %ld bind calls, %.1f ms\n", LARGE_PORTS,
		   bind_calls, call.report.elapsed_ns / 1e6);
	fflush(stdout);

	for (int index = 0; index < GAPS; index++)
	{
		close(fds[index]);
		call = require_listener(NULL);
		require(call.port == gaps[index], "port %d instead of %d", call.port,
				gaps[index]);
	}
}

static void
one_pass_finds_the_last_port_of_a_large_range(void **state)
{
	(void) state;
	assert_passes_in_netns(search_large_range, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_ports_in_time_wait_of_the_library_are_taken),
		cmocka_unit_test(no_port_in_time_wait_without_so_reuseaddr_is_taken),
		cmocka_unit_test(all_ports_that_are_bound_but_not_listening_are_taken),
		cmocka_unit_test(free_ports_are_taken_before_those_others_have_bound),
		cmocka_unit_test(
				ports_others_have_bound_are_left_alone_in_a_large_range),
		cmocka_unit_test(ports_whose_listen_was_lost_are_looked_at_again),
		cmocka_unit_test(processes_that_start_at_once_get_a_port_each),
		cmocka_unit_test(callers_at_once_do_not_follow_each_other),
		cmocka_unit_test(one_pass_finds_the_last_port_of_a_large_range),
	};

	return cmocka_run_group_tests_name("acquisition", tests, NULL, NULL);
}
