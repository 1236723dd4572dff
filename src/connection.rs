//! How a connection gets its port where connect() finds none: ask, claim, name.
//!
//! A connection is a 4-tuple: one port serves every destination once. connect() knows that, but passes over every port
//! that was bound, also those that listeners left in TIME_WAIT (`__inet_hash_connect`). bind() by name with
//! SO_REUSEADDR and then connect() can use them. A socket that was bound by name cannot give the port up again, so the
//! caller's socket is bound once, when it is known that the connection can be made:
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
//! Where netlink is refused, or the kernel has no tcp_diag, /proc/net/tcp lists the connections.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::Attempts;
use crate::attempts::{Answer, Purpose};
use crate::callers_socket::{Probe, is_foreign, name_port, own_window, ports_in, socket_like};
use crate::census::netlink::{self, InetDiag};
use crate::census::{Entry, Filter, TIME_WAIT, Transport, proc};
use crate::claim::Claim;
use crate::error::Failure;
use crate::port_order::{PortOrder, Randoms, mix};
use crate::port_range::{PortSet, Ports, timestamps_are_on};
use crate::strategy::{ANY_PORT, SMALL_RANGE, sweep};
use crate::sys::{self, Pages, SO_BINDTOIFINDEX};

/// How many ports are asked about before the whole range is looked at.
const QUESTIONS: usize = 16;

/// So many ports are asked about in the time that a dump takes.
const FEW: u32 = 256;

/// What the kernel fills at a time; netlink uses no more than 32 KiB (netlink_recvmsg).
const DUMP_BUFFER: usize = 32 << 10;

/// A search for a port from which the destination can be reached.
pub(crate) struct PortSearch<'a> {
    socket: BorrowedFd<'a>,
    /// The address that the caller has bound, or the wildcard.
    bound: SocketAddr,
    source: SocketAddr,
    destination: SocketAddr,
    /// The interface that the connection will be bound to, or 0.
    interface: u32,
    /// From the port that it connects to on its own host, a socket would talk to itself.
    self_connect_port: Option<u16>,
    ports: Ports,
    /// Where sock_diag is there, and the source address, and so the 4-tuple, is known.
    inet_diag: Option<InetDiag>,
    randoms: Randoms,
    /// A port whose connection to this destination is in TIME_WAIT.
    in_time_wait: Cell<Option<u16>>,
}

// A search fails where bind() cannot name a port: a policy refuses the call, or the socket has one. (getsockname()
// cannot tell: it goes on to show the port of a connection that was refused.) Then connect()'s answer stands.
impl<'a> PortSearch<'a> {
    /// None where nothing can be named: the socket is of another network namespace, there is no way to the destination,
    /// or the range cannot be read.
    pub(crate) fn new(socket: BorrowedFd<'a>, address: &SockAddr, attempts: &mut Attempts) -> Option<Self> {
        let destination = address.as_socket()?;
        *attempts = Attempts::on(Purpose::Connect, &destination);
        let mut bound = SockRef::from(&socket).local_addr().ok()?.as_socket()?;
        bound.set_port(ANY_PORT);
        let inet_diag = InetDiag::new().ok();
        let other = if inet_diag.is_none() { Socket::new(Domain::UNIX, Type::DGRAM, None).ok() } else { None };
        if is_foreign(socket, inet_diag.as_ref().map(|InetDiag(made_now)| made_now).or(other.as_ref())) {
            return None;
        }
        drop(other);
        let source = match source_towards(socket, bound, address) {
            // There is no way to the destination, whatever the port.
            Err(error) if is_no_way(&error) => return None,
            // It cannot be asked: no descriptor, no UDP port, a policy against UDP. The wildcard has to do.
            Err(_) => bound,
            Ok(source) => source,
        };
        let ports = attempts.noting(ports_in(own_window(socket)))?;
        attempts.address = Some(source);
        let destination = where_it_goes(destination, source);
        // An unspecified source may be any.
        let (from, to) = (source.ip().to_canonical(), destination.ip().to_canonical());
        let to_itself = from == to || from.is_unspecified();
        let mut randoms = Randoms::for_this_call();
        randoms.differ_by_process();
        Some(Self {
            socket,
            bound,
            source,
            destination,
            interface: interface_of(socket, destination),
            self_connect_port: to_itself.then(|| destination.port()),
            ports,
            inet_diag: inet_diag.filter(|_| !from.is_unspecified()),
            randoms,
            in_time_wait: Cell::new(None),
        })
    }

