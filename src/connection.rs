//! How a connection gets its port where connect() finds none: ask, claim, name.
//!
//! A connection is a 4-tuple: one port serves every destination once. connect() knows that, but passes over every port
//! that was bound, also those that listeners left in TIME_WAIT (`__inet_hash_connect`). bind() by name with SO_REUSEADDR
//! and then connect() can use them. A socket that was bound by name cannot give the port up again, so the caller's
//! socket is bound once, when it is known that the connection can be made:
//!
//! 1. **Ask** the kernel (sock_diag) whether somebody has the 4-tuple. Its own TIME_WAIT comes last: it can be taken
//!    over where timestamps tell old segments from new ones (`tcp_twsk_unique`).
//! 2. **Claim** the 4-tuple, so that no other caller of this library gets the same answer, and ask once more.
//! 3. **Name** the port: bind() to the source address. A listener, or a holder without SO_REUSEADDR, refuses it.
//! 4. connect() once; then the claim is given back.
//!
//! Sixteen ports are asked about, in random order. If that gives none, one dump tells all ports that have a connection
//! to this destination, and the others are tried, each first on a socket of our own. That takes milliseconds on a large
//! range, where it is not repeated for ten times as long if it found nothing.
//!
//! Where sock_diag is refused, or the kernel has no inet_diag, nobody knows: one port is named, and connect()'s answer
//! stands.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::Attempts;
use crate::attempts::{Answer, Purpose};
use crate::census::netlink::{self, Asker};
use crate::census::{Filter, TIME_WAIT, Transport};
use crate::claim::Claim;
use crate::drop_in::{OwnWindow, Probe, is_foreign, socket_like};
use crate::error::{Failure, Step};
use crate::port_order::{PortOrder, Randoms, mix};
use crate::port_range::{PortSet, Ports, timestamps_are_on};
use crate::strategy::{PICK, SMALL_RANGE, bind, sweep};
use crate::sys::{self, Pages};

/// How many ports are asked about before the whole range is looked at.
const QUESTIONS: usize = 16;

/// What the kernel fills at a time; netlink uses no more than 32 KiB (netlink_recvmsg).
const DUMP_BUFFER: usize = 32 << 10;

/// A search for a port from which the destination can be reached.
pub(crate) struct Search<'a> {
    socket: BorrowedFd<'a>,
    source: SocketAddr,
    destination: SocketAddr,
    /// The interface that the connection will be bound to, or 0.
    interface: u32,
    /// From the port that it connects to on its own host, a socket would talk to itself.
    never_from: Option<u16>,
    ports: Ports,
    asker: Option<Asker>,
    randoms: Randoms,
}

/// What became of a search.
pub(crate) enum Found {
    /// The socket is bound to a port. To be kept until connect() has returned.
    Port(Claim),
    No,
    /// The socket had a port before. bind() says it: getsockname() goes on to show the port of a connection that was
    /// refused.
    HasPort,
}

impl<'a> Search<'a> {
    /// None where nothing can be named: the socket is of another network namespace, there is no way to the destination,
    /// or the range cannot be read.
    pub(crate) fn new(socket: BorrowedFd<'a>, address: &SockAddr, attempts: &mut Attempts) -> Option<Self> {
        let destination = address.as_socket()?;
        *attempts = Attempts::on(Purpose::Connect, &destination);
        let mut local = SockRef::from(&socket).local_addr().ok()?.as_socket()?;
        local.set_port(PICK);
        let asker = Asker::new().ok();
        let scout = scout_for(socket, local);
        let made_now = asker.as_ref().map(AsFd::as_fd).or_else(|| scout.as_ref().ok().map(AsFd::as_fd));
        if made_now.is_some_and(|made_now| is_foreign(socket, made_now)) {
            return None;
        }
        let source = match scout.and_then(|scout| source_towards(scout, local, address)) {
            // There is no way to the destination, whatever the port.
            Err(error) if is_no_way(&error) => return None,
            // It cannot be asked: no descriptor, no UDP port, a policy against UDP. The wildcard has to do.
            Err(_) => local,
            Ok(source) => source,
        };
        let ports = OwnWindow::of(socket).ports().map_err(|unreadable| attempts.cannot_read(unreadable)).ok()?;
        attempts.from(source);
        // An unspecified destination is this host's loopback address; an unspecified source may be any.
        let (from, to) = (source.ip().to_canonical(), destination.ip().to_canonical());
        let to_itself = from == to || from.is_unspecified() || to.is_unspecified();
        let mut randoms = Randoms::for_this_call();
        randoms.differ_by_process();
        let interface = interface_of(socket, destination);
        let never_from = to_itself.then(|| destination.port());
        Some(Self { socket, source, destination, interface, never_from, ports, asker, randoms })
    }

