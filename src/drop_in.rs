//! bind(2), listen(2) and connect(2) for a socket that the caller made: the same calls, and more only where they would
//! fail for want of a port.
//!
//! Nothing here waits for a lock or allocates, so that connect() may be called in a signal handler.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use crate::Error;
use crate::attempts::{Answer, Purpose};
use crate::error::{Failure, Step};
use crate::kind::Kind;
use crate::port_order::{PortOrder, Randoms, window};
use crate::port_range::{self, Ports, Range, Unreadable};
use crate::strategy::{self, PICK, Seeker, allow_reuse, is_bound, picked_port, set_window, share_a_port, win_a_port};
use crate::sys::{self, IP_LOCAL_PORT_RANGE, OptionValue};
use crate::{Attempts, DEFAULT_LISTEN_RETRIES, PortOrigin};

/// How many ports a crowded connect() looks at before ports are named for it. The kernel passes over a port that was
/// bound in 0.04 microseconds, a whole default range in one millisecond or more (docs/why.md).
const CONNECT_WINDOW: u32 = 512;

/// How many ports are named before the whole range is left to connect().
const NAMED_AT_ONCE: usize = 16;

/// What one of the three calls did.
#[derive(Debug)]
#[non_exhaustive]
pub struct Done {
    /// How the port was won. PickedByKernel: the system call needed no help.
    pub origin: PortOrigin,
    /// The ports that were tried.
    pub attempts: Attempts,
    /// How long the call took.
    pub elapsed: Duration,
}

/// bind(2) for a socket of one's own. On port 0 of a TCP socket it gives a port also where the kernel's own choice
/// finds none: one that no socket holds, or else one that its holders share. Any other address, family or socket is
/// bind(2)'s.
///
/// # Errors
///
/// Those of bind(2). The socket is as it was then.
pub fn bind(socket: &impl AsFd, address: &SocketAddr) -> Result<Done, Error> {
    in_time(|attempts| bind_fd(socket.as_fd(), &SockAddr::from(*address), attempts))
}

/// listen(2) for a socket of one's own, and SO_REUSEADDR on it, so that what it leaves in TIME_WAIT can be taken. Where
/// another socket listened first on a port that [`bind`] chose, it gets another port.
///
/// # Errors
///
/// Those of listen(2).
pub fn listen(socket: &impl AsFd, backlog: i32) -> Result<Done, Error> {
    in_time(|attempts| listen_fd(socket.as_fd(), backlog, attempts))
}

/// connect(2) for a socket of one's own, with SO_REUSEADDR, so that listeners can use its port. Where the kernel finds
/// no port to connect from, ports are named that listeners left in TIME_WAIT or that others share, until the connection
/// to this destination is the only one from its port.
///
/// # Errors
///
/// Those of connect(2), EINPROGRESS included.
pub fn connect(socket: &impl AsFd, address: &SocketAddr) -> Result<Done, Error> {
    in_time(|attempts| connect_fd(socket.as_fd(), &SockAddr::from(*address), attempts))
}

/// Runs one of the three calls and adds to its outcome what was tried and how long it took.
fn in_time(call: impl FnOnce(&mut Attempts) -> Result<PortOrigin, Failure>) -> Result<Done, Error> {
    let start = Instant::now();
    let mut attempts = Attempts::default();
    let outcome = call(&mut attempts);
    let elapsed = start.elapsed();
    match outcome {
        Ok(origin) => Ok(Done { origin, attempts, elapsed }),
        Err(failure) => Err(Error::new(failure, attempts, elapsed)),
    }
}

/// What the system call did by itself.
pub(crate) fn without_help(step: Step, outcome: io::Result<()>) -> Result<PortOrigin, Failure> {
    outcome.map(|()| PortOrigin::PickedByKernel).map_err(|error| Failure::refused(step, error))
}

