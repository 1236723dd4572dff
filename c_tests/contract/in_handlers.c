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

/*
 * Hosts that lead the calls down their paths. The ports are left or held by
 * other processes, so that each call is the first of its process.
 */

static void
quiet_host(void)
{
	set_port_range(PORT_MIN, PORT_MAX);
	server_on("127.0.0.1", SERVER_PORT);
}

static void
crowded_host(void)
{
	quiet_host();
	crowd(PORT_MIN, PORT_MAX);
}

/* All ports but a few have their connection. */
static void
connected_host(void)
{
	crowded_host();
	for (int port = PORT_MIN; port < PORT_MAX - 7; port++)
		connected_from("127.0.0.1", port, "127.0.0.1", SERVER_PORT);
}

static void
full_host(void)
{
	Neighbour	exclusive = {.address = "::", .listens = true};
	Ports		all = ports_from_to(PORT_MIN, PORT_MAX);

	quiet_host();
	hold_ports(&exclusive, &all);
}

/* More reserved ports than fit into a buffer on the stack. */
static void
host_with_a_long_list(void)
{
	static char list[60000];
	int			length = 0;

	crowded_host();
	for (int port = 1000; port < 9000; port += 2)
		length += snprintf(list + length, sizeof(list) - length, "%d,", port);
	list[length - 1] = '\0';
	set_sysctl("net.ipv4.ip_local_reserved_ports", "%s", list);
}

static const struct
{
	const char *name;
	void		(*prepare) (void);
}			hosts[] =
{
	{"quiet host", quiet_host},
	{"ports in TIME_WAIT", crowded_host},
	{"most ports are connected", connected_host},
	{"full host", full_host},
	{"long list of reserved ports", host_with_a_long_list},
};

/* The calls; the report is not on their stack. */

static IcListenerReport report = IC_LISTENER_REPORT_INIT;
static int	call_fd;
static struct sockaddr_storage call_address;
static socklen_t call_length;

static void
call_nothing(void)
{
}

static void
call_setup(void)
{
	int			port;

	setup_listener(&port, &call_fd);
}

static void
call_tcp(void)
{
	int			port;

	ic_listener_open_tcp(NULL, &port, &call_fd, &report);
}

static void
call_udp(void)
{
	int			port;

	ic_listener_open_udp(NULL, &port, &call_fd, &report);
}

static void
call_link_local(void)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	int			port;

	options.address = "fe80::1%lo";
	ic_listener_open_tcp(&options, &port, &call_fd, &report);
}

static void
call_census(void)
{
	static IcListenerCensus census = IC_LISTENER_CENSUS_INIT;

	ic_listener_census(NULL, &census);
}

static void
call_bind_and_listen(void)
{
	static const struct sockaddr_in any = {.sin_family = AF_INET};

	ic_listener_bind(call_fd, (const struct sockaddr *) &any, sizeof(any), &report);
	ic_listener_listen(call_fd, 1, &report);
}

static void
call_connect(void)
{
	ic_listener_connect(call_fd, (struct sockaddr *) &call_address, call_length,
						&report);
}

static const struct
{
	const char *name;
	void		(*call) (void);
}			calls[] =
{
	{"nothing", call_nothing},
	{"setup_listener()", call_setup},
	{"ic_listener_open_tcp()", call_tcp},
	{"ic_listener_open_udp()", call_udp},
	{"a link-local address", call_link_local},
	{"ic_listener_census()", call_census},
	{"ic_listener_bind() and _listen()", call_bind_and_listen},
	{"ic_listener_connect()", call_connect},
};

static void *
call_in_thread(void *call)
{
	((void (*) (void)) call) ();
	return NULL;
}

