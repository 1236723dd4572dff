/*
 * support.c
 *		See support.h.
 */
#define _GNU_SOURCE

#include "support.h"

#include <dirent.h>
#include <errno.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "child.h"

#define OTHER_USER 65534

OpenFds
open_fds(void)
{
	OpenFds		fds = {{false}};
	DIR		   *dir = opendir("/proc/self/fd");
	struct dirent *entry;

	require(dir != NULL, "/proc/self/fd: %s", strerror(errno));
	while ((entry = readdir(dir)) != NULL)
	{
		int			fd = atoi(entry->d_name);

		require(fd < OPEN_FDS_MAX, "fd %d", fd);
		if (entry->d_name[0] != '.' && fd != dirfd(dir))
			fds.has[fd] = true;
	}
	closedir(dir);
	return fds;
}

bool
open_fds_are(const OpenFds *before, int extra)
{
	OpenFds		expected = *before;
	OpenFds		now = open_fds();

	if (extra >= 0)
		expected.has[extra] = true;
	return memcmp(&now, &expected, sizeof(now)) == 0;
}

double
seconds_of(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

bool
become_another_user(void)
{
	return setresgid(OTHER_USER, OTHER_USER, OTHER_USER) == 0 &&
		setresuid(OTHER_USER, OTHER_USER, OTHER_USER) == 0;
}

void
drop_privileges(void)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3];

	become_another_user();
	memset(none, 0, sizeof(none));
	require(syscall(SYS_capset, &header, none) == 0, "capset: %s",
			strerror(errno));
}

void
skip_where_filters_see_no_socket(void)
{
#if defined(__i386__) || defined(__s390x__)
	skip_child("another processor: glibc calls socketcall(2) on this one, whose "
			   "arguments a seccomp filter cannot see");
#endif
}

void
refuse_call(int call, int argument, int value, int error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
				 offsetof(struct seccomp_data, args[argument])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	skip_where_filters_see_no_socket();
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		skip_child("a seccomp filter: a kernel with CONFIG_SECCOMP_FILTER");
}

void
enter_mount_namespace(void)
{
	if (unshare(CLONE_NEWNS) != 0)
		skip_child("a mount namespace: run as root with CAP_SYS_ADMIN");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		skip_child("a root directory that is a mount point, unlike a chroot's: "
				   "mount --bind it on itself first (%s)", strerror(errno));
}

void
mount_empty_over(const char *directory)
{
	require(mount("none", directory, "tmpfs", 0, NULL) == 0,
			"tmpfs on %s: %s", directory, strerror(errno));
}
