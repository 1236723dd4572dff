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
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "crowded.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

#define PORT_MIN 40000
#define PORT_MAX 40015
#define PORTS (PORT_MAX - PORT_MIN + 1)
#define SERVER 5000

static const char *const addresses[] = {"0.0.0.0", "127.0.0.1", "::", "::1"};

#define for_each_address(address) \
	for (const char *const *at = addresses, *address; \
		 at < addresses + lengthof(addresses) && (address = *at); at++)

static const char *
server_for(const char *address)
{
	return strchr(address, ':') ? "::1" : "127.0.0.1";
}

/* Every port in TIME_WAIT of a listener, and a server. */
static int
full_host(void)
{
	crowd(PORT_MIN, PORT_MAX);
	return server_on("::", SERVER);
}

static long
inode(int fd)
{
	struct stat status;

	expect(fstat(fd, &status) == 0);
	return status.st_ino;
}

TEST(the_library_is_preloaded)
{
	Dl_info		of = {0};

	dladdr(dlsym(RTLD_DEFAULT, "connect"), &of);
	expect_in(of.dli_fname, "libic_listener_preload.so");
}

/* What libc itself would do decides, so every function of it is tried. */
TEST_IN_NETNS(a_socket_of_another_namespace_has_the_kernels_answer)
{
	int			there;
	int			here;
	int			server;
	int			fds[4];
	int			client;

	there = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	server = full_host();
	expect(enter_netns() == NULL);
	here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	set_port_range(PORT_MIN, PORT_MAX);
	server_on("127.0.0.1", SERVER);

	expect(setns(there, CLONE_NEWNET) == 0);
	for (int index = 0; index < 4; index++)
		fds[index] = stream_socket("127.0.0.1");
	expect(setns(here, CLONE_NEWNET) == 0);
	if (socket_option(fds[0], SOL_SOCKET, SO_NETNS_COOKIE) == -1 &&
		errno == ENOPROTOOPT)
		skip_child("SO_NETNS_COOKIE: Linux 5.14");

	expect_equal(plain_connect(fds[0], "127.0.0.1", SERVER), EADDRNOTAVAIL);
	expect_equal(plain_bind(fds[1], "0.0.0.0", 0), EADDRINUSE);
	expect_equal(plain_bind(fds[2], "127.0.0.1", 0), EADDRINUSE);
	expect_equal(listen(fds[3], 5), -1);
	expect_equal(errno, EADDRINUSE);
	for (int index = 0; index < 4; index++)
		expect(has_no_port(fds[index]));

	/* They are still there. */
	expect(setns(there, CLONE_NEWNET) == 0);
	set_port_range(50000, 50100);
	expect(setns(here, CLONE_NEWNET) == 0);
	expect_equal(plain_connect(fds[0], "127.0.0.1", SERVER), 0);
	client = accept_from(server);
	pass_a_number(fds[0], client);
	expect_equal(plain_bind(fds[1], "0.0.0.0", 0), 0);
	expect(listen(fds[1], 5) == 0);
	expect(local_port(fds[1]) >= 50000);
}

static int
epoll_of(int fd, uint32_t events)
{
	struct epoll_event event = {.events = events,.data.fd = fd};
	int			epoll = epoll_create1(EPOLL_CLOEXEC);

	expect(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0);
	return epoll;
}

