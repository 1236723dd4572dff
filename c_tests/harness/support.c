/*
 * support.c
 *		See support.h.
 */
#include "support.h"
#include "netns.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

OpenFds
open_fds(void)
{
	OpenFds		fds;
	DIR		   *dir = opendir("/proc/self/fd");
	struct dirent *entry;

	memset(&fds, 0, sizeof(fds));
	if (dir == NULL)
	{
		perror("/proc/self/fd");
		abort();
	}
	while ((entry = readdir(dir)) != NULL)
	{
		int			fd;

		if (entry->d_name[0] == '.')
			continue;
		fd = atoi(entry->d_name);
		if (fd == dirfd(dir))
			continue;
		fds.count++;
		if (fd < OPEN_FDS_MAX)
			fds.bits[fd / 64] |= UINT64_C(1) << (fd % 64);
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
	{
		expected.count++;
		if (extra < OPEN_FDS_MAX)
			expected.bits[extra / 64] |= UINT64_C(1) << (extra % 64);
	}
	return now.count == expected.count &&
		memcmp(now.bits, expected.bits, sizeof(now.bits)) == 0;
}

int
socket_option(int fd, int level, int name)
{
	int			value;
	socklen_t	size = sizeof(value);

	return getsockopt(fd, level, name, &value, &size) == 0 ? value : -1;
}

int
local_port(int fd)
{
	struct sockaddr_storage address;
	socklen_t	size = sizeof(address);

	if (getsockname(fd, (struct sockaddr *) &address, &size) != 0)
		return -1;
	if (address.ss_family == AF_INET6)
		return ntohs(((struct sockaddr_in6 *) &address)->sin6_port);
	return ntohs(((struct sockaddr_in *) &address)->sin_port);
}

bool
proc_numbers(const char *path, int n, long *numbers)
{
	char		text[256];
	char	   *at = text;
	ssize_t		length;
	int			fd = open(path, O_RDONLY | O_CLOEXEC);
	int			i;

	if (fd < 0)
		return false;
	length = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (length < 0)
		return false;
	text[length] = '\0';
	for (i = 0; i < n; i++)
	{
		char	   *end;

		numbers[i] = strtol(at, &end, 10);
		if (end == at)
			return false;
		at = end;
	}
	return true;
}

int
in_child(void (*body) (void *), void *arg)
{
	int			status;
	int			pid = fork_child();

	if (pid == 0)
	{
		body(arg);
		fflush(NULL);
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0)
	{
		if (errno != EINTR)
		{
			perror("waitpid");
			return 1;
		}
	}
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
