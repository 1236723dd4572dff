/*
 * init.c
 *		The first process of a machine that check-kernels boots. It runs
 *		the static programs in /tests that /tests/list names, says on the
 *		console how each ended, and ends the machine.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "netns.h"

/* Where a mount fails, the programs say what they miss. */
static void
mount_at(const char *directory, const char *type)
{
	mkdir(directory, 0755);
	if (mount(type, directory, type, 0, NULL) != 0)
		printf("# mount %s: %s\n", directory, strerror(errno));
}

/* /modules/1, 2 and so on. */
static void
load_modules(void)
{
	for (int number = 1; number < 10; number++)
	{
		char		path[32];
		int			fd;

		snprintf(path, sizeof(path), "/modules/%d", number);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (syscall(SYS_finit_module, fd, "", 0) != 0)
			printf("# %s: %s\n", path, strerror(errno));
		close(fd);
	}
}

static void
run(const char *test)
{
	char		path[300];
	int			status = -1;
	pid_t		pid;

	snprintf(path, sizeof(path), "/tests/%s", test);
	/* The firmware leaves the cursor in the middle of a line. */
	printf("\n@begin %s\n", test);
	fflush(stdout);
	pid = fork();
	if (pid == 0)
	{
		execl(path, path, NULL);
		printf("# %s: %s\n", path, strerror(errno));
		_exit(127);
	}

	/* Orphans of the program are ours too. */
	while (pid > 0 && wait(&status) != pid)
		;
	printf("@end 0x%x\n", status);
	fflush(stdout);
}

int
main(void)
{
	char		test[256];
	FILE	   *list;
	const char *missing;

	mount_at("/proc", "proc");
	mount_at("/sys", "sysfs");
	mount_at("/dev", "devtmpfs");
	mount_at("/tmp", "tmpfs");

	load_modules();
	/* One with lo up; ours has it down. */
	missing = enter_netns();
	if (missing != NULL)
		printf("# %s\n", missing);
	list = fopen("/tests/list", "re");
	while (list != NULL && fscanf(list, "%255s", test) == 1)
		run(test);
	printf("@done\n");
	fflush(stdout);
	sync();

	/*
	 * qemu's -no-reboot makes this its end; to power off would need a kernel
	 * with ACPI.
	 */
	reboot(RB_AUTOBOOT);
	return 1;
}
