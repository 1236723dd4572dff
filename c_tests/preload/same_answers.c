/*
 * same_answers.c
 *		Prints what bind(), listen() and connect() return, with errno, for
 *		sockets, addresses and descriptors of all kinds. preload.sh runs it
 *		with and without the preloaded library: both must print the same.
 */
#define _GNU_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* errno before a call. A call that succeeds does not change it. */
#define MARK 4711

static void
answer(const char *what, int returned)
{
	int			error = errno;

	printf("%s: %d", what, returned);
	if (returned != 0)
		printf(", %s", strerror(error));
	else if (error != MARK)
		printf(", errno changed to %d", error);
	printf("\n");
	errno = MARK;
}

#define ANSWER(call) (errno = MARK, answer(#call, call))

typedef struct sockaddr sockaddr;

static struct sockaddr_in
v4(const char *address, int port)
{
	struct sockaddr_in to = {.sin_family = AF_INET,.sin_port = htons(port)};

	inet_pton(AF_INET, address, &to.sin_addr);
	return to;
}

static struct sockaddr_in6
v6(const char *address, int port)
{
	struct sockaddr_in6 to = {.sin6_family = AF_INET6,.sin6_port = htons(port)};

	inet_pton(AF_INET6, address, &to.sin6_addr);
	return to;
}

static void
on_signal(int number)
{
	(void) number;
}

/* A listener with a full queue: the next connection must wait. */
static struct sockaddr_in
full_listener(void)
{
	struct sockaddr_in at = v4("127.0.0.1", 0);
	socklen_t	length = sizeof(at);
	int			listener = socket(AF_INET, SOCK_STREAM, 0);

	bind(listener, (sockaddr *) &at, length);
	listen(listener, 0);
	getsockname(listener, (sockaddr *) &at, &length);
	connect(socket(AF_INET, SOCK_STREAM, 0), (sockaddr *) &at, length);
	return at;
}