/* nginx, Boost.Asio and Java NIO register a socket before connect(). */
TEST_IN_NETNS(epoll_hears_of_a_connection_that_it_waited_for_before)
{
	full_host();
	for (int number = 0; number < PORTS; number++)
	{
		int			fd = stream_socket("127.0.0.1");
		int			epoll = epoll_of(fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
		struct epoll_event got = {0};
		int			error;

		fcntl(fd, F_SETFL, O_NONBLOCK);
		error = plain_connect(fd, "127.0.0.1", SERVER);
		require(error == 0 || error == EINPROGRESS, "%s", strerror(error));
		/* Once for the socket that was not connected. */
		while (epoll_wait(epoll, &got, 1, 1000) == 1 && !(got.events & EPOLLOUT))
			;
		require(got.events == EPOLLOUT, "connection %d: events %#x", number,
				got.events);
	}
}

TEST_IN_NETNS(epoll_hears_of_a_client_that_it_waited_for_before_listen)
{
	skip_without_ipv6();
	full_host();
	for_each_address(address)
	{
		int			fd = stream_socket(address);
		struct epoll_event got = {0};
		int			epoll;

		now_doing("%s", address);
		expect_equal(plain_bind(fd, address, 0), 0);
		epoll = epoll_of(fd, EPOLLIN | EPOLLET);
		expect(listen(fd, 5) == 0);
		connect_to(stream_socket(address), server_for(address), local_port(fd));
		while (epoll_wait(epoll, &got, 1, 1000) == 1 && !(got.events & EPOLLIN))
			;
		expect_equal(got.events, EPOLLIN);
	}
}

/* A program may have published it. */
TEST_IN_NETNS(a_port_that_getsockname_has_shown_stays)
{
	skip_without_ipv6();
	full_host();
	for_each_address(address)
	{
		for (int connects = 0; connects <= 1; connects++)
		{
			int			fd = stream_socket(address);
			long		before = inode(fd);
			int			port;

			now_doing("%s, %s", address, connects ? "connect" : "listen");
			expect_equal(plain_bind(fd, address, 0), 0);
			port = local_port(fd);
			require(port >= PORT_MIN && port <= PORT_MAX, "port %d", port);
			if (connects)
				expect_equal(plain_connect(fd, server_for(address), SERVER), 0);
			else
			{
				expect(listen(fd, 1) == 0 && listen(fd, 5) == 0);
				connect_to(stream_socket(address), server_for(address), port);
			}
			expect_equal(local_port(fd), port);
			expect_equal(inode(fd), before);
		}
	}
}

/*
 * All that can be asked about a socket. SO_REUSEADDR is the library's doing;
 * the rest of what is left out differs from one connection to the next.
 */
static void
describe(int fd, char *text, size_t size)
{
	static const int levels[] = {SOL_SOCKET, IPPROTO_TCP, IPPROTO_IP, IPPROTO_IPV6};
	char		path[64];
	size_t		used = 0;
	int			file;

	for (size_t index = 0; index < lengthof(levels); index++)
	{
		for (int name = 1; name < 90; name++)
		{
			unsigned char value[512];
			socklen_t	length = sizeof(value);

			if ((levels[index] == SOL_SOCKET &&
				 (name == SO_REUSEADDR || name == SO_COOKIE ||
				  name == SO_MEMINFO || name == SO_INCOMING_CPU)) ||
				(levels[index] == IPPROTO_IP && name == 52 /* the port */ ) ||
				(levels[index] == IPPROTO_TCP &&
				 (name == TCP_INFO || name == TCP_CC_INFO || name == TCP_TIMESTAMP)) ||
				getsockopt(fd, levels[index], name, value, &length) != 0)
				continue;
			used += snprintf(text + used, size - used, "%d/%d:", levels[index], name);
			for (socklen_t byte = 0; byte < length; byte++)
				used += snprintf(text + used, size - used, "%02x", value[byte]);
			used += snprintf(text + used, size - used, "\n");
		}
	}
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = open(path, O_RDONLY | O_CLOEXEC);
	/* The position and the flags, two lines. */
	expect(file >= 0 && read(file, text + used, 23) == 23);
	text[used + 23] = '\0';
	close(file);
	require(used + 24 < size, "%zu bytes", used);
}

static void
expect_same(const char *expected, const char *actual)
{
	while (*expected != '\0' || *actual != '\0')
	{
		int			length = strcspn(expected, "\n");

		require(strncmp(expected, actual, length + 1) == 0, "%.*s, not %.*s",
				(int) strcspn(actual, "\n"), actual, length, expected);
		expected += length + 1;
		actual += length + 1;
	}
}

/* A connection by a named port, and one that the library finds a port for. */
TEST_IN_NETNS(a_socket_keeps_its_options_and_its_owner)
{
	static char before[2][32768];
	static char after[2][32768];
	struct linger linger = {.l_onoff = 1,.l_linger = 3};
	int			fds[2];

	full_host();
	for (int index = 0; index < 2; index++)
	{
		fds[index] = stream_socket("127.0.0.1");
		set_int(fds[index], SOL_SOCKET, SO_REUSEADDR, 1);
		set_int(fds[index], SOL_SOCKET, SO_PRIORITY, 5);
		set_int(fds[index], IPPROTO_IP, IP_TTL, 33);
		set_int(fds[index], IPPROTO_TCP, TCP_NODELAY, 1);
		expect(setsockopt(fds[index], SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) == 0);
		expect(fchown(fds[index], 1000, 1000) == 0 || geteuid() != 0 || errno == EINVAL);
		describe(fds[index], before[index], sizeof(before[index]));
	}
	expect_same(before[0], before[1]);
	expect_equal(plain_bind(fds[0], "127.0.0.1", PORT_MIN), 0);
	for (int index = 0; index < 2; index++)
	{
		struct stat earlier;
		struct stat later;

		expect(fstat(fds[index], &earlier) == 0);
		expect_equal(plain_connect(fds[index], "127.0.0.1", SERVER), 0);
		expect(fstat(fds[index], &later) == 0);
		expect_equal(later.st_ino, earlier.st_ino);
		expect_equal(later.st_uid, earlier.st_uid);
		describe(fds[index], after[index], sizeof(after[index]));
	}
	expect_same(after[0], after[1]);

	/* And one that is refused. */
	for (int port = PORT_MIN; port <= PORT_MAX; port++)
		plain_connect(stream_socket("127.0.0.1"), "127.0.0.1", SERVER);
	fds[0] = stream_socket("127.0.0.1");
	describe(fds[0], before[0], sizeof(before[0]));
	expect_equal(plain_connect(fds[0], "127.0.0.1", SERVER), EADDRNOTAVAIL);
	describe(fds[0], after[0], sizeof(after[0]));
	expect_same(before[0], after[0]);
	expect(has_no_port(fds[0]));
}

/* Calls that a program's filter may kill it for: connect() alone makes none. */
TEST_IN_NETNS(a_connection_that_finds_a_port_makes_no_other_calls)
{
	static const int calls[] = {SYS_bind, SYS_socket, SYS_sendto, SYS_recvfrom};

	server_on("127.0.0.1", SERVER);
	for (size_t index = 0; index < lengthof(calls); index++)
	{
		int			child = fork_child();

		if (child == 0)
		{
			struct sock_filter code[] = {
				BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
				BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[index], 0, 1),
				BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
				BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
			};
			struct sock_fprog program = {lengthof(code), code};
			int			fd = stream_socket("127.0.0.1");

			now_doing("system call %d", calls[index]);
			if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
				prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
				skip_child("a seccomp filter: a kernel with CONFIG_SECCOMP_FILTER");
			expect_equal(plain_connect(fd, "127.0.0.1", SERVER), 0);
			_exit(0);
		}
		wait_for_child(child);
	}
}

