/*
 * preloaded.c
 *		What a program's sockets, threads and files are under
 *		libic_listener_preload.so, which must be in LD_PRELOAD: what they are
 *		without it.
 *
 * plain_bind(), plain_connect() and listen() are libc's names, so the
 * preloaded functions.
 */
#define _GNU_SOURCE

#include "test.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "crowded.h"

#define PORT_MIN 40000
#define PORT_MAX 40015
#define SERVER 5000

/* Every port in TIME_WAIT of a listener, and a server. */
static void
full_host(void)
{
	crowd(PORT_MIN, PORT_MAX);
	server_on("::", SERVER);
}

TEST(the_library_is_preloaded)
{
	Dl_info		of = {0};

	dladdr(dlsym(RTLD_DEFAULT, "connect"), &of);
	expect_in(of.dli_fname, "libic_listener_preload.so");
}

/*
 * The same answers for sockets, addresses and descriptors of all kinds, and
 * errno as it was where a call succeeds
 */

#define MARK 4711

/* Past every library. */
static bool to_kernel;

/* It may not be read. bind() does; connect() leaves that to the kernel. */
static const struct sockaddr *hidden;

static struct
{
	int			count;
	int			answers[32];
}			noted[2];

static void
note(int answer)
{
	noted[to_kernel].answers[noted[to_kernel].count++] = answer;
}

