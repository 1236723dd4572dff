//! Who may name a port now.
//!
//! Two callers can find the same port at the same moment. A Unix datagram socket that is bound to an abstract name is a
//! lock between them: it exists in one network namespace, as the port does, is taken or refused at once, and ends with
//! the last copy of its descriptor, also when the process is killed. unix(7). It takes 3.3 µs (Linux 6.18).

use std::ffi::OsStr;
use std::fmt::Arguments;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::text::Text;

/// The right to name a port, until it is dropped.
pub(crate) enum Claim {
    Held(#[expect(dead_code, reason = "to be dropped is all it does")] OwnedFd),
    /// Another caller has it.
    Refused,
    /// There are no claims here: no descriptor is left, or a policy refuses AF_UNIX or the name. A claim must not cost
    /// a port.
    Unavailable,
}

impl Claim {
    /// The right to listen on the port.
    pub(crate) fn to_listen(port: u16) -> Self {
        Self::on(format_args!("\0ic_listener/{port}"))
    }

    /// The right to connect from there to there.
    pub(crate) fn to_connect(source: SocketAddr, destination: SocketAddr) -> Self {
        let (from, to) = (source.ip().to_canonical(), destination.ip().to_canonical());
        Self::on(format_args!("\0ic_listener/{from}:{}-{to}:{}", source.port(), destination.port()))
    }

    fn on(name: Arguments<'_>) -> Self {
        match bind(Text::<NAME_SIZE>::of(name).as_bytes()) {
            Ok(socket) => Self::Held(socket.into()),
            Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => Self::Refused,
            Err(_) => Self::Unavailable,
        }
    }
}

fn bind(name: &[u8]) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::DGRAM.cloexec(), None)?;
    socket.bind(&SockAddr::unix(OsStr::from_bytes(name))?)?;
    Ok(socket)
}

/// The longest name that an address takes: two IPv6 addresses with their ports need 104 bytes.
const NAME_SIZE: usize = 108;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_held_by_one_and_ends_with_it() {
        let claim = || Claim::to_connect("192.0.2.1:40000".parse().unwrap(), "[::ffff:192.0.2.9]:9".parse().unwrap());
        let held = claim();
        assert!(matches!(held, Claim::Held(_)));
        assert!(matches!(claim(), Claim::Refused));
        drop(held);
        assert!(matches!(claim(), Claim::Held(_)));
    }

    #[test]
    fn the_longest_addresses_have_a_name() {
        let address: SocketAddr = "[1111:2222:3333:4444:5555:6666:7777:8888]:65535".parse().unwrap();
        assert!(matches!(Claim::to_connect(address, address), Claim::Held(_)));
    }
}
