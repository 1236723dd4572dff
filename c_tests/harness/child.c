/*
 * child.c
 *		See child.h.
 */
#define _GNU_SOURCE

#include "child.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECONDS_PER_TEST 60

enum
{
	EXIT_FAILED = 1,
	EXIT_NOT_AVAILABLE = 77,
};

/* Shared by all processes of one run_in_child(); the first message counts. */
typedef struct Verdict
{
	int			taken;
	char		message[CHILD_MESSAGE_SIZE];
} Verdict;

static Verdict *verdict;

/* Shared by all processes of one run_at_once(). */
static pthread_barrier_t *barrier;

static char doing[160] = "";

void
now_doing(const char *format,...)
{
	va_list		arguments;

	va_start(arguments, format);
	vsnprintf(doing, sizeof(doing), format, arguments);
	va_end(arguments);
}

static void *
share_memory(size_t size)
{
	void	   *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
							  MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	require(memory != MAP_FAILED, "mmap: %s", strerror(errno));
	return memory;
}

static void __attribute__((noreturn))
end_test(int status, const char *prefix, const char *format, va_list arguments)
{
	char		message[CHILD_MESSAGE_SIZE];
	int			length = snprintf(message, sizeof(message), "%s", prefix);

	vsnprintf(message + length, sizeof(message) - length, format, arguments);
	if (verdict == NULL)
		fprintf(stderr, "%s\n", message);
	else if (__sync_bool_compare_and_swap(&verdict->taken, 0, 1))
		memcpy(verdict->message, message, sizeof(message));
	fflush(NULL);
	_exit(status);
}

void
fail_child(const char *file, int line, const char *format,...)
{
	char		prefix[sizeof(doing) + 128];
	va_list		arguments;

	snprintf(prefix, sizeof(prefix), "%s:%d: %s%s", file, line, doing,
			 doing[0] != '\0' ? ": " : "");
	va_start(arguments, format);
	end_test(EXIT_FAILED, prefix, format, arguments);
}

void
skip_child(const char *format,...)
{
	va_list		arguments;

	va_start(arguments, format);
	end_test(EXIT_NOT_AVAILABLE, "", format, arguments);
}

void
expect_equal_at(const char *file, int line, const char *what,
				long long actual, long long expected)
{
	if (actual != expected)
		fail_child(file, line, "%s is %lld, not %lld", what, actual, expected);
}

int
fork_child(void)
{
	int			pid;

	/* The child would print the buffers again. */
	fflush(NULL);
	pid = fork();
	require(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0)
	{
		/* cmocka's handlers would run the parent's tests in the child. */
		signal(SIGFPE, SIG_DFL);
		signal(SIGILL, SIG_DFL);
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		signal(SIGSYS, SIG_DFL);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	}
	return pid;
}

static void
require_success(int status)
{
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_NOT_AVAILABLE)
		_exit(EXIT_NOT_AVAILABLE);
	require(status == 0, "a child ended with status 0x%x", status);
}

void
wait_for_child(int pid)
{
	int			status;

	require(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
	require_success(status);
}

void
end_child(int pid)
{
	require(kill(pid, SIGKILL) == 0, "kill: %s", strerror(errno));
	require(waitpid(pid, NULL, 0) == pid, "waitpid: %s", strerror(errno));
}

static ChildOutcome
wait_for_verdict(int pid, char message[CHILD_MESSAGE_SIZE])
{
	int			status = -1;	/* a failure, if waitpid() cannot tell */

	waitpid(pid, &status, 0);
	memcpy(message, verdict->message, CHILD_MESSAGE_SIZE);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0 && !verdict->taken)
		return CHILD_PASSED;
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_NOT_AVAILABLE)
		return CHILD_SKIPPED;
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		snprintf(message, CHILD_MESSAGE_SIZE, "took longer than %d seconds",
				 SECONDS_PER_TEST);
	else if (message[0] == '\0')
		snprintf(message, CHILD_MESSAGE_SIZE, "ended with status 0x%x", status);
	return CHILD_FAILED;
}

ChildOutcome
run_in_child(void (*body) (void *argument), void *argument,
			 char message[CHILD_MESSAGE_SIZE])
{
	Verdict    *outer = verdict;
	ChildOutcome outcome;
	int			pid;

	verdict = share_memory(sizeof(Verdict));
	pid = fork_child();
	if (pid == 0)
	{
		alarm(SECONDS_PER_TEST);
		body(argument);
		fflush(NULL);
		_exit(0);
	}
	outcome = wait_for_verdict(pid, message);
	munmap(verdict, sizeof(Verdict));
	verdict = outer;
	return outcome;
}

void
wait_for_all(void)
{
	pthread_barrier_wait(barrier);
}

void
run_at_once(int processes,
			void (*body) (int index, void *result, void *argument),
			void *argument, void *results, size_t result_size)
{
	size_t		size = processes * result_size;
	char	   *shared = share_memory(size);
	pthread_barrierattr_t attributes;

	pthread_barrierattr_init(&attributes);
	pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	barrier = share_memory(sizeof(pthread_barrier_t));
	pthread_barrier_init(barrier, &attributes, processes);
	for (int index = 0; index < processes; index++)
	{
		if (fork_child() == 0)
		{
			wait_for_all();
			body(index, shared + index * result_size, argument);
			wait_for_all();
			_exit(0);
		}
	}

	/*
	 * A process that fails never reaches the barrier. To wait for the others
	 * in the order of their index would take for ever, so wait for any. Those
	 * left die with this process.
	 */
	for (int left = processes; left > 0; left--)
	{
		int			status;

		require(wait(&status) > 0, "wait: %s", strerror(errno));
		require_success(status);
	}
	memcpy(results, shared, size);
	munmap(shared, size);
	munmap(barrier, sizeof(pthread_barrier_t));
}
