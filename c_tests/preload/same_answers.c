/*
 * same_answers.c
 *		Prints what bind(), listen(), connect() and getsockname() return,
 *		with errno, for sockets, addresses and descriptors of all kinds.
 *		preload.sh runs it with and without the preloaded library: both must
 *		print the same.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/un.h>
#include <unistd.h>

#include "sockets.h"

/* errno before a call. A call that succeeds does not change it. */
#define MARK 4711

#define lengthof(array) (sizeof(array) / sizeof((array)[0]))

static const struct
{
	const char *text;			/* NULL: a family, and nothing else */
	int			port;			/* or the family */
}			addresses[] = {
	{"0.0.0.0", 0}, {"127.0.0.1", 0}, {"127.0.0.1", 4242}, {"192.0.2.1", 0},
	{"192.0.2.1", 9}, {"127.0.0.1", 9}, {"::", 0}, {"::1", 0}, {"::1", 9},
	{"::ffff:127.0.0.1", 0}, {"::ffff:127.0.0.1", 9}, {"fe80::1", 0},
	{"2001:db8::1", 9}, {NULL, AF_UNIX},
	{NULL, AF_UNSPEC},
};

/* What is added to the length of an address. */
static const int odd_lengths[] = {0, -4, -5, -8, 12, 1000, -1000};

static const int kinds[][3] = {
	{AF_INET, SOCK_STREAM, 0},
	{AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0},
	{AF_INET6, SOCK_STREAM, 0},
	{AF_INET, SOCK_STREAM, 262},	/* IPPROTO_MPTCP */
	{AF_INET, SOCK_DGRAM, 0},
	{AF_INET6, SOCK_DGRAM, 0},
	{AF_INET, SOCK_RAW, IPPROTO_TCP},
	{AF_UNIX, SOCK_STREAM, 0},
	{AF_UNIX, SOCK_DGRAM, 0},
	{AF_NETLINK, SOCK_RAW, 0},
};

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
}

#define ANSWER(call) (errno = MARK, answer(#call, call))

static socklen_t
fill(struct sockaddr_storage *address, int index)
{
	if (addresses[index].text != NULL)
		return socket_address(addresses[index].text, addresses[index].port, address);
	memset(address, 0, sizeof(*address));
	address->ss_family = addresses[index].port;
	return address->ss_family == AF_UNIX ? sizeof(struct sockaddr_un) : sizeof(struct sockaddr);
}

static void
show_name(int fd)
{
	struct sockaddr_in6 name = {.sin6_port = 0};
	socklen_t	length = sizeof(name);

	ANSWER(getsockname(fd, (struct sockaddr *) &name, &length));
	printf("length %u, %s\n", length, name.sin6_port == 0 ? "no port" : "a port");
}

static void
try_kind(const int *kind)
{
	const struct sockaddr *hidden = mmap(NULL, 4096, PROT_NONE,
										 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct sockaddr_storage address;
	int			fd;

#define FRESH() (close(fd), fd = socket(kind[0], kind[1], kind[2]))

	printf("family %d, type %d, protocol %d\n", kind[0], kind[1], kind[2]);
	fd = socket(kind[0], kind[1], kind[2]);
	if (fd < 0)
		return;
	for (size_t index = 0; index < lengthof(addresses); index++)
	{
		for (size_t odd = 0; odd < lengthof(odd_lengths); odd++)
		{
			socklen_t	length = fill(&address, index) + odd_lengths[odd];

			printf("address %zu, length %d\n", index, length);
			ANSWER(bind(fd, (struct sockaddr *) &address, length));
			show_name(fd);
			ANSWER(bind(fd, (struct sockaddr *) &address, length));
			ANSWER(listen(fd, 5));
			ANSWER(listen(fd, -1));
			ANSWER(connect(fd, (struct sockaddr *) &address, length));
			FRESH();
			ANSWER(connect(fd, (struct sockaddr *) &address, length));
			ANSWER(connect(fd, (struct sockaddr *) &address, length));
			FRESH();
		}
	}
	fill(&address, 0);
	ANSWER(bind(fd, NULL, sizeof(struct sockaddr_in)));
	/* bind() reads it, as libc's other functions read what they are given. */
	ANSWER(connect(fd, NULL, sizeof(struct sockaddr_in)));
	ANSWER(connect(fd, hidden, sizeof(struct sockaddr_in)));
	ANSWER(connect(fd, hidden, sizeof(struct sockaddr_in6)));
	ANSWER(getsockname(fd, NULL, &(socklen_t) {16}));
	ANSWER(getsockname(fd, (struct sockaddr *) &address, NULL));
	ANSWER(listen(fd, 5));
	show_name(fd);
	close(fd);
}

/* A descriptor that is no socket, or not open. */
static void
try_descriptor(int fd)
{
	struct sockaddr_storage address;
	socklen_t	length = fill(&address, 1);

	printf("descriptor %d\n", fd);
	ANSWER(bind(fd, (struct sockaddr *) &address, length));
	ANSWER(listen(fd, 5));
	ANSWER(connect(fd, (struct sockaddr *) &address, length));
	ANSWER(getsockname(fd, (struct sockaddr *) &address, &length));
}

int
main(void)
{
	struct sockaddr_storage address;
	socklen_t	length = fill(&address, 1);
	int			listener = socket(AF_INET, SOCK_STREAM, 0);
	int			fd = socket(AF_INET, SOCK_STREAM, 0);

	setvbuf(stdout, NULL, _IONBF, 0);
	for (size_t index = 0; index < lengthof(kinds); index++)
		try_kind(kinds[index]);
	try_descriptor(-1);
	try_descriptor(999);
	try_descriptor(open("/dev/null", O_RDWR));
	try_descriptor(open("/", O_PATH));

	/* A connection that exists. */
	bind(listener, (struct sockaddr *) &address, length);
	listen(listener, 5);
	getsockname(listener, (struct sockaddr *) &address, &length);
	for (int time = 0; time < 2; time++)
		ANSWER(connect(fd, (struct sockaddr *) &address, length));
	ANSWER(connect(listener, (struct sockaddr *) &address, length));
	ANSWER(bind(fd, (struct sockaddr *) &address, length));
	ANSWER(listen(fd, 5));
	ANSWER(connect(fd, &(struct sockaddr) {AF_UNSPEC}, sizeof(struct sockaddr)));
	ANSWER(connect(fd, (struct sockaddr *) &address, length));
	return 0;
}
