/*
 * wrapper.c
 *		Another library for LD_PRELOAD that wraps the same functions. Each says
 *		its name when it is called first.
 */
#define _GNU_SOURCE

#include <dlfcn.h>
#include <stdio.h>
#include <sys/socket.h>

#define WRAP(name, parameters, arguments) \
int \
name parameters \
{ \
	static int	calls; \
 \
	if (calls++ == 0) \
		puts(#name); \
	return ((int (*) parameters) dlsym(RTLD_NEXT, #name)) arguments; \
}

WRAP(bind, (int fd, __CONST_SOCKADDR_ARG address, socklen_t length), (fd, address, length))
WRAP(listen, (int fd, int backlog), (fd, backlog))
WRAP(connect, (int fd, __CONST_SOCKADDR_ARG address, socklen_t length), (fd, address, length))
