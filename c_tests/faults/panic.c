/*
 * panic.c
 *		A panic in the library stays in the library. Linked with a build of it
 *		that panics in every call (--cfg ic_listener_test_panic, src/ffi.rs).
 */
#define _GNU_SOURCE

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
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

typedef int (*OpenFunction) (const IcListenerOptions *options, int *port,
							 int *fd, IcListenerReport *report);

/* setup_listener() has no report; the one given is filled as it would be. */
static int
setup_listener_only(const IcListenerOptions *options, int *port, int *fd,
					IcListenerReport *report)
{
	int			result = setup_listener(port, fd);

	(void) options;
	report->error = errno;
	report->step = IC_LISTENER_STEP_INTERNAL;
	strcpy(report->message, "internal error: none was reported");
	return result;
}

static const OpenFunction functions[] =
{setup_listener_only, ic_listener_open_tcp, ic_listener_open_udp};

#define FUNCTIONS 3

/* Everything at once, for threads: NULL, or what is wrong. */
static const char *
call_and_check(OpenFunction function)
{
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	int			port = UNTOUCHED;
	int			fd = UNTOUCHED;
	int			result;
	int			error;

	errno = 0;
	result = function(NULL, &port, &fd, &report);
	error = errno;
	if (result != -1)
		return "did not return -1";
	if (error != ENOTRECOVERABLE)
		return "errno is not ENOTRECOVERABLE";
	if (port != 0 || fd != -1)
		return "the outputs are not reset";
	if (report.error != ENOTRECOVERABLE)
		return "the report has another errno";
	if (report.step != IC_LISTENER_STEP_INTERNAL)
		return "the step is not internal";
	if (strncmp(report.message, "internal error: ", 16) != 0 ||
		report.message[16] == '\0')
		return "the message does not say what happened";
	return NULL;
}

TEST(a_panic_becomes_enotrecoverable)
{
	OpenFds		before = open_fds();

	for (int i = 0; i < 100; i++)
	{
		const char *wrong = call_and_check(functions[i % FUNCTIONS]);

		require(wrong == NULL, "call %d: %s", i, wrong);
	}
	expect(open_fds_are(&before, -1));
}

static void *
thread_main(void *argument)
{
	(void) argument;
	for (int i = 0; i < FUNCTIONS; i++)
	{
		const char *wrong = call_and_check(functions[i]);

		if (wrong != NULL)
			return (void *) wrong;
	}
	return NULL;
}

TEST(so_it_does_in_threads)
{
	pthread_t	threads[8];

	for (int i = 0; i < 8; i++)
		expect_equal(pthread_create(&threads[i], NULL, thread_main, NULL), 0);
	for (int i = 0; i < 8; i++)
	{
		void	   *wrong;

		expect_equal(pthread_join(threads[i], &wrong), 0);
		require(wrong == NULL, "%s", (const char *) wrong);
	}
}

/* The panic is the first of the process. */
TEST(nothing_is_printed)
{
	char		text[256] = "";
	int			file = memfd_create("output", MFD_CLOEXEC);
	int			child;

	expect(file >= 0);
	child = fork_child();
	if (child == 0)
	{
		dup2(file, STDOUT_FILENO);
		dup2(file, STDERR_FILENO);
		close(file);
		for (int i = 0; i < FUNCTIONS; i++)
		{
			const char *wrong = call_and_check(functions[i]);

			require(wrong == NULL, "%s", wrong);
		}
		_exit(0);
	}
	wait_for_child(child);
	require(pread(file, text, sizeof(text) - 1, 0) == 0, "printed: %s", text);
	close(file);
}

/* A call on a caller's socket leaves it as it was. */
TEST(in_the_calls_on_sockets_it_leaves_the_socket)
{
	const struct sockaddr_in any = {.sin_family = AF_INET};
	const struct sockaddr *address = (const struct sockaddr *) &any;

	for (int i = 0; i < 6; i++)
	{
		IcListenerReport report = IC_LISTENER_REPORT_INIT;
		IcListenerReport *wanted = i < 3 ? &report : NULL;
		int			fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		OpenFds		before = open_fds();
		int			result;

		now_doing("call %d", i);
		errno = 0;
		result = i % 3 == 0 ? ic_listener_bind(fd, address, sizeof(any), wanted) :
			i % 3 == 1 ? ic_listener_listen(fd, 1, wanted) :
			ic_listener_connect(fd, address, sizeof(any), wanted);
		require(result == -1 && errno == ENOTRECOVERABLE, "%d, %s", result,
				strerror(errno));
		expect(open_fds_are(&before, -1));
		expect_equal(local_port(fd), 0);
		if (wanted != NULL)
		{
			expect_equal(report.error, ENOTRECOVERABLE);
			expect_equal(report.step, IC_LISTENER_STEP_INTERNAL);
			expect_in(report.message, "internal error: ");
		}
		close(fd);
	}
}

int
main(void)
{
	return run_all(
		test(nothing_is_printed),
		test(a_panic_becomes_enotrecoverable),
		test(so_it_does_in_threads),
		test(in_the_calls_on_sockets_it_leaves_the_socket));
}
