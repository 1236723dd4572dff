/*
 * ic_listener_gpdb_test.c
 *		Who waits for a port, and for how long.
 *
 * The calls of ic_listener are mocked: bind() finds no port until it was
 * called fail_calls times.
 *
 * @SUITE@/ic_listener_gpdb_test.c
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include "cmockery.h"

#include "@MOTION@ic_listener_gpdb.c"

#ifdef USE_IC_LISTENER

static int	calls;
static int	fail_calls;

int			__wrap_ic_listener_bind(int fd, const struct sockaddr *address,
									socklen_t length, IcListenerReport *report);

int
__wrap_ic_listener_bind(int fd, const struct sockaddr *address,
						socklen_t length, IcListenerReport *report)
{
	if (++calls > fail_calls)
		return 0;
	if (report != NULL)
		report->ports_tried = 64;
	errno = EADDRINUSE;
	return -1;
}

int			__wrap_ic_listener_listen(int fd, int backlog,
									  IcListenerReport *report);

int
__wrap_ic_listener_listen(int fd, int backlog, IcListenerReport *report)
{
	return 0;
}

int			__wrap_ic_listener_connect(int fd, const struct sockaddr *address,
									   socklen_t length,
									   IcListenerReport *report);

int
__wrap_ic_listener_connect(int fd, const struct sockaddr *address,
						   socklen_t length, IcListenerReport *report)
{
	return 0;
}

TimestampTz __wrap_GetCurrentStatementStartTimestamp(void);

TimestampTz
__wrap_GetCurrentStatementStartTimestamp(void)
{
	return 1;
}

/* Its other parameters differ between the versions. */
bool		__wrap_errstart(int elevel);

bool
__wrap_errstart(int elevel)
{
	return false;
}

static int
bind_any(void)
{
	struct sockaddr_in any;

	memset(&any, 0, sizeof(any));
	any.sin_family = AF_INET;
	calls = 0;
	return ic_listener_gpdb_bind(-1, (struct sockaddr *) &any, sizeof(any));
}

static void
test_waits_for_a_port(void **state)
{
	MyProcPort = (struct Port *) state;
	fail_calls = 3;
	assert_int_equal(bind_any(), 0);
	assert_int_equal(calls, 4);
}

static void
test_gives_up(void **state)
{
	int64		started = read_us(CLOCK_MONOTONIC);

	MyProcPort = (struct Port *) state;
	fail_calls = 1000;
	assert_int_equal(bind_any(), -1);
	assert_int_equal(errno, EADDRINUSE);
	assert_true(calls < 30);
	assert_true(read_us(CLOCK_MONOTONIC) - started < INT64CONST(5000000));
	/* The statement has no time left. */
	assert_int_equal(bind_any(), -1);
	assert_int_equal(calls, 1);
}

static void
test_ftsprobe_does_not_wait(void **state)
{
	MyProcPort = NULL;
	fail_calls = 1000;
	assert_int_equal(bind_any(), -1);
	assert_int_equal(calls, 1);
}

int
main(int argc, char *argv[])
{
	const UnitTest tests[] = {
		unit_test(test_waits_for_a_port),
		unit_test(test_ftsprobe_does_not_wait),
		unit_test(test_gives_up)
	};

	cmockery_parse_arguments(argc, argv);
	return run_tests(tests);
}

#else

int
main(int argc, char *argv[])
{
	return 0;
}

#endif
