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
#define IC_LISTENER_OPTIONS_INIT { sizeof(IcListenerOptions), 0, NULL, 0, 0 }

// An empty report: IcListenerReport report = IC_LISTENER_REPORT_INIT;
#define IC_LISTENER_REPORT_INIT \
    { sizeof(IcListenerReport), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
      { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, 0, "" }

// An empty census: IcListenerCensus census = IC_LISTENER_CENSUS_INIT;
#define IC_LISTENER_CENSUS_INIT \
    { sizeof(IcListenerCensus), 0, 0, 0, 0, 0, { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, 0, "" }

// The size of the message in a report or census, its terminating NUL included.
#define IC_LISTENER_MESSAGE_SIZE 256

// The step that failed. Its name is that of the system call, as database logs know it from their "bind: %m".
typedef enum IcListenerStep
{
    // No step failed: success.
    IC_LISTENER_STEP_NONE = 0,
    // A pointer or an option that cannot be used.
    IC_LISTENER_STEP_ARGUMENTS = 1,
    // The address is not numeric or not unicast, or its interface is missing, unknown or not allowed.
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

// Where the port came from.
typedef enum IcListenerPortOrigin
{
    // The call failed.
    IC_LISTENER_PORT_ORIGIN_NONE = 0,
    // No socket held it.
    IC_LISTENER_PORT_ORIGIN_FREE = 1,
    // It was taken with SO_REUSEADDR: it was in TIME_WAIT, under outgoing connections, or bound by a socket that did
    // not listen. (Or it was free: where free ports are rare, free and shared ones are taken alike.)
    IC_LISTENER_PORT_ORIGIN_REUSED = 2,
    // The plain system call of ic_listener_bind(), ic_listener_listen() or ic_listener_connect() succeeded, also on a
    // port that you named; or the port range cannot be read from /proc/sys, and the kernel chose the port.
    IC_LISTENER_PORT_ORIGIN_PICKED_BY_KERNEL = 3,
    // ic_listener_bind() succeeded without a port yet. ic_listener_listen(), ic_listener_connect() or
    // ic_listener_getsockname() will choose one that can be shared.
    IC_LISTENER_PORT_ORIGIN_DEFERRED = 4,
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
    uint32_t size;
    // The backlog for listen(2), which limits it to net.core.somaxconn. 0 means 128. UDP does not use it.
    int32_t backlog;
    // A numeric address of this host: IPv4 ("192.0.2.1"), IPv6 ("2001:db8::1"), IPv4-mapped ("::ffff:192.0.2.1"), or
    // link-local IPv6 with its interface as a name or an index ("fe80::1%eth0", "fe80::1%2"). Names are not resolved.
    // NULL is the wildcard: one IPv6 socket that takes IPv4 too, or an IPv4 socket on a host without IPv6.
    //
    // No other socket can listen on the port of that address. Others may bind the port on other addresses. Two sockets
    // with SO_REUSEPORT can bind the port on the wildcard; connections to this address still reach this socket. With
    // "0.0.0.0" and "::ffff:0.0.0.0" others may bind the port on IPv6, and Linux lets another user take IPv4
    // connections there, by two sockets with SO_REUSEPORT. NULL, "::" and unicast addresses are safe from that.
    const char *address;
    // The lowest port that may be used, 1 to 65535. Set both ends of the range or neither. All ports of the range are
    // used, also those that the host reserves. 0 and 0 mean the host's ephemeral port range
    // (net.ipv4.ip_local_port_range) without its reserved ports (net.ipv4.ip_local_reserved_ports), as the calling
    // thread's network namespace has them.
    int32_t port_min;
    // The highest port that may be used.
    int32_t port_max;
} IcListenerOptions;

// Who holds the ports of a range. Each port counts once, by its strongest holder, in the order of the members: a port
// with a listener and its connections counts as listening. IPv4 and IPv6 on one port are one holder. In the report of
// ic_listener_open_udp() the holders are UDP sockets, bound or connected.
typedef struct IcListenerHolders
{
    // Where the numbers come from: an IcListenerCensusSource. With IC_LISTENER_CENSUS_SOURCE_NONE all are 0.
    int32_t source;
    // 1 if all holders were counted. 0 if half a second of CPU time was not enough.
    int32_t complete;
    // Ports with a listener (LISTEN).
    uint32_t listening;
    // Ports with a bound socket that neither listens nor connects.
    uint32_t bound;
    // Ports with a connection that is open or being made (SYN_SENT, SYN_RECV, ESTABLISHED, CLOSE_WAIT).
    uint32_t connected;
    // Ports with a connection that its program has closed and its peer has not (FIN_WAIT1, FIN_WAIT2, CLOSING,
    // LAST_ACK).
    uint32_t closing;
    // Ports in TIME_WAIT: no program has them, and the kernel keeps them for up to 60 seconds. Those whose socket had
    // SO_REUSEADDR can be listened on; Linux does not show which. After a call that failed they are those without it.
    uint32_t time_wait;
    // Ports without a holder that can be seen. In a census they are free, or bound where the source does not show it
    // (before Linux 6.8), or their connection went on to FIN_WAIT2 or TIME_WAIT at that moment. After a call that
    // failed they are in use.
    uint32_t unseen;
    // Seconds until the first port in TIME_WAIT is free, rounded up; 0 when there is none.
    uint32_t time_wait_next_s;
    // Seconds until all ports in TIME_WAIT are free, rounded up; 0 when there is none.
    uint32_t time_wait_last_s;
} IcListenerHolders;

// What a call did. Start from IC_LISTENER_REPORT_INIT. The call fills it on success and on failure.
typedef struct IcListenerReport
{
    // sizeof(IcListenerReport), as IC_LISTENER_REPORT_INIT sets it. Later versions add members at the end. The library
    // fills what the caller has, and zeroes what it does not know itself. A size below that of version 0.1.0, or above
    // 4096, makes the call fail with EINVAL, and the report stays as it was.
    uint32_t size;
    // The errno of the failure; 0 on success.
    int32_t error;
    // The step that failed, an IcListenerStep; ic_listener_step_name() has its name.
    int32_t step;
    // AF_INET6 or AF_INET: the family of the socket, or of the last one that was tried. 0 when there was none.
    int32_t family;
    // Where the port came from: an IcListenerPortOrigin.
    int32_t origin;
    // The port that ic_listener_open_tcp() or ic_listener_open_udp() gave; else 0.
    int32_t port;
    // The lowest port of the range. 0 when the range was not read: a call that succeeds at once does not need it, and
    // where it cannot be read the kernel picks a port.
    int32_t port_min;
    // The highest port of the range, or 0.
    int32_t port_max;
    // How many ports were tried, with the one that was won. After a pass over the whole range each port counts once.
    uint32_t ports_tried;
    // How many of them were in use (bind: EADDRINUSE).
    uint32_t ports_in_use;
    // How many of them are forbidden (bind: EACCES or EPERM).
    uint32_t ports_forbidden;
    // How many ports of the range the host reserves. They were passed over. 0 when the range was not read.
    uint32_t ports_reserved;
    // How often another socket listened first on a port that this call had bound (listen: EADDRINUSE).
    uint32_t listens_lost;
    // How many of the tried ports have a connection to the destination of ic_listener_connect().
    uint32_t connections_taken;
    // Who holds the ports. A call that fails after it has asked for every port of the range counts them. All 0
    // otherwise.
    struct IcListenerHolders holders;
    // How long the call took, in nanoseconds, with the counting of the holders.
    uint64_t elapsed_ns;
    // One line in English, NUL-terminated, without a newline, fit for errdetail(): how the call succeeded, or why it
    // failed, such as "no port to listen on in 40000-40063: 64 tried, 64 in use: 50 in TIME_WAIT without SO_REUSEADDR
    // (the next is free in 3 s, all in 41 s), 12 connections, 2 listeners". The wording may change: decide by error
    // and step.
    char message[IC_LISTENER_MESSAGE_SIZE];
} IcListenerReport;

// Who holds the ports of a range. Start from IC_LISTENER_CENSUS_INIT. ic_listener_census() fills it.
typedef struct IcListenerCensus
{
    // sizeof(IcListenerCensus), as IC_LISTENER_CENSUS_INIT sets it. Later versions add members at the end; those that
    // this library does not know become 0. A size below that of version 0.1.0, or above 4096, makes the call fail with
    // EINVAL, and the census stays as it was.
    uint32_t size;
    // The errno of the failure; 0 on success.
    int32_t error;
    // The lowest port of the range.
    int32_t port_min;
    // The highest port of the range.
    int32_t port_max;
    // How many ports the range has, without those that the host reserves.
    uint32_t ports;
    // How many the host reserves.
    uint32_t ports_reserved;
    // Who holds them.
    struct IcListenerHolders holders;
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

// Opens a TCP listener on a port of the host's ephemeral port range. It is ic_listener_open_tcp() with the default
// options.
//
// It returns 0 on success. *port is the port in host byte order, 1 to 65535. *fd is a socket that
//   - listens on the wildcard with a backlog of 128: one IPv6 socket that takes IPv4 too (IPV6_V6ONLY is off, whatever
//     net.ipv6.bindv6only says), or an IPv4 socket where the host has no IPv6 or a policy forbids it;
//   - is non-blocking and close-on-exec;
//   - is alone on its port: while it listens, no other socket can bind the port on any address of the host;
//   - has SO_REUSEADDR set, so that the TIME_WAITs of its connections can be listened on.
//
// The caller owns *fd and closes it with close(2).
//
// Three exceptions to being alone: beside an IPv4 socket, others may bind the port on IPv6 (see IcListenerOptions); a
// VRF (vrf(8)) has ports of its own; and TCP_REPAIR, which takes CAP_NET_ADMIN, binds any port.
//
// SO_REUSEADDR is set after listen(2): before, it would let another socket share the port. A connection that completes
// in between does not have it, and its TIME_WAIT keeps the port from listeners for 60 seconds.
//
// It returns -1 on failure and sets errno. *port is 0, *fd is -1, and nothing is left open:
//   EADDRINUSE       no port of the range can be listened on
//   EINVAL           port or fd is NULL (the other one is reset), or both are the same pointer
//   EACCES           every port is forbidden
//   EMFILE, ENFILE, ENOBUFS, ENOMEM, ...  as socket(2), setsockopt(2), bind(2), listen(2) and getsockname(2) set them
//   ENOTRECOVERABLE  a bug of this library, which has written a line to standard error
//
// The call never blocks or sleeps. Free ports go first: the kernel looks for one in small parts of the range, before
// Linux 6.3 among 16 ports, and in a range of up to 64 ports among all. If it finds none, ports are shared: each port
// of the range is asked for once, and again if one was lost or claimed by another caller, or if the range has up to 64
// ports. So a port that another program has bound with SO_REUSEADDR, and does not listen on yet, is taken only where
// free ports are rare.
//
// Any thread and any forked child may make the call; a signal handler may not. Where threads are cancelled
// (pthread_cancel(3)), disable cancellation around it, as around every call of this library. A signal handler that
// interrupts one of them must not leave by longjmp(3). It uses at most 12 KiB of stack. After it no frame of the
// library is left on the stack, so that ereport() may follow.
int setup_listener(int *port,
                   int *fd);

// Opens a TCP listener as the options say. The socket, the promises and the errors are those of setup_listener().
//
// options is NULL for the defaults. report may be NULL; otherwise it is filled on success and on failure, unless its
// size is wrong. More errors, with the step that the report names:
//   EINVAL         "arguments": a size that no version has, a negative backlog, only one of port_min and port_max,
//                  port_min above port_max, or a port above 65535
//   EINVAL         "address": the address is not numeric, not unicast, or link-local without its interface; or its
//                  interface does not exist, or it is not link-local and has one. (The broadcast address of one of the
//                  host's networks is taken, as bind(2) takes it; nobody can connect to it.)
//   ENODEV         "bind": there is no interface of that index
//   EADDRNOTAVAIL  "bind": the address is not one of this host's, or not yet: an IPv6 address is tentative for a
//                  second or more after it was added
//   EAFNOSUPPORT   "socket": the address is an IPv6 one and the host has no IPv6
//   EADDRINUSE     "listen": ports were lost to other sockets that listened first
int ic_listener_open_tcp(const struct IcListenerOptions *options,
                         int *port,
                         int *fd,
                         struct IcListenerReport *report);

// Opens a UDP socket that is alone on its port, for the UDP interconnect. It is non-blocking and close-on-exec. It
// never has SO_REUSEADDR: with it, the kernel would let another socket share the port and give each datagram to one of
// the two. The rest is as in ic_listener_open_tcp(). report->family is the family that the addresses of sendto(2) must
// have.
int ic_listener_open_udp(const struct IcListenerOptions *options,
                         int *port,
                         int *fd,
                         struct IcListenerReport *report);

// bind(2) for your own socket: same arguments, same return value, same errno. It does more for a TCP socket of AF_INET
// or AF_INET6 and port 0. It finds a port that no socket holds, by shorter searches than bind(2).
//
// Where a search of some hundred ports finds none that is free, but one can be shared, this call succeeds. It binds
// the address, and leaves the choice of the port to the call that knows what it is for: ic_listener_listen(),
// ic_listener_connect() or ic_listener_getsockname(). (Shared ports are in TIME_WAIT, under outgoing connections, or
// bound and not listening, each with SO_REUSEADDR.) Until then getsockname(2) shows port 0, and IP_RETOPTS, which
// means nothing to a TCP socket, is set. listen(2) instead of ic_listener_listen() has the kernel search for a free
// port, as bind(2) would have.
//
// Everything else is bind(2): another port, another family, UDP (the kernel's search for it is complete and short),
// sockets with IP_BIND_ADDRESS_NO_PORT, which want no port yet, sockets in TCP_REPAIR mode, and sockets of another
// network namespace than the calling thread's. (Before Linux 5.14 the library cannot see that, and treats them as the
// thread's own.) IP_LOCAL_PORT_RANGE is obeyed. No option of the socket is changed but IP_RETOPTS, which
// ic_listener_listen() and ic_listener_connect() clear.
//
// report may be NULL. On failure errno is bind(2)'s, and the socket is not bound: EADDRINUSE when no port of the range
// can be bound, EINVAL also when the size of the report is wrong. fd stays the caller's.
int ic_listener_bind(int fd,
                     const struct sockaddr *address,
                     socklen_t length,
                     struct IcListenerReport *report);

// listen(2) for your own socket. On a TCP socket it also sets SO_REUSEADDR, so that the TIME_WAITs of its connections
// can be listened on. Call it after ic_listener_bind(), or after bind(2).
//
// It chooses the port of a socket that ic_listener_bind() left without one, or that was never bound if the kernel
// finds none: it claims a port, binds it and listens at once. A port that the socket has is never changed. EADDRINUSE
// stays EADDRINUSE.
//
// report may be NULL. On failure errno is listen(2)'s. If another program listens first on the port that was chosen,
// the call fails with EADDRINUSE, and the socket keeps that port; close it. fd stays the caller's.
int ic_listener_listen(int fd,
                       int backlog,
                       struct IcListenerReport *report);

// getsockname(2) for your own socket. It chooses the port of a socket that ic_listener_bind() left without one, so
// that the address can be published before ic_listener_listen(). That port never changes.
//
// Such a socket has SO_REUSEADDR and listens from then on, so that no other socket can take the port: SO_ACCEPTCONN is
// set, and a peer that connects early is queued instead of refused (IP_RETOPTS stays set on its connection).
// ic_listener_listen() then sets the backlog, and ic_listener_connect() ends the listening first, by shutdown(2).
// Where no port can be had any more, port 0 is shown, and where another program listens first on the one that was
// chosen, that one; ic_listener_listen() will say so. SO_REUSEADDR is set in any case.
int ic_listener_getsockname(int fd,
                            struct sockaddr *address,
                            socklen_t *length);

// connect(2) for your own socket: same arguments, same return value, same errno, EINPROGRESS and EINTR included. It
// does two things more for TCP sockets of AF_INET and AF_INET6.
//
// It sets SO_REUSEADDR before connect(2), so that listeners and other connections can use the port too, now and in
// TIME_WAIT. (For a socket that you connect otherwise, setsockopt(2) does the same, at any time.)
//
// Where connect(2) finds no port (EADDRNOTAVAIL, on a socket without a port), it names one with bind(2) and calls
// connect(2) again. In this way it uses ports that listeners left in TIME_WAIT and ports that others share. It asks
// the kernel first whether the port has a connection to this destination (sock_diag(7)), and claims the port among the
// callers of this library, by a Unix socket with an abstract name that it closes again before it waits. (For that, a
// blocking socket is non-blocking for some microseconds, O_NONBLOCK.) Ports that anybody listens on,
// and ports with a holder without SO_REUSEADDR, cannot be named. Reserved ports are passed over. So is the port of the
// destination if that is this host: the socket would connect to itself. (connect(2) itself may do that; it is left
// alone.) A connection to this destination that is in TIME_WAIT is taken over last, and only where
// net.ipv4.tcp_timestamps is on: timestamps tell old segments from new ones. net.ipv4.tcp_tw_reuse does not matter.
// (Linux refuses to take over a connection whose peer had no timestamps.)
//
// After 16 ports the whole range is looked at. That takes tens of milliseconds where each of 28,232 ports has a
// connection to the destination, ten times as long as the connect(2) that found no port. In a range of more than 64
// ports, after a search that found nothing, or only a TIME_WAIT to take over, the process makes no other towards that
// destination for ten times as long, a second at most; it asks about 16 ports each time. In that time EADDRNOTAVAIL
// may be returned although a port could be used. After a connect(2) that found no port, the first connect(2) of the
// process's next calls is confined to 512 ports (IP_LOCAL_PORT_RANGE, taken off again). If neither that nor 16 ports
// give a connection, connect(2) is called once more for the whole range.
//
// Sockets of another network namespace than the calling thread's get connect(2)'s own answer. (Before Linux 5.14 the
// library cannot see that, and treats them as the thread's own.)
//
// The call is async-signal-safe, as connect(2) is: it waits for no lock, allocates nothing, and uses at most 12 KiB of
// stack. Any thread may make it. It blocks if and only if connect(2) would.
//
// report may be NULL. EADDRNOTAVAIL says that no port was found; then the socket has none, as after connect(2). It
// keeps the port that was named if connect(2) from there fails for another reason, at once or later; if another
// program takes the connection in between; if connections can be seen neither by netlink nor in /proc, and this one
// exists; or if its TIME_WAIT cannot be taken over. (A process with no descriptor left sees neither, and names ports
// of the range that it read last, if the host reserved none then.) fd stays the caller's.
int ic_listener_connect(int fd,
                        const struct sockaddr *address,
                        socklen_t length,
                        struct IcListenerReport *report);

// The second half of ic_listener_connect(), for a caller that makes connect(2) itself because it may wait: for a
// thread that is cancelled, or a handler that leaves by longjmp(3). (Not within this call, which is short: disable
// cancellation around it, and block such a signal.) Call it when connect(2) has said EADDRNOTAVAIL.
//
// It names a port and begins the connection. It does not wait: a blocking socket is non-blocking meanwhile. It returns
// 0 when the connection is made. It returns -1 with errno EINPROGRESS when the connection is being made; then
// connect(2), called again with the same address, waits for it, and says EALREADY if SO_SNDTIMEO expires. It returns
// -1 with errno EADDRNOTAVAIL when no port was found, EINVAL when address is NULL or its length fits no address, or
// another errno of connect(2). report may be NULL.
int ic_listener_begin_connect(int fd,
                              const struct sockaddr *address,
                              socklen_t length,
                              struct IcListenerReport *report);

// Counts who holds the TCP ports that the options allow. A monitor may call it at any time. It binds nothing and
// disturbs no socket.
//
// It counts the sockets that keep a listener from the address in the options; all of them keep one from the wildcard.
// (For "0.0.0.0" every IPv6 connection counts: Linux does not show which of them leave IPv4 alone.)
// options is NULL for the defaults. census is filled on success and on failure, unless its size is wrong.
//
// The call takes about as long as one that finds no port in that range, or two to three times as long where /proc is
// the source. It stops after half a second of CPU time, at which it looks every 256 sockets, and never waits. It maps
// 96 KiB of memory meanwhile (8 more for reserved ports, and 256 while a long list of them is read), has one
// descriptor open at a time, and does not call malloc(3). Where sock_diag is a kernel module that is not loaded, the
// first call loads it, as ss(8) does.
//
// It returns 0, or -1 with errno:
//   EINVAL  census is NULL or has a wrong size, or an option cannot be used
//   ENOENT  the host's port range cannot be read, and the options name none; or netlink is refused, and there is no
//           /proc
//   EACCES, EPERM, EMFILE, ENFILE, ENOMEM, ...  netlink is refused, and so is /proc/net/tcp; or a file cannot be
//           opened; or there is no memory
//   ENOTRECOVERABLE  a bug of this library, which has written a line to standard error
int ic_listener_census(const struct IcListenerOptions *options,
                       struct IcListenerCensus *census);

// The name of a step, such as "bind", for messages of the form "bind: Address already in use". It is never NULL: an
// unknown number gives "unknown". The string is a constant.
const char *ic_listener_step_name(int step);

// The version of the library that is linked, such as "1.2.3"; IC_LISTENER_VERSION is that of the header. The string is
// a constant.
const char *ic_listener_version(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* IC_LISTENER_H */
