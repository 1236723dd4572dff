/*
 * listeners.c
 *		Calls the listener functions of one tree, as they were compiled, and
 *		prints what they did, for the test to compare.
 *
 * usage: listeners tcp|udp CASE, or listeners outgoing
 * Exit status 77: the case cannot run here.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <ic_listener.h>

#include "backend.h"
#include "cdb/cdbvars.h"
#include "interconnect.h"
#include "libpq/libpq-be.h"
#include "miscadmin.h"
#include "netns.h"
#include "postmaster/postmaster.h"

#define PORT_MIN 40000
#define PORT_MAX 40007

extern const char *__real_ic_listener_step_name(int step);
extern const char *__wrap_ic_listener_step_name(int step);

/* Any call may change errno. */
const char *
__wrap_ic_listener_step_name(int step)
{
	const char *name = __real_ic_listener_step_name(step);

	errno = ENOENT;
	return name;
}

/* Both ways a tree has to be told its address. */
static void
use_address(const char *address)
{
	static Port port;
	static char copy[64];
	struct sockaddr_in *laddr = (struct sockaddr_in *) &port.laddr.addr;

	laddr->sin_family = AF_INET;
	inet_pton(AF_INET, address, &laddr->sin_addr);
	port.laddr.salen = sizeof(*laddr);
	MyProcPort = &port;
	interconnect_address = strcpy(copy, address);
}

static void
enter_small_range(void)
{
	const char *missing = enter_netns();

	if (missing != NULL)
	{
		puts(missing);
		exit(77);
	}
	set_port_range(PORT_MIN, PORT_MAX);
}

static void
take_every_port(int type)
{
	int			port;

	for (port = PORT_MIN; port <= PORT_MAX; port++)
	{
		struct sockaddr_in6 addr = {
			.sin6_family = AF_INET6,
			.sin6_port = htons(port),
		};
		int			fd = socket(AF_INET6, type, 0);

		require(bind(fd, (struct sockaddr *) &addr, sizeof(addr)) == 0,
				"bind: %s", strerror(errno));
		require(type != SOCK_STREAM || listen(fd, 1) == 0,
				"listen: %s", strerror(errno));
	}
}

static void
set_up(int type, const char *name)
{
	struct rlimit none = {0, 0};

	if (strcmp(name, "wildcard") == 0)
		return;
	if (strcmp(name, "address") == 0)
		use_address("127.0.0.1");
	else if (strcmp(name, "dispatcher") == 0)
	{
		use_address("127.0.0.1");
		interconnect_address = NULL;
		Gp_role = GP_ROLE_DISPATCH;
	}
	else if (strcmp(name, "elsewhere") == 0)
		use_address("192.0.2.1");
	else if (strcmp(name, "full") == 0)
	{
		enter_small_range();
		take_every_port(type);
	}
	else if (strcmp(name, "files") == 0)
		setrlimit(RLIMIT_NOFILE, &none);
	else if (strcmp(name, "debug") == 0)
		gp_log_interconnect = GPVARS_VERBOSITY_DEBUG;
#ifdef USE_ASSERT_CHECKING
	else if (strcmp(name, "ipv4") == 0)
		gp_udpic_network_disable_ipv6 = true;
#endif
	else
	{
		printf("no case %s\n", name);
		exit(2);
	}
}

static int
option(int fd, int level, int name)
{
	int			value = -1;
	socklen_t	size = sizeof(value);

	getsockopt(fd, level, name, &value, &size);
	return value;
}

static void
print_socket(int fd, int port)
{
	struct sockaddr_storage addr;
	socklen_t	addrlen = sizeof(addr);
	struct tcp_info info;
	socklen_t	size = sizeof(info);
	char		host[INET6_ADDRSTRLEN] = "";
	int			bound = -1;

	memset(&addr, 0, sizeof(addr));
	getsockname(fd, (struct sockaddr *) &addr, &addrlen);
	if (addr.ss_family == AF_INET)
	{
		struct sockaddr_in *four = (struct sockaddr_in *) &addr;

		inet_ntop(AF_INET, &four->sin_addr, host, sizeof(host));
		bound = ntohs(four->sin_port);
	}
	else if (addr.ss_family == AF_INET6)
	{
		struct sockaddr_in6 *six = (struct sockaddr_in6 *) &addr;

		inet_ntop(AF_INET6, &six->sin6_addr, host, sizeof(host));
		bound = ntohs(six->sin6_port);
	}
	printf("bound to %s, the port it says: %s\n", host,
		   bound == port && port > 0 ? "yes" : "no");
	printf("non-blocking: %d\n", (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
	if (option(fd, SOL_SOCKET, SO_ACCEPTCONN) == 1 &&
		getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0)
		printf("listens with backlog %u\n", info.tcpi_sacked);
}

static void
print_report(void)
{
	if (edata.elevel == 0)
		return;
	printf("level %d, code %d\n", edata.elevel, edata.sqlerrcode);
	printf("message: %s\n", edata.message);
	printf("detail: %s\n", edata.detail);
	if (edata.hint[0] != '\0')
		printf("hint: %s\n", edata.hint);
}

static void
print_listener(int type)
{
	/* setjmp() spares what is volatile. */
	static int	fd = 77;
	static ListenerPort port = 77;
	static int	family = 77;

	if (setjmp(exception_stack) == 0)
	{
		if (type == SOCK_STREAM)
			InitMotionTCP(&fd, &port);
		else
			InitMotionUDPIFC(&fd, &port, &family);
		print_socket(fd, port);
		if (type == SOCK_DGRAM)
			printf("family %d, transmit options set: %s\n", family,
				   xmit_options_set_on == fd ? "yes" : "no");
	}
	else if (type == SOCK_STREAM)
		printf("fd %d, port %d\n", fd, (int) port);
	print_report();
}

static void
print_outgoing(void)
{
	ChunkTransportState state = {.ready = false};
	CdbProcess	process = {"127.0.0.1", 0};
	MotionConn	conn = {-1, &process};
	int			fd;

	if (setjmp(exception_stack) != 0)
	{
		print_report();
		return;
	}
	InitMotionTCP(&fd, &process.listenerPort);
	SetupTCPInterconnect(&state, &conn);
	printf("SO_REUSEADDR: %d\n", option(conn.sockfd, SOL_SOCKET, SO_REUSEADDR));
}

int
main(int argc, char **argv)
{
	int			type = argc > 1 && strcmp(argv[1], "udp") == 0 ?
		SOCK_DGRAM : SOCK_STREAM;

	if (argc == 2 && strcmp(argv[1], "outgoing") == 0)
		print_outgoing();
	else if (argc == 3)
	{
		set_up(type, argv[2]);
		print_listener(type);
	}
	else
		return 2;
	return 0;
}
