/*
 * scarcity.c
 *		Descriptors, kernel memory, stack and luck run short: the call still
 *		finds a port where there is one, or the message says what was missing.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "test.h"

#define PORT_MIN 40000
#define PORT_MAX 40063
#define PORTS (PORT_MAX - PORT_MIN + 1)

/*
 * The linker's --wrap leads these through here.
 */
extern int	__real_open64(const char *path, int flags,...);
extern int	__wrap_open64(const char *path, int flags, mode_t mode);
extern ssize_t __real_read(int fd, void *buffer, size_t size);
extern ssize_t __wrap_read(int fd, void *buffer, size_t size);
extern int	__real_listen(int fd, int backlog);
extern int	__wrap_listen(int fd, int backlog);

/* Which calls on files of /proc/sys fail, from 1; 0 is none. */
typedef struct Fault
{
	int			error;
	int			first;
	int			last;
	int			calls;
} Fault;

static Fault open_fault;
static Fault read_fault;
static int	proc_fd = -1;
static int	listens_to_lose;

static bool
fails(Fault *fault)
{
	fault->calls++;
	if (fault->calls < fault->first || fault->calls > fault->last)
		return false;
	errno = fault->error;
	return true;
}

int
__wrap_open64(const char *path, int flags, mode_t mode)
{
	int			fd;

	if (strncmp(path, "/proc/sys/", 10) != 0)
		return __real_open64(path, flags, mode);
	if (fails(&open_fault))
		return -1;
	fd = __real_open64(path, flags, mode);
	proc_fd = fd;
	return fd;
}

ssize_t
__wrap_read(int fd, void *buffer, size_t size)
{
	if (fd == proc_fd && fails(&read_fault))
		return -1;
	return __real_read(fd, buffer, size);
}

int
__wrap_listen(int fd, int backlog)
{
	if (listens_to_lose == 0)
		return __real_listen(fd, backlog);
	listens_to_lose--;
	errno = EADDRINUSE;
	return -1;
}

/*
 * The library's own listeners on every port leave each in TIME_WAIT. They are
 * in another process, so that the first call of this one is yet to come.
 */
static void
leave_all_in_time_wait(void)
{
	int			fds[PORTS];
	int			pid;

	set_port_range(PORT_MIN, PORT_MAX);
	pid = fork_child();
	if (pid != 0)
	{
		wait_for_child(pid);
		expect_equal(ports_in_time_wait(PORT_MIN, PORT_MAX), PORTS);
		return;
	}
	for (int index = 0; index < PORTS; index++)
	{
		fds[index] = require_listener(NULL).fd;
		leave_time_wait(fds[index], "127.0.0.1");
	}
	for (int index = 0; index < PORTS; index++)
		close(fds[index]);
	_exit(0);
}

