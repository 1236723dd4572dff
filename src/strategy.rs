//! How a listener gets its port. This file is what the library exists for; it reads from top to bottom.
//!
//! # The kernel's rules
//!
//! (Measured on Linux 5.10 to 7.3, see the README; the functions named are in net/ipv4/inet_connection_sock.c.)
//!
//! * bind() to port 0 hands out only ports that nobody holds in any way, SO_REUSEADDR or not (`inet_csk_find_open_port`).
//!   A port in TIME_WAIT, or with an outgoing connection on it, has to be asked for by number.
//! * A socket bound without SO_REUSEADDR has its port to itself from bind() on: its listen() cannot lose it.
//! * A socket bound with SO_REUSEADDR shares the port with every other holder that set the option, as long as nobody
//!   listens. The first to listen has it; the listen() of the others fails with EADDRINUSE (`inet_csk_listen_start`).
//! * While a socket listens, nobody else can bind its port on an overlapping address, whatever options they set.
//! * bind() to port 0 walks the range from a random point until it finds a free port. Once a few thousand listeners stand
//!   in a row, the walk costs up to milliseconds. A refused bind() to a named port costs 0.1 to 2 microseconds, depending on the machine
//!   and its caches.
//!
//! # The plan
//!
//! 1. **Probe.** Name some ports ([`PROBES`]), one after the other, on one socket without SO_REUSEADDR. Nobody can race us
//!    on a port we get this way, and we take it from nobody: a program that has bound a port and is about to listen on it
//!    keeps it. Once we listen, SO_REUSEADDR is set after all; accepted connections inherit it, and the TIME_WAITs they
//!    leave can then be taken by the next listener.
//! 2. **Sweep.** When that many ports were all taken, free ones are rare or gone. Go on from there with SO_REUSEADDR, once
//!    over the whole range: this takes free ports as well, and those in TIME_WAIT, and those that only outgoing
//!    connections hold, provided their owners set SO_REUSEADDR. When listen() says that somebody else was first, the
//!    socket is spent (it stays bound): a new one goes on with the next port.
//! 3. **Look again** at the ports whose listen() was lost. The kernel marks a socket as listening before it looks for
//!    others, so two starters can refuse each other and leave the port to nobody (22 of 200,000 races on 6.18).
//! 4. Give up, and say what was found.
//!
//! What remains: while two starters refuse each other, a third one's bind() finds a listener on the port and passes it by.
//! One of the two then takes it when it looks again; the third fails only when it found every other port taken as well.
//!
//! Where the host's range cannot be read, ports cannot be named; then the kernel picks, with and without SO_REUSEADDR.
//!
//! # What it costs to give up
//!
//! One refused bind() for each port: 33 ms for a range of 28,232 listeners where the bare calls take 30. That is nine parts
//! in ten the kernel's, and no other question was found that is both complete and cheaper. On the same machine: the kernel's
//! own search, bind() to port 0, takes 13 ms, and does not see ports that can be shared. A sock_diag(7) dump of the listeners
//! takes 23 to 28 ms, one of the sockets that are bound and do not listen (Linux 6.8) 14 ms, one of the connections 2 ms when
//! there are none; a connect() that finds no port says in 2 to 3 ms that none is free, and nothing about the others. Calls
//! handed over in batches (io_uring) take as long as single ones. The order of the ports matters little: from 31 ms for one
//! after the other to 34 for this one, which keeps callers apart.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::address::{LocalAddress, takes_ipv4_through_ipv6};
use crate::error::{Cause, Failure, Step};
use crate::port_order::{PortOrder, seed_for_this_call};
use crate::port_range::Ports;
use crate::{Attempts, Family, PortOrigin};

/// How many ports are asked for exclusively before ports are shared.
///
/// This is the effort made not to take a port from a program that has bound it and not yet listened. While half of the
/// range is taken, 16 probes (a block of either parity) miss the free ports one time in 65,000; at 80 % one time in 36, at
/// 90 % one in 5, and the sweep then finds them too. More of them would be paid for by hosts whose range is full of
/// TIME_WAIT: there, every call has all its probes refused, at up to 2 microseconds each with cold caches, and 16 more make
/// it nearly twice as slow (p50 77 instead of 40 microseconds, p99 199 instead of 144; Linux 6.18).
const PROBES: usize = 16;

/// A range of so many ports is probed whole: it is small enough to look everywhere before a port is shared.
const SMALL_RANGE: usize = 64;

/// How many lost ports are kept for a second look. More than that are lost only to a crowd of starters in a small range,
/// where each of them took one of the ports.
const LOST_PORTS_KEPT: usize = 64;

/// What the caller wants to listen with.
pub(crate) struct Wanted {
    pub(crate) address: LocalAddress,
    pub(crate) backlog: i32,
    /// How many listens may be lost to others before giving up.
    pub(crate) listen_retries: u32,
}

/// A socket on a port of its own.
pub(crate) struct Won {
    pub(crate) socket: Socket,
    pub(crate) family: Family,
    pub(crate) port: u16,
    pub(crate) origin: PortOrigin,
}

