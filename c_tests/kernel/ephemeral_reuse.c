/*
 * ephemeral_reuse.c
 *		How often does bind() to port 0 hand out one port twice? For TCP and
 *		UDP, with and without listen(), with and without SO_REUSEADDR.
 *
 * Opens sockets one after the other on 0.0.0.0 port 0, keeps them all open and
 * counts. With a small range and several copies that --hold what they have, it
 * exhausts the range; --next then shows what is left. ephemeral_reuse.sh does
 * so in a network namespace and checks the outcome.
 */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ic_listener.h"
#include "support.h"

#define SOCKETS_DEFAULT 1000
#define SOCKETS_MAX 65536

typedef struct Combination
{
	bool		udp;
	bool		listens;
	bool		reuseaddr;
} Combination;

typedef struct Outcome
{
	int			bound;			/* and listening, if that was asked for */
	int			bind_refused;
	int			listen_refused;
	int			ports;			/* different ones among them */
	int			last_errno;
	int			fds[SOCKETS_MAX];
	int			fds_open;
} Outcome;

static Outcome outcome;

/* The fd of a socket on a port that the kernel picked, or -1 with errno. */
static int
bind_to_port_0(const Combination *combination)
{
	struct sockaddr_in any = {.sin_family = AF_INET};
	int			on = 1;
	int			fd = socket(AF_INET, combination->udp ? SOCK_DGRAM : SOCK_STREAM, 0);

	if (fd < 0)
	{
		perror("socket");
		exit(2);
	}
	if (combination->reuseaddr &&
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0)
	{
		perror("SO_REUSEADDR");
		exit(2);
	}
	if (bind(fd, (struct sockaddr *) &any, sizeof(any)) != 0)
	{
		int			refusal = errno;

		close(fd);
		errno = refusal;
		return -1;
	}
	return fd;
}

static void
run(const Combination *combination, int sockets)
{
	static bool taken[65536];

	memset(taken, 0, sizeof(taken));
	memset(&outcome, 0, sizeof(outcome));
	for (int i = 0; i < sockets; i++)
	{
		int			fd = bind_to_port_0(combination);
		int			port;

		if (fd < 0)
		{
			outcome.last_errno = errno;
			outcome.bind_refused++;
			continue;
		}
		/* It has a port either way, so it is kept. */
		outcome.fds[outcome.fds_open++] = fd;
		if (combination->listens && listen(fd, 1) != 0)
		{
			outcome.last_errno = errno;
			outcome.listen_refused++;
			continue;
		}
		outcome.bound++;
		port = local_port(fd);
		outcome.ports += !taken[port];
		taken[port] = true;
	}
}

static void
close_all(void)
{
	while (outcome.fds_open > 0)
		close(outcome.fds[--outcome.fds_open]);
}

static void
run_all(int sockets)
{
	printf("%-8s %-8s %-11s %7s %7s %7s %7s %7s  %s\n", "protocol", "listen",
		   "reuseaddr", "asked", "got", "no bind", "no lstn", "twice", "errno");
	for (int i = 0; i < 8; i++)
	{
		Combination combination = {i & 4, !(i & 2), i & 1};

		run(&combination, sockets);
		printf("%-8s %-8s %-11s %7d %7d %7d %7d %7d  %s\n",
			   combination.udp ? "udp" : "tcp",
			   combination.listens ? "listen" : "nolisten",
			   combination.reuseaddr ? "reuseaddr" : "noreuseaddr",
			   sockets, outcome.bound, outcome.bind_refused,
			   outcome.listen_refused, outcome.bound - outcome.ports,
			   outcome.last_errno != 0 ? strerror(outcome.last_errno) : "-");
		close_all();
	}
}

static void
hold(void)
{
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
	char		byte;

	printf("holding %d sockets on %d ports, refused %d, pid %d; press Enter or "
		   "send a signal\n", outcome.bound, outcome.ports,
		   outcome.bind_refused + outcome.listen_refused, (int) getpid());
	fflush(stdout);
	if (poll(&input, 1, -1) == 1 && read(STDIN_FILENO, &byte, 1) > 0)
		return;

	/* Nobody is there to press a key. */
	pause();
}

/*
 * The kernel's behaviour class, found by trying: does bind(0) on a socket with
 * SO_REUSEADDR hand out a port a second time when the range is exhausted?
 */
static int
probe(void)
{
	long		range[2];
	Combination combination = {.reuseaddr = true};

	if (!proc_numbers("/proc/sys/net/ipv4/ip_local_port_range", 2, range))
	{
		perror("ip_local_port_range");
		return 2;
	}
	run(&combination, range[1] - range[0] + 2);
	if (outcome.bound + outcome.bind_refused != range[1] - range[0] + 2)
		return 2;
	puts(outcome.bound > outcome.ports ? "shares" : "keeps");
	return 0;
}

static void
say(const char *what, int fd)
{
	printf("%s: %s\n", what, fd >= 0 ? "ok" : strerror(errno));
}

/* What is there still to be had? */
static void
next(void)
{
	Combination plain = {0};
	Combination shared = {.reuseaddr = true};
	int			port;
	int			fd;

	/* Each gives back what it got, or it would be in the way of the next. */
	fd = bind_to_port_0(&plain);
	say("bind(0)", fd);
	close(fd);
	fd = bind_to_port_0(&shared);
	say("SO_REUSEADDR, bind(0)", fd);
	close(fd);
	setup_listener(&port, &fd);
	say("setup_listener", fd);
}

static int
usage(void)
{
	fputs("usage: ephemeral_reuse [-n SOCKETS]\n"
		  "       ephemeral_reuse [-n SOCKETS] [--hold] tcp|udp "
		  "listen|nolisten reuseaddr|noreuseaddr\n"
		  "       ephemeral_reuse --probe|--next\n", stderr);
	return 2;
}

/* Which of the two words it is; neither ends the program. */
static bool
is_first(const char *word, const char *first, const char *second)
{
	if (strcmp(word, first) == 0)
		return true;
	if (strcmp(word, second) != 0)
		exit(usage());
	return false;
}

static void
allow_many_fds(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

int
main(int argc, char **argv)
{
	int			sockets = SOCKETS_DEFAULT;
	bool		holds = false;
	int			word = 1;
	Combination combination;

	allow_many_fds();
	if (argc == 2 && strcmp(argv[1], "--probe") == 0)
		return probe();
	if (argc == 2 && strcmp(argv[1], "--next") == 0)
	{
		next();
		return 0;
	}
	if (word + 1 < argc && strcmp(argv[word], "-n") == 0)
	{
		sockets = atoi(argv[word + 1]);
		word += 2;
	}
	if (sockets < 1 || sockets > SOCKETS_MAX)
		return usage();
	if (word == argc)
	{
		run_all(sockets);
		return 0;
	}
	if (strcmp(argv[word], "--hold") == 0)
	{
		holds = true;
		word++;
	}
	if (word + 3 != argc)
		return usage();
	combination = (Combination) {
		.udp = is_first(argv[word], "udp", "tcp"),
		.listens = is_first(argv[word + 1], "listen", "nolisten"),
		.reuseaddr = is_first(argv[word + 2], "reuseaddr", "noreuseaddr"),
	};
	run(&combination, sockets);
	if (holds)
		hold();
	else
		printf("got %d sockets on %d ports, refused %d\n", outcome.bound,
			   outcome.ports, outcome.bind_refused + outcome.listen_refused);
	return 0;
}
