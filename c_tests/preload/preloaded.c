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
#include <poll.h>
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
#include <time.h>
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
static void
full_host(void)
{
	crowd(PORT_MIN, PORT_MAX);
	server_on("::", SERVER);
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

/* No other port is looked for. */
TEST_IN_NETNS(a_socket_of_another_namespace_has_the_kernels_answer)
{
	int			there = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	int			here;
	int			fds[3];

	full_host();
	for (int index = 0; index < 3; index++)
		fds[index] = stream_socket("127.0.0.1");
	if (socket_option(fds[0], SOL_SOCKET, SO_NETNS_COOKIE) == -1 &&
		errno == ENOPROTOOPT)
		skip_child("SO_NETNS_COOKIE: Linux 5.14");
	expect(enter_netns() == NULL);
	here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	expect_equal(plain_connect(fds[0], "127.0.0.1", SERVER), EADDRNOTAVAIL);
	expect_equal(plain_bind(fds[1], "127.0.0.1", 0), EADDRINUSE);
	expect_equal(listen(fds[2], 5), -1);
	expect_equal(errno, EADDRINUSE);
	for (int index = 0; index < 3; index++)
		expect(has_no_port(fds[index]));

	/* As soon as its own host has a port. */
	expect(setns(there, CLONE_NEWNET) == 0);
	set_port_range(50000, 50100);
	expect(setns(here, CLONE_NEWNET) == 0);
	expect_equal(plain_connect(fds[0], "127.0.0.1", SERVER), 0);
	expect_equal(plain_bind(fds[1], "127.0.0.1", 0), 0);
}

static int
epoll_of(int fd)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};
	int			epoll = epoll_create1(EPOLL_CLOEXEC);

	expect(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0);
	return epoll;
}

/* The first event may be that of a socket that was not connected. */
static void
hears(int epoll, uint32_t wanted)
{
	struct epoll_event got = {0};

	while (epoll_wait(epoll, &got, 1, 10000) == 1 && got.events != wanted)
		;
	require(got.events == wanted, "events %#x", got.events);
}

/* nginx, Boost.Asio and Java NIO register a socket before connect(). */
TEST_IN_NETNS(epoll_hears_of_what_it_was_told_before)
{
	skip_without_ipv6();
	full_host();
	for (int number = 0; number < PORTS; number++)
	{
		int			fd = stream_socket("127.0.0.1");
		int			epoll = epoll_of(fd);
		int			error;

		now_doing("connection %d", number);
		fcntl(fd, F_SETFL, O_NONBLOCK);
		error = plain_connect(fd, "127.0.0.1", SERVER);
		require(error == 0 || error == EINPROGRESS, "%s", strerror(error));
		hears(epoll, EPOLLOUT);
		/* The next one has another port. */
	}
	for_each_address(address)
	{
		int			fd = stream_socket(address);
		int			epoll;

		now_doing("a listener on %s", address);
		expect_equal(plain_bind(fd, address, 0), 0);
		epoll = epoll_of(fd);
		expect(listen(fd, 5) == 0);
		connect_to(stream_socket(address), server_for(address), local_port(fd));
		hears(epoll, EPOLLIN);
	}
}

TEST_IN_NETNS(a_socket_is_bound_once)
{
	skip_without_ipv6();
	full_host();
	for_each_address(address)
	{
		int			fd = stream_socket(address);

		now_doing("%s", address);
		expect_equal(plain_bind(fd, address, 0), 0);
		expect_equal(plain_bind(fd, address, 0), EINVAL);
		expect_equal(plain_bind(fd, address, SERVER + 1), EINVAL);
		expect(listen(fd, 5) == 0);
		expect_equal(plain_bind(fd, address, 0), EINVAL);
		expect_equal(plain_connect(fd, server_for(address), SERVER), EISCONN);
	}
}

/* A program may have published it. */
TEST_IN_NETNS(a_port_that_getsockname_has_shown_stays)
{
	skip_without_ipv6();
	full_host();
	for_each_address(address)
	{
		/* From the port there may be a connection to the last one. */
		int			server = SERVER + 2 + (at - addresses);

		server_on("::", server);
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
				expect_equal(plain_connect(fd, server_for(address), server), 0);
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

static void
filter(int call, unsigned int action)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {lengthof(code), code};

	skip_where_filters_see_no_socket();
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		skip_child("a seccomp filter: a kernel with CONFIG_SECCOMP_FILTER");
}

/* A program's filter may kill it for what connect() does not do. */
TEST_IN_NETNS(a_connection_that_finds_a_port_makes_no_other_calls)
{
	static const int calls[] = {SYS_bind, SYS_socket, SYS_sendto, SYS_recvfrom};

	server_on("127.0.0.1", SERVER);
	for (size_t index = 0; index < lengthof(calls); index++)
	{
		int			child = fork_child();

		if (child == 0)
		{
			int			fd = stream_socket("127.0.0.1");

			filter(calls[index], SECCOMP_RET_KILL_PROCESS);
			expect_equal(plain_connect(fd, "127.0.0.1", SERVER), 0);
			expect_equal(socket_option(fd, SOL_SOCKET, SO_REUSEADDR), 1);
			_exit(0);
		}
		now_doing("system call %d", calls[index]);
		wait_for_child(child);
	}
}

TEST_IN_NETNS(a_filter_that_refuses_bind_leaves_connects_answer)
{
	full_host();
	filter(SYS_bind, SECCOMP_RET_ERRNO | EPERM);
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
				   test(a_socket_of_another_namespace_has_the_kernels_answer),
				   test(epoll_hears_of_what_it_was_told_before),
				   test(a_socket_is_bound_once),
				   test(a_port_that_getsockname_has_shown_stays),
				   test(a_connection_that_finds_a_port_makes_no_other_calls),
				   test(a_filter_that_refuses_bind_leaves_connects_answer),
				   test(a_connection_that_waits_can_be_interrupted),
				   test(a_handler_can_jump_out_of_connect),
				   test(a_thread_is_cancelled_where_libc_says_so));
}
