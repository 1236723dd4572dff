//! The C ABI, from which `include/ic_listener.h` is generated: the comments here are that header's text, for C readers.
//!
//! Every function resets its outputs, does its work where a panic is caught, and sets errno as the very last thing,
//! when all destructors have run. Rust programs have no use for this module.

use std::any::Any;
use std::ffi::{CStr, c_char, c_int};
use std::fmt::{self, Write};
use std::mem::offset_of;
use std::os::fd::{BorrowedFd, IntoRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::time::{Duration, Instant};

use socket2::{SockAddr, SockAddrStorage};

use crate::drop_in::{bind_fd, connect_fd, listen_fd, without_help};
use crate::error::{Failure, STEP_NAMES};
use crate::listener::Won;
use crate::{
    Attempts, Census, CensusSource, DEFAULT_BACKLOG, DEFAULT_LISTEN_RETRIES, Error, Family, Holders, Options,
    PortOrigin, Step,
};
use crate::{share_port, sys};

/// The size of the message in a report, its terminating NUL included.
pub const IC_LISTENER_MESSAGE_SIZE: usize = 256;

/// A struct said to be larger than this was not initialized, as the kernel has it (copy_struct_from_user).
const LARGEST_STRUCT: usize = 4096;

/// What a listener should be like. Start from IC_LISTENER_OPTIONS_INIT, which has the defaults. The library only reads
/// it, and keeps no pointer to it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct IcListenerOptions {
    /// sizeof(IcListenerOptions), as IC_LISTENER_OPTIONS_INIT sets it. Later versions add members at the end. A newer
    /// library takes the defaults for members that the caller does not have. An older one fails with EINVAL if a member
    /// that it does not know is not zero.
    pub size: usize,
    /// A numeric address of this host: IPv4 ("192.0.2.1"), IPv6 ("2001:db8::1"), IPv4-mapped ("::ffff:192.0.2.1"), or
    /// link-local IPv6 with its interface as a name or an index ("fe80::1%eth0", "fe80::1%2"). Names are not resolved.
    /// NULL is the wildcard: one IPv6 socket that takes IPv4 too, or an IPv4 socket on a host without IPv6.
    ///
    /// The socket is alone on the port of that address, and of the wildcard. Others may bind the port on other
    /// addresses of the host. With "0.0.0.0" and "::ffff:0.0.0.0" they may bind it on IPv6, and Linux lets another user
    /// take IPv4 connections there, by two sockets that have SO_REUSEPORT. NULL, "::" and unicast addresses are safe
    /// from that.
    pub address: *const c_char,
    /// The backlog for listen(2), which limits it to net.core.somaxconn. 0 means 128. For UDP it is checked and not
    /// used.
    pub backlog: c_int,
    /// The lowest port that may be used, 1 to 65535. Set both ends of the range or neither. All ports of the range are
    /// used, also those that the host reserves. 0 and 0 mean the host's ephemeral port range
    /// (net.ipv4.ip_local_port_range) without its reserved ports (net.ipv4.ip_local_reserved_ports), as the calling
    /// thread's network namespace has them.
    pub port_min: c_int,
    /// The highest port that may be used.
    pub port_max: c_int,
    /// How many listens the call may lose when it asks again for ports that it lost before. Then it gives up. 0 means
    /// 256. For UDP it is checked and not used.
    pub listen_retries: c_int,
}

/// The step that failed.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcListenerStep {
    /// No step failed: success.
    None = 0,
    /// A pointer or an option that cannot be used.
    Arguments = 1,
    /// The address is not numeric or not unicast, or its interface is missing, unknown, or one too many.
    Address = 2,
    /// socket(2)
    Socket = 3,
    /// setsockopt(2)
    Setsockopt = 4,
    /// bind(2)
    Bind = 5,
    /// listen(2)
    Listen = 6,
    /// getsockname(2)
    Getsockname = 7,
    /// A bug of the library; errno is ENOTRECOVERABLE.
    Internal = 8,
    /// connect(2)
    Connect = 9,
}

/// How the port was won.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcListenerPortOrigin {
    /// The call failed.
    None = 0,
    /// No socket held it.
    Free = 1,
    /// It was taken with SO_REUSEADDR: it was in TIME_WAIT, under outgoing connections, or bound by a socket that did
    /// not listen. (Or it was free: where free ports are rare, free and shared ones are taken alike.)
    Reused = 2,
    /// The kernel chose it: the system call of a drop-in call needed no help, or the port range cannot be read from
    /// /proc/sys.
    PickedByKernel = 3,
}

