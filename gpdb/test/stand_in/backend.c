/*
 * backend.c
 *		A stand-in for a backend: it keeps the last report, and jumps out of
 *		errors.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backend.h"
#include "cdb/cdbvars.h"
#include "interconnect.h"
#include "libpq/libpq-be.h"
#include "miscadmin.h"
#include "postmaster/postmaster.h"

ErrorData	edata;
jmp_buf		exception_stack;

/* A local connection, which has no address to listen on. */
static struct Port local_connection = {{{.ss_family = AF_UNIX}, 0}};

struct Port *MyProcPort = &local_connection;
char	   *interconnect_address = NULL;
GpRoleValue Gp_role = GP_ROLE_EXECUTE;
GpVars_Verbosity gp_log_interconnect = GPVARS_VERBOSITY_TERSE;
#ifdef USE_ASSERT_CHECKING
bool		gp_udpic_network_disable_ipv6 = false;
#endif
int			xmit_options_set_on = -1;

/* As elog.c does: the errno for %m is the one of now. */
bool
errstart(int elevel)
{
	ErrorData	empty = {elevel, errno, 0, "", "", ""};

	edata = empty;
	return true;
}

void
errfinish(int dummy,...)
{
	(void) dummy;
	if (edata.elevel >= ERROR)
		longjmp(exception_stack, 1);
}

int
errcode(int sqlerrcode)
{
	edata.sqlerrcode = sqlerrcode;
	return 0;
}

/* printf(3) has %m as well, and takes it from errno. */
#define EVALUATE_MESSAGE(buffer) \
	do { \
		va_list		args; \
		\
		va_start(args, fmt); \
		errno = edata.saved_errno; \
		vsnprintf((buffer), sizeof(buffer), fmt, args); \
		va_end(args); \
		errno = 0; \
	} while (0)

int
errmsg(const char *fmt,...)
{
	EVALUATE_MESSAGE(edata.message);
	return 0;
}

int
errmsg_internal(const char *fmt,...)
{
	EVALUATE_MESSAGE(edata.message);
	return 0;
}

int
errdetail(const char *fmt,...)
{
	EVALUATE_MESSAGE(edata.detail);
	return 0;
}

int
errhint(const char *fmt,...)
{
	EVALUATE_MESSAGE(edata.hint);
	return 0;
}

const char *
stand_in_gettext(const char *text)
{
	return text;
}

int
bind_any_port(int type, int family, const char *address, int *port)
{
	struct sockaddr_in6 six = {.sin6_family = AF_INET6};
	struct sockaddr_in four = {.sin_family = AF_INET};
	struct sockaddr *addr = (struct sockaddr *) &six;
	socklen_t	addrlen = sizeof(six);
	int			errnoSave;
	int			fd;

	if (address != NULL || family == AF_INET)
	{
		inet_pton(AF_INET, address ? address : "0.0.0.0", &four.sin_addr);
		addr = (struct sockaddr *) &four;
		addrlen = sizeof(four);
	}
	fd = socket(addr->sa_family, type | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	if (bind(fd, addr, addrlen) < 0 || getsockname(fd, addr, &addrlen) < 0)
	{
		errnoSave = errno;
		close(fd);
		errno = errnoSave;
		return -1;
	}
	*port = ntohs(addr->sa_family == AF_INET ? four.sin_port : six.sin6_port);
	return fd;
}

int
family_of(int fd)
{
	struct sockaddr_storage addr = {.ss_family = AF_UNSPEC};
	socklen_t	addrlen = sizeof(addr);

	getsockname(fd, (struct sockaddr *) &addr, &addrlen);
	return addr.ss_family;
}

const char *
name_of(const SockAddr *laddr, char *name, size_t size)
{
	if (laddr->addr.ss_family != AF_INET)
		return NULL;
	return inet_ntop(AF_INET, &((const struct sockaddr_in *) &laddr->addr)->sin_addr,
					 name, size);
}
