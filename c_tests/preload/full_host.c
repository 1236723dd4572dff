/*
 * full_host.c
 *		Runs a command on a host without a free port: full_host COMMAND...
 *
 * The host is a new network namespace with the port range 40000-40063, every
 * port in TIME_WAIT as listeners with SO_REUSEADDR leave it. A listener can
 * have each of them, and a connection can come from it, but only by name. A
 * socket listens on port 5000, and accepts nothing.
 *
 * The exit status is the command's; 77 when there can be no namespace.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "child.h"
#include "netns.h"
#include "sockets.h"

#define PORT_MIN 40000
#define PORT_MAX 40063
#define PEER 5000

int
main(int argc, char **argv)
{
	Neighbour	neighbour = {.address = "::",.reuse_address = true,.listens = true};
	const char *missing = enter_netns();
	int			ports;
	int			peer;

	require(argc > 1, "usage: full_host COMMAND [ARGUMENT...]");
	if (missing != NULL)
	{
		fprintf(stderr, "%s\n", missing);
		return 77;
	}
	set_port_range(PORT_MIN, PORT_MAX);
	for (int port = PORT_MIN; port <= PORT_MAX; port++)
	{
		int			fd = open_neighbour(&neighbour, port);

		require(fd >= 0, "port %d: %m", port);
		leave_time_wait(fd, "127.0.0.1");
		close(fd);
	}
	ports = ports_in_time_wait(PORT_MIN, PORT_MAX);
	require(ports == PORT_MAX - PORT_MIN + 1, "%d ports in TIME_WAIT", ports);
	peer = open_neighbour(&neighbour, PEER);
	require(peer >= 0 && listen(peer, 4096) == 0 &&
			fcntl(peer, F_SETFD, 0) == 0, "port %d: %m", PEER);
	execvp(argv[1], argv + 1);
	perror(argv[1]);
	return 127;
}