/// What a call did. Start from IC_LISTENER_REPORT_INIT. The call fills it on success and on failure.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct IcListenerReport {
    /// sizeof(IcListenerReport), as IC_LISTENER_REPORT_INIT sets it. Later versions add members at the end. The library
    /// fills what the caller has, and zeroes what it does not know itself. A size below that of version 0.1, or above
    /// 4096, makes the call fail with EINVAL, and the report stays as it was.
    pub size: usize,
    /// The errno of the failure; 0 on success.
    pub error: c_int,
    /// The step that failed; ic_listener_step_name() has its name.
    pub step: IcListenerStep,
    /// AF_INET6 or AF_INET: the family of the socket, or of the last one that was tried. 0 when there was none.
    pub family: c_int,
    /// How the port was won.
    pub origin: IcListenerPortOrigin,
    /// The lowest port of the range. 0 when the range was not read: a call that succeeds at once does not need it, and
    /// where it cannot be read the kernel picks a port.
    pub port_min: c_int,
    /// The highest port of the range, or 0.
    pub port_max: c_int,
    /// How many ports were tried, with the one that was won. After a pass over the whole range each port counts once.
    pub ports_tried: u32,
    /// How many of them were in use (bind: EADDRINUSE).
    pub ports_in_use: u32,
    /// How many of them are forbidden (bind: EACCES or EPERM).
    pub ports_forbidden: u32,
    /// How often another socket listened first on a port that this call had bound (listen: EADDRINUSE).
    pub listens_lost: u32,
    /// How long the call took, in nanoseconds, with the census.
    pub elapsed_ns: u64,
    /// One line in English, NUL-terminated, without a newline, fit for errdetail(): how the call succeeded, or why it
    /// failed, such as "no port to listen on in 32768-60999: 28232 tried, 28230 in use, 2 lost to another listener".
    /// When ports are in use it says who holds them, such as "no port to listen on in 40000-40063: 64 tried, 64 in use:
    /// 50 in TIME_WAIT without SO_REUSEADDR (the next is free in 3 s, all in 41 s), 12 connections, 2 listeners". The
    /// wording may change: decide by error and step.
    pub message: [c_char; IC_LISTENER_MESSAGE_SIZE],
    /// Where the census of the holders comes from. A call that fails because ports are in use takes one.
    /// IC_LISTENER_CENSUS_SOURCE_NONE: none was taken, or the holders cannot be seen. Then the members down to
    /// time_wait_last_s are 0.
    pub census_source: IcListenerCensusSource,
    /// 1 when all holders were counted. 0 when half a second of CPU time was not enough.
    pub census_complete: c_int,
    /// How many ports of the range have a listener. Each port counts once, by its strongest holder, in the order of
    /// these members. For a UDP socket the holders are UDP sockets, bound or connected.
    pub ports_listening: u32,
    /// How many have a bound socket that neither listens nor connects.
    pub ports_bound: u32,
    /// How many have a connection that is open or being made.
    pub ports_connected: u32,
    /// How many have a connection that its program has closed and its peer has not.
    pub ports_closing: u32,
    /// How many are in TIME_WAIT without SO_REUSEADDR. (With it they would have been taken.)
    pub ports_time_wait: u32,
    /// How many of the ports in use have no holder that can be seen. Before Linux 6.8 the kernel does not show sockets
    /// that are only bound.
    pub ports_unknown: u32,
    /// In how many seconds the first port in TIME_WAIT is free, rounded up; 0 when there is none.
    pub time_wait_next_s: u32,
    /// In how many seconds all of them are free, rounded up; 0 when there is none.
    pub time_wait_last_s: u32,
    /// On how many ports ic_listener_connect() found a connection to the same destination (connect: EADDRNOTAVAIL).
    pub connections_taken: u32,
    /// How many ports of the range the host reserves. They were passed over.
    pub ports_reserved: u32,
}

/// Where a census comes from.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcListenerCensusSource {
    /// There is no census.
    None = 0,
    /// The kernel, over netlink: sock_diag(7). From Linux 6.8 on it shows sockets that are bound and neither listen nor
    /// connect.
    Netlink = 1,
    /// /proc/net/tcp and /proc/net/tcp6, where netlink is refused. They do not show such sockets.
    Proc = 2,
}

/// Who holds the ports of a range. Start from IC_LISTENER_CENSUS_INIT. ic_listener_census() fills it.
///
/// Each port counts once, by its strongest holder, in the order of the members: a port with a listener and its
/// connections counts as listening. IPv4 and IPv6 on one port are one holder.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct IcListenerCensus {
    /// sizeof(IcListenerCensus), as IC_LISTENER_CENSUS_INIT sets it. Later versions add members at the end; those that
    /// this library does not know become 0. A smaller size, or one above 4096, makes the call fail with EINVAL, and the
    /// census stays as it was.
    pub size: usize,
    /// The errno of the failure; 0 on success.
    pub error: c_int,
    /// Where the census comes from.
    pub source: IcListenerCensusSource,
    /// 1 when all holders were counted. 0 when half a second of CPU time was not enough.
    pub complete: c_int,
    /// The lowest port of the range.
    pub port_min: c_int,
    /// The highest port of the range.
    pub port_max: c_int,
    /// How many ports the range has, without those that the host reserves.
    pub ports: u32,
    /// How many have a listener (LISTEN).
    pub ports_listening: u32,
    /// How many have a bound socket that neither listens nor connects.
    pub ports_bound: u32,
    /// How many have a connection that is open or being made (SYN_SENT, SYN_RECV, ESTABLISHED, CLOSE_WAIT).
    pub ports_connected: u32,
    /// How many have a connection that its program has closed and its peer has not (FIN_WAIT1, FIN_WAIT2, CLOSING,
    /// LAST_ACK).
    pub ports_closing: u32,
    /// How many are in TIME_WAIT: no program has them, and the kernel keeps them for up to 60 seconds. Those whose
    /// socket had SO_REUSEADDR can be listened on. Linux does not show which.
    pub ports_time_wait: u32,
    /// How many have no holder that can be seen: they are free, or bound where the source does not show it.
    pub ports_unheld: u32,
    /// In how many seconds the first port in TIME_WAIT is free, rounded up; 0 when there is none.
    pub time_wait_next_s: u32,
    /// In how many seconds all of them are free, rounded up; 0 when there is none.
    pub time_wait_last_s: u32,
    /// How long the census took, in nanoseconds.
    pub elapsed_ns: u64,
    /// One line in English, NUL-terminated, without a newline, such as "64 ports in 40000-40063: 50 in TIME_WAIT (the
    /// next is free in 3 s, all in 41 s), 12 connections, 2 listeners, 0 without a holder"; or why the call failed. The
    /// wording may change.
    pub message: [c_char; IC_LISTENER_MESSAGE_SIZE],
}

