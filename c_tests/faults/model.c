/*
 * model.c
 *		See model.h.
 */
#define _GNU_SOURCE

#include "model.h"

#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

const char *const call_names[CALL_KINDS] =
{"socket", "setsockopt", "getsockopt", "bind", "listen", "getsockname", "open",
"read", "mmap", "munmap", "netlink", "send", "recv", "close"};

Model		model;

/* A descriptor that the library holds. */
typedef struct Descriptor
{
	bool		held;
	bool		is_socket;
	uint32_t	window;			/* of IP_LOCAL_PORT_RANGE */
	uint32_t	wanted_window;	/* the same if nothing fails */

	/* A file of /proc: what it says, and how much of it has been read. */
	const char *text;
	size_t		at;
	bool		whole;			/* one read answers, as in /proc/sys */
	bool		of_reserved;
	bool		of_ipv6;

	/* Netlink: the family that was asked for, and the answers given. */
	int			family;
	int			answers;
} Descriptor;

static Descriptor descriptors[1024];

/* The last call was a bind(), and it was refused. */
static bool bind_was_refused;

/* Nanoseconds. It goes on by one microsecond whenever it is read. */
static long long clock_ns = 1700000000000000000;

extern int	__real_socket(int domain, int type, int protocol);
extern int	__real_setsockopt(int fd, int level, int name, const void *value,
							  socklen_t size);
extern int	__real_getsockopt(int fd, int level, int name, void *value,
							  socklen_t *size);
extern int	__real_bind(int fd, const struct sockaddr *address,
						socklen_t size);
extern int	__real_listen(int fd, int backlog);
extern int	__real_getsockname(int fd, struct sockaddr *address,
							   socklen_t *size);
extern int	__real_open64(const char *path, int flags,...);
extern ssize_t __real_read(int fd, void *buffer, size_t size);
extern ssize_t __real_send(int fd, const void *buffer, size_t size, int flags);
extern ssize_t __real_recv(int fd, void *buffer, size_t size, int flags);
extern int	__real_close(int fd);
extern void *__real_mmap(void *start, size_t size, int protection, int flags,
						 int fd, off_t offset);
extern int	__real_munmap(void *start, size_t size);
extern int	__real_clock_gettime(clockid_t clock, struct timespec *now);
extern void *__real_malloc(size_t size);
extern void *__real_calloc(size_t count, size_t size);
extern void *__real_realloc(void *memory, size_t size);
extern void __real_free(void *memory);
extern int	__real_posix_memalign(void **memory, size_t alignment,
								  size_t size);

/* What the linker calls for socket() and the others. */
extern int	__wrap_socket(int domain, int type, int protocol);
extern int	__wrap_setsockopt(int fd, int level, int name, const void *value,
							  socklen_t size);
extern int	__wrap_getsockopt(int fd, int level, int name, void *value,
							  socklen_t *size);
extern int	__wrap_bind(int fd, const struct sockaddr *address,
						socklen_t size);
extern int	__wrap_listen(int fd, int backlog);
extern int	__wrap_getsockname(int fd, struct sockaddr *address,
							   socklen_t *size);
extern int	__wrap_open64(const char *path, int flags, mode_t mode);
extern ssize_t __wrap_read(int fd, void *buffer, size_t size);
extern ssize_t __wrap_send(int fd, const void *buffer, size_t size, int flags);
extern ssize_t __wrap_recv(int fd, void *buffer, size_t size, int flags);
extern int	__wrap_close(int fd);
extern void *__wrap_mmap(void *start, size_t size, int protection, int flags,
						 int fd, off_t offset);
extern int	__wrap_munmap(void *start, size_t size);
extern int	__wrap_clock_gettime(clockid_t clock, struct timespec *now);
extern void *__wrap_malloc(size_t size);
extern void *__wrap_calloc(size_t count, size_t size);
extern void *__wrap_realloc(void *memory, size_t size);
extern void __wrap_free(void *memory);
extern int	__wrap_posix_memalign(void **memory, size_t alignment,
								  size_t size);

/*
 * The stage.
 */

