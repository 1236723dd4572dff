/*
 * hard_places.c
 *		Gets a listener and makes connections where a program can do little:
 *		hard_places PLACE.
 *
 * It prints the place and what came of it. preload.sh runs it by full_host,
 * where libc's functions alone fail in every place.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define CONNECTIONS 40

static const char *place = "";

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
	act();
	return unused;
}

/* The smallest stack that a thread can have. */
static void
start_thread(void)
{
	pthread_attr_t attributes;
	pthread_t	thread;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 16384);
	if (pthread_create(&thread, &attributes, in_thread, NULL) != 0)
		say("pthread_create");
	else
		pthread_join(thread, NULL);
}

static void
in_vfork(void)
{
	pid_t		pid = vfork();
	int			status;

	if (pid == 0)
	{
		act();
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status != 0)
		say("the child crashed");
}

static void
on_signal(int number)
{
	(void) number;
	act();
}

/* A handler with its own stack. */
static void
in_handler(void)
{
	stack_t		stack = {.ss_size = 32768,.ss_sp = malloc(32768)};

	sigaltstack(&stack, NULL);
	sigaction(SIGUSR1, &(struct sigaction) {.sa_handler = on_signal,.sa_flags = SA_ONSTACK}, NULL);
	raise(SIGUSR1);
}

/* Before the constructors of any library have run. */
static void
first_of_all(int argc, char **argv)
{
	place = argc == 2 ? argv[1] : "";
	if (strcmp(place, "first-of-all") == 0)
		act();
}

__attribute__((section(".preinit_array"), used))
static void (*const preinit) (int, char **) = first_of_all;

int
main(void)
{
	if (strcmp(place, "main") == 0)
		act();
	else if (strcmp(place, "thread") == 0)
		start_thread();
	else if (strcmp(place, "vfork") == 0)
		in_vfork();
	else if (strcmp(place, "signal") == 0)
		in_handler();
	return 0;
}