/// Opens a TCP listener on a port of the host's ephemeral port range: ic_listener_open_tcp() with the default options.
///
/// On success it returns 0. *port is the port in host byte order, 1 to 65535. *fd is a socket that
///   - listens on the wildcard with a backlog of 128: one IPv6 socket that takes IPv4 too (IPV6_V6ONLY is off, whatever
///     net.ipv6.bindv6only says), or an IPv4 socket where the host has no IPv6 or a policy forbids it;
///   - is non-blocking and close-on-exec;
///   - is alone on its port: while it listens, no other socket can bind the port on any address of the host;
///   - has SO_REUSEADDR set, so that the TIME_WAITs of its connections can be listened on.
///
/// Where IPv6 is only switched off (net.ipv6.conf.all.disable_ipv6), the socket is an IPv6 one that takes IPv4.
///
/// Three exceptions to being alone: beside an IPv4 socket, others may bind the port on IPv6 (see IcListenerOptions); a
/// VRF (vrf(8)) has ports of its own; and TCP_REPAIR, which takes CAP_NET_ADMIN, binds any port.
///
/// SO_REUSEADDR is set after listen(2): before, it would let another socket share the port. A connection that completes
/// in between does not have it, and its TIME_WAIT keeps the port from listeners for 60 seconds.
///
/// The caller owns *fd and closes it with close(2).
///
/// On failure it returns -1 and sets errno; *port is 0, *fd is -1, and nothing is left open:
///   EADDRINUSE       no port of the range can be listened on
///   EINVAL           port or fd is NULL (the other one is reset), or both are the same pointer
///   EACCES           every port is forbidden
///   EMFILE, ENFILE, ENOBUFS, ENOMEM, ...  as socket(2), setsockopt(2), bind(2), listen(2) and getsockname(2) set them
///   ENOTRECOVERABLE  a bug of this library
///
/// The call never blocks or sleeps. Free ports go first: the kernel looks for one in small parts of the range, before
/// Linux 6.3 among 16 ports, and in a range of up to 64 ports among all. If it finds none, ports are shared: each port
/// of the range is asked for once, and a port that was lost to another socket once more. So a port that another program
/// has bound with SO_REUSEADDR, and does not listen on yet, is taken only where free ports are rare.
///
/// Any thread and any forked child may make the call; a signal handler may not. Where threads are cancelled
/// (pthread_cancel(3)), disable cancellation around it. A signal handler that interrupts it must not leave by
/// longjmp(3). It uses at most 12 KiB of stack. After it no frame of the library is left on the stack, so that
/// ereport() may follow.
///
/// # Safety
///
/// port and fd are NULL or point to an int that may be written.
#[cfg_attr(feature = "c-api", unsafe(no_mangle))]
pub unsafe extern "C" fn setup_listener(port: *mut c_int, fd: *mut c_int) -> c_int {
    // SAFETY: the caller's promise for port and fd is the one asked for; NULL is allowed for the others.
    unsafe { ic_listener_open_tcp(ptr::null(), port, fd, ptr::null_mut()) }
}

/// Opens a TCP listener as the options say. The socket, the promises and the errors are those of setup_listener().
///
/// options is NULL for the defaults. report may be NULL; otherwise it is filled on success and on failure, unless its
/// size is wrong. More errors, with the step that the report names:
///   EINVAL         "arguments": a size that no version has, a negative backlog or listen_retries, only one of port_min
///                  and port_max, port_min above port_max, or a port above 65535
///   EINVAL         "address": the address is not numeric, not unicast (multicast, or the broadcast address of one of
///                  the host's networks), or link-local without its interface; or its interface does not exist, or it
///                  is not link-local and has one
///   EADDRNOTAVAIL  "bind": the address is not one of this host's, or not yet: an IPv6 address is tentative for a
///                  second or more after it was added
///   EAFNOSUPPORT   "socket": the address is an IPv6 one and the host has no IPv6
///   EADDRINUSE     "listen": ports were lost to other sockets that listened first
///
/// # Safety
///
/// port and fd are NULL or point to an int that may be written; options and report are NULL or point to their struct,
/// with its size set; options->address is NULL or points to a NUL-terminated string.
#[cfg_attr(feature = "c-api", unsafe(no_mangle))]
pub unsafe extern "C" fn ic_listener_open_tcp(
    options: *const IcListenerOptions,
    port: *mut c_int,
    fd: *mut c_int,
    report: *mut IcListenerReport,
) -> c_int {
    // SAFETY: the caller's promises are the ones asked for.
    unsafe { open(options, port, fd, report, |options, attempts| options.win_tcp(attempts)) }
}

/// Opens a UDP socket that is alone on its port, for the UDP interconnect. It is non-blocking and close-on-exec. It
/// never has SO_REUSEADDR: with it, the kernel would let another socket share the port and give each datagram to one of
/// the two. The rest is as in ic_listener_open_tcp(); backlog and listen_retries are not used. report->family is the
/// family that the addresses of sendto(2) must have.
///
/// # Safety
///
/// As for ic_listener_open_tcp().
#[cfg_attr(feature = "c-api", unsafe(no_mangle))]
pub unsafe extern "C" fn ic_listener_open_udp(
    options: *const IcListenerOptions,
    port: *mut c_int,
    fd: *mut c_int,
    report: *mut IcListenerReport,
) -> c_int {
    // SAFETY: the caller's promises are the ones asked for.
    unsafe { open(options, port, fd, report, |options, attempts| options.win_udp(attempts)) }
}

/// Lets listeners take the port of an outgoing TCP connection, while it is open and in TIME_WAIT: sets SO_REUSEADDR on
/// its socket. Call it any time between socket(2) and close(2), best before connect(2): until then no listener can have
/// the port. The connection does not change.
///
/// Returns 0, or -1 with errno EBADF (fd is not open), ENOTSOCK, or EPROTOTYPE (fd is not a stream socket; a UDP port
/// that is shared loses datagrams). fd stays the caller's.
#[cfg_attr(feature = "c-api", unsafe(no_mangle))]
pub extern "C" fn ic_listener_share_port(fd: c_int) -> c_int {
    let errno = catch_unwind(|| {
        if fd < 0 {
            return libc::EBADF;
        }
        // SAFETY: not -1, the one value that would be undefined behaviour. Whether the file is open cannot be known; if
        // it is not, or is closed meanwhile, the two system calls say EBADF, and nothing else relies on it.
        let socket = unsafe { BorrowedFd::borrow_raw(fd) };
        share_port(&socket).err().map_or(0, |error| errno_of(&error))
    })
    .unwrap_or(libc::ENOTRECOVERABLE);
    finish(errno)
}

