/*-------------------------------------------------------------------------
 * ic_listener_gpdb.c
 *	  bind(), listen() and connect() of the interconnect and of the backend's
 *	  own libpq, by ic_listener.
 *
 * Each call is the system call until that finds no port.  Then ic_listener
 * looks for one that can be shared.  If there is none, the call waits: where
 * every port is held, many holders are sessions that are about to end.
 *
 * Who waits: a backend that serves a client, once it is past authentication
 * and InitPostgres().  In all trees, only such a process has MyProcPort and is
 * in normal processing mode.  Nobody else may be held up: the FTS prober
 * connects to its segments one after the other, and a wait for one lets the
 * probes of the others time out.
 *
 * How long: IC_LISTENER_GPDB_PATIENCE_MS for all calls of a statement
 * together.  GetCurrentStatementStartTimestamp() tells one statement from the
 * next: each message of the client sets it anew, and the queries of a function
 * share it.  (gp_command_count does not: a function's queries count it up.)
 *
 * A cancelled or terminated query ends the wait.  InterruptPending is no sign
 * of that, since a catchup or a notification sets it too.
 *
 * Copyright the ic-listener authors. SPDX-License-Identifier: Apache-2.0
 *
 * src/backend/cdb/motion/ic_listener_gpdb.c
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#ifdef USE_IC_LISTENER

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "access/xact.h"
#include "miscadmin.h"

#include <ic_listener.h>

#include "ic_listener_gpdb.h"

#define FIRST_PAUSE_US INT64CONST(10000)
#define LAST_PAUSE_US INT64CONST(160000)

typedef enum Call
{
	CALL_BIND,
	CALL_LISTEN,
	CALL_CONNECT
} Call;

static const char *const call_name[] = {"bind", "listen", "connect"};

/* One call that waits. */
typedef struct Wait
{
	int64		since_us;		/* up to here it is charged to the statement */
	int64		not_before_us;	/* no port becomes free before that */
	int64		pause_us;
} Wait;

/*
 * What the statement has waited so far.  The lock is for the dispatchers of
 * Greenplum 4.3 and 5 and of HAWQ, which connect in threads.  Those wait side
 * by side; charged_until_us makes the same second count once.
 */
static pthread_mutex_t budget_lock = PTHREAD_MUTEX_INITIALIZER;
static TimestampTz budget_statement;
static int64 budget_spent_us;
static int64 charged_until_us;

static int64
monotonic_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64CONST(1000000) + now.tv_nsec / 1000;
}

static bool
serves_client(void)
{
	return MyProcPort != NULL && IsNormalProcessingMode();
}

static bool
is_cancelled(void)
{
	return QueryCancelPending || ProcDiePending;
}

/* ereport() is for this thread only; elog.c tells it in the same way. */
static bool
in_main_thread(void)
{
	return mainthread() == 0 || pthread_equal(main_tid, pthread_self());
}

/* Returns what is left of the statement's budget at now_us. */
static int64
charge(Wait *wait, int64 now_us)
{
	TimestampTz statement = GetCurrentStatementStartTimestamp();
	int64		left_us;

	pthread_mutex_lock(&budget_lock);
	if (statement != budget_statement)
	{
		budget_statement = statement;
		budget_spent_us = 0;
	}
	if (now_us > charged_until_us)
	{
		budget_spent_us += now_us - Max(wait->since_us, charged_until_us);
		charged_until_us = now_us;
	}
	left_us = IC_LISTENER_GPDB_PATIENCE_MS * INT64CONST(1000) - budget_spent_us;
	pthread_mutex_unlock(&budget_lock);
	wait->since_us = now_us;
	return left_us;
}

static void
begin_wait(Wait *wait)
{
	wait->since_us = monotonic_us();
	wait->not_before_us = 0;
	wait->pause_us = FIRST_PAUSE_US;
}

/*
 * The first failure knows when the next TIME_WAIT ends.  Where nothing else
 * holds ports, none becomes free before that.  (The seconds are rounded up.)
 */
static void
learn_from(Wait *wait, const IcListenerReport *report)
{
	const IcListenerHolders *holders = &report->holders;

	if (holders->complete && holders->time_wait_next_s > 1 &&
		holders->listening + holders->bound + holders->connected +
		holders->closing + holders->unseen == 0)
		wait->not_before_us = monotonic_us() +
			(holders->time_wait_next_s - 1) * INT64CONST(1000000);
}

/* Pauses; false when the call shall fail now.  errno stays. */
static bool
wait_for_port(Wait *wait)
{
	int			error = errno;
	bool		goes_on = serves_client();

	while (goes_on && !is_cancelled())
	{
		int64		now_us = monotonic_us();
		int64		left_us = charge(wait, now_us);

		if (left_us <= 0)
			goes_on = false;
		else
		{
			pg_usleep((long) Min(wait->pause_us, left_us));
			wait->pause_us = Min(2 * wait->pause_us, LAST_PAUSE_US);
			if (monotonic_us() >= wait->not_before_us)
				break;
		}
	}
	errno = error;
	return goes_on && !is_cancelled();
}

/*
 * Where no statement runs, as in the FTS prober, a minute takes its place.
 */
