/*
 * promises.c
 *		See promises.h.
 */
#include "promises.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "child.h"
#include "support.h"

#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51	/* linux/in.h */
#endif

/*
 * How bind() answered during one call of the library: each port once. [0]
 * counts how often the kernel was asked to pick one.
 */
typedef struct Answers
{
	int			of[65536];
} Answers;

static struct
{
	bool		on;
	Answers		asked;
	Answers		in_use;
	Answers		forbidden;
	int			windows_in_use; /* ports of windows where the kernel found none */
}			counted;

extern int	__real_bind(int fd, const struct sockaddr *address,
						socklen_t length);
extern int	__wrap_bind(int fd, const struct sockaddr *address,
						socklen_t length);

/* How many ports IP_LOCAL_PORT_RANGE (Linux 6.3) confines bind(0) to; or 0. */
static int
window_of(int fd)
{
	uint32_t	window = 0;
	socklen_t	size = sizeof(window);

	if (getsockopt(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, &window, &size) != 0 ||
		window == 0)
		return 0;
	return (window >> 16) - (window & 0xffff) + 1;
}

int
__wrap_bind(int fd, const struct sockaddr *address, socklen_t length)
{
	/* The port is at the same place in both families. */
	int			port = ntohs(((const struct sockaddr_in *) address)->sin_port);
	int			result = __real_bind(fd, address, length);
	int			error = errno;

	if (!counted.on)
		return result;
	counted.asked.of[port]++;
	if (result != 0)
	{
		counted.in_use.of[port] += error == EADDRINUSE;
		counted.forbidden.of[port] += error == EACCES || error == EPERM;
		if (port == 0 && error == EADDRINUSE)
			counted.windows_in_use += window_of(fd);
	}
	errno = error;
	return result;
}

/* How many ports were asked for by name. */
static int
count(const Answers *answers)
{
	int			number = 0;

	for (int port = 1; port <= 65535; port++)
		number += answers->of[port] > 0;
	return number;
}

static Call
count_call(const Kind *kind, const IcListenerOptions *options)
{
	Call		call;

	memset(&counted, 0, sizeof(counted));
	counted.on = true;
	call = open_socket(kind, options);
	counted.on = false;
	return call;
}

/*
 * The report says what bind() said; a port that was won was not in use. Where
 * no port was named, or one only and that in vain, the kernel looked in
 * windows: all their ports were in use, but in the last window it stopped at
 * the first free one.
 */
static void
expect_counts(const IcListenerReport *report, int won)
{
	int			named = count(&counted.asked);
	bool		by_window = won != 0 && counted.asked.of[won] == 0;

	if (named == 0 || (named == 1 && by_window && counted.windows_in_use > 0))
	{
		if (won != 0)
		{
			expect_equal(report->ports_in_use, counted.windows_in_use);
			expect_equal(report->ports_tried, counted.windows_in_use + 1);
		}
		return;
	}
	counted.in_use.of[won] = 0;
	if (by_window)
		named++;
	expect_equal(report->ports_tried, named);
	expect_equal(report->ports_in_use, count(&counted.in_use));
	expect_equal(report->ports_forbidden, count(&counted.forbidden));
}

static uint64_t
nanoseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * UINT64_C(1000000000) + now.tv_nsec;
}

int
opens(const Kind *kind, const IcListenerOptions *options,
	  IcListenerReport *report)
{
	OpenFds		before = open_fds();
	uint64_t	start = nanoseconds();
	Call		call = count_call(kind, options);
	uint64_t	elapsed = nanoseconds() - start;
	int			port = call.port;
	int			fd = call.fd;
	int			listening = kind->type == SOCK_STREAM;
	char		message[IC_LISTENER_MESSAGE_SIZE];
	static const char *const origins[] = {
		NULL, "was free", "was reused", "was picked by the kernel",
	};

	*report = call.report;
	require(call.returned == 0, "%s: %s", kind->name, report->message);

	expect(open_fds_are(&before, fd));
	expect(port >= 1 && port <= 65535);
	expect_equal(local_port(fd), port);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_TYPE), kind->type);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_ACCEPTCONN), listening);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_REUSEADDR), listening);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_REUSEPORT), 0);
	expect_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	expect_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);

	expect_equal(report->size, sizeof(*report));
	expect_equal(report->error, 0);
	expect_equal(report->step, IC_LISTENER_STEP_NONE);
	expect_equal(report->family, socket_option(fd, SOL_SOCKET, SO_DOMAIN));
	expect(report->origin >= IC_LISTENER_PORT_ORIGIN_FREE);
	expect(report->origin <= IC_LISTENER_PORT_ORIGIN_PICKED_BY_KERNEL);
	expect_equal(report->listens_lost, 0);
	expect_counts(report, port);
	expect(report->elapsed_ns > 0);
	expect(report->elapsed_ns <= elapsed);
	if (report->port_min != 0 || report->port_max != 0)
		expect(report->port_min <= port && port <= report->port_max);
	else
		expect(report->origin != IC_LISTENER_PORT_ORIGIN_REUSED);
	if (options != NULL && options->port_min != 0)
	{
		expect_equal(report->port_min, options->port_min);
		expect_equal(report->port_max, options->port_max);
	}
	snprintf(message, sizeof(message), "port %d %s, %u tried",
			 port, origins[report->origin], report->ports_tried);
	require(strcmp(report->message, message) == 0, "\"%s\", not \"%s\"",
			report->message, message);
	return fd;
}

/* What is promised of every message. */
static void
expect_one_line(const IcListenerReport *report)
{
	size_t		length = strnlen(report->message, sizeof(report->message));

	expect(length > 0);
	expect(length < sizeof(report->message));
	for (size_t i = 0; i < length; i++)
		expect(report->message[i] >= ' ' && report->message[i] <= '~');
}

IcListenerReport
refused(const Kind *kind, const IcListenerOptions *options, int error,
		IcListenerStep step, const char *message)
{
	OpenFds		before = open_fds();
	Call		call = {.port = UNTOUCHED, .fd = UNTOUCHED};
	IcListenerReport *report = &call.report;

	errno = 0;
	call.returned = kind->open(options, &call.port, &call.fd, NULL);
	call.error = errno;
	expect_failed(&call, error);

	call = count_call(kind, options);
	expect_failed(&call, error);
	expect(open_fds_are(&before, -1));
	expect_equal(report->size, sizeof(*report));
	expect_equal(report->error, error);
	expect_equal(report->step, step);
	expect_equal(report->origin, IC_LISTENER_PORT_ORIGIN_NONE);
	expect_equal(report->listens_lost, 0);
	expect_counts(report, 0);
	expect_one_line(report);
	expect_in(report->message, message);
	return *report;
}

void
takes_each_port_once(const Kind *kind, const IcListenerOptions *options,
					 int port_min, int port_max, IcListenerPortOrigin origin)
{
	bool		taken[65536] = {false};
	IcListenerReport report;

	for (int i = port_min; i <= port_max; i++)
	{
		int			port = local_port(opens(kind, options, &report));

		expect(port >= port_min && port <= port_max);
		expect(!taken[port]);
		taken[port] = true;
		expect_equal(report.origin, origin);
		expect_equal(report.ports_forbidden, 0);
		expect_equal(report.listens_lost, 0);
	}
}
