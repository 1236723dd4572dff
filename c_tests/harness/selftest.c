/*
 * selftest.c
 *		The harness itself: it sees whatever goes wrong in a child.
 */
#define _GNU_SOURCE

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "test.h"

static void
fail_one_of_four(int index, void *result, void *unused)
{
	(void) result;
	(void) unused;
	require(index != 2, "process %d of them", index);
}

/* What a child may come to, by its number. */
static void
come_to(void *number)
{
	char		results[4];

	switch (*(int *) number)
	{
		case 0:
			break;
		case 1:
			now_doing("case %d", 7);
			require(false, "as it %s", "should");
			break;
		case 2:
			expect(2 + 2 == 5);
			break;
		case 3:
			expect_equal(2 + 2, 5);
			break;
		case 4:
			expect_in("listener", "port");
			break;
		case 5:
			skip_child("a better kernel");
			break;
		case 6:
			raise(SIGSEGV);
			break;
		case 7:
			exit(3);
		case 8:
			run_at_once(4, fail_one_of_four, NULL, results, 1);
			break;
		default:
			/* A grandchild's failure is the test's. */
			if (fork_child() == 0)
				require(false, "below");
			wait(NULL);
	}
}

static const struct
{
	ChildOutcome outcome;
	const char *message;
}			expected[] =
{
	{CHILD_PASSED, ""}, {CHILD_FAILED, "case 7: as it should"},
	{CHILD_FAILED, "not so: 2 + 2 == 5"}, {CHILD_FAILED, "2 + 2 is 4, not 5"},
	{CHILD_FAILED, "\"listener\" has no \"port\""},
	{CHILD_SKIPPED, "a better kernel"}, {CHILD_FAILED, "status 0xb"},
	{CHILD_FAILED, "status 0x300"}, {CHILD_FAILED, "process 2 of them"},
	{CHILD_FAILED, "below"},
};

static void
require_outcome(int number, ChildOutcome outcome, const char *message)
{
	char		seen[CHILD_MESSAGE_SIZE];
	ChildOutcome came = run_in_child(come_to, &number, seen);

	require(came == outcome && strstr(seen, message) != NULL,
			"case %d: outcome %d, message \"%s\"", number, came, seen);
}

TEST(outcomes_are_seen)
{
	for (size_t i = 0; i < lengthof(expected); i++)
		require_outcome(i, expected[i].outcome, expected[i].message);
}

/* The kernel reaps the children: how they ended is unknown. */
TEST(a_child_that_cannot_be_waited_for_has_not_passed)
{
	signal(SIGCHLD, SIG_IGN);
	require_outcome(0, CHILD_FAILED, "waitpid: No child processes");
}

int
main(void)
{
	return run_all(
		test(outcomes_are_seen),
		test(a_child_that_cannot_be_waited_for_has_not_passed));
}
