/*
 * calls.c
 *		Calls the interconnect and the backend's libpq of one tree, as they were
 *		compiled, and prints what came of it, for the test to compare.
 *
 * usage: calls CASE [PORT_MIN PORT_MAX]
 * Exit status 77: the case cannot run here; the output says why.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "child.h"
#include "netns.h"
#include "sockets.h"
#include "support.h"

#include "backend.h"
#include "cdb/cdbvars.h"
#include "cdb/ml_ipc.h"
#include "libpq-int.h"
#include "miscadmin.h"
#include "postmaster/postmaster.h"

/* The ephemeral port range. */
static int	port_min = 40000;
static int	port_max = 40007;

/* A test may have to wait for a processor, in seconds. */
#define LOAD 10.0

/* Below the range: the dispatcher's segment, and another one. */
#define SEGMENT 30000
#define OTHER_SEGMENT 30001

static void
enter_range(void)
{
	const char *missing = enter_netns();

	if (missing != NULL)
	{
		puts(missing);
		exit(77);
	}
	set_port_range(port_min, port_max);
}

static void
open_segment(int port)
{
	Neighbour	segment = {.address = "127.0.0.1", .reuse_address = true, .listens = true};

	require(open_neighbour(&segment, port) >= 0, "segment: %s", strerror(errno));
}

static const Neighbour listener = {.address = "::", .listens = true};
static const Neighbour datagrams = {.address = "::", .datagrams = true};

/* All ports from there on are held: there is none for anybody. */
static void
fill_range_from(const Neighbour *holder, int first)
{
	Ports		ports = ports_from_to(first, port_max);

	hold_ports(holder, &ports);
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

/* All are held, but one becomes free while somebody waits. */
static void
fill_range_for_a_moment(const Neighbour *holder)
{
	fill_range_from(holder, port_min + 1);
	ending_session = open_neighbour(holder, port_min);
	require(ending_session >= 0, "port %d: %s", port_min, strerror(errno));
	while_waiting = end_session;
}

/* The listeners of these ports are gone, but their TIME_WAITs keep them. */
static void
leave_time_waits_from(int first)
{
	for (int port = first; port <= port_max; port++)
	{
		int			server = open_neighbour(&listener, port);

		require(server >= 0, "port %d: %s", port, strerror(errno));
		leave_time_wait(server, "127.0.0.1");
		close(server);
	}
}

/* Whoever asks again finds one. */
static void
add_a_port(void)
{
	set_port_range(port_min, port_max + 1);
}

/* Somebody cancels the query. */
static void
cancel_query(void)
{
	InterruptPending = QueryCancelPending = true;
}

/* Somebody terminates the backend. */
static void
terminate_backend(void)
{
	InterruptPending = ProcDiePending = true;
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

	for (int port = port_min; port <= port_max; port++)
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
		   local_port(sock) >= port_min && local_port(sock) <= port_max ? "yes" : "no",
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

/*
 * Four bind() and two connect() of one statement, and the CPU time of the
 * first two bind(), one of which waits.
 */
static void
wait_in_full_range(void)
{
	double		most_cpu = 0.08 + 8e-6 * (port_max - port_min);
	double		started = seconds_of(CLOCK_MONOTONIC);
	double		cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);

	microseconds_waited = 0;
	open_listener();
	cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	open_listener();
	connect_libpq("libpq", startConnection, SEGMENT);
	connect_libpq("libpq", startConnection, SEGMENT);
	started = seconds_of(CLOCK_MONOTONIC) - started;
	printf("%.2f s, %.3f s of CPU\n", started, cpu);
	require(started >= 1.9 && started <= 2.3 + LOAD, "%.2f s", started);
	require(microseconds_waited <= 2000000, "waited %ld us", microseconds_waited);
	require(cpu <= most_cpu, "%.3f s of CPU", cpu);
}

/* One segment after the other, and none has a port, as in the FTS prober. */
static void
probe_segments(void)
{
	for (int i = 0; i < 32; i++)
		connect_libpq("probe", startConnection, SEGMENT);
	require(microseconds_waited == 0, "waited %ld us", microseconds_waited);
}

static int
run(const char *name)
{
	if (strcmp(name, "udp") == 0)
		run_udp();
	else if (strncmp(name, "listener", 8) == 0)
	{
		if (strcmp(name, "listener-address") == 0)
			interconnect_address = "127.0.0.1";
		else if (strcmp(name, "listener-elsewhere") == 0)
			interconnect_address = "192.0.2.1";
		if (open_listener())
			print_listener(fd, listener_port);
	}
	else if (strcmp(name, "connection") == 0)
	{
		enter_range();
		if (open_listener())
		{
			printf("listener, SO_REUSEADDR: %d\n", socket_option(fd, SOL_SOCKET, SO_REUSEADDR));
			connect_all(listener_port);
		}
	}
	else if (strcmp(name, "held") == 0)
	{
		enter_range();
		open_segment(SEGMENT);
		open_segment(OTHER_SEGMENT);
		connect_from_all_ports();
		connect_all(SEGMENT);
		if (open_listener())
			printf("listener, SO_REUSEADDR: %d\n", socket_option(fd, SOL_SOCKET, SO_REUSEADDR));
	}
	else if (strncmp(name, "moment", 6) == 0)
	{
		enter_range();
		open_segment(SEGMENT);
		if (strcmp(name, "moment-udp") == 0)
		{
			fill_range_for_a_moment(&datagrams);
			run_udp();
		}
		else
		{
			fill_range_for_a_moment(&listener);
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
		bool		is_only = strcmp(name, "time-wait-only") == 0;

		enter_range();
		leave_time_waits_from(is_only ? port_min : port_min + 1);
		require(is_only || open_neighbour(&listener, port_min) >= 0, "port %d: %s", port_min, strerror(errno));
		while_waiting = add_a_port;
		if (open_listener())
			puts("found a port");
		require(!is_only || microseconds_waited > 1000000, "waited %ld us", microseconds_waited);
		printf("waited %ld ms\n", microseconds_waited / 1000);
	}
	else if (strncmp(name, "full", 4) == 0)
	{
		enter_range();
		open_segment(SEGMENT);
		fill_range_from(strcmp(name, "full-udp") == 0 ? &datagrams : &listener, port_min);
		if (strcmp(name, "full-listener") == 0)
			open_listener();
		else if (strcmp(name, "full-udp") == 0)
			run_udp();
		else if (strcmp(name, "full-interconnect") == 0)
			connect_interconnect(SEGMENT);
		else if (strcmp(name, "full-libpq") == 0)
			connect_libpq("libpq", startConnection, SEGMENT);
		else if (strcmp(name, "full-cancel") == 0)
			connect_libpq("PQcancel", cancelConnection, SEGMENT);
		else if (strcmp(name, "full-statement") == 0)
		{
			wait_in_full_range();
			statement_start++;
			wait_in_full_range();
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
			/* A background worker, walreceiver, and recovery in one. */
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
			{
				while_waiting = terminate_backend;
				open_listener();
			}
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
	if (argc == 4)
	{
		port_min = atoi(argv[2]);
		port_max = atoi(argv[3]);
	}
	return argc == 2 || argc == 4 ? run(argv[1]) : 2;
}
