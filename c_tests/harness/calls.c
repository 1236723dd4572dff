/*
 * calls.c
 *		See calls.h.
 */
#include "calls.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "child.h"
#include "support.h"

const Kind	tcp = {"TCP", SOCK_STREAM, ic_listener_open_tcp};
const Kind	udp = {"UDP", SOCK_DGRAM, ic_listener_open_udp};
const Kind *const kinds[2] = {&tcp, &udp};

Call
open_socket(const Kind *kind, const IcListenerOptions *options)
{
	Call		call = {.port = UNTOUCHED, .fd = UNTOUCHED};

	/* Every member must be written. */
	memset(&call.report, 0xee, sizeof(call.report));
	call.report.size = sizeof(call.report);
	errno = 0;
	call.returned = kind->open(options, &call.port, &call.fd, &call.report);
	call.error = errno;
	return call;
}

Call
open_listener(const IcListenerOptions *options)
{
	return open_socket(&tcp, options);
}

Call
require_listener(const IcListenerOptions *options)
{
	Call		call = open_listener(options);

	require(call.returned == 0, "no listener: %s", call.report.message);
	return call;
}

void
expect_failed(const Call *call, int error)
{
	expect_equal(call->returned, -1);
	require(call->error == error, "errno is %d (%s), not %d", call->error,
			strerror(call->error), error);
	expect_equal(call->port, 0);
	expect_equal(call->fd, -1);
}

/* One line of printable ASCII. */
static void
expect_one_line(const IcListenerReport *report)
{
	size_t		length = strnlen(report->message, sizeof(report->message));

	expect(0 < length && length < sizeof(report->message));
	for (size_t i = 0; i < length; i++)
		expect(report->message[i] >= ' ' && report->message[i] <= '~');
}

Call
opens(const Kind *kind, const IcListenerOptions *options)
{
	OpenFds		before = open_fds();
	Call		call = open_socket(kind, options);
	const IcListenerReport *report = &call.report;
	int			port = call.port;
	int			fd = call.fd;
	bool		listening = kind == &tcp;

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
	expect_equal(report->error, 0);
	expect_equal(report->step, IC_LISTENER_STEP_NONE);
	expect_equal(report->family, socket_option(fd, SOL_SOCKET, SO_DOMAIN));
	expect(report->origin >= IC_LISTENER_PORT_ORIGIN_FREE &&
		   report->origin <= IC_LISTENER_PORT_ORIGIN_PICKED_BY_KERNEL);
	expect_equal(report->port, port);
	expect(report->ports_tried > report->ports_in_use + report->ports_forbidden);
	expect(report->elapsed_ns > 0);
	if (report->port_min != 0 || report->port_max != 0)
		expect(report->port_min <= port && port <= report->port_max);
	else
		expect(report->origin != IC_LISTENER_PORT_ORIGIN_REUSED);
	if (options != NULL && options->port_min != 0)
	{
		expect_equal(report->port_min, options->port_min);
		expect_equal(report->port_max, options->port_max);
	}
	expect_one_line(report);
	return call;
}

IcListenerReport
refused(const Kind *kind, const IcListenerOptions *options, int error,
		IcListenerStep step, const char *message)
{
	OpenFds		before = open_fds();
	Call		call = {.port = UNTOUCHED, .fd = UNTOUCHED};

	errno = 0;
	call.returned = kind->open(options, &call.port, &call.fd, NULL);
	call.error = errno;
	expect_failed(&call, error);
	call = open_socket(kind, options);
	expect_failed(&call, error);
	expect(open_fds_are(&before, -1));
	expect_equal(call.report.error, error);
	expect_equal(call.report.step, step);
	expect_equal(call.report.origin, IC_LISTENER_PORT_ORIGIN_NONE);
	expect_one_line(&call.report);
	expect_in(call.report.message, message);
	return call.report;
}

int
take_all_ports(const Kind *kind, const IcListenerOptions *options,
			   Ports *taken, Call *last)
{
	memset(taken, 0, sizeof(*taken));
	for (int count = 0;; count++)
	{
		*last = open_socket(kind, options);
		if (last->returned != 0)
		{
			require(last->error == EADDRINUSE, "%s (errno %d)",
					last->report.message, last->error);
			return count;
		}
		require(!taken->has[last->port], "port %d came twice", last->port);
		taken->has[last->port] = true;
	}
}