/// bind(2) for a socket that the caller made: same arguments, same return value, same errno. It does more in one case:
/// a TCP socket of AF_INET or AF_INET6, and port 0. There it finds a port that no socket holds, or else one that its
/// holders share: in TIME_WAIT, under outgoing connections, or bound and not listening, each with SO_REUSEADDR. bind(2)
/// finds only the former, and searches longer.
///
/// Everything else is bind(2): another port, another family, UDP (the kernel's search for it is complete and short),
/// and sockets with IP_BIND_ADDRESS_NO_PORT, which want no port yet. IP_LOCAL_PORT_RANGE is obeyed.
///
/// It changes two options of the socket. SO_REUSEADDR is set if the port is a shared one. IP_BIND_ADDRESS_NO_PORT,
/// which means nothing to a bound socket, tells ic_listener_listen() who chose the port: it is set for a port that this
/// call found, and cleared for one that the caller named. (A caller who sets it and then names a port with bind(2) must
/// clear it before ic_listener_listen().)
///
/// report may be NULL. On failure errno is bind(2)'s, and the socket is not bound: EADDRINUSE when no port of the range
/// can be bound, EINVAL also when the size of the report is wrong. fd stays the caller's.
///
/// # Safety
///
/// address is NULL or points to length bytes; report is NULL or points to a report with its size set.
#[cfg_attr(feature = "c-api", unsafe(no_mangle))]
pub unsafe extern "C" fn ic_listener_bind(
    fd: c_int,
    address: *const libc::sockaddr,
    length: libc::socklen_t,
    report: *mut IcListenerReport,
) -> c_int {
    // SAFETY: the caller's promises are the ones asked for; libc's bind() looks at the same bytes.
    unsafe {
        call(fd, Step::Bind, report, |socket, attempts| match sock_addr(address, length) {
            Some(address) => bind_fd(socket, &address, attempts),
            None => of_libc(Step::Bind, libc::bind(fd, address, length)),
        })
    }
}

/// listen(2) for a socket that the caller made. On a TCP socket it also sets SO_REUSEADDR, so that the TIME_WAITs of
/// its connections can be listened on. Call it after ic_listener_bind(), or after bind(2).
///
/// It does more in two cases, both where listen(2) says EADDRINUSE. Another socket listens on a port that
/// ic_listener_bind() chose: then it finds another port and listens there. The socket was never bound, and the kernel
/// finds no port: then it finds one as ic_listener_bind() does. A port that the caller chose is never exchanged.
///
/// The port is exchanged together with the socket: a fresh one takes the old one's place under the same number, as
/// ic_listener_connect() describes. Ask getsockname(2) for the port after this call, not before.
///
/// report may be NULL. On failure errno is listen(2)'s, and the socket may be a fresh one that is not bound. The
/// exchange needs one free descriptor; without it errno is EMFILE. fd stays the caller's.
///
/// # Safety
///
/// report is NULL or points to a report with its size set.
#[cfg_attr(feature = "c-api", unsafe(no_mangle))]
pub unsafe extern "C" fn ic_listener_listen(fd: c_int, backlog: c_int, report: *mut IcListenerReport) -> c_int {
    // SAFETY: the caller's promise is the one asked for.
    unsafe { call(fd, Step::Listen, report, |socket, attempts| listen_fd(socket, backlog, attempts)) }
}

/// connect(2) for a socket that the caller made: same arguments, same return value, same errno, EINPROGRESS and EINTR
/// included. For TCP sockets of AF_INET and AF_INET6 it does two things more.
///
/// It sets SO_REUSEADDR before connect(2), so that listeners and other connections can use the port too, now and in
/// TIME_WAIT.
///
/// Where connect(2) finds no port, it names ports with bind(2) until one gives the connection. (No port: EADDRNOTAVAIL,
/// on a socket without a port or with one that ic_listener_bind() chose, to a destination that has a route.) In this
/// way it can use ports that listeners left in TIME_WAIT and ports that others share, unless they have a connection to
/// this destination. Reserved ports are passed over. So is the port of the destination if that is this host: the socket
/// would connect to itself. (connect(2) itself may do that; it is left alone.)
///
/// The first port is named on the caller's socket. If its connection exists already, the socket is spent: a bound
/// socket cannot be unbound. A fresh one takes its place under the same number (dup3(2)). It has the old one's domain,
/// file status flags and close-on-exec flag, and these options where they are not the default: SO_BINDTODEVICE,
/// SO_BROADCAST, SO_BUSY_POLL, SO_DEBUG, SO_DONTROUTE, SO_INCOMING_CPU, SO_KEEPALIVE, SO_LINGER, SO_MARK,
/// SO_MAX_PACING_RATE, SO_OOBINLINE, SO_PRIORITY, SO_RCVBUF, SO_RCVLOWAT, SO_RCVTIMEO, SO_REUSEADDR, SO_REUSEPORT,
/// SO_SNDBUF, SO_SNDTIMEO, SO_TIMESTAMP, SO_TIMESTAMPNS, SO_ZEROCOPY, IP_BIND_ADDRESS_NO_PORT, IP_FREEBIND,
/// IP_LOCAL_PORT_RANGE, IP_MINTTL, IP_MTU_DISCOVER, IP_RECVERR, IP_TOS, IP_TRANSPARENT, IP_TTL, IP_UNICAST_IF,
/// IPV6_AUTOFLOWLABEL, IPV6_FREEBIND, IPV6_MINHOPCOUNT, IPV6_MTU_DISCOVER, IPV6_TCLASS, IPV6_TRANSPARENT,
/// IPV6_UNICAST_HOPS, IPV6_UNICAST_IF, IPV6_V6ONLY, TCP_CONGESTION, TCP_CORK, TCP_DEFER_ACCEPT, TCP_FASTOPEN,
/// TCP_FASTOPEN_CONNECT, TCP_KEEPCNT, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_LINGER2, TCP_MAXSEG, TCP_NODELAY,
/// TCP_NOTSENT_LOWAT, TCP_SAVE_SYN, TCP_SYNCNT, TCP_THIN_LINEAR_TIMEOUTS, TCP_USER_TIMEOUT, TCP_WINDOW_CLAMP. Not
/// carried over are registrations with epoll(7), attached BPF programs, TCP_MD5SIG and TCP_AO keys, IP options and
/// extension headers, and the owner of O_ASYNC's signals. Duplicates of the descriptor keep the old socket. An option
/// that may not be set again (without CAP_NET_ADMIN, say) makes the call fail with EPERM.
///
/// The call is async-signal-safe, as connect(2) is: it waits for no lock, allocates nothing, and uses at most 8 KiB of
/// stack. Any thread may make it. It blocks if and only if connect(2) would, and connects once: when a signal
/// interrupts a blocking call it returns EINTR, and the connection goes on.
///
/// report may be NULL. On failure fd is still a socket of the same kind, with the address that it was bound to, and
/// with a port only if the caller chose one. EADDRNOTAVAIL says that no port was found. There are two exceptions. The
/// exchange needs one free descriptor: without it errno is EMFILE, and the socket may be bound to the port that was
/// named last. And a non-blocking connection that fails after EINPROGRESS keeps a port that was named for it. fd stays
/// the caller's.
///
/// # Safety
///
/// As for ic_listener_bind().
#[cfg_attr(feature = "c-api", unsafe(no_mangle))]
pub unsafe extern "C" fn ic_listener_connect(
    fd: c_int,
    address: *const libc::sockaddr,
    length: libc::socklen_t,
    report: *mut IcListenerReport,
) -> c_int {
    // SAFETY: the caller's promises are the ones asked for; libc's connect() looks at the same bytes.
    unsafe {
        call(fd, Step::Connect, report, |socket, attempts| match sock_addr(address, length) {
            Some(address) => connect_fd(socket, &address, attempts),
            None => of_libc(Step::Connect, libc::connect(fd, address, length)),
        })
    }
}