/// A TCP socket that listens on one of `ports`, or, where they are not known, on one the kernel picks.
pub(crate) fn tcp_listener(wanted: &Wanted, ports: Option<&Ports>, attempts: &mut Attempts) -> Result<Won, Failure> {
    on_first_family_to_be_had(wanted.address, ports, attempts, |address, attempts| match ports {
        Some(ports) => listener_on_named_port(wanted, address, ports, attempts),
        None => listener_on_picked_port(wanted, address, attempts),
    })
}

/// A UDP socket that is alone on one of `ports`, or, where they are not known, on one the kernel picks.
///
/// There is no second round with SO_REUSEADDR: with it the kernel gives one UDP port to several sockets and each datagram
/// to one of them.
pub(crate) fn udp_socket(
    address: LocalAddress,
    ports: Option<&Ports>,
    attempts: &mut Attempts,
) -> Result<Won, Failure> {
    on_first_family_to_be_had(address, ports, attempts, |address, attempts| {
        let socket = open(address, Type::DGRAM)?;
        let Some(ports) = ports else {
            if !bind(&socket, address, PICK, attempts)? {
                return Err(no_port(attempts));
            }
            let port = picked_port(&socket)?;
            return Ok(Won { socket, family: Family::of(&address), port, origin: PortOrigin::PickedByKernel });
        };
        for port in PortOrder::new(ports, seed_for_this_call()).take(ports.usable() as usize) {
            if bind(&socket, address, port, attempts)? {
                return Ok(Won { socket, family: Family::of(&address), port, origin: PortOrigin::Free });
            }
        }
        Err(no_port(attempts))
    })
}

fn listener_on_named_port(
    wanted: &Wanted,
    address: SocketAddr,
    ports: &Ports,
    attempts: &mut Attempts,
) -> Result<Won, Failure> {
    let usable = ports.usable() as usize;
    let mut order = PortOrder::new(ports, seed_for_this_call());
    let mut socket = open(address, Type::STREAM)?;

    // 1. Probe for a port that nobody holds.
    let probes = if usable <= SMALL_RANGE { usable } else { PROBES };
    for port in order.by_ref().take(probes) {
        if !bind(&socket, address, port, attempts)? {
            continue;
        }
        if listen(&socket, wanted, false, attempts)? {
            // Not before: somebody else could have shared the port and listened first.
            allow_reuse(&socket)?;
            return Ok(Won { socket, family: Family::of(&address), port, origin: PortOrigin::Free });
        }
        // No kernel we know refuses an exclusive port here. One that does is one more lost listen.
        socket = open(address, Type::STREAM)?;
    }

    // 2. Sweep the range for a port that can be shared, from where the probes ended and round to their last one.
    // 3. Look again at what was lost on the way.
    allow_reuse(&socket)?;
    let mut ports = order.take(usable);
    let mut lost = LostPorts::NONE;
    let mut looking_again = false;
    while let Some(port) = ports.next().or_else(|| {
        looking_again = true;
        lost.pop()
    }) {
        if !bind(&socket, address, port, attempts)? {
            continue;
        }
        if listen(&socket, wanted, looking_again, attempts)? {
            attempts.ports_lost -= u32::from(looking_again);
            return Ok(Won { socket, family: Family::of(&address), port, origin: PortOrigin::Reused });
        }
        lost.push(port);
        socket = open(address, Type::STREAM)?;
        allow_reuse(&socket)?;
    }

    // 4. Give up.
    Err(no_port(attempts))
}

fn listener_on_picked_port(wanted: &Wanted, address: SocketAddr, attempts: &mut Attempts) -> Result<Won, Failure> {
    let mut socket = open(address, Type::STREAM)?;
    if !bind(&socket, address, PICK, attempts)? {
        // Kernels before 4.11, and those with ip_autobind_reuse=1, hand out shared ports when asked like this.
        allow_reuse(&socket)?;
        if !bind(&socket, address, PICK, attempts)? {
            return Err(no_port(attempts));
        }
    }
    while !listen(&socket, wanted, false, attempts)? {
        socket = open(address, Type::STREAM)?;
        allow_reuse(&socket)?;
        if !bind(&socket, address, PICK, attempts)? {
            return Err(no_port(attempts));
        }
    }
    allow_reuse(&socket)?;
    let port = picked_port(&socket)?;
    Ok(Won { socket, family: Family::of(&address), port, origin: PortOrigin::PickedByKernel })
}

/// Tries the wildcard on IPv6, which takes IPv4 as well, and on IPv4 only where the host has no IPv6. A port that was
/// refused or lost is no reason to change the family: two processes would end up on one port number.
fn on_first_family_to_be_had(
    address: LocalAddress,
    ports: Option<&Ports>,
    attempts: &mut Attempts,
    mut try_on: impl FnMut(SocketAddr, &mut Attempts) -> Result<Won, Failure>,
) -> Result<Won, Failure> {
    let mut try_on = |address| {
        *attempts = Attempts::on(Family::of(&address), ports);
        try_on(address, attempts)
    };
    let (first, fallback) = address.candidates();
    match (try_on(first), fallback) {
        (Err(failure), Some(fallback)) if failure.no_such_family() => try_on(fallback),
        (outcome, _) => outcome,
    }
}