static void
forget_family(int family)
{
	model.family = family;
	model.listens_lost = 0;
	while (model.named > 0)
		model.fates[model.names[--model.named]] = NOT_ASKED;
	model.in_use = model.forbidden = 0;
	model.window_ports = 0;
	model.searched = false;
	model.shared_one = 0;
	model.picks_in_use = model.picks_forbidden = 0;
	memset(&model.last_given, 0, sizeof(model.last_given));
	model.last_window = 0;
}

void
model_host(const Host *host)
{
	forget_family(0);
	memset(&model, 0, offsetof(Model, recorded_count));
	model.recorded_count = 0;
	if (host != NULL)
		model.host = *host;
	if (model.host.range == NULL)
		model.host.range = "40000\t40199\n";
	if (model.host.reserved == NULL)
		model.host.reserved = "\n";
}

void
model_fault(CallKind kind, int occurrence, bool for_ever, int error)
{
	model.kind = kind;
	model.occurrence = occurrence;
	model.for_ever = for_ever;
	model.error = error;
}

void
model_begin(void)
{
	model.allocations = model.mapped = model.held = model.lent = 0;
	memset(model.counts, 0, sizeof(model.counts));
	model.recorded_count = 0;
	memset(descriptors, 0, sizeof(descriptors));
	forget_family(0);
	bind_was_refused = false;
	model.active = true;
}

void
model_end(void)
{
	model.active = false;
}

void
model_range(int *min, int *max)
{
	require(sscanf(model.host.range, "%d %d", min, max) == 2 &&
			1 <= *min && *min <= *max, "the model has no range: %s",
			model.host.range);
}

bool
model_reserves(int port)
{
	static const char *parsed = NULL;
	static bool reserved[65536];

	if (parsed != model.host.reserved)
	{
		const char *at = parsed = model.host.reserved;

		memset(reserved, 0, sizeof(reserved));
		while (*at >= '0' && *at <= '9')
		{
			int			first = strtol(at, (char **) &at, 10);
			int			last = first;

			if (*at == '-')
				last = strtol(at + 1, (char **) &at, 10);
			for (; first <= last; first++)
				reserved[first] = true;
			at += *at == ',';
		}
	}
	return reserved[port];
}

static int
refuse(int error)
{
	errno = error;
	return -1;
}

/* Records a call; the caller adds the rest. */
static Recorded *
record(CallKind kind, char letter, int family)
{
	static Recorded beyond;
	Recorded   *call = &beyond;
	bool		after_refusal = bind_was_refused;

	bind_was_refused = false;
	if (model.recorded_count < (int) lengthof(model.recorded))
		call = &model.recorded[model.recorded_count++];
	*call = (Recorded) {kind, letter, ++model.counts[kind], family,
		.after_refusal = after_refusal};
	return call;
}

/* What may be there a moment later, if the socket makes room. */
static bool
is_lendable(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOMEM;
}

/* True, with errno, when this is the call that must fail. */
static bool
fails(const Recorded *call)
{
	bool		hit = model.kind == call->kind && model.occurrence != 0 &&
		(model.for_ever ? call->occurrence >= model.occurrence :
		 call->occurrence == model.occurrence);

	/* An errno that no test expects stops an endless loop. */
	if (call->occurrence > 100000)
	{
		errno = EDEADLK;
		return true;
	}
	errno = model.error;
	if (hit && (call->kind == OPEN || call->kind == READ ||
				call->kind == MMAP))
		model.lent += is_lendable(errno);
	return hit;
}

static Descriptor *
descriptor(int fd)
{
	require(fd >= 0 && fd < (int) lengthof(descriptors), "fd %d", fd);
	return &descriptors[fd];
}

static int
hold(int fd)
{
	if (fd >= 0)
	{
		*descriptor(fd) = (Descriptor) {.held = true};
		model.held++;
	}
	return fd;
}

static bool
no_descriptor_is_left(void)
{
	return model.host.one_descriptor && model.held > 0;
}

/*
 * Sockets.
 */

static int
option_of(int fd, int level, int name)
{
	int			value = 0;
	socklen_t	size = sizeof(value);

	__real_getsockopt(fd, level, name, &value, &size);
	return value;
}

