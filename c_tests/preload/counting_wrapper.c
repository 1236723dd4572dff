/*
 * counting_wrapper.c
 *		Another library for LD_PRELOAD that wraps the same functions. At exit it
 *		prints how often each was called.
 */
#define _GNU_SOURCE

#include <dlfcn.h>
#include <stdio.h>
#include <sys/socket.h>

static int	calls[3];

#define NEXT(name, type) ((type) dlsym(RTLD_NEXT, name))

int
bind(int fd, __CONST_SOCKADDR_ARG address, socklen_t length)
{
	calls[0]++;
	return NEXT("bind", int (*) (int, __CONST_SOCKADDR_ARG, socklen_t))
		(fd, address, length);
}

int
listen(int fd, int backlog)
{
	calls[1]++;
	return NEXT("listen", int (*) (int, int)) (fd, backlog);
}

int
connect(int fd, __CONST_SOCKADDR_ARG address, socklen_t length)
{
	calls[2]++;
	return NEXT("connect", int (*) (int, __CONST_SOCKADDR_ARG, socklen_t))
		(fd, address, length);
}

__attribute__((destructor))
static void
print_calls(void)
{
	printf("%s, %s, %s\n", calls[0] ? "bind" : "", calls[1] ? "listen" : "",
		   calls[2] ? "connect" : "");
}
