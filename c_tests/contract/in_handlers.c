/*
 * in_handlers.c
 *		ic_listener_connect() is async-signal-safe, as connect() is: it
 *		allocates nothing, waits for no lock, may interrupt itself and malloc(),
 *		and uses no more stack than the header says.
 */
#define _GNU_SOURCE

#include "test.h"

#include <limits.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "crowded.h"

#define PORT_MIN 40000
#define PORT_MAX 40063
#define SERVER_PORT 30000

/* As the header has it. */
#define STACK (8 * 1024)

/* Counts allocations on the heap. The linker's --wrap leads the calls here. */
static bool counting;
static int	allocations;

extern void *__real_malloc(size_t size);
extern void *__wrap_malloc(size_t size);
extern void *__real_calloc(size_t count, size_t size);
extern void *__wrap_calloc(size_t count, size_t size);
extern void *__real_realloc(void *memory, size_t size);
extern void *__wrap_realloc(void *memory, size_t size);
extern int	__real_posix_memalign(void **memory, size_t alignment,
								  size_t size);
extern int	__wrap_posix_memalign(void **memory, size_t alignment,
								  size_t size);
extern void __real_free(void *memory);
extern void __wrap_free(void *memory);

void *
__wrap_malloc(size_t size)
{
	allocations += counting;
	return __real_malloc(size);
}

void *
__wrap_calloc(size_t count, size_t size)
{
	allocations += counting;
	return __real_calloc(count, size);
}

void *
__wrap_realloc(void *memory, size_t size)
{
	allocations += counting;
	return __real_realloc(memory, size);
}

int
__wrap_posix_memalign(void **memory, size_t alignment, size_t size)
{
	allocations += counting;
	return __real_posix_memalign(memory, alignment, size);
}

void
__wrap_free(void *memory)
{
	allocations += counting && memory != NULL;
	__real_free(memory);
}

/*
 * The paths through the library. Each is a host, and a call on it.
 */
typedef struct Path
{
	const char *name;
	void		(*prepare) (void);
	const char *to;
	int			port;
	int			error;
} Path;

static void
quiet_host(void)
{
	set_port_range(PORT_MIN, PORT_MAX);
	server_on("127.0.0.1", SERVER_PORT);
	server_on("::1", SERVER_PORT);
}

static void
crowded_host(void)
{
	crowd(PORT_MIN, PORT_MAX);
	server_on("127.0.0.1", SERVER_PORT);
	server_on("::1", SERVER_PORT);
}

/* All ports but a few have their connection: sockets are exchanged. */
static void
connected_host(void)
{
	crowded_host();
	for (int port = PORT_MIN; port < PORT_MAX - 7; port++)
	{
		int			fd = stream_socket("127.0.0.1");

		set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
		expect_equal(plain_bind(fd, "127.0.0.1", port), 0);
		connect_to(fd, "127.0.0.1", SERVER_PORT);
	}
}

