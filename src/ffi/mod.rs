//! The C ABI, from which `include/ic_listener.h` is generated: the comments here are that header's text, for C readers.
//!
//! Every function resets its outputs, does its work where a panic is caught, and sets errno as the very last thing,
//! when all destructors have run. Rust programs have no use for this module.
//!
//! All pointers are the caller's promise: NULL, or to what their types say, with its size set; an address is NULL or
//! points to as many bytes as its length says.
#![allow(clippy::missing_safety_doc)]

mod structs;

use std::any::Any;
use std::ffi::{CStr, c_char, c_int};
use std::os::fd::{BorrowedFd, IntoRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::time::Duration;

use socket2::{SockAddr, SockAddrStorage};

use structs::{CENSUS_SIZE_0_1, LARGEST_STRUCT, OPTIONS_SIZE_0_1, REPORT_SIZE_0_1, read_sized, write_sized};
pub use structs::{IC_LISTENER_MESSAGE_SIZE, IcListenerCensus, IcListenerHolders, IcListenerOptions, IcListenerReport};

use crate::drop_in::{self, without_help};
use crate::error::Failure;
use crate::listener;
use crate::{Attempts, Error, Options, PortOrigin, Step, sys};

/// Opens a TCP listener on a port of the host's ephemeral port range. It is ic_listener_open_tcp() with the default
/// options.
///
/// It returns 0 on success. *port is the port in host byte order, 1 to 65535. *fd is a socket that
///   - listens on the wildcard with a backlog of 128: one IPv6 socket that takes IPv4 too (IPV6_V6ONLY is off, whatever
///     net.ipv6.bindv6only says), or an IPv4 socket where the host has no IPv6 or a policy forbids it;
///   - is non-blocking and close-on-exec;
///   - is alone on its port: while it listens, no other socket can bind the port on any address of the host;
///   - has SO_REUSEADDR set, so that the TIME_WAITs of its connections can be listened on.
///
/// The caller owns *fd and closes it with close(2).
///
/// Three exceptions to being alone: beside an IPv4 socket, others may bind the port on IPv6 (see IcListenerOptions); a
/// VRF (vrf(8)) has ports of its own; and TCP_REPAIR, which takes CAP_NET_ADMIN, binds any port.
///
/// SO_REUSEADDR is set after listen(2): before, it would let another socket share the port. A connection that completes
/// in between does not have it, and its TIME_WAIT keeps the port from listeners for 60 seconds.
///
/// It returns -1 on failure and sets errno. *port is 0, *fd is -1, and nothing is left open:
///   EADDRINUSE       no port of the range can be listened on
///   EINVAL           port or fd is NULL (the other one is reset), or both are the same pointer
///   EACCES           every port is forbidden
///   EMFILE, ENFILE, ENOBUFS, ENOMEM, ...  as socket(2), setsockopt(2), bind(2), listen(2) and getsockname(2) set them
///   ENOTRECOVERABLE  a bug of this library, which has written a line to standard error
///
/// The call never blocks or sleeps. Free ports go first: the kernel looks for one in small parts of the range, before
/// Linux 6.3 among 16 ports, and in a range of up to 64 ports among all. If it finds none, ports are shared: each port
/// of the range is asked for once, and again if one was lost or claimed by another caller, or if the range has up to 64
/// ports. So a port that another program has bound with SO_REUSEADDR, and does not listen on yet, is taken only where
/// free ports are rare.
///
/// Any thread and any forked child may make the call; a signal handler may not. Where threads are cancelled
/// (pthread_cancel(3)), disable cancellation around it, as around every call of this library. A signal handler that
/// interrupts one of them must not leave by longjmp(3). It uses at most 12 KiB of stack. After it no frame of the
/// library is left on the stack, so that ereport() may follow.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setup_listener(port: *mut c_int, fd: *mut c_int) -> c_int {
    // SAFETY: the caller's promise for port and fd is the one asked for; NULL is allowed for the others.
    unsafe { ic_listener_open_tcp(ptr::null(), port, fd, ptr::null_mut()) }
}

