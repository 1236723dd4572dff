/*
 * hard_places.c
 *		Gets a listener and makes a connection where a program can do
 *		little: hard_places PLACE.
 *
 * It prints the place and what came of it. preload.sh runs it by full_host,
 * where libc's functions alone fail in every place.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* How many connections are made each time: later ones need fresh sockets. */
#define CONNECTIONS 40

static const char *place;

/* full_host's server, unless a place has its own. */
static struct sockaddr_in peer;

static struct sockaddr_in
on_loopback(int port)
{
	return (struct sockaddr_in) {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr = {htonl(INADDR_LOOPBACK)},
	};
}

/* The errnos that can be expected here. */
static const char *
name_of(int error)
{
	return error == 0 ? "" : error == EADDRINUSE ? "EADDRINUSE" :
		error == EADDRNOTAVAIL ? "EADDRNOTAVAIL" : "another errno";
}

/* Async-signal-safe. */
static void
say(const char *what, int error)
{
	char		line[128];
	size_t		length = 0;

	for (const char *from[] = {place, ": ", what, error ? ": " : "",
		 name_of(error), "\n"}, **word = from;
		 word < from + 6; word++)
	{
		memcpy(line + length, *word, strlen(*word));
		length += strlen(*word);
	}
	if (write(STDOUT_FILENO, line, length) < 0)
		_exit(3);
}

static void
act(void)
{
	struct sockaddr_in any = {.sin_family = AF_INET};
	int			listener = socket(AF_INET, SOCK_STREAM, 0);
	int			connections[CONNECTIONS];
	int			made = 0;
	const char *failed = NULL;

	errno = 0;
	if (bind(listener, (struct sockaddr *) &any, sizeof(any)) != 0)
		failed = "bind";
	else if (listen(listener, 5) != 0)
		failed = "listen";
	while (failed == NULL && made < CONNECTIONS)
	{
		int			fd = socket(AF_INET, SOCK_STREAM, 0);

		connections[made++] = fd;
		if (connect(fd, (struct sockaddr *) &peer, sizeof(peer)) != 0)
			failed = "connect";
		else if (fcntl(fd, F_GETFL) & O_NONBLOCK)
			failed = "O_NONBLOCK";
	}
	say(failed ? failed : "a listener and its connections", errno);
	close(listener);
	while (made > 0)
		close(connections[--made]);
}

static void *
in_thread(void *unused)
{
	(void) unused;
	act();
	return NULL;
}

/* The smallest stack that a thread can have. */
static void
thread(void)
{
	pthread_attr_t attributes;
	pthread_t	other;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 16384);
	errno = pthread_create(&other, &attributes, in_thread, NULL);
	if (errno != 0)
		say("pthread_create", errno);
	else
		pthread_join(other, NULL);
}

static void
on_signal(int number)
{
	(void) number;
	act();
}

/* A handler with its own stack. */
static void
signal_handler(void)
{
	stack_t		stack = {.ss_size = 32768,.ss_sp = malloc(32768)};

	sigaltstack(&stack, NULL);
	sigaction(SIGUSR1, &(struct sigaction) {.sa_handler = on_signal,.sa_flags = SA_ONSTACK}, NULL);
	raise(SIGUSR1);
}

static void
in_child(void)
{
	pid_t		pid = fork();
	int			status;

	if (pid == 0)
	{
		act();
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status != 0)
		say("the child crashed", 0);
}

static void *
in_thread_with_child(void *unused)
{
	(void) unused;
	in_child();
	return NULL;
}

/* A child of one of several threads, which has what the others held. */
static void
child_of_threads(void)
{
	pthread_t	other;

	pthread_create(&other, NULL, in_thread_with_child, NULL);
	pthread_join(other, NULL);
}

static void
child_of_vfork(void)
{
	int			status;
	pid_t		pid = vfork();

	if (pid == 0)
	{
		act();
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status != 0)
		say("the child crashed", 0);
}

static struct sockaddr_in
full_listener(void)
{
	struct sockaddr_in at = on_loopback(4243);
	struct sockaddr_in from = on_loopback(4244);
	int			listener = socket(AF_INET, SOCK_STREAM, 0);
	int			client = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(listener, (struct sockaddr *) &at, sizeof(at)) != 0 ||
		listen(listener, 0) != 0 ||
		bind(client, (struct sockaddr *) &from, sizeof(from)) != 0 ||
		connect(client, (struct sockaddr *) &at, sizeof(at)) != 0)
		say("no listener with a full queue", errno);
	return at;
}

static void
is_being_cancelled(void *unused)
{
	(void) unused;
	say("cancelled", 0);
}

static int	waiting_fd;

static void *
wait_for_connection(void *unused)
{
	int			returned;

	(void) unused;
	pthread_cleanup_push(is_being_cancelled, NULL);
	returned = connect(waiting_fd, (struct sockaddr *) &peer, sizeof(peer));
	/* Else the thread would be cancelled in write(). */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	say(returned == 0 ? "connected" : "connect", errno);
	pthread_cleanup_pop(0);
	return NULL;
}

