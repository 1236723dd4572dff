//! Another socket of the same kind, under the same number.
//!
//! A bound socket cannot be unbound. When its port turns out to be of no use, a fresh socket takes its place: the
//! caller of the library keeps its file descriptor, and does not notice. What [`CARRIED`] names goes over to the fresh
//! one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use libc::{IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, SOL_SOCKET, c_int};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::error::{Failure, Step};
use crate::sys::{self, IP_LOCAL_PORT_RANGE, OptionValue};

/// The options that go over to a fresh socket, each where its value is not the default. SO_REUSEADDR is not among them,
/// because the strategy sets it as it needs it.
const CARRIED: [(c_int, c_int); 57] = [
    (SOL_SOCKET, libc::SO_BINDTODEVICE),
    (SOL_SOCKET, libc::SO_BROADCAST),
    (SOL_SOCKET, libc::SO_BUSY_POLL),
    (SOL_SOCKET, libc::SO_DEBUG),
    (SOL_SOCKET, libc::SO_DONTROUTE),
    (SOL_SOCKET, libc::SO_INCOMING_CPU),
    (SOL_SOCKET, libc::SO_KEEPALIVE),
    (SOL_SOCKET, libc::SO_LINGER),
    (SOL_SOCKET, libc::SO_MARK),
    (SOL_SOCKET, libc::SO_MAX_PACING_RATE),
    (SOL_SOCKET, libc::SO_OOBINLINE),
    (SOL_SOCKET, libc::SO_RCVBUF),
    (SOL_SOCKET, libc::SO_RCVLOWAT),
    (SOL_SOCKET, libc::SO_RCVTIMEO),
    (SOL_SOCKET, libc::SO_REUSEPORT),
    (SOL_SOCKET, libc::SO_SNDBUF),
    (SOL_SOCKET, libc::SO_SNDTIMEO),
    (SOL_SOCKET, libc::SO_TIMESTAMP),
    (SOL_SOCKET, libc::SO_TIMESTAMPNS),
    (SOL_SOCKET, libc::SO_ZEROCOPY),
    (IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT),
    (IPPROTO_IP, libc::IP_FREEBIND),
    (IPPROTO_IP, IP_LOCAL_PORT_RANGE),
    (IPPROTO_IP, libc::IP_MINTTL),
    (IPPROTO_IP, libc::IP_MTU_DISCOVER),
    (IPPROTO_IP, libc::IP_RECVERR),
    (IPPROTO_IP, libc::IP_TOS),
    (IPPROTO_IP, libc::IP_TRANSPARENT),
    (IPPROTO_IP, libc::IP_TTL),
    (IPPROTO_IP, libc::IP_UNICAST_IF),
    (IPPROTO_IPV6, IPV6_AUTOFLOWLABEL),
    (IPPROTO_IPV6, libc::IPV6_FREEBIND),
    (IPPROTO_IPV6, IPV6_MINHOPCOUNT),
    (IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
    (IPPROTO_IPV6, libc::IPV6_TCLASS),
    (IPPROTO_IPV6, libc::IPV6_TRANSPARENT),
    (IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
    (IPPROTO_IPV6, IPV6_UNICAST_IF),
    (IPPROTO_IPV6, libc::IPV6_V6ONLY),
    (IPPROTO_TCP, libc::TCP_CONGESTION),
    (IPPROTO_TCP, libc::TCP_CORK),
    (IPPROTO_TCP, libc::TCP_DEFER_ACCEPT),
    (IPPROTO_TCP, libc::TCP_FASTOPEN),
    (IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT),
    (IPPROTO_TCP, libc::TCP_KEEPCNT),
    (IPPROTO_TCP, libc::TCP_KEEPIDLE),
    (IPPROTO_TCP, libc::TCP_KEEPINTVL),
    (IPPROTO_TCP, libc::TCP_LINGER2),
    (IPPROTO_TCP, libc::TCP_MAXSEG),
    (IPPROTO_TCP, libc::TCP_NODELAY),
    (IPPROTO_TCP, TCP_NOTSENT_LOWAT),
    (IPPROTO_TCP, libc::TCP_SAVE_SYN),
    (IPPROTO_TCP, libc::TCP_SYNCNT),
    (IPPROTO_TCP, libc::TCP_THIN_LINEAR_TIMEOUTS),
    (IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
    (IPPROTO_TCP, libc::TCP_WINDOW_CLAMP),
    // Behind IP_TOS, which sets it too.
    (SOL_SOCKET, libc::SO_PRIORITY),
];

// Of linux/in6.h and linux/tcp.h; not in the libc crate.
const IPV6_AUTOFLOWLABEL: c_int = 70;
const IPV6_MINHOPCOUNT: c_int = 73;
const IPV6_UNICAST_IF: c_int = 76;
const TCP_NOTSENT_LOWAT: c_int = 25;

/// What a fresh socket has to be like. The values of its options stay in the socket that it replaces: copies of them
/// would take more stack than a small thread has.
pub(crate) struct Kind {
    domain: Domain,
    status_flags: c_int,
    close_on_exec: bool,
    only_v6: Option<OptionValue>,
    /// One bit for each option of [`CARRIED`] that differs from a socket's default.
    differing: u64,
}

const _: () = assert!(CARRIED.len() <= u64::BITS as usize);

impl Kind {
    /// What `socket` is like now, but for IPV6_V6ONLY, when that is known better. It is a TCP socket.
    pub(crate) fn of(socket: BorrowedFd<'_>, only_v6: Option<OptionValue>) -> Result<Self, Failure> {
        let (status_flags, descriptor_flags) =
            sys::flags(socket).map_err(|error| Failure::refused(Step::Socket, error))?;
        let domain = SockRef::from(&socket).domain().map_err(|error| Failure::refused(Step::Socket, error))?;
        let close_on_exec = descriptor_flags & libc::FD_CLOEXEC != 0;
        let mut kind = Self { domain, status_flags, close_on_exec, only_v6, differing: 0 };
        let fresh = kind.plain()?;
        for (place, (level, name)) in CARRIED.into_iter().enumerate() {
            let values = (kind.value(socket, level, name), sys::get_option(fresh.as_fd(), level, name));
            let differs = matches!(values, (Ok(value), Ok(default)) if value != default);
            // IP_TOS, which comes first, sets the priority as well.
            if differs || ((level, name) == (SOL_SOCKET, libc::SO_PRIORITY) && kind.has_tos()) {
                kind.differing |= 1 << place;
            }
        }
        Ok(kind)
    }

    /// Puts a fresh socket of this kind under the number of `place`, whose socket is closed. That one is of this kind,
    /// too.
    pub(crate) fn replace(&self, place: BorrowedFd<'_>) -> Result<(), Failure> {
        let fresh = self.plain()?;
        for (index, &(level, name)) in CARRIED.iter().enumerate() {
            if (self.differing >> index) & 1 == 1 {
                self.value(place, level, name)
                    .and_then(|value| set(fresh.as_fd(), level, name, &settable(level, name, value)))
                    .map_err(|error| Failure::refused(Step::Setsockopt, error))?;
            }
        }
        sys::set_status_flags(fresh.as_fd(), self.status_flags)
            .and_then(|()| sys::put_in_place(OwnedFd::from(fresh), place, self.close_on_exec))
            .map_err(|error| Failure::refused(Step::Socket, error))
    }

    fn value(&self, socket: BorrowedFd<'_>, level: c_int, name: c_int) -> io::Result<OptionValue> {
        let known = self.only_v6.filter(|_| (level, name) == (IPPROTO_IPV6, libc::IPV6_V6ONLY));
        known.map_or_else(|| sys::get_option(socket, level, name), Ok)
    }

    fn has_tos(&self) -> bool {
        let tos = CARRIED.iter().position(|&option| option == (IPPROTO_IP, libc::IP_TOS));
        tos.is_some_and(|place| (self.differing >> place) & 1 == 1)
    }

    fn plain(&self) -> Result<Socket, Failure> {
        Socket::new(self.domain, Type::STREAM, Some(Protocol::TCP))
            .map_err(|error| Failure::refused(Step::Socket, error))
    }
}

/// Sets an option, the size of a buffer also above net.core.wmem_max or rmem_max: the caller may have had the
/// privilege.
fn set(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: &OptionValue) -> io::Result<()> {
    let forced = beyond_the_limit(level, name);
    if forced.is_some_and(|forced| sys::set_option(socket, level, forced, value).is_ok()) {
        return Ok(());
    }
    sys::set_option(socket, level, name, value)
}

/// The option that sets a buffer's size above net.core.wmem_max or rmem_max, where privilege allows it: the caller may
/// have used it.
fn beyond_the_limit(level: c_int, name: c_int) -> Option<c_int> {
    match (level, name) {
        (SOL_SOCKET, libc::SO_SNDBUF) => Some(libc::SO_SNDBUFFORCE),
        (SOL_SOCKET, libc::SO_RCVBUF) => Some(libc::SO_RCVBUFFORCE),
        _ => None,
    }
}

/// The value to set so that the option reads as it did: the kernel doubles the sizes of buffers, socket(7).
fn settable(level: c_int, name: c_int, value: OptionValue) -> OptionValue {
    if level == SOL_SOCKET && (name == libc::SO_SNDBUF || name == libc::SO_RCVBUF) {
        return OptionValue::number(value.as_number() / 2);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_carried_once() {
        for (place, option) in CARRIED.iter().enumerate() {
            assert!(!CARRIED[..place].contains(option), "{option:?}");
        }
    }
}
