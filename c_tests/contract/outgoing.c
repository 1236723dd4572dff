/*
 * outgoing.c
 *		Ports of outgoing connections cannot be listened on, unless
 *		ic_listener_share_port() was called on them.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "promises.h"
#include "test.h"

#define OUT_PORTS 8
#define OUT_MIN 40000
#define OUT_MAX (OUT_MIN + OUT_PORTS - 1)
#define SERVER_PORT 7000

typedef enum Sharing
{
	NEVER,
	BEFORE_CONNECT,
	AFTER_CONNECT,
} Sharing;

typedef struct Outgoing
{
	Sharing		sharing;
	const char *host;			/* where the connections go */
	bool		time_wait;		/* closed by the client, or in use */
} Outgoing;

static int
plain_listener(const char *host)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerReport report;

	options.address = host;
	options.port_min = options.port_max = SERVER_PORT;
	return opens(&tcp, &options, &report);
}

static int
outgoing_connection(const Outgoing *outgoing)
{
	bool		is_ipv6 = strchr(outgoing->host, ':') != NULL;
	int			fd = socket(is_ipv6 ? AF_INET6 : AF_INET,
							SOCK_STREAM | SOCK_CLOEXEC, 0);

	expect(fd >= 0);
	if (outgoing->sharing == BEFORE_CONNECT)
		expect_equal(ic_listener_share_port(fd), 0);
	connect_to(fd, outgoing->host, SERVER_PORT);
	if (outgoing->sharing == AFTER_CONNECT)
		expect_equal(ic_listener_share_port(fd), 0);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_REUSEADDR),
				 outgoing->sharing != NEVER);
	return fd;
}

/* The client's end goes to TIME_WAIT. */
static void
close_client_first(int client, int server)
{
	expect(shutdown(client, SHUT_WR) == 0);
	wait_for_end(server);
	close(server);

	/* The end of the stream is read when the server's FIN has come. */
	wait_for_end(client);
	close(client);
}

/*
 * Outgoing connections on every port of the range. Listeners can take their
 * ports if, and only if, ic_listener_share_port() was called.
 */
static void
outgoing_body(void *argument)
{
	const Outgoing *outgoing = argument;
	int			clients[OUT_PORTS];
	int			servers[OUT_PORTS];
	int			listener;

	now_doing("to %s", outgoing->host);
	skip_without_ipv6();
	set_port_range(OUT_MIN, OUT_MAX);
	listener = plain_listener(outgoing->host);
	for (int i = 0; i < OUT_PORTS; i++)
	{
		clients[i] = outgoing_connection(outgoing);
		servers[i] = accept_from(listener);
	}
	for (int i = 0; outgoing->time_wait && i < OUT_PORTS; i++)
		close_client_first(clients[i], servers[i]);

	if (outgoing->sharing == NEVER)
		refused(&tcp, NULL, EADDRINUSE, IC_LISTENER_STEP_BIND,
				"no port to listen on in 40000-40007: 8 tried, 8 in use");
	else
	{
		IcListenerReport report;
		int			fd;

		fd = opens(&tcp, NULL, &report);
		expect_equal(report.origin, IC_LISTENER_PORT_ORIGIN_REUSED);
		close(fd);
		takes_each_port_once(&tcp, NULL, OUT_MIN, OUT_MAX,
							 IC_LISTENER_PORT_ORIGIN_REUSED);
	}

	/* The connections go on. */
	for (int i = 0; !outgoing->time_wait && i < OUT_PORTS; i++)
	{
		pass_a_number(clients[i], servers[i]);
		pass_a_number(servers[i], clients[i]);
	}
}

TEST(share_port_on_anything_else)
{
	OpenFds		before;
	int			pipes[2];
	int			file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int			datagram = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int			closed = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	expect(pipe(pipes) == 0);
	close(closed);
	before = open_fds();
	{
		const struct
		{
			const char *name;
			int			fd;
			int			error;
		}			cases[] = {
			{"-1", -1, EBADF},
			{"-2", -2, EBADF},
			{"INT_MIN", INT_MIN, EBADF},
			{"9999", 9999, EBADF},
			{"INT_MAX", INT_MAX, EBADF},
			{"a closed one", closed, EBADF},
			{"a file", file, ENOTSOCK},
			{"a pipe", pipes[0], ENOTSOCK},
			{"a UDP socket", datagram, EPROTOTYPE},
		};

		for (size_t i = 0; i < lengthof(cases); i++)
		{
			now_doing("fd %s", cases[i].name);
			errno = 0;
			expect_equal(ic_listener_share_port(cases[i].fd), -1);
			expect_equal(errno, cases[i].error);
			expect(open_fds_are(&before, -1));
		}
	}
	expect_equal(socket_option(datagram, SOL_SOCKET, SO_REUSEADDR), 0);
}

static void
outgoing(Sharing sharing, bool time_wait)
{
	static const char *const hosts[] = {"127.0.0.1", "::1"};

	for (size_t i = 0; i < lengthof(hosts); i++)
	{
		Outgoing	outgoing = {sharing, hosts[i], time_wait};

		assert_passes_in_netns(outgoing_body, &outgoing);
	}
}

static void
outgoing_ports_in_use_are_out_of_reach(void **state)
{
	(void) state;
	outgoing(NEVER, false);
}

static void
outgoing_ports_in_time_wait_are_out_of_reach(void **state)
{
	(void) state;
	outgoing(NEVER, true);
}

static void
shared_before_connect_in_use(void **state)
{
	(void) state;
	outgoing(BEFORE_CONNECT, false);
}

static void
shared_before_connect_in_time_wait(void **state)
{
	(void) state;
	outgoing(BEFORE_CONNECT, true);
}

static void
shared_after_connect_in_use(void **state)
{
	(void) state;
	outgoing(AFTER_CONNECT, false);
}

static void
shared_after_connect_in_time_wait(void **state)
{
	(void) state;
	outgoing(AFTER_CONNECT, true);
}

int
main(void)
{
	return run_all(
		test(outgoing_ports_in_use_are_out_of_reach),
		test(outgoing_ports_in_time_wait_are_out_of_reach),
		test(shared_before_connect_in_use),
		test(shared_before_connect_in_time_wait),
		test(shared_after_connect_in_use),
		test(shared_after_connect_in_time_wait),
		test(share_port_on_anything_else));
}
