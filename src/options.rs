//! The Rust API: what a caller may ask for, and what it gets.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;

use socket2::Socket;

use crate::address;
use crate::census::{self, Census, Entry, Transport};
use crate::error::{Failure, counted};
use crate::listener::{self, NewSocket};
use crate::port_range::{Ports, Range};
use crate::{Attempts, Error, PortOrigin};

/// The backlog of a listener whose options do not name one, as Greenplum has it.
pub const DEFAULT_BACKLOG: i32 = 128;

/// What a listener should be like. The default: the wildcard address, a port of the host's ephemeral range, backlog
/// 128.
#[derive(Clone, Debug)]
#[must_use]
pub struct Options {
    address: Option<SocketAddr>,
    backlog: i32,
    ports: Option<RangeInclusive<u16>>,
}

/// A socket, its port, and where that came from.
#[derive(Debug)]
#[non_exhaustive]
pub struct Opened<S> {
    /// The socket: non-blocking, close-on-exec, and closed when dropped.
    pub socket: S,
    /// Its port.
    pub port: u16,
    /// Where the port came from.
    pub origin: PortOrigin,
    /// The ports that were tried.
    pub attempts: Attempts,
}

impl Default for Options {
    fn default() -> Self {
        Self { address: None, backlog: DEFAULT_BACKLOG, ports: None }
    }
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens on one address of the host instead of the wildcard. A wildcard may be spelled out: `0.0.0.0`, `::`.
    pub fn address(mut self, address: impl Into<IpAddr>) -> Self {
        self.address = Some((address, 0).into());
        self
    }

    /// The same with an address as text, which may be link-local, with the name or the index of its interface:
    /// `fe80::1%eth0`. No name of a host is resolved.
    ///
    /// # Errors
    ///
    /// EINVAL when it is no numeric address, or there is no such interface; EMFILE and its like.
    pub fn address_text(self, address: &str) -> Result<Self, Error> {
        self.numeric_host(address.as_bytes()).map_err(|failure| failure.without_attempts())
    }

    pub(crate) fn numeric_host(mut self, address: &[u8]) -> Result<Self, Failure> {
        self.address = Some(address::parse(address)?);
        Ok(self)
    }

    /// The backlog given to listen(2), which limits it to net.core.somaxconn; at least 0. UDP has none.
    pub fn backlog(mut self, backlog: i32) -> Self {
        self.backlog = backlog;
        self
    }

    /// Uses exactly these ports (1 or above), those included that the host reserves, instead of its ephemeral range.
    pub fn ports(mut self, ports: RangeInclusive<u16>) -> Self {
        self.ports = Some(ports);
        self
    }

    /// Opens a TCP listener.
    ///
    /// The [`TcpListener`] is non-blocking: accept() returns at once, with [`io::ErrorKind::WouldBlock`] if nobody has
    /// connected; [`TcpListener::set_nonblocking`] changes that. It is close-on-exec, and alone on its port.
    /// SO_REUSEADDR is set on it, so that the TIME_WAITs of the connections it accepts can be taken by later listeners.
    /// The wildcard is one IPv6 socket that takes IPv4 too (IPV6_V6ONLY is off), or an IPv4 socket where the host has
    /// no IPv6.
    ///
    /// # Errors
    ///
    /// EADDRINUSE when no port is left (the step is `listen` when a port was lost to another listener, else `bind`),
    /// EACCES when all ports are forbidden, EADDRNOTAVAIL when the address is not one of this host's, EINVAL for
    /// options that cannot be used, and whatever else socket(2), bind(2) and listen(2) report, such as EMFILE.
    pub fn open_tcp(&self) -> Result<Opened<TcpListener>, Error> {
        opened(|attempts| self.open_tcp_socket(attempts))
    }

    /// Opens a UDP socket.
    ///
    /// It is non-blocking, close-on-exec and alone on its port; SO_REUSEADDR is never set, because the kernel would let
    /// another socket with it share the port. Addresses, families and ports are as for TCP.
    ///
    /// # Errors
    ///
    /// As for [`Options::open_tcp`].
    pub fn open_udp(&self) -> Result<Opened<UdpSocket>, Error> {
        opened(|attempts| self.open_udp_socket(attempts))
    }

    pub(crate) fn open_tcp_socket(&self, attempts: &mut Attempts) -> Result<NewSocket, Failure> {
        let (address, named) = self.checked()?;
        listener::tcp_listener(address, named, self.backlog, attempts)
    }

    pub(crate) fn open_udp_socket(&self, attempts: &mut Attempts) -> Result<NewSocket, Failure> {
        let (address, named) = self.checked()?;
        listener::udp_socket(address, named, attempts)
    }

    /// Counts who holds the TCP ports that these options allow, on their address. A monitor may call it at any time.
    /// The backlog does not matter.
    ///
    /// It takes about as long as a call that finds no port, and stops after half a second of CPU time. It maps 96 KiB
    /// meanwhile. Nothing is bound, and no socket is disturbed.
    ///
    /// # Errors
    ///
    /// EINVAL for options that cannot be used; ENOENT when the host's port range cannot be read, and the options name
    /// none; what open(2) says of /proc/net/tcp, when netlink is refused as well; EMFILE, ENFILE, ENOMEM.
    ///
    /// # Example
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// println!("{}", ic_listener::Options::new().census()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn census(&self) -> io::Result<Census> {
        self.take_census().map_err(|failure| io::Error::from_raw_os_error(failure.errno()))
    }

    /// The TCP sockets of this network namespace that are in the way of the address: for `ic_ports`.
    #[doc(hidden)]
    pub fn sockets(&self) -> io::Result<Vec<Entry>> {
        census::sockets(self.address)
    }

    pub(crate) fn take_census(&self) -> Result<Census, Failure> {
        let (address, named) = self.checked()?;
        let ports = match named {
            Some(range) => Ports::exactly(range),
            None => Ports::of_host().map_err(|unreadable| {
                let errno = if unreadable.errno == 0 { libc::ENOENT } else { unreadable.errno };
                let source = io::Error::from_raw_os_error(errno);
                Failure::NoCensus { what: "the host's port range cannot be read", source }
            })?,
        };
        census::take(Transport::Tcp, address, &ports)
            .map_err(|source| Failure::NoCensus { what: "who holds the ports cannot be seen", source })
    }

    fn checked(&self) -> Result<(Option<SocketAddr>, Option<Range>), Failure> {
        if self.backlog < 0 {
            return Err(Failure::Argument("the backlog is negative"));
        }
        let named = self.ports.as_ref().map(|range| {
            Range::new(*range.start(), *range.end())
                .ok_or(Failure::Argument("the lowest port must be 1 or above, and the highest not below the lowest"))
        });
        Ok((self.address.map(address::check).transpose()?, named.transpose()?))
    }
}

/// Adds to what was won what was tried.
fn opened<S: From<Socket>>(win: impl FnOnce(&mut Attempts) -> Result<NewSocket, Failure>) -> Result<Opened<S>, Error> {
    let ((socket, port, origin), attempts) = counted(win)?;
    Ok(Opened { socket: socket.into(), port, origin, attempts })
}

/// Opens a TCP listener with the default [`Options`].
///
/// # Errors
///
/// See [`Options::open_tcp`].
pub fn setup_listener() -> Result<Opened<TcpListener>, Error> {
    Options::new().open_tcp()
}