/// Counts who holds the TCP ports that the options allow: for a monitor, for a log line, for an operator. It binds
/// nothing and disturbs no socket.
///
/// It counts the sockets that keep a listener from the address in the options; from the wildcard all of them do.
/// options is NULL for the defaults; backlog and listen_retries are checked and not used. census is filled on success
/// and on failure, unless its size is wrong.
///
/// The call takes about as long as one that finds no port in that range, or two to three times as long where /proc is
/// the source. It stops after half a second of CPU time, and never waits. It maps 96 KiB of memory meanwhile, has one
/// descriptor open at a time, and does not call malloc(3). Where sock_diag is a kernel module that is not loaded, the
/// first call loads it, as ss(8) does.
///
/// Returns 0, or -1 with errno:
///   EINVAL  census is NULL or has a wrong size, or an option cannot be used
///   ENOENT  the host's port range cannot be read, and the options name none; or netlink is refused, and there is no
///           /proc
///   EACCES, EPERM, EMFILE, ENFILE, ENOMEM, ...  netlink is refused, and so is /proc/net/tcp; or there is no memory
///   ENOTRECOVERABLE  a bug of this library
///
/// # Safety
///
/// options and census are NULL or point to their struct, with its size set; options->address is NULL or points to a
/// NUL-terminated string.
#[cfg_attr(feature = "c-api", unsafe(no_mangle))]
pub unsafe extern "C" fn ic_listener_census(options: *const IcListenerOptions, census: *mut IcListenerCensus) -> c_int {
    // SAFETY: the caller promises that census is NULL or points to a census with its size set.
    let size = if census.is_null() { 0 } else { unsafe { (*census).size } };
    if !(size_of::<IcListenerCensus>()..=LARGEST_STRUCT).contains(&size) {
        return finish(libc::EINVAL);
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the caller's promise for options is the one asked for.
        let taken = unsafe { options_from_c(options) }.and_then(|options| options.take_census());
        taken.map_err(|failure| Error::new(failure, Attempts::default(), Duration::ZERO))
    }));
    let filled = match &outcome {
        Ok(Ok(taken)) => IcListenerCensus::of(size, taken),
        Ok(Err(error)) => IcListenerCensus::of_failure(size, errno_of(error.io_error()), format_args!("{error}")),
        Err(panic) => IcListenerCensus::of_failure(
            size,
            libc::ENOTRECOVERABLE,
            format_args!("internal error: {}", words_of(panic.as_ref())),
        ),
    };
    // Not later, because free() may change errno (glibc before 2.33).
    drop(outcome);
    // SAFETY: census is not NULL, or its size would have been refused; the caller promises so many bytes.
    unsafe { write_sized(&filled, census, size) };
    finish(filled.error)
}

/// The name of a step, such as "bind", for messages of the form "bind: Address already in use". Never NULL: an unknown
/// number gives "unknown". The string is a constant.
#[cfg_attr(feature = "c-api", unsafe(no_mangle))]
pub extern "C" fn ic_listener_step_name(step: c_int) -> *const c_char {
    let name = usize::try_from(step).ok().and_then(|step| STEP_NAMES.get(step));
    name.map_or(c"unknown".as_ptr(), |name| name.as_ptr())
}

