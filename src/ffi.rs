//! The C ABI, from which `include/ic_listener.h` is generated: the comments here are that header's text, for C readers.
//!
//! Every function resets its outputs, does its work where a panic is caught, and sets errno as the very last thing, when
//! all destructors have run. Rust programs have no use for this module.

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

/// What a listener should be like. Initialize it with IC_LISTENER_OPTIONS_INIT, which stands for the defaults, and set what
/// should differ. The library only reads it, and keeps no pointer to it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct IcListenerOptions {
    /// sizeof(IcListenerOptions), as IC_LISTENER_OPTIONS_INIT sets it. The struct only grows at its end. A library that is
    /// newer than the caller takes the defaults for what the caller does not have. One that is older takes what it knows,
    /// and fails with EINVAL where the rest is not zero.
    pub size: usize,
    /// A numeric address of this host: IPv4 ("192.0.2.1"), IPv6 ("2001:db8::1"), IPv4-mapped ("::ffff:192.0.2.1"), or
    /// link-local IPv6 with its interface as a name or an index ("fe80::1%eth0", "fe80::1%2"). Names are never resolved.
    /// NULL is the wildcard: one IPv6 socket that takes IPv4 too, or an IPv4 socket on a host without IPv6.
    ///
    /// With an address, the port is the socket's there, and on the wildcard. Other addresses of the host are free for
    /// others. So is IPv6 beside "0.0.0.0" and "::ffff:0.0.0.0": and there, Linux lets another user take connections of
    /// IPv4 as well, with two sockets that have SO_REUSEPORT. NULL and "::" are safe from that, and so are addresses that
    /// are no wildcard.
    pub address: *const c_char,
    /// The backlog for listen(2), which cuts it to net.core.somaxconn. 0 means 128. UDP checks it and does not use it.
    pub backlog: c_int,
    /// The lowest port that may be used, 1 to 65535; set both ends of the range or neither. Exactly these ports are used,
    /// those included that the host reserves. 0 and 0 mean the host's ephemeral port range (net.ipv4.ip_local_port_range)
    /// without its reserved ports (net.ipv4.ip_local_reserved_ports), as they are in the calling thread's network namespace.
    pub port_min: c_int,
    /// The highest port that may be used.
    pub port_max: c_int,
    /// How many times the call may lose a port to another listener when it looks at such ports again, before it gives up.
    /// 0 means 256. UDP checks it and does not use it.
    pub listen_retries: c_int,
}

/// The step that failed.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcListenerStep {
    /// None did: success.
    None = 0,
    /// A pointer or an option that cannot be used.
    Arguments = 1,
    /// The address is not numeric, not unicast, or its interface is missing, unknown, or not its to have.
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
    /// It was not: failure.
    None = 0,
    /// Nobody held it.
    Free = 1,
    /// It was taken with SO_REUSEADDR: it may have been in TIME_WAIT, in use by outgoing connections, or bound by a socket
    /// that was not listening. (Or free: when free ports are rare, free and shareable ones are taken alike.)
    Reused = 2,
    /// The kernel picked it: the system call of a drop-in call needed no help, or the ephemeral port range cannot be read
    /// from /proc/sys.
    PickedByKernel = 3,
}

