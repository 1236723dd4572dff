/*
 * calls.c
 *		Calls the interconnect and the backend's libpq of one tree, as they were
 *		compiled, and prints what came of it, for the test to compare.
 *
 * usage: calls CASE
 * Exit status 77: the case cannot run here; the output says why.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "child.h"
#include "netns.h"
#include "sockets.h"

#include "backend.h"
#include "cdb/cdbvars.h"
#include "cdb/ml_ipc.h"
#include "libpq-int.h"
#include "libpq/libpq-be.h"
#include "miscadmin.h"
#include "postmaster/postmaster.h"

#define PORT_MIN 40000
#define PORT_MAX 40007

/* A test may have to wait for a processor, in seconds. */
#define LOAD 3.0

/* Below the range: the dispatcher's segment, and another one. */
#define SEGMENT 30000
#define OTHER_SEGMENT 30001

/* Both ways a tree has to be told its address. */
static void
use_address(const char *address)
{
	static Port port;
	static char copy[64];

	port.laddr.salen = socket_address(address, 0, &port.laddr.addr);
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
open_segment(int port)
{
	Neighbour	segment = {.address = "127.0.0.1", .reuse_address = true, .listens = true};

	require(open_neighbour(&segment, port) >= 0, "segment: %s", strerror(errno));
}

/* All ports of the range are listened on: there is none for anybody. */
static void
fill_range_from(int port_min)
{
	Neighbour	listener = {.address = "::", .listens = true};

	for (int port = port_min; port <= PORT_MAX; port++)
		require(open_neighbour(&listener, port) >= 0, "port %d: %s", port, strerror(errno));
}

/* The session on one of the ports ends. */
static int	ending_session = -1;

static void
end_session(void)
{
	if (ending_session >= 0)
		close(ending_session);
	ending_session = -1;
}

/* All but the process's own, for whoever asks for UDP. */
static void
bind_all_datagrams(void)
{
	struct sockaddr_storage any;
	socklen_t	length;

	for (int port = PORT_MIN; port <= PORT_MAX; port++)
	{
		ending_session = socket(AF_INET6, SOCK_DGRAM, 0);
		length = socket_address("::", port, &any);
		require(bind(ending_session, (struct sockaddr *) &any, length) == 0, "port %d: %s", port, strerror(errno));
	}
}

/* The same, but for a port that becomes free while somebody waits. */
static void
fill_range_for_a_moment(void)
{
	Neighbour	listener = {.address = "::", .listens = true};

	fill_range_from(PORT_MIN + 1);
	ending_session = open_neighbour(&listener, PORT_MIN);
	require(ending_session >= 0, "port %d: %s", PORT_MIN, strerror(errno));
	while_waiting = end_session;
}

/* The listeners of these ports are gone, but their TIME_WAITs keep them. */
static void
leave_time_waits_from(int port_min)
{
	Neighbour	listener = {.address = "::", .listens = true};

	for (int port = port_min; port <= PORT_MAX; port++)
	{
		int			fd = open_neighbour(&listener, port);

		require(fd >= 0, "port %d: %s", port, strerror(errno));
		leave_time_wait(fd, "127.0.0.1");
		close(fd);
	}
}

/* Whoever asks again finds one. */
static void
add_a_port(void)
{
	set_port_range(PORT_MIN, PORT_MAX + 1);
}

static double
seconds_of(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

/* Somebody cancels the query. */
static void
cancel_query(void)
{
	InterruptPending = QueryCancelPending = true;
}

/* Somebody else sends a notification. */
static void
notify(void)
{
	InterruptPending = true;
}

/* All ports of the range have a connection, which shares its port. */
static void
connect_from_all_ports(void)
{
	Neighbour	client = {.address = "127.0.0.1", .reuse_address = true};

	for (int port = PORT_MIN; port <= PORT_MAX; port++)
		connect_to(open_neighbour(&client, port), "127.0.0.1", OTHER_SEGMENT);
}

static void
print_listener(int fd, int port)
{
	struct tcp_info info;
	socklen_t	size = sizeof(info);

	printf("bound to %s, the port it says: %s\n", local_address(fd), local_port(fd) == port ? "yes" : "no");
	printf("non-blocking: %d\n", (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
	if (socket_option(fd, SOL_SOCKET, SO_ACCEPTCONN) == 1 &&
		getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0)
		printf("listens with backlog %u\n", info.tcpi_sacked);
}

/* setjmp() spares what is static. */
static int	fd;
static ListenerPort listener_port;

static bool
open_listener(void)
{
	fd = 77;
	listener_port = 77;
	if (setjmp(exception_stack) == 0)
	{
		InitMotionTCP(&fd, &listener_port);
		return true;
	}
	printf("fd %d, port %d\n", fd, (int) listener_port);
	return false;
}

static void
print_connection(const char *who, int sock)
{
	struct pollfd writable = {.fd = sock, .events = POLLOUT};
	int			error;

	poll(&writable, 1, 10000);
	error = socket_option(sock, SOL_SOCKET, SO_ERROR);
	printf("%s: %s, port of the range: %s, SO_REUSEADDR: %d\n", who, error ? strerror(error) : "connected",
		   local_port(sock) >= PORT_MIN && local_port(sock) <= PORT_MAX ? "yes" : "no",
		   socket_option(sock, SOL_SOCKET, SO_REUSEADDR));
}

static void
connect_interconnect(int port)
{
	ChunkTransportState state = {.failed = 0};
	MotionConn	conn = {.sockfd = -1, .listenerAddr = "127.0.0.1", .listenerPort = port};

	if (setjmp(exception_stack) != 0)
		return;
	SetupTCPInterconnect(&state, &conn);
	if (state.failed == 0)
		print_connection("interconnect", conn.sockfd);
}

static void
connect_libpq(const char *who, bool (*connects) (PGconn *), int port)
{
	PGconn		conn = {.sock = -1};

	conn.raddr.sin_family = AF_INET;
	conn.raddr.sin_port = htons(port);
	conn.raddr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connects(&conn))
		print_connection(who, conn.sock);
	else
		puts(conn.errorMessage);
}

static void
connect_all(int port)
{
	connect_interconnect(port);
	connect_libpq("libpq", startConnection, port);
	connect_libpq("PQcancel", cancelConnection, port);
}

static void *
connect_in_thread(void *argument)
{
	connect_libpq("libpq", startConnection, SEGMENT);
	return argument;
}

/* As the dispatchers of 4.3, 5 and HAWQ do it. */
static void
connect_in_threads(int count)
{
	pthread_t	threads[8];

	for (int i = 0; i < count; i++)
		require(pthread_create(&threads[i], NULL, connect_in_thread, NULL) == 0, "no thread");
	for (int i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
}

static void
run_udp(void)
{
	int			family;

	if (setjmp(exception_stack) != 0)
		return;
	InitMotionUDPIFC(&fd, &listener_port, &family);
	print_listener(fd, listener_port);
	printf("family %d, SO_REUSEADDR: %d\n", family, socket_option(fd, SOL_SOCKET, SO_REUSEADDR));
}

/* All 28,232 ports of the default range are listened on. */
static void
fill_default_range(void)
{
	static const Neighbour listener = {.address = "::", .listens = true};
	struct rlimit limit;
	int			port = 32768;

	set_port_range(port, 60999);
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	/* No process need have descriptors for all. */
	while (port <= 60999)
	{
		int			last = port + (int) Min(limit.rlim_cur - 100, 28232) - 1;
		Ports		ports = ports_from_to(port, Min(last, 60999));

		hold_ports(&listener, &ports);
		port = last + 1;
	}
}

/*
 * Four bind() and two connect() of one statement, and the CPU time of the
 * first: of two bind(), one of which waits.
 */
static void
wait_in_full_range(double most_seconds, double most_cpu)
{
	double		started = seconds_of(CLOCK_MONOTONIC);
	double		cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);

	open_listener();
	cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	open_listener();
	connect_libpq("libpq", startConnection, SEGMENT);
	connect_libpq("libpq", startConnection, SEGMENT);
	started = seconds_of(CLOCK_MONOTONIC) - started;
	printf("%.2f s, %.3f s of CPU\n", started, cpu);
	require(started >= 1.9 && started <= most_seconds, "%.2f s", started);
	require(cpu <= most_cpu, "%.3f s of CPU", cpu);
}

/* One segment after the other, and none has a port, as in the FTS prober. */
static void
probe_segments(void)
{
	double		started = seconds_of(CLOCK_MONOTONIC);

	for (int i = 0; i < 32; i++)
		connect_libpq("probe", startConnection, SEGMENT);
	require(microseconds_waited == 0, "waited %ld us", microseconds_waited);
	require(seconds_of(CLOCK_MONOTONIC) - started < LOAD, "%.2f s", seconds_of(CLOCK_MONOTONIC) - started);
}

static int
run(const char *name)
{
	if (strcmp(name, "udp") == 0)
		run_udp();
	else if (strncmp(name, "listener", 8) == 0)
	{
		if (strcmp(name, "listener-address") == 0)
			use_address("127.0.0.1");
		else if (strcmp(name, "listener-elsewhere") == 0)
			use_address("192.0.2.1");
		if (open_listener())
			print_listener(fd, listener_port);
	}
	else if (strcmp(name, "connection") == 0)
	{
		enter_small_range();
		if (open_listener())
		{
			printf("listener, SO_REUSEADDR: %d\n", socket_option(fd, SOL_SOCKET, SO_REUSEADDR));
			connect_all(listener_port);
		}
	}
	else if (strcmp(name, "held") == 0)
	{
		enter_small_range();
		open_segment(SEGMENT);
		open_segment(OTHER_SEGMENT);
		connect_from_all_ports();
		connect_all(SEGMENT);
		if (open_listener())
			printf("listener, SO_REUSEADDR: %d\n", socket_option(fd, SOL_SOCKET, SO_REUSEADDR));
	}
	else if (strncmp(name, "moment", 6) == 0)
	{
		enter_small_range();
		open_segment(SEGMENT);
		if (strcmp(name, "moment-udp") == 0)
		{
			bind_all_datagrams();
			while_waiting = end_session;
			run_udp();
		}
		else
		{
			fill_range_for_a_moment();
			if (strcmp(name, "moment-libpq") == 0)
				connect_libpq("libpq", startConnection, SEGMENT);
			else if (strcmp(name, "moment-cancel") == 0)
				connect_libpq("PQcancel", cancelConnection, SEGMENT);
			else if (open_listener())
				printf("listener, SO_REUSEADDR: %d\n", socket_option(fd, SOL_SOCKET, SO_REUSEADDR));
		}
		printf("waited %ld ms\n", microseconds_waited / 1000);
	}
	else if (strncmp(name, "time-wait", 9) == 0)
	{
		Neighbour	listener = {.address = "::", .listens = true};

		enter_small_range();
		leave_time_waits_from(strcmp(name, "time-wait-only") == 0 ? PORT_MIN : PORT_MIN + 1);
		if (strcmp(name, "time-wait-only") != 0)
			require(open_neighbour(&listener, PORT_MIN) >= 0, "port %d: %s", PORT_MIN, strerror(errno));
		while_waiting = add_a_port;
		if (open_listener())
			puts("found a port");
		printf("waited %ld ms\n", microseconds_waited / 1000);
		if (strcmp(name, "time-wait-only") == 0)
			require(microseconds_waited > 1000000, "waited %ld us", microseconds_waited);
	}
	else if (strncmp(name, "full", 4) == 0)
	{
		enter_small_range();
		open_segment(SEGMENT);
		if (strcmp(name, "full-default-range") == 0)
		{
			fill_default_range();
			wait_in_full_range(2.3 + LOAD, 0.3);
			return 0;
		}
		fill_range_from(PORT_MIN);
		if (strcmp(name, "full-listener") == 0)
			open_listener();
		else if (strcmp(name, "full-udp") == 0)
		{
			bind_all_datagrams();
			run_udp();
		}
		else if (strcmp(name, "full-interconnect") == 0)
			connect_interconnect(SEGMENT);
		else if (strcmp(name, "full-libpq") == 0)
			connect_libpq("libpq", startConnection, SEGMENT);
		else if (strcmp(name, "full-cancel") == 0)
			connect_libpq("PQcancel", cancelConnection, SEGMENT);
		else if (strcmp(name, "full-statement") == 0)
		{
			wait_in_full_range(2.1 + LOAD, 0.08);
			statement_start++;
			wait_in_full_range(2.1 + LOAD, 0.08);
		}
		else if (strcmp(name, "full-threads") == 0)
		{
			double		started = seconds_of(CLOCK_MONOTONIC);

			connect_in_threads(8);
			started = seconds_of(CLOCK_MONOTONIC) - started;
			require(started >= 1.9 && started <= 2.1 + LOAD, "%.2f s", started);
		}
		else if (strcmp(name, "full-prober") == 0)
		{
			MyProcPort = NULL;
			probe_segments();
		}
		else if (strcmp(name, "full-starting") == 0)
		{
			normal_processing = false;
			statement_start = 0;
			probe_segments();
			ClientAuthInProgress = true;
			open_listener();
			require(microseconds_waited == 0, "waited %ld us", microseconds_waited);
			ClientAuthInProgress = false;
			open_listener();
			require(microseconds_waited > 1000000, "waited %ld us", microseconds_waited);
		}
		else if (strcmp(name, "full-notified") == 0)
		{
			while_waiting = notify;
			while_logging = cancel_query;
			connect_libpq("libpq", startConnection, SEGMENT);
			require(microseconds_waited > 1000000, "waited %ld us", microseconds_waited);
			printf("interrupts held off: %d\n", InterruptHoldoffCount);
		}
		else if (strncmp(name, "full-cancelled", 14) == 0)
		{
			while_waiting = cancel_query;
			if (strcmp(name, "full-cancelled-libpq") == 0)
				connect_libpq("libpq", startConnection, SEGMENT);
			else if (strcmp(name, "full-cancelled-interconnect") == 0)
				connect_interconnect(SEGMENT);
			else
				open_listener();
			printf("waited %ld ms\n", microseconds_waited / 1000);
		}
		else
			return 2;
	}
	else
		return 2;
	return 0;
}

int
main(int argc, char **argv)
{
	return argc == 2 ? run(argv[1]) : 2;
}
