/*
 * preload.c
 *		bind(), listen() and connect() under libc's names, for programs
 *		that are not rebuilt: libic_listener_preload.so, for LD_PRELOAD.
 *
 * TCP sockets that want a port go to ic_listener_bind(), ic_listener_listen()
 * and ic_listener_connect(). Everything else goes unchanged to the next
 * library that has the function, usually libc.
 *
 * Only the constructor allocates or reads the environment. Nothing here waits
 * for a lock.
 */
#define _GNU_SOURCE

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "ic_listener.h"

/* Of Linux 6.3; ip(7). */
#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif

typedef struct sockaddr sockaddr;

/*
 * The exports. In C they have other names, because libc's header declares
 * bind() and connect() with a type of glibc's own.
 */
extern int	our_bind(int fd, const sockaddr *address, socklen_t length)
			__asm__("bind") __attribute__((visibility("default")));
extern int	our_listen(int fd, int backlog)
			__asm__("listen") __attribute__((visibility("default")));
extern int	our_connect(int fd, const sockaddr *address, socklen_t length)
			__asm__("connect") __attribute__((visibility("default")));

/*
 * libic_listener.a calls these in this library instead of bind(), listen()
 * and connect(), which would be the ones above (preload.mk renames them).
 */
extern int	ic_next_bind(int fd, const sockaddr *address, socklen_t length);
extern int	ic_next_listen(int fd, int backlog);
extern int	ic_next_connect(int fd, const sockaddr *address, socklen_t length);

/* NULL until the constructor has run. */
static int	(*next_bind) (int fd, const sockaddr *address, socklen_t length);
static int	(*next_listen) (int fd, int backlog);
static int	(*next_connect) (int fd, const sockaddr *address, socklen_t length);

/* IC_LISTENER_LOG=stderr */
static bool logs_to_stderr;

/* IC_LISTENER_PATIENCE: how many milliseconds a call waits for a port. */
static int	patience_ms;

/* A copy: a server may overwrite its arguments to show what it does. */
static char program[64];

/* Before glibc 2.34 a program without threads does not have it. */
#pragma weak pthread_testcancel

/*
 * Looks up the next functions, because dlsym() must not be called in a signal
 * handler, and connect() may be. What other libraries call before this goes
 * to the kernel; there are no threads to be cancelled then.
 */
__attribute__((constructor))
static void
load(void)
{
	const char *log = secure_getenv("IC_LISTENER_LOG");
	const char *patience = secure_getenv("IC_LISTENER_PATIENCE");

	*(void **) &next_bind = dlsym(RTLD_NEXT, "bind");
	*(void **) &next_listen = dlsym(RTLD_NEXT, "listen");
	*(void **) &next_connect = dlsym(RTLD_NEXT, "connect");
	logs_to_stderr = log != NULL && strcmp(log, "stderr") == 0;
	if (patience != NULL)
		patience_ms = atoi(patience);
	strncpy(program, program_invocation_short_name, sizeof(program) - 1);
}

int
ic_next_bind(int fd, const sockaddr *address, socklen_t length)
{
	if (next_bind == NULL)
		return syscall(SYS_bind, fd, address, length);
	return next_bind(fd, address, length);
}

int
ic_next_listen(int fd, int backlog)
{
	if (next_listen == NULL)
		return syscall(SYS_listen, fd, backlog);
	return next_listen(fd, backlog);
}

int
ic_next_connect(int fd, const sockaddr *address, socklen_t length)
{
	if (next_connect == NULL)
		return syscall(SYS_connect, fd, address, length);
	return next_connect(fd, address, length);
}

/* An option of type int, or 0 when there is none. */
static int
option(int fd, int level, int name)
{
	int			value;
	socklen_t	length = sizeof(value);

	return getsockopt(fd, level, name, &value, &length) == 0 ? value : 0;
}

static bool
is_tcp(int fd)
{
	return option(fd, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_TCP;
}

/*
 * Whether the eight bytes can be read. The kernel tries: an address of a TCP
 * socket is longer, so nothing is bound.
 */
static bool
is_readable(int fd, const void *bytes)
{
	return syscall(SYS_bind, fd, bytes, 8) == -1 && errno == EINVAL;
}

/*
 * Whether this is an IPv4 or IPv6 address, long enough and readable. *length
 * becomes that of the address alone, unless the socket is of the other
 * family: then the kernel looks at the length first.
 */
static bool
is_address(int fd, const sockaddr *address, socklen_t *length)
{
	sa_family_t family;
	socklen_t	full = sizeof(struct sockaddr_in);
	socklen_t	least = full;

	if (*length < least || *length > sizeof(struct sockaddr_storage) ||
		!is_readable(fd, address))
		return false;
	memcpy(&family, &address->sa_family, sizeof(family));
	if (family == AF_INET6)
	{
		full = sizeof(struct sockaddr_in6);
		least = full - sizeof(uint32_t);	/* without the scope, RFC 2133 */
	}
	else if (family != AF_INET)
		return false;
	if (*length < least)
		return false;
	if (*length > full)
	{
		if (option(fd, SOL_SOCKET, SO_DOMAIN) != family)
			return false;
		*length = full;
	}
	/*
	 * The kernel does not look at sin_zero, but at the end of an IPv6
	 * address.
	 */
	return family == AF_INET ||
		is_readable(fd, (const char *) address + *length - 8);
}

typedef enum Function
{
	BIND,
	LISTEN,
	CONNECT,
} Function;

typedef struct Call
{
	Function	function;
	int			fd;
	const sockaddr *address;
	socklen_t	length;
	int			backlog;
	/* The socket's file status flags, for connect(). */
	int			flags;
} Call;

/* Begins a connection without waiting for it. */
static int
begin_connection(const Call *call, IcListenerReport *report)
{
	bool		blocks = !(call->flags & O_NONBLOCK);
	int			returned;
	int			error;

	if (blocks)
		fcntl(call->fd, F_SETFL, call->flags | O_NONBLOCK);
	returned = ic_listener_connect(call->fd, call->address, call->length,
								   report);
	error = errno;
	if (blocks)
		fcntl(call->fd, F_SETFL, call->flags);
	errno = error;
	return returned;
}

static int
make_call(const Call *call, IcListenerReport *report)
{
	switch (call->function)
	{
		case BIND:
			return ic_listener_bind(call->fd, call->address, call->length,
									report);
		case LISTEN:
			return ic_listener_listen(call->fd, call->backlog, report);
		case CONNECT:
			break;
	}
	return begin_connection(call, report);
}

static bool
is_about_ports(int error)
{
	return error == EADDRINUSE || error == EADDRNOTAVAIL;
}

/* Milliseconds of the monotonic clock. */
static int64_t
now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * INT64_C(1000) + time.tv_nsec / 1000000;
}