/// bind(2). On port 0 of a TCP socket the port is found by the strategy.
pub(crate) fn bind_fd(
    socket: BorrowedFd<'_>,
    address: &SockAddr,
    attempts: &mut Attempts,
) -> Result<PortOrigin, Failure> {
    // Marked: on port 0 the caller wants the address alone, IP_BIND_ADDRESS_NO_PORT.
    let is_its_family = || SockRef::from(&socket).domain().is_ok_and(|domain| domain == address.domain());
    let wanted = address.as_socket().filter(|_| is_tcp(socket) && is_its_family());
    let marked = wanted.is_some() && is_marked(socket);
    let Some(wanted) = wanted.filter(|wanted| wanted.port() == PICK && !marked) else {
        let outcome = SockRef::from(&socket).bind(address);
        if outcome.is_ok() && marked && wanted.is_some_and(|wanted| wanted.port() != PICK) {
            // The caller chose the port.
            mark(socket, false);
        }
        return without_help(Step::Bind, outcome);
    };
    *attempts = Attempts::on(Purpose::Listen, &wanted);
    let own = OwnSettings::put_aside(socket);
    let outcome = find_port(&mut Caller::new(socket, wanted, Use::Nothing), &own, attempts);
    own.restore(socket, matches!(outcome, Ok(PortOrigin::Reused)));
    if outcome.is_ok() {
        mark(socket, true);
    }
    outcome.map_err(Failure::explained)
}

/// A port of the host's range by the strategy, or of the window that the caller has confined the socket to: the
/// kernel's search is short there, and names are tried in what both have in common.
fn find_port(caller: &mut Caller<'_>, own: &OwnSettings, attempts: &mut Attempts) -> Result<PortOrigin, Failure> {
    if own.window.is_none() {
        return win_a_port(caller, None, attempts).map(|(origin, _)| origin);
    }
    let failure = match caller.socket().bind(&SockAddr::from(caller.address)) {
        Ok(()) if caller.use_port()? => return Ok(PortOrigin::Free),
        Ok(()) => {
            attempts.lost(false);
            caller.renew()?;
            Failure::no_port(Step::Listen, libc::EADDRINUSE)
        }
        Err(error) => Failure::refused(Step::Bind, error),
    };
    if failure.errno() != Some(libc::EADDRINUSE) {
        return Err(failure);
    }
    match own.ports() {
        Ok(ports) => share_a_port(caller, &ports, attempts),
        Err(unreadable) => {
            attempts.unreadable = Some(unreadable);
            Err(Failure::no_port(failure.step, libc::EADDRINUSE))
        }
    }
}

/// listen(2), and SO_REUSEADDR. Where another socket listened first on a port that [`bind_fd`] found, or where a socket
/// without a port would need one, the strategy finds another.
pub(crate) fn listen_fd(socket: BorrowedFd<'_>, backlog: i32, attempts: &mut Attempts) -> Result<PortOrigin, Failure> {
    let reference = SockRef::from(&socket);
    let failure = match reference.listen(backlog) {
        Ok(()) => {
            if is_tcp(socket) {
                mark(socket, false);
                // The socket listens. It is of use also where a sandbox refuses the option.
                let _ = allow_reuse(&reference, true);
            }
            return Ok(PortOrigin::PickedByKernel);
        }
        Err(error) => Failure::refused(Step::Listen, error),
    };
    if failure.errno() != Some(libc::EADDRINUSE) || !is_tcp(socket) {
        return Err(failure);
    }
    let Some(mut address) = reference.local_addr().ok().and_then(|address| address.as_socket()) else {
        return Err(failure);
    };
    let (has_port, marked) = (address.port() != PICK, is_marked(socket));
    if has_port && !marked {
        return Err(failure);
    }
    if marked && !mark(socket, false) {
        // bind() would give it no port.
        return Err(failure);
    }
    address.set_port(PICK);
    *attempts = Attempts::on(Purpose::Listen, &address);
    let own = OwnSettings::put_aside(socket);
    let mut caller = Caller::new(socket, address, Use::Listen(backlog));
    let outcome = if has_port {
        attempts.lost(false);
        caller.renew().and_then(|()| find_port(&mut caller, &own, attempts))
    } else {
        find_port(&mut caller, &own, attempts)
    };
    own.restore(socket, outcome.is_ok());
    if outcome.is_err() && marked && has_port == picked_port(&reference).is_ok() {
        // It is the caller's socket still, or as good.
        mark(socket, true);
    }
    outcome
}