    /// Asks about some ports.
    pub(crate) fn some(&mut self, attempts: &mut Attempts) -> Result<Found, Failure> {
        told_by_bind(self.ask_about_some(attempts))
    }

    /// Looks at the whole range, unless that was in vain a moment ago.
    pub(crate) fn whole(&mut self, attempts: &mut Attempts) -> Result<Found, Failure> {
        told_by_bind(self.look_at_all(attempts))
    }

    fn ask_about_some(&mut self, attempts: &mut Attempts) -> Result<Found, Failure> {
        attempts.begin_pass(&self.ports);
        let mut in_time_wait = None;
        let ports = std::mem::replace(&mut self.ports, Ports::none());
        let order = PortOrder::new(&ports, &mut self.randoms);
        let mut found = Found::No;
        for port in order.take(QUESTIONS) {
            if self.state_of(port) == Some(TIME_WAIT) {
                in_time_wait = Some(port);
                attempts.count(Answer::Connected);
                continue;
            }
            let (answer, claim) = self.name(port, true, false)?;
            attempts.count(answer);
            if answer == Answer::Ours {
                found = Found::Port(claim);
                break;
            }
        }
        self.ports = ports;
        match (found, in_time_wait.filter(|_| timestamps_are_on())) {
            (Found::No, Some(port)) => Ok(match self.name(port, true, true)? {
                (Answer::Ours, claim) => Found::Port(claim),
                _ => Found::No,
            }),
            (found, _) => Ok(found),
        }
    }

    fn look_at_all(&mut self, attempts: &mut Attempts) -> Result<Found, Failure> {
        let start = sys::monotonic_time();
        let is_small = self.ports.range().span() <= SMALL_RANGE;
        if !is_small && !may_search(self.destination, start) {
            return Ok(Found::No);
        }
        let (Ok(mut connected), Ok(mut in_time_wait)) = (PortSet::new(), PortSet::new()) else {
            return Ok(Found::No);
        };
        // What cannot be listed is found out by asking.
        let _ = self.list(&mut connected, &mut in_time_wait);

        let ports = std::mem::replace(&mut self.ports, Ports::none());
        let mut claim = Claim::Unavailable;
        let mut probe = Probe::new(self.socket, self.source);
        let order = PortOrder::new(&ports, &mut self.randoms);
        let mut port = sweep(&ports, order.clone(), attempts, |port, heeds_claims| {
            if connected.contains(port) || in_time_wait.contains(port) {
                return Ok(Answer::Connected);
            }
            let mut answer = probe.ask_for(port)?;
            if answer == Answer::Ours {
                (answer, claim) = self.name(port, heeds_claims, false)?;
            }
            Ok(answer)
        })?;
        if port.is_none() && timestamps_are_on() {
            for candidate in order.filter(|&port| in_time_wait.contains(port)) {
                let (answer, got) = self.name(candidate, true, true)?;
                if answer == Answer::Ours {
                    (port, claim) = (Some(candidate), got);
                    break;
                }
            }
        }
        self.ports = ports;
        if port.is_none() {
            searched_in_vain(self.destination, start, sys::monotonic_time());
            return Ok(Found::No);
        }
        Ok(Found::Port(claim))
    }

    /// Claims a port and binds the socket to it, if the connection can be made from there.
    fn name(&self, port: u16, heeds_claims: bool, takes_over: bool) -> Result<(Answer, Claim), Failure> {
        let can_be_made = |state: Option<u8>| state.is_none() || (takes_over && state == Some(TIME_WAIT));
        if self.never_from == Some(port) {
            return Ok((Answer::Connected, Claim::Unavailable));
        }
        let refused = |state| if state == Some(LISTEN) { Answer::InUse } else { Answer::Connected };
        let state = self.state_of(port);
        if !can_be_made(state) {
            return Ok((refused(state), Claim::Unavailable));
        }
        let claim = Claim::to_connect(self.from(port), self.destination);
        if heeds_claims && matches!(claim, Claim::Refused) {
            return Ok((Answer::Claimed, claim));
        }
        let state = self.state_of(port);
        if !can_be_made(state) {
            return Ok((refused(state), claim));
        }
        Ok((bind(&SockRef::from(&self.socket), self.source, port)?, claim))
    }

    /// The state of the connection from that port, where somebody has it and that can be known.
    fn state_of(&self, port: u16) -> Option<u8> {
        self.asker.as_ref()?.state_of(self.from(port), self.destination, self.interface).ok().flatten()
    }

    fn from(&self, port: u16) -> SocketAddr {
        let mut source = self.source;
        source.set_port(port);
        source
    }