static void
full_host(void)
{
	static Ports all;
	Neighbour	exclusive = {.address = "0.0.0.0"};

	server_on("127.0.0.1", SERVER_PORT);
	server_on("::1", SERVER_PORT);
	set_port_range(PORT_MIN, PORT_MAX);
	all = ports_from_to(PORT_MIN, PORT_MAX);
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

static const Path paths[] =
{
	{"quiet host", quiet_host, "127.0.0.1", SERVER_PORT, 0},
	{"quiet host, IPv6", quiet_host, "::1", SERVER_PORT, 0},
	{"crowded host", crowded_host, "127.0.0.1", SERVER_PORT, 0},
	{"crowded host, IPv6", crowded_host, "::1", SERVER_PORT, 0},
	{"crowded host, nobody there", crowded_host, "127.0.0.1", 9, ECONNREFUSED},
	{"most ports are connected", connected_host, "127.0.0.1", SERVER_PORT, 0},
	{"full host", full_host, "127.0.0.1", SERVER_PORT, EADDRNOTAVAIL},
	{"long list of reserved ports", host_with_a_long_list, "127.0.0.1",
	SERVER_PORT, 0},
	{"no way", crowded_host, "192.0.2.1", SERVER_PORT, ENETUNREACH},
};

/* Prepared, so that the handler makes the call and nothing else. */
static int	call_fd;
static struct sockaddr_storage call_address;
static socklen_t call_length;
static IcListenerReport *call_report;
static int	call_error;

static void
prepare_call(const Path *path, IcListenerReport *report)
{
	call_fd = stream_socket(path->to);
	call_length = socket_address(path->to, path->port, &call_address);
	call_report = report;
	if (report != NULL)
		*report = (IcListenerReport) IC_LISTENER_REPORT_INIT;
}

static void
call(void)
{
	call_error = ic_listener_connect(call_fd,
									 (struct sockaddr *) &call_address,
									 call_length, call_report) == 0 ? 0 : errno;
}

static void
allocate_nothing(void *argument)
{
	const Path *path = argument;
	IcListenerReport report;

	skip_without_ipv6();
	path->prepare();
	for (int i = 0; i < 4; i++)
	{
		now_doing("%s, call %d", path->name, i);
		prepare_call(path, i % 2 == 0 ? &report : NULL);
		counting = true;
		call();
		counting = false;
		expect_equal(call_error, path->error);
		expect_equal(allocations, 0);
	}
}

static void
nothing_is_allocated(void **state)
{
	(void) state;
	for (size_t i = 0; i < lengthof(paths); i++)
		assert_passes_in_netns(allocate_nothing, (void *) &paths[i]);
}

/*
 * How deep the stack goes
 */

#define PAINT 0x5a
#define PAINTED (256 * 1024)

static unsigned char *painted;

/* Where the handler's frame is: what is above is the kernel's. */
static unsigned char *handler_frame;

static void
call_in_handler(int signal)
{
	unsigned char here;

	(void) signal;
	handler_frame = &here;
	call();
}

static void
use_stack(unsigned char *stack, size_t size)
{
	struct sigaction action = {.sa_handler = call_in_handler,
	.sa_flags = SA_ONSTACK};
	stack_t		alternate = {.ss_sp = stack,.ss_size = size};

	require(sigaltstack(&alternate, NULL) == 0, "sigaltstack: %s",
			strerror(errno));
	expect(sigaction(SIGUSR1, &action, NULL) == 0);
}

static long
stack_used(void)
{
	unsigned char *deepest = painted;

	memset(painted, PAINT, PAINTED);
	expect(raise(SIGUSR1) == 0);
	while (*deepest == PAINT)
		deepest++;
	return handler_frame - deepest;
}

static void
measure_stack(void *argument)
{
	const Path *path = argument;
	IcListenerReport report;
	long		most = 0;

	skip_without_ipv6();
	path->prepare();
	painted = malloc(PAINTED);
	expect(painted != NULL);
	use_stack(painted, PAINTED);
	for (int i = 0; i < 4; i++)
	{
		long		used;

		prepare_call(path, i % 2 == 0 ? &report : NULL);
		used = stack_used();
		expect_equal(call_error, path->error);
		if (used > most)
			most = used;
	}
	now_doing("%s", path->name);
	printf("# %s: %ld bytes of stack\n", path->name, most);
	fflush(stdout);
	require(most <= STACK, "%ld bytes of stack", most);
}

static void
the_stack_is_as_deep_as_the_header_says(void **state)
{
	(void) state;
	for (size_t i = 0; i < lengthof(paths); i++)
		assert_passes_in_netns(measure_stack, (void *) &paths[i]);
}

/* The kernel's frame, and what the header promises; a page below faults. */
static void
call_on_a_small_stack(void *argument)
{
	const Path *path = argument;
	IcListenerReport report;
	long		page = sysconf(_SC_PAGESIZE);
	long		frame = sysconf(_SC_MINSIGSTKSZ);
	size_t		size = (frame > 0 ? frame : MINSIGSTKSZ) + STACK;
	size_t		mapped = (size / page + 2) * page;
	unsigned char *memory = mmap(NULL, mapped, PROT_READ | PROT_WRITE,
								 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	expect(memory != MAP_FAILED);
	skip_without_ipv6();
	path->prepare();
	expect(mprotect(memory, page, PROT_NONE) == 0);
	use_stack(memory + page, size);
	for (int i = 0; i < 4; i++)
	{
		now_doing("%s", path->name);
		prepare_call(path, i % 2 == 0 ? &report : NULL);
		expect(raise(SIGUSR1) == 0);
		expect_equal(call_error, path->error);
	}
}

static void
a_signal_stack_of_that_size_is_enough(void **state)
{
	(void) state;
	for (size_t i = 0; i < lengthof(paths); i++)
		assert_passes_in_netns(call_on_a_small_stack, (void *) &paths[i]);
}

static void *
call_in_thread(void *argument)
{
	(void) argument;
	call();
	return NULL;
}

static void
call_in_small_thread(void *argument)
{
	const Path *path = argument;
	static IcListenerReport report;
	pthread_attr_t attributes;
	pthread_t	thread;
	long		least = sysconf(_SC_THREAD_STACK_MIN);
	size_t		size = least > 16 * 1024 ? least : 16 * 1024;

	skip_without_ipv6();
	path->prepare();
	expect_equal(pthread_attr_init(&attributes), 0);
	expect_equal(pthread_attr_setstacksize(&attributes, size), 0);
	for (int i = 0; i < 4; i++)
	{
		now_doing("%s", path->name);
		prepare_call(path, i % 2 == 0 ? &report : NULL);
		expect_equal(pthread_create(&thread, &attributes, call_in_thread, NULL),
					 0);
		expect_equal(pthread_join(thread, NULL), 0);
		expect_equal(call_error, path->error);
	}
}

static void
a_thread_of_16_kib_may_call(void **state)
{
	(void) state;
	for (size_t i = 0; i < lengthof(paths); i++)
		assert_passes_in_netns(call_in_small_thread, (void *) &paths[i]);
}

/*
 * Interrupting everything
 */

#define INTERRUPTIONS 2000

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

	if (fd < 0)
		return errno;
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

/* Takes the connections, and sends the signals. */
static void
accept_and_interrupt(int server, int parent)
{
	int			child = fork_child();

	if (child == 0)
	{
		for (;;)
			close(accept(server, NULL, NULL));
	}
	for (int i = 0; i < INTERRUPTIONS; i++)
	{
		struct timespec pause = {0, 1000L * (50 + i * 7919 % 400)};

		kill(parent, SIGUSR1);
		nanosleep(&pause, NULL);
	}
	for (;;)
		pause();
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
	for (long i = 0; handled < INTERRUPTIONS / 2; i++)
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
	require(interrupted_library > 10, "%d of %d in the library",
			(int) interrupted_library, (int) handled);
	require(interrupted_malloc > 10, "%d of %d in malloc()",
			(int) interrupted_malloc, (int) handled);
}

int
main(void)
{
	return run_all(
		test(nothing_is_allocated),
		test(the_stack_is_as_deep_as_the_header_says),
		test(a_signal_stack_of_that_size_is_enough),
		test(a_thread_of_16_kib_may_call),
		test(a_handler_may_interrupt_malloc_and_the_library_itself)
	);
}
