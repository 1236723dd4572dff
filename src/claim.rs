//! Who may name a port now.
//!
//! Two callers can find the same port at the same moment. A Unix socket that is bound to an abstract name is a lock
//! between them: it exists in one network namespace, as the port does, is taken or refused at once, and ends with the
//! last copy of its descriptor, also when the process is killed. unix(7). It takes 4 µs (Linux 6.18).
//!
//! Anybody can sit on such names. So a claim listens: SO_PEERCRED tells who holds it, and when there is nothing else
//! left, claims of other users are not heeded, nor names that nobody listens on.

use std::ffi::OsStr;
use std::fmt::Arguments;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::sys;
use crate::text::Text;

/// The right to name a port, until it is dropped.
pub(crate) enum Claim {
    Held(Socket),
    /// Another caller has it.
    Refused,
    /// Claims are unavailable: no descriptor is left, or a policy refuses AF_UNIX or the name. A claim must not cost a
    /// port.
    Unavailable,
}

impl Claim {
    /// The right to listen on the port.
    pub(crate) fn to_listen(port: u16, heeds_strangers: bool) -> Self {
        Self::on(format_args!("\0ic_listener/{port}"), heeds_strangers)
    }

    /// The right to connect from there to there.
    pub(crate) fn to_connect(source: SocketAddr, destination: SocketAddr, heeds_strangers: bool) -> Self {
        let (from, to) = (source.ip().to_canonical(), destination.ip().to_canonical());
        let (from_port, to_port) = (source.port(), destination.port());
        Self::on(format_args!("\0ic_listener/{from}:{from_port}-{to}:{to_port}"), heeds_strangers)
    }

    fn on(name: Arguments<'_>, heeds_strangers: bool) -> Self {
        let name = Text::<NAME_SIZE>::of(name);
        let claimed = SockAddr::unix(OsStr::from_bytes(name.as_bytes())).and_then(|address| {
            let claim = take(&address);
            let is_refused = matches!(&claim, Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE));
            if is_refused && (heeds_strangers || is_held_by_a_friend(&address)) { Ok(None) } else { claim.map(Some) }
        });
        match claimed {
            Ok(Some(socket)) => Self::Held(socket),
            Ok(None) => Self::Refused,
            Err(_) => Self::Unavailable,
        }
    }
}

/// A child that was forked meanwhile has a copy of the descriptor. The name lives on with it, but not the claim.
impl Drop for Claim {
    fn drop(&mut self) {
        if let Self::Held(socket) = self {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

fn take(address: &SockAddr) -> io::Result<Socket> {
    let socket = open()?;
    socket.bind(address)?;
    socket.listen(crate::DEFAULT_BACKLOG)?;
    Ok(socket)
}

/// Whether the claim is of this process's user, or of root.
fn is_held_by_a_friend(address: &SockAddr) -> bool {
    let friendly = |user| user == 0 || user == sys::effective_user();
    open().is_ok_and(|socket| socket.connect(address).is_ok() && sys::peer_user(socket.as_fd()).is_some_and(friendly))
}

fn open() -> io::Result<Socket> {
    Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)
}

/// The longest name that an address takes: two IPv6 addresses with their ports need 104 bytes.
const NAME_SIZE: usize = 108;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_held_by_one_and_ends_with_it() {
        let (from, to) = ("192.0.2.1:40000".parse().unwrap(), "[::ffff:192.0.2.9]:9".parse().unwrap());
        let held = Claim::to_connect(from, to, true);
        let Claim::Held(socket) = &held else { panic!("it is free") };
        assert!(matches!(Claim::to_connect(from, to, true), Claim::Refused));
        assert!(matches!(Claim::to_connect(from, to, false), Claim::Refused), "it is of this user");
        let copy_of_a_child = socket.try_clone().unwrap();
        drop(held);
        assert!(matches!(Claim::to_connect(from, to, false), Claim::Unavailable));
        drop(copy_of_a_child);
        assert!(matches!(Claim::to_connect(from, to, true), Claim::Held(_)));
    }

    #[test]
    fn the_longest_addresses_have_a_name() {
        let address: SocketAddr = "[1111:2222:3333:4444:5555:6666:7777:8888]:65535".parse().unwrap();
        assert!(matches!(Claim::to_connect(address, address, true), Claim::Held(_)));
    }
}