/// Opens a TCP listener as the options say. The socket, the promises and the errors are those of setup_listener().
///
/// options is NULL for the defaults. report may be NULL; otherwise it is filled on success and on failure, unless its
/// size is wrong. More errors, with the step that the report names:
///   EINVAL         "arguments": a size that no version has, a negative backlog, only one of port_min and port_max,
///                  port_min above port_max, or a port above 65535
///   EINVAL         "address": the address is not numeric, not unicast, or link-local without its interface; or its
///                  interface does not exist, or it is not link-local and has one. (The broadcast address of one of the
///                  host's networks is taken, as bind(2) takes it; nobody can connect to it.)
///   ENODEV         "bind": there is no interface of that index
///   EADDRNOTAVAIL  "bind": the address is not one of this host's, or not yet: an IPv6 address is tentative for a
///                  second or more after it was added
///   EAFNOSUPPORT   "socket": the address is an IPv6 one and the host has no IPv6
///   EADDRINUSE     "listen": ports were lost to other sockets that listened first
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ic_listener_open_tcp(
    options: *const IcListenerOptions,
    port: *mut c_int,
    fd: *mut c_int,
    report: *mut IcListenerReport,
) -> c_int {
    // SAFETY: the caller's promises are the ones asked for.
    unsafe { open(options, port, fd, report, |options, attempts| options.open_tcp_socket(attempts)) }
}

/// Opens a UDP socket that is alone on its port, for the UDP interconnect. It is non-blocking and close-on-exec. It
/// never has SO_REUSEADDR: with it, the kernel would let another socket share the port and give each datagram to one of
/// the two. The rest is as in ic_listener_open_tcp(). report->family is the family that the addresses of sendto(2) must
/// have.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ic_listener_open_udp(
    options: *const IcListenerOptions,
    port: *mut c_int,
    fd: *mut c_int,
    report: *mut IcListenerReport,
) -> c_int {
    // SAFETY: the caller's promises are the ones asked for.
    unsafe { open(options, port, fd, report, |options, attempts| options.open_udp_socket(attempts)) }
}

/// bind(2) for your own socket: same arguments, same return value, same errno. It does more for a TCP socket of AF_INET
/// or AF_INET6 and port 0. It finds a port that no socket holds, by shorter searches than bind(2).
///
/// Where a search of some hundred ports finds none that is free, but one can be shared, this call succeeds. It binds
/// the address, and leaves the choice of the port to the call that knows what it is for: ic_listener_listen(),
/// ic_listener_connect() or ic_listener_getsockname(). (Shared ports are in TIME_WAIT, under outgoing connections, or
/// bound and not listening, each with SO_REUSEADDR.) Until then getsockname(2) shows port 0, and IP_RETOPTS, which
/// means nothing to a TCP socket, is set. listen(2) instead of ic_listener_listen() has the kernel search for a free
/// port, as bind(2) would have.
///
/// Everything else is bind(2): another port, another family, UDP (the kernel's search for it is complete and short),
/// sockets with IP_BIND_ADDRESS_NO_PORT, which want no port yet, sockets in TCP_REPAIR mode, and sockets of another
/// network namespace than the calling thread's. (Before Linux 5.14 the library cannot see that, and treats them as the
/// thread's own.) IP_LOCAL_PORT_RANGE is obeyed. No option of the socket is changed but IP_RETOPTS, which
/// ic_listener_listen() and ic_listener_connect() clear.
///
/// report may be NULL. On failure errno is bind(2)'s, and the socket is not bound: EADDRINUSE when no port of the range
/// can be bound, EINVAL also when the size of the report is wrong. fd stays the caller's.
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
            Some(address) => drop_in::bind_fd(socket, &address, attempts),
            None => without_help(Step::Bind, of_libc(libc::bind(fd, address, length))),
        })
    }
}

