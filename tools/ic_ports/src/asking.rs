//! Whether there is a port. Only asking tells: a port can be shared if all its holders have SO_REUSEADDR, which the
//! kernel does not show.
//!
//! * A listener: the library opens one, as a backend would, and closes it at once.
//! * How many more: bind() is called for every port, first without SO_REUSEADDR and then with it. No socket listens
//!   meanwhile, and each is closed before the next port's turn. A program that wants the same port in those
//!   microseconds is refused, as by any other starter.
//! * A connection: connect() to port 1 of this host, where no socket should listen. "Refused" is a yes: it found a
//!   port to connect from.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ic_listener::{Options, Step, connect};
use serde::Serialize;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

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
    /// How many ports are free, and how many can be shared with their holders. None when not counted.
    #[serde(flatten)]
    pub ports: Option<Ports>,
}

#[derive(Serialize, Default, Clone, Copy)]
pub struct Ports {
    pub free: u32,
    pub by_sharing: u32,
}

#[derive(Serialize)]
pub struct Connection {
    /// Whether connect() finds a port.
    pub connect: Answer,
    /// Whether ic_listener_connect() does.
    pub ic_listener_connect: Answer,
}

/// # Errors
///
/// What is wrong with the options.
pub fn for_a_listener(options: &Options, usable: &[u16]) -> Result<Listener, String> {
    let opened = match options.open_tcp() {
        Ok(opened) => opened,
        Err(error) if matches!(error.step(), Step::Arguments | Step::Address) => return Err(error.to_string()),
        Err(error) => {
            let reason = error.to_string();
            // Too many open files and the like say nothing about ports.
            let answer = match error.step() {
                Step::Bind | Step::Listen => Answer::No { reason },
                _ => Answer::Unknown { reason },
            };
            return Ok(Listener { answer, ports: None });
        }
    };
    let address = opened.socket.local_addr();
    drop(opened);
    let ports = address.and_then(|address| count(address, usable)).ok().filter(|_| !usable.is_empty());
    Ok(Listener { answer: Answer::Yes, ports })
}

fn count(mut address: SocketAddr, usable: &[u16]) -> io::Result<Ports> {
    let mut ports = Ports::default();
    let (mut alone, mut sharing) = (socket(&address, false)?, socket(&address, true)?);
    for &port in usable {
        address.set_port(port);
        // A socket that was refused can bind another port; one that has a port cannot.
        if alone.bind(&SockAddr::from(address)).is_ok() {
            ports.free += 1;
            alone = socket(&address, false)?;
        } else if sharing.bind(&SockAddr::from(address)).is_ok() {
            ports.by_sharing += 1;
            sharing = socket(&address, true)?;
        }
    }
    Ok(ports)
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

pub fn for_a_connection(address: Option<&str>) -> Connection {
    // This host can reach its own address, but not a link-local one without its interface.
    let target = address.and_then(|address| address.parse().ok()).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let target = if target.is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { target };
    let target = SocketAddr::from((target, 1));
    Connection {
        connect: ask(target, |socket| socket.connect(&SockAddr::from(target))),
        ic_listener_connect: ask(target, |socket| match connect(socket, &target) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        }),
    }
}

fn ask(target: SocketAddr, connect: impl FnOnce(&Socket) -> io::Result<()>) -> Answer {
    let outcome =
        Socket::new(Domain::for_address(target), Type::STREAM.nonblocking(), Some(Protocol::TCP)).and_then(|socket| {
            // Leaves no TIME_WAIT, should a socket listen there after all.
            socket.set_linger(Some(Duration::ZERO))?;
            connect(&socket)
        });
    let errno = outcome.as_ref().err().and_then(io::Error::raw_os_error);
    match (outcome, errno) {
        (Ok(()), _) | (_, Some(libc::ECONNREFUSED | libc::EINPROGRESS)) => Answer::Yes,
        (_, Some(libc::EADDRNOTAVAIL)) => Answer::No { reason: "no port to connect from".to_owned() },
        (Err(error), _) => Answer::Unknown { reason: error.to_string() },
    }
}