/// What a call did. Initialize it with IC_LISTENER_REPORT_INIT; the call fills it, whether it succeeds or fails. Only size
/// has to be set before.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct IcListenerReport {
    /// sizeof(IcListenerReport), as IC_LISTENER_REPORT_INIT sets it. The struct only grows at its end; it is filled as far
    /// as the caller has it, and what the library does not know is zeroed. A size below the one of version 0.1 makes the
    /// call fail with EINVAL, and the report is left as it was.
    pub size: usize,
    /// The errno of the failure; 0 on success.
    pub error: c_int,
    /// The step that failed; ic_listener_step_name() has its name.
    pub step: IcListenerStep,
    /// AF_INET6 or AF_INET: the family of the socket, or of the last one that was tried. 0 when it did not come to that.
    pub family: c_int,
    /// How the port was won.
    pub origin: IcListenerPortOrigin,
    /// The lowest port of the range that was tried. 0 when it was not read: a call that succeeds at once does not need it,
    /// and where it cannot be read the kernel picks a port.
    pub port_min: c_int,
    /// The highest port of that range, or 0.
    pub port_max: c_int,
    /// How many ports were looked at, the one that was won included. After a pass over the whole range: each counted once.
    pub ports_tried: u32,
    /// How many of them were in use (bind: EADDRINUSE).
    pub ports_in_use: u32,
    /// How many were refused for want of privilege (bind: EACCES or EPERM).
    pub ports_forbidden: u32,
    /// How often another socket was first to listen on a port this call had bound (listen: EADDRINUSE).
    pub listens_lost: u32,
    /// How long the call took, in nanoseconds, the census included.
    pub elapsed_ns: u64,
    /// One line in English, NUL-terminated, without a newline, fit for errdetail(). Why the call failed, for example
    /// "no port to listen on in 32768-60999: 28232 tried, 28230 in use, 2 lost to another listener", or how it succeeded.
    /// When ports are in use it says by whom, for example "no port to listen on in 40000-40063: 64 tried, 64 in use: 50
    /// in TIME_WAIT without SO_REUSEADDR (the next is free in 3 s, all in 41 s), 12 connections, 2 listeners".
    /// Its wording may change: decide by error and step.
    pub message: [c_char; IC_LISTENER_MESSAGE_SIZE],
    /// Where the census of the holders comes from. It is taken after a call has failed because ports were in use.
    /// IC_LISTENER_CENSUS_SOURCE_NONE when none was taken, or the holders cannot be seen; what follows is 0 then.
    pub census_source: IcListenerCensusSource,
    /// 1 when every holder was counted. 0 when half a second of CPU time did not suffice.
    pub census_complete: c_int,
    /// On how many ports of the range a socket listens. A port is counted once, by the strongest of its holders, in the
    /// order of these members; see IcListenerCensus. For a UDP socket the holders are UDP sockets, bound or connected.
    pub ports_listening: u32,
    /// On how many a socket is bound, and neither listens nor connects.
    pub ports_bound: u32,
    /// How many have a connection that a program has, or is making.
    pub ports_connected: u32,
    /// How many have a connection that its program has closed, and its peer has not.
    pub ports_closing: u32,
    /// How many are in TIME_WAIT. They are the ones without SO_REUSEADDR: the others could have been taken.
    pub ports_time_wait: u32,
    /// On how many of the ports in use nobody was seen. Before Linux 6.8 the kernel does not show who is only bound.
    pub ports_unknown: u32,
    /// In how many seconds the first of the ports in TIME_WAIT is free, rounded up; 0 when there is none. It is worth
    /// waiting for.
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
    /// There is none.
    None = 0,
    /// The kernel, over netlink: sock_diag(7). Linux 6.8 and later show sockets that are bound and neither listen nor
    /// connect.
    Netlink = 1,
    /// /proc/net/tcp and /proc/net/tcp6, because netlink is refused. They never show such sockets.
    Proc = 2,
}