/// listen(2) for your own socket. On a TCP socket it also sets SO_REUSEADDR, so that the TIME_WAITs of its connections
/// can be listened on. Call it after ic_listener_bind(), or after bind(2).
///
/// It chooses the port of a socket that ic_listener_bind() left without one, or that was never bound if the kernel
/// finds none: it claims a port, binds it and listens at once. A port that the socket has is never changed. EADDRINUSE
/// stays EADDRINUSE.
///
/// report may be NULL. On failure errno is listen(2)'s. If another program listens first on the port that was chosen,
/// the call fails with EADDRINUSE, and the socket keeps that port; close it. fd stays the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ic_listener_listen(fd: c_int, backlog: c_int, report: *mut IcListenerReport) -> c_int {
    // SAFETY: the caller's promise is the one asked for.
    unsafe { call(fd, Step::Listen, report, |socket, attempts| drop_in::listen_fd(socket, backlog, attempts)) }
}

/// getsockname(2) for your own socket. It chooses the port of a socket that ic_listener_bind() left without one, so
/// that the address can be published before ic_listener_listen(). That port never changes.
///
/// Such a socket has SO_REUSEADDR and listens from then on, so that no other socket can take the port: SO_ACCEPTCONN is
/// set, and a peer that connects early is queued instead of refused (IP_RETOPTS stays set on its connection).
/// ic_listener_listen() then sets the backlog, and ic_listener_connect() ends the listening first, by shutdown(2).
/// Where no port can be had any more, port 0 is shown, and where another program listens first on the one that was
/// chosen, that one; ic_listener_listen() will say so. SO_REUSEADDR is set in any case.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ic_listener_getsockname(
    fd: c_int,
    address: *mut libc::sockaddr,
    length: *mut libc::socklen_t,
) -> c_int {
    if fd >= 0 {
        // SAFETY: not -1, the one value that would be undefined behaviour. If the file is not open, the system calls
        // say EBADF, and nothing else relies on it.
        let socket = unsafe { BorrowedFd::borrow_raw(fd) };
        // A panic is a bug, and says so by itself. getsockname(2) is right without it.
        let _ = catch_unwind(|| drop_in::choose_for_getsockname(socket));
    }
    // SAFETY: the caller's promises are those of getsockname(2).
    unsafe { libc::getsockname(fd, address, length) }
}

/// connect(2) for your own socket: same arguments, same return value, same errno, EINPROGRESS and EINTR included. It
/// does two things more for TCP sockets of AF_INET and AF_INET6.
///
/// It sets SO_REUSEADDR before connect(2), so that listeners and other connections can use the port too, now and in
/// TIME_WAIT. (For a socket that you connect otherwise, setsockopt(2) does the same, at any time.)
///
/// Where connect(2) finds no port (EADDRNOTAVAIL, on a socket without a port), it names one with bind(2) and calls
/// connect(2) again. In this way it uses ports that listeners left in TIME_WAIT and ports that others share. It asks
/// the kernel first whether the port has a connection to this destination (sock_diag(7)), and claims the port among the
/// callers of this library, by a Unix socket with an abstract name that it closes again before it waits. (For that, a
/// blocking socket is non-blocking for some microseconds, O_NONBLOCK.) Ports that anybody listens on,
/// and ports with a holder without SO_REUSEADDR, cannot be named. Reserved ports are passed over. So is the port of the
/// destination if that is this host: the socket would connect to itself. (connect(2) itself may do that; it is left
/// alone.) A connection to this destination that is in TIME_WAIT is taken over last, and only where
/// net.ipv4.tcp_timestamps is on: timestamps tell old segments from new ones. net.ipv4.tcp_tw_reuse does not matter.
/// (Linux refuses to take over a connection whose peer had no timestamps.)
///
/// After 16 ports the whole range is looked at. That takes tens of milliseconds where each of 28,232 ports has a
/// connection to the destination, ten times as long as the connect(2) that found no port. In a range of more than 64
/// ports, after a search that found nothing, or only a TIME_WAIT to take over, the process makes no other towards that
/// destination for ten times as long, a second at most; it asks about 16 ports each time. In that time EADDRNOTAVAIL
/// may be returned although a port could be used. After a connect(2) that found no port, the first connect(2) of the
/// process's next calls is confined to 512 ports (IP_LOCAL_PORT_RANGE, taken off again). If neither that nor 16 ports
/// give a connection, connect(2) is called once more for the whole range.
///
/// Sockets of another network namespace than the calling thread's get connect(2)'s own answer. (Before Linux 5.14 the
/// library cannot see that, and treats them as the thread's own.)
///
/// The call is async-signal-safe, as connect(2) is: it waits for no lock, allocates nothing, and uses at most 12 KiB of
/// stack. Any thread may make it. It blocks if and only if connect(2) would.
///
/// report may be NULL. EADDRNOTAVAIL says that no port was found; then the socket has none, as after connect(2). It
/// keeps the port that was named if connect(2) from there fails for another reason, at once or later; if another
/// program takes the connection in between; if connections can be seen neither by netlink nor in /proc, and this one
/// exists; or if its TIME_WAIT cannot be taken over. (A process with no descriptor left sees neither, and names ports
/// of the range that it read last, if the host reserved none then.) fd stays the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ic_listener_connect(
    fd: c_int,
    address: *const libc::sockaddr,
    length: libc::socklen_t,
    report: *mut IcListenerReport,
) -> c_int {
    // SAFETY: the caller's promises are the ones asked for; libc's connect() looks at the same bytes.
    unsafe {
        call(fd, Step::Connect, report, |socket, attempts| {
            let system_call = || of_libc(libc::connect(fd, address, length));
            drop_in::connect_fd(socket, &system_call, &|| sock_addr(address, length), attempts)
        })
    }
}

