//! The sockets that this library opens itself: which family they have, and what is set on them.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::address::{LocalAddress, takes_ipv4_through_ipv6};
use crate::attempts::{Answer, Purpose};
use crate::error::{Failure, Step};
use crate::port_order::PortOrder;
use crate::port_range::{Ports, Range};
use crate::strategy::{PICK, Seeker, allow_reuse, bind, is_bound, listen, picked_port, win_a_port};
use crate::{Attempts, Family, PortOrigin};

/// A socket on a port of its own.
pub(crate) struct Won {
    pub(crate) socket: Socket,
    pub(crate) family: Family,
    pub(crate) port: u16,
    pub(crate) origin: PortOrigin,
}

/// A TCP socket that listens on a port of `named`, or else of the host's range.
#[inline(always)]
pub(crate) fn tcp_listener(
    address: LocalAddress,
    named: Option<Range>,
    backlog: i32,
    retries: u32,
    attempts: &mut Attempts,
) -> Result<Won, Failure> {
    on_first_family(address, Purpose::Listen, attempts, |address, attempts| {
        let mut listener = Listener { socket: Some(open(address, Type::STREAM)?), address, backlog, retries };
        let (origin, port) = win_a_port(&mut listener, named, attempts)?;
        let socket = listener.into_socket()?;
        // Asked for also where it was named: a cgroup's program may have changed it.
        let port = port.map_or_else(|| picked_port(&SockRef::from(&socket)), Ok)?;
        Ok(Won { socket, family: Family::of(&address), port, origin })
    })
}

/// A UDP socket that is alone on a port of `named`, or else of the host's range.
///
/// The kernel's own search for UDP finds every free port, and costs little in a full range (`udp_lib_get_port` has a
/// bitmap), so ports are named only where the caller names them, or where port 0 is forbidden. SO_REUSEADDR is never
/// set: with it the kernel gives one UDP port to several sockets and each datagram to one of them.
pub(crate) fn udp_socket(address: LocalAddress, named: Option<Range>, attempts: &mut Attempts) -> Result<Won, Failure> {
    on_first_family(address, Purpose::Datagrams, attempts, |address, attempts| {
        let won = match named {
            Some(range) => {
                attempts.in_named_range();
                name_udp_port(address, &Ports::exactly(range), attempts)?
            }
            None => pick_udp_port(address, attempts)?,
        };
        let Some(socket) = won else {
            let errno = if attempts.all_forbidden() { libc::EACCES } else { libc::EADDRINUSE };
            return Err(Failure::no_port(Step::Bind, errno));
        };
        let port = picked_port(&SockRef::from(&socket))?;
        Ok(Won { socket, family: Family::of(&address), port, origin: PortOrigin::Free })
    })
}

fn pick_udp_port(address: SocketAddr, attempts: &mut Attempts) -> Result<Option<Socket>, Failure> {
    let socket = open(address, Type::DGRAM)?;
    let answer = bind(&SockRef::from(&socket), address, PICK)?;
    if answer == Answer::Ours {
        attempts.count(answer);
        return Ok(Some(socket));
    }
    // Its descriptor may be the last one.
    drop(socket);
    match Ports::of_host() {
        Ok(ports) if answer == Answer::Forbidden => return name_udp_port(address, &ports, attempts),
        Ok(ports) => attempts.count_all(&ports, answer),
        Err(unreadable) => {
            attempts.unreadable = Some(unreadable);
            attempts.count(answer);
        }
    }
    Ok(None)
}

fn name_udp_port(address: SocketAddr, ports: &Ports, attempts: &mut Attempts) -> Result<Option<Socket>, Failure> {
    let mut socket = open(address, Type::DGRAM)?;
    attempts.begin_pass(ports);
    for port in PortOrder::for_this_call(ports).take(ports.usable() as usize) {
        let answer = bind(&SockRef::from(&socket), address, port)?;
        attempts.count(answer);
        match answer {
            Answer::Ours => return Ok(Some(socket)),
            Answer::Forbidden if is_bound(&SockRef::from(&socket)) => {
                // Its descriptor may be the last one.
                drop(socket);
                socket = open(address, Type::DGRAM)?;
            }
            _ => {}
        }
    }
    Ok(None)
}

/// Tries the wildcard on IPv6, which takes IPv4 as well, and on IPv4 only where the host has no IPv6, or a policy
/// forbids all of it (SocketBindDeny=ipv6 of systemd). A port that was refused or lost is no reason to change the
/// family: two processes would end up on one port number.
#[inline(always)]
fn on_first_family(
    address: LocalAddress,
    purpose: Purpose,
    attempts: &mut Attempts,
    mut try_on: impl FnMut(SocketAddr, &mut Attempts) -> Result<Won, Failure>,
) -> Result<Won, Failure> {
    let (mut address, mut fallback) = address.candidates();
    loop {
        *attempts = Attempts::on(purpose, &address);
        let outcome = try_on(address, attempts);
        let Err(failure) = outcome else {
            return outcome;
        };
        match fallback.take() {
            Some(other) if failure.no_such_family() || attempts.host_range_is_forbidden() => address = other,
            _ => return Err(failure.explained()),
        }
    }
}

/// A socket that is non-blocking and close-on-exec from the start.
#[inline(always)]
fn open(address: SocketAddr, kind: Type) -> Result<Socket, Failure> {
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let socket = Socket::new(Domain::for_address(address), kind.nonblocking(), Some(protocol))
        .map_err(|error| Failure::refused(Step::Socket, error))?;
    if takes_ipv4_through_ipv6(&address) {
        // net.ipv6.bindv6only may have set it. A sandbox may refuse to clear it although it is clear.
        if let Err(error) = socket.set_only_v6(false) {
            if !matches!(socket.only_v6(), Ok(false)) {
                return Err(Failure::refused(Step::Setsockopt, error));
            }
        }
    }
    Ok(socket)
}

/// The seeker behind [`tcp_listener`].
struct Listener {
    /// None after lend_descriptor() only.
    socket: Option<Socket>,
    address: SocketAddr,
    backlog: i32,
    retries: u32,
}

impl Listener {
    fn into_socket(self) -> Result<Socket, Failure> {
        self.socket.ok_or_else(|| Failure::refused(Step::Socket, io::Error::from_raw_os_error(libc::EBADF)))
    }
}

impl Seeker for Listener {
    #[inline(always)]
    fn socket(&self) -> SockRef<'_> {
        match &self.socket {
            Some(socket) => SockRef::from(socket),
            None => unreachable!("renew() follows lend_descriptor()"),
        }
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    #[inline(always)]
    fn use_port(&mut self) -> Result<bool, Failure> {
        let socket = self.socket();
        if !listen(&socket, self.backlog)? {
            return Ok(false);
        }
        // Not before: another socket could have shared the port and listened first.
        allow_reuse(&socket, true).map(|()| true)
    }

    /// Closes the old socket first: its descriptor may be the last one.
    fn renew(&mut self) -> Result<(), Failure> {
        self.socket = None;
        self.socket = Some(open(self.address, Type::STREAM)?);
        Ok(())
    }

    fn is_expendable(&self) -> bool {
        true
    }

    fn lend_descriptor(&mut self) -> bool {
        self.socket = None;
        true
    }

    fn retries(&self) -> u32 {
        self.retries
    }
}