/* From now on so many can be opened, and no more. */
static void
leave_descriptors(int count)
{
	struct rlimit limit;
	int			last = -1;

	expect(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	limit.rlim_cur = 64 + PORTS;
	expect(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	for (int fd; (fd = dup(STDIN_FILENO)) >= 0; last = fd)
		;
	expect_equal(errno, EMFILE);
	for (int index = 0; index < count; index++)
		close(last - index);
}

static void
expect_reused(const Call *call)
{
	require(call->returned == 0, "%s", call->report.message);
	expect_equal(call->report.origin, IC_LISTENER_PORT_ORIGIN_REUSED);
	close(call->fd);
}

TEST_IN_NETNS(no_descriptor_is_left)
{
	leave_all_in_time_wait();
	leave_descriptors(0);
	for_each_kind(kind)
	{
		Call		call = open_socket(kind, NULL);

		expect_failed(&call, EMFILE);
		expect_equal(call.report.step, IC_LISTENER_STEP_SOCKET);
		expect(strcmp(call.report.message, "socket: Too many open files") == 0);
	}
}

TEST_IN_NETNS(one_descriptor_is_left)
{
	set_port_range(PORT_MIN, PORT_MAX);
	leave_descriptors(1);
	for_each_kind(kind)
	{
		Call		call = open_socket(kind, NULL);

		require(call.returned == 0, "%s: %s", kind->name, call.report.message);
		close(call.fd);
	}
}

TEST_IN_NETNS(one_descriptor_is_left_and_no_free_port)
{
	Call		call;

	leave_all_in_time_wait();
	leave_descriptors(1);
	for (int round = 0; round < 3; round++)
	{
		call = open_listener(NULL);
		expect_reused(&call);
	}
}

/* The message does not need more than one either. */
TEST_IN_NETNS(one_descriptor_is_left_and_no_port)
{
	Neighbour	everybody = {.address = "::", .listens = true};
	Ports		all = ports_from_to(PORT_MIN, PORT_MAX);
	Call		call;

	skip_without_ipv6();
	set_port_range(PORT_MIN, PORT_MAX);
	hold_ports(&everybody, &all);
	leave_descriptors(1);
	call = open_listener(NULL);
	expect_failed(&call, EADDRINUSE);
	expect_in(call.report.message, "no port to listen on in 40000-40063: "
			  "64 tried, 64 in use");
	expect_in(call.report.message, "64 listeners");
}

TEST_IN_NETNS(one_descriptor_is_left_and_no_udp_port)
{
	Call		call;

	set_port_range(PORT_MIN, PORT_MAX);
	for (int index = 0; index < PORTS; index++)
		expect(open_socket(&udp, NULL).returned == 0);
	leave_descriptors(1);
	call = open_socket(&udp, NULL);
	expect_failed(&call, EADDRINUSE);
	expect_in(call.report.message, "no UDP port in 40000-40063: "
			  "64 tried, 64 in use");
}

TEST_IN_NETNS(a_lost_listen_needs_no_second_descriptor)
{
	Call		call;

	leave_all_in_time_wait();
	leave_descriptors(1);
	listens_to_lose = 3;
	call = open_listener(NULL);
	expect_equal(call.report.listens_lost, 3);
	expect_reused(&call);

	/* Where ports are free, too. */
	set_port_range(PORT_MIN + 100, PORT_MAX + 100);
	listens_to_lose = 3;
	call = open_listener(NULL);
	require(call.returned == 0, "%s", call.report.message);
	expect_equal(call.report.listens_lost, 3);
}

/*
 * What /proc refuses for a moment is asked for again.
 */
TEST_IN_NETNS(proc_fails_for_a_moment)
{
	static const int errors[] = {EMFILE, ENFILE, ENOMEM, EINTR};

	leave_all_in_time_wait();
	for (size_t index = 0; index < 2 * lengthof(errors); index++)
	{
		int			error = errors[index / 2];
		int			at = 1 + index % 2;
		int			pid = fork_child();

		if (pid == 0)
		{
			Call		call;

			now_doing("%s at the open number %d", strerror(error), at);
			open_fault = (Fault) {error, at, at, 0};
			/* The first call of the process, and a later one. */
			for (int round = 0; round < 2; round++)
			{
				call = open_listener(NULL);
				expect_reused(&call);
				open_fault.calls = 0;
			}
			_exit(0);
		}
		wait_for_child(pid);
	}
}

/* A signal may come ten times. */
TEST_IN_NETNS(proc_is_interrupted)
{
	Call		call;

	leave_all_in_time_wait();
	open_fault = read_fault = (Fault) {EINTR, 1, 10, 0};
	call = open_listener(NULL);
	expect_reused(&call);
	expect(open_fault.calls > 10);
	expect(read_fault.calls > 10);
}

/* A refusal for good is named, with the errno. */
TEST_IN_NETNS(proc_fails_for_good)
{
	static const struct
	{
		int			error;
		const char *words;
	}			cases[] = {
		{EMFILE, "(Too many open files)"},
		{ENFILE, "(Too many open files in system)"},
		{ENOMEM, "(Cannot allocate memory)"},
		{EACCES, "(Permission denied)"},
	};
	static const char *const files[] = {
		"/proc/sys/net/ipv4/ip_local_port_range",
		"/proc/sys/net/ipv4/ip_local_reserved_ports",
	};

	leave_all_in_time_wait();
	for (size_t index = 0; index < lengthof(cases); index++)
	{
		for (int at = 1; at <= 2; at++)
		{
			Call		call;

			now_doing("%s from open number %d", strerror(cases[index].error),
					  at);
			open_fault = (Fault) {cases[index].error, at, INT_MAX, 0};
			call = open_listener(NULL);
			expect_failed(&call, EADDRINUSE);
			if (at == 1)
				expect_in(call.report.message, files[0]);
			expect_in(call.report.message, "no port to listen on: ");
			expect_in(call.report.message, "cannot be read");
			expect_in(call.report.message, cases[index].words);
			expect_in(call.report.message, "and the kernel found no port");
		}
	}
	memset(&open_fault, 0, sizeof(Fault));
	read_fault = (Fault) {EIO, 1, INT_MAX, 0};
	expect_in(open_listener(NULL).report.message, "(Input/output error)");
}

/* The same for a caller's own sockets, which lend no descriptor. */
TEST_IN_NETNS(proc_fails_below_connect)
{
	static const struct
	{
		int			error;
		const char *words;
	}			cases[] = {
		{EMFILE, "(Too many open files)"},
		{ENOMEM, "(Cannot allocate memory)"},
		{EACCES, "(Permission denied)"},
	};
	Neighbour	server = {.address = "127.0.0.1", .listens = true};
	struct sockaddr_storage to;
	socklen_t	length = socket_address("127.0.0.1", 7000, &to);
	IcListenerReport report = IC_LISTENER_REPORT_INIT;

	leave_all_in_time_wait();
	expect(open_neighbour(&server, 7000) >= 0);
	for (size_t index = 0; index < lengthof(cases); index++)
	{
		int			fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		now_doing("%s for good", strerror(cases[index].error));
		open_fault = (Fault) {cases[index].error, 1, INT_MAX, 0};
		expect_equal(ic_listener_connect(fd, (struct sockaddr *) &to, length,
										 &report), -1);
		expect_equal(errno, EADDRNOTAVAIL);
		expect_equal(report.step, IC_LISTENER_STEP_CONNECT);
		expect_in(report.message, "no port to connect from: "
				  "/proc/sys/net/ipv4/ip_local_port_range cannot be read");
		expect_in(report.message, cases[index].words);
		close(fd);
	}

	/* And for a moment only. */
	for (int at = 1; at <= 2; at++)
	{
		int			fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		now_doing("ENFILE at open number %d", at);
		open_fault = (Fault) {ENFILE, at, at, 0};
		require(ic_listener_connect(fd, (struct sockaddr *) &to, length,
									&report) == 0, "%s", report.message);
		expect(open_fault.calls > at);
		close(fd);
	}
}

/*
 * While each port is looked at once, the range bounds the listens that are
 * lost, not listen_retries.
 */
TEST_IN_NETNS(six_hundred_listens_are_lost)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	set_port_range(PORT_MIN, PORT_MIN + 999);
	for (int named = 0; named <= 1; named++)
	{
		for (int retries = 0; retries <= 1; retries++)
		{
			Call		call;

			now_doing("named %d, retries %d", named, retries);
			options.listen_retries = retries;
			options.port_min = named ? PORT_MIN : 0;
			options.port_max = named ? PORT_MIN + 999 : 0;
			listens_to_lose = 600;
			call = open_listener(&options);
			require(call.returned == 0, "%s", call.report.message);
			expect_equal(call.report.listens_lost, 600);
			close(call.fd);
		}
	}
}

/*
 * Stacks. The header: a call needs so many bytes at most.
 */
#define STACK_PROMISED (12 * 1024)
#define STACK_SIZE (256 * 1024)

static void
call_tcp(void *report)
{
	int			port;
	int			fd;

	if (ic_listener_open_tcp(NULL, &port, &fd, report) == 0)
		close(fd);
}

static void
call_plainly(void *unused)
{
	int			port;
	int			fd;

	(void) unused;
	if (setup_listener(&port, &fd) == 0)
		close(fd);
}

static void
call_udp(void *report)
{
	int			port;
	int			fd;

	if (ic_listener_open_udp(NULL, &port, &fd, report) == 0)
		close(fd);
}

static void
call_with_an_interface(void *report)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	int			port;
	int			fd;

	options.address = "fe80::1%lo";
	ic_listener_open_tcp(&options, &port, &fd, report);
	options.address = "fe80::1%an.interface.of.that.name";
	ic_listener_open_tcp(&options, &port, &fd, report);
}

