/*
 * full_host.c
 *		Runs a command on a host of its own, without a free port:
 *		full_host [--quiet | --ports N] COMMAND...
 *
 * The host is a new network namespace with the port range 40000-40063, every
 * port in TIME_WAIT as listeners with SO_REUSEADDR leave it. A listener can
 * have each of them, and a connection can come from it, but only by name. A
 * socket listens on port 5000, and accepts nothing.
 *
 *	--quiet	leaves the default range, and nothing in it
 *	--ports	makes the range that long, and leaves nothing in it
 *
 * The exit status is the command's; 77 when there can be no namespace.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
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

	if (missing != NULL)
	{
		fprintf(stderr, "%s\n", missing);
		return 77;
	}
	expect(fcntl(server_on("::", 5000), F_SETFD, 0) == 0);
	if (strcmp(kind, "--quiet") == 0)
		command++;
	else if (strcmp(kind, "--ports") == 0 && argc > 2)
	{
		set_port_range(PORT_MIN, PORT_MIN + atoi(argv[2]) - 1);
		command += 2;
	}
	else
		crowd(PORT_MIN, PORT_MAX);
	require(command[0] != NULL, "usage: full_host [--quiet | --ports N] COMMAND [ARGUMENT...]");
	execvp(command[0], command);
	perror(command[0]);
	return 127;
}