    /// The ports that have a connection from this source to this destination.
    fn list(&self, connected: &mut PortSet, in_time_wait: &mut PortSet) -> io::Result<()> {
        if self.asker.is_none() {
            return Ok(());
        }
        let mut buffer = Pages::new(DUMP_BUFFER)?;
        let (mut destination, source) = (self.destination, self.source.ip().to_canonical());
        destination.set_ip(destination.ip().to_canonical());
        netlink::list(Transport::Tcp, &Filter::Towards(destination), buffer.bytes(), &mut |seen| {
            let is_ours = seen.local.ip().to_canonical() == source || source.is_unspecified();
            let same_interface = seen.interface == 0 || seen.interface == self.interface;
            if is_ours && same_interface {
                let set = if seen.state == TIME_WAIT { &mut *in_time_wait } else { &mut *connected };
                set.insert(seen.local.port());
            }
            true
        })
    }
}

fn told_by_bind(found: Result<Found, Failure>) -> Result<Found, Failure> {
    match found {
        Err(failure) if failure.step() == Step::Bind && failure.errno() == libc::EINVAL => Ok(Found::HasPort),
        found => found,
    }
}

/// net/tcp_states.h
const LISTEN: u8 = 10;

/// A UDP socket asks for the route and sends nothing.
fn scout_for(socket: BorrowedFd<'_>, local: SocketAddr) -> io::Result<Socket> {
    socket_like(socket, Domain::for_address(local), Type::DGRAM)
}

/// Where a connection would come from: the address that the caller bound, or else the one that the route has. The
/// wildcard would do to bind a port, but then a listener on any address of the host would be in the way.
fn source_towards(scout: Socket, local: SocketAddr, address: &SockAddr) -> io::Result<SocketAddr> {
    if !local.ip().is_unspecified() {
        return Ok(local);
    }
    scout.connect(address)?;
    let mut source = scout.local_addr()?.as_socket().unwrap_or(local);
    source.set_port(PICK);
    Ok(source)
}

/// What connect() says of a UDP socket where there is no route, or no address to come from.
fn is_no_way(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EADDRNOTAVAIL))
}

/// The interface of a socket that is bound to one, or of a link-local destination, to which connect() binds it.
fn interface_of(socket: BorrowedFd<'_>, destination: SocketAddr) -> u32 {
    let by_name = sys::device(socket)
        .and_then(|name| std::ffi::CStr::from_bytes_until_nul(&name).ok().and_then(sys::interface_index));
    match (by_name, destination) {
        (Some(index), _) => index,
        (None, SocketAddr::V6(destination)) if destination.ip().is_unicast_link_local() => destination.scope_id(),
        _ => 0,
    }
}

/// Destinations towards which the whole range was searched in vain, and until when it is not searched again: an event
/// loop would stand still. One word for each: 32 bits of a hash of the destination, and a time in milliseconds. One
/// that is overwritten is searched for once more.
static SEARCHED: [AtomicU64; 16] = [const { AtomicU64::new(0) }; 16];

/// For how many times its own duration a search in vain is not repeated.
const PAUSE: u32 = 10;

fn slot(destination: SocketAddr) -> (&'static AtomicU64, u64) {
    let ip = match destination.ip().to_canonical() {
        std::net::IpAddr::V4(ip) => u64::from(ip.to_bits()),
        std::net::IpAddr::V6(ip) => mix(ip.to_bits() as u64) ^ (ip.to_bits() >> 64) as u64,
    };
    let hash = mix(mix(ip) ^ u64::from(destination.port()));
    (&SEARCHED[(hash % SEARCHED.len() as u64) as usize], hash >> 32 << 32)
}

fn may_search(destination: SocketAddr, now: Duration) -> bool {
    let (slot, hash) = slot(destination);
    let word = slot.load(Ordering::Relaxed);
    // The time wraps: what is further away than a minute is long over.
    let left = (word as u32).wrapping_sub(now.as_millis() as u32);
    word >> 32 << 32 != hash || !(1..60_000).contains(&left)
}

fn searched_in_vain(destination: SocketAddr, start: Duration, now: Duration) {
    let (slot, hash) = slot(destination);
    let until = (now + (now - start) * PAUSE).as_millis() as u32;
    slot.store(hash | u64::from(until), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_in_vain_is_not_repeated_for_ten_times_as_long_towards_that_destination() {
        let (one, other) = ("192.0.2.1:9".parse().unwrap(), "[2001:db8::1]:9".parse().unwrap());
        let at = |milliseconds| Duration::from_millis(milliseconds);
        assert!(may_search(one, at(1_000)));
        searched_in_vain(one, at(1_000), at(1_012));
        assert!(!may_search(one, at(1_012)) && !may_search(one, at(1_131)));
        assert!(may_search(one, at(1_132)) && may_search(one, at(1_000_000_000)));
        assert!(may_search(other, at(1_013)));
    }
}