#ifdef IC_LISTENER_CENSUS_INIT
static void
call_census(void *unused)
{
	IcListenerCensus census = IC_LISTENER_CENSUS_INIT;

	(void) unused;
	ic_listener_census(NULL, &census);
}
#endif

static void
call_drop_ins(void *report)
{
	struct sockaddr_in any = {.sin_family = AF_INET};
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons(9),
		.sin_addr = {htonl(INADDR_LOOPBACK)}
	};
	int			fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ic_listener_bind(fd, (struct sockaddr *) &any, sizeof(any), report);
	ic_listener_listen(fd, 1, report);
	close(fd);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ic_listener_connect(fd, (struct sockaddr *) &to, sizeof(to), report);
	close(fd);
}

typedef struct Stacked
{
	const char *name;
	void		(*call) (void *report);
} Stacked;

static void
do_nothing(void *unused)
{
	(void) unused;
}

static const Stacked stacked[] = {
	{"setup_listener()", call_plainly},
	{"ic_listener_open_tcp()", call_tcp},
	{"ic_listener_open_udp()", call_udp},
	{"a link-local address", call_with_an_interface},
#ifdef IC_LISTENER_CENSUS_INIT
	{"ic_listener_census()", call_census},
#endif
	{"the drop-in calls", call_drop_ins},
};

