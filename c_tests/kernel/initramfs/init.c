/*
 * init.c
 *		The first process of a machine that check-kernels boots. It runs
 *		the static programs in /tests/list, says on the console how each
 *		ended, and ends the machine.
 *
 * A line of the list is NAME=VALUE settings for the environment, if any, and
 * a program, with spaces between them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "netns.h"

/* What the machine's timings, and the order of ports, come from. */
static void
describe_machine(void)
{
	char		clocksource[64] = "unknown";
	FILE	   *file = fopen("/sys/devices/system/clocksource/clocksource0/"
							 "current_clocksource", "re");

	if (file != NULL)
	{
		if (fscanf(file, "%63s", clocksource) != 1)
			strcpy(clocksource, "unknown");
		fclose(file);
	}
	printf("\n# clocksource %s, %ld CPUs\n", clocksource,
		   sysconf(_SC_NPROCESSORS_ONLN));
}

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
execute(char *line)
{
	char	   *word;

	for (word = strtok(line, " "); word != NULL; word = strtok(NULL, " "))
	{
		if (strchr(word, '=') != NULL)
			putenv(word);
		else
			break;
	}
	if (word != NULL)
		execl(word, word, NULL);
	printf("# %s: %s\n", word, strerror(errno));
	_exit(127);
}

static void
run(char *line)
{
	int			status = -1;
	pid_t		pid;

	line[strcspn(line, "\n")] = '\0';
	/* The firmware leaves the cursor in the middle of a line. */
	printf("\n@begin %s\n", line);
	fflush(stdout);
	if (strstr(line, "AUTOBIND_REUSE=1") != NULL && !has_autobind_reuse())
	{
		printf("@does_not_apply\n");
		fflush(stdout);
		return;
	}
	pid = fork();
	if (pid == 0)
		execute(line);

	/* Orphans of the program are ours too. */
	while (pid > 0 && wait(&status) != pid)
		;
	printf("@end 0x%x\n", status);
	fflush(stdout);
}

int
main(void)
{
	char		line[256];
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
	describe_machine();
	list = fopen("/tests/list", "re");
	while (list != NULL && fgets(line, sizeof(line), list) != NULL)
		run(line);
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