/// The version of the library that is linked, such as "1.2.3"; IC_LISTENER_VERSION is that of the header. The string is
/// a constant.
#[cfg_attr(feature = "c-api", unsafe(no_mangle))]
pub extern "C" fn ic_listener_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The body of both open functions.
///
/// # Safety
///
/// As for [`ic_listener_open_tcp`].
unsafe fn open(
    options: *const IcListenerOptions,
    port: *mut c_int,
    fd: *mut c_int,
    report: *mut IcListenerReport,
    win: impl FnOnce(&Options<'_>, &mut Attempts) -> Result<Won, Failure>,
) -> c_int {
    // SAFETY: the caller promises that each is NULL or may be written.
    unsafe {
        write_if_wanted(port, 0);
        write_if_wanted(fd, -1);
    }
    let act = |attempts: &mut Attempts| {
        if port.is_null() || fd.is_null() {
            return Err(Failure::option("port and fd must not be NULL"));
        }
        if port == fd {
            return Err(Failure::option("port and fd must not be the same pointer"));
        }
        // SAFETY: the caller promises that options is NULL or points to options with the size set.
        let won = win(&unsafe { options_from_c(options) }?, attempts)?;
        // With a socket in hand, which the unwinding has to close.
        if cfg!(ic_listener_test_panic) {
            panic!("asked for by a test");
        }
        // SAFETY: neither is NULL, and nothing can fail from here on.
        unsafe {
            port.write(c_int::from(won.port));
            fd.write(won.socket.into_raw_fd());
        }
        Ok(Success { origin: won.origin, port: Some(won.port) })
    };
    // SAFETY: the caller's promise for report.
    unsafe { run(report, act) }
}

/// The body of the three drop-in calls: the system call by way of `by_strategy`, or as it is where the arguments are
/// such that only the kernel can say what is wrong with them.
///
/// # Safety
///
/// `report` is NULL or points to a report with the size set.
unsafe fn call(
    fd: c_int,
    step: Step,
    report: *mut IcListenerReport,
    by_strategy: impl FnOnce(BorrowedFd<'_>, &mut Attempts) -> Result<PortOrigin, Failure>,
) -> c_int {
    let act = |attempts: &mut Attempts| {
        if fd < 0 {
            return Err(Failure::refused(step, std::io::Error::from_raw_os_error(libc::EBADF)));
        }
        if cfg!(ic_listener_test_panic) {
            panic!("asked for by a test");
        }
        // SAFETY: not -1, the one value that would be undefined behaviour. Whether the file is open cannot be known;
        // if it is not, or is closed meanwhile, the system calls say EBADF, and nothing else relies on it.
        by_strategy(unsafe { BorrowedFd::borrow_raw(fd) }, attempts).map(|origin| Success { origin, port: None })
    };
    // SAFETY: the caller's promise for report.
    unsafe { run(report, act) }
}

/// The address as the system calls take it, if it can be one: None for NULL, and for a length that fits no address.
///
/// # Safety
///
/// `address` is NULL or points to `length` bytes that can be read.
unsafe fn sock_addr(address: *const libc::sockaddr, length: libc::socklen_t) -> Option<SockAddr> {
    let bytes = length as usize;
    if address.is_null() || !(size_of::<libc::sa_family_t>()..=size_of::<libc::sockaddr_storage>()).contains(&bytes) {
        return None;
    }
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: as many bytes can be read, the caller says, and written, as was just checked. Any bytes are an address.
    let address = unsafe {
        ptr::copy_nonoverlapping(address.cast::<u8>(), ptr::from_mut(&mut storage).cast::<u8>(), bytes);
        SockAddr::new(storage, length)
    };
    let least = match c_int::from(address.family()) {
        libc::AF_INET => size_of::<libc::sockaddr_in>(),
        // Without the scope, which came later (RFC 2133).
        libc::AF_INET6 => size_of::<libc::sockaddr_in6>() - size_of::<u32>(),
        _ => 0,
    };
    (bytes >= least).then_some(address)
}

/// What bind() and connect() of libc have returned, for an address that is handed on as it is.
fn of_libc(step: Step, returned: c_int) -> Result<PortOrigin, Failure> {
    without_help(step, if returned == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) })
}

/// What a report says of a success.
#[derive(Clone, Copy)]
struct Success {
    origin: PortOrigin,
    /// None where the call does not know it.
    port: Option<u16>,
}

/// Runs `act`, catches a panic, fills the report, and sets errno. Gives what the call returns.
///
/// A call that succeeds without a report is what most callers pay for: the rest is kept out of its way.
///
/// # Safety
///
/// `report` is NULL or points to a report with the size set.
unsafe fn run(report: *mut IcListenerReport, act: impl FnOnce(&mut Attempts) -> Result<Success, Failure>) -> c_int {
    // SAFETY: the caller's promise.
    let report = unsafe { Report::of(report) };
    let mut attempts = Attempts::default();
    let mut outcome = None;
    let panic = catch_unwind(AssertUnwindSafe(|| {
        outcome = Some(match report {
            Report::Unusable => {
                Err(Failure::option("the size of the report is one that no version of this library has"))
            }
            _ => act(&mut attempts),
        });
    }));
    if let Some(Ok(success)) = outcome {
        if let Report::Wanted { .. } = report {
            report.tell_success(success, &attempts);
        }
        return 0;
    }
    finish(match outcome {
        Some(Err(failure)) => report.tell_failure(failure, attempts),
        _ => report.tell_panic(panic),
    })
}

/// The report of a call that is going on.
enum Report {
    NotWanted,
    /// Its size cannot be.
    Unusable,
    /// So many bytes can be written to it.
    Wanted {
        to: *mut IcListenerReport,
        room: usize,
        start: Instant,
    },
}

impl Report {
    /// # Safety
    ///
    /// `report` is NULL or points to a report with the size set, which can be written as long as the value lives.
    unsafe fn of(report: *mut IcListenerReport) -> Self {
        if report.is_null() {
            return Self::NotWanted;
        }
        // SAFETY: not NULL, so that the caller's promise holds.
        let room = unsafe { (*report).size };
        if (REPORT_SIZE_0_1..=LARGEST_STRUCT).contains(&room) {
            Self::Wanted { to: report, room, start: Instant::now() }
        } else {
            Self::Unusable
        }
    }

    #[cold]
    fn tell_success(&self, success: Success, attempts: &Attempts) {
        self.fill(|elapsed| IcListenerReport::of_success(success, attempts, elapsed));
    }

    /// Gives the errno, which is set when all is freed that was allocated: free() may change it (glibc before 2.33).
    #[cold]
    fn tell_failure(&self, failure: Failure, attempts: Attempts) -> c_int {
        let errno = errno_of(&failure.source);
        self.fill(|elapsed| {
            let error = Error::new(failure, attempts, elapsed);
            IcListenerReport::of_failure(&error, holders_after(&error).as_ref())
        });
        errno
    }

    #[cold]
    fn tell_panic(&self, panic: std::thread::Result<()>) -> c_int {
        if let Err(panic) = panic {
            self.fill(|_| IcListenerReport::of_panic(panic.as_ref()));
        }
        libc::ENOTRECOVERABLE
    }

    fn fill(&self, filled: impl FnOnce(Duration) -> IcListenerReport) {
        if let Self::Wanted { to, room, start } = *self {
            // SAFETY: the promise given to of().
            unsafe { write_sized(&filled(start.elapsed()), to, room) };
        }
    }
}

/// Who holds the ports, where that is why the call failed. What goes wrong here costs the report a few words, no more.
fn holders_after(error: &Error) -> Option<Census> {
    catch_unwind(AssertUnwindSafe(|| error.holders())).ok().flatten()
}

/// Sets errno on failure, when nothing is left to be done that could change it, and gives the value to return.
fn finish(errno: c_int) -> c_int {
    if errno == 0 {
        return 0;
    }
    sys::set_errno(errno);
    -1
}

/// # Safety
///
/// `to` is NULL or may be written.
unsafe fn write_if_wanted(to: *mut c_int, value: c_int) {
    if !to.is_null() {
        // SAFETY: not NULL, so that the caller's promise holds.
        unsafe { to.write(value) };
    }
}

