/*
 * netns.c
 *		See netns.h.
 */
#define _GNU_SOURCE

#include "netns.h"

#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static bool
write_file(const char *path, const char *text)
{
	FILE	   *file = fopen(path, "we");
	bool		written;

	if (file == NULL)
		return false;
	/* The kernel takes a long list in parts, and decides where one ends. */
	setbuf(file, NULL);
	written = fputs(text, file) >= 0;
	fclose(file);
	return written;
}

/*
 * The calling user becomes root of a new user namespace, which the network
 * namespace needs.
 */
static bool
enter_user_namespace(void)
{
	char		uid_map[32];
	char		gid_map[32];

	snprintf(uid_map, sizeof(uid_map), "0 %d 1", (int) geteuid());
	snprintf(gid_map, sizeof(gid_map), "0 %d 1", (int) getegid());
	return unshare(CLONE_NEWUSER) == 0 &&
		write_file("/proc/self/setgroups", "deny") &&
		write_file("/proc/self/uid_map", uid_map) &&
		write_file("/proc/self/gid_map", gid_map);
}

static bool
set_loopback_up(void)
{
	struct ifreq request = {.ifr_name = "lo"};
	int			fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool		up;

	if (fd < 0)
		return false;
	up = ioctl(fd, SIOCGIFFLAGS, &request) == 0;
	request.ifr_flags |= IFF_UP;
	up = up && ioctl(fd, SIOCSIFFLAGS, &request) == 0;
	close(fd);
	return up;
}

const char *
enter_netns(void)
{
	if (geteuid() != 0 && !enter_user_namespace())
		return "a user namespace: run as root, or outside of a chroot, with sysctl "
			"user.max_user_namespaces and kernel.unprivileged_userns_clone=1";
	if (unshare(CLONE_NEWNET) != 0)
		return "a network namespace: run as root with CAP_SYS_ADMIN";
	if (!set_loopback_up())
		return "lo up in a network namespace: CAP_NET_ADMIN is needed";
	return NULL;
}

bool
write_sysctl(const char *name, const char *value)
{
	char		path[128];

	snprintf(path, sizeof(path), "/proc/sys/%s", name);
	for (char *at = path + strlen("/proc/sys/"); *at != '\0'; at++)
	{
		if (*at == '.')
			*at = '/';
	}
	return write_file(path, value);
}

void
set_sysctl(const char *name, const char *format,...)
{
	char	   *value;
	va_list		arguments;

	va_start(arguments, format);
	require(vasprintf(&value, format, arguments) >= 0, "out of memory");
	va_end(arguments);
	require(write_sysctl(name, value), "%s=%.100s: %s", name, value,
			strerror(errno));
	free(value);
}

bool
has_autobind_reuse(void)
{
	return access("/proc/sys/net/ipv4/ip_autobind_reuse", F_OK) == 0;
}

void
set_port_range(int port_min, int port_max)
{
	set_sysctl("net.ipv4.ip_local_port_range", "%d %d", port_min, port_max);
}

void
set_bindv6only(bool on)
{
	if (!write_sysctl("net.ipv6.bindv6only", on ? "1" : "0"))
		skip_child("IPv6: boot without ipv6.disable=1 (%s)", strerror(errno));
}

typedef struct Inside
{
	void		(*body) (void *argument);
	void	   *argument;
} Inside;

static void
enter_and_run(void *argument)
{
	const Inside *inside = argument;
	const char *missing = enter_netns();

	if (missing != NULL)
		skip_child("%s", missing);
	inside->body(inside->argument);
}

ChildOutcome
run_in_netns(void (*body) (void *argument), void *argument,
			 char message[CHILD_MESSAGE_SIZE])
{
	Inside		inside = {body, argument};

	return run_in_child(enter_and_run, &inside, message);
}
