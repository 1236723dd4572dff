/*
 * preload.c
 *		bind(), listen(), connect() and getsockname() under libc's names, for
 *		programs that are not rebuilt: libic_listener_preload.so, for
 *		LD_PRELOAD.
 *
 * They are ic_listener_bind(), ic_listener_listen(), ic_listener_connect() and
 * ic_listener_getsockname(), which pass on to the next library that has the
 * function, usually libc, whatever is not a TCP socket that wants a port.
 *
 * Only the constructor allocates or reads the environment.  Nothing here waits
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
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "ic_listener.h"

/* Of Linux 6.3; ip(7). */
#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif

/* The longest wait, and how long it pauses at first and at last. */
#define LONGEST_PATIENCE_MS 60000
#define FIRST_PAUSE_MS 10
#define LAST_PAUSE_MS 160

typedef struct sockaddr sockaddr;

/*
 * The exports.  In C they have other names, because libc's header declares
 * them with a type of glibc's own.
 */
#define EXPORT(name) __asm__(name) __attribute__((visibility("default")))

extern int	our_bind(int fd, const sockaddr *address, socklen_t length)
			EXPORT("bind");
extern int	our_listen(int fd, int backlog) EXPORT("listen");
extern int	our_connect(int fd, const sockaddr *address, socklen_t length)
			EXPORT("connect");
extern int	our_getsockname(int fd, sockaddr *address, socklen_t *length)
			EXPORT("getsockname");

/*
 * libic_listener.a calls these in this library instead of bind(), listen(),
 * connect() and getsockname(), which would be the ones above (preload.mk
 * renames them).
 */
extern int	ic_next_bind(int fd, const sockaddr *address, socklen_t length);
extern int	ic_next_listen(int fd, int backlog);
extern int	ic_next_connect(int fd, const sockaddr *address, socklen_t length);
extern int	ic_next_getsockname(int fd, sockaddr *address, socklen_t *length);

/* NULL until the constructor has run. */
static int	(*next_bind) (int fd, const sockaddr *address, socklen_t length);
static int	(*next_listen) (int fd, int backlog);
static int	(*next_connect) (int fd, const sockaddr *address, socklen_t length);
static int	(*next_getsockname) (int fd, sockaddr *address, socklen_t *length);

/* IC_LISTENER_LOG=stderr, and the file that standard error was then. */
static bool logs_to_stderr;
static struct stat stderr_at_load;

/* IC_LISTENER_PATIENCE: how many milliseconds a call waits for a port. */
static int	patience_ms;

/* A copy: a server may overwrite its arguments to show what it does. */
static char program[64];

/* Before glibc 2.34 a program without threads does not have it. */
#pragma weak pthread_testcancel

/*
 * Looks up the next functions, because dlsym() must not be called in a signal
 * handler, and connect() may be.  What other libraries call before this goes
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
	*(void **) &next_getsockname = dlsym(RTLD_NEXT, "getsockname");
	strncpy(program, program_invocation_short_name, sizeof(program) - 1);
	logs_to_stderr = log != NULL && strcmp(log, "stderr") == 0 &&
		fstat(STDERR_FILENO, &stderr_at_load) == 0;
	if (patience != NULL && *patience != '\0')
	{
		size_t		digits = strspn(patience, "0123456789");
		long		number = digits <= 5 ? atol(patience) : -1;

		if (patience[digits] != '\0' || number < 0 ||
			number > LONGEST_PATIENCE_MS)
			dprintf(STDERR_FILENO, "ic_listener: IC_LISTENER_PATIENCE=%s is "
					"ignored: it takes milliseconds from 0 to %d\n",
					patience, LONGEST_PATIENCE_MS);
		else
			patience_ms = (int) number;
	}
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

int
ic_next_getsockname(int fd, sockaddr *address, socklen_t *length)
{
	if (next_getsockname == NULL)
		return syscall(SYS_getsockname, fd, address, length);
	return next_getsockname(fd, address, length);
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
	return option(fd, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_TCP &&
		option(fd, SOL_SOCKET, SO_TYPE) == SOCK_STREAM;
}

/* A call of libic_listener.  For listen(), the length is the backlog. */
typedef struct Call
{
	int			(*function) (int fd, const sockaddr *address, socklen_t length,
							 IcListenerReport *report);
	int			fd;
	const sockaddr *address;
	socklen_t	length;
} Call;

static int
call_listen(int fd, const sockaddr *address, socklen_t backlog,
			IcListenerReport *report)
{
	(void) address;
	return ic_listener_listen(fd, (int) backlog, report);
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
	struct iovec line[5];
	struct stat now_there;

	/* A daemon may have put a file of its own there. */
	if (fstat(STDERR_FILENO, &now_there) != 0 ||
		now_there.st_dev != stderr_at_load.st_dev ||
		now_there.st_ino != stderr_at_load.st_ino)
		return;
	memcpy(digits -= 3, "]: ", 3);
	for (int number = getpid(); number > 0; number /= 10)
		*--digits = '0' + number % 10;
	*--digits = '[';

	line[0] = (struct iovec) {"ic_listener: ", 13};
	line[1] = (struct iovec) {program, strlen(program)};
	line[2] = (struct iovec) {digits, pid + sizeof(pid) - digits};
	line[3] = (struct iovec) {(char *) message, strlen(message)};
	line[4] = (struct iovec) {"\n", 1};
	/* One system call, so that the lines of two processes do not mix. */
	if (writev(STDERR_FILENO, line, 5) < 0)
	{
		/* There is nowhere to report it. */
	}
}