static void
write_line(const char *message)
{
	char		pid[16];
	char	   *digits = pid + sizeof(pid);
	const char *words[] = {"ic_listener: ", program, NULL, message, "\n"};
	struct iovec line[5];

	memcpy(digits -= 3, "]: ", 3);
	for (int number = getpid(); number > 0; number /= 10)
		*--digits = '0' + number % 10;
	*--digits = '[';

	for (int index = 0; index < 5; index++)
		if (words[index] != NULL)
			line[index] = (struct iovec) {
				(char *) words[index], strlen(words[index])
			};
	line[2] = (struct iovec) {digits, pid + sizeof(pid) - digits};
	/* One system call, so that the lines of two processes do not mix. */
	if (writev(STDERR_FILENO, line, 5) < 0)
	{
		/* There is nowhere to report it. */
	}
}

/*
 * The same, again while there is patience left, and a line when no port was
 * found. Not inlined: the report would take stack in every call, and the
 * stack may be small.
 */
__attribute__((noinline))
static int
make_call_for_some_time(const Call *call)
{
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	int64_t		deadline = patience_ms > 0 ? now() + patience_ms : 0;
	int			returned = make_call(call, &report);
	int			error = errno;

	/* A port that the caller chose is not waited for: no port was tried. */
	if (returned == 0 || report.ports_tried == 0 || !is_about_ports(error))
	{
		errno = error;
		return returned;
	}
	/* Without a report, which would take a census each time. */
	while (returned != 0 && is_about_ports(error) && deadline > now())
	{
		nanosleep(&(struct timespec) {.tv_nsec = 10 * 1000000L}, NULL);
		returned = make_call(call, NULL);
		error = errno;
	}
	if (returned != 0 && is_about_ports(error) && logs_to_stderr)
		write_line(report.message);
	errno = error;
	return returned;
}

/*
 * Makes the call with cancellation disabled: the end of a thread must not
 * unwind Rust's frames. Changes errno on failure only.
 */
static int
by_strategy(const Call *call, int errno_before)
{
	int			cancel_state;
	int			returned;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
	returned = logs_to_stderr || patience_ms > 0 ?
		make_call_for_some_time(call) : make_call(call, NULL);
	if (returned == 0)
		errno = errno_before;
	pthread_setcancelstate(cancel_state, NULL);
	return returned;
}

/*
 * Not for a socket that is confined to a window already, as libic_listener
 * does in a program that has it.
 */
int
our_bind(int fd, const sockaddr *address, socklen_t length)
{
	int			errno_before = errno;
	socklen_t	address_length = length;

	if (!is_tcp(fd) || !is_address(fd, address, &address_length) ||
		option(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE) != 0)
	{
		errno = errno_before;
		return ic_next_bind(fd, address, length);
	}
	return by_strategy(&(Call) {
					   .function = BIND,.fd = fd,.address = address,.length = address_length
					   }, errno_before);
}

int
our_listen(int fd, int backlog)
{
	int			errno_before = errno;

	if (!is_tcp(fd))
	{
		errno = errno_before;
		return ic_next_listen(fd, backlog);
	}
	return by_strategy(&(Call) {
					   .function = LISTEN,.fd = fd,.backlog = backlog
					   }, errno_before);
}

/*
 * libc's connect() does the waiting: there a signal may interrupt or restart
 * it, a thread may be cancelled, or a handler may jump out. So the connection
 * begins without blocking. The second connect() sends nothing: it waits for
 * the connection that is being made (`inet_stream_connect`), as one does that
 * is restarted after a signal.
 */
int
our_connect(int fd, const sockaddr *address, socklen_t length)
{
	int			errno_before = errno;
	socklen_t	address_length = length;
	Call		call = {.function = CONNECT,.fd = fd,.address = address};
	int			returned;
	int			error;

	if (!is_tcp(fd) || !is_address(fd, address, &address_length) ||
		(call.flags = fcntl(fd, F_GETFL)) < 0)
	{
		errno = errno_before;
		return ic_next_connect(fd, address, length);
	}
	if (pthread_testcancel != NULL)
		pthread_testcancel();
	call.length = address_length;
	returned = by_strategy(&call, errno_before);
	error = errno;
	if (returned == 0 || (call.flags & O_NONBLOCK) ||
		(error != EINPROGRESS && error != EALREADY))
		return returned;

	errno = errno_before;
	returned = ic_next_connect(fd, address, length);
	/* SO_SNDTIMEO has expired. */
	if (returned != 0 && errno == EALREADY)
		errno = error;
	return returned;
}
