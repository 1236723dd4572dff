/*
 * selftest.c
 *		The harness itself: it sees whatever goes wrong in a child.
 */
#include <signal.h>

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
		case 1:
			expect_equal(2 + 2, 5);
			break;
		case 2:
			skip_child("a better kernel");
			break;
		case 3:
			raise(SIGSEGV);
			break;
		case 4:
			run_at_once(4, fail_one_of_four, NULL, results, 1);
	}
}

TEST(outcomes_are_seen)
{
	static const struct
	{
		ChildOutcome outcome;
		const char *message;
	}			expected[] = {
		{CHILD_PASSED, ""}, {CHILD_FAILED, "2 + 2 is 4, not 5"}, {CHILD_SKIPPED, "a better kernel"},
		{CHILD_FAILED, "status 0xb"}, {CHILD_FAILED, "process 2 of them"},
	};

	for (int i = 0; i < (int) lengthof(expected); i++)
	{
		char		seen[CHILD_MESSAGE_SIZE];
		ChildOutcome outcome = run_in_child(come_to, &i, seen);

		require(outcome == expected[i].outcome && strstr(seen, expected[i].message) != NULL,
				"case %d: outcome %d, message \"%s\"", i, outcome, seen);
	}
}

int
main(void)
{
	return run_all(test(outcomes_are_seen));
}