/// Who holds the ports of a range. Initialize it with IC_LISTENER_CENSUS_INIT; ic_listener_census() fills it. Only size
/// has to be set before.
///
/// A port is counted once, by the strongest of its holders, in the order of the members: a port with a listener and its
/// connections counts as listening. IPv4 and IPv6 on one port are one holder.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct IcListenerCensus {
    /// sizeof(IcListenerCensus), as IC_LISTENER_CENSUS_INIT sets it. The struct grows at its end only. A program with a
    /// later header may have a larger one: members that this library does not know become 0. When the size is smaller,
    /// or above 4096, the call fails with EINVAL and leaves the census as it was.
    pub size: usize,
    /// The errno of the failure; 0 on success.
    pub error: c_int,
    /// Who said so.
    pub source: IcListenerCensusSource,
    /// 1 when every holder was counted. 0 when half a second of CPU time did not suffice.
    pub complete: c_int,
    /// The lowest port of the range that was counted.
    pub port_min: c_int,
    /// The highest port of that range.
    pub port_max: c_int,
    /// How many ports it has, those not counted that the host reserves.
    pub ports: u32,
    /// On how many of them a socket listens (LISTEN).
    pub ports_listening: u32,
    /// On how many of them a socket is bound, and neither listens nor connects.
    pub ports_bound: u32,
    /// How many of them have a connection that a program has, or is making (SYN_SENT, SYN_RECV, ESTABLISHED,
    /// CLOSE_WAIT).
    pub ports_connected: u32,
    /// How many of them have a connection that its program has closed, and its peer has not (FIN_WAIT1, FIN_WAIT2,
    /// CLOSING, LAST_ACK).
    pub ports_closing: u32,
    /// How many of them are in TIME_WAIT: nobody has them, and the kernel keeps them for up to 60 seconds. Those whose
    /// sockets had SO_REUSEADDR can be listened on all the same. Linux does not show which have it.
    pub ports_time_wait: u32,
    /// On how many of them nobody was seen: they are free, or bound where the source does not show it.
    pub ports_unheld: u32,
    /// In how many seconds the first of the ports in TIME_WAIT is free, rounded up; 0 when there is none.
    pub time_wait_next_s: u32,
    /// In how many seconds all of them are free, rounded up; 0 when there is none.
    pub time_wait_last_s: u32,
    /// How long the census took, in nanoseconds.
    pub elapsed_ns: u64,
    /// One line in English, NUL-terminated, without a newline, such as "64 ports in 40000-40063: 50 in TIME_WAIT (the
    /// next is free in 3 s, all in 41 s), 12 connections, 2 listeners, 0 without a holder"; or why the call failed. Its
    /// wording may change.
    pub message: [c_char; IC_LISTENER_MESSAGE_SIZE],
}

/// Opens a TCP listener on a port of the host's ephemeral port range: ic_listener_open_tcp() with the default options.
///
/// On success it returns 0; *port is the port in host byte order, 1 to 65535, and *fd is a socket that
///   - listens on the wildcard address with a backlog of 128: one IPv6 socket that takes IPv4 too (IPV6_V6ONLY is off,
///     whatever net.ipv6.bindv6only says), or an IPv4 socket on a host without IPv6, or where a policy forbids IPv6;
///   - is non-blocking and close-on-exec;
///   - is alone on its port: nobody else can bind it on any address of the host while the socket listens;
///   - has SO_REUSEADDR set, so that connections it accepted leave ports in TIME_WAIT that can be listened on again.
///
/// Where IPv6 is there and switched off (net.ipv6.conf.all.disable_ipv6), the socket is an IPv6 one all the same, and takes
/// IPv4.
///
/// No socket option lets others bind the port, but for TCP_REPAIR, which takes CAP_NET_ADMIN. In a VRF (vrf(8)) the port is
/// another one, and others may have it there. On an IPv4 socket, IPv6 is free for others: see IcListenerOptions.
///
/// SO_REUSEADDR is set after listen(2), so that nobody can share the port before it. A connection that completes in
/// between does not have it. Its TIME_WAIT keeps the port from listeners for 60 seconds.
///
/// The caller owns *fd and closes it with close(2).
///
/// On failure it returns -1 and sets errno; *port is 0, *fd is -1, and nothing is left open:
///   EADDRINUSE       no port of the range can be listened on
///   EINVAL           port or fd is NULL (the other one is reset all the same), or both are the same pointer
///   EACCES           the ports may not be bound: every one was refused
///   EMFILE, ENFILE, ENOBUFS, ENOMEM, ...  as socket(2), setsockopt(2), bind(2), listen(2) and getsockname(2) set them
///   ENOTRECOVERABLE  a bug of this library
///
/// The call never blocks or sleeps. Free ports go first: the kernel looks for one in small parts of the range, before Linux
/// 6.3 among 16 ports, and in a range of up to 64 ports among all. When it finds none, ports are shared, and each port of
/// the range is asked for once; a port that was lost to another socket is asked for again. So a port that somebody has
/// bound with SO_REUSEADDR, and does not listen on yet, is taken from him only where free ones are rare.
///
/// The call may be made from any thread and in a forked child, not from a signal handler; where threads are cancelled
/// (pthread_cancel(3)), with cancellation disabled. A signal handler that interrupts it must not leave by longjmp(3). It
/// uses at most 12 KiB of stack. When it has returned, no frame of the library is left on the stack, so that ereport() may
/// follow.
///
/// # Safety
///
/// port and fd are NULL or point to an int that may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setup_listener(port: *mut c_int, fd: *mut c_int) -> c_int {
    // SAFETY: the caller's promise for port and fd is the one asked for; NULL is allowed for the others.
    unsafe { ic_listener_open_tcp(ptr::null(), port, fd, ptr::null_mut()) }
}

