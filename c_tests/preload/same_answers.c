/*
 * same_answers.c
 *		Prints what bind(), listen(), connect() and getsockname() return,
 *		with errno, for sockets, addresses and descriptors of all kinds.
 *		preload.sh runs it with and without the preloaded library: both must
 *		print the same.
 */
#define _GNU_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* errno before a call. A call that succeeds does not change it. */
#define MARK 4711

#define lengthof(array) (sizeof(array) / sizeof((array)[0]))

typedef union Address
{
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
	struct sockaddr_storage storage;
} Address;

static const struct
{
	int			family;
	const char *text;
	int			port;
}			addresses[] = {
	{AF_INET, "0.0.0.0", 0}, {AF_INET, "127.0.0.1", 0},
	{AF_INET, "127.0.0.1", 4242}, {AF_INET, "192.0.2.1", 0},
	{AF_INET, "192.0.2.1", 9}, {AF_INET, "127.0.0.1", 9},
	{AF_INET6, "::", 0}, {AF_INET6, "::1", 0}, {AF_INET6, "::1", 9},
	{AF_INET6, "::ffff:127.0.0.1", 0}, {AF_INET6, "::ffff:127.0.0.1", 9},
	{AF_INET6, "fe80::1", 0}, {AF_INET6, "2001:db8::1", 9},
	{AF_UNIX, "/nowhere/at/all", 0}, {AF_UNSPEC, "", 0},
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
fill(Address *address, int index)
{
	memset(address, 0, sizeof(*address));
	address->any.sa_family = addresses[index].family;
	switch (addresses[index].family)
	{
		case AF_INET:
			address->in.sin_port = htons(addresses[index].port);
			inet_pton(AF_INET, addresses[index].text, &address->in.sin_addr);
			return sizeof(address->in);
		case AF_INET6:
			address->in6.sin6_port = htons(addresses[index].port);
			inet_pton(AF_INET6, addresses[index].text, &address->in6.sin6_addr);
			return sizeof(address->in6);
		case AF_UNIX:
			strcpy(address->un.sun_path, addresses[index].text);
			return sizeof(address->un);
	}
	return sizeof(address->any);
}

static void
show_name(int fd)
{
	Address		name = {0};
	socklen_t	length = sizeof(name);

	ANSWER(getsockname(fd, &name.any, &length));
	printf("length %u, %s\n", length, name.in.sin_port == 0 ? "no port" : "a port");
}

static void
try_kind(const int *kind)
{
	const struct sockaddr *hidden = mmap(NULL, 4096, PROT_NONE,
										 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	Address		address;
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

			printf("%s %d %d\n", addresses[index].text, addresses[index].port, length);
			ANSWER(bind(fd, &address.any, length));
			show_name(fd);
			ANSWER(bind(fd, &address.any, length));
			ANSWER(listen(fd, 5));
			ANSWER(listen(fd, -1));
			ANSWER(connect(fd, &address.any, length));
			FRESH();
			ANSWER(connect(fd, &address.any, length));
			ANSWER(connect(fd, &address.any, length));
			FRESH();
		}
	}
	fill(&address, 0);
	ANSWER(bind(fd, NULL, sizeof(address.in)));
	/* bind() reads it, as libc's other functions read what they are given. */
	ANSWER(connect(fd, NULL, sizeof(address.in)));
	ANSWER(connect(fd, hidden, sizeof(address.in)));
	ANSWER(connect(fd, hidden, sizeof(address.in6)));
	ANSWER(getsockname(fd, NULL, &(socklen_t) {16}));
	ANSWER(getsockname(fd, &address.any, NULL));
	ANSWER(listen(fd, 5));
	show_name(fd);
	close(fd);
}

/* A descriptor that is no socket, or not open. */
static void
try_descriptor(int fd)
{
	Address		address;
	socklen_t	length = fill(&address, 1);

	printf("descriptor %d\n", fd);
	ANSWER(bind(fd, &address.any, length));
	ANSWER(listen(fd, 5));
	ANSWER(connect(fd, &address.any, length));
	ANSWER(getsockname(fd, &address.any, &length));
}

int
main(void)
{
	Address		address;
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
	bind(listener, &address.any, length);
	listen(listener, 5);
	getsockname(listener, &address.any, &length);
	for (int time = 0; time < 2; time++)
		ANSWER(connect(fd, &address.any, length));
	ANSWER(connect(listener, &address.any, length));
	ANSWER(bind(fd, &address.any, length));
	ANSWER(listen(fd, 5));
	ANSWER(connect(fd, &(struct sockaddr) {AF_UNSPEC}, sizeof(struct sockaddr)));
	ANSWER(connect(fd, &address.any, length));
	return 0;
}