/// # Safety
///
/// `options` is NULL or points to options with the size set, whose address lives for `'a`.
unsafe fn options_from_c<'a>(options: *const IcListenerOptions) -> Result<Options<'a>, Failure> {
    if options.is_null() {
        return Ok(Options::new());
    }
    // SAFETY: not NULL, so that the caller's promise holds.
    let given = unsafe { read_sized(options, OPTIONS_SIZE_0_1) }.ok_or_else(|| {
        Failure::option(
            "the size of the options is below that of version 0.1, or above this library's with something in it",
        )
    })?;
    let mut options = Options::new();
    if !given.address.is_null() {
        // SAFETY: not NULL, so that it points to a terminated string.
        options = options.address_bytes(unsafe { CStr::from_ptr(given.address) }.to_bytes());
    }
    options = options.backlog(if given.backlog == 0 { DEFAULT_BACKLOG } else { given.backlog });
    options = options.listen_retries(match u32::try_from(given.listen_retries) {
        Ok(0) => DEFAULT_LISTEN_RETRIES,
        Ok(retries) => retries,
        Err(_) => return Err(Failure::option("listen_retries is negative")),
    });
    if (given.port_min, given.port_max) != (0, 0) {
        let (Ok(min), Ok(max)) = (u16::try_from(given.port_min), u16::try_from(given.port_max)) else {
            return Err(Failure::option("port_min and port_max must be ports, 1 to 65535"));
        };
        options = options.ports(min..=max);
    }
    Ok(options)
}

/// The sizes of the structs in version 0.1, which they never fall below.
const OPTIONS_SIZE_0_1: usize = offset_of!(IcListenerOptions, listen_retries) + size_of::<c_int>();
const REPORT_SIZE_0_1: usize = offset_of!(IcListenerReport, message) + IC_LISTENER_MESSAGE_SIZE;

/// A struct that begins with its size, from a caller that may be older or newer than this library, as the kernel's
/// copy_struct_from_user() does it: what the caller does not have is zero, what the library does not know must be.
///
/// # Safety
///
/// `from` points to a struct that begins with its size, a size_t, which is at least `least` or is really there to be
/// read. Zeros are a valid T.
unsafe fn read_sized<T>(from: *const T, least: usize) -> Option<T> {
    // SAFETY: the caller's promise for the size.
    let size = unsafe { from.cast::<usize>().read() };
    if !(least..=LARGEST_STRUCT).contains(&size) {
        return None;
    }
    let known = size.min(size_of::<T>());
    // SAFETY: size bytes can be read, the caller says, and as many of them as T has can be written.
    unsafe {
        let unknown = std::slice::from_raw_parts(from.cast::<u8>().add(known), size - known);
        if unknown.iter().any(|&byte| byte != 0) {
            return None;
        }
        let mut known_part = std::mem::zeroed::<T>();
        ptr::copy_nonoverlapping(from.cast::<u8>(), ptr::from_mut(&mut known_part).cast::<u8>(), known);
        Some(known_part)
    }
}

/// Fills as much of a struct that begins with its size as its owner has, and zeroes what this library does not know.
///
/// # Safety
///
/// `to` points to `room` bytes that can be written, a size_t at least.
unsafe fn write_sized<T>(from: &T, to: *mut T, room: usize) {
    let known = room.min(size_of::<T>());
    // SAFETY: the caller's promise; known is no more than either has.
    unsafe {
        ptr::copy_nonoverlapping(ptr::from_ref(from).cast::<u8>(), to.cast::<u8>(), known);
        to.cast::<u8>().add(known).write_bytes(0, room - known);
        to.cast::<usize>().write(room);
    }
}

fn errno_of(error: &std::io::Error) -> c_int {
    error.raw_os_error().unwrap_or(libc::ENOTRECOVERABLE)
}

impl IcListenerReport {
    fn of_success(success: Success, attempts: &Attempts, elapsed: Duration) -> Self {
        let mut report = Self::with_attempts(attempts);
        report.elapsed_ns = nanoseconds(elapsed);
        report.origin = match success.origin {
            PortOrigin::Free => IcListenerPortOrigin::Free,
            PortOrigin::Reused => IcListenerPortOrigin::Reused,
            PortOrigin::PickedByKernel => IcListenerPortOrigin::PickedByKernel,
        };
        let (how, tried) = (how_won(success.origin), attempts.tried());
        match (success.port, tried) {
            (Some(port), _) => set_message(&mut report.message, format_args!("port {port} {how}, {tried} tried")),
            (None, 0) => set_message(&mut report.message, format_args!("the system call needed no help")),
            (None, _) => set_message(&mut report.message, format_args!("the port {how}, {tried} tried")),
        }
        report
    }

    fn of_failure(error: &Error, census: Option<&Census>) -> Self {
        let mut report = Self::with_attempts(error.attempts());
        report.error = errno_of(error.io_error());
        report.step = match error.step() {
            Step::Arguments => IcListenerStep::Arguments,
            Step::Address => IcListenerStep::Address,
            Step::Socket => IcListenerStep::Socket,
            Step::Setsockopt => IcListenerStep::Setsockopt,
            Step::Bind => IcListenerStep::Bind,
            Step::Listen => IcListenerStep::Listen,
            Step::Getsockname => IcListenerStep::Getsockname,
            Step::Connect => IcListenerStep::Connect,
        };
        report.elapsed_ns = nanoseconds(error.elapsed());
        match census {
            None => set_message(&mut report.message, format_args!("{error}")),
            Some(census) => {
                report.elapsed_ns = report.elapsed_ns.saturating_add(nanoseconds(census.elapsed));
                report.set_census(census, census.unknown(error.attempts()));
                set_message(&mut report.message, format_args!("{}", error.explained_by(census)));
            }
        }
        report
    }

    fn of_panic(panic: &(dyn Any + Send)) -> Self {
        let mut report = Self::with_attempts(&Attempts::default());
        report.error = libc::ENOTRECOVERABLE;
        report.step = IcListenerStep::Internal;
        set_message(&mut report.message, format_args!("internal error: {}", words_of(panic)));
        report
    }

