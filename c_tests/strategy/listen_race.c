/*
 * listen_race.c
 *		Two processes have bound one port with SO_REUSEADDR and call
 *		listen() at the same moment: both never succeed. Both may fail,
 *		because the kernel marks a socket as listening before it looks for
 *		others on the port (inet_csk_listen_start). That is why the library
 *		looks again at ports whose listen() it lost.
 *
 * IC_LISTENER_TEST_RACES is how many races there are (default 20,000). On a
 * machine that has no two CPUs for them they end after half a minute.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "test.h"

#define PORT 40000
#define RACES_MAX 1000000
#define SECONDS_OF_RACES 30

/* What one of the two found in each race. */
typedef struct Racer
{
	uint8_t		listens[RACES_MAX];
} Racer;

static struct Shared
{
	/* Both wait at this counter; a futex would wake them one by one. */
	uint32_t	arrivals;
	int			races;
}		   *shared;

static void
meet(uint32_t *meetings)
{
	uint32_t	all = 2 * ++*meetings;

	__atomic_add_fetch(&shared->arrivals, 1, __ATOMIC_SEQ_CST);
	for (long spins = 0;
		 (int32_t) (__atomic_load_n(&shared->arrivals, __ATOMIC_SEQ_CST) - all) < 0;
		 spins++)
	{
		/* The other process may be waiting for this CPU. */
		if (spins % 1000 == 999)
			sched_yield();
	}
}

/* With one CPU they share it. */
static void
pin_to_cpu(int index)
{
	cpu_set_t	allowed;
	cpu_set_t	own;
	int			cpu = -1;

	require(sched_getaffinity(0, sizeof(allowed), &allowed) == 0,
			"sched_getaffinity: %s", strerror(errno));
	index %= CPU_COUNT(&allowed);
	for (int left = index; left >= 0; left--)
	{
		do
			cpu++;
		while (!CPU_ISSET(cpu, &allowed));
	}
	CPU_ZERO(&own);
	CPU_SET(cpu, &own);
	require(sched_setaffinity(0, sizeof(own), &own) == 0,
			"sched_setaffinity: %s", strerror(errno));
}

static void
race(int index, void *result, void *argument)
{
	Neighbour	neighbour = {.address = "::", .reuse_address = true};
	Racer	   *racer = result;
	time_t		end = time(NULL) + SECONDS_OF_RACES;
	uint32_t	meetings = 0;

	(void) argument;
	pin_to_cpu(index);
	for (int number = 0; number < shared->races; number++)
	{
		int			fd = open_neighbour(&neighbour, PORT);

		require(fd >= 0, "bind: %s", strerror(errno));
		meet(&meetings);
		if (listen(fd, 8) == 0)
			racer->listens[number] = 1;
		else
			require(errno == EADDRINUSE, "listen: %s", strerror(errno));
		meet(&meetings);
		close(fd);
		if (index == 0 && time(NULL) >= end)
			shared->races = number + 1;
		meet(&meetings);
	}
}

static void
run_races(void *argument)
{
	Racer	   *racers = calloc(2, sizeof(Racer));
	int			counts[3] = {0};
	int			races;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	require(racers != NULL && shared != MAP_FAILED, "out of memory");
	shared->races = *(int *) argument;
	run_at_once(2, race, argument, racers, sizeof(Racer));
	races = shared->races;
	for (int number = 0; number < races; number++)
		counts[racers[0].listens[number] + racers[1].listens[number]]++;
	printf("# %d races: one listens in %d, none in %d (%.3f %%)\n", races,
		   counts[1], counts[0], 100.0 * counts[0] / races);
	fflush(stdout);
	require(counts[2] == 0, "both listen in %d of %d races", counts[2], races);

	/* It is rare that none listens. */
	require(counts[1] > races / 2, "one listens in %d of %d races only",
			counts[1], races);
}

static void
never_do_two_listen_on_one_port(void **state)
{
	const char *given = getenv("IC_LISTENER_TEST_RACES");
	int			races = given == NULL ? 20000 : atoi(given);

	(void) state;
	assert_in_range(races, 1, RACES_MAX);
	assert_passes_in_netns(run_races, &races);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(never_do_two_listen_on_one_port),
	};

	return cmocka_run_group_tests_name("listen_race", tests, NULL, NULL);
}
