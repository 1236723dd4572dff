/*-------------------------------------------------------------------------
 * ic_listener_gpdb.c
 *	  bind(), listen() and connect() of the interconnect and of the backend's
 *	  own libpq, by ic_listener.
 *
 * Each call is the system call until that finds no port.  Then ic_listener
 * looks for one that can be shared.  If there is none, the call waits: where
 * every port is held, many holders are sessions that are about to end.
 *
 * Who waits: a backend that serves a client, once it is past authentication.
 * In all trees, only such a process has MyProcPort.  It opens its listener
 * within InitPostgres().  Connections wait only after that, in normal
 * processing mode: before, the older trees recover distributed transactions.
 * Nobody else may be held up: the FTS prober connects to its segments one
 * after the other, and a wait for one lets the probes of the others time out.
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
#include "postmaster/postmaster.h"

#include <ic_listener.h>

#include "ic_listener_gpdb.h"

#define FIRST_PAUSE_US INT64CONST(10000)
#define LAST_PAUSE_US INT64CONST(160000)

/*
 * A call that costs much, on many ports, is repeated less often.  By CPU time:
 * what it took on the clock says how busy the host is.
 */
#define PAUSES_PER_CALL 40

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
	Call		call;
	int64		since_us;		/* up to here it is charged to the statement */
	int64		not_before_us;	/* no port becomes free before that */
	int64		cpu_us;			/* this thread's, before the last call */
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
read_us(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * INT64CONST(1000000) + now.tv_nsec / 1000;
}