/// The second half of ic_listener_connect(), for a caller that makes connect(2) itself because it may wait: for a
/// thread that is cancelled, or a handler that leaves by longjmp(3). (Not within this call, which is short: disable
/// cancellation around it, and block such a signal.) Call it when connect(2) has said EADDRNOTAVAIL.
///
/// It names a port and begins the connection. It does not wait: a blocking socket is non-blocking meanwhile. It returns
/// 0 when the connection is made. It returns -1 with errno EINPROGRESS when the connection is being made; then
/// connect(2), called again with the same address, waits for it, and says EALREADY if SO_SNDTIMEO expires. It returns
/// -1 with errno EADDRNOTAVAIL when no port was found, EINVAL when address is NULL or its length fits no address, or
/// another errno of connect(2). report may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ic_listener_begin_connect(
    fd: c_int,
    address: *const libc::sockaddr,
    length: libc::socklen_t,
    report: *mut IcListenerReport,
) -> c_int {
    // SAFETY: the caller's promises are the ones asked for.
    unsafe {
        call(fd, Step::Connect, report, |socket, attempts| {
            let address = sock_addr(address, length)
                .ok_or(Failure::Argument("the address is NULL, or its length fits no address"))?;
            drop_in::begin_connect_fd(socket, &address, attempts)
        })
    }
}