static int
family_of(int fd)
{
	return option_of(fd, SOL_SOCKET, SO_DOMAIN);
}

static bool
is_reusable(int fd)
{
	return option_of(fd, SOL_SOCKET, SO_REUSEADDR) != 0;
}

static void
set_reusable(int fd, int on)
{
	__real_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
}

/* A descriptor of the census. The model answers it. */
static int
open_netlink(void)
{
	if (fails(record(NETLINK, 'N', AF_NETLINK)))
		return -1;
	if (model.host.no_netlink)
		return refuse(EPERM);
	if (no_descriptor_is_left())
		return refuse(EMFILE);
	return hold(__real_open64("/dev/null", O_RDWR | O_CLOEXEC));
}

int
__wrap_socket(int domain, int type, int protocol)
{
	int			fd;
	int			on = model.host.ipv6_only;

	if (!model.active)
		return __real_socket(domain, type, protocol);

	if (domain == AF_NETLINK)
		return open_netlink();
	if (domain != model.family)
		forget_family(domain);
	if (fails(record(SOCKET, 'S', domain)))
		return -1;
	if (model.host.no_ipv6 && domain == AF_INET6)
		return refuse(EAFNOSUPPORT);
	if (no_descriptor_is_left())
		return refuse(EMFILE);
	fd = hold(__real_socket(domain, type, protocol));
	descriptor(fd)->is_socket = true;
	if (domain == AF_INET6)
		__real_setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	return fd;
}

int
__wrap_setsockopt(int fd, int level, int name, const void *value,
				  socklen_t size)
{
	Recorded   *call;
	bool		is_window = level == IPPROTO_IP &&
		name == MODEL_IP_LOCAL_PORT_RANGE;
	bool		is_only_v6 = level == IPPROTO_IPV6 && name == IPV6_V6ONLY;
	char		letter = is_window ? 'w' : is_only_v6 ? 'v' :
		level == SOL_SOCKET && name == SO_REUSEADDR ? 'r' : '?';

	if (!model.active)
		return __real_setsockopt(fd, level, name, value, size);

	call = record(SETSOCKOPT, letter, family_of(fd));
	call->option = name;
	if (is_window && size == sizeof(uint32_t))
		memcpy(&descriptor(fd)->wanted_window, value, sizeof(uint32_t));
	if (fails(call))
		return -1;
	if (is_only_v6 && model.host.keeps_only_v6)
		return refuse(EPERM);
	if (!is_window)
		return __real_setsockopt(fd, level, name, value, size);

	if (model.host.no_windows)
		return refuse(ENOPROTOOPT);
	require(size == sizeof(uint32_t), "a window of %d bytes", (int) size);
	memcpy(&descriptor(fd)->window, value, sizeof(uint32_t));
	return 0;
}

int
__wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *size)
{
	Recorded   *call;

	if (!model.active)
		return __real_getsockopt(fd, level, name, value, size);
	call = record(GETSOCKOPT, 'G', family_of(fd));
	call->option = name;
	return fails(call) ? -1 : __real_getsockopt(fd, level, name, value, size);
}

static void
set_port(struct sockaddr_storage *address, int port)
{
	((struct sockaddr_in *) address)->sin_port = htons(port);
}

static int
port_of(const void *address)
{
	return ntohs(((const struct sockaddr_in *) address)->sin_port);
}

/*
 * bind() to port 0: a port that no socket holds, with or without
 * SO_REUSEADDR. It is of the window if that is inside the range
 * (inet_sk_get_local_port_range), and not reserved.
 */
