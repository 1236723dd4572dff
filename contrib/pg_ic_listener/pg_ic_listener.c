/*
 * pg_ic_listener.c
 *		Interconnect listeners in a PostgreSQL backend, and rows through them,
 *		as Greenplum's query executors exchange them.
 *
 * Errors leave through ereport(), which is a longjmp.  The calls into
 * ic_listener have returned by then, so that it never crosses a Rust frame.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/ilist.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#if PG_VERSION_NUM >= 140000
#include "utils/wait_event.h"
#else
#include "pgstat.h"
#endif

#include "ic_listener.h"

PG_MODULE_MAGIC;

/* Greenplum's code for a failure of its interconnect. */
#define ERRCODE_INTERCONNECTION_ERROR MAKE_SQLSTATE('5', '8', 'M', '0', '1')

/*
 * The longest row.  A greater length is not ours: another program has found
 * the port.
 */
#define ROW_MAX (1024 * 1024)

/* udp(7): the length field has 16 bits. */
#define DATAGRAM_MAX PG_UINT16_MAX

/*
 * A socket and when it is closed: with the transaction or subtransaction of
 * that owner, or, NULL, when the process ends.
 */
typedef struct IcSocket
{
	dlist_node	node;
	int			fd;
	bool		stream;
	ResourceOwner owner;
	bool		mid_row;		/* a part of a row has passed */
} IcSocket;

static dlist_head ic_sockets = DLIST_STATIC_INIT(ic_sockets);


/* ------------------------------------------------------------
 * Sockets and their end
 * ------------------------------------------------------------
 */

static void
release_socket(IcSocket *sock)
{
	if (sock->fd >= 0)
		close(sock->fd);
	ReleaseExternalFD();
	dlist_delete(&sock->node);
	pfree(sock);
}

/*
 * A subtransaction that commits hands its sockets on.  Each query has an
 * owner of its own as well, which no socket has.
 */
static void
at_owner_end(ResourceReleasePhase phase, bool isCommit, bool isTopLevel,
			 void *arg)
{
	dlist_mutable_iter iter;

	if (phase != RESOURCE_RELEASE_AFTER_LOCKS)
		return;
	dlist_foreach_modify(iter, &ic_sockets)
	{
		IcSocket   *sock = dlist_container(IcSocket, node, iter.cur);

		if (sock->owner != CurrentResourceOwner)
			continue;
		if (isCommit && !isTopLevel)
			sock->owner = ResourceOwnerGetParent(sock->owner);
		else
			release_socket(sock);
	}
}

/*
 * The kernel would close them too, but late: after the backend has left
 * pg_stat_activity and after its memory is unmapped (do_exit() calls
 * exit_mm() before exit_files()).  A client that sees a backend gone may
 * count on its ports.
 */
static void
at_process_end(int code, Datum arg)
{
	while (!dlist_is_empty(&ic_sockets))
		release_socket(dlist_head_element(IcSocket, node, &ic_sockets));
}

/*
 * Makes an entry before its socket is opened, so that nothing can fail
 * between the opening and the accounting.  After a later failure, the abort
 * of the transaction cleans up.
 */
static IcSocket *
new_socket(bool stream)
{
	static bool registered = false;
	IcSocket   *sock;

	if (!registered)
	{
		RegisterResourceReleaseCallback(at_owner_end, NULL);
		before_shmem_exit(at_process_end, (Datum) 0);
		registered = true;
	}

	sock = MemoryContextAllocZero(TopMemoryContext, sizeof(IcSocket));
	if (!AcquireExternalFD())
	{
		pfree(sock);
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not open another interconnect socket"),
				 errdetail("This backend has as many sockets open as it may."),
				 errhint("Close some, or increase max_files_per_process.")));
	}
	sock->fd = -1;
	sock->stream = stream;
	sock->owner = CurTransactionResourceOwner;
	dlist_push_head(&ic_sockets, &sock->node);
	return sock;
}

static IcSocket *
find_socket(int fd)
{
	dlist_iter	iter;

	dlist_foreach(iter, &ic_sockets)
	{
		IcSocket   *sock = dlist_container(IcSocket, node, iter.cur);

		if (sock->fd == fd)
			return sock;
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("file descriptor %d is not an interconnect socket", fd),
			 errhint("Sockets are closed when their transaction ends, unless they were opened with \"keep\".")));
	return NULL;				/* not reached */
}

static void
socket_error(const char *message, const char *step)
{
	ereport(ERROR,
			(errcode(ERRCODE_INTERCONNECTION_ERROR),
			 errmsg("%s", message),
			 errdetail("%s: %m", step)));
}

