/*
 * wrap.c
 *		What the test programs need under check-kernels, so that they need
 *		not know of it: linked with -Wl,--wrap=alarm.
 */
#include <unistd.h>

/* Measured: an emulated machine on a busy host takes up to 20 times as long. */
#define EMULATION_SLOWNESS 20

extern unsigned __real_alarm(unsigned seconds);
extern unsigned __wrap_alarm(unsigned seconds);

unsigned
__wrap_alarm(unsigned seconds)
{
	return __real_alarm(seconds * EMULATION_SLOWNESS);
}