    /// Names one of 16 ports, if it can. The claim is to be kept until the connection has begun.
    pub(crate) fn ask_about_some(&mut self, attempts: &mut Attempts) -> Result<Option<Claim>, Failure> {
        attempts.begin_pass(&self.ports);
        if self.inet_diag.is_none() {
            return Ok(None);
        }
        for port in PortOrder::new(&self.ports, &mut self.randoms).take(QUESTIONS) {
            let named = self.name(port, true, false)?;
            attempts.count(named.as_ref().err().copied().unwrap_or(Answer::Ours));
            if let Ok(claim) = named {
                return Ok(Some(claim));
            }
        }
        Ok(None)
    }

    /// The same with the whole range, unless that was in vain a moment ago.
    pub(crate) fn look_at_all(&mut self, attempts: &mut Attempts) -> Result<Option<Claim>, Failure> {
        let (now, used) = (sys::monotonic_time(), sys::thread_cpu_time());
        if self.ports.range().span() > SMALL_RANGE && !may_search(self.destination, now) {
            return self.take_over(self.in_time_wait.get(), attempts);
        }
        let (Ok(mut connected), Ok(mut in_time_wait)) = (PortSet::new(), PortSet::new()) else {
            return Ok(None);
        };
        let mut left = self.ports.usable();
        // What cannot be listed is found out by asking. IPv4-mapped addresses make connections of two families.
        let of_ipv4 = self.source.is_ipv4();
        let families = if self.destination.ip().to_canonical().is_ipv4() { 2 } else { 1 };
        for of_ipv4 in [of_ipv4, !of_ipv4].into_iter().take(families) {
            if left > FEW || self.inet_diag.is_none() {
                let _ = self.list(of_ipv4, &mut connected, &mut in_time_wait);
                left = self.ports.usable().saturating_sub(connected.count + in_time_wait.count);
            }
        }

        let mut won = None;
        let mut probe = Probe::new(self.socket, self.source);
        let order = PortOrder::new(&self.ports, &mut self.randoms);
        sweep(&self.ports, order.clone(), attempts, |port, heeds_claims| {
            if connected.contains(port) || in_time_wait.contains(port) {
                return Ok(Answer::Connected);
            }
            // That costs less than a socket of our own, which a port that is not refused spends.
            let refused = if left <= FEW { self.refusal_of(port, false) } else { None };
            if let Some(refused) = refused {
                if self.in_time_wait.get() == Some(port) {
                    in_time_wait.insert(port);
                }
                return Ok(refused);
            }
            let answer = probe.ask_for(port)?;
            if answer != Answer::Ours {
                return Ok(answer);
            }
            Ok(match self.name(port, heeds_claims, false)? {
                Ok(claim) => {
                    won = Some(claim);
                    Answer::Ours
                }
                Err(refused) => refused,
            })
        })?;
        if won.is_some() {
            return Ok(won);
        }
        let may_be_named = |&port: &u16| in_time_wait.contains(port) && matches!(probe.ask_for(port), Ok(Answer::Ours));
        let found = self.take_over(order.filter(may_be_named), attempts)?;
        searched_in_vain(self.destination, now, sys::thread_cpu_time() - used);
        Ok(found)
    }

