/*
 * ic_listener.h
 *     Listener ports for database backends: TCP and UDP sockets on the host's
 *     ephemeral port range.
 *
 * Link with what `pkg-config --libs ic_listener` says.
 *
 * Written by cbindgen from src/ (make header).
 *
 * Copyright the ic-listener authors. SPDX-License-Identifier: Apache-2.0
 */

#ifndef IC_LISTENER_H
#define IC_LISTENER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

// The version of this header. ic_listener_version() returns that of the library.
#define IC_LISTENER_VERSION "0.1.0"
#define IC_LISTENER_VERSION_MAJOR 0
#define IC_LISTENER_VERSION_MINOR 1
#define IC_LISTENER_VERSION_PATCH 0

// The default options: IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
#define IC_LISTENER_OPTIONS_INIT { sizeof(IcListenerOptions), NULL, 0, 0, 0, 0 }

// An empty report: IcListenerReport report = IC_LISTENER_REPORT_INIT;
#define IC_LISTENER_REPORT_INIT \
    { sizeof(IcListenerReport), 0, IC_LISTENER_STEP_NONE, 0, IC_LISTENER_PORT_ORIGIN_NONE, \
      0, 0, 0, 0, 0, 0, 0, "", \
      IC_LISTENER_CENSUS_SOURCE_NONE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

// An empty census: IcListenerCensus census = IC_LISTENER_CENSUS_INIT;
#define IC_LISTENER_CENSUS_INIT \
    { sizeof(IcListenerCensus), 0, IC_LISTENER_CENSUS_SOURCE_NONE, 0, 0, 0, \
      0, 0, 0, 0, 0, 0, 0, 0, 0, 0, "" }

// The size of the message in a report, its terminating NUL included.
#define IC_LISTENER_MESSAGE_SIZE 256

// The step that failed.
typedef enum IcListenerStep
{
    // No step failed: success.
    IC_LISTENER_STEP_NONE = 0,
    // A pointer or an option that cannot be used.
    IC_LISTENER_STEP_ARGUMENTS = 1,
    // The address is not numeric or not unicast, or its interface is missing, unknown, or one too many.
    IC_LISTENER_STEP_ADDRESS = 2,
    // socket(2)
    IC_LISTENER_STEP_SOCKET = 3,
    // setsockopt(2)
    IC_LISTENER_STEP_SETSOCKOPT = 4,
    // bind(2)
    IC_LISTENER_STEP_BIND = 5,
    // listen(2)
    IC_LISTENER_STEP_LISTEN = 6,
    // getsockname(2)
    IC_LISTENER_STEP_GETSOCKNAME = 7,
    // A bug of the library; errno is ENOTRECOVERABLE.
    IC_LISTENER_STEP_INTERNAL = 8,
    // connect(2)
    IC_LISTENER_STEP_CONNECT = 9,
} IcListenerStep;

// How the port was won.
typedef enum IcListenerPortOrigin
{
    // The call failed.
    IC_LISTENER_PORT_ORIGIN_NONE = 0,
    // No socket held it.
    IC_LISTENER_PORT_ORIGIN_FREE = 1,
    // It was taken with SO_REUSEADDR: it was in TIME_WAIT, under outgoing connections, or bound by a socket that did
    // not listen. (Or it was free: where free ports are rare, free and shared ones are taken alike.)
    IC_LISTENER_PORT_ORIGIN_REUSED = 2,
    // The kernel chose it: the system call of a drop-in call needed no help, or the port range cannot be read from
    // /proc/sys.
    IC_LISTENER_PORT_ORIGIN_PICKED_BY_KERNEL = 3,
} IcListenerPortOrigin;

// Where a census comes from.
typedef enum IcListenerCensusSource
{
    // There is no census.
    IC_LISTENER_CENSUS_SOURCE_NONE = 0,
    // The kernel, over netlink: sock_diag(7). From Linux 6.8 on it shows sockets that are bound and neither listen nor
    // connect.
    IC_LISTENER_CENSUS_SOURCE_NETLINK = 1,
    // /proc/net/tcp and /proc/net/tcp6, where netlink is refused. They do not show such sockets.
    IC_LISTENER_CENSUS_SOURCE_PROC = 2,
} IcListenerCensusSource;

// What a listener should be like. Start from IC_LISTENER_OPTIONS_INIT, which has the defaults. The library only reads
// it, and keeps no pointer to it.
typedef struct IcListenerOptions
{
    // sizeof(IcListenerOptions), as IC_LISTENER_OPTIONS_INIT sets it. Later versions add members at the end. A newer
    // library takes the defaults for members that the caller does not have. An older one fails with EINVAL if a member
    // that it does not know is not zero.
    size_t size;
    // A numeric address of this host: IPv4 ("192.0.2.1"), IPv6 ("2001:db8::1"), IPv4-mapped ("::ffff:192.0.2.1"), or
    // link-local IPv6 with its interface as a name or an index ("fe80::1%eth0", "fe80::1%2"). Names are not resolved.
    // NULL is the wildcard: one IPv6 socket that takes IPv4 too, or an IPv4 socket on a host without IPv6.
    //
    // The socket is alone on the port of that address, and of the wildcard. Others may bind the port on other
    // addresses of the host. With "0.0.0.0" and "::ffff:0.0.0.0" they may bind it on IPv6, and Linux lets another user
    // take IPv4 connections there, by two sockets that have SO_REUSEPORT. NULL, "::" and unicast addresses are safe
    // from that.
    const char *address;
    // The backlog for listen(2), which limits it to net.core.somaxconn. 0 means 128. For UDP it is checked and not
    // used.
    int backlog;
    // The lowest port that may be used, 1 to 65535. Set both ends of the range or neither. All ports of the range are
    // used, also those that the host reserves. 0 and 0 mean the host's ephemeral port range
    // (net.ipv4.ip_local_port_range) without its reserved ports (net.ipv4.ip_local_reserved_ports), as the calling
    // thread's network namespace has them.
    int port_min;
    // The highest port that may be used.
    int port_max;
    // How many listens the call may lose when it asks again for ports that it lost before. Then it gives up. 0 means
    // 256. For UDP it is checked and not used.
    int listen_retries;
} IcListenerOptions;

// What a call did. Start from IC_LISTENER_REPORT_INIT. The call fills it on success and on failure.
typedef struct IcListenerReport
{
    // sizeof(IcListenerReport), as IC_LISTENER_REPORT_INIT sets it. Later versions add members at the end. The library
    // fills what the caller has, and zeroes what it does not know itself. A size below that of version 0.1, or above
    // 4096, makes the call fail with EINVAL, and the report stays as it was.
    size_t size;
    // The errno of the failure; 0 on success.
    int error;
    // The step that failed; ic_listener_step_name() has its name.
    enum IcListenerStep step;
    // AF_INET6 or AF_INET: the family of the socket, or of the last one that was tried. 0 when there was none.
    int family;
    // How the port was won.
    enum IcListenerPortOrigin origin;
    // The lowest port of the range. 0 when the range was not read: a call that succeeds at once does not need it, and
    // where it cannot be read the kernel picks a port.
    int port_min;
    // The highest port of the range, or 0.
    int port_max;
    // How many ports were tried, with the one that was won. After a pass over the whole range each port counts once.
    uint32_t ports_tried;
    // How many of them were in use (bind: EADDRINUSE).
    uint32_t ports_in_use;
    // How many of them are forbidden (bind: EACCES or EPERM).
    uint32_t ports_forbidden;
    // How often another socket listened first on a port that this call had bound (listen: EADDRINUSE).
    uint32_t listens_lost;
    // How long the call took, in nanoseconds, with the census.
    uint64_t elapsed_ns;
    // One line in English, NUL-terminated, without a newline, fit for errdetail(): how the call succeeded, or why it
    // failed, such as "no port to listen on in 32768-60999: 28232 tried, 28230 in use, 2 lost to another listener".
    // When ports are in use it says who holds them, such as "no port to listen on in 40000-40063: 64 tried, 64 in use:
    // 50 in TIME_WAIT without SO_REUSEADDR (the next is free in 3 s, all in 41 s), 12 connections, 2 listeners". The
    // wording may change: decide by error and step.
    char message[IC_LISTENER_MESSAGE_SIZE];
    // Where the census of the holders comes from. A call that fails because ports are in use takes one.
    // IC_LISTENER_CENSUS_SOURCE_NONE: none was taken, or the holders cannot be seen. Then the members down to
    // time_wait_last_s are 0.
    enum IcListenerCensusSource census_source;
    // 1 when all holders were counted. 0 when half a second of CPU time was not enough.
    int census_complete;
    // How many ports of the range have a listener. Each port counts once, by its strongest holder, in the order of
    // these members. For a UDP socket the holders are UDP sockets, bound or connected.
    uint32_t ports_listening;
    // How many have a bound socket that neither listens nor connects.
    uint32_t ports_bound;
    // How many have a connection that is open or being made.
    uint32_t ports_connected;
    // How many have a connection that its program has closed and its peer has not.
    uint32_t ports_closing;
    // How many are in TIME_WAIT without SO_REUSEADDR. (With it they would have been taken.)
    uint32_t ports_time_wait;
    // How many of the ports in use have no holder that can be seen. Before Linux 6.8 the kernel does not show sockets
    // that are only bound.
    uint32_t ports_unknown;
    // In how many seconds the first port in TIME_WAIT is free, rounded up; 0 when there is none.
    uint32_t time_wait_next_s;
    // In how many seconds all of them are free, rounded up; 0 when there is none.
    uint32_t time_wait_last_s;
    // On how many ports ic_listener_connect() found a connection to the same destination (connect: EADDRNOTAVAIL).
    uint32_t connections_taken;
    // How many ports of the range the host reserves. They were passed over.
    uint32_t ports_reserved;
} IcListenerReport;

// Who holds the ports of a range. Start from IC_LISTENER_CENSUS_INIT. ic_listener_census() fills it.
//
// Each port counts once, by its strongest holder, in the order of the members: a port with a listener and its
// connections counts as listening. IPv4 and IPv6 on one port are one holder.
typedef struct IcListenerCensus
{
    // sizeof(IcListenerCensus), as IC_LISTENER_CENSUS_INIT sets it. Later versions add members at the end; those that
    // this library does not know become 0. A smaller size, or one above 4096, makes the call fail with EINVAL, and the
    // census stays as it was.
    size_t size;
    // The errno of the failure; 0 on success.
    int error;
    // Where the census comes from.
    enum IcListenerCensusSource source;
    // 1 when all holders were counted. 0 when half a second of CPU time was not enough.
    int complete;
    // The lowest port of the range.
    int port_min;
    // The highest port of the range.
    int port_max;
    // How many ports the range has, without those that the host reserves.
    uint32_t ports;
    // How many have a listener (LISTEN).
    uint32_t ports_listening;
    // How many have a bound socket that neither listens nor connects.
    uint32_t ports_bound;
    // How many have a connection that is open or being made (SYN_SENT, SYN_RECV, ESTABLISHED, CLOSE_WAIT).
    uint32_t ports_connected;
    // How many have a connection that its program has closed and its peer has not (FIN_WAIT1, FIN_WAIT2, CLOSING,
    // LAST_ACK).
    uint32_t ports_closing;
    // How many are in TIME_WAIT: no program has them, and the kernel keeps them for up to 60 seconds. Those whose
    // socket had SO_REUSEADDR can be listened on. Linux does not show which.
    uint32_t ports_time_wait;
    // How many have no holder that can be seen: they are free, or bound where the source does not show it.
    uint32_t ports_unheld;
    // In how many seconds the first port in TIME_WAIT is free, rounded up; 0 when there is none.
    uint32_t time_wait_next_s;
    // In how many seconds all of them are free, rounded up; 0 when there is none.
    uint32_t time_wait_last_s;
    // How long the census took, in nanoseconds.
    uint64_t elapsed_ns;
    // One line in English, NUL-terminated, without a newline, such as "64 ports in 40000-40063: 50 in TIME_WAIT (the
    // next is free in 3 s, all in 41 s), 12 connections, 2 listeners, 0 without a holder"; or why the call failed. The
    // wording may change.
    char message[IC_LISTENER_MESSAGE_SIZE];
} IcListenerCensus;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Opens a TCP listener on a port of the host's ephemeral port range: ic_listener_open_tcp() with the default options.
//
// On success it returns 0. *port is the port in host byte order, 1 to 65535. *fd is a socket that
//   - listens on the wildcard with a backlog of 128: one IPv6 socket that takes IPv4 too (IPV6_V6ONLY is off, whatever
//     net.ipv6.bindv6only says), or an IPv4 socket where the host has no IPv6 or a policy forbids it;
//   - is non-blocking and close-on-exec;
//   - is alone on its port: while it listens, no other socket can bind the port on any address of the host;
//   - has SO_REUSEADDR set, so that the TIME_WAITs of its connections can be listened on.
//
// Where IPv6 is only switched off (net.ipv6.conf.all.disable_ipv6), the socket is an IPv6 one that takes IPv4.
//
// Three exceptions to being alone: beside an IPv4 socket, others may bind the port on IPv6 (see IcListenerOptions); a
// VRF (vrf(8)) has ports of its own; and TCP_REPAIR, which takes CAP_NET_ADMIN, binds any port.
//
// SO_REUSEADDR is set after listen(2): before, it would let another socket share the port. A connection that completes
// in between does not have it, and its TIME_WAIT keeps the port from listeners for 60 seconds.
//
// The caller owns *fd and closes it with close(2).
//
// On failure it returns -1 and sets errno; *port is 0, *fd is -1, and nothing is left open:
//   EADDRINUSE       no port of the range can be listened on
//   EINVAL           port or fd is NULL (the other one is reset), or both are the same pointer
//   EACCES           every port is forbidden
//   EMFILE, ENFILE, ENOBUFS, ENOMEM, ...  as socket(2), setsockopt(2), bind(2), listen(2) and getsockname(2) set them
//   ENOTRECOVERABLE  a bug of this library
//
// The call never blocks or sleeps. Free ports go first: the kernel looks for one in small parts of the range, before
// Linux 6.3 among 16 ports, and in a range of up to 64 ports among all. If it finds none, ports are shared: each port
// of the range is asked for once, and a port that was lost to another socket once more. So a port that another program
// has bound with SO_REUSEADDR, and does not listen on yet, is taken only where free ports are rare.
//
// Any thread and any forked child may make the call; a signal handler may not. Where threads are cancelled
// (pthread_cancel(3)), disable cancellation around it. A signal handler that interrupts it must not leave by
// longjmp(3). It uses at most 12 KiB of stack. After it no frame of the library is left on the stack, so that
// ereport() may follow.
//
// port and fd are NULL or point to an int that may be written.
int setup_listener(int *port,
                   int *fd);

// Opens a TCP listener as the options say. The socket, the promises and the errors are those of setup_listener().
//
// options is NULL for the defaults. report may be NULL; otherwise it is filled on success and on failure, unless its
// size is wrong. More errors, with the step that the report names:
//   EINVAL         "arguments": a size that no version has, a negative backlog or listen_retries, only one of port_min
//                  and port_max, port_min above port_max, or a port above 65535
//   EINVAL         "address": the address is not numeric, not unicast (multicast, or the broadcast address of one of
//                  the host's networks), or link-local without its interface; or its interface does not exist, or it
//                  is not link-local and has one
//   EADDRNOTAVAIL  "bind": the address is not one of this host's, or not yet: an IPv6 address is tentative for a
//                  second or more after it was added
//   EAFNOSUPPORT   "socket": the address is an IPv6 one and the host has no IPv6
//   EADDRINUSE     "listen": ports were lost to other sockets that listened first
//
// port and fd are NULL or point to an int that may be written; options and report are NULL or point to their struct,
// with its size set; options->address is NULL or points to a NUL-terminated string.
int ic_listener_open_tcp(const struct IcListenerOptions *options,
                         int *port,
                         int *fd,
                         struct IcListenerReport *report);

// Opens a UDP socket that is alone on its port, for the UDP interconnect. It is non-blocking and close-on-exec. It
// never has SO_REUSEADDR: with it, the kernel would let another socket share the port and give each datagram to one of
// the two. The rest is as in ic_listener_open_tcp(); backlog and listen_retries are not used. report->family is the
// family that the addresses of sendto(2) must have.
//
// As for ic_listener_open_tcp().
int ic_listener_open_udp(const struct IcListenerOptions *options,
                         int *port,
                         int *fd,
                         struct IcListenerReport *report);

// Lets listeners take the port of an outgoing TCP connection, while it is open and in TIME_WAIT: sets SO_REUSEADDR on
// its socket. Call it any time between socket(2) and close(2), best before connect(2): until then no listener can have
// the port. The connection does not change.
//
// Returns 0, or -1 with errno EBADF (fd is not open), ENOTSOCK, or EPROTOTYPE (fd is not a stream socket; a UDP port
// that is shared loses datagrams). fd stays the caller's.
int ic_listener_share_port(int fd);

// bind(2) for a socket that the caller made: same arguments, same return value, same errno. It does more in one case:
// a TCP socket of AF_INET or AF_INET6, and port 0. There it finds a port that no socket holds, or else one that its
// holders share: in TIME_WAIT, under outgoing connections, or bound and not listening, each with SO_REUSEADDR. bind(2)
// finds only the former, and searches longer.
//
// Everything else is bind(2): another port, another family, UDP (the kernel's search for it is complete and short),
// and sockets with IP_BIND_ADDRESS_NO_PORT, which want no port yet. IP_LOCAL_PORT_RANGE is obeyed.
//
// It changes two options of the socket. SO_REUSEADDR is set if the port is a shared one. IP_BIND_ADDRESS_NO_PORT,
// which means nothing to a bound socket, tells ic_listener_listen() who chose the port: it is set for a port that this
// call found, and cleared for one that the caller named. (A caller who sets it and then names a port with bind(2) must
// clear it before ic_listener_listen().)
//
// report may be NULL. On failure errno is bind(2)'s, and the socket is not bound: EADDRINUSE when no port of the range
// can be bound, EINVAL also when the size of the report is wrong. fd stays the caller's.
//
// address is NULL or points to length bytes; report is NULL or points to a report with its size set.
int ic_listener_bind(int fd,
                     const struct sockaddr *address,
                     socklen_t length,
                     struct IcListenerReport *report);

// listen(2) for a socket that the caller made. On a TCP socket it also sets SO_REUSEADDR, so that the TIME_WAITs of
// its connections can be listened on. Call it after ic_listener_bind(), or after bind(2).
//
// It does more in two cases, both where listen(2) says EADDRINUSE. Another socket listens on a port that
// ic_listener_bind() chose: then it finds another port and listens there. The socket was never bound, and the kernel
// finds no port: then it finds one as ic_listener_bind() does. A port that the caller chose is never exchanged.
//
// The port is exchanged together with the socket: a fresh one takes the old one's place under the same number, as
// ic_listener_connect() describes. Ask getsockname(2) for the port after this call, not before.
//
// report may be NULL. On failure errno is listen(2)'s, and the socket may be a fresh one that is not bound. The
// exchange needs one free descriptor; without it errno is EMFILE. fd stays the caller's.
//
// report is NULL or points to a report with its size set.
int ic_listener_listen(int fd,
                       int backlog,
                       struct IcListenerReport *report);

// connect(2) for a socket that the caller made: same arguments, same return value, same errno, EINPROGRESS and EINTR
// included. For TCP sockets of AF_INET and AF_INET6 it does two things more.
//
// It sets SO_REUSEADDR before connect(2), so that listeners and other connections can use the port too, now and in
// TIME_WAIT.
//
// Where connect(2) finds no port, it names ports with bind(2) until one gives the connection. (No port: EADDRNOTAVAIL,
// on a socket without a port or with one that ic_listener_bind() chose, to a destination that has a route.) In this
// way it can use ports that listeners left in TIME_WAIT and ports that others share, unless they have a connection to
// this destination. Reserved ports are passed over. So is the port of the destination if that is this host: the socket
// would connect to itself. (connect(2) itself may do that; it is left alone.)
//
// The first port is named on the caller's socket. If its connection exists already, the socket is spent: a bound
// socket cannot be unbound. A fresh one takes its place under the same number (dup3(2)). It has the old one's domain,
// file status flags and close-on-exec flag, and these options where they are not the default: SO_BINDTODEVICE,
// SO_BROADCAST, SO_BUSY_POLL, SO_DEBUG, SO_DONTROUTE, SO_INCOMING_CPU, SO_KEEPALIVE, SO_LINGER, SO_MARK,
// SO_MAX_PACING_RATE, SO_OOBINLINE, SO_PRIORITY, SO_RCVBUF, SO_RCVLOWAT, SO_RCVTIMEO, SO_REUSEADDR, SO_REUSEPORT,
// SO_SNDBUF, SO_SNDTIMEO, SO_TIMESTAMP, SO_TIMESTAMPNS, SO_ZEROCOPY, IP_BIND_ADDRESS_NO_PORT, IP_FREEBIND,
// IP_LOCAL_PORT_RANGE, IP_MINTTL, IP_MTU_DISCOVER, IP_RECVERR, IP_TOS, IP_TRANSPARENT, IP_TTL, IP_UNICAST_IF,
// IPV6_AUTOFLOWLABEL, IPV6_FREEBIND, IPV6_MINHOPCOUNT, IPV6_MTU_DISCOVER, IPV6_TCLASS, IPV6_TRANSPARENT,
// IPV6_UNICAST_HOPS, IPV6_UNICAST_IF, IPV6_V6ONLY, TCP_CONGESTION, TCP_CORK, TCP_DEFER_ACCEPT, TCP_FASTOPEN,
// TCP_FASTOPEN_CONNECT, TCP_KEEPCNT, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_LINGER2, TCP_MAXSEG, TCP_NODELAY,
// TCP_NOTSENT_LOWAT, TCP_SAVE_SYN, TCP_SYNCNT, TCP_THIN_LINEAR_TIMEOUTS, TCP_USER_TIMEOUT, TCP_WINDOW_CLAMP. Not
// carried over are registrations with epoll(7), attached BPF programs, TCP_MD5SIG and TCP_AO keys, IP options and
// extension headers, and the owner of O_ASYNC's signals. Duplicates of the descriptor keep the old socket. An option
// that may not be set again (without CAP_NET_ADMIN, say) makes the call fail with EPERM.
//
// The call is async-signal-safe, as connect(2) is: it waits for no lock, allocates nothing, and uses at most 8 KiB of
// stack. Any thread may make it. It blocks if and only if connect(2) would, and connects once: when a signal
// interrupts a blocking call it returns EINTR, and the connection goes on.
//
// report may be NULL. On failure fd is still a socket of the same kind, with the address that it was bound to, and
// with a port only if the caller chose one. EADDRNOTAVAIL says that no port was found. There are two exceptions. The
// exchange needs one free descriptor: without it errno is EMFILE, and the socket may be bound to the port that was
// named last. And a non-blocking connection that fails after EINPROGRESS keeps a port that was named for it. fd stays
// the caller's.
//
// As for ic_listener_bind().
int ic_listener_connect(int fd,
                        const struct sockaddr *address,
                        socklen_t length,
                        struct IcListenerReport *report);

// Counts who holds the TCP ports that the options allow: for a monitor, for a log line, for an operator. It binds
// nothing and disturbs no socket.
//
// It counts the sockets that keep a listener from the address in the options; from the wildcard all of them do.
// options is NULL for the defaults; backlog and listen_retries are checked and not used. census is filled on success
// and on failure, unless its size is wrong.
//
// The call takes about as long as one that finds no port in that range, or two to three times as long where /proc is
// the source. It stops after half a second of CPU time, and never waits. It maps 96 KiB of memory meanwhile, has one
// descriptor open at a time, and does not call malloc(3). Where sock_diag is a kernel module that is not loaded, the
// first call loads it, as ss(8) does.
//
// Returns 0, or -1 with errno:
//   EINVAL  census is NULL or has a wrong size, or an option cannot be used
//   ENOENT  the host's port range cannot be read, and the options name none; or netlink is refused, and there is no
//           /proc
//   EACCES, EPERM, EMFILE, ENFILE, ENOMEM, ...  netlink is refused, and so is /proc/net/tcp; or there is no memory
//   ENOTRECOVERABLE  a bug of this library
//
// options and census are NULL or point to their struct, with its size set; options->address is NULL or points to a
// NUL-terminated string.
int ic_listener_census(const struct IcListenerOptions *options,
                       struct IcListenerCensus *census);

// The name of a step, such as "bind", for messages of the form "bind: Address already in use". Never NULL: an unknown
// number gives "unknown". The string is a constant.
const char *ic_listener_step_name(int step);

// The version of the library that is linked, such as "1.2.3"; IC_LISTENER_VERSION is that of the header. The string is
// a constant.
const char *ic_listener_version(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* IC_LISTENER_H */
