/*
 * child.h
 *		Tests that run in their own process, because they change it; what
 *		makes them fail; and processes that start at one moment.
 */
#ifndef CHILD_H
#define CHILD_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define CHILD_MESSAGE_SIZE 512

typedef enum ChildOutcome
{
	CHILD_PASSED,
	CHILD_FAILED,
	CHILD_SKIPPED,				/* the message says what is missing */
} ChildOutcome;

/*
 * Calls body(argument) in a forked child, which passes when body returns, and
 * fails when that takes longer than a minute. *message says why.
 */
extern ChildOutcome run_in_child(void (*body) (void *argument), void *argument,
								 char message[CHILD_MESSAGE_SIZE]);

/* Unless the condition holds, ends the test, from whichever of its processes. */
#define require(condition, ...) \
	((condition) ? (void) 0 : fail_child(__FILE__, __LINE__, __VA_ARGS__))

#define expect(condition) \
	require(condition, "not so: %s (errno %d, %s)", #condition, errno, \
			strerror(errno))

#define expect_equal(actual, expected) \
	expect_equal_at(__FILE__, __LINE__, #actual, actual, expected)

#define expect_in(text, part) \
	require(strstr(text, part) != NULL, "\"%s\" has no \"%s\"", text, part)

/* The case at hand: messages of failures begin with it from now on. */
extern void now_doing(const char *format, ...)
			__attribute__((format(printf, 1, 2)));

extern void fail_child(const char *file, int line, const char *format, ...)
			__attribute__((noreturn, format(printf, 3, 4)));
extern void expect_equal_at(const char *file, int line, const char *what,
							long long actual, long long expected);

/* Ends the test as a SKIP, and says what it takes. */
extern void skip_child(const char *format, ...)
			__attribute__((noreturn, format(printf, 1, 2)));

/* fork(). The child is killed when its parent ends. */
extern int	fork_child(void);

/* Waits for a child, which must end with status 0. */
extern void wait_for_child(int pid);

/* Kills it. */
extern void end_child(int pid);

/*
 * Forks that many processes, releases them together into body(), and copies
 * what each left in *result (zeros at first) to results[index]. None ends,
 * and releases what it holds, before all have returned from body(). No other
 * child of the caller may end meanwhile.
 */
extern void run_at_once(int processes,
						void (*body) (int index, void *result, void *argument),
						void *argument, void *results, size_t result_size);

/* Inside body(): waits until all processes of run_at_once() are here. */
extern void wait_for_all(void);

#endif							/* CHILD_H */
