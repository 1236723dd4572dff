/*-------------------------------------------------------------------------
 * ic_listener_gpdb.h
 *	  The interconnect listeners of Greenplum and its forks, opened by
 *	  ic_listener.
 *
 * gpdb/apply puts this file beside the interconnect's sources and has
 * setupTCPListeningSocket() and setupUDPListeningSocket() call it when the
 * tree is compiled with USE_IC_LISTENER.  The callers hand over the texts of
 * their tree's own error, so that it reads as before whatever the version.
 *
 * ereport(ERROR) jumps.  It is called here, in C, after the library has
 * returned, and never from inside the library.
 *
 * Copyright the ic-listener authors. SPDX-License-Identifier: Apache-2.0
 *-------------------------------------------------------------------------
 */
#ifndef IC_LISTENER_GPDB_H
#define IC_LISTENER_GPDB_H

#include <errno.h>
#include <netdb.h>
#include <sys/socket.h>

#include "cdb/cdbvars.h"
#include "libpq/libpq-be.h"
#include "miscadmin.h"

#include <ic_listener.h>

typedef int (*ic_listener_gpdb_open) (const IcListenerOptions *options,
									  int *port, int *fd,
									  IcListenerReport *report);

/*
 * The address of the session's own connection, where a query executor of a
 * tree without interconnect_address listens; NULL, the wildcard, on the
 * dispatcher and for local connections.
 */
static inline const char *
ic_listener_gpdb_session_address(char *address, size_t size)
{
	int			rc;

	if (Gp_role == GP_ROLE_DISPATCH || MyProcPort == NULL)
		return NULL;

	switch (MyProcPort->laddr.addr.ss_family)
	{
		case AF_INET:
		case AF_INET6:
			break;
		default:
			return NULL;
	}

	rc = getnameinfo((struct sockaddr *) &MyProcPort->laddr.addr,
					 MyProcPort->laddr.salen, address, size,
					 NULL, 0, NI_NUMERICHOST);
	if (rc != 0)
		elog(ERROR, "getnameinfo says %s", gai_strerror(rc));
	return address;
}

/*
 * What the administrator can do about it.
 */
static inline const char *
ic_listener_gpdb_advice(int error, IcListenerStep step)
{
	if (step == IC_LISTENER_STEP_ADDRESS || error == EADDRNOTAVAIL)
		return " Check that gp_segment_configuration has this host's"
			" addresses.";

	switch (error)
	{
		case EADDRINUSE:
			return " Widen net.ipv4.ip_local_port_range on this host, for"
				" example to \"10000 65535\", or run fewer queries at a time.";
		case EACCES:
		case EPERM:
			return " Let net.ipv4.ip_local_port_range start at"
				" net.ipv4.ip_unprivileged_port_start or above, and see whether"
				" a security module refuses the ports.";
		case EMFILE:
		case ENFILE:
			return " Raise the limit of open files on this host.";
		default:
			return "";
	}
}

/*
 * Opens a listener and returns its port.  On failure *fd is -1 and the error
 * is raised with the caller's message, and its detail, a format that holds
 * the failed step (%s) and the error (%m).
 */
static inline int
ic_listener_gpdb_listen(ic_listener_gpdb_open open_listener, const char *kind,
						const IcListenerOptions *options, int *fd, int *family,
						const char *message, const char *detail)
{
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	int			port;

	if (open_listener(options, &port, fd, &report) != 0)
	{
		int			error = errno;
		const char *step = ic_listener_step_name(report.step);
		const char *advice = ic_listener_gpdb_advice(error, report.step);

		/* ereport() keeps errno for %m as it finds it here. */
		errno = error;
		ereport(ERROR,
				(errcode(ERRCODE_GP_INTERCONNECTION_ERROR),
				 errmsg_internal("%s", _(message)),
				 errdetail(detail, step),
				 errhint("ic_listener: %s.%s", report.message, advice)));
	}

	if (gp_log_interconnect >= GPVARS_VERBOSITY_DEBUG)
		ereport(DEBUG1,
				(errmsg("Interconnect %s listener: %s in %.1f us",
						kind, report.message, report.elapsed_ns / 1000.0)));

	*family = report.family;
	return port;
}

static inline int
ic_listener_gpdb_tcp(const char *address, int backlog, int *fd,
					 const char *message, const char *detail)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	int			family;

	options.address = address;
	options.backlog = backlog;
	return ic_listener_gpdb_listen(ic_listener_open_tcp, "tcp", &options, fd,
								   &family, message, detail);
}

static inline int
ic_listener_gpdb_udp(const char *address, int *fd, int *family,
					 const char *message, const char *detail)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	options.address = address;
#ifdef USE_ASSERT_CHECKING
	if (gp_udpic_network_disable_ipv6 && address == NULL)
		options.address = "0.0.0.0";
#endif
	return ic_listener_gpdb_listen(ic_listener_open_udp, "udp", &options, fd,
								   family, message, detail);
}

#endif							/* IC_LISTENER_GPDB_H */
