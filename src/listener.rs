//! The sockets that this library opens itself: which family they have, and what is set on them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::attempts::{Answer, Purpose};
use crate::error::{Failure, Step};
use crate::port_order::{PortOrder, Randoms};
use crate::port_range::{Ports, Range};
use crate::strategy::{ANY_PORT, bind, is_bound, no_port, open_listener, picked_port};
use crate::{Attempts, PortOrigin};

/// A socket, its port, and where that came from.
pub(crate) type NewSocket = (Socket, u16, PortOrigin);

/// A TCP socket that listens on a port of `named`, or else of the host's range.
pub(crate) fn tcp_listener(
    address: Option<SocketAddr>,
    named: Option<Range>,
    backlog: i32,
    attempts: &mut Attempts,
) -> Result<NewSocket, Failure> {
    on_first_family(address, Purpose::Listen, attempts, |address, attempts| {
        open_listener(address, named, backlog, attempts)
    })
}

/// A UDP socket that is alone on a port of `named`, or else of the host's range.
///
/// The kernel's own search for UDP finds every free port, and costs little in a full range (`udp_lib_get_port` has a
/// bitmap), so ports are named only where the caller names them, or where port 0 is forbidden. SO_REUSEADDR is never
/// set: with it the kernel gives one UDP port to several sockets and each datagram to one of them.
pub(crate) fn udp_socket(
    address: Option<SocketAddr>,
    named: Option<Range>,
    attempts: &mut Attempts,
) -> Result<NewSocket, Failure> {
    on_first_family(address, Purpose::Datagrams, attempts, |address, attempts| {
        let socket = match named {
            Some(range) => {
                attempts.named = true;
                name_udp_port(address, &Ports::exactly(range), attempts)?
            }
            None => pick_udp_port(address, attempts)?,
        };
        let socket = socket.ok_or_else(|| no_port(attempts))?;
        let port = picked_port(&SockRef::from(&socket))?;
        Ok((socket, port, PortOrigin::Free))
    })
}

fn pick_udp_port(address: SocketAddr, attempts: &mut Attempts) -> Result<Option<Socket>, Failure> {
    let socket = open(address, Type::DGRAM)?;
    let answer = bind(&SockRef::from(&socket), address, ANY_PORT)?;
    if answer == Answer::Ours {
        attempts.count(answer);
        return Ok(Some(socket));
    }
    // Its descriptor may be the last one.
    drop(socket);
    match attempts.noting(Ports::of_host()) {
        Some(ports) if answer == Answer::Forbidden => return name_udp_port(address, &ports, attempts),
        Some(ports) => attempts.count_all(&ports, answer),
        None => attempts.count(answer),
    }
    Ok(None)
}

fn name_udp_port(address: SocketAddr, ports: &Ports, attempts: &mut Attempts) -> Result<Option<Socket>, Failure> {
    let mut socket = open(address, Type::DGRAM)?;
    attempts.begin_pass(ports);
    let mut randoms = Randoms::for_this_call();
    randoms.differ_by_process();
    for port in PortOrder::new(ports, &mut randoms) {
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

/// Tries the wildcard (None) on IPv6, which takes IPv4 as well, and on IPv4 only where the host has no IPv6, or a
/// policy forbids all of it (SocketBindDeny=ipv6 of systemd). A port that was refused or lost is no reason to change
/// the family: two processes would end up on one port number.
fn on_first_family(
    address: Option<SocketAddr>,
    purpose: Purpose,
    attempts: &mut Attempts,
    mut try_on: impl FnMut(SocketAddr, &mut Attempts) -> Result<NewSocket, Failure>,
) -> Result<NewSocket, Failure> {
    let mut try_on = |address, attempts: &mut Attempts| {
        *attempts = Attempts::on(purpose, &address);
        try_on(address, attempts)
    };
    match try_on(address.unwrap_or((Ipv6Addr::UNSPECIFIED, 0).into()), attempts) {
        Err(failure) if address.is_none() && (failure.no_such_family() || attempts.host_range_is_forbidden()) => {
            try_on((Ipv4Addr::UNSPECIFIED, 0).into(), attempts)
        }
        outcome => outcome,
    }
}

/// A socket that is non-blocking and close-on-exec from the start.
pub(crate) fn open(address: SocketAddr, kind: Type) -> Result<Socket, Failure> {
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let socket = Socket::new(Domain::for_address(address), kind.nonblocking(), Some(protocol))
        .map_err(|error| Failure::refused(Step::Socket, error))?;
    let ip = address.ip();
    if ip.is_ipv6() && (ip.is_unspecified() || ip.to_canonical().is_ipv4()) {
        // net.ipv6.bindv6only may have set it. A sandbox may refuse to clear it although it is clear.
        if let Err(error) = socket.set_only_v6(false) {
            if !matches!(socket.only_v6(), Ok(false)) {
                return Err(Failure::refused(Step::Setsockopt, error));
            }
        }
    }
    Ok(socket)
}