/// Opens a TCP listener as the options say; see setup_listener() for the socket, the errors and the promises.
///
/// options may be NULL, which stands for the defaults. report may be NULL; if not, it is filled on success and on failure,
/// unless its size is wrong. More errors than those of setup_listener():
///   EINVAL         an option cannot be used (step "arguments"): a size that no version has, a negative
///                  backlog or listen_retries, only one of port_min and port_max, port_min above port_max, a port above
///                  65535; or the address is not numeric, not unicast (multicast, or the broadcast address of one of
///                  the host's networks), link-local without its interface, or names an interface that is not there
///                  or not its to have (step "address")
///   EADDRNOTAVAIL  the address is not one of this host's (step "bind"), or not yet: an IPv6 address is tentative for a
///                  second or more after it was added
///   EAFNOSUPPORT   the address is an IPv6 one and the host has no IPv6 (step "socket")
///   EADDRINUSE     with step "listen": ports were lost to other sockets that listened first
///
/// # Safety
///
/// port and fd are NULL or point to an int that may be written; options and report are NULL or point to their struct, with
/// its size set; options->address is NULL or points to a NUL-terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ic_listener_open_tcp(
    options: *const IcListenerOptions,
    port: *mut c_int,
    fd: *mut c_int,
    report: *mut IcListenerReport,
) -> c_int {
    // SAFETY: the caller's promises are the ones asked for.
    unsafe { open(options, port, fd, report, |options, attempts| options.win_tcp(attempts)) }
}

/// Opens a UDP socket that is alone on its port, as the UDP interconnect wants it: non-blocking and close-on-exec, and
/// never with SO_REUSEADDR, because the kernel would let another such socket share the port and give each datagram to one
/// of the two. Options, outputs, errors and promises are those of ic_listener_open_tcp(); backlog and listen_retries are not
/// used. report->family tells the family of the socket, which its sendto() calls have to match.
///
/// # Safety
///
/// As for ic_listener_open_tcp().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ic_listener_open_udp(
    options: *const IcListenerOptions,
    port: *mut c_int,
    fd: *mut c_int,
    report: *mut IcListenerReport,
) -> c_int {
    // SAFETY: the caller's promises are the ones asked for.
    unsafe { open(options, port, fd, report, |options, attempts| options.win_udp(attempts)) }
}

/// Lets listeners take the port of an outgoing TCP connection, while the connection lasts and while it is in TIME_WAIT, by
/// setting SO_REUSEADDR on its socket. Call it any time between socket(2) and close(2), before connect(2) for preference:
/// until the call the port is out of reach. The connection itself does not change.
///
/// Returns 0, or -1 with errno EBADF (fd is not open), ENOTSOCK, or EPROTOTYPE (not a stream socket: a UDP port that may be
/// shared loses datagrams). fd stays the caller's.
#[unsafe(no_mangle)]
pub extern "C" fn ic_listener_share_port(fd: c_int) -> c_int {
    let errno = catch_unwind(|| {
        if fd < 0 {
            return libc::EBADF;
        }
        // SAFETY: not -1, the one value that would be undefined behaviour. Whether the file is open cannot be known; if it
        // is not, or is closed meanwhile, the two system calls say EBADF, and nothing else relies on it.
        let socket = unsafe { BorrowedFd::borrow_raw(fd) };
        share_port(&socket).err().map_or(0, |error| errno_of(&error))
    })
    .unwrap_or(libc::ENOTRECOVERABLE);
    finish(errno)
}

