/*
 * udp.c
 *		What is promised of UDP sockets alone. (The other tests of this
 *		room ask both kinds.)
 */
#define _GNU_SOURCE

#include <errno.h>

#include "test.h"

#define UDP_PORTS 64
#define UDP_ROUNDS 10

typedef struct Taken
{
	int			result;
	int			error;
	int			port;
} Taken;

static void
take_one(int index, void *result, void *argument)
{
	Taken	   *taken = result;
	int			fd;

	(void) index;
	taken->result = ic_listener_open_udp(argument, &taken->port, &fd, NULL);
	taken->error = errno;
}

/*
 * One starter more than there are ports. No process gives its port back: each
 * port goes to one of them, and the last one is told that there is none.
 */
TEST_IN_NETNS(udp_ports_are_given_once)
{
	set_port_range(40000, 40000 + UDP_PORTS - 1);
	for (int round = 0; round < UDP_ROUNDS; round++)
	{
		Taken		taken[UDP_PORTS + 1];
		bool		seen[UDP_PORTS] = {false};
		int			left_out = 0;

		now_doing("round %d", round);
		run_at_once(lengthof(taken), take_one, NULL, taken, sizeof(Taken));
		for (size_t i = 0; i < lengthof(taken); i++)
		{
			int			offset = taken[i].port - 40000;

			if (taken[i].result != 0)
			{
				expect_equal(taken[i].error, EADDRINUSE);
				expect_equal(taken[i].port, 0);
				left_out++;
				continue;
			}
			expect(offset >= 0 && offset < UDP_PORTS);
			require(!seen[offset], "port %d was given twice",
					taken[i].port);
			seen[offset] = true;
		}
		expect_equal(left_out, 1);
	}
}

int
main(void)
{
	return run_all(
		test(udp_ports_are_given_once));
}