    fn with_attempts(attempts: &Attempts) -> Self {
        let (port_min, port_max) = attempts.range().map_or((0, 0), |range| (*range.start(), *range.end()));
        Self {
            size: size_of::<Self>(),
            error: 0,
            step: IcListenerStep::None,
            family: match attempts.family() {
                None => libc::AF_UNSPEC,
                Some(Family::Ipv4) => libc::AF_INET,
                Some(Family::Ipv6) => libc::AF_INET6,
            },
            origin: IcListenerPortOrigin::None,
            port_min: port_min.into(),
            port_max: port_max.into(),
            ports_tried: attempts.tried(),
            ports_in_use: attempts.in_use(),
            ports_forbidden: attempts.forbidden(),
            listens_lost: attempts.listens_lost(),
            elapsed_ns: 0,
            message: [0; IC_LISTENER_MESSAGE_SIZE],
            connections_taken: attempts.connections_taken(),
            ports_reserved: attempts.reserved(),
            census_source: IcListenerCensusSource::None,
            census_complete: 0,
            ports_listening: 0,
            ports_bound: 0,
            ports_connected: 0,
            ports_closing: 0,
            ports_time_wait: 0,
            ports_unknown: 0,
            time_wait_next_s: 0,
            time_wait_last_s: 0,
        }
    }

    fn set_census(&mut self, census: &Census, unknown: u32) {
        let Holders { listening, bound, connected, closing, time_wait, time_wait_next_s, time_wait_last_s } =
            census.holders;
        *self = Self {
            census_source: source_for_c(census.source),
            census_complete: census.complete.into(),
            ports_listening: listening,
            ports_bound: bound,
            ports_connected: connected,
            ports_closing: closing,
            ports_time_wait: time_wait,
            ports_unknown: unknown,
            time_wait_next_s,
            time_wait_last_s,
            ..*self
        };
    }
}

fn how_won(origin: PortOrigin) -> &'static str {
    match origin {
        PortOrigin::Free => "was free",
        PortOrigin::Reused => "was reused",
        PortOrigin::PickedByKernel => "was picked by the kernel",
    }
}

impl IcListenerCensus {
    fn of(size: usize, census: &Census) -> Self {
        let Holders { listening, bound, connected, closing, time_wait, time_wait_next_s, time_wait_last_s } =
            census.holders;
        let mut filled = Self {
            source: source_for_c(census.source),
            complete: census.complete.into(),
            port_min: (*census.range.start()).into(),
            port_max: (*census.range.end()).into(),
            ports: census.ports,
            ports_listening: listening,
            ports_bound: bound,
            ports_connected: connected,
            ports_closing: closing,
            ports_time_wait: time_wait,
            ports_unheld: census.unheld(),
            time_wait_next_s,
            time_wait_last_s,
            elapsed_ns: nanoseconds(census.elapsed),
            ..Self::none(size)
        };
        set_message(&mut filled.message, format_args!("{census}"));
        filled
    }

    fn of_failure(size: usize, error: c_int, message: fmt::Arguments<'_>) -> Self {
        let mut filled = Self { error, ..Self::none(size) };
        set_message(&mut filled.message, message);
        filled
    }

    fn none(size: usize) -> Self {
        Self {
            size,
            error: 0,
            source: IcListenerCensusSource::None,
            complete: 0,
            port_min: 0,
            port_max: 0,
            ports: 0,
            ports_listening: 0,
            ports_bound: 0,
            ports_connected: 0,
            ports_closing: 0,
            ports_time_wait: 0,
            ports_unheld: 0,
            time_wait_next_s: 0,
            time_wait_last_s: 0,
            elapsed_ns: 0,
            message: [0; IC_LISTENER_MESSAGE_SIZE],
        }
    }
}

fn source_for_c(source: CensusSource) -> IcListenerCensusSource {
    match source {
        CensusSource::Netlink => IcListenerCensusSource::Netlink,
        CensusSource::Proc => IcListenerCensusSource::Proc,
    }
}

/// What a panic said.
fn words_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown")
}

fn set_message(to: &mut [c_char; IC_LISTENER_MESSAGE_SIZE], message: fmt::Arguments<'_>) {
    let mut line = Line { to, length: 0 };
    // A line that is too long is cut; there is nobody to tell.
    let _ = line.write_fmt(message);
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Writes into a C string that was all zeros, and leaves its last byte so.
struct Line<'a> {
    to: &'a mut [c_char; IC_LISTENER_MESSAGE_SIZE],
    length: usize,
}

impl Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.to[self.length..IC_LISTENER_MESSAGE_SIZE - 1];
        let fits = (0..=text.len().min(room.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        for (to, from) in room.iter_mut().zip(text[..fits].bytes()) {
            *to = from as c_char;
        }
        self.length += fits;
        if fits == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message as a C program reads it.
    fn message(pieces: &[&str]) -> String {
        let mut message = [0; IC_LISTENER_MESSAGE_SIZE];
        struct Pieces<'a>(&'a [&'a str]);
        impl fmt::Display for Pieces<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|piece| f.write_str(piece))
            }
        }
        set_message(&mut message, format_args!("{}", Pieces(pieces)));
        let end = message.iter().position(|&byte| byte == 0).expect("the message is terminated");
        assert!(message[end..].iter().all(|&byte| byte == 0), "something stands behind the end");
        String::from_utf8(message[..end].iter().map(|&byte| byte as u8).collect()).expect("no character is cut in two")
    }

    #[test]
    fn a_message_that_is_too_long_is_cut_at_its_end() {
        let text = |length: usize| "0123456789".chars().cycle().take(length).collect::<String>();
        for length in [0, 1, 254, 255] {
            assert_eq!(message(&[&text(length)]), text(length));
        }
        for length in [256, 257, 1000] {
            assert_eq!(message(&[&text(length)]), text(255));
        }
        // In pieces: what does not fit ends the line, and nothing shorter follows it.
        assert_eq!(message(&[&text(250), "12345", "6"]), text(250) + "12345");
        assert_eq!(message(&[&text(250), "123456", "7"]), text(250) + "12345");
        // Of more than one byte: whole or not at all.
        assert_eq!(message(&[&text(253), "\u{e9}"]), text(253) + "\u{e9}");
        assert_eq!(message(&[&text(254), "\u{e9}"]), text(254));
        assert_eq!(message(&[&text(254), "\u{e9}", "x"]), text(254));
    }
}
