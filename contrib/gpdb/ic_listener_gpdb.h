/*-------------------------------------------------------------------------
 * ic_listener_gpdb.h
 *	  bind(), listen() and connect() of the interconnect and of the backend's
 *	  own libpq, by ic_listener.
 *
 * A file that includes this header, after its last other #include, has the
 * three calls mapped to functions of the same arguments, result and errno, as
 * port/win32_port.h does it on Windows and cdb/cdbicudpfaultinjection.h in
 * builds with assertions.  They differ from the system calls only where those
 * find no port: see ic_listener_gpdb.c.
 *
 * In a client, as libpq.so and psql are, the header does nothing.
 *
 * Copyright the ic-listener authors. SPDX-License-Identifier: Apache-2.0
 *
 * src/include/ic_listener_gpdb.h
 *-------------------------------------------------------------------------
 */
#ifndef IC_LISTENER_GPDB_H
#define IC_LISTENER_GPDB_H

/* src/backend/gp_libpq_fe of the older trees has both. */
#if !defined(FRONTEND) || defined(POSTGRES_H)

#ifndef __linux__
#error "USE_IC_LISTENER is for Linux"
#endif

#include <sys/socket.h>

/*
 * How long the calls of one statement wait for ports, all together, in
 * milliseconds.  With 0 none waits.
 */
#ifndef IC_LISTENER_GPDB_PATIENCE_MS
#define IC_LISTENER_GPDB_PATIENCE_MS 2000
#endif

#ifdef __cplusplus
extern "C"
{
#endif

extern int	ic_listener_gpdb_bind(int fd, const struct sockaddr *address,
								  socklen_t length);
extern int	ic_listener_gpdb_listen(int fd, int backlog);
extern int	ic_listener_gpdb_connect(int fd, const struct sockaddr *address,
									 socklen_t length);
extern int	ic_listener_gpdb_connect_or_error(int fd,
											  const struct sockaddr *address,
											  socklen_t length);

#ifdef __cplusplus
}
#endif

/* cdb/cdbicudpfaultinjection.h has a bind() that may fail on purpose. */
#ifndef bind
#define bind(fd, address, length) \
	ic_listener_gpdb_bind(fd, address, length)
#endif

#define listen(fd, backlog) \
	ic_listener_gpdb_listen(fd, backlog)

/* The interconnect's files have cdb/ml_ipc.h; libpq, which never jumps, has not. */
#ifdef ML_IPC_H
#define connect(fd, address, length) \
	ic_listener_gpdb_connect_or_error(fd, address, length)
#else
#define connect(fd, address, length) \
	ic_listener_gpdb_connect(fd, address, length)
#endif

#endif							/* the server */

#endif							/* IC_LISTENER_GPDB_H */