/// connect(2), with SO_REUSEADDR. Where it finds no port, ports are named for it.
pub(crate) fn connect_fd(
    socket: BorrowedFd<'_>,
    address: &SockAddr,
    attempts: &mut Attempts,
) -> Result<PortOrigin, Failure> {
    let reference = SockRef::from(&socket);
    let system_call = || without_help(Step::Connect, reference.connect(address));
    let Some(destination) = address.as_socket().filter(|_| is_tcp(socket)) else {
        return system_call();
    };
    *attempts = Attempts::on(Purpose::Connect, &destination);
    // The connection is wanted also where a sandbox refuses the option.
    let _ = allow_reuse(&reference, true);
    let crowded = CROWDED.load(Ordering::Relaxed);
    let outcome = if crowded { in_a_window(socket, destination, system_call) } else { system_call() };
    match outcome {
        Err(failure) if failure.errno() == Some(libc::EADDRNOTAVAIL) => {
            name_ports(socket, address, destination, crowded, failure, attempts)
        }
        outcome => {
            if crowded && outcome.as_ref().map_or_else(Failure::goes_on, |_| true) {
                CROWDED.store(false, Ordering::Relaxed);
            }
            outcome
        }
    }
}

/// Whether the kernel found no port for the last connection of this process. To find none in the default range takes it
/// a millisecond or more; as long as it does, it is given a part of the range to look at.
static CROWDED: AtomicBool = AtomicBool::new(false);

/// connect() that looks at a part of the range only, unless the caller has confined it already.
#[cold]
#[inline(never)]
fn in_a_window<T>(socket: BorrowedFd<'_>, destination: SocketAddr, system_call: impl FnOnce() -> T) -> T {
    let own = OwnSettings::window_of(socket);
    let believed = port_range::believed_host_range().filter(|range| range.span() > CONNECT_WINDOW);
    let Some(range) = believed.filter(|_| own.window.is_none()) else {
        return system_call();
    };
    let window = window(range, CONNECT_WINDOW, Randoms::for_this_call().next());
    set_window(&SockRef::from(&socket), Some(beside(destination.port(), window)));
    let outcome = system_call();
    own.restore_window(socket);
    outcome
}

/// What is left of a range beside one of its ports. A socket that connects from the port it connects to would talk to
/// itself.
fn parts_beside(port: u16, range: Range) -> [Option<Range>; 2] {
    if !range.contains(port) {
        return [Some(range), None];
    }
    let below = Range::new(range.min(), port - 1);
    [below, port.checked_add(1).and_then(|above| Range::new(above, range.max()))]
}

/// The larger part of the window beside a port.
fn beside(port: u16, window: Range) -> Range {
    parts_beside(port, window).into_iter().flatten().max_by_key(|part| part.span()).unwrap_or(window)
}