int
main(void)
{
	const int	kinds[][3] = {
		{AF_INET, SOCK_STREAM, 0},
		{AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0},
		{AF_INET6, SOCK_STREAM, 0},
		{AF_INET, SOCK_STREAM, 262},	/* IPPROTO_MPTCP */
		{AF_INET, SOCK_DGRAM, 0},
		{AF_INET6, SOCK_DGRAM, 0},
		{AF_UNIX, SOCK_STREAM, 0},
		{AF_UNIX, SOCK_DGRAM, 0},
		{AF_NETLINK, SOCK_RAW, 0},
	};
	struct sockaddr_storage storage = {0};
	struct sockaddr_in any = v4("0.0.0.0", 0);
	struct sockaddr_in here = v4("127.0.0.1", 0);
	struct sockaddr_in named = v4("127.0.0.1", 4242);
	struct sockaddr_in foreign = v4("192.0.2.1", 0);
	struct sockaddr_in refused = v4("127.0.0.1", 9);
	struct sockaddr_in unreachable = v4("192.0.2.1", 9);
	struct sockaddr_in6 any6 = v6("::", 0);
	struct sockaddr_in6 here6 = v6("::1", 0);
	struct sockaddr_in6 mapped = v6("::ffff:127.0.0.1", 0);
	struct sockaddr_in6 link_local = v6("fe80::1", 0);
	struct sockaddr_in6 refused6 = v6("::1", 9);
	struct sockaddr_in6 unreachable6 = v6("2001:db8::1", 9);
	struct sockaddr_un name = {.sun_family = AF_UNIX,.sun_path = "/nowhere/at/all"};
	sockaddr	unspecified = {.sa_family = AF_UNSPEC};
	sockaddr   *nowhere = (sockaddr *) 16;
	char	   *page = mmap(NULL, 2 * 4096, PROT_READ | PROT_WRITE,
							MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	sockaddr   *cut_off = (sockaddr *) (page + 4096 - 16);
	sockaddr   *odd = (sockaddr *) (page + 1);
	sockaddr   *hidden;

	setvbuf(stdout, NULL, _IONBF, 0);
	mprotect(page + 4096, 4096, PROT_NONE);
	hidden = (sockaddr *) (page + 4096);

	for (size_t index = 0; index < sizeof(kinds) / sizeof(*kinds); index++)
	{
		const int  *kind = kinds[index];
		int			fd;

/* On a fresh socket each. */
#define FRESH(call) \
		do { \
			fd = socket(kind[0], kind[1], kind[2]); \
			if (fd >= 0) \
				ANSWER(call); \
			close(fd); \
		} while (0)

		printf("family %d, type %d, protocol %d\n", kind[0], kind[1], kind[2]);
		FRESH(bind(fd, (sockaddr *) &any, sizeof(any)));
		FRESH(bind(fd, (sockaddr *) &here, sizeof(here)));
		FRESH(bind(fd, (sockaddr *) &named, sizeof(named)));
		FRESH(bind(fd, (sockaddr *) &foreign, sizeof(foreign)));
		FRESH(bind(fd, (sockaddr *) &any6, sizeof(any6)));
		FRESH(bind(fd, (sockaddr *) &here6, sizeof(here6)));
		FRESH(bind(fd, (sockaddr *) &here6, sizeof(here6) - 4));
		FRESH(bind(fd, (sockaddr *) &here6, sizeof(here6) - 5));
		FRESH(bind(fd, (sockaddr *) &mapped, sizeof(mapped)));
		FRESH(bind(fd, (sockaddr *) &link_local, sizeof(link_local)));
		FRESH(bind(fd, (sockaddr *) &name, sizeof(name)));
		FRESH(bind(fd, &unspecified, sizeof(unspecified)));
		FRESH(bind(fd, (sockaddr *) &any, 0));
		FRESH(bind(fd, (sockaddr *) &any, 8));
		FRESH(bind(fd, (sockaddr *) &any, -1));
		FRESH(bind(fd, memcpy(&storage, &any, sizeof(any)), sizeof(storage)));
		FRESH(bind(fd, memcpy(&storage, &any, sizeof(any)), sizeof(storage) + 1));
		FRESH(bind(fd, nowhere, sizeof(any)));
		FRESH(bind(fd, NULL, sizeof(any)));
		FRESH(bind(fd, hidden, sizeof(any)));
		FRESH(bind(fd, memcpy(odd, &any, sizeof(any)), sizeof(any)));
		FRESH(bind(fd, memcpy(cut_off, &any, sizeof(any)), sizeof(any)));
		FRESH(bind(fd, memcpy(cut_off, &any6, 16), sizeof(any6)));
		FRESH(listen(fd, 5));
		FRESH(listen(fd, -1));
		FRESH((bind(fd, (sockaddr *) &any, sizeof(any)),
			   bind(fd, (sockaddr *) &any, sizeof(any))));
		FRESH((bind(fd, (sockaddr *) &any, sizeof(any)), listen(fd, 5)));
		FRESH((bind(fd, (sockaddr *) &any6, sizeof(any6)), listen(fd, 5)));
		FRESH((bind(fd, (sockaddr *) &any, sizeof(any)), listen(fd, 5),
			   listen(fd, 7)));
		FRESH((listen(fd, 5),
			   connect(fd, (sockaddr *) &refused, sizeof(refused))));
		FRESH(connect(fd, (sockaddr *) &refused, sizeof(refused)));
		FRESH((bind(fd, (sockaddr *) &any, sizeof(any)),
			   connect(fd, (sockaddr *) &refused, sizeof(refused))));
		FRESH(connect(fd, (sockaddr *) &refused6, sizeof(refused6)));
		FRESH(connect(fd, (sockaddr *) &refused6, sizeof(refused6) - 4));
		FRESH(connect(fd, (sockaddr *) &refused6, sizeof(refused6) - 5));
		FRESH(connect(fd, (sockaddr *) &unreachable, sizeof(unreachable)));
		FRESH(connect(fd, (sockaddr *) &unreachable6, sizeof(unreachable6)));
		FRESH(connect(fd, (sockaddr *) &name, sizeof(name)));
		FRESH(connect(fd, &unspecified, sizeof(unspecified)));
		FRESH(connect(fd, (sockaddr *) &refused, 0));
		FRESH(connect(fd, (sockaddr *) &refused, 8));
		FRESH(connect(fd, (sockaddr *) &refused, -1));
		FRESH(connect(fd, nowhere, sizeof(refused)));
		FRESH(connect(fd, NULL, sizeof(refused)));
		FRESH(connect(fd, hidden, sizeof(refused)));
		FRESH(connect(fd, memcpy(cut_off, &any6, 16), sizeof(any6)));
	}

	/* Descriptors that are no socket, or not open. */
	int			file = open("/dev/null", O_RDWR);

	ANSWER(bind(-1, (sockaddr *) &any, sizeof(any)));
	ANSWER(bind(999, (sockaddr *) &any, sizeof(any)));
	ANSWER(bind(file, (sockaddr *) &any, sizeof(any)));
	ANSWER(listen(-1, 5));
	ANSWER(listen(999, 5));
	ANSWER(listen(file, 5));
	ANSWER(connect(-1, (sockaddr *) &refused, sizeof(refused)));
	ANSWER(connect(999, (sockaddr *) &refused, sizeof(refused)));
	ANSWER(connect(file, (sockaddr *) &refused, sizeof(refused)));
	file = open("/", O_PATH);
	ANSWER(connect(file, (sockaddr *) &refused, sizeof(refused)));

	/* A connection that exists, one that waits, and what ends the wait. */
	struct sockaddr_in full = full_listener();
	struct timeval soon = {.tv_usec = 50000};
	struct itimerval alarm_soon = {.it_value = soon};
	int			fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	int			accepting = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t	length = sizeof(here);

	ANSWER(connect(fd, (sockaddr *) &full, sizeof(full)));
	ANSWER(connect(fd, (sockaddr *) &full, sizeof(full)));
	fd = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof(soon));
	ANSWER(connect(fd, (sockaddr *) &full, sizeof(full)));
	printf("flags %d\n", fcntl(fd, F_GETFL));
	ANSWER(connect(fd, (sockaddr *) &full, sizeof(full)));
	fd = socket(AF_INET, SOCK_STREAM, 0);
	sigaction(SIGALRM, &(struct sigaction) {.sa_handler = on_signal}, NULL);
	setitimer(ITIMER_REAL, &alarm_soon, NULL);
	ANSWER(connect(fd, (sockaddr *) &full, sizeof(full)));
	ANSWER(connect(fd, &unspecified, sizeof(unspecified)));

	bind(accepting, (sockaddr *) &here, sizeof(here));
	listen(accepting, 5);
	getsockname(accepting, (sockaddr *) &here, &length);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	ANSWER(connect(fd, (sockaddr *) &here, length));
	ANSWER(connect(fd, (sockaddr *) &here, length));
	ANSWER(connect(accepting, (sockaddr *) &here, length));
	ANSWER(bind(fd, (sockaddr *) &any, sizeof(any)));
	ANSWER(listen(fd, 5));
	ANSWER(connect(fd, &unspecified, sizeof(unspecified)));
	ANSWER(connect(fd, (sockaddr *) &here, length));
	fd = socket(AF_INET, SOCK_STREAM, 0);
	ANSWER(bind(fd, (sockaddr *) &(struct sockaddr_in) {.sin_family = AF_INET}, sizeof(any)));
	ANSWER(connect(fd, (sockaddr *) &here, length));
	fd = socket(AF_INET, SOCK_STREAM, 0);
	ANSWER(bind(fd, (sockaddr *) &here, length));
	return 0;
}
