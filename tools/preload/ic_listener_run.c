/*
 * ic_listener_run.c
 *		Runs a command with libic_listener_preload.so preloaded, or checks
 *		that this works here: ic_listener_run(1).
 */
#define _GNU_SOURCE

#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif

#define LIBRARY LIBDIR "/libic_listener_preload.so"
#define RANGE_FILE "/proc/sys/net/ipv4/ip_local_port_range"

/* How the program calls itself, with the library preloaded. */
#define CHECK_INSIDE "--check-inside"

/* The exit statuses of env(1), but for the first two. */
enum
{
	NOT_WELL = 1,
	WRONG_USAGE = 2,
	FAILED = 125,
	CANNOT_BE_RUN = 126,
	NOT_FOUND = 127,
};

static const char usage[] =
"usage: ic_listener_run COMMAND [ARGUMENT...]\n"
"       ic_listener_run --check\n"
"\n"
"Runs the command with bind(), listen() and connect() that find a port also\n"
"where TIME_WAIT and other connections fill the host's ephemeral port range.\n"
"\n"
"  --check    says whether that can work here, and how\n"
"  --help     prints this\n"
"  --version  prints the version\n"
"\n"
"In the environment:\n"
"  IC_LISTENER_LOG=stderr   a line for each call that found no port\n"
"  IC_LISTENER_PATIENCE=MS  such a call waits for a port, so many milliseconds\n";

/* Appends the library to LD_PRELOAD: last means close to the kernel. */
static void
preload(void)
{
	const char *before = getenv("LD_PRELOAD");
	char	   *all;

	if (strpbrk(LIBRARY, " :") != NULL)
	{
		fprintf(stderr, "ic_listener_run: %s: a path with a space or a colon "
				"cannot stand in LD_PRELOAD\n", LIBRARY);
		exit(FAILED);
	}
	if (access(LIBRARY, R_OK) != 0)
	{
		fprintf(stderr, "ic_listener_run: %s: %m\n", LIBRARY);
		exit(FAILED);
	}
	if (before == NULL || *before == '\0')
		before = NULL;
	else if (strstr(before, LIBRARY) != NULL)
		return;
	if (asprintf(&all, "%s%s%s", before ? before : "", before ? ":" : "",
				 LIBRARY) < 0 ||
		setenv("LD_PRELOAD", all, 1) != 0)
	{
		fprintf(stderr, "ic_listener_run: %m\n");
		exit(FAILED);
	}
	free(all);
}

static int
run(char **command)
{
	int			error;

	preload();
	execvp(command[0], command);
	error = errno;
	fprintf(stderr, "ic_listener_run: %s: %s\n", command[0], strerror(error));
	return error == ENOENT ? NOT_FOUND : CANNOT_BE_RUN;
}

/* The library that programs get bind() from, or "". */
static const char *
first_with_bind(void)
{
	void	   *function = dlsym(RTLD_DEFAULT, "bind");
	Dl_info		info;

	return function != NULL && dladdr(function, &info) != 0 ?
		info.dli_fname : "";
}

/*
 * A TCP socket bound to *port of 127.0.0.1 (0: any), or -1. *port becomes the
 * one it has.
 */
static int
bound(in_port_t *port)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = *port,
		.sin_addr = {htonl(INADDR_LOOPBACK)},
	};
	socklen_t	length = sizeof(address);
	int			fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int			on = 1;

	if (fd < 0)
		return -1;
	if ((*port == 0 ||
		 setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0) &&
		bind(fd, (struct sockaddr *) &address, length) == 0 &&
		getsockname(fd, (struct sockaddr *) &address, &length) == 0)
	{
		*port = address.sin_port;
		return fd;
	}
	close(fd);
	return -1;
}

/*
 * Leaves a port of the host in TIME_WAIT by way of the library, and takes it
 * again by name. NULL, or what failed.
 */