#define NOTE(call, ...) \
	(errno = MARK, \
	 note(to_kernel ? syscall(SYS_##call, __VA_ARGS__) : call(__VA_ARGS__)), \
	 note(errno))

static void
call_all(const int *kind, const struct sockaddr *address, socklen_t length)
{
	struct sockaddr_in6 name = {.sin6_port = 0};
	socklen_t	size = sizeof(name);

	noted[to_kernel].count = 0;
	for (int connects = 0; connects <= 1; connects++)
	{
		/* A socket, a file, or a number that is none. */
		int			fd = kind[0] > 0 ? socket(kind[0], kind[1], kind[2]) :
			kind[0] == 0 ? open("/dev/null", O_RDWR | kind[1]) : kind[1];

		if (!connects && address != hidden)
		{
			NOTE(bind, fd, address, length);
			NOTE(getsockname, fd, (struct sockaddr *) &name, &size);
			note(size);
			note(name.sin6_port != 0);
			NOTE(getsockname, fd, NULL, &size);
			NOTE(getsockname, fd, (struct sockaddr *) &name, NULL);
			NOTE(bind, fd, address, length);
			NOTE(listen, fd, 5);
			NOTE(listen, fd, -1);
		}
		NOTE(connect, fd, address, length);
		if (errno == EINPROGRESS)
			poll(&(struct pollfd) {.fd = fd, .events = POLLOUT}, 1, 10000);
		NOTE(connect, fd, address, length);
		close(fd);
	}
}

TEST_IN_NETNS(answers_are_the_kernels)
{
	static const int kinds_of_fds[][3] = {
		{AF_INET, SOCK_STREAM}, {AF_INET, SOCK_STREAM | SOCK_NONBLOCK}, {AF_INET6, SOCK_STREAM},
		{AF_INET, SOCK_STREAM, 262 /* IPPROTO_MPTCP */ }, {AF_INET, SOCK_DGRAM},
		{AF_INET6, SOCK_DGRAM}, {AF_INET, SOCK_RAW, IPPROTO_TCP}, {AF_UNIX, SOCK_STREAM},
		{AF_UNIX, SOCK_DGRAM}, {AF_NETLINK, SOCK_RAW}, {0}, {0, O_PATH}, {-1, -1}, {-1, 999},
	};
	static const struct
	{
		const char *text;		/* NULL: a family, and nothing else */
		int			port;		/* or the family; -1: NULL; -2: no memory */
	}			addresses[] = {
		{"0.0.0.0", 0}, {"127.0.0.1", 0}, {"127.0.0.1", 4242}, {"127.0.0.1", SERVER},
		{"192.0.2.1", 0}, {"192.0.2.1", 9}, {"127.0.0.1", 9}, {"::", 0}, {"::1", 0}, {"::1", 9},
		{"::ffff:127.0.0.1", 0}, {"::ffff:127.0.0.1", 9}, {"fe80::1", 0}, {"2001:db8::1", 9},
		{NULL, AF_UNIX}, {NULL, AF_UNSPEC}, {NULL, -1}, {NULL, -2},
	};
	/* What is added to the length of an address. */
	static const int odd_lengths[] = {0, -4, -5, -8, 12, 1000, -1000};

	hidden = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	skip_without_ipv6();
	server_on("127.0.0.1", SERVER);
	for (size_t i = 0; i < lengthof(kinds_of_fds) * lengthof(addresses) * lengthof(odd_lengths); i++)
	{
		const int  *kind = kinds_of_fds[i / lengthof(addresses) / lengthof(odd_lengths)];
		size_t		at = i / lengthof(odd_lengths) % lengthof(addresses);
		struct sockaddr_storage storage = {.ss_family = addresses[at].port};
		socklen_t	length = sizeof(struct sockaddr_un);

		if (addresses[at].text != NULL)
			length = socket_address(addresses[at].text, addresses[at].port, &storage);
		length += odd_lengths[i % lengthof(odd_lengths)];
		for (int kernel = 0; kernel <= 1; kernel++)
		{
			to_kernel = kernel;
			call_all(kind, addresses[at].port == -1 ? NULL :
					 addresses[at].port == -2 ? hidden : (struct sockaddr *) &storage, length);
		}
		for (int j = 0; j < noted[0].count; j++)
			require(noted[0].answers[j] == noted[1].answers[j],
					"{%d, %d, %d}, %s, %d, length %d: answer %d is %d instead of %d", kind[0],
					kind[1], kind[2], addresses[at].text, addresses[at].port, (int) length, j,
					noted[0].answers[j], noted[1].answers[j]);
	}
}

/* A program may have published it. The blocking connect() is this library's. */
TEST_IN_NETNS(a_port_that_getsockname_has_shown_stays)
{
	int			fd = stream_socket("127.0.0.1");
	int			port;

	full_host();
	expect_equal(plain_bind(fd, "127.0.0.1", 0), 0);
	port = local_port(fd);
	require(port >= PORT_MIN && port <= PORT_MAX, "port %d", port);
	expect_equal(plain_connect(fd, "127.0.0.1", SERVER), 0);
	expect_equal(local_port(fd), port);
}

TEST_IN_NETNS(a_filter_that_refuses_bind_leaves_connects_answer)
{
	full_host();
	skip_where_filters_see_no_socket();
	refuse_call(SYS_bind, 2, sizeof(struct sockaddr_in), EPERM);
	expect_equal(plain_connect(stream_socket("127.0.0.1"), "127.0.0.1", SERVER),
				 EADDRNOTAVAIL);
}

/* A listener whose queue is full: a connection to it waits. */
static void
full_queue(void)
{
	int			listener = server_on("127.0.0.1", SERVER + 1);

	expect(listen(listener, 0) == 0);
	for (int port = 3000; port < 3002; port++)
	{
		int			client = stream_socket("127.0.0.1");

		fcntl(client, F_SETFL, O_NONBLOCK);
		expect_equal(plain_bind(client, "127.0.0.1", port), 0);
		plain_connect(client, "127.0.0.1", SERVER + 1);
	}
}

static void
on_alarm(int number)
{
	(void) number;
}

/* Again and again: on a busy machine the first may come before the wait. */
static void
alarm_every(int milliseconds, void (*handler) (int))
{
	struct itimerval soon = {{0, milliseconds * 1000}, {0, milliseconds * 1000}};

	sigaction(SIGALRM, &(struct sigaction) {.sa_handler = handler}, NULL);
	setitimer(ITIMER_REAL, &soon, NULL);
}

/* What ends the wait for a connection ends it as ever, and nothing is left. */
TEST_IN_NETNS(a_connection_that_waits_can_be_interrupted)
{
	struct timeval soon = {.tv_usec = 50000};
	int			fd;
	OpenFds		before;

	full_host();
	full_queue();
	fd = stream_socket("127.0.0.1");
	before = open_fds();
	alarm_every(50, on_alarm);
	expect_equal(plain_connect(fd, "127.0.0.1", SERVER + 1), EINTR);
	alarm_every(0, on_alarm);
	expect_equal(fcntl(fd, F_GETFL), O_RDWR);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	expect_equal(plain_connect(fd, "127.0.0.1", SERVER + 1), EALREADY);
	expect(open_fds_are(&before, -1));

	fd = stream_socket("127.0.0.1");
	before = open_fds();
	expect(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof(soon)) == 0);
	expect_equal(plain_connect(fd, "127.0.0.1", SERVER + 1), EINPROGRESS);
	expect_equal(fcntl(fd, F_GETFL), O_RDWR);
	expect(open_fds_are(&before, -1));
}

static sigjmp_buf out;

static void
jump_out(int number)
{
	(void) number;
	siglongjmp(out, 1);
}

/* The oldest way to give connect() a time limit. */
TEST_IN_NETNS(a_handler_can_jump_out_of_connect)
{
	OpenFds		before;
	volatile int jumps = 0;
	int			fd;

	full_host();
	full_queue();
	before = open_fds();
	while (jumps < 2)
	{
		fd = stream_socket("127.0.0.1");
		if (sigsetjmp(out, 1) == 0)
		{
			alarm_every(500, jump_out);
			plain_connect(fd, "127.0.0.1", SERVER + 1);
			require(false, "connect came back: %s", strerror(errno));
		}
		alarm_every(0, jump_out);
		expect_equal(fcntl(fd, F_GETFL), O_RDWR);
		close(fd);
		jumps++;
	}
	expect(open_fds_are(&before, -1));
}

typedef struct Thread
{
	int			fd;
	bool		connects;		/* else it binds */
	bool		cancels_itself;
	bool		cancelled;
	int			answer;
} Thread;

static void
is_cancelled(void *thread)
{
	((Thread *) thread)->cancelled = true;
}

static void *
call_in_thread(void *argument)
{
	Thread	   *thread = argument;

	pthread_cleanup_push(is_cancelled, thread);
	if (thread->cancels_itself)
		pthread_cancel(pthread_self());
	thread->answer = thread->connects ?
		plain_connect(thread->fd, "127.0.0.1", SERVER + 1) :
		plain_bind(thread->fd, "127.0.0.1", 0);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	pthread_cleanup_pop(0);
	return NULL;
}

/* connect() is a point of cancellation; bind() is none. */
TEST_IN_NETNS(a_thread_is_cancelled_where_libc_says_so)
{
	/* While connect() waits; before connect(), where it does not wait; before bind(). */
	static const Thread threads[] = {
		{.connects = true}, {.connects = true,.cancels_itself = true}, {.cancels_itself = true},
	};

	full_host();
	full_queue();
	for (size_t index = 0; index < lengthof(threads); index++)
	{
		Thread		thread = threads[index];
		OpenFds		before;
		pthread_t	handle;

		now_doing("thread %zu", index);
		thread.fd = stream_socket("127.0.0.1");
		if (index == 1)
			fcntl(thread.fd, F_SETFL, O_NONBLOCK);
		before = open_fds();
		expect(pthread_create(&handle, NULL, call_in_thread, &thread) == 0);
		if (!thread.cancels_itself)
		{
			/* Time to begin to wait; it need not. */
			poll(NULL, 0, 50);
			pthread_cancel(handle);
		}
		pthread_join(handle, NULL);
		expect_equal(thread.cancelled, thread.connects);
		expect_equal(thread.answer, 0);
		expect(open_fds_are(&before, -1));
	}
}

int
main(void)
{
	return run_all(test(the_library_is_preloaded),
				   test(answers_are_the_kernels),
				   test(a_port_that_getsockname_has_shown_stays),
				   test(a_filter_that_refuses_bind_leaves_connects_answer),
				   test(a_connection_that_waits_can_be_interrupted),
				   test(a_handler_can_jump_out_of_connect),
				   test(a_thread_is_cancelled_where_libc_says_so));
}
