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
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define CONNECTIONS 40

static const char *place;

/* Async-signal-safe. */
static void
say(const char *what)
{
	struct iovec line[] = {
		{(char *) place, strlen(place)}, {": ", 2},
		{(char *) what, strlen(what)}, {"\n", 1},
	};

	if (writev(STDOUT_FILENO, line, 4) < 0)
		_exit(3);
}

static void
act(void)
{
	struct sockaddr_in any = {.sin_family = AF_INET};
	struct sockaddr_in peer = {
		.sin_family = AF_INET,
		.sin_port = htons(5000),	/* of full_host */
		.sin_addr = {htonl(INADDR_LOOPBACK)},
	};
	int			listener = socket(AF_INET, SOCK_STREAM, 0);
	int			connections[CONNECTIONS];
	int			made = 0;
	const char *failed = NULL;

	if (bind(listener, (struct sockaddr *) &any, sizeof(any)) != 0)
		failed = "bind";
	else if (listen(listener, 5) != 0)
		failed = "listen";
	while (failed == NULL && made < CONNECTIONS)
	{
		/* One waits for its connection, the next does not. */
		int			fd = socket(AF_INET, SOCK_STREAM | (made % 2 ? SOCK_NONBLOCK : 0), 0);

		connections[made++] = fd;
		if (connect(fd, (struct sockaddr *) &peer, sizeof(peer)) != 0 &&
			errno != EINPROGRESS)
			failed = "connect";
	}
	say(failed ? failed : "a listener and its connections");
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
	if (pthread_create(&other, &attributes, in_thread, NULL) != 0)
		say("pthread_create");
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
		say("the child crashed");
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
		say("the child crashed");
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
};

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
	place = argv[1];
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
	place = argv[1];
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
	place = argv[1];
	atexit(at_exit);
	for (size_t index = 0; index < sizeof(places) / sizeof(*places); index++)
		if (strcmp(place, places[index].name) == 0)
			places[index].act();
	return 0;
}
