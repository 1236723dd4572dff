//! The Rust API: what a caller may ask for, and what it gets.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use socket2::{SockRef, Socket, Type};

use crate::address::{LocalAddress, Unusable};
use crate::census::{self, Census, Transport};
use crate::error::Failure;
use crate::listener::{self, Won};
use crate::port_range::{Ports, Range};
use crate::{Attempts, Error, Family, PortOrigin, Step};

/// The backlog of a listener whose options do not name one, as Greenplum has it.
pub const DEFAULT_BACKLOG: i32 = 128;

/// How many listens a call may lose to other starters, unless its options say otherwise.
///
/// A lost listen costs some 5 microseconds, so that a call which loses all of them ends within two milliseconds. Of 64
/// processes that start at one moment on 64 ports in TIME_WAIT, none lost more than one, in 1,000 rounds (Linux 6.18).
pub const DEFAULT_LISTEN_RETRIES: u32 = 256;

/// What a listener should be like. The default: the wildcard address, a port of the host's ephemeral range, backlog
/// 128.
#[derive(Clone, Debug)]
#[must_use]
pub struct Options<'a> {
    address: Option<&'a [u8]>,
    backlog: i32,
    ports: Option<RangeInclusive<u16>>,
    listen_retries: u32,
}

/// A socket, its port, and how it was won.
#[derive(Debug)]
#[non_exhaustive]
pub struct Opened<S> {
    /// The socket: non-blocking, close-on-exec, and closed when dropped.
    pub socket: S,
    /// Its port.
    pub port: u16,
    /// The family of the socket; on the wildcard an IPv6 socket takes IPv4 as well.
    pub family: Family,
    /// How the port was won.
    pub origin: PortOrigin,
    /// The ports that were tried.
    pub attempts: Attempts,
    /// How long the call took.
    pub elapsed: Duration,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { address: None, backlog: DEFAULT_BACKLOG, ports: None, listen_retries: DEFAULT_LISTEN_RETRIES }
    }
}

impl<'a> Options<'a> {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens on one numeric address of the host instead of the wildcard: IPv4, IPv6, IPv4-mapped, or link-local IPv6
    /// with its scope (`fe80::1%eth0`, `fe80::1%2`). Names are not resolved.
    pub fn address(self, address: &'a str) -> Self {
        self.address_bytes(address.as_bytes())
    }

    pub(crate) fn address_bytes(mut self, address: &'a [u8]) -> Self {
        self.address = Some(address);
        self
    }

    /// The backlog given to listen(2), which cuts it to net.core.somaxconn; at least 0. UDP has none.
    pub fn backlog(mut self, backlog: i32) -> Self {
        self.backlog = backlog;
        self
    }

    /// Uses exactly these ports (1 or above), those included that the host reserves, instead of its ephemeral range.
    pub fn ports(mut self, ports: RangeInclusive<u16>) -> Self {
        self.ports = Some(ports);
        self
    }

    /// How many listens may be lost to other starters before giving up. UDP loses none.
    pub fn listen_retries(mut self, listen_retries: u32) -> Self {
        self.listen_retries = listen_retries;
        self
    }

    /// Opens a TCP listener.
    ///
    /// The socket is non-blocking, close-on-exec, listening, and alone on its port. SO_REUSEADDR is set on it, so that
    /// the TIME_WAITs of the connections it accepts can be taken by later listeners. The wildcard is one IPv6 socket
    /// that takes IPv4 too (IPV6_V6ONLY is off), or an IPv4 socket where the host has no IPv6.
    ///
    /// # Errors
    ///
    /// EADDRINUSE when no port is left (the step is `listen` when a port was lost to another listener, else `bind`),
    /// EACCES when all ports are forbidden, EADDRNOTAVAIL when the address is not one of this host's, EINVAL for
    /// options that cannot be used, and whatever else socket(2), bind(2) and listen(2) report, such as EMFILE.
    pub fn open_tcp(&self) -> Result<Opened<TcpListener>, Error> {
        opened(|attempts| self.win_tcp(attempts))
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
        opened(|attempts| self.win_udp(attempts))
    }

