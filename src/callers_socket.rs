//! The caller's socket: what it is, what its owner has set on it, and how it is given a port; and sockets of our own
//! that ask the kernel what it would be told, at no cost to it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use crate::attempts::Answer;
use crate::error::Failure;
use crate::port_range::{self, Ports, Range, Unreadable};
use crate::strategy::bind;
use crate::sys::{self, IP_LOCAL_PORT_RANGE, SO_BINDTOIFINDEX};

/// IP_RETOPTS, which means nothing to a TCP socket and is used nowhere else today, marks one whose port is chosen
/// later, or was chosen by getsockname(). The mark lives in the socket, so that forked children and duplicates see it.
pub(crate) fn is_deferred(socket: BorrowedFd<'_>) -> bool {
    is_set(socket, libc::IP_RETOPTS)
}

pub(crate) fn set_deferred(socket: BorrowedFd<'_>, deferred: bool) -> bool {
    set(socket, libc::IP_RETOPTS, deferred)
}

pub(crate) fn is_set(socket: BorrowedFd<'_>, name: libc::c_int) -> bool {
    sys::get_option(socket, libc::IPPROTO_IP, name).is_ok_and(|value| value != 0)
}

pub(crate) fn set(socket: BorrowedFd<'_>, name: libc::c_int, value: bool) -> bool {
    sys::set_option(socket, libc::IPPROTO_IP, name, value.into()).is_ok()
}

pub(crate) fn is_tcp(socket: BorrowedFd<'_>) -> bool {
    let socket = SockRef::from(&socket);
    // A raw socket may have that protocol as well.
    matches!(socket.protocol(), Ok(Some(Protocol::TCP))) && matches!(socket.r#type(), Ok(Type::STREAM))
}

/// The window that the caller has confined the socket to, as IP_LOCAL_PORT_RANGE has it; or 0.
pub(crate) fn own_window(socket: BorrowedFd<'_>) -> u32 {
    sys::get_option(socket, libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE).unwrap_or(0)
}

/// The ports of the host's range, inside such a window, that are not reserved.
pub(crate) fn ports_in(window: u32) -> Result<Ports, Unreadable> {
    let host = port_range::read_host_range().or_else(Unreadable::or_remembered)?;
    let (low, high) = (window as u16, (window >> 16) as u16);
    // As the kernel does: each end counts if it lies inside the host's range (`inet_sk_get_local_port_range`).
    let min = if host.contains(low) { low } else { host.min() };
    let max = if host.contains(high) { high } else { host.max() };
    Ports::not_reserved(Range::new(min, max).unwrap_or(host))
}

/// bind(2) of an address without a port. None where the kernel cannot do that.
pub(crate) fn bind_address(socket: BorrowedFd<'_>, address: SocketAddr) -> Option<io::Result<()>> {
    let callers = is_set(socket, libc::IP_BIND_ADDRESS_NO_PORT);
    if !set(socket, libc::IP_BIND_ADDRESS_NO_PORT, true) {
        return None;
    }
    let outcome = SockRef::from(&socket).bind(&SockAddr::from(address));
    set(socket, libc::IP_BIND_ADDRESS_NO_PORT, callers);
    Some(outcome)
}

/// Names a port of a socket that may have an address already. bind() takes that away when it refuses (`__inet_bind`).
pub(crate) fn name_port(
    socket: BorrowedFd<'_>,
    bound: SocketAddr,
    address: SocketAddr,
    port: u16,
) -> Result<Answer, Failure> {
    let answer = bind(&SockRef::from(&socket), address, port);
    if !matches!(answer, Ok(Answer::Ours)) && !bound.ip().is_unspecified() {
        let _ = bind_address(socket, bound);
    }
    answer
}

/// Whether the socket is of another network namespace than one that this thread has made now: then neither /proc nor
/// sock_diag nor a claim speaks of it. Before Linux 5.14 nobody can tell, nor without a descriptor.
pub(crate) fn is_foreign(socket: BorrowedFd<'_>, made_now: Option<&Socket>) -> bool {
    made_now.is_some_and(|made_now| sys::netns_cookie(socket) != sys::netns_cookie(made_now.as_fd()))
}

/// A socket of our own that asks for ports as the caller's would, with SO_REUSEADDR. A port that is refused costs 0.4
/// µs, and the caller's socket nothing. (To claim a port costs 3.3 µs.)
pub(crate) struct Probe<'a> {
    like: BorrowedFd<'a>,
    address: SocketAddr,
    pub(crate) socket: Option<Socket>,
}

impl<'a> Probe<'a> {
    pub(crate) fn new(like: BorrowedFd<'a>, address: SocketAddr) -> Self {
        let mut probe = Self { like, address, socket: None };
        probe.open();
        probe
    }

    fn open(&mut self) {
        let socket = socket_like(self.like, Domain::for_address(self.address), Type::STREAM);
        self.socket = socket.ok().filter(|socket| socket.set_reuse_address(true).is_ok());
    }

    /// Whether the port can be had. Where nobody knows (no descriptor is left), the caller's socket has to ask.
    pub(crate) fn ask_for(&mut self, port: u16) -> Result<Answer, Failure> {
        if self.socket.is_none() {
            self.open();
        }
        let Some(socket) = &self.socket else {
            return Ok(Answer::Ours);
        };
        let answer = match bind(&SockRef::from(socket), self.address, port) {
            // An address of another host, which takes a privilege that could not be copied.
            Err(Failure::NotOfThisHost(_)) => Answer::Ours,
            answer => answer?,
        };
        if answer == Answer::Ours {
            // It is spent.
            self.socket = None;
        }
        Ok(answer)
    }
}

/// A socket of our own for which the kernel decides about ports and routes as it does for the caller's.
pub(crate) fn socket_like(socket: BorrowedFd<'_>, domain: Domain, kind: Type) -> io::Result<Socket> {
    let like = Socket::new(domain, kind.cloexec(), None)?;
    for (level, name) in [
        (libc::SOL_SOCKET, SO_BINDTOIFINDEX),
        (libc::SOL_SOCKET, libc::SO_MARK),
        (libc::IPPROTO_IP, libc::IP_FREEBIND),
        (libc::IPPROTO_IP, libc::IP_TRANSPARENT),
        (libc::IPPROTO_IP, libc::IP_TOS),
        (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
        (libc::IPPROTO_IPV6, IPV6_ADDR_PREFERENCES),
    ] {
        let values = (sys::get_option(socket, level, name), sys::get_option(like.as_fd(), level, name));
        if let (Ok(theirs), Ok(ours)) = values {
            let copied = theirs == ours || sys::set_option(like.as_fd(), level, name, theirs).is_ok();
            // A mark takes CAP_NET_ADMIN to set. It decides about routes, not about ports.
            if !copied && kind == Type::DGRAM {
                return Err(io::Error::from_raw_os_error(libc::EPERM));
            }
        }
    }
    Ok(like)
}

/// linux/in6.h; not in the libc crate.
const IPV6_ADDR_PREFERENCES: libc::c_int = 72;