/// bind(2) for a socket that the caller made: same arguments, same return value, same errno. It does more in one case:
/// a TCP socket of AF_INET or AF_INET6, port 0. There, the port is one that nobody holds, or else one that its holders share:
/// in TIME_WAIT, under outgoing connections, or bound and not listening, all of them with SO_REUSEADDR. bind(2) finds the
/// former only, and searches longer.
///
/// Everything else is bind(2) as it is: another port, another family, UDP (the kernel's search for it is complete and short),
/// and sockets with IP_BIND_ADDRESS_NO_PORT, which want no port yet. IP_LOCAL_PORT_RANGE is obeyed.
///
/// Two options change: SO_REUSEADDR is set when the port is a shared one, and IP_BIND_ADDRESS_NO_PORT, which means nothing
/// to a bound socket, tells ic_listener_listen() whose choice the port was: set for a port that this call found, cleared for
/// one that the caller named. (Who sets it himself and names a port with bind(2) has to clear it before
/// ic_listener_listen().)
///
/// report may be NULL. On failure errno is bind(2)'s, and the socket is unbound as it was: EADDRINUSE when no port of the
/// range can be had, EINVAL also for a report with a size that is too small. fd stays the caller's.
///
/// # Safety
///
/// address is NULL or points to length bytes; report is NULL or points to a report with its size set.
#[unsafe(no_mangle)]
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

/// listen(2) for a socket that the caller made, and SO_REUSEADDR on it if it is a TCP socket: what its connections leave in
/// TIME_WAIT can then be listened on again. Call it after ic_listener_bind(), or after bind(2).
///
/// It does more in two cases, both where listen(2) says EADDRINUSE. Another socket listens on a port that ic_listener_bind()
/// chose: then another port is found, and listened on. The socket was never bound, and the kernel finds no port for it: then
/// one is found as ic_listener_bind() does. A port that the caller chose is never exchanged.
///
/// A port can be exchanged only together with the socket. The fresh one takes the old one's place under the same number, as
/// ic_listener_connect() describes. getsockname(2) has the port that came out; ask after this call, not before.
///
/// report may be NULL. On failure errno is listen(2)'s; the socket may be a fresh one by then, not bound. One descriptor
/// has to be free for the exchange, or errno is EMFILE. fd stays the caller's.
///
/// # Safety
///
/// report is NULL or points to a report with its size set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ic_listener_listen(fd: c_int, backlog: c_int, report: *mut IcListenerReport) -> c_int {
    // SAFETY: the caller's promise is the one asked for.
    unsafe { call(fd, Step::Listen, report, |socket, attempts| listen_fd(socket, backlog, attempts)) }
}

/// connect(2) for a socket that the caller made: same arguments, same return value, same errno, EINPROGRESS and EINTR
/// included. Two things are more, both for TCP sockets of AF_INET and AF_INET6 only.
///
/// SO_REUSEADDR is set before connect(2), so that listeners and other connections can use the port too, now and in TIME_WAIT.
///
/// Where connect(2) finds no port (EADDRNOTAVAIL on a socket without one, or with one that ic_listener_bind() chose, and
/// there is a way to the destination), ports are named with bind(2) until one gives the connection: those that listeners
/// left in TIME_WAIT, and those that others share, if no connection to this destination exists from there. Reserved ports
/// are passed over, and the port of the destination when that is this host: the socket would connect to itself.
/// (connect(2) itself may do so; what it does is left alone.)
///
/// The first port is named on the caller's socket. When its connection exists already, the socket is spent, because a bound
/// socket cannot be unbound, and a fresh one takes its place under the same number (dup3(2)). It has the old one's domain,
/// file status flags and close-on-exec flag, and these options where they are not the default: SO_BINDTODEVICE, SO_BROADCAST,
/// SO_BUSY_POLL, SO_DEBUG, SO_DONTROUTE, SO_INCOMING_CPU, SO_KEEPALIVE, SO_LINGER, SO_MARK, SO_MAX_PACING_RATE, SO_OOBINLINE,
/// SO_PRIORITY, SO_RCVBUF, SO_RCVLOWAT, SO_RCVTIMEO, SO_REUSEADDR, SO_REUSEPORT, SO_SNDBUF, SO_SNDTIMEO, SO_TIMESTAMP,
/// SO_TIMESTAMPNS, SO_ZEROCOPY, IP_BIND_ADDRESS_NO_PORT, IP_FREEBIND, IP_LOCAL_PORT_RANGE, IP_MINTTL, IP_MTU_DISCOVER,
/// IP_RECVERR, IP_TOS, IP_TRANSPARENT, IP_TTL, IP_UNICAST_IF, IPV6_AUTOFLOWLABEL, IPV6_FREEBIND, IPV6_MINHOPCOUNT,
/// IPV6_MTU_DISCOVER, IPV6_TCLASS, IPV6_TRANSPARENT, IPV6_UNICAST_HOPS, IPV6_UNICAST_IF, IPV6_V6ONLY, TCP_CONGESTION, TCP_CORK,
/// TCP_DEFER_ACCEPT, TCP_FASTOPEN, TCP_FASTOPEN_CONNECT, TCP_KEEPCNT, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_LINGER2, TCP_MAXSEG,
/// TCP_NODELAY, TCP_NOTSENT_LOWAT, TCP_SAVE_SYN, TCP_SYNCNT, TCP_THIN_LINEAR_TIMEOUTS, TCP_USER_TIMEOUT, TCP_WINDOW_CLAMP.
/// What cannot be carried over: registrations with epoll(7), attached BPF programs, TCP_MD5SIG and TCP_AO keys, IP options
/// and extension headers, the owner of O_ASYNC's signals, and duplicates of the descriptor, which keep the old socket. An
/// option that may not be set again (for want of CAP_NET_ADMIN, say) makes the call fail with EPERM.
///
/// The call is async-signal-safe, as connect(2) is: it waits for no lock, allocates nothing, and uses at most 8 KiB of
/// stack. It may be made from any thread. It blocks if and only if connect(2) would, and connects once: a blocking call that
/// a signal interrupts returns EINTR, and the connection goes on.
///
/// report may be NULL. On failure fd is still a socket of the same kind: EADDRNOTAVAIL when no port can be had. It has a
/// port only if the caller chose one, and an address that it was bound to is still bound. There are two exceptions. One
/// descriptor has to be free for an exchange; if there is none, errno is EMFILE, and the socket may be bound to the port
/// that was named last. And a non-blocking connection that fails after EINPROGRESS keeps a port that was named for it. fd
/// stays the caller's.
///
/// # Safety
///
/// As for ic_listener_bind().
#[unsafe(no_mangle)]
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