/*
 * Waits until the socket is ready, or the backend is wanted for something
 * else.  The caller tries again in both cases.
 */
static void
wait_for_socket(IcSocket *sock, int event)
{
	int			rc;

	rc = WaitLatchOrSocket(MyLatch,
						   WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | event,
						   sock->fd, -1L, PG_WAIT_EXTENSION);
	if (rc & WL_LATCH_SET)
		ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

static bool
would_block(void)
{
	return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}


/* ------------------------------------------------------------
 * Listeners
 * ------------------------------------------------------------
 */

static void
listener_error(const char *protocol, const IcListenerReport *report)
{
	bool		bad_option = report->step == IC_LISTENER_STEP_ARGUMENTS ||
		report->step == IC_LISTENER_STEP_ADDRESS;

	ereport(ERROR,
			(errcode(bad_option ? ERRCODE_INVALID_PARAMETER_VALUE :
					 ERRCODE_INTERCONNECTION_ERROR),
			 errmsg("could not set up %s interconnect listener", protocol),
			 errdetail("%s", report->message),
			 report->error == EADDRINUSE ?
			 errhint("Widen the port range, or close what holds its ports.") :
			 0));
}

/* By IcListenerPortOrigin. */
static const char *const origin_names[] = {
	"none", "free", "reused", "picked by kernel", "deferred"
};

static Datum
form_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	TupleDesc	tupdesc;

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	tupdesc = BlessTupleDesc(tupdesc);
	if (nulls == NULL)
		nulls = palloc0(tupdesc->natts * sizeof(bool));
	return HeapTupleGetDatum(heap_form_tuple(tupdesc, values, nulls));
}

static int
int_or_zero(FunctionCallInfo fcinfo, int argno)
{
	return PG_ARGISNULL(argno) ? 0 : PG_GETARG_INT32(argno);
}

static char *
cstring_or_null(FunctionCallInfo fcinfo, int argno)
{
	return PG_ARGISNULL(argno) ? NULL :
		text_to_cstring(PG_GETARG_TEXT_PP(argno));
}

static bool
bool_or_false(FunctionCallInfo fcinfo, int argno)
{
	return PG_ARGISNULL(argno) ? false : PG_GETARG_BOOL(argno);
}

static Datum
open_listener(FunctionCallInfo fcinfo, bool stream, bool keep,
			  const IcListenerOptions *options)
{
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	IcSocket   *sock = new_socket(stream);
	int			port;
	int			rc;
	Datum		values[6];
	Datum		result;

	rc = (stream ? ic_listener_open_tcp : ic_listener_open_udp)
		(options, &port, &sock->fd, &report);
	if (rc != 0)
		listener_error(stream ? "TCP" : "UDP", &report);
	elog(DEBUG1, "interconnect listener: %s", report.message);

	values[0] = Int32GetDatum(port);
	values[1] = Int32GetDatum(sock->fd);
	values[2] = CStringGetTextDatum(origin_names[report.origin]);
	values[3] = Int32GetDatum(report.ports_tried);
	values[4] = Int32GetDatum(report.listens_lost);
	values[5] = Int64GetDatum(report.elapsed_ns);
	result = form_row(fcinfo, values, NULL);
	if (keep)
		sock->owner = NULL;
	return result;
}

PG_FUNCTION_INFO_V1(pg_ic_open_tcp);
Datum
pg_ic_open_tcp(PG_FUNCTION_ARGS)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	options.address = cstring_or_null(fcinfo, 0);
	options.backlog = int_or_zero(fcinfo, 1);
	options.port_min = int_or_zero(fcinfo, 2);
	options.port_max = int_or_zero(fcinfo, 3);
	return open_listener(fcinfo, true, bool_or_false(fcinfo, 4), &options);
}

PG_FUNCTION_INFO_V1(pg_ic_open_udp);
Datum
pg_ic_open_udp(PG_FUNCTION_ARGS)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	options.address = cstring_or_null(fcinfo, 0);
	options.port_min = int_or_zero(fcinfo, 1);
	options.port_max = int_or_zero(fcinfo, 2);
	return open_listener(fcinfo, false, bool_or_false(fcinfo, 3), &options);
}

