//! Whether there is a port. Only trying tells: a port can be shared if all its holders have SO_REUSEADDR, and connect()
//! passes over ports that bind() has given out. The kernel shows neither. What is tried, ic_ports(1) says.
//!
//! connect() has TCP Fast Open and nothing to send. The kernel chooses the port and keeps the SYN for the first data
//! (`tcp_fastopen_defer_connect`), which never come: the destination is not bothered.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use ic_listener::{Options, Step};
use serde::Serialize;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::system::{self, IP_LOCAL_PORT_RANGE};

#[derive(Serialize)]
#[serde(tag = "answer", rename_all = "lowercase")]
pub enum Answer {
    Yes,
    No { reason: String },
    Unknown { reason: String },
}

#[derive(Serialize)]
pub struct Listener {
    #[serde(flatten)]
    pub answer: Answer,
    /// None where they were not counted.
    pub free: Option<u32>,
    /// Those that can be shared with their holders.
    pub by_sharing: Option<u32>,
}

#[derive(Serialize)]
pub struct Connection {
    /// Whether connect() finds a port.
    pub connect: Answer,
    /// Whether ic_listener_connect() does.
    pub ic_listener_connect: Answer,
}

/// How many ports are left towards a destination. None where they could not be counted.
#[derive(Serialize, Default)]
pub struct Left {
    /// Those that connect() would choose.
    pub by_connect: Option<u32>,
    /// Those that can be named: bind() with SO_REUSEADDR, then connect().
    pub by_name: Option<u32>,
}

/// The error is what is wrong with the options.
pub fn for_a_listener(options: &Options, usable: &[u16]) -> Result<Listener, String> {
    let (answer, address) = match options.open_tcp() {
        Ok(opened) => (Answer::Yes, opened.socket.local_addr().ok()),
        Err(error) => {
            let reason = error.to_string();
            match error.step() {
                Step::Arguments | Step::Address => return Err(reason),
                Step::Bind | Step::Listen => (Answer::No { reason }, None),
                // Too many open files and the like say nothing about ports.
                _ => (Answer::Unknown { reason }, None),
            }
        }
    };
    let (free, by_sharing) = match &answer {
        Answer::Yes => address.filter(|_| !usable.is_empty()).and_then(|address| count(address, usable).ok()).unzip(),
        Answer::No { .. } => (Some(0), Some(0)),
        Answer::Unknown { .. } => (None, None),
    };
    Ok(Listener { answer, free, by_sharing })
}

/// How many are free, and how many can be shared.
fn count(mut address: SocketAddr, usable: &[u16]) -> io::Result<(u32, u32)> {
    let (mut free, mut by_sharing) = (0, 0);
    let (mut alone, mut sharing) = (socket(&address, false)?, socket(&address, true)?);
    for &port in usable {
        address.set_port(port);
        // A socket that was refused can bind another port; one that has a port cannot.
        if alone.bind(&SockAddr::from(address)).is_ok() {
            free += 1;
            alone = socket(&address, false)?;
        } else if sharing.bind(&SockAddr::from(address)).is_ok() {
            by_sharing += 1;
            sharing = socket(&address, true)?;
        }
    }
    Ok((free, by_sharing))
}

/// One like the library's.
fn socket(address: &SocketAddr, sharing: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(*address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(sharing)?;
    Ok(socket)
}

/// From the address to a port of this host, where any port will do.
pub fn for_a_connection(source: Option<IpAddr>) -> Connection {
    let target = match source {
        // This host can reach its own address.
        Some(address) if !address.is_unspecified() => address,
        Some(IpAddr::V6(_)) => Ipv6Addr::LOCALHOST.into(),
        _ => Ipv4Addr::LOCALHOST.into(),
    };
    for_a_connection_to(SocketAddr::from((target, 1)), None)
}

pub fn for_a_connection_to(target: SocketAddr, source: Option<IpAddr>) -> Connection {
    let attempt = |connect: &dyn Fn(&Socket) -> io::Result<()>| {
        let socket = match connecting_socket(&target).and_then(|socket| bind_without_port(socket, source)) {
            Ok(socket) => socket,
            Err(error) => return Answer::Unknown { reason: error.to_string() },
        };
        match connect(&socket) {
            Ok(()) => Answer::Yes,
            Err(error) => match error.raw_os_error() {
                // The SYN was sent after all.
                Some(libc::ECONNREFUSED | libc::EINPROGRESS) => Answer::Yes,
                Some(libc::EADDRNOTAVAIL) => Answer::No { reason: "no port to connect from".to_owned() },
                _ => Answer::Unknown { reason: error.to_string() },
            },
        }
    };
    Connection {
        connect: attempt(&|socket| socket.connect(&SockAddr::from(target))),
        ic_listener_connect: attempt(&|socket| match ic_listener::connect(socket, &target) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        }),
    }
}

/// One that chooses its port and sends nothing. Where TCP Fast Open is switched off, the options are refused and
/// connect() does send a SYN.
fn connecting_socket(target: &SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(*target), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    let _ = system::set_option(&socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, 1);
    let _ = system::set_option(&socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN_NO_COOKIE, 1);
    // Leaves no TIME_WAIT, should the connection be made after all.
    socket.set_linger(Some(Duration::ZERO))?;
    Ok(socket)
}

/// Leaves the port to connect().
fn bind_without_port(socket: Socket, source: Option<IpAddr>) -> io::Result<Socket> {
    if let Some(source) = source {
        system::set_option(&socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
        socket.bind(&SockAddr::from(SocketAddr::from((source, 0))))?;
    }
    Ok(socket)
}

/// The address that the kernel would connect from, or why there is no way. A UDP socket asks without a packet.
pub fn source_towards(target: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(target)?;
    Ok(socket.local_addr()?.ip())
}

pub fn left_towards(target: SocketAddr, source: IpAddr, usable: &[u16]) -> Left {
    let by_connect = |port: u16| {
        let socket = connecting_socket(&target)?;
        // A window of one port: both its ends, in one number. Linux 6.3.
        let window = u32::from(port) << 16 | u32::from(port);
        system::set_option(&socket, libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE, window)?;
        connects_silently(&bind_without_port(socket, Some(source))?, target)
    };
    let by_name = |port: u16| {
        // A connection of a socket to itself.
        if SocketAddr::from((source, port)) == target {
            return Ok(false);
        }
        let socket = connecting_socket(&target)?;
        socket.set_reuse_address(true)?;
        match socket.bind(&SockAddr::from(SocketAddr::from((source, port)))) {
            Ok(()) => connects_silently(&socket, target),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(false),
            Err(error) => Err(error),
        }
    };
    Left { by_connect: count_ports(usable, by_connect), by_name: count_ports(usable, by_name) }
}

fn count_ports(usable: &[u16], mut is_left: impl FnMut(u16) -> io::Result<bool>) -> Option<u32> {
    usable.iter().try_fold(0, |count, &port| is_left(port).ok().map(|left| count + u32::from(left)))
}

/// Whether connect() accepts the port. 0 from a socket that does not block says that the SYN was kept. An error says
/// nothing about the port; EINPROGRESS is one: the SYN was sent, so that no more ports must be tried.
fn connects_silently(socket: &Socket, target: SocketAddr) -> io::Result<bool> {
    match socket.connect(&SockAddr::from(target)) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ok(false),
        Err(error) => Err(error),
    }
}
