/*
 * selftest.c
 *		The harness itself: it sees whatever goes wrong in a child.
 */
#define _GNU_SOURCE

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "test.h"

static void
pass(void *unused)
{
	(void) unused;
}

static void
fail_with_a_message(void *unused)
{
	(void) unused;
	now_doing("case %d", 7);
	require(false, "as it %s", "should");
}

static void
expect_what_is_not_so(void *unused)
{
	(void) unused;
	expect(2 + 2 == 5);
}

static void
expect_another_number(void *unused)
{
	(void) unused;
	expect_equal(2 + 2, 5);
}

static void
expect_another_text(void *unused)
{
	(void) unused;
	expect_in("listener", "port");
}

static void
skip_it(void *unused)
{
	(void) unused;
	skip_child("a better kernel");
}

static void
crash(void *unused)
{
	(void) unused;
	raise(SIGSEGV);
}

static void
leave_early(void *unused)
{
	(void) unused;
	exit(3);
}

/* A grandchild's failure is the test's, whatever the child makes of it. */
static void
fail_below(void *unused)
{
	(void) unused;
	if (fork_child() == 0)
		require(false, "below");
	wait(NULL);
}

static void
fail_at_once(int index, void *result, void *unused)
{
	(void) result;
	(void) unused;
	require(index != 2, "process %d of them", index);
}

static void
fail_one_of_four(void *unused)
{
	char		results[4];

	(void) unused;
	run_at_once(4, fail_at_once, NULL, results, 1);
}

static void
require_outcome(void (*body) (void *), ChildOutcome expected,
				const char *message)
{
	char		seen[CHILD_MESSAGE_SIZE];
	ChildOutcome outcome = run_in_child(body, NULL, seen);

	require(outcome == expected && strstr(seen, message) != NULL,
			"outcome %d, message \"%s\"; not %d, \"%s\"", outcome, seen,
			expected, message);
}

TEST(outcomes_are_seen)
{
	require_outcome(pass, CHILD_PASSED, "");
	require_outcome(fail_with_a_message, CHILD_FAILED,
					"case 7: as it should");
	require_outcome(expect_what_is_not_so, CHILD_FAILED,
					"not so: 2 + 2 == 5");
	require_outcome(expect_another_number, CHILD_FAILED,
					"2 + 2 is 4, not 5");
	require_outcome(expect_another_text, CHILD_FAILED,
					"\"listener\" has no \"port\"");
	require_outcome(skip_it, CHILD_SKIPPED, "a better kernel");
	require_outcome(crash, CHILD_FAILED, "status 0xb");
	require_outcome(leave_early, CHILD_FAILED, "status 0x300");
	require_outcome(fail_one_of_four, CHILD_FAILED, "process 2 of them");
}

TEST(a_failure_below_is_seen)
{
	require_outcome(fail_below, CHILD_FAILED, "below");
}

/* The kernel reaps the children: how they ended is unknown. */
TEST(a_child_that_cannot_be_waited_for_has_not_passed)
{
	signal(SIGCHLD, SIG_IGN);
	require_outcome(pass, CHILD_FAILED, "waitpid: No child processes");
}

int
main(void)
{
	return run_all(
		test(outcomes_are_seen),
		test(a_failure_below_is_seen),
		test(a_child_that_cannot_be_waited_for_has_not_passed));
}
