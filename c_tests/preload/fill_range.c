/*
 * fill_range.c
 *		Leaves every port of a range in TIME_WAIT, as listeners with
 *		SO_REUSEADDR do: fill_range PORT_MIN PORT_MAX. A listener can have
 *		these ports and a connection can come from them, but only by name.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "netns.h"
#include "sockets.h"

int
main(int argc, char **argv)
{
	Neighbour	neighbour = {.address = "::",.reuse_address = true,.listens = true};
	int			port_min = argc == 3 ? atoi(argv[1]) : 0;
	int			port_max = argc == 3 ? atoi(argv[2]) : 0;
	int			ports;

	require(0 < port_min && port_min <= port_max,
			"usage: fill_range PORT_MIN PORT_MAX");
	for (int port = port_min; port <= port_max; port++)
	{
		int			fd = open_neighbour(&neighbour, port);

		require(fd >= 0, "port %d: %m", port);
		exchange_a_byte(fd, "127.0.0.1", port);
		close(fd);
	}
	ports = ports_in_time_wait(port_min, port_max);
	require(ports == port_max - port_min + 1, "%d ports in TIME_WAIT", ports);
	return 0;
}