TEST_IN_NETNS(a_filter_that_refuses_bind_leaves_connects_answer)
{
	full_host();
	for (int argument = 0; argument < 3; argument++)
	{
		/* Whatever the descriptor, which is the first argument. */
		for (int value = 0; value < 16; value++)
			refuse_call(SYS_bind, 0, value, EPERM);
	}
	expect_equal(plain_connect(stream_socket("127.0.0.1"), "127.0.0.1", SERVER),
				 EADDRNOTAVAIL);
}

typedef struct Number
{
	int			fd;
	const char *path;
	pthread_barrier_t barrier;
} Number;

static void *
close_and_open_a_file(void *argument)
{
	Number	   *number = argument;

	pthread_barrier_wait(&number->barrier);
	close(number->fd);
	if (open(number->path, O_RDWR | O_CLOEXEC) != number->fd)
		abort();
	return NULL;
}

/* Another thread closes the number, and has a file under it. */
TEST_IN_NETNS(a_number_that_became_a_file_stays_a_file)
{
	char		path[] = "/tmp/ic_preload.XXXXXX";
	Number		number = {.path = path};
	int			became = 0;
	long		file;

	file = mkstemp(path);
	expect(file >= 0);
	file = inode(file);
	full_host();
	for (int round = 0; round < 2000; round++)
	{
		pthread_t	other;

		number.fd = stream_socket("127.0.0.1");
		fcntl(number.fd, F_SETFL, O_NONBLOCK);
		pthread_barrier_init(&number.barrier, NULL, 2);
		expect(pthread_create(&other, NULL, close_and_open_a_file, &number) == 0);
		pthread_barrier_wait(&number.barrier);
		plain_connect(number.fd, "127.0.0.1", SERVER);
		pthread_join(other, NULL);
		became += inode(number.fd) != file;
		close(number.fd);
		pthread_barrier_destroy(&number.barrier);
	}
	unlink(path);
	expect_equal(became, 0);
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

static void
alarm_in_50_ms(void (*handler) (int))
{
	struct itimerval soon = {.it_value.tv_usec = 50000};

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
	alarm_in_50_ms(on_alarm);
	expect_equal(plain_connect(fd, "127.0.0.1", SERVER + 1), EINTR);
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

	/* The last thing that a program may be told: it does not wait. */
	fd = stream_socket("127.0.0.1");
	before = open_fds();
	fcntl(fd, F_SETFL, O_NONBLOCK);
	expect_equal(plain_connect(fd, "127.0.0.1", SERVER + 1), EINPROGRESS);
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
	volatile OpenFds before;
	volatile int jumps = 0;
	int			fd;

	full_host();
	full_queue();
	before = open_fds();
	while (jumps < 5)
	{
		fd = stream_socket("127.0.0.1");
		if (sigsetjmp(out, 1) == 0)
		{
			alarm_in_50_ms(jump_out);
			plain_connect(fd, "127.0.0.1", SERVER + 1);
			require(false, "connect came back: %s", strerror(errno));
		}
		expect_equal(fcntl(fd, F_GETFL), O_RDWR);
		close(fd);
		jumps++;
	}
	/* The next call works, and at most the last claim is still there. */
	expect_equal(plain_connect(fd = stream_socket("127.0.0.1"), "127.0.0.1", SERVER), 0);
	close(fd);
	require(open_fds().count <= before.count + 1, "%d descriptors, %d before",
			open_fds().count, before.count);
}

typedef struct Waiting
{
	int			fd;
	int			port;
	volatile pid_t thread;
	bool		cancelled;
	int			answer;
} Waiting;

static void
is_cancelled(void *waiting)
{
	((Waiting *) waiting)->cancelled = true;
}

static void *
wait_in_connect(void *argument)
{
	Waiting    *waiting = argument;

	pthread_cleanup_push(is_cancelled, waiting);
	waiting->thread = syscall(SYS_gettid);
	if (waiting->port == 0)
		pthread_cancel(pthread_self());
	if (waiting->port < 0)
	{
		pthread_cancel(pthread_self());
		waiting->answer = plain_bind(waiting->fd, "127.0.0.1", 0);
	}
	else
		waiting->answer = plain_connect(waiting->fd, "127.0.0.1",
										waiting->port ? waiting->port : SERVER);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	pthread_cleanup_pop(0);
	return NULL;
}

/* Until the thread sleeps, which it only does in connect(). */
static void
wait_until_it_sleeps(Waiting *waiting)
{
	char		path[64];
	char		state = 0;

	while (waiting->thread == 0)
		sched_yield();
	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", waiting->thread);
	while (state != 'S')
	{
		FILE	   *file = fopen(path, "re");

		/* The thread has ended. */
		if (file == NULL)
			return;
		if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
			state = 'S';
		fclose(file);
		sched_yield();
	}
}

/* connect() is a point of cancellation, if it waits or not; bind() is none. */
TEST_IN_NETNS(a_thread_is_cancelled_where_libc_says_so)
{
	/* In connect() while it waits; before connect(); in bind(). */
	static const int ports[] = {SERVER + 1, 0, -1};

	full_host();
	full_queue();
	for (size_t index = 0; index < lengthof(ports); index++)
	{
		Waiting		waiting = {.fd = stream_socket("127.0.0.1"),.port = ports[index]};
		OpenFds		before = open_fds();
		pthread_t	thread;

		now_doing("port %d", ports[index]);
		expect(pthread_create(&thread, NULL, wait_in_connect, &waiting) == 0);
		if (waiting.port > 0)
		{
			wait_until_it_sleeps(&waiting);
			pthread_cancel(thread);
		}
		pthread_join(thread, NULL);
		expect_equal(waiting.cancelled, waiting.port >= 0);
		expect_equal(waiting.answer, 0);
		expect(open_fds_are(&before, -1));
	}
}

int
main(void)
{
	return run_all(test(the_library_is_preloaded),
				   test(a_socket_of_another_namespace_has_the_kernels_answer),
				   test(epoll_hears_of_a_connection_that_it_waited_for_before),
				   test(epoll_hears_of_a_client_that_it_waited_for_before_listen),
				   test(a_port_that_getsockname_has_shown_stays),
				   test(a_socket_keeps_its_options_and_its_owner),
				   test(a_connection_that_finds_a_port_makes_no_other_calls),
				   test(a_filter_that_refuses_bind_leaves_connects_answer),
				   test(a_number_that_became_a_file_stays_a_file),
				   test(a_connection_that_waits_can_be_interrupted),
				   test(a_handler_can_jump_out_of_connect),
				   test(a_thread_is_cancelled_where_libc_says_so));
}
