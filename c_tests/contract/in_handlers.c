/*
 * in_handlers.c
 *		ic_listener_connect() is async-signal-safe, as connect() is: it may
 *		interrupt itself and malloc(). And no call uses more stack than the
 *		header says. (faults/faults.c counts allocations.)
 */
#define _GNU_SOURCE

#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "crowded.h"
#include "test.h"

#define PORT_MIN 40000
#define PORT_MAX 40063
#define SERVER_PORT 30000

/* As the header has it. */
#define STACK (12 * 1024)

/* Hosts that lead the calls down their paths. */
enum Host
{
	QUIET, FULL, CROWDED, CONNECTED, LONG_LIST, HOSTS
};

/*
 * Its ports are left or held by other processes, so that each call is the
 * first of its process.
 */
static void
make_host(int host)
{
	static char list[60000];
	Neighbour	exclusive = {.address = "::", .listens = true};
	Ports		all = ports_from_to(PORT_MIN, PORT_MAX);
	int			length = 0;

	set_port_range(PORT_MIN, PORT_MAX);
	server_on("127.0.0.1", SERVER_PORT);
	if (host == FULL)
		hold_ports(&exclusive, &all);
	if (host >= CROWDED)
		leave_in_time_wait(PORT_MIN, PORT_MAX);
	if (host == CONNECTED)
	{
		/* All ports but a few. */
		for (int port = PORT_MIN; port < PORT_MAX - 7; port++)
			connected_from("127.0.0.1", port, "127.0.0.1", SERVER_PORT);
	}
	if (host == LONG_LIST)
	{
		/* More reserved ports than fit into a buffer on the stack. */
		for (int port = 1000; port < 9000; port += 2)
			length += snprintf(list + length, sizeof(list) - length, "%d,", port);
		set_sysctl("net.ipv4.ip_local_reserved_ports", "%s", list);
	}
}

static int	call_fd;
static struct sockaddr_storage server;
static socklen_t server_length;

#define CALLS 7

/* In a thread; what the call fills is not on its stack. The first is none. */
static void *
call(void *number)
{
	static const struct sockaddr_in any = {.sin_family = AF_INET};
	static IcListenerOptions link_local = IC_LISTENER_OPTIONS_INIT;
	static IcListenerReport report = IC_LISTENER_REPORT_INIT;
	static IcListenerCensus census = IC_LISTENER_CENSUS_INIT;
	static int	port;
	static int	fd;

	link_local.address = "fe80::1%lo";
	switch (*(int *) number)
	{
		case 1:
			ic_listener_open_tcp(NULL, &port, &fd, &report);
			break;
		case 2:
			ic_listener_open_udp(NULL, &port, &fd, &report);
			break;
		case 3:
			ic_listener_open_tcp(&link_local, &port, &fd, &report);
			break;
		case 4:
			ic_listener_census(NULL, &census);
			break;
		case 5:
			ic_listener_bind(call_fd, (struct sockaddr *) &any, sizeof(any), &report);
			ic_listener_listen(call_fd, 1, &report);
			break;
		case 6:
			ic_listener_connect(call_fd, (struct sockaddr *) &server, server_length, &report);
	}
	return NULL;
}

/* How much of a stack that was painted a call has written to. */
static long
stack_used(int number)
{
	const size_t size = 256 * 1024;
	unsigned char *stack = mmap(NULL, size, PROT_READ | PROT_WRITE,
								MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t		untouched = 0;
	pthread_attr_t attributes;
	pthread_t	thread;

	expect(stack != MAP_FAILED);
	memset(stack, 0xa5, size);
	pthread_attr_init(&attributes);
	expect(pthread_attr_setstack(&attributes, stack, size) == 0);
	expect(pthread_create(&thread, &attributes, call, &number) == 0);
	pthread_join(thread, NULL);
	while (untouched < size && stack[untouched] == 0xa5)
		untouched++;
	return size - untouched;
}

TEST_EACH_IN_NETNS(the_stack_is_as_deep_as_the_header_says, HOSTS)
{
	skip_without_ipv6();
	make_host(number);
	server_length = socket_address("127.0.0.1", SERVER_PORT, &server);
	for (int which = 1; which < CALLS; which++)
	{
		int			pid = fork_child();
		long		used;

		if (pid != 0)
		{
			wait_for_child(pid);
			continue;
		}
		call_fd = stream_socket("127.0.0.1");
		used = stack_used(which) - stack_used(0);
		require(used <= STACK, "host %d, call %d: %ld bytes of stack", number, which, used);
		_exit(0);
	}
}

/*
 * Interrupting everything
 */

/* What is interrupted, and how often it was. */
static volatile enum
{
	NOTHING, MALLOC, LIBRARY
}			doing;
static volatile sig_atomic_t interrupted[3];
static volatile sig_atomic_t handler_error;

static int
connect_and_reset(void)
{
	struct linger reset = {1, 0};
	int			fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int			error = 0;

	if (ic_listener_connect(fd, (struct sockaddr *) &server, server_length, NULL) != 0)
		error = errno;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd);
	return error;
}

static void
connect_in_handler(int signal)
{
	int			saved_errno = errno;
	int			error = connect_and_reset();

	(void) signal;
	if (error != 0)
		handler_error = error;
	interrupted[doing]++;
	errno = saved_errno;
}

/* Takes the connections, and sends signals until the test ends. */
static void
accept_and_interrupt(int listener, int parent)
{
	if (fork_child() == 0)
	{
		for (;;)
			close(accept(listener, NULL, NULL));
	}
	/* Two signals that are pending at once are handled as one. */
	for (int i = 0;; i++)
	{
		kill(parent, SIGUSR1);
		nanosleep(&(struct timespec) {0, 1000L * (50 + i * 7919 % 400)}, NULL);
	}
}

TEST_IN_NETNS(a_handler_may_interrupt_malloc_and_the_library_itself)
{
	int			parent = getpid();
	void	   *kept[64] = {NULL};
	int			listener;

	crowd(PORT_MIN, PORT_MAX);
	listener = server_on("127.0.0.1", SERVER_PORT);
	server_length = socket_address("127.0.0.1", SERVER_PORT, &server);
	signal(SIGUSR1, connect_in_handler);
	if (fork_child() == 0)
		accept_and_interrupt(listener, parent);
	for (long i = 0; interrupted[MALLOC] < 20 || interrupted[LIBRARY] < 500; i++)
	{
		int			error;

		doing = MALLOC;
		for (int j = 0; j < 200; j++)
		{
			int			at = (i * 31 + j * 7) % lengthof(kept);

			free(kept[at]);
			kept[at] = malloc(16 + (i * 131 + j * 977) % 5000);
		}
		doing = LIBRARY;
		error = connect_and_reset();
		doing = NOTHING;
		require(error == 0, "%s", strerror(error));
		require(handler_error == 0, "in a handler: %s", strerror(handler_error));
	}
}

int
main(void)
{
	return run_all(
		test(the_stack_is_as_deep_as_the_header_says),
		test(a_handler_may_interrupt_malloc_and_the_library_itself));
}