static int
pick_a_port(int fd, struct sockaddr_storage *address, socklen_t size)
{
	static int	drawn = 0;
	uint32_t	window = descriptor(fd)->window;
	int			window_min = window & 0xffff;
	int			window_max = window >> 16;
	int			reusable = is_reusable(fd);
	int			min;
	int			max;
	int			result = -1;

	model_range(&min, &max);
	if (model.host.picks_elsewhere)
		min = 10000, max = 10099;
	else if (window != 0)
	{
		int			range_min = min;
		int			range_max = max;

		if (range_min <= window_min && window_min <= range_max)
			min = window_min;
		if (range_min <= window_max && window_max <= range_max)
			max = window_max;
	}
	if (model.host.slow)
		clock_ns += 2000000;
	if (model.host.nothing_free && !reusable)
		return refuse(EADDRINUSE);

	set_reusable(fd, 0);
	drawn += 7;
	errno = EADDRINUSE;
	for (int i = 0; i <= max - min && result != 0; i++)
	{
		int			port = min + (drawn + i) % (max - min + 1);

		if (model_reserves(port))
			continue;
		set_port(address, port);
		result = __real_bind(fd, (struct sockaddr *) address, size);
		if (result != 0 && errno != EADDRINUSE)
			break;
	}
	if (reusable)
	{
		int			saved_errno = errno;

		set_reusable(fd, 1);
		errno = saved_errno;
	}
	return result;
}

static int
give_named_port(int fd, struct sockaddr_storage *address, socklen_t size)
{
	if (model.named < model.host.names_forbidden)
	{
		if (model.host.forbids_late &&
			__real_bind(fd, (struct sockaddr *) address, size) != 0)
			return -1;
		return refuse(EPERM);
	}
	if (model.host.nothing_free && !is_reusable(fd))
		return refuse(EADDRINUSE);
	if (model.host.renames)
		set_port(address, port_of(address) ^ 1);
	return __real_bind(fd, (struct sockaddr *) address, size);
}

static void
note_answer(const Recorded *call, int fd, int result)
{
	uint32_t	window = descriptor(fd)->wanted_window;
	int			span = window == 0 ? 0 :
		(int) (window >> 16) - (int) (window & 0xffff) + 1;
	bool		forbidden = result != 0 &&
		(errno == EACCES || errno == EPERM);
	bool		in_use = result != 0 && errno == EADDRINUSE;

	if (result == 0)
	{
		model.last_given = *call;
		model.last_window = span;
	}
	/* Another refusal has nothing to do with the port. */
	else if (!in_use && !forbidden)
		return;

	if (call->port == 0 && span == 0)
	{
		model.picks_in_use += in_use;
		model.picks_forbidden += forbidden;
	}
	else if (call->port == 0)
	{
		model.window_ports += in_use && model.named == 0 ? span : 0;
		model.searched = true;
	}
	/* It does not count unless it is used: the pass asks for it again. */
	else if (model.searched && model.shared_one == 0)
		model.shared_one = call->port;
	else if (model.fates[call->port] == NOT_ASKED)
	{
		model.names[model.named++] = call->port;
		model.in_use += in_use;
		model.forbidden += forbidden;
		model.fates[call->port] = result == 0 ? GIVEN : in_use ? IN_USE :
			FORBIDDEN;
	}
}

int
__wrap_bind(int fd, const struct sockaddr *address, socklen_t size)
{
	struct sockaddr_storage changed = {0};
	Recorded   *call;
	int			result;
	int			port = port_of(address);
	int			saved_errno;

	if (!model.active)
		return __real_bind(fd, address, size);

	memcpy(&changed, address, size);
	call = record(BIND, port == 0 ? 'b' : 'B', address->sa_family);
	call->port = port;
	call->reusable = is_reusable(fd);
	if (fails(call))
		result = -1;
	else if (model.host.no_such_address)
		result = refuse(EADDRNOTAVAIL);
	else if (model.host.full)
		result = refuse(EADDRINUSE);
	else if (port == 0 && model.host.forbids_port_0)
		result = refuse(EACCES);
	else if (port == 0)
		result = pick_a_port(fd, &changed, size);
	else
		result = give_named_port(fd, &changed, size);
	saved_errno = errno;
	bind_was_refused = result != 0;
	note_answer(call, fd, result);
	errno = saved_errno;
	return result;
}