/// connect() found no port, in a window or anywhere. First some ports are named; then, after a window, the whole range
/// is left to connect(), which shares the ports of other connections; then every port is named.
#[cold]
#[inline(never)]
fn name_ports(
    socket: BorrowedFd<'_>,
    address: &SockAddr,
    destination: SocketAddr,
    in_window: bool,
    failure: Failure,
    attempts: &mut Attempts,
) -> Result<PortOrigin, Failure> {
    let reference = SockRef::from(&socket);
    let Some(mut local) = reference.local_addr().ok().and_then(|local| local.as_socket()) else {
        return Err(failure);
    };
    let (shows_port, marked) = (local.port() != PICK, is_marked(socket));
    local.set_port(PICK);
    let source = match source_towards(socket, local, address) {
        // There is no way to the destination, whatever the port.
        Err(error) if is_no_way(&error) => return Err(failure),
        // It cannot be asked: no descriptor, no UDP port, a policy against UDP. The wildcard has to do.
        Err(_) => local,
        Ok(source) => source,
    };
    let own = OwnSettings::window_of(socket);
    // An unspecified destination is this host's loopback address; an unspecified source may be any.
    let (from, to) = (source.ip().to_canonical(), destination.ip().to_canonical());
    let to_itself = from == to || from.is_unspecified() || to.is_unspecified();
    let ports = match own.ports() {
        Ok(ports) => ports,
        Err(unreadable) => {
            CROWDED.store(true, Ordering::Relaxed);
            // Nothing can be named. In a window, connect() has not seen everything.
            let failure = match if in_window { reference.connect(address) } else { Err(failure.source) } {
                Ok(()) => return Ok(PortOrigin::PickedByKernel),
                Err(error) => Failure::refused(Step::Connect, error),
            };
            return Err(match failure.errno() {
                Some(libc::EADDRNOTAVAIL) => {
                    attempts.unreadable = Some(unreadable);
                    Failure::no_port(Step::Connect, libc::EADDRNOTAVAIL)
                }
                _ => failure,
            });
        }
    };
    attempts.from(source);
    let never_from = to_itself.then(|| destination.port());
    let mut caller = Caller::new(socket, source, Use::Connect { to: address, never_from });
    // Only so can an address be bound without a port. (Linux before 6.2 shows the route's source there as well, when a
    // connect() has failed.)
    caller.bound = (!local.ip().is_unspecified() && marked).then_some(local);
    if shows_port && marked {
        caller.start_over()?;
    }
    let outcome = caller.connect_from_some(&ports, attempts);
    // getsockname() goes on to show the port of a connection that was refused, so that bind() has to say whether there
    // is one.
    let has_port = |refused: &Failure| refused.step == Step::Bind && refused.errno() == Some(libc::EINVAL);
    if shows_port && outcome.as_ref().is_err_and(has_port) {
        // The caller chose it, and the connection exists already.
        return Err(failure);
    }
    CROWDED.store(true, Ordering::Relaxed);
    let outcome = outcome.and_then(|origin| match origin {
        Some(origin) => Ok(origin),
        None => match if in_window { caller.connect_from_any(&ports, &own)? } else { None } {
            Some(origin) => Ok(origin),
            None => share_a_port(&mut caller, &ports, attempts),
        },
    });
    own.restore_window(socket);
    if outcome.as_ref().is_err_and(|failure| !failure.goes_on()) {
        caller.give_back();
    }
    outcome
}

