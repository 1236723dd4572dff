/*
 * wrap.c
 *		What the test programs need under check-kernels, so that they need
 *		not know of it: linked with -Wl,--wrap=unshare,--wrap=alarm.
 */
#define _GNU_SOURCE

#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "netns.h"

/* Measured: an emulated machine on a busy host takes up to 20 times as long. */
#define EMULATION_SLOWNESS 20

extern int	__real_unshare(int flags);
extern int	__wrap_unshare(int flags);
extern unsigned __real_alarm(unsigned seconds);
extern unsigned __wrap_alarm(unsigned seconds);

/*
 * With IC_LISTENER_TEST_AUTOBIND_REUSE=1, every network namespace that the
 * programs make has ip_autobind_reuse=1. A new namespace does not inherit it.
 */
int
__wrap_unshare(int flags)
{
	const char *setting = getenv("IC_LISTENER_TEST_AUTOBIND_REUSE");

	if (__real_unshare(flags) != 0)
		return -1;
	if ((flags & CLONE_NEWNET) != 0 && setting != NULL)
		set_sysctl(AUTOBIND_REUSE, "%s", setting);
	return 0;
}

unsigned
__wrap_alarm(unsigned seconds)
{
	return __real_alarm(seconds * EMULATION_SLOWNESS);
}