static bool
may_wait(Call call)
{
	return MyProcPort != NULL && !ClientAuthInProgress &&
		(call != CALL_CONNECT || IsNormalProcessingMode());
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
begin_wait(Wait *wait, Call call)
{
	wait->call = call;
	wait->since_us = read_us(CLOCK_MONOTONIC);
	wait->not_before_us = 0;
	wait->cpu_us = read_us(CLOCK_THREAD_CPUTIME_ID);
	wait->pause_us = FIRST_PAUSE_US;
}

/* Pauses; false when the call shall fail now.  errno stays. */
static bool
wait_for_port(Wait *wait)
{
	int			error = errno;
	int64		cost_us = read_us(CLOCK_THREAD_CPUTIME_ID) - wait->cpu_us;
	int64		now_us = read_us(CLOCK_MONOTONIC);
	int64		left_us = may_wait(wait->call) ? charge(wait, now_us) : 0;

	/* It is made once more when the budget ends. */
	wait->not_before_us = Max(wait->not_before_us,
							  now_us + Min(PAUSES_PER_CALL * cost_us, left_us));
	while (left_us > 0 && !is_cancelled())
	{
		pg_usleep((long) Min(wait->pause_us, left_us));
		wait->pause_us = Min(2 * wait->pause_us, LAST_PAUSE_US);
		now_us = read_us(CLOCK_MONOTONIC);
		if (now_us >= wait->not_before_us)
			break;
		left_us = charge(wait, now_us);
	}
	wait->cpu_us = read_us(CLOCK_THREAD_CPUTIME_ID);
	errno = error;
	return left_us > 0 && !is_cancelled();
}

/*
 * The last failure of a call, in the main thread: what the library said, and
 * for which statement it was asked and logged.  It counts the holders of all
 * ports for that, which it does not do again for every call.
 */
static struct
{
	TimestampTz asked;
	TimestampTz logged;
	char		message[IC_LISTENER_MESSAGE_SIZE];
}			failures[lengthof(call_name)];

/*
 * Never 0.  Where no statement runs, as in the FTS prober, a minute takes its
 * place; a backend that starts may have none yet.
 */
static TimestampTz
current_statement(void)
{
	if (MyProcPort != NULL)
		return 1 + GetCurrentStatementStartTimestamp();
	return (TimestampTz) (1 + read_us(CLOCK_MONOTONIC) / INT64CONST(60000000));
}

/* The report to ask the library for, or NULL. */
static IcListenerReport *
wanted_report(Call call, IcListenerReport *report)
{
	if (in_main_thread() && failures[call].asked != current_statement())
		return report;
	return NULL;
}

/*
 * Remembers a failure.  It knows when the next TIME_WAIT ends: where nothing
 * else holds ports, none becomes free before.  (The seconds are rounded up.)
 */
static void
remember(Wait *wait, const IcListenerReport *report)
{
	const IcListenerHolders *holders;

	if (report == NULL)
		return;
	/* The next call counts no holders: it takes a microsecond for a port. */
	wait->cpu_us = read_us(CLOCK_THREAD_CPUTIME_ID) - report->ports_tried;
	failures[wait->call].asked = current_statement();
	strlcpy(failures[wait->call].message, report->message,
			IC_LISTENER_MESSAGE_SIZE);
	holders = &report->holders;
	if (holders->complete && holders->time_wait_next_s > 1 &&
		holders->listening + holders->bound + holders->connected +
		holders->closing + holders->unseen == 0)
		wait->not_before_us = read_us(CLOCK_MONOTONIC) +
			(holders->time_wait_next_s - 1) * INT64CONST(1000000);
}

#define NO_PORT(call, host) \
	(errcode(ERRCODE_GP_INTERCONNECTION_ERROR), \
	 errmsg("%s() found no port on host \"%s\"", call_name[call], host), \
	 errdetail("%s.", failures[call].message), \
	 errhint("Widen net.ipv4.ip_local_port_range there, for example to" \
			 " \"10000 65535\", or run fewer queries at a time."))

/*
 * Logs that a call found no port, once for a statement; errno stays.
 *
 * ereport() may end in CHECK_FOR_INTERRUPTS(), and so in a jump over the
 * caller, who has a socket to close; hence the hold.
 */
static void
log_no_port(Call call)
{
	int			error = errno;
	TimestampTz statement = current_statement();
	char		host[256] = "";

	if (!in_main_thread() || is_cancelled() ||
		failures[call].logged == statement)
		return;
	failures[call].logged = statement;
	gethostname(host, sizeof(host) - 1);
	HOLD_INTERRUPTS();
	ereport(LOG, NO_PORT(call, host));
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
	IcListenerReport buffer = IC_LISTENER_REPORT_INIT;
	IcListenerReport *report = wanted_report(CALL_BIND, &buffer);
	Wait		wait;
	int			result;

	begin_wait(&wait, CALL_BIND);
	result = ic_listener_bind(fd, address, length, report);
	if (result == 0 || errno != EADDRINUSE || !wants_any_port(address, length))
		return result;
	remember(&wait, report);
	while (result != 0 && errno == EADDRINUSE && wait_for_port(&wait))
		result = ic_listener_bind(fd, address, length, NULL);
	if (result != 0 && errno == EADDRINUSE)
		log_no_port(CALL_BIND);
	return result;
}

/* A port that the tree has chosen itself is not waited for: none was tried. */
int
ic_listener_gpdb_listen(int fd, int backlog)
{
	IcListenerReport buffer = IC_LISTENER_REPORT_INIT;
	IcListenerReport *report = wanted_report(CALL_LISTEN, &buffer);
	Wait		wait;
	int			result;

	begin_wait(&wait, CALL_LISTEN);
	result = ic_listener_listen(fd, backlog, report);
	if (result == 0 || errno != EADDRINUSE ||
		(report != NULL && report->ports_tried == 0))
		return result;
	remember(&wait, report);
	while (result != 0 && errno == EADDRINUSE && wait_for_port(&wait))
		result = ic_listener_listen(fd, backlog, NULL);
	if (result != 0 && errno == EADDRINUSE)
		log_no_port(CALL_LISTEN);
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
				int *result)
{
	IcListenerReport buffer = IC_LISTENER_REPORT_INIT;
	IcListenerReport *report = wanted_report(CALL_CONNECT, &buffer);
	Wait		wait;

	begin_wait(&wait, CALL_CONNECT);
	*result = ic_listener_connect(fd, address, length, report);
	if (*result == 0 || errno != EADDRNOTAVAIL ||
		(report != NULL && report->ports_tried == 0))
		return false;
	if (!(fcntl(fd, F_GETFL) & O_NONBLOCK))
	{
		errno = EADDRNOTAVAIL;
		return false;
	}
	remember(&wait, report);
	while (*result != 0 && errno == EADDRNOTAVAIL && wait_for_port(&wait))
		*result = ic_listener_connect(fd, address, length, NULL);
	return *result != 0 && errno == EADDRNOTAVAIL;
}

int
ic_listener_gpdb_connect(int fd, const struct sockaddr *address,
						 socklen_t length)
{
	int			result;

	if (connect_or_wait(fd, address, length, &result))
		log_no_port(CALL_CONNECT);
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
	int			result;

	if (connect_or_wait(fd, address, length, &result))
	{
		char		host[256] = "";

		CHECK_FOR_INTERRUPTS();
		gethostname(host, sizeof(host) - 1);
		if (IC_LISTENER_GPDB_PATIENCE_MS > 0 && !is_cancelled())
			ereport(ERROR, NO_PORT(CALL_CONNECT, host));
		errno = EADDRNOTAVAIL;
	}
	return result;
}

#endif							/* USE_IC_LISTENER */