/// The port number by which bind() is asked to pick one.
const PICK: u16 = 0;

/// A socket that is non-blocking and close-on-exec from the start.
fn open(address: SocketAddr, kind: Type) -> Result<Socket, Failure> {
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let socket = Socket::new(Domain::for_address(address), kind.nonblocking(), Some(protocol))
        .map_err(|error| Failure::refused(Step::Socket, error))?;
    if takes_ipv4_through_ipv6(&address) {
        // net.ipv6.bindv6only may have set it.
        socket.set_only_v6(false).map_err(|error| Failure::refused(Step::Setsockopt, error))?;
    }
    Ok(socket)
}

fn allow_reuse(socket: &Socket) -> Result<(), Failure> {
    socket.set_reuse_address(true).map_err(|error| Failure::refused(Step::Setsockopt, error))
}

/// Whether the socket has the port now. After a refusal it is as it was, and can ask for another one.
fn bind(socket: &Socket, mut address: SocketAddr, port: u16, attempts: &mut Attempts) -> Result<bool, Failure> {
    address.set_port(port);
    let first_look = attempts.look_at_a_port();
    let outcome = socket.bind(&SockAddr::from(address));
    let errno = outcome.as_ref().err().and_then(io::Error::raw_os_error);
    attempts.got_through = !matches!(errno, Some(libc::EADDRINUSE | libc::EACCES | libc::EPERM));
    match (outcome, errno) {
        (Ok(()), _) => Ok(true),
        (Err(_), Some(libc::EADDRINUSE)) => Ok(false),
        // Below ip_unprivileged_port_start, or a security module's or cgroup program's decision on this port.
        (Err(_), Some(libc::EACCES | libc::EPERM)) => {
            attempts.forbidden += u32::from(first_look);
            Ok(false)
        }
        (Err(error), Some(libc::EADDRNOTAVAIL)) => {
            Err(Failure { step: Step::Bind, source: error, cause: Cause::NotOfThisHost(address) })
        }
        (Err(error), _) => Err(Failure::refused(Step::Bind, error)),
    }
}

/// Whether the socket listens now. If not, somebody else was first on its port, and it is of no further use. An error when
/// that has happened too often.
fn listen(socket: &Socket, wanted: &Wanted, again: bool, attempts: &mut Attempts) -> Result<bool, Failure> {
    match socket.listen(wanted.backlog) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => {
            attempts.got_through = false;
            attempts.listens_lost += 1;
            attempts.ports_lost += u32::from(!again);
            if attempts.listens_lost > wanted.listen_retries { Err(no_port(attempts)) } else { Ok(false) }
        }
        Err(error) => Err(Failure::refused(Step::Listen, error)),
    }
}

fn picked_port(socket: &Socket) -> Result<u16, Failure> {
    let address = socket.local_addr().map_err(|error| Failure::refused(Step::Getsockname, error))?;
    let port = address.as_socket().map_or(0, |address| address.port());
    if port == 0 {
        let nonsense = io::Error::from_raw_os_error(libc::EADDRNOTAVAIL);
        return Err(Failure::refused(Step::Getsockname, nonsense));
    }
    Ok(port)
}

/// EADDRINUSE, at the step listen when a port was lost there; EACCES when privilege is all that was missing.
fn no_port(attempts: &Attempts) -> Failure {
    let step = if attempts.listens_lost > 0 { Step::Listen } else { Step::Bind };
    let forbidden = attempts.forbidden > 0 && attempts.forbidden == attempts.tried;
    Failure::no_port(step, if forbidden { libc::EACCES } else { libc::EADDRINUSE })
}

/// The ports whose listen() was lost, in that order; the oldest are forgotten.
struct LostPorts {
    kept: [u16; LOST_PORTS_KEPT],
    oldest: usize,
    count: usize,
}

impl LostPorts {
    const NONE: Self = Self { kept: [0; LOST_PORTS_KEPT], oldest: 0, count: 0 };

    fn push(&mut self, port: u16) {
        self.kept[(self.oldest + self.count) % LOST_PORTS_KEPT] = port;
        if self.count < LOST_PORTS_KEPT {
            self.count += 1;
        } else {
            self.oldest += 1;
        }
    }

    fn pop(&mut self) -> Option<u16> {
        self.count = self.count.checked_sub(1)?;
        let port = self.kept[self.oldest % LOST_PORTS_KEPT];
        self.oldest += 1;
        Some(port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_ports_come_back_in_the_order_they_were_lost() {
        let mut lost = LostPorts::NONE;
        assert_eq!(lost.pop(), None);
        (1..=3).for_each(|port| lost.push(port));
        assert_eq!(lost.pop(), Some(1));
        (4..=200).for_each(|port| lost.push(port));
        let kept: Vec<u16> = std::iter::from_fn(|| lost.pop()).collect();
        assert_eq!(kept, (137..=200).collect::<Vec<_>>());
    }
}