/* What the thread does; its report is not on its stack. */
typedef struct Work
{
	const Stacked *what;
	IcListenerReport report;
} Work;

static void *
work(void *argument)
{
	Work	   *work = argument;

	work->what->call(&work->report);
	return NULL;
}

/* How much of a stack that was painted the call has written to. */
static size_t
stack_used(const Stacked *what)
{
	Work		its_work = {what, IC_LISTENER_REPORT_INIT};
	unsigned char *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
								MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t		untouched = 0;
	pthread_attr_t attributes;
	pthread_t	thread;

	expect(stack != MAP_FAILED);
	memset(stack, 0xa5, STACK_SIZE);
	pthread_attr_init(&attributes);
	expect_equal(pthread_attr_setstack(&attributes, stack, STACK_SIZE), 0);
	expect_equal(pthread_create(&thread, &attributes, work, &its_work), 0);
	pthread_join(thread, NULL);
	while (untouched < STACK_SIZE && stack[untouched] == 0xa5)
		untouched++;
	munmap(stack, STACK_SIZE);
	return STACK_SIZE - untouched;
}

/* Each is the first call of its process. */
static void
measure_stacks(const char *situation)
{
	const Stacked nothing = {"nothing", do_nothing};

	set_sysctl("net.ipv4.ip_local_reserved_ports", "40001,40003,40005,40007-40010");
	for (size_t index = 0; index < lengthof(stacked); index++)
	{
		int			pid = fork_child();
		size_t		used;

		if (pid != 0)
		{
			wait_for_child(pid);
			continue;
		}
		used = stack_used(&stacked[index]) - stack_used(&nothing);
		print_message("# %s, %s: %zu bytes of stack\n", situation,
					  stacked[index].name, used);
		fflush(stdout);
		now_doing("%s, %s: %zu bytes", situation, stacked[index].name, used);
		expect(used <= STACK_PROMISED);
		_exit(0);
	}
}

TEST_IN_NETNS(a_call_needs_so_much_stack)
{
	measure_stacks("a quiet range");
}

TEST_IN_NETNS(so_does_one_that_shares_a_port)
{
	leave_all_in_time_wait();
	measure_stacks("all in TIME_WAIT");
}

TEST_IN_NETNS(so_does_one_that_fails)
{
	Neighbour	everybody = {.address = "::", .listens = true};
	Ports		all = ports_from_to(PORT_MIN, PORT_MAX);

	skip_without_ipv6();
	set_port_range(PORT_MIN, PORT_MAX);
	hold_ports(&everybody, &all);
	measure_stacks("all held by listeners");
}

/* The smallest stacks that pthread_create() gives: 16 KiB on many hosts. */
TEST_IN_NETNS(eight_threads_on_the_smallest_stacks)
{
	size_t		size = sysconf(_SC_THREAD_STACK_MIN);

	leave_all_in_time_wait();
	set_sysctl("net.ipv4.ip_local_reserved_ports", "40001,40003,40005,40007-40010");
	for (size_t round = 0; round < 25 * lengthof(stacked); round++)
	{
		size_t		index = round % lengthof(stacked);
		Work		works[8];
		pthread_t	threads[8];
		pthread_attr_t attributes;
		int			pid = fork_child();

		if (pid != 0)
		{
			wait_for_child(pid);
			continue;
		}
		now_doing("%s on stacks of %zu bytes", stacked[index].name, size);
		pthread_attr_init(&attributes);
		expect_equal(pthread_attr_setstacksize(&attributes, size), 0);
		for (int thread = 0; thread < 8; thread++)
		{
			works[thread] = (Work) {
				&stacked[index], IC_LISTENER_REPORT_INIT
			};
			expect_equal(pthread_create(&threads[thread], &attributes, work,
										&works[thread]), 0);
		}
		for (int thread = 0; thread < 8; thread++)
			pthread_join(threads[thread], NULL);
		_exit(0);
	}
}

int
main(void)
{
	return run_all(
		test(no_descriptor_is_left),
		test(one_descriptor_is_left),
		test(one_descriptor_is_left_and_no_free_port),
		test(one_descriptor_is_left_and_no_port),
		test(one_descriptor_is_left_and_no_udp_port),
		test(a_lost_listen_needs_no_second_descriptor),
		test(proc_fails_for_a_moment),
		test(proc_is_interrupted),
		test(proc_fails_for_good),
		test(proc_fails_below_connect),
		test(six_hundred_listens_are_lost),
		test(a_call_needs_so_much_stack),
		test(so_does_one_that_shares_a_port),
		test(so_does_one_that_fails),
		test(eight_threads_on_the_smallest_stacks));
}
