/*
 * full_host.c
 *		Runs a command on a host of its own, without a free port:
 *		full_host [--quiet | --ports N | --taken] COMMAND...
 *
 * The host is a new network namespace with the port range 40000-40063, every
 * port in TIME_WAIT as listeners with SO_REUSEADDR leave it. A listener can
 * have each of them, and a connection can come from it, but only by name. A
 * socket listens on port 5000, and accepts nothing.
 *
 *	--quiet	leaves the default range, and nothing in it
 *	--ports	makes the range that long, and leaves nothing in it
 *	--taken	leaves the default range, and from every port of it a connection
 *			to 127.0.0.1, port 5000, in TIME_WAIT, which none can take over
 *
 * The exit status is the command's; 77 when there can be no namespace.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "child.h"
#include "netns.h"
#include "sockets.h"

#define PORT_MIN 40000
#define PORT_MAX 40063
#define PEER 5000

#define DEFAULT_MIN 32768
#define DEFAULT_MAX 60999

static const Neighbour listening = {.address = "::",.reuse_address = true,.listens = true};
static const Neighbour calling = {.address = "127.0.0.1",.reuse_address = true};

static void
fill(void)
{
	int			ports;

	set_port_range(PORT_MIN, PORT_MAX);
	for (int port = PORT_MIN; port <= PORT_MAX; port++)
	{
		int			fd = open_neighbour(&listening, port);

		require(fd >= 0, "port %d: %m", port);
		leave_time_wait(fd, "127.0.0.1");
		close(fd);
	}
	ports = ports_in_time_wait(PORT_MIN, PORT_MAX);
	require(ports == PORT_MAX - PORT_MIN + 1, "%d ports in TIME_WAIT", ports);
}

/* Who closes first has the TIME_WAIT. Timestamps would let it be taken over. */
static void
take(int peer)
{
	set_port_range(DEFAULT_MIN, DEFAULT_MAX);
	set_sysctl("net.ipv4.tcp_timestamps", "0");
	set_sysctl("net.ipv4.tcp_max_tw_buckets", "262144");
	for (int port = DEFAULT_MIN; port <= DEFAULT_MAX; port++)
	{
		int			client = open_neighbour(&calling, port);
		int			server;

		require(client >= 0, "port %d: %m", port);
		connect_to(client, "127.0.0.1", PEER);
		server = accept_from(peer);
		close(client);
		wait_for_end(server);
		close(server);
	}
}

int
main(int argc, char **argv)
{
	const char *missing = enter_netns();
	const char *kind = argc > 1 ? argv[1] : "";
	char	  **command = argv + 1;
	int			peer;

	if (missing != NULL)
	{
		fprintf(stderr, "%s\n", missing);
		return 77;
	}
	peer = open_neighbour(&listening, PEER);
	require(peer >= 0 && listen(peer, 4096) == 0 &&
			fcntl(peer, F_SETFD, 0) == 0, "port %d: %m", PEER);
	if (strcmp(kind, "--quiet") == 0)
		command++;
	else if (strcmp(kind, "--taken") == 0)
	{
		take(peer);
		command++;
	}
	else if (strcmp(kind, "--ports") == 0 && argc > 2)
	{
		set_port_range(PORT_MIN, PORT_MIN + atoi(argv[2]) - 1);
		command += 2;
	}
	else
		fill();
	require(command[0] != NULL,
			"usage: full_host [--quiet | --ports N | --taken] COMMAND [ARGUMENT...]");
	execvp(command[0], command);
	perror(command[0]);
	return 127;
}
