/*
 * calls.c
 *		See calls.h.
 */
#include "calls.h"

#include <string.h>
#include <sys/socket.h>

#include "child.h"

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
call_setup_listener(void)
{
	Call		call = {.port = UNTOUCHED, .fd = UNTOUCHED};

	call.report = (IcListenerReport) IC_LISTENER_REPORT_INIT;
	errno = 0;
	call.returned = setup_listener(&call.port, &call.fd);
	call.error = errno;
	return call;
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

int
take_all_ports(const IcListenerOptions *options, Ports *taken, Call *last)
{
	memset(taken, 0, sizeof(*taken));
	for (int count = 0;; count++)
	{
		*last = open_listener(options);
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