PG_FUNCTION_INFO_V1(pg_ic_census);
Datum
pg_ic_census(PG_FUNCTION_ARGS)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerCensus census = IC_LISTENER_CENSUS_INIT;
	Datum		values[15];
	bool		nulls[15] = {false};
	int			i = 0;

	options.address = cstring_or_null(fcinfo, 0);
	options.port_min = int_or_zero(fcinfo, 1);
	options.port_max = int_or_zero(fcinfo, 2);
	if (ic_listener_census(&options, &census) != 0)
		ereport(ERROR,
				(errcode(census.error == EINVAL ?
						 ERRCODE_INVALID_PARAMETER_VALUE :
						 ERRCODE_INTERCONNECTION_ERROR),
				 errmsg("could not count who holds the ports"),
				 errdetail("%s", census.message)));

	values[i++] = Int32GetDatum(census.port_min);
	values[i++] = Int32GetDatum(census.port_max);
	values[i++] = Int32GetDatum(census.ports);
	values[i++] = Int32GetDatum(census.holders.listening);
	values[i++] = Int32GetDatum(census.holders.bound);
	values[i++] = Int32GetDatum(census.holders.connected);
	values[i++] = Int32GetDatum(census.holders.closing);
	values[i++] = Int32GetDatum(census.holders.time_wait);
	values[i++] = Int32GetDatum(census.holders.unseen);
	nulls[i] = census.holders.time_wait == 0;
	values[i++] = Int32GetDatum(census.holders.time_wait_next_s);
	nulls[i] = census.holders.time_wait == 0;
	values[i++] = Int32GetDatum(census.holders.time_wait_last_s);
	values[i++] = CStringGetTextDatum(census.holders.source == IC_LISTENER_CENSUS_SOURCE_PROC ?
									  "/proc/net/tcp" : "netlink");
	values[i++] = BoolGetDatum(census.holders.complete != 0);
	values[i++] = Int64GetDatum(census.elapsed_ns);
	values[i++] = CStringGetTextDatum(census.message);
	return form_row(fcinfo, values, nulls);
}


/* ------------------------------------------------------------
 * Connections
 * ------------------------------------------------------------
 */

PG_FUNCTION_INFO_V1(pg_ic_accept);
Datum
pg_ic_accept(PG_FUNCTION_ARGS)
{
	IcSocket   *listener = find_socket(PG_GETARG_INT32(0));
	IcSocket   *sock = new_socket(true);

	for (;;)
	{
		sock->fd = accept4(listener->fd, NULL, NULL,
						   SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (sock->fd >= 0)
			PG_RETURN_INT32(sock->fd);
		/* The other end may have closed it already: accept(2). */
		if (!would_block() && errno != ECONNABORTED)
			socket_error("could not accept interconnect connection", "accept");
		wait_for_socket(listener, WL_SOCKET_READABLE);
	}
}

/*
 * A numeric address and a port.
 */
static socklen_t
socket_address(const char *address, int port, struct sockaddr_storage *result)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
		.ai_socktype = SOCK_STREAM};
	struct addrinfo *found;
	char		service[sizeof("65535")];
	socklen_t	length;

	if (port < 0 || port > 65535)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("port %d is out of range", port)));
	snprintf(service, sizeof(service), "%d", port);
	if (getaddrinfo(address, service, &hints, &found) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is not a numeric address", address)));
	length = found->ai_addrlen;
	memcpy(result, found->ai_addr, length);
	freeaddrinfo(found);
	return length;
}

/* The port is at the same place in both families. */
static int
local_port(const IcSocket *sock, const char *failed)
{
	struct sockaddr_storage local;
	socklen_t	length = sizeof(local);

	if (getsockname(sock->fd, (struct sockaddr *) &local, &length) != 0)
		socket_error(failed, "getsockname");
	return ntohs(((struct sockaddr_in *) &local)->sin_port);
}

