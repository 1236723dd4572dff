/*
 * ephemeral_reuse.c
 *		How often does bind() to port 0 hand out one port twice? For TCP and
 *		UDP, with and without listen(), with and without SO_REUSEADDR.
 *
 *	build/ephemeral_reuse			the test: 128 sockets in a range of 64 ports
 *	build/ephemeral_reuse SOCKETS	so many on the host's own range: the table
 *
 * Opens sockets one after the other on 0.0.0.0 port 0, keeps all of them open
 * and counts. In an exhausted range, some kernels share ports among sockets
 * with SO_REUSEADDR (Linux 5.7 and later with ip_autobind_reuse=1; Linux
 * before 4.11); the others do not. (kernel_facts has the rules for single
 * ports, on which the library depends. This one asks for a whole range.)
 */
#define _GNU_SOURCE

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test.h"

#define PORT_MIN 20000
#define PORTS 64
#define SOCKETS (2 * PORTS)
#define SOCKETS_MAX 65536


typedef struct Combination
{
	bool		is_udp;
	bool		listens;
	bool		reuseaddr;
} Combination;

typedef struct Outcome
{
	int			got;			/* bound, and listening if that was asked for */
	int			no_bind;
	int			no_listen;
	int			twice;
	int			last_errno;
} Outcome;

/* In the order of the table: each of the three flags is a bit. */
#define COMBINATIONS 8

static Combination
combination_at(int index)
{
	return (Combination) {
		.is_udp = index & 4, .listens = !(index & 2), .reuseaddr = index & 1
	};
}

static int
socket_of(const Combination *combination)
{
	int			on = combination->reuseaddr;
	int			fd = socket(AF_INET, combination->is_udp ? SOCK_DGRAM : SOCK_STREAM, 0);

	require(fd >= 0 &&
			setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0,
			"socket: %s", strerror(errno));
	return fd;
}

static Outcome
open_sockets(const Combination *combination, int sockets)
{
	static int	fds[SOCKETS_MAX];
	struct sockaddr_in any = {.sin_family = AF_INET};
	Ports		taken = {.has = {false}};
	Outcome		outcome = {0};

	for (int i = 0; i < sockets; i++)
	{
		fds[i] = socket_of(combination);
		if (bind(fds[i], (struct sockaddr *) &any, sizeof(any)) != 0)
		{
			outcome.last_errno = errno;
			outcome.no_bind++;
		}
		else if (combination->listens && listen(fds[i], 1) != 0)
		{
			/* It has a port, and keeps it. */
			outcome.last_errno = errno;
			outcome.no_listen++;
		}
		else
		{
			int			port = local_port(fds[i]);

			outcome.got++;
			outcome.twice += taken.has[port];
			taken.has[port] = true;
		}
	}
	for (int i = 0; i < sockets; i++)
		close(fds[i]);
	return outcome;
}

static void
print_heading(void)
{
	printf("# %-8s %-8s %-11s %7s %7s %7s %7s %7s  %s\n", "protocol", "listen",
		   "reuseaddr", "asked", "got", "no bind", "no lstn", "twice", "errno");
}

static void
print_row(const Combination *combination, int sockets, const Outcome *outcome)
{
	printf("# %-8s %-8s %-11s %7d %7d %7d %7d %7d  %s\n",
		   combination->is_udp ? "udp" : "tcp",
		   combination->listens ? "listen" : "nolisten",
		   combination->reuseaddr ? "reuseaddr" : "noreuseaddr", sockets,
		   outcome->got, outcome->no_bind, outcome->no_listen, outcome->twice,
		   outcome->last_errno != 0 ? strerror(outcome->last_errno) : "-");
}

/* What 128 sockets get of 64 ports. */
static void
check_outcome(const Combination *combination, const Outcome *outcome,
			  bool shares)
{
	if (combination->is_udp && combination->listens)
	{
		/* UDP does not listen. */
		expect_equal(outcome->got, 0);
		expect_equal(outcome->no_bind + outcome->no_listen, SOCKETS);
		return;
	}
	if (combination->is_udp && combination->reuseaddr)
	{
		/* Every kernel shares UDP ports. */
		expect_equal(outcome->got, SOCKETS);
		expect(outcome->twice >= SOCKETS - PORTS);
		return;
	}
	if (combination->reuseaddr && !combination->listens && shares)
	{
		expect_equal(outcome->got, SOCKETS);
		expect_equal(outcome->twice, SOCKETS - PORTS);
		return;
	}
	expect_equal(outcome->got, PORTS);
	expect_equal(outcome->twice, 0);
	expect_equal(outcome->last_errno, EADDRINUSE);
}

static void
exhaust_the_range(const char *name, bool shares)
{
	set_port_range(PORT_MIN, PORT_MIN + PORTS - 1);
	printf("# %s: %d sockets in a range of %d ports\n", name, SOCKETS, PORTS);
	print_heading();
	for (int i = 0; i < COMBINATIONS; i++)
	{
		Combination combination = combination_at(i);
		Outcome		outcome = open_sockets(&combination, SOCKETS);

		print_row(&combination, SOCKETS, &outcome);
		now_doing("%s, %s, %s, %s", name, combination.is_udp ? "UDP" : "TCP",
				  combination.listens ? "listen()" : "no listen()",
				  combination.reuseaddr ? "SO_REUSEADDR" : "no SO_REUSEADDR");
		check_outcome(&combination, &outcome, shares);
	}
}

/* A kernel without the sysctl is asked which class it is of. */
TEST_IN_NETNS(as_the_kernel_comes)
{
	Combination combination = {.reuseaddr = true};
	bool		shares = false;

	if (!write_sysctl(AUTOBIND_REUSE, "0"))
	{
		set_port_range(PORT_MIN, PORT_MIN + PORTS - 1);
		shares = open_sockets(&combination, SOCKETS).got == SOCKETS;
	}
	exhaust_the_range(shares ? "a kernel that shares ports" :
					  "a kernel that keeps ports apart", shares);
}

TEST_IN_NETNS(with_autobind_reuse)
{
	if (!has_autobind_reuse())
		skip_child(AUTOBIND_REUSE ": Linux 5.7");
	set_sysctl(AUTOBIND_REUSE, "1");
	exhaust_the_range("ip_autobind_reuse=1", true);
}

static int
print_table(int sockets)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	print_heading();
	for (int i = 0; i < COMBINATIONS; i++)
	{
		Combination combination = combination_at(i);
		Outcome		outcome = open_sockets(&combination, sockets);

		print_row(&combination, sockets, &outcome);
	}
	return 0;
}

int
main(int argc, char **argv)
{
	int			sockets = argc == 2 ? atoi(argv[1]) : 0;

	if (argc == 2 && 1 <= sockets && sockets <= SOCKETS_MAX)
		return print_table(sockets);
	if (argc > 1)
	{
		fputs("usage: ephemeral_reuse [SOCKETS]\n", stderr);
		return 2;
	}
	return run_all(
		test(as_the_kernel_comes),
		test(with_autobind_reuse));
}