    /// Names one of these ports, whose connections to this destination are in TIME_WAIT.
    fn take_over(
        &self,
        ports: impl IntoIterator<Item = u16>,
        attempts: &mut Attempts,
    ) -> Result<Option<Claim>, Failure> {
        let mut ports = ports.into_iter().peekable();
        if ports.peek().is_some() && timestamps_are_on() {
            for port in ports {
                // Nothing else is left, so that claims of strangers are not heeded.
                if let Ok(claim) = self.name(port, false, true)? {
                    attempts.connections_taken = attempts.connections_taken.saturating_sub(1);
                    return Ok(Some(claim));
                }
            }
        }
        Ok(None)
    }

    /// Claims a port and binds the socket to it, if the connection can be made from there.
    fn name(&self, port: u16, heeds_claims: bool, takes_over: bool) -> Result<Result<Claim, Answer>, Failure> {
        if self.self_connect_port == Some(port) {
            return Ok(Err(Answer::Connected));
        }
        if let Some(refused) = self.refusal_of(port, takes_over) {
            return Ok(Err(refused));
        }
        let claim = Claim::to_connect(self.from(port), self.destination, heeds_claims);
        if let Claim::Refused = claim {
            return Ok(Err(Answer::Claimed));
        }
        if let Some(refused) = self.refusal_of(port, takes_over) {
            return Ok(Err(refused));
        }
        let answer = name_port(self.socket, self.bound, self.source, port)?;
        Ok(if answer == Answer::Ours { Ok(claim) } else { Err(answer) })
    }

    /// Asks who has the 4-tuple. None where the connection can be made, or nobody can be asked.
    fn refusal_of(&self, port: u16, takes_over: bool) -> Option<Answer> {
        match self.inet_diag.as_ref()?.state_of(self.from(port), self.destination, self.interface) {
            Ok(None) => None,
            Ok(Some(TIME_WAIT)) if takes_over => None,
            Ok(Some(TIME_WAIT)) => {
                self.in_time_wait.set(Some(port));
                Some(Answer::Connected)
            }
            // On an interface it may be a listener outside of its VRF. bind() knows.
            Ok(Some(LISTEN)) if self.interface != 0 => None,
            Ok(Some(LISTEN)) => Some(Answer::InUse),
            Ok(Some(_)) | Err(_) => Some(Answer::Connected),
        }
    }

    fn from(&self, port: u16) -> SocketAddr {
        let mut source = self.source;
        source.set_port(port);
        source
    }

    /// The ports that have a connection of that family from this source to this destination.
    fn list(&self, of_ipv4: bool, connected: &mut PortSet, in_time_wait: &mut PortSet) -> io::Result<()> {
        let mut buffer = Pages::new(DUMP_BUFFER)?;
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let (destination, source) = (canonical(self.destination), self.source.ip().to_canonical());
        let mut add = |entry: &Entry| {
            let is_ours = entry.local.ip().to_canonical() == source || source.is_unspecified();
            let same_interface = entry.interface == 0 || entry.interface == self.interface;
            let may_be_named = self.ports.may_be_named(entry.local.port());
            if is_ours && same_interface && may_be_named && canonical(entry.remote) == destination {
                let set = if entry.state == TIME_WAIT { &mut *in_time_wait } else { &mut *connected };
                set.insert(entry.local.port());
            }
            true
        };
        let filter = Filter::Towards { destination, of_ipv4 };
        netlink::list(Transport::Tcp, &filter, buffer.bytes(), &mut add)
            .or_else(|_| proc::list(Transport::Tcp, buffer.bytes(), &mut add))
    }
}

/// net/tcp_states.h
const LISTEN: u8 = 10;

