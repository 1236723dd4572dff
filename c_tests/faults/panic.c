/*
 * panic.c
 *		A panic in the library stays in the library. Linked with a build of it
 *		that panics in every call (--cfg ic_listener_test_panic, src/ffi).
 */
#define _GNU_SOURCE

#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>

#include "test.h"

extern void __real_free(void *memory);

/* errno must be set after everything that the panic left has been freed. */
void
__wrap_free(void *memory)
{
	__real_free(memory);
	errno = ELOOP;
}

static const struct sockaddr_in any = {.sin_family = AF_INET};

#define ANY (const struct sockaddr *) &any, sizeof(any)

#define CALLS 8

static int
call_by_number(int number, int *port, int *fd, int own, IcListenerReport *report,
			   IcListenerCensus *census)
{
	switch (number)
	{
		case 0:
			return setup_listener(port, fd);
		case 1:
			return ic_listener_open_tcp(NULL, port, fd, report);
		case 2:
			return ic_listener_open_udp(NULL, port, fd, report);
		case 3:
			return ic_listener_bind(own, ANY, report);
		case 4:
			return ic_listener_listen(own, 1, report);
		case 5:
			return ic_listener_connect(own, ANY, report);
		case 6:
			return ic_listener_begin_connect(own, ANY, report);
		default:
			return ic_listener_census(NULL, census);
	}
}

/* Outputs are reset; a caller's socket is left as it was. */
TEST(a_panic_becomes_enotrecoverable)
{
	OpenFds		before = open_fds();

	for (int number = 0; number < CALLS; number++)
	{
		IcListenerReport report = IC_LISTENER_REPORT_INIT;
		IcListenerCensus census = IC_LISTENER_CENSUS_INIT;
		int			own = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		int			port = UNTOUCHED;
		int			fd = UNTOUCHED;

		now_doing("call %d", number);
		expect_equal(call_by_number(number, &port, &fd, own, &report, &census), -1);
		expect_equal(errno, ENOTRECOVERABLE);
		expect_equal(port, number < 3 ? 0 : UNTOUCHED);
		expect_equal(fd, number < 3 ? -1 : UNTOUCHED);
		expect_equal(local_port(own), 0);
		close(own);
		expect(open_fds_are(&before, -1));
		if (number == CALLS - 1)
			expect_equal(census.error, ENOTRECOVERABLE);
		else if (number > 0)
		{
			expect_equal(report.error, ENOTRECOVERABLE);
			expect_equal(report.step, IC_LISTENER_STEP_INTERNAL);
		}
	}
}

int
main(void)
{
	return run_all(test(a_panic_becomes_enotrecoverable));
}