static const char *
take_from_time_wait(void)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_addr = {htonl(INADDR_LOOPBACK)},
	};
	in_port_t	port = 0;
	int			listener = bound(&port);
	int			client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int			accepted;
	char		byte;
	int			again;

	address.sin_port = port;
	if (listener < 0)
		return "bind";
	if (listen(listener, 1) != 0)
		return "listen";
	if (client < 0 ||
		connect(client, (struct sockaddr *) &address, sizeof(address)) != 0)
		return "connect";
	accepted = accept(listener, NULL, NULL);
	if (accepted < 0)
		return "accept";
	/* The side that closes first gets the TIME_WAIT. */
	close(accepted);
	if (read(client, &byte, 1) != 0)
		return "read";
	close(client);
	close(listener);

	again = bound(&port);
	if (again < 0)
		return "bind to a port in TIME_WAIT";
	if (listen(again, 1) != 0)
		return "listen on a port in TIME_WAIT";
	close(again);
	return NULL;
}

static int
check_inside(void)
{
	struct utsname system;
	FILE	   *file = fopen(RANGE_FILE, "re");
	int			port_min;
	int			port_max;
	int			fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int			window = 0;
	const char *failed;

	if (dlopen(LIBRARY, RTLD_LAZY | RTLD_NOLOAD) == NULL)
	{
		printf("%s: cannot be preloaded\n", LIBRARY);
		return NOT_WELL;
	}
	if (strcmp(first_with_bind(), LIBRARY) == 0)
		printf("%s: loaded\n", LIBRARY);
	else
		printf("%s: loaded, behind %s\n", LIBRARY, first_with_bind());

	uname(&system);
	if (fd >= 0 && setsockopt(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, &window,
							  sizeof(window)) == 0)
		printf("%s %s: searches windows of the port range\n", system.sysname,
			   system.release);
	else
		printf("%s %s: asks for single ports; before Linux 6.3 there are no "
			   "windows to search\n", system.sysname, system.release);
	close(fd);

	if (file == NULL || fscanf(file, "%d %d", &port_min, &port_max) != 2)
		printf("port range: cannot be read, so that only free ports are "
			   "found\n");
	else
		printf("port range: %d to %d, %d ports\n", port_min, port_max,
			   port_max - port_min + 1);

	failed = take_from_time_wait();
	if (failed != NULL)
	{
		printf("a port in TIME_WAIT: %s: %m\n", failed);
		return NOT_WELL;
	}
	printf("a port in TIME_WAIT: can be listened on again\n");
	return 0;
}

/* In another process, because the library can only be loaded at its start. */
static int
check(void)
{
	static char self[] = "/proc/self/exe";
	char	   *command[] = {self, CHECK_INSIDE, NULL};

	if (access(LIBRARY, R_OK) != 0)
	{
		printf("%s: %m\n", LIBRARY);
		return NOT_WELL;
	}
	preload();
	execv(self, command);
	fprintf(stderr, "ic_listener_run: %s: %m\n", self);
	return FAILED;
}

int
main(int argc, char **argv)
{
	const char *option = argc > 1 ? argv[1] : "";

	if (option[0] != '-')
	{
		if (argc > 1)
			return run(argv + 1);
	}
	else if (strcmp(option, "--") == 0 && argc > 2)
		return run(argv + 2);
	else if (argc == 2 && strcmp(option, "--check") == 0)
		return check();
	else if (argc == 2 && strcmp(option, CHECK_INSIDE) == 0)
		return check_inside();
	else if (argc == 2 && strcmp(option, "--help") == 0)
		return fputs(usage, stdout) == EOF || fflush(stdout) != 0 ? FAILED : 0;
	else if (argc == 2 && strcmp(option, "--version") == 0)
		return printf("ic_listener_run %s\n", VERSION) < 0 ||
			fflush(stdout) != 0 ? FAILED : 0;
	else
		fprintf(stderr, "ic_listener_run: unknown option, or too many arguments: "
				"%s\n", option);
	fputs(usage, stderr);
	return WRONG_USAGE;
}