/* Another socket listens on the port of one that is about to listen. */
static void
let_a_rival_win(int fd)
{
	struct sockaddr_storage address;
	socklen_t	size = sizeof(address);
	int			rival;

	__real_getsockname(fd, (struct sockaddr *) &address, &size);
	rival = __real_socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	set_reusable(rival, 1);
	require(__real_bind(rival, (struct sockaddr *) &address, size) == 0 &&
			__real_listen(rival, 1) == 0, "no rival on port %d: %s",
			port_of(&address), strerror(errno));
	model.rivals[model.rival_count++] = rival;
}

static int
lose_the_listen(void)
{
	model.listens_lost++;
	/* A window of a call that has named no port. It had none for us. */
	if (model.last_given.port == 0 && model.named == 0)
		model.window_ports += model.last_window;
	return refuse(EADDRINUSE);
}

int
__wrap_listen(int fd, int backlog)
{
	int			result;

	if (!model.active)
		return __real_listen(fd, backlog);
	if (fails(record(LISTEN, 'l', family_of(fd))))
		return errno == EADDRINUSE ? lose_the_listen() : -1;
	if (model.counts[LISTEN] <= model.host.listens_lost)
		return lose_the_listen();
	if (model.rival_count < model.rivals_wanted)
		let_a_rival_win(fd);
	result = __real_listen(fd, backlog);
	if (result != 0 && errno == EADDRINUSE)
		return lose_the_listen();
	return result;
}

int
__wrap_getsockname(int fd, struct sockaddr *address, socklen_t *size)
{
	int			result;

	if (!model.active)
		return __real_getsockname(fd, address, size);
	if (fails(record(GETSOCKNAME, 'g', family_of(fd))))
		return -1;
	result = __real_getsockname(fd, address, size);
	if (model.forge_port_0)
		set_port((struct sockaddr_storage *) address, 0);
	return result;
}

/*
 * Files of /proc, and netlink.
 */

/* One socket of the census in each family. */
static const char net_tcp[] =
"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n"
"   0: 00000000:9C40 00000000:0000 0A 00000000:00000000 00:00000000 00000000\n"
"   1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000\n";
static const char net_tcp6[] =
"  sl  local_address                         remote_address              st\n"
"   0: 00000000000000000000000000000000:9C41 "
"00000000000000000000000000000000:1F90 06 00000000:00000000 03:00000BB8 0\n";

/* Not the address of the call. */
static const char if_inet6[] =
"fe800000000000000000000000000001 02 40 20 80 eth0\n";

int
__wrap_open64(const char *path, int flags, mode_t mode)
{
	Descriptor	file = {.held = true,.whole = true};
	Recorded   *call;
	int			fd;

	if (!model.active)
		return __real_open64(path, flags, mode);

	if (strcmp(path, "/proc/sys/net/ipv4/ip_local_port_range") == 0)
		file.text = model.hidden_range != NULL ? model.hidden_range :
			model.host.range;
	else if (strcmp(path, "/proc/sys/net/ipv4/ip_local_reserved_ports") == 0)
	{
		file.text = model.hidden_list != NULL ? model.hidden_list :
			model.host.reserved;
		file.of_reserved = true;
	}
	else if (strcmp(path, "/proc/thread-self/net/if_inet6") == 0)
	{
		file.text = if_inet6;
		file.whole = false;
	}
	else
	{
		static const char directory[] = "/proc/thread-self/net/";
		size_t		length = sizeof(directory) - 1;

		require(strncmp(path, directory, length) == 0 &&
				(strncmp(path + length, "tcp", 3) == 0 ||
				 strncmp(path + length, "udp", 3) == 0),
				"opens %s", path);
		file.whole = false;
		file.of_ipv6 = path[length + 3] == '6';
		file.text = file.of_ipv6 ? net_tcp6 : net_tcp;
	}

	model.searched = false;
	call = record(OPEN, 'o', 0);
	call->of_reserved = file.of_reserved;
	call->of_ipv6 = file.of_ipv6;
	if (fails(call))
		return -1;
	if (model.host.no_proc)
		return refuse(ENOENT);
	if (no_descriptor_is_left())
	{
		model.lent++;
		return refuse(EMFILE);
	}
	fd = hold(__real_open64("/dev/null", O_RDONLY | O_CLOEXEC));
	*descriptor(fd) = file;
	return fd;
}

