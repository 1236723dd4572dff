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
#include <unistd.h>

#include "child.h"
#include "crowded.h"
#include "netns.h"

#define PORT_MIN 40000
#define PORT_MAX 40063

int
main(int argc, char **argv)
{
	const char *missing = enter_netns();
	const char *kind = argc > 1 ? argv[1] : "";
	char	  **command = argv + 1;
	int			server;

	if (missing != NULL)
	{
		fprintf(stderr, "%s\n", missing);
		return 77;
	}
	server = server_on("::", 5000);
	expect(fcntl(server, F_SETFD, 0) == 0);
	if (strcmp(kind, "--quiet") == 0)
		command++;
	else if (strcmp(kind, "--ports") == 0 && argc > 2)
	{
		set_port_range(PORT_MIN, PORT_MIN + atoi(argv[2]) - 1);
		command += 2;
	}
	else if (strcmp(kind, "--taken") == 0)
	{
		set_sysctl("net.ipv4.tcp_timestamps", "0");
		set_sysctl("net.ipv4.tcp_max_tw_buckets", "262144");
		for (int port = 32768; port <= 60999; port++)
			leave_own_time_wait(port, "127.0.0.1", server);
		command++;
	}
	else
		crowd(PORT_MIN, PORT_MAX);
	require(command[0] != NULL, "usage: full_host [--quiet | --ports N | --taken] COMMAND [ARGUMENT...]");
	execvp(command[0], command);
	perror(command[0]);
	return 127;
}