/// Counts who holds the TCP ports that the options allow, at any time: for a monitor, for a log line, for an operator.
/// It binds nothing and disturbs nobody.
///
/// Only sockets are counted that keep a listener from the address in the options; from the wildcard all of them do.
/// options may be NULL, which stands for the defaults; backlog and listen_retries are checked and not used. census is
/// filled on success and on failure, unless its size is wrong.
///
/// The call takes about as long as one that finds no port in that range, and stops after half a second of CPU time. It
/// never waits for anything. It maps 96 KiB of memory meanwhile, has one descriptor open at a time, and does not call
/// malloc(3). Where sock_diag is a module of the kernel that is not loaded, the first call loads it, as ss(8) does.
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
#[unsafe(no_mangle)]
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

/// The name of a step, such as "bind", for messages of the form "bind: Address already in use". Never NULL; an unknown
/// number gives "unknown". The string is a constant.
#[unsafe(no_mangle)]
pub extern "C" fn ic_listener_step_name(step: c_int) -> *const c_char {
    let name = usize::try_from(step).ok().and_then(|step| STEP_NAMES.get(step));
    name.map_or(c"unknown".as_ptr(), |name| name.as_ptr())
}

/// The version of the library that is linked, such as "1.2.3"; IC_LISTENER_VERSION is the one of the header. The string is a
/// constant.
#[unsafe(no_mangle)]
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

/// The body of the three drop-in calls: the system call by way of `by_strategy`, or as it is where the arguments are such
/// that only the kernel can say what is wrong with them.
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

/// Keeps a panic, which is a bug of this library and is caught, from writing to standard error.
///
/// The C library does it when it is loaded: it replaces the default hook of the copy of the Rust runtime that it brings along.
/// That takes a lock, which a signal handler must not wait for, and writes to memory, which costs a forked child a page to
/// copy. A Rust program that links the rlib keeps the hook it has.
#[cfg(ic_listener_c_library)]
#[used]
#[unsafe(link_section = ".init_array")]
static SILENCE_PANICS: extern "C" fn() = silence_panics;

#[cfg(ic_listener_c_library)]
extern "C" fn silence_panics() {
    std::panic::set_hook(Box::new(|_| {}));
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
/// `from` points to a struct that begins with its size, a size_t, which is at least `least` or is really there to be read.
/// Zeros are a valid T.
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
