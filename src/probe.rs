//! Sockets of our own that ask the kernel what the caller's socket would be told, and cost it nothing.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, SockRef, Socket, Type};

use crate::attempts::Answer;
use crate::error::Failure;
use crate::strategy;
use crate::sys::{self, SO_BINDTOIFINDEX};

/// Whether the socket is of another network namespace than one that this thread has made now: then neither /proc nor
/// sock_diag nor a claim speaks of it. Before Linux 5.14 nobody can tell.
pub(crate) fn is_foreign(socket: BorrowedFd<'_>, made_now: BorrowedFd<'_>) -> bool {
    sys::netns_cookie(socket) != sys::netns_cookie(made_now)
}

/// A socket of our own that asks for ports as the caller's would, with SO_REUSEADDR. A port that is refused costs 0.4
/// µs, and the caller's socket nothing. (To claim a port costs 3.3 µs.)
pub(crate) struct Probe<'a> {
    like: BorrowedFd<'a>,
    address: SocketAddr,
    socket: Option<Socket>,
    /// Whether the caller's socket is of another network namespace.
    pub(crate) is_foreign: bool,
}

impl<'a> Probe<'a> {
    pub(crate) fn new(like: BorrowedFd<'a>, address: SocketAddr) -> Self {
        let mut probe = Self { like, address, socket: None, is_foreign: false };
        probe.open();
        probe.is_foreign = probe.socket.as_ref().is_some_and(|socket| is_foreign(like, socket.as_fd()));
        probe
    }

    fn open(&mut self) {
        let socket = socket_like(self.like, Domain::for_address(self.address), Type::STREAM);
        self.socket = socket.ok().filter(|socket| socket.set_reuse_address(true).is_ok());
    }

    pub(crate) fn can_tell(&self) -> bool {
        self.socket.is_some() && !self.is_foreign
    }

    /// Whether the port can be had. Where nobody knows (no descriptor is left), the caller's socket has to ask.
    pub(crate) fn ask_for(&mut self, port: u16) -> Result<Answer, Failure> {
        if self.socket.is_none() {
            self.open();
        }
        let Some(socket) = &self.socket else {
            return Ok(Answer::Ours);
        };
        let answer = match strategy::bind(&SockRef::from(socket), self.address, port) {
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