/// Where a connection would come from: the address that the caller bound, or else the one that the route has. The
/// wildcard would do to bind a port, but then a listener on any address of the host would be in the way.
fn source_towards(socket: BorrowedFd<'_>, local: SocketAddr, address: &SockAddr) -> io::Result<SocketAddr> {
    if !local.ip().is_unspecified() {
        return Ok(local);
    }
    let domain = if local.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    // A UDP socket asks for the route and sends nothing.
    let scout = Socket::new(domain, Type::DGRAM.cloexec(), Some(Protocol::UDP))?;
    for (level, name) in [(libc::SOL_SOCKET, libc::SO_BINDTODEVICE), (libc::SOL_SOCKET, libc::SO_MARK)] {
        if let Ok(value) = sys::get_option(socket, level, name) {
            if sys::get_option(scout.as_fd(), level, name).is_ok_and(|default| default != value) {
                sys::set_option(scout.as_fd(), level, name, &value)?;
            }
        }
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

/// A socket's own settings that the strategy changes meanwhile.
struct OwnSettings {
    reuse: bool,
    window: Option<OptionValue>,
}

impl OwnSettings {
    fn window_of(socket: BorrowedFd<'_>) -> Self {
        let window = sys::get_option(socket, libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE).ok();
        Self { reuse: true, window: window.filter(|window| window.as_number() != 0) }
    }

    /// Takes SO_REUSEADDR away, so that a free port is not shared before it is listened on.
    fn put_aside(socket: BorrowedFd<'_>) -> Self {
        let reuse = SockRef::from(&socket).reuse_address().unwrap_or(false);
        if reuse {
            let _ = allow_reuse(&SockRef::from(&socket), false);
        }
        Self { reuse, ..Self::window_of(socket) }
    }

    /// `sharing`: the port is shared, so that SO_REUSEADDR has to stay.
    fn restore(&self, socket: BorrowedFd<'_>, sharing: bool) {
        let _ = allow_reuse(&SockRef::from(&socket), self.reuse || sharing);
        self.restore_window(socket);
    }

    fn restore_window(&self, socket: BorrowedFd<'_>) {
        // Fails before Linux 6.3, where there is nothing to restore.
        match &self.window {
            None => _ = set_window(&SockRef::from(&socket), None),
            Some(window) => _ = sys::set_option(socket, libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE, window),
        }
    }

    /// The ports that may be named: those of the host's range, inside the window, that are not reserved. None when that
    /// cannot be known.
    fn ports(&self) -> Result<Ports, Unreadable> {
        // No descriptor is there to be lent; what is missing for a moment may be there the next.
        match self.read_ports() {
            Err(unreadable) if unreadable.is_momentary() => self.read_ports(),
            ports => ports,
        }
    }

    fn read_ports(&self) -> Result<Ports, Unreadable> {
        let host = port_range::read_host_range()?;
        let range = match self.window.map(|window| window.as_number()) {
            None => host,
            // As the kernel does: each end counts if it lies inside the host's range (`inet_sk_get_local_port_range`).
            Some(ends) => {
                let (low, high) = (ends as u16, (ends >> 16) as u16);
                let min = if host.contains(low) { low } else { host.min() };
                let max = if host.contains(high) { high } else { host.max() };
                Range::new(min, max).unwrap_or(host)
            }
        };
        Ports::not_reserved(range)
    }
}

/// Marks the socket as one whose port [`bind_fd`] chose, so that [`listen_fd`] may choose another one.
/// IP_BIND_ADDRESS_NO_PORT (Linux 4.2) means nothing to a socket that is bound, and is not set on one otherwise.
fn mark(socket: BorrowedFd<'_>, marked: bool) -> bool {
    let value = OptionValue::number(u32::from(marked));
    sys::set_option(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, &value).is_ok()
}

fn is_marked(socket: BorrowedFd<'_>) -> bool {
    let mark = sys::get_option(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT);
    mark.is_ok_and(|mark| mark.as_number() != 0)
}

fn is_tcp(socket: BorrowedFd<'_>) -> bool {
    let socket = SockRef::from(&socket);
    // A raw socket may have that protocol as well.
    matches!(socket.protocol(), Ok(Some(Protocol::TCP))) && matches!(socket.r#type(), Ok(Type::STREAM))
}

/// What the caller's socket needs a port for.
#[derive(Clone, Copy)]
enum Use<'a> {
    Nothing,
    Listen(i32),
    Connect { to: &'a SockAddr, never_from: Option<u16> },
}

/// The seeker behind the three calls: the socket under the caller's number, whichever it is by now.
struct Caller<'a> {
    socket: BorrowedFd<'a>,
    address: SocketAddr,
    purpose: Use<'a>,
    /// The address that the caller bound without a port.
    bound: Option<SocketAddr>,
    /// IPV6_V6ONLY as the caller has it. To bind an IPv6 address sets it (`__inet6_bind`).
    only_v6: Option<OptionValue>,
    kind: Option<Kind>,
}

impl<'a> Caller<'a> {
    fn new(socket: BorrowedFd<'a>, address: SocketAddr, purpose: Use<'a>) -> Self {
        let only_v6 = sys::get_option(socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY).ok();
        Self { socket, address, purpose, bound: None, only_v6, kind: None }
    }

    /// A fresh socket for a connection, as the caller's was: without a port, on the address that the caller bound.
    fn start_over(&mut self) -> Result<(), Failure> {
        self.renew()?;
        if let Some(address) = self.bound {
            // A preloaded library in between takes the mark away where a port is named.
            mark(self.socket, true);
            let outcome = self.socket().bind(&SockAddr::from(address));
            outcome.map_err(|error| Failure::refused(Step::Bind, error))?;
        }
        allow_reuse(&self.socket(), true)
    }

    /// There is no connection: the caller gets a socket as good as the one before. Where that fails, too, it is bound
    /// to the port that was named last.
    fn give_back(&mut self) {
        let is_bound = picked_port(&self.socket()).is_ok();
        let is_another = self.kind.is_some() && self.bound.is_some();
        if is_bound || is_another {
            let _ = self.start_over();
        }
    }

    /// Names ports until one can be bound or some have been refused. None when that gave no connection; then the socket
    /// has no port.
    fn connect_from_some(&mut self, ports: &Ports, attempts: &mut Attempts) -> Result<Option<PortOrigin>, Failure> {
        attempts.begin_pass(ports);
        for port in PortOrder::for_this_call(ports).take(NAMED_AT_ONCE) {
            let answer = strategy::bind(&self.socket(), self.address, port)?;
            attempts.count(answer);
            match answer {
                Answer::Ours if self.use_port()? => return Ok(Some(PortOrigin::Reused)),
                Answer::Ours => {
                    self.start_over()?;
                    return Ok(None);
                }
                Answer::Forbidden if is_bound(&self.socket()) => self.start_over()?,
                _ => {}
            }
        }
        Ok(None)
    }

    /// connect() without a window, or with two that leave out the port it must not come from.
    fn connect_from_any(&mut self, ports: &Ports, own: &OwnSettings) -> Result<Option<PortOrigin>, Failure> {
        let Use::Connect { to, never_from } = self.purpose else {
            return Ok(None);
        };
        own.restore_window(self.socket);
        let range = ports.range();
        let windows = match never_from.filter(|&port| range.contains(port)) {
            None => [Some(None), None],
            Some(port) => parts_beside(port, range).map(|part| part.map(Some)),
        };
        for window in windows.into_iter().flatten() {
            if window.is_some() {
                set_window(&self.socket(), window);
            }
            match self.socket().connect(to) {
                Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => {}
                outcome => return without_help(Step::Connect, outcome).map(Some),
            }
        }
        Ok(None)
    }
}

impl Seeker for Caller<'_> {
    fn socket(&self) -> SockRef<'_> {
        SockRef::from(&self.socket)
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn use_port(&mut self) -> Result<bool, Failure> {
        let socket = self.socket();
        match self.purpose {
            Use::Nothing => Ok(true),
            Use::Listen(backlog) => strategy::listen(&socket, backlog),
            Use::Connect { to, never_from } => {
                if never_from.is_some() && picked_port(&socket).ok() == never_from {
                    return Ok(false);
                }
                match socket.connect(to) {
                    Ok(()) => Ok(true),
                    Err(error) if matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EADDRINUSE)) => {
                        Ok(false)
                    }
                    Err(error) => Err(Failure::refused(Step::Connect, error)),
                }
            }
        }
    }

    fn renew(&mut self) -> Result<(), Failure> {
        if self.kind.is_none() {
            self.kind = Some(Kind::of(self.socket, self.only_v6)?);
        }
        match &self.kind {
            Some(kind) => kind.replace(self.socket),
            None => Ok(()),
        }
    }

    fn retries(&self) -> u32 {
        DEFAULT_LISTEN_RETRIES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_leaves_out_the_port_that_is_connected_to() {
        let range = |min, max| Range::new(min, max).unwrap();
        assert_eq!(beside(9, range(10, 20)), range(10, 20));
        assert_eq!(beside(10, range(10, 20)), range(11, 20));
        assert_eq!(beside(20, range(10, 20)), range(10, 19));
        assert_eq!(beside(12, range(10, 20)), range(13, 20));
        assert_eq!(beside(18, range(10, 20)), range(10, 17));
        assert_eq!(beside(1, range(1, 3)), range(2, 3));
        assert_eq!(beside(65_535, range(65_533, 65_535)), range(65_533, 65_534));
        assert_eq!(beside(7, range(7, 7)), range(7, 7));
    }
}