ssize_t
__wrap_read(int fd, void *buffer, size_t size)
{
	Descriptor *file;
	Recorded   *call;
	size_t		left;

	if (!model.active)
		return __real_read(fd, buffer, size);

	file = descriptor(fd);
	require(file->held && file->text != NULL, "reads from fd %d", fd);
	call = record(READ, 'i', 0);
	call->of_reserved = file->of_reserved;
	call->of_ipv6 = file->of_ipv6;
	if (fails(call))
		return -1;

	left = strlen(file->text + file->at);
	if (left < size)
		size = left;
	memcpy(buffer, file->text + file->at, size);
	/* A value of /proc/sys is cut off at the end of the buffer. */
	file->at += file->whole ? left : size;
	return size;
}

ssize_t
__wrap_send(int fd, const void *buffer, size_t size, int flags)
{
	struct
	{
		struct nlmsghdr header;
		struct inet_diag_req_v2 request;
	}			asked;
	Descriptor *netlink;

	if (!model.active)
		return __real_send(fd, buffer, size, flags);
	if (fails(record(SEND, 't', 0)))
		return -1;

	require(size >= sizeof(asked), "asks netlink with %d bytes", (int) size);
	memcpy(&asked, buffer, sizeof(asked));
	require(asked.header.nlmsg_len == size &&
			asked.header.nlmsg_type == SOCK_DIAG_BY_FAMILY &&
			asked.header.nlmsg_flags == (NLM_F_REQUEST | NLM_F_DUMP) &&
			(asked.request.sdiag_family == AF_INET ||
			 asked.request.sdiag_family == AF_INET6),
			"asks netlink for something else");
	netlink = descriptor(fd);
	netlink->family = asked.request.sdiag_family;
	netlink->answers = 0;
	return size;
}

/* First a socket, then the end. */
ssize_t
__wrap_recv(int fd, void *buffer, size_t size, int flags)
{
	struct
	{
		struct nlmsghdr header;
		struct inet_diag_msg socket;
	}			answer = {.header.nlmsg_type = SOCK_DIAG_BY_FAMILY};
	Descriptor *netlink;

	if (!model.active)
		return __real_recv(fd, buffer, size, flags);
	if (fails(record(RECV, 'c', 0)))
		return -1;

	netlink = descriptor(fd);
	require(netlink->family != 0, "nothing was asked of netlink");
	if (model.late_answers)
		clock_ns += 1000000000;
	if (model.garbage != NULL)
	{
		memcpy(buffer, model.garbage, model.garbage_length);
		return model.garbage_length;
	}

	answer.header.nlmsg_len = sizeof(answer);
	answer.socket.idiag_family = netlink->family;
	if (netlink->answers++ > 0)
	{
		answer.header.nlmsg_type = NLMSG_DONE;
		answer.header.nlmsg_len = NLMSG_LENGTH(sizeof(int));
	}
	else if (netlink->family == AF_INET)
	{
		answer.socket.idiag_state = TCP_LISTEN;
		answer.socket.id.idiag_sport = htons(RANGE_MIN);
	}
	else
	{
		answer.socket.idiag_state = TCP_TIME_WAIT;
		answer.socket.id.idiag_sport = htons(RANGE_MIN + 1);
		answer.socket.idiag_expires = CENSUS_SECONDS * 1000 - 300;
	}
	require(size >= sizeof(answer), "a buffer of %d bytes", (int) size);
	memcpy(buffer, &answer, answer.header.nlmsg_len);
	return answer.header.nlmsg_len;
}

/* Whatever it returns, the descriptor is closed: close(2). */
int
__wrap_close(int fd)
{
	Recorded   *call;
	bool		failed;
	int			saved_errno;

	if (!model.active)
		return __real_close(fd);

	require(descriptor(fd)->held, "closes fd %d, which is not the library's",
			fd);
	descriptor(fd)->held = false;
	model.held--;
	call = record(CLOSE, 'x', 0);
	call->of_socket = descriptor(fd)->is_socket;
	failed = fails(call);
	saved_errno = errno;
	__real_close(fd);
	errno = failed ? saved_errno : POISON;
	return failed ? -1 : 0;
}