/// Counts who holds the TCP ports that the options allow. A monitor may call it at any time. It binds nothing and
/// disturbs no socket.
///
/// It counts the sockets that keep a listener from the address in the options; all of them keep one from the wildcard.
/// (For "0.0.0.0" every IPv6 connection counts: Linux does not show which of them leave IPv4 alone.)
/// options is NULL for the defaults. census is filled on success and on failure, unless its size is wrong.
///
/// The call takes about as long as one that finds no port in that range, or two to three times as long where /proc is
/// the source. It stops after half a second of CPU time, at which it looks every 256 sockets, and never waits. It maps
/// 96 KiB of memory meanwhile (8 more for reserved ports, and 256 while a long list of them is read), has one
/// descriptor open at a time, and does not call malloc(3). Where sock_diag is a kernel module that is not loaded, the
/// first call loads it, as ss(8) does.
///
/// It returns 0, or -1 with errno:
///   EINVAL  census is NULL or has a wrong size, or an option cannot be used
///   ENOENT  the host's port range cannot be read, and the options name none; or netlink is refused, and there is no
///           /proc
///   EACCES, EPERM, EMFILE, ENFILE, ENOMEM, ...  netlink is refused, and so is /proc/net/tcp; or a file cannot be
///           opened; or there is no memory
///   ENOTRECOVERABLE  a bug of this library, which has written a line to standard error
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ic_listener_census(options: *const IcListenerOptions, census: *mut IcListenerCensus) -> c_int {
    // SAFETY: the caller promises that census is NULL or points to a census with its size set.
    let size = if census.is_null() { 0 } else { unsafe { (*census).size } };
    if !(CENSUS_SIZE_0_1..=LARGEST_STRUCT).contains(&size) {
        return finish(libc::EINVAL);
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        panic_for_a_test();
        // SAFETY: the caller's promise for options is the one asked for.
        unsafe { options_from_c(options) }.and_then(|options| options.take_census())
    }));
    let filled = match &outcome {
        Ok(Ok(taken)) => IcListenerCensus::of(taken),
        Ok(Err(failure)) => IcListenerCensus::of_failure(failure.errno(), format_args!("{failure}")),
        Err(panic) => IcListenerCensus::of_failure(
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

/// The name of a step, such as "bind", for messages of the form "bind: Address already in use". It is never NULL: an
/// unknown number gives "unknown". The string is a constant.
#[unsafe(no_mangle)]
pub extern "C" fn ic_listener_step_name(step: c_int) -> *const c_char {
    let name = usize::try_from(step).ok().and_then(|step| Step::ALL.get(step));
    name.map_or(c"unknown".as_ptr(), |(_, name)| name.as_ptr())
}

/// The version of the library that is linked, such as "1.2.3"; IC_LISTENER_VERSION is that of the header. The string is
/// a constant.
#[unsafe(no_mangle)]
pub extern "C" fn ic_listener_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The body of both open functions.
unsafe fn open(
    options: *const IcListenerOptions,
    port: *mut c_int,
    fd: *mut c_int,
    report: *mut IcListenerReport,
    win: impl FnOnce(&Options, &mut Attempts) -> Result<listener::NewSocket, Failure>,
) -> c_int {
    // SAFETY: the caller promises that each is NULL or may be written.
    unsafe {
        write_if_wanted(port, 0);
        write_if_wanted(fd, -1);
    }
    let act = |attempts: &mut Attempts| {
        if port.is_null() || fd.is_null() {
            return Err(Failure::Argument("port and fd must not be NULL"));
        }
        if port == fd {
            return Err(Failure::Argument("port and fd must not be the same pointer"));
        }
        // SAFETY: the caller promises that options is NULL or points to options with the size set.
        let (socket, new_port, origin) = win(&unsafe { options_from_c(options) }?, attempts)?;
        // With a socket in hand, which the unwinding has to close.
        panic_for_a_test();
        // SAFETY: neither is NULL, and nothing can fail from here on.
        unsafe {
            port.write(c_int::from(new_port));
            fd.write(socket.into_raw_fd());
        }
        Ok((origin, Some(new_port)))
    };
    // SAFETY: the caller's promise for report.
    unsafe { run(report, act) }
}

/// The body of the drop-in calls: the system call by way of `act`, or as it is where the arguments are such that only
/// the kernel can say what is wrong with them.
unsafe fn call(
    fd: c_int,
    step: Step,
    report: *mut IcListenerReport,
    act: impl FnOnce(BorrowedFd<'_>, &mut Attempts) -> Result<PortOrigin, Failure>,
) -> c_int {
    let act = |attempts: &mut Attempts| {
        if fd < 0 {
            return Err(Failure::refused(step, std::io::Error::from_raw_os_error(libc::EBADF)));
        }
        panic_for_a_test();
        // SAFETY: not -1, the one value that would be undefined behaviour. Whether the file is open cannot be known;
        // if it is not, or is closed meanwhile, the system calls say EBADF, and nothing else relies on it.
        act(unsafe { BorrowedFd::borrow_raw(fd) }, attempts).map(|origin| (origin, None))
    };
    // SAFETY: the caller's promise for report.
    unsafe { run(report, act) }
}

/// The library that a test is built with has this bug.
fn panic_for_a_test() {
    if cfg!(ic_listener_test_panic) {
        panic!("asked for by a test");
    }
}

/// The address as the system calls take it, if it can be one: None for NULL, and for a length that fits no address.
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

/// What a function of libc has returned.
fn of_libc(returned: c_int) -> std::io::Result<()> {
    if returned == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Where the port came from, and which it is, where the call tells.
type Success = (PortOrigin, Option<u16>);

/// Runs `act`, catches a panic, fills the report, and sets errno. Gives what the call returns.
unsafe fn run(report: *mut IcListenerReport, act: impl FnOnce(&mut Attempts) -> Result<Success, Failure>) -> c_int {
    // SAFETY: the caller promises that report is NULL or points to a report with its size set.
    let size = if report.is_null() { None } else { Some(unsafe { (*report).size }) };
    if size.is_some_and(|size| !(REPORT_SIZE_0_1..=LARGEST_STRUCT).contains(&size)) {
        return finish(libc::EINVAL);
    }
    let start = size.map_or(Duration::ZERO, |_| sys::monotonic_time());
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut attempts = Attempts::default();
        let outcome = act(&mut attempts);
        (outcome, attempts)
    }));
    let errno = match &outcome {
        Ok((Ok(_), _)) => 0,
        Ok((Err(failure), _)) => failure.errno(),
        Err(_) => libc::ENOTRECOVERABLE,
    };
    match size {
        // What is freed is freed before errno is set: free() may change it (glibc before 2.33).
        None => drop(outcome),
        Some(size) => {
            let elapsed = sys::monotonic_time() - start;
            if let Ok(filled) = catch_unwind(AssertUnwindSafe(|| filled(outcome, elapsed))) {
                // SAFETY: the caller promises so many bytes.
                unsafe { write_sized(&filled, report, size) };
            }
        }
    }
    finish(errno)
}

/// What a call did and who holds the ports, where that is why it failed.
fn filled(outcome: std::thread::Result<(Result<Success, Failure>, Attempts)>, elapsed: Duration) -> IcListenerReport {
    match outcome {
        Ok((Ok((origin, port)), attempts)) => IcListenerReport::of_success(origin, port, &attempts, elapsed),
        Ok((Err(failure), attempts)) => {
            let error = Error::new(failure, attempts);
            let census = if error.is_no_port() { error.attempts().holders() } else { None };
            IcListenerReport::of_failure(&error, census.as_ref(), elapsed)
        }
        Err(panic) => IcListenerReport::of_panic(words_of(panic.as_ref())),
    }
}

/// Sets errno on failure, when nothing is left to be done that could change it, and gives the value to return.
fn finish(errno: c_int) -> c_int {
    if errno == 0 {
        return 0;
    }
    sys::set_errno(errno);
    -1
}

unsafe fn write_if_wanted(to: *mut c_int, value: c_int) {
    if !to.is_null() {
        // SAFETY: not NULL, so that the caller's promise holds.
        unsafe { to.write(value) };
    }
}

unsafe fn options_from_c(options: *const IcListenerOptions) -> Result<Options, Failure> {
    if options.is_null() {
        return Ok(Options::new());
    }
    // SAFETY: not NULL, so that the caller's promise holds.
    let given = unsafe { read_sized(options, OPTIONS_SIZE_0_1) }.ok_or(Failure::Argument(
        "the size of the options is below that of version 0.1, or above this library's with something in it",
    ))?;
    let mut options = Options::new();
    if !given.address.is_null() {
        // SAFETY: not NULL, so that it points to a terminated string.
        options = options.numeric_host(unsafe { CStr::from_ptr(given.address) }.to_bytes())?;
    }
    if given.backlog != 0 {
        options = options.backlog(given.backlog);
    }
    if (given.port_min, given.port_max) != (0, 0) {
        let (Ok(min), Ok(max)) = (u16::try_from(given.port_min), u16::try_from(given.port_max)) else {
            return Err(Failure::Argument("port_min and port_max must be ports, 1 to 65535"));
        };
        options = options.ports(min..=max);
    }
    Ok(options)
}

/// What a panic said.
fn words_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown")
}