static bool
is_first_of_statement(Call call)
{
	static TimestampTz reported[lengthof(call_name)];
	TimestampTz statement = serves_client() ?
	GetCurrentStatementStartTimestamp() :
	(TimestampTz) (1 + monotonic_us() / INT64CONST(60000000));

	if (reported[call] == statement)
		return false;
	reported[call] = statement;
	return true;
}

#define NO_PORT(call, host, report) \
	(errcode(ERRCODE_GP_INTERCONNECTION_ERROR), \
	 errmsg("%s() found no port on host \"%s\"", call_name[call], host), \
	 errdetail("%s.", (report)->message), \
	 errhint("Widen net.ipv4.ip_local_port_range there, for example to" \
			 " \"10000 65535\", or run fewer queries at a time."))

/*
 * Logs that a call found no port, once for a statement; errno stays.
 *
 * ereport() may end in CHECK_FOR_INTERRUPTS(), and so in a jump over the
 * caller, who has a socket to close; hence the hold.
 */
static void
log_no_port(Call call, const IcListenerReport *report)
{
	int			error = errno;
	char		host[256] = "";

	if (!in_main_thread() || is_cancelled() || !is_first_of_statement(call))
		return;
	gethostname(host, sizeof(host) - 1);
	HOLD_INTERRUPTS();
	ereport(LOG, NO_PORT(call, host, report));
	RESUME_INTERRUPTS();
	errno = error;
}

static bool
wants_any_port(const struct sockaddr *address, socklen_t length)
{
	if (address == NULL || length < sizeof(struct sockaddr_in))
		return false;
	/* sin6_port has the same place. */
	return (address->sa_family == AF_INET || address->sa_family == AF_INET6) &&
		((const struct sockaddr_in *) address)->sin_port == 0;
}

/* For UDP it is bind(2), and waits: SO_REUSEADDR would mix up two sockets. */
int
ic_listener_gpdb_bind(int fd, const struct sockaddr *address, socklen_t length)
{
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	Wait		wait;
	int			result;

	begin_wait(&wait);
	result = ic_listener_bind(fd, address, length, &report);
	if (result == 0 || errno != EADDRINUSE || !wants_any_port(address, length))
		return result;
	learn_from(&wait, &report);
	while (result != 0 && errno == EADDRINUSE && wait_for_port(&wait))
		result = ic_listener_bind(fd, address, length, NULL);
	if (result != 0 && errno == EADDRINUSE)
		log_no_port(CALL_BIND, &report);
	return result;
}

/* A port that the tree has chosen itself is not waited for: none was tried. */
int
ic_listener_gpdb_listen(int fd, int backlog)
{
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	Wait		wait;
	int			result;

	begin_wait(&wait);
	result = ic_listener_listen(fd, backlog, &report);
	if (result == 0 || errno != EADDRINUSE || report.ports_tried == 0)
		return result;
	learn_from(&wait, &report);
	while (result != 0 && errno == EADDRINUSE && wait_for_port(&wait))
		result = ic_listener_listen(fd, backlog, NULL);
	if (result != 0 && errno == EADDRINUSE)
		log_no_port(CALL_LISTEN, &report);
	return result;
}

/*
 * True when there was no port.
 *
 * PQcancel() may be called in a signal handler, where nobody waits.  Its
 * socket is the only one that is connected while it blocks.
 */
static bool
connect_or_wait(int fd, const struct sockaddr *address, socklen_t length,
				IcListenerReport *report, int *result)
{
	Wait		wait;

	begin_wait(&wait);
	*result = ic_listener_connect(fd, address, length, report);
	if (*result == 0 || errno != EADDRNOTAVAIL)
		return false;
	if (report->ports_tried == 0 || !(fcntl(fd, F_GETFL) & O_NONBLOCK))
	{
		errno = EADDRNOTAVAIL;
		return false;
	}
	learn_from(&wait, report);
	while (*result != 0 && errno == EADDRNOTAVAIL && wait_for_port(&wait))
		*result = ic_listener_connect(fd, address, length, NULL);
	return *result != 0 && errno == EADDRNOTAVAIL;
}

int
ic_listener_gpdb_connect(int fd, const struct sockaddr *address,
						 socklen_t length)
{
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	int			result;

	if (connect_or_wait(fd, address, length, &report, &result))
		log_no_port(CALL_CONNECT, &report);
	return result;
}

/*
 * The interconnect would try again after 1, 3, 9, 27 and 81 s, for two hours,
 * while the query keeps the ports that it has.  Instead the query ends here,
 * at a place where the tree itself serves interrupts.  Without patience it is
 * as before.
 */
int
ic_listener_gpdb_connect_or_error(int fd, const struct sockaddr *address,
								  socklen_t length)
{
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	int			result;

	if (connect_or_wait(fd, address, length, &report, &result))
	{
		char		host[256] = "";

		CHECK_FOR_INTERRUPTS();
		gethostname(host, sizeof(host) - 1);
		if (IC_LISTENER_GPDB_PATIENCE_MS > 0 && !is_cancelled())
			ereport(ERROR, NO_PORT(CALL_CONNECT, host, &report));
		errno = EADDRNOTAVAIL;
	}
	return result;
}

#endif							/* USE_IC_LISTENER */
