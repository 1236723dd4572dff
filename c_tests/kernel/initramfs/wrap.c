/*
 * wrap.c
 *		What the test programs need where check-kernels runs them, without a
 *		word about it in them: linked with -Wl,--wrap=unshare,--wrap=alarm.
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
 * Every network namespace that the programs make has ip_autobind_reuse=1 when
 * IC_LISTENER_TEST_AUTOBIND_REUSE=1 is set. The kernel does not hand the
 * setting down to new namespaces, so it cannot be made once for all of them.
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