PG_FUNCTION_INFO_V1(pg_ic_drop_in_listen_tcp);
Datum
pg_ic_drop_in_listen_tcp(PG_FUNCTION_ARGS)
{
	static const char failed[] = "could not set up TCP interconnect listener";
	char	   *address = cstring_or_null(fcinfo, 0);
	bool		plain = bool_or_false(fcinfo, 1);
	int			reuse = bool_or_false(fcinfo, 2);
	struct sockaddr_storage local;
	struct sockaddr *any = (struct sockaddr *) &local;
	socklen_t	length = socket_address(address ? address : "0.0.0.0", 0, &local);
	IcSocket   *sock = new_socket(true);
	Datum		values[2];

	sock->fd = socket(local.ss_family,
					  SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (sock->fd < 0)
		socket_error(failed, "socket");
	if (setsockopt(sock->fd, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof(reuse)) != 0)
		socket_error(failed, "setsockopt");
	if ((plain ? bind(sock->fd, any, length) :
		 ic_listener_bind(sock->fd, any, length, NULL)) != 0)
		socket_error(failed, "bind");
	if ((plain ? listen(sock->fd, 128) :
		 ic_listener_listen(sock->fd, 128, NULL)) != 0)
		socket_error(failed, "listen");

	values[0] = Int32GetDatum(local_port(sock, failed));
	values[1] = Int32GetDatum(sock->fd);
	return form_row(fcinfo, values, NULL);
}

static Datum
connect_to(FunctionCallInfo fcinfo, bool stream, bool plain,
		   const char *source, int source_port)
{
	static const char failed[] = "could not set up interconnect connection";
	char	   *address = cstring_or_null(fcinfo, 1);
	struct sockaddr_storage peer;
	struct sockaddr_storage local;
	socklen_t	peer_length;
	socklen_t	length;
	IcSocket   *sock;
	int			on = 1;
	int			rc;
	Datum		values[2];

	if (source == NULL && source_port != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a source port needs a source address")));
	peer_length = socket_address(address ? address : "127.0.0.1",
								 int_or_zero(fcinfo, 0), &peer);
	sock = new_socket(stream);
	sock->fd = socket(peer.ss_family,
					  (stream ? SOCK_STREAM : SOCK_DGRAM) |
					  SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (sock->fd < 0)
		socket_error(failed, "socket");
	if (source)
	{
		length = socket_address(source, source_port, &local);
		if (setsockopt(sock->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0)
			socket_error(failed, "setsockopt");
		if (bind(sock->fd, (struct sockaddr *) &local, length) != 0)
			socket_error(failed, "bind");
	}

	rc = plain ? connect(sock->fd, (struct sockaddr *) &peer, peer_length) :
		ic_listener_connect(sock->fd, (struct sockaddr *) &peer, peer_length,
							NULL);
	if (rc != 0)
	{
		if (errno != EINPROGRESS)
			socket_error(failed, "connect");
		do
		{
			int			error;

			wait_for_socket(sock, WL_SOCKET_WRITEABLE);
			length = sizeof(error);
			if (getsockopt(sock->fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0)
				socket_error(failed, "getsockopt");
			if (error != 0)
			{
				errno = error;
				socket_error(failed, "connect");
			}
			/* The wait may have ended for another reason. */
			length = sizeof(peer);
		} while (getpeername(sock->fd, (struct sockaddr *) &peer, &length) != 0);
	}

	values[0] = Int32GetDatum(sock->fd);
	values[1] = Int32GetDatum(local_port(sock, failed));
	return form_row(fcinfo, values, NULL);
}

PG_FUNCTION_INFO_V1(pg_ic_connect_tcp);
Datum
pg_ic_connect_tcp(PG_FUNCTION_ARGS)
{
	return connect_to(fcinfo, true, bool_or_false(fcinfo, 4),
					  cstring_or_null(fcinfo, 2), int_or_zero(fcinfo, 3));
}

PG_FUNCTION_INFO_V1(pg_ic_connect_udp);
Datum
pg_ic_connect_udp(PG_FUNCTION_ARGS)
{
	return connect_to(fcinfo, false, true, NULL, 0);
}

PG_FUNCTION_INFO_V1(pg_ic_close);
Datum
pg_ic_close(PG_FUNCTION_ARGS)
{
	release_socket(find_socket(PG_GETARG_INT32(0)));
	PG_RETURN_VOID();
}


/* ------------------------------------------------------------
 * Rows: the length in network byte order, then the text.  Over UDP one row is
 * one datagram, and an empty datagram says that there are no more.
 * ------------------------------------------------------------
 */

static void
send_bytes(IcSocket *sock, const char *bytes, size_t length)
{
	do
	{
		ssize_t		sent = send(sock->fd, bytes, length, MSG_NOSIGNAL);

		if (sent >= 0)
		{
			sock->mid_row = sock->stream;
			bytes += sent;
			length -= sent;
		}
		else if (would_block())
			wait_for_socket(sock, WL_SOCKET_WRITEABLE);
		else
			socket_error("could not send to interconnect connection", "send");
	} while (length > 0);
}

/* Reads length bytes, or less at the end; from a UDP socket, one datagram. */
static size_t
receive_bytes(IcSocket *sock, char *bytes, size_t length)
{
	size_t		done = 0;

	while (done < length)
	{
		ssize_t		received = recv(sock->fd, bytes + done, length - done, 0);

		if (received >= 0)
		{
			done += received;
			sock->mid_row |= sock->stream && received > 0;
			if (received == 0 || !sock->stream)
				break;
		}
		else if (would_block())
			wait_for_socket(sock, WL_SOCKET_READABLE);
		else
			socket_error("could not receive from interconnect connection",
						 "recv");
	}
	return done;
}

static void
protocol_error(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROTOCOL_VIOLATION),
			 errmsg("interconnect connection is out of step"),
			 errdetail("%s", detail)));
}

/*
 * After an error in the middle of a row that a savepoint caught, no row can
 * begin in the stream.
 */
static void
check_between_rows(const IcSocket *sock)
{
	if (sock->mid_row)
		protocol_error("An earlier row was interrupted.");
}

PG_FUNCTION_INFO_V1(pg_ic_send);
Datum
pg_ic_send(PG_FUNCTION_ARGS)
{
	IcSocket   *sock = find_socket(PG_GETARG_INT32(0));
	text	   *row = PG_GETARG_TEXT_PP(1);
	uint32		length = VARSIZE_ANY_EXHDR(row);
	uint32		header = htonl(length);
	char	   *frame;

	if (length > ROW_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("row of %u bytes is too long for the interconnect",
						length)));
	frame = palloc(sizeof(header) + length);
	memcpy(frame, &header, sizeof(header));
	memcpy(frame + sizeof(header), VARDATA_ANY(row), length);

	check_between_rows(sock);
	send_bytes(sock, frame, sizeof(header) + length);
	sock->mid_row = false;
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(pg_ic_finish);
Datum
pg_ic_finish(PG_FUNCTION_ARGS)
{
	IcSocket   *sock = find_socket(PG_GETARG_INT32(0));
	struct sockaddr_storage peer;
	socklen_t	length = sizeof(peer);

	/* shutdown() of a listener that is to write no more succeeds. */
	if (getpeername(sock->fd, (struct sockaddr *) &peer, &length) != 0)
		socket_error("could not finish interconnect connection", "getpeername");
	if (!sock->stream)
		send_bytes(sock, NULL, 0);
	else if (shutdown(sock->fd, SHUT_WR) != 0)
		socket_error("could not finish interconnect connection", "shutdown");
	PG_RETURN_VOID();
}

/*
 * The next row, or NULL when there are no more.
 */
static text *
receive_row(IcSocket *sock)
{
	static const char ended_early[] = "It ended in the middle of a row.";
	uint32		header;
	uint32		length;
	size_t		received;
	char	   *frame;

	check_between_rows(sock);
	frame = palloc(sock->stream ? sizeof(header) : DATAGRAM_MAX);
	received = receive_bytes(sock, frame,
							 sock->stream ? sizeof(header) : DATAGRAM_MAX);
	if (received == 0)
		return NULL;
	if (received < sizeof(header))
		protocol_error(ended_early);
	memcpy(&header, frame, sizeof(header));
	length = ntohl(header);
	if (length > ROW_MAX)
		protocol_error("What came is not a row.");

	if (sock->stream)
	{
		frame = repalloc(frame, sizeof(header) + length);
		received += receive_bytes(sock, frame + sizeof(header), length);
	}
	if (received != sizeof(header) + length)
		protocol_error(ended_early);
	sock->mid_row = false;

	pg_verify_mbstr(GetDatabaseEncoding(), frame + sizeof(header), length,
					false);
	return cstring_to_text_with_len(frame + sizeof(header), length);
}

PG_FUNCTION_INFO_V1(pg_ic_receive);
Datum
pg_ic_receive(PG_FUNCTION_ARGS)
{
	FuncCallContext *funcctx;
	text	   *row;

	if (SRF_IS_FIRSTCALL())
		SRF_FIRSTCALL_INIT();
	funcctx = SRF_PERCALL_SETUP();

	row = receive_row(find_socket(PG_GETARG_INT32(0)));
	if (row == NULL)
		SRF_RETURN_DONE(funcctx);
	SRF_RETURN_NEXT(funcctx, PointerGetDatum(row));
}


/* ------------------------------------------------------------
 * What the kernel says
 * ------------------------------------------------------------
 */

PG_FUNCTION_INFO_V1(pg_ic_open_sockets);
Datum
pg_ic_open_sockets(PG_FUNCTION_ARGS)
{
	static const char prefix[] = "socket:";
	DIR		   *dir = AllocateDir("/proc/self/fd");
	struct dirent *entry;
	int			count = 0;

	while ((entry = ReadDir(dir, "/proc/self/fd")) != NULL)
	{
		char		path[MAXPGPATH];
		char		target[sizeof(prefix) - 1];

		snprintf(path, sizeof(path), "/proc/self/fd/%s", entry->d_name);
		if (readlink(path, target, sizeof(target)) == sizeof(target) &&
			memcmp(target, prefix, sizeof(target)) == 0)
			count++;
	}
	FreeDir(dir);
	PG_RETURN_INT32(count);
}
