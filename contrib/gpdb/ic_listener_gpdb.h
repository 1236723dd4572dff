/*-------------------------------------------------------------------------
 * ic_listener_gpdb.h
 *	  bind(), listen() and connect() of the interconnect and of the backend's
 *	  own libpq, in Greenplum and its forks, by ic_listener.
 *
 * As port/win32_port.h does it: the file that includes this header, after its
 * last other include, has its calls mapped to functions of the same arguments,
 * return value and errno.  They differ from the system calls only where those
 * find no port.  gpdb/apply puts the header into src/include
 * and the include, in #ifdef USE_IC_LISTENER, into ic_tcp.c and fe-connect.c.
 * Where a client is compiled, as libpq.so and psql are, it does nothing.
 *
 * A call that still finds no port leaves one LOG entry that says what was
 * tried and what to do.  Nothing here jumps: the library has
 * returned before ereport() is called, and interrupts are held off meanwhile.
 *
 * Copyright the ic-listener authors. SPDX-License-Identifier: Apache-2.0
 *-------------------------------------------------------------------------
 */
#ifndef IC_LISTENER_GPDB_H
#define IC_LISTENER_GPDB_H

/* gp_libpq_fe of the older trees has both. */
#if !defined(FRONTEND) || defined(POSTGRES_H)

/*
 * libpq includes c.h alone.  It has strings of names that utils/errcodes.h, by
 * way of postgres.h, has numbers of, and keeps them.
 */
#ifndef POSTGRES_H
#pragma push_macro("ERRCODE_CANNOT_CONNECT_NOW")
#undef ERRCODE_CANNOT_CONNECT_NOW
#pragma push_macro("ERRCODE_INVALID_PASSWORD")
#undef ERRCODE_INVALID_PASSWORD
#pragma push_macro("ERRCODE_MIRROR_OR_QUIESCENT")
#undef ERRCODE_MIRROR_OR_QUIESCENT
#pragma push_macro("ERRCODE_MIRROR_READY")
#undef ERRCODE_MIRROR_READY
#include "postgres.h"
#pragma pop_macro("ERRCODE_CANNOT_CONNECT_NOW")
#pragma pop_macro("ERRCODE_INVALID_PASSWORD")
#pragma pop_macro("ERRCODE_MIRROR_OR_QUIESCENT")
#pragma pop_macro("ERRCODE_MIRROR_READY")
#endif

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "miscadmin.h"

#include <ic_listener.h>

/*
 * Logs that a call found no port, where that may be done; errno stays.
 *
 * Not in a second thread: ereport() knows one only, and the dispatchers of
 * Greenplum 4.3 and 5 and of HAWQ connect in threads of their own.
 *
 * ereport() may end in CHECK_FOR_INTERRUPTS(), and so in a jump over the caller,
 * who has a socket to close; hence the hold.
 */
static inline void
ic_listener_gpdb_log(const char *call, const IcListenerReport *report)
{
	int			error = errno;
	char		host[256] = "";

	if (syscall(SYS_gettid) == getpid())
	{
		gethostname(host, sizeof(host) - 1);
		HOLD_INTERRUPTS();
		ereport(LOG,
				(errmsg("%s() found no port on host \"%s\": %s",
						call, host, report->message),
				 errhint("Widen net.ipv4.ip_local_port_range there, for"
						 " example to \"10000 65535\", or run fewer queries"
						 " at a time.")));
		RESUME_INTERRUPTS();
	}
	errno = error;
}

/*
 * The library never waits. A database may: where every port is held, many of
 * the holders are sessions that are about to end, and a query that waits a
 * moment does not fail.  IC_LISTENER_GPDB_PATIENCE_MS is the limit in
 * milliseconds; with 0 it does not wait.  Cancelling the query ends the wait.
 */
#ifndef IC_LISTENER_GPDB_PATIENCE_MS
#define IC_LISTENER_GPDB_PATIENCE_MS 2000
#endif

static inline bool
ic_listener_gpdb_waits(int *waited_ms)
{
	if (*waited_ms >= IC_LISTENER_GPDB_PATIENCE_MS || InterruptPending)
		return false;
	pg_usleep(10 * 1000L);
	*waited_ms += 10;
	return true;
}

/* A port that the tree has chosen itself is not waited for: none was tried. */
static inline int
ic_listener_gpdb_bind(int fd, const struct sockaddr *address, socklen_t length)
{
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	int			waited_ms = 0;
	int			result;

	do
		result = ic_listener_bind(fd, address, length, &report);
	while (result != 0 && errno == EADDRINUSE && report.ports_tried > 0 &&
		   ic_listener_gpdb_waits(&waited_ms));
	if (result != 0 && report.error == EADDRINUSE && report.ports_tried > 0)
		ic_listener_gpdb_log("bind", &report);
	if (result != 0)
		errno = report.error;
	return result;
}

static inline int
ic_listener_gpdb_listen(int fd, int backlog)
{
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	int			waited_ms = 0;
	int			result;

	do
		result = ic_listener_listen(fd, backlog, &report);
	while (result != 0 && errno == EADDRINUSE && report.ports_tried > 0 &&
		   ic_listener_gpdb_waits(&waited_ms));
	if (result != 0 && report.error == EADDRINUSE && report.ports_tried > 0)
		ic_listener_gpdb_log("listen", &report);
	if (result != 0)
		errno = report.error;
	return result;
}

/*
 * PQcancel() may be called from a signal handler, where ereport() may not and
 * where nobody waits. It is told by its socket, the only one that is connected
 * while it blocks.
 */
static inline int
ic_listener_gpdb_connect(int fd, const struct sockaddr *address,
						 socklen_t length)
{
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	int			result = ic_listener_connect(fd, address, length, &report);
	int			waited_ms = 0;

	if (result == 0 || errno != EADDRNOTAVAIL)
		return result;
	if (fcntl(fd, F_GETFL) & O_NONBLOCK)
	{
		while (report.error == EADDRNOTAVAIL && report.ports_tried > 0 &&
			   ic_listener_gpdb_waits(&waited_ms))
		{
			if (ic_listener_connect(fd, address, length, &report) == 0)
				return 0;
		}
		if (report.error == EADDRNOTAVAIL)
			ic_listener_gpdb_log("connect", &report);
	}
	errno = report.error;
	return -1;
}

#define bind(fd, address, length) ic_listener_gpdb_bind(fd, address, length)
#define listen(fd, backlog) ic_listener_gpdb_listen(fd, backlog)
#define connect(fd, address, length) ic_listener_gpdb_connect(fd, address, length)

#endif							/* the server */

#endif							/* IC_LISTENER_GPDB_H */