/* Pauses before the deadline, ever longer.  The caller tries again then. */
static bool
wait_for_port(int64_t deadline, int64_t *pause)
{
	int64_t		left = deadline - now();

	if (left <= 0)
		return false;
	if (*pause > left)
		*pause = left;
	nanosleep(&(struct timespec) {.tv_nsec = *pause * 1000000}, NULL);
	if (*pause < LAST_PAUSE_MS)
		*pause *= 2;
	return true;
}

/*
 * Makes the call with cancellation disabled: the end of a thread must not
 * unwind Rust's frames.  Changes errno on failure only.
 */
static int
by_library(const Call *call, IcListenerReport *report, int errno_before)
{
	int			cancel_state;
	int			returned;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
	returned = call->function(call->fd, call->address, call->length, report);
	if (returned == 0)
		errno = errno_before;
	pthread_setcancelstate(cancel_state, NULL);
	return returned;
}

/*
 * The same, again while there is patience left, and a line when no port was
 * found.  Not inlined: the report would take stack in every call, and the
 * stack may be small.
 */
__attribute__((noinline))
static int
with_patience(const Call *call, int errno_before)
{
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	int64_t		deadline;
	int64_t		pause = FIRST_PAUSE_MS;
	int			returned = by_library(call, &report, errno_before);
	int			error = errno;
	bool		begins = call->function == ic_listener_begin_connect;

	/* Where no port was tried, the caller chose one, or there is no way. */
	if (returned == 0 || !is_about_ports(error) || report.ports_tried == 0)
		return returned;
	deadline = now() + patience_ms;
	/* Without a report, which would take a census each time. */
	while (returned != 0 && is_about_ports(error) &&
		   wait_for_port(deadline, &pause))
	{
		errno = errno_before;
		/* A blocking connect() may find a port itself by now. */
		if (begins)
			returned = ic_next_connect(call->fd, call->address, call->length);
		if (!begins || (returned != 0 && errno == EADDRNOTAVAIL))
			returned = by_library(call, NULL, errno_before);
		error = errno;
	}
	if (returned != 0 && is_about_ports(error) && logs_to_stderr)
		write_line(report.message);
	errno = returned == 0 ? errno_before : error;
	return returned;
}

static int
help(const Call *call, int errno_before)
{
	if (logs_to_stderr || patience_ms > 0)
		return with_patience(call, errno_before);
	return by_library(call, NULL, errno_before);
}

/*
 * The library would read an address that the kernel may refuse to read.  Not for
 * a socket that is confined to a window already, as libic_listener does in a
 * program that has it.
 */
int
our_bind(int fd, const sockaddr *address, socklen_t length)
{
	int			errno_before = errno;

	if (!is_tcp(fd) || option(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE) != 0)
	{
		errno = errno_before;
		return ic_next_bind(fd, address, length);
	}
	return help(&(Call) {ic_listener_bind, fd, address, length}, errno_before);
}

int
our_listen(int fd, int backlog)
{
	return help(&(Call) {call_listen, fd, NULL, backlog}, errno);
}

/*
 * A socket that was made to listen so that getsockname() could show its port
 * goes back to being bound.  A listener of the program's own stays one.
 */
static void
end_listening(int fd)
{
	int			off = 0;

	if (option(fd, IPPROTO_IP, IP_RETOPTS) == 0)
		return;
	if (option(fd, SOL_SOCKET, SO_ACCEPTCONN) != 0)
		shutdown(fd, SHUT_RD);
	setsockopt(fd, IPPROTO_IP, IP_RETOPTS, &off, sizeof(off));
}

/*
 * A blocking socket's connection is made by the next library's connect(), in
 * the program's own call: there a signal may interrupt or restart it, a thread
 * may be cancelled, or a handler may jump out.  Where it finds no port, the
 * connection is begun from one that is named, and connect() waits for it, as
 * one does that is restarted after a signal.
 */
int
our_connect(int fd, const sockaddr *address, socklen_t length)
{
	int			errno_before = errno;
	int			on = 1;
	int			flags = fcntl(fd, F_GETFL);
	bool		helps;
	int			returned;

	if (flags >= 0 && (flags & O_NONBLOCK))
	{
		/* It is a cancellation point also where it does not wait. */
		if (pthread_testcancel != NULL)
			pthread_testcancel();
		return help(&(Call) {ic_listener_connect, fd, address, length},
					errno_before);
	}
	helps = is_tcp(fd);
	if (helps)
	{
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
		end_listening(fd);
	}
	errno = errno_before;
	returned = ic_next_connect(fd, address, length);
	if (returned == 0 || errno != EADDRNOTAVAIL || !helps)
		return returned;
	returned = help(&(Call) {ic_listener_begin_connect, fd, address, length},
					errno_before);
	if (returned == 0 || errno != EINPROGRESS)
		return returned;
	errno = errno_before;
	returned = ic_next_connect(fd, address, length);
	/* SO_SNDTIMEO has expired. */
	if (returned != 0 && errno == EALREADY)
		errno = EINPROGRESS;
	return returned;
}

int
our_getsockname(int fd, sockaddr *address, socklen_t *length)
{
	int			errno_before = errno;
	int			cancel_state;
	int			returned;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
	returned = ic_listener_getsockname(fd, address, length);
	if (returned == 0)
		errno = errno_before;
	pthread_setcancelstate(cancel_state, NULL);
	return returned;
}
