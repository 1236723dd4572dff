/*
 * backend.c
 *		A stand-in for a backend: it prints its reports, and jumps out of
 *		errors.
 */
#include "postgres.h"

#include <fcntl.h>
#include <stdarg.h>
#include <unistd.h>

#include "access/xact.h"
#include "backend.h"
#include "cdb/cdbvars.h"
#include "miscadmin.h"
#include "postmaster/postmaster.h"

struct Port *MyProcPort = (struct Port *) &MyProcPort;
char	   *interconnect_address = NULL;
volatile bool InterruptPending = false;
volatile bool QueryCancelPending = false;
volatile bool ProcDiePending = false;
volatile int InterruptHoldoffCount = 0;
jmp_buf		exception_stack;

static int	report_level;
static int	saved_errno;

/* By line of a report; printed in this order, whatever order C calls in. */
static char code[32];
static char message[512];
static char detail[512];
static char hint[512];

bool
pg_set_noblock(int sock)
{
	int			flags = fcntl(sock, F_GETFL);

	return flags >= 0 && fcntl(sock, F_SETFL, flags | O_NONBLOCK) == 0;
}

pthread_t	main_tid;

__attribute__((constructor))
static void
know_main_thread(void)
{
	main_tid = pthread_self();
}

TimestampTz statement_start = 1;
bool		normal_processing = true;
bool		ClientAuthInProgress = false;

TimestampTz
GetCurrentStatementStartTimestamp(void)
{
	return statement_start;
}

bool
IsNormalProcessingMode(void)
{
	return normal_processing;
}

void
ProcessInterrupts(void)
{
	if (InterruptHoldoffCount != 0 || !(QueryCancelPending || ProcDiePending))
		return;
	puts("ERROR: canceling statement due to user request");
	longjmp(exception_stack, 1);
}

void		(*while_waiting) (void) = NULL;
void		(*while_logging) (void) = NULL;
long		microseconds_waited = 0;

void
pg_usleep(long microsec)
{
	microseconds_waited += microsec;
	usleep(microsec);
	if (while_waiting != NULL)
		while_waiting();
	errno = 0;
}

/* glibc has it from 2.38 on. */
size_t
strlcpy(char *dst, const char *src, size_t siz)
{
	return snprintf(dst, siz, "%s", src);
}

/* As elog.c does: the errno for %m is the one of now. */
bool
errstart(int elevel)
{
	saved_errno = errno;
	report_level = elevel;
	code[0] = message[0] = detail[0] = hint[0] = '\0';
	return true;
}

/* As elog.c does: an interrupt is served here, even after a LOG. */
void
errfinish(int dummy,...)
{
	(void) dummy;
	printf("%s: %s%s%s%s\n", report_level == LOG ? "LOG" : "ERROR",
		   message, detail, hint, code);
	if (report_level >= ERROR)
		longjmp(exception_stack, 1);
	if (while_logging != NULL)
		while_logging();
	CHECK_FOR_INTERRUPTS();
	errno = 0;
}

int
errcode(int sqlerrcode)
{
	snprintf(code, sizeof(code), "\ncode: %d", sqlerrcode);
	return 0;
}

/* printf(3) has %m as well, and takes it from errno. */
#define EVALUATE_MESSAGE(buffer, title) \
	do { \
		int			length = snprintf((buffer), sizeof(buffer), title); \
		va_list		args; \
		\
		va_start(args, fmt); \
		errno = saved_errno; \
		vsnprintf((buffer) + length, sizeof(buffer) - length, fmt, args); \
		va_end(args); \
		errno = 0; \
	} while (0)

int
errmsg(const char *fmt,...)
{
	EVALUATE_MESSAGE(message, "");
	return 0;
}

int
errdetail(const char *fmt,...)
{
	EVALUATE_MESSAGE(detail, "\nDETAIL: ");
	return 0;
}

int
errhint(const char *fmt,...)
{
	EVALUATE_MESSAGE(hint, "\nHINT: ");
	return 0;
}
