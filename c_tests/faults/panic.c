/*
 * panic.c
 *		A panic in the library stays in the library. Linked with a build of it
 *		that panics in every call (--cfg ic_listener_test_panic, src/ffi).
 */
#define _GNU_SOURCE

#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "test.h"

extern void __real_free(void *memory);
extern void __wrap_free(void *memory);

/* errno must be set after everything that the panic left has been freed. */
void
__wrap_free(void *memory)
{
	__real_free(memory);
	errno = ELOOP;
}

#define CALLS 7

static int
call_by_number(int number, int *port, int *fd, int own, IcListenerReport *report)
{
	static const struct sockaddr_in any = {.sin_family = AF_INET};
	const struct sockaddr *address = (const struct sockaddr *) &any;
	IcListenerCensus census = IC_LISTENER_CENSUS_INIT;
	int			returned;

	switch (number)
	{
		case 0:
			return setup_listener(port, fd);
		case 1:
			return ic_listener_open_tcp(NULL, port, fd, report);
		case 2:
			return ic_listener_open_udp(NULL, port, fd, report);
		case 3:
			return ic_listener_bind(own, address, sizeof(any), report);
		case 4:
			return ic_listener_listen(own, 1, report);
		case 5:
			return ic_listener_connect(own, address, sizeof(any), report);
		default:
			returned = ic_listener_census(NULL, &census);
			expect(strncmp(census.message, "internal error: ", 16) == 0);
			expect_equal(census.error, ENOTRECOVERABLE);
			errno = ENOTRECOVERABLE;
			return returned;
	}
}

/* Outputs are reset; a caller's socket is left as it was. */
static void *
call_all(void *unused)
{
	(void) unused;
	for (int number = 0; number < CALLS; number++)
	{
		IcListenerReport report = IC_LISTENER_REPORT_INIT;
		int			own = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		int			port = UNTOUCHED;
		int			fd = UNTOUCHED;
		int			returned = call_by_number(number, &port, &fd, own, &report);
		int			error = errno;

		require(returned == -1 && error == ENOTRECOVERABLE, "call %d: %d, %s",
				number, returned, strerror(error));
		expect_equal(port, number < 3 ? 0 : UNTOUCHED);
		expect_equal(fd, number < 3 ? -1 : UNTOUCHED);
		expect_equal(local_port(own), 0);
		close(own);
		if (number == 0 || number == 6)
			continue;
		expect_equal(report.error, ENOTRECOVERABLE);
		expect_equal(report.step, IC_LISTENER_STEP_INTERNAL);
		expect_in(report.message, "internal error: ");
	}
	return NULL;
}

TEST(a_panic_becomes_enotrecoverable)
{
	OpenFds		before = open_fds();

	for (int i = 0; i < 30; i++)
		call_all(NULL);
	expect(open_fds_are(&before, -1));
}

TEST(so_it_does_in_threads)
{
	pthread_t	threads[8];

	for (int i = 0; i < 8; i++)
		expect(pthread_create(&threads[i], NULL, call_all, NULL) == 0);
	for (int i = 0; i < 8; i++)
		expect(pthread_join(threads[i], NULL) == 0);
}

int
main(void)
{
	return run_all(
		test(a_panic_becomes_enotrecoverable),
		test(so_it_does_in_threads));
}