/// Where a connection would come from: the address that the caller bound, or else the one that the route has, for which
/// a UDP socket asks that sends nothing. The wildcard would do to bind a port, but then a listener on any address of
/// the host would be in the way.
fn source_towards(socket: BorrowedFd<'_>, bound: SocketAddr, address: &SockAddr) -> io::Result<SocketAddr> {
    if !bound.ip().is_unspecified() {
        return Ok(bound);
    }
    let route_probe = socket_like(socket, Domain::for_address(bound), Type::DGRAM)?;
    route_probe.connect(address)?;
    let mut source = route_probe.local_addr()?.as_socket().unwrap_or(bound);
    source.set_port(ANY_PORT);
    Ok(source)
}

/// What connect() says of a UDP socket where there is no route, or no address to come from.
fn is_no_way(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EADDRNOTAVAIL))
}

/// Where connect() goes: an unspecified address is this host (`ip_route_output_key_hash_rcu`, `tcp_v6_connect`).
fn where_it_goes(mut destination: SocketAddr, source: SocketAddr) -> SocketAddr {
    let (to, from) = (destination.ip().to_canonical(), source.ip().to_canonical());
    if to.is_unspecified() {
        destination.set_ip(match (to, from) {
            (IpAddr::V4(_), IpAddr::V4(from)) if !from.is_unspecified() => from.into(),
            (IpAddr::V6(_), IpAddr::V6(_)) => Ipv6Addr::LOCALHOST.into(),
            _ => Ipv4Addr::LOCALHOST.into(),
        });
    }
    destination
}

/// The interface of a socket that is bound to one (seen since Linux 5.1), or of a link-local destination, to which
/// connect() binds it.
fn interface_of(socket: BorrowedFd<'_>, destination: SocketAddr) -> u32 {
    match (sys::get_option(socket, libc::SOL_SOCKET, SO_BINDTOIFINDEX), destination) {
        (Ok(0) | Err(_), SocketAddr::V6(destination)) if destination.ip().is_unicast_link_local() => {
            destination.scope_id()
        }
        (index, _) => index.unwrap_or(0),
    }
}

/// Destinations towards which the whole range was searched in vain, and until when it is not searched again: an event
/// loop would stand still. One word for each: 32 bits of a hash of the destination, and a time in milliseconds. One
/// that is overwritten is searched for once more.
static SEARCHED: [AtomicU64; 16] = [const { AtomicU64::new(0) }; 16];

/// For how many times its own duration a search in vain is not repeated, and for how long at most. The duration is CPU
/// time: a process that was stopped meanwhile has not kept anybody waiting.
const PAUSE: u32 = 10;
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

fn slot(destination: SocketAddr) -> (&'static AtomicU64, u64) {
    let ip = match destination.ip().to_canonical() {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        IpAddr::V6(ip) => mix(ip.to_bits() as u64) ^ (ip.to_bits() >> 64) as u64,
    };
    let hash = mix(mix(ip) ^ u64::from(destination.port()));
    (&SEARCHED[(hash % SEARCHED.len() as u64) as usize], hash >> 32 << 32)
}

fn may_search(destination: SocketAddr, now: Duration) -> bool {
    let (slot, hash) = slot(destination);
    let word = slot.load(Ordering::Relaxed);
    // The time wraps: what is further away than the longest pause is long over.
    let left = (word as u32).wrapping_sub(now.as_millis() as u32);
    word >> 32 << 32 != hash || !(1..=LONGEST_PAUSE.as_millis() as u32).contains(&left)
}

fn searched_in_vain(destination: SocketAddr, now: Duration, used: Duration) {
    let (slot, hash) = slot(destination);
    let until = (now + used + (used * PAUSE).min(LONGEST_PAUSE)).as_millis() as u32;
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
        searched_in_vain(one, at(1_000), at(12));
        assert!(!may_search(one, at(1_012)) && !may_search(one, at(1_131)));
        assert!(may_search(one, at(1_132)) && may_search(one, at(1_000_000_000)));
        assert!(may_search(other, at(1_013)));
        searched_in_vain(one, at(2_000), at(5_000));
        assert!(!may_search(one, at(7_500)) && may_search(one, at(8_000)));
    }
}