/* How much of a stack that was painted a call has written to. */
static long
stack_used(void (*call) (void))
{
	const size_t size = 256 * 1024;
	unsigned char *stack = mmap(NULL, size, PROT_READ | PROT_WRITE,
								MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t		untouched = 0;
	pthread_attr_t attributes;
	pthread_t	thread;

	expect(stack != MAP_FAILED);
	memset(stack, 0xa5, size);
	call_fd = stream_socket("127.0.0.1");
	pthread_attr_init(&attributes);
	expect(pthread_attr_setstack(&attributes, stack, size) == 0);
	expect(pthread_create(&thread, &attributes, call_in_thread, (void *) call) == 0);
	pthread_join(thread, NULL);
	close(call_fd);
	while (untouched < size && stack[untouched] == 0xa5)
		untouched++;
	return size - untouched;
}

/* And the smallest stacks that threads can have: 16 KiB on many hosts. */
static void
call_on_the_smallest_stack(void (*call) (void))
{
	pthread_attr_t attributes;
	pthread_t	thread;

	call_fd = stream_socket("127.0.0.1");
	pthread_attr_init(&attributes);
	expect(pthread_attr_setstacksize(&attributes,
									 sysconf(_SC_THREAD_STACK_MIN)) == 0);
	expect(pthread_create(&thread, &attributes, call_in_thread, (void *) call) == 0);
	pthread_join(thread, NULL);
	close(call_fd);
}

static void
measure_stack(void *host)
{
	long		most = 0;

	skip_without_ipv6();
	hosts[*(int *) host].prepare();
	call_length = socket_address("127.0.0.1", SERVER_PORT, &call_address);
	for (size_t i = 1; i < lengthof(calls); i++)
	{
		int			pid = fork_child();
		long		used;

		if (pid != 0)
		{
			wait_for_child(pid);
			continue;
		}
		used = stack_used(calls[i].call) - stack_used(call_nothing);
		now_doing("%s, %s", hosts[*(int *) host].name, calls[i].name);
		printf("# %s, %s: %ld bytes of stack\n", hosts[*(int *) host].name,
			   calls[i].name, used);
		fflush(stdout);
		most = used > most ? used : most;
		require(most <= STACK, "%ld bytes of stack", most);
		call_on_the_smallest_stack(calls[i].call);
		_exit(0);
	}
}

static void
the_stack_is_as_deep_as_the_header_says(void **state)
{
	(void) state;
	for (int i = 0; i < (int) lengthof(hosts); i++)
		assert_passes_in_netns(measure_stack, &i);
}

/*
 * Interrupting everything
 */

#define INTERRUPTIONS 1000

static volatile sig_atomic_t in_library;
static volatile sig_atomic_t in_malloc;
static volatile sig_atomic_t handled;
static volatile sig_atomic_t interrupted_library;
static volatile sig_atomic_t interrupted_malloc;
static volatile sig_atomic_t handler_error;

static int
connect_and_reset(void)
{
	struct linger reset = {1, 0};
	int			fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int			error = 0;

	if (ic_listener_connect(fd, (struct sockaddr *) &call_address, call_length,
							NULL) != 0)
		error = errno;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd);
	return error;
}

static void
connect_in_handler(int signal)
{
	int			saved_errno = errno;
	int			error;

	(void) signal;
	interrupted_library += in_library;
	interrupted_malloc += in_malloc;
	error = connect_and_reset();
	if (error != 0)
		handler_error = error;
	handled++;
	errno = saved_errno;
}

/*
 * Takes the connections, and sends signals until the test ends: two of them
 * that are pending at once are handled as one.
 */
static void
accept_and_interrupt(int server, int parent)
{
	int			child = fork_child();

	if (child == 0)
	{
		for (;;)
			close(accept(server, NULL, NULL));
	}
	for (int i = 0;; i++)
	{
		struct timespec pause = {0, 1000L * (50 + i * 7919 % 400)};

		kill(parent, SIGUSR1);
		nanosleep(&pause, NULL);
	}
}

TEST_IN_NETNS(a_handler_may_interrupt_malloc_and_the_library_itself)
{
	struct sigaction action = {.sa_handler = connect_in_handler,
	.sa_flags = SA_RESTART};
	int			parent = getpid();
	void	   *kept[64] = {NULL};
	int			server;

	crowd(PORT_MIN, PORT_MAX);
	server = server_on("127.0.0.1", SERVER_PORT);
	call_length = socket_address("127.0.0.1", SERVER_PORT, &call_address);
	expect(sigaction(SIGUSR1, &action, NULL) == 0);
	if (fork_child() == 0)
		accept_and_interrupt(server, parent);
	for (long i = 0; handled < INTERRUPTIONS; i++)
	{
		int			error;

		in_malloc = 1;
		for (int j = 0; j < 200; j++)
		{
			int			at = (i * 31 + j * 7) % lengthof(kept);

			free(kept[at]);
			kept[at] = malloc(16 + (i * 131 + j * 977) % 5000);
		}
		in_malloc = 0;
		in_library = 1;
		error = connect_and_reset();
		in_library = 0;
		require(error == 0, "%s", strerror(error));
		require(handler_error == 0, "in a handler: %s", strerror(handler_error));
	}
	require(interrupted_library > 10 && interrupted_malloc > 10,
			"of %d, %d in the library, %d in malloc()", (int) handled,
			(int) interrupted_library, (int) interrupted_malloc);
}

int
main(void)
{
	return run_all(
		test(the_stack_is_as_deep_as_the_header_says),
		test(a_handler_may_interrupt_malloc_and_the_library_itself));
}