static void *
bind_when_cancelled(void *unused)
{
	struct sockaddr_in any = {.sin_family = AF_INET};
	int			fd = socket(AF_INET, SOCK_STREAM, 0);
	int			returned;

	(void) unused;
	pthread_cleanup_push(is_being_cancelled, NULL);
	pthread_cancel(pthread_self());
	returned = bind(fd, (struct sockaddr *) &any, sizeof(any));
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	say(returned == 0 ? "bound" : "bind", returned == 0 ? 0 : errno);
	pthread_cleanup_pop(0);
	return NULL;
}

/* A thread that is to be cancelled is not, in bind(). */
static void
not_cancelled(void)
{
	pthread_t	other;

	pthread_create(&other, NULL, bind_when_cancelled, NULL);
	pthread_join(other, NULL);
}

/* Waits until the thread sleeps, which it only does in connect(). */
static void
wait_until_it_sleeps(pid_t thread_id)
{
	char		path[64];
	char		state;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", thread_id);
	do
	{
		FILE	   *file = fopen(path, "re");

		/* The thread has ended. */
		if (file == NULL)
			return;
		if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
			state = 'S';
		fclose(file);
		sched_yield();
	} while (state != 'S');
}

static volatile pid_t waiting_thread;

static void *
wait_with_id(void *unused)
{
	waiting_thread = syscall(SYS_gettid);
	return wait_for_connection(unused);
}

/* A thread that waits in connect() for its connection is cancelled there. */
static void
cancelled(void)
{
	pthread_t	other;

	peer = full_listener();
	waiting_fd = socket(AF_INET, SOCK_STREAM, 0);
	pthread_create(&other, NULL, wait_with_id, NULL);
	while (waiting_thread == 0)
		sched_yield();
	wait_until_it_sleeps(waiting_thread);
	pthread_cancel(other);
	pthread_join(other, NULL);
}

static void *
connect_when_cancelled(void *unused)
{
	pthread_cancel(pthread_self());
	return wait_for_connection(unused);
}

/*
 * A thread that is to be cancelled is, in connect() of a socket that does not
 * block.
 */
static void
cancelled_before(void)
{
	pthread_t	other;

	waiting_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	pthread_create(&other, NULL, connect_when_cancelled, NULL);
	pthread_join(other, NULL);
}

static sigjmp_buf out;

static void
jump_out(int number)
{
	(void) number;
	siglongjmp(out, 1);
}

/* The oldest way to give connect() a time limit. */
static void
jumped_out_of(void)
{
	int			flags;

	peer = full_listener();
	waiting_fd = socket(AF_INET, SOCK_STREAM, 0);
	signal(SIGALRM, jump_out);
	if (sigsetjmp(out, 1) == 0)
	{
		ualarm(50000, 0);
		connect(waiting_fd, (struct sockaddr *) &peer, sizeof(peer));
		say("connect came back", errno);
		return;
	}
	flags = fcntl(waiting_fd, F_GETFL);
	say(flags & O_NONBLOCK ? "O_NONBLOCK is left" : "jumped out", 0);
}

static const struct
{
	const char *name;
	void		(*act) (void);
}			places[] = {
	{"main", act},
	{"thread", thread},
	{"signal", signal_handler},
	{"child", in_child},
	{"child-of-threads", child_of_threads},
	{"vfork", child_of_vfork},
	{"cancelled", cancelled},
	{"cancelled-before", cancelled_before},
	{"not-cancelled", not_cancelled},
	{"jumped-out-of", jumped_out_of},
};

static void
start(char **argv)
{
	place = argv[1];
	peer = on_loopback(5000);
}

static bool
is_place(int argc, char **argv, const char *name)
{
	return argc == 2 && strcmp(argv[1], name) == 0;
}

/* Before the constructors of any library have run. */
static void
first_of_all(int argc, char **argv, char **environment)
{
	(void) environment;
	if (!is_place(argc, argv, "first-of-all"))
		return;
	start(argv);
	act();
}

__attribute__((section(".preinit_array"), used))
static void (*const preinit) (int, char **, char **) = first_of_all;

__attribute__((constructor))
static void
before_main(int argc, char **argv)
{
	if (!is_place(argc, argv, "before-main"))
		return;
	start(argv);
	act();
}

/* After the handlers of atexit(). */
__attribute__((destructor))
static void
after_main(void)
{
	if (place != NULL && strcmp(place, "after-main") == 0)
		act();
}

static void
at_exit(void)
{
	if (strcmp(place, "at-exit") == 0)
		act();
}

int
main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	start(argv);
	atexit(at_exit);
	for (size_t index = 0; index < sizeof(places) / sizeof(*places); index++)
		if (strcmp(place, places[index].name) == 0)
			places[index].act();
	return 0;
}