/*
 * Memory, and the clock.
 */

void *
__wrap_mmap(void *start, size_t size, int protection, int flags, int fd,
			off_t offset)
{
	if (model.active)
	{
		if (fails(record(MMAP, 'm', 0)))
			return MAP_FAILED;
		model.mapped++;
	}
	return __real_mmap(start, size, protection, flags, fd, offset);
}

int
__wrap_munmap(void *start, size_t size)
{
	if (model.active)
	{
		record(MUNMAP, 'u', 0);
		model.mapped--;
	}
	return __real_munmap(start, size);
}

/* Both clocks, the one that can be set and the monotonic one. */
int
__wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
	if (!model.active)
		return __real_clock_gettime(clock, now);
	clock_ns += 1000;
	now->tv_sec = clock_ns / 1000000000;
	now->tv_nsec = clock_ns % 1000000000;
	return 0;
}

static bool
memory_is_refused(void)
{
	if (!model.active)
		return false;
	model.allocations++;
	return model.no_memory;
}

void *
__wrap_malloc(size_t size)
{
	return memory_is_refused() ? NULL : __real_malloc(size);
}

void *
__wrap_calloc(size_t count, size_t size)
{
	return memory_is_refused() ? NULL : __real_calloc(count, size);
}

void *
__wrap_realloc(void *memory, size_t size)
{
	return memory_is_refused() ? NULL : __real_realloc(memory, size);
}

int
__wrap_posix_memalign(void **memory, size_t alignment, size_t size)
{
	return memory_is_refused() ? ENOMEM :
		__real_posix_memalign(memory, alignment, size);
}

/* glibc before 2.33 sometimes changed errno there. */
void
__wrap_free(void *memory)
{
	__real_free(memory);
	if (model.active)
		errno = POISON;
}

/*
 * What was called.
 */

#define PATH_SIZE (lengthof(model.recorded) + 1)

const char *
path_taken(void)
{
	static char path[PATH_SIZE];
	int			length = 0;

	for (int at = 0; at < model.recorded_count;)
	{
		int			best = 1;
		int			times = 1;

		/* The unit that is repeated over the longest way from here. */
		for (int unit = 1; unit <= 16; unit++)
		{
			int			repeated = 1;

			while (at + unit * (repeated + 1) <= model.recorded_count)
			{
				bool		same = true;

				for (int i = 0; i < unit && same; i++)
					same = model.recorded[at + i].letter ==
						model.recorded[at + unit * repeated + i].letter;
				if (!same)
					break;
				repeated++;
			}
			if (repeated > 2 && unit * repeated > best * times)
			{
				best = unit;
				times = repeated;
			}
		}
		if (length + best + 16 > (int) sizeof(path))
			break;
		if (times > 1)
			path[length++] = '(';
		for (int i = 0; i < best; i++)
			path[length++] = model.recorded[at + i].letter;
		if (times > 1)
			length += sprintf(path + length, ")%d", times);
		at += best * times;
	}
	path[length] = '\0';
	return path;
}

/* Writes out the repetitions. */
static void
write_out(const char *path, char *to)
{
	char	   *end = to + PATH_SIZE - 1;

	while (*path != '\0')
	{
		const char *unit = path;
		int			length = 1;
		int			times = 1;

		if (*path == '(')
		{
			unit = path + 1;
			length = strcspn(unit, ")");
			times = strtol(unit + length + 1, (char **) &path, 10);
		}
		else
			path++;
		for (; times > 0 && to + length <= end; times--)
		{
			memcpy(to, unit, length);
			to += length;
		}
	}
	*to = '\0';
}

bool
same_path(const char *one, const char *other)
{
	static char first[PATH_SIZE];
	static char second[PATH_SIZE];

	write_out(one, first);
	write_out(other, second);
	return strcmp(first, second) == 0;
}

int
calls_of(CallKind kind, int family)
{
	int			count = 0;

	for (int i = 0; i < model.recorded_count; i++)
		count += model.recorded[i].kind == kind &&
			model.recorded[i].family == family;
	return count;
}