    #[inline(always)]
    pub(crate) fn win_tcp(&self, attempts: &mut Attempts) -> Result<Won, Failure> {
        let (address, named) = self.validated()?;
        listener::tcp_listener(address, named, self.backlog, self.listen_retries, attempts)
    }

    pub(crate) fn win_udp(&self, attempts: &mut Attempts) -> Result<Won, Failure> {
        let (address, named) = self.validated()?;
        listener::udp_socket(address, named, attempts)
    }

    /// Counts who holds the TCP ports that these options allow, on their address: at any time, for a monitor, for a log
    /// line, for an operator. The backlog and the retries do not matter.
    ///
    /// It takes about as long as a call that finds no port, and stops after half a second of CPU time. It maps 96 KiB
    /// meanwhile.
    /// Nothing is bound, and no socket is disturbed.
    ///
    /// # Errors
    ///
    /// EINVAL for options that cannot be used; ENOENT when the host's port range cannot be read, and the options name
    /// none; what open(2) says of /proc/net/tcp, when netlink is refused as well; ENOMEM.
    pub fn census(&self) -> io::Result<Census> {
        self.take_census().map_err(|failure| failure.source)
    }

    pub(crate) fn take_census(&self) -> Result<Census, Failure> {
        let (address, named) = self.validated()?;
        let ports = match named {
            Some(range) => Ports::exactly(range),
            None => Ports::of_host()
                .map_err(|_| Failure::no_census("the host's port range cannot be read", libc::ENOENT))?,
        };
        census::take(Transport::Tcp, address, &ports)
    }

    #[inline(always)]
    fn validated(&self) -> Result<(LocalAddress, Option<Range>), Failure> {
        if self.backlog < 0 {
            return Err(Failure::option("the backlog is negative"));
        }
        Ok((self.local_address()?, self.ports.as_ref().map(named_ports).transpose()?))
    }

    #[inline(always)]
    fn local_address(&self) -> Result<LocalAddress, Failure> {
        let Some(text) = self.address else {
            return Ok(LocalAddress::Wildcard);
        };
        LocalAddress::parse(text).and_then(LocalAddress::check_unicast).map_err(|unusable| match unusable {
            Unusable::Text(what) => Failure::bad_address(what, text),
            Unusable::Lookup(error) => Failure::refused(Step::Socket, error),
        })
    }
}

/// Adds to what was won what was tried, and how long it took.
fn opened<S: From<Socket>>(win: impl FnOnce(&mut Attempts) -> Result<Won, Failure>) -> Result<Opened<S>, Error> {
    let start = Instant::now();
    let mut attempts = Attempts::default();
    let won = win(&mut attempts);
    let elapsed = start.elapsed();
    match won {
        Ok(Won { socket, family, port, origin }) => {
            Ok(Opened { socket: socket.into(), port, family, origin, attempts, elapsed })
        }
        Err(failure) => Err(Error::new(failure, attempts, elapsed)),
    }
}

fn named_ports(range: &RangeInclusive<u16>) -> Result<Range, Failure> {
    Range::new(*range.start(), *range.end())
        .ok_or_else(|| Failure::option("the lowest port must be 1 or above, and the highest not below the lowest"))
}

/// Opens a TCP listener with the default [`Options`].
///
/// # Errors
///
/// See [`Options::open_tcp`].
pub fn setup_listener() -> Result<Opened<TcpListener>, Error> {
    Options::new().open_tcp()
}

/// Lets listeners take the port of an outgoing TCP connection, while it is in use and in TIME_WAIT, by setting
/// SO_REUSEADDR on it; before or after connect().
///
/// Measured on Linux 4.18 to 7.3: a port whose connections all have the option can be bound by number with it and
/// listened on; with one that does not, it cannot. The connections themselves do not notice.
///
/// # Errors
///
/// EPROTOTYPE when the socket is not a stream socket (a UDP port that may be shared loses datagrams), and what
/// getsockopt(2) and setsockopt(2) report: EBADF, ENOTSOCK.
pub fn share_port(socket: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(socket);
    if socket.r#type()? != Type::STREAM {
        return Err(io::Error::from_raw_os_error(libc::EPROTOTYPE));
    }
    socket.set_reuse_address(true)
}
