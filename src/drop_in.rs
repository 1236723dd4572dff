//! bind(2), listen(2), connect(2) and getsockname(2) for a socket that the caller made: the same calls, and more only
//! where they would fail for want of a port. The socket stays the caller's: nothing here closes, duplicates or replaces
//! it.
//!
//! bind() to port 0 on a full range does not know yet what the port is for. A shared port that suits a connection may
//! not suit a listener, and a shared port that is not listened on at once can be lost. So bind() then binds the address
//! and **defers** the port: listen() claims one, binds it and listens; connect() asks for its destination;
//! getsockname(), which has to show a port, chooses as for a listener. IP_BIND_ADDRESS_NO_PORT (Linux 4.2) is how an
//! address is bound without a port.
//!
//! Nothing here waits for a lock or allocates, so that connect() may be called in a signal handler.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{SockAddr, SockRef};

use crate::attempts::{Answer, Purpose};
use crate::callers_socket::{
    Probe, bind_address, is_deferred, is_foreign, is_set, is_tcp, name_port, own_window, ports_in, set_deferred,
};
use crate::claim::Claim;
use crate::connection::PortSearch;
use crate::error::{Failure, Step, counted};
use crate::port_order::{PortOrder, Randoms, window};
use crate::port_range::{self, Range};
use crate::strategy::{
    ANY_PORT, FIRST_SEARCH, SMALL_RANGE, Search, WIDER_SEARCH, allow_reuse, no_port, picked_port, search_in,
    search_windows, set_window, sweep,
};
use crate::sys;
use crate::{Attempts, DEFAULT_BACKLOG, Error, PortOrigin};

/// How many ports a connect() looks at whose predecessor found none. The kernel passes over a port that was bound in
/// 0.04 µs, a whole default range in one millisecond or more (docs/why.md).
const CONNECT_WINDOW: u32 = 512;

/// What one of the calls did.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// Where the port came from. PickedByKernel: the system call needed no help.
    pub origin: PortOrigin,
    /// The ports that were tried.
    pub attempts: Attempts,
}

/// bind(2) for your own socket. On port 0 of a TCP socket it finds a port that no socket holds. Where there is none,
/// but one can be shared, it succeeds, and [`listen`], [`connect`] or [`local_addr`] chooses the port. Any other
/// address, family or socket is bind(2)'s.
///
/// # Errors
///
/// Those of bind(2). The socket is as it was then.
///
/// # Example
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
/// ic_listener::bind(&socket, &"127.0.0.1:0".parse()?)?;
/// ic_listener::listen(&socket, 128)?;
/// assert_ne!(ic_listener::local_addr(&socket)?.port(), 0);
/// # Ok(())
/// # }
/// ```
pub fn bind(socket: &impl AsFd, address: &SocketAddr) -> Result<Outcome, Error> {
    outcome(|attempts| bind_fd(socket.as_fd(), &SockAddr::from(*address), attempts))
}

/// listen(2) for your own socket, and SO_REUSEADDR on it, so that what it leaves in TIME_WAIT can be taken. It chooses
/// the port if [`bind`] has not, or if the socket was never bound and the kernel finds none.
///
/// # Errors
///
/// Those of listen(2).
pub fn listen(socket: &impl AsFd, backlog: i32) -> Result<Outcome, Error> {
    outcome(|attempts| listen_fd(socket.as_fd(), backlog, attempts))
}

/// connect(2) for your own socket, with SO_REUSEADDR, so that listeners can use its port. Where the kernel finds no
/// port to connect from, one is named from which there is no connection to this destination.
///
/// # Errors
///
/// Those of connect(2), EINPROGRESS included.
pub fn connect(socket: &impl AsFd, address: &SocketAddr) -> Result<Outcome, Error> {
    let to = SockAddr::from(*address);
    outcome(|attempts| {
        connect_fd(socket.as_fd(), &|| SockRef::from(socket).connect(&to), &|| Some(to.clone()), attempts)
    })
}

/// getsockname(2) for your own socket. It chooses the port if [`bind`] has not; from then on the socket listens.
///
/// # Errors
///
/// Those of getsockname(2).
pub fn local_addr(socket: &impl AsFd) -> io::Result<SocketAddr> {
    choose_for_getsockname(socket.as_fd());
    let address = SockRef::from(socket).local_addr()?.as_socket();
    address.ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))
}

fn outcome(call: impl FnOnce(&mut Attempts) -> Result<PortOrigin, Failure>) -> Result<Outcome, Error> {
    counted(call).map(|(origin, attempts)| Outcome { origin, attempts })
}

/// What the system call did by itself.
pub(crate) fn without_help(step: Step, outcome: io::Result<()>) -> Result<PortOrigin, Failure> {
    outcome.map(|()| PortOrigin::PickedByKernel).map_err(|error| Failure::refused(step, error))
}

/// bind(2). On port 0 of a TCP socket the port is found by the strategy, or later.
pub(crate) fn bind_fd(
    socket: BorrowedFd<'_>,
    address: &SockAddr,
    attempts: &mut Attempts,
) -> Result<PortOrigin, Failure> {
    let reference = SockRef::from(&socket);
    let is_its_family = || reference.domain().is_ok_and(|domain| domain == address.domain());
    // With IP_BIND_ADDRESS_NO_PORT the caller wants the address alone.
    let is_for_us = || is_tcp(socket) && is_its_family() && !is_set(socket, libc::IP_BIND_ADDRESS_NO_PORT);
    let wanted = address.as_socket().filter(|_| is_for_us());
    if wanted.is_some() && is_deferred(socket) {
        // It has an address already, as far as its owner knows.
        return without_help(Step::Bind, Err(io::Error::from_raw_os_error(libc::EINVAL)));
    }
    let Some(wanted) = wanted.filter(|wanted| wanted.port() == ANY_PORT) else {
        return without_help(Step::Bind, reference.bind(address));
    };
    let reuse = sys::get_option(socket, libc::SOL_SOCKET, libc::SO_REUSEADDR).unwrap_or(0);
    // TCP_REPAIR makes it 2 (SK_FORCE_REUSE), which setsockopt() could not make it again.
    if reuse > 1 {
        return without_help(Step::Bind, reference.bind(address));
    }
    *attempts = Attempts::on(Purpose::Listen, &wanted);
    // Without SO_REUSEADDR, a free port is not shared before it is listened on.
    let reuse = reuse == 1;
    if reuse {
        let _ = allow_reuse(&reference, false);
    }
    let window = own_window(socket);
    let found = find_port(socket, wanted, window, attempts);
    if window != 0 {
        set_window(&reference, window);
    }
    if reuse {
        let _ = allow_reuse(&reference, true);
    }
    match found? {
        Some(origin) => Ok(origin),
        // As the caller made the socket.
        None => without_help(Step::Bind, reference.bind(address)),
    }
}

/// A free port; or none, when one can be shared later. None where the system call is to answer.
fn find_port(
    socket: BorrowedFd<'_>,
    address: SocketAddr,
    window: u32,
    attempts: &mut Attempts,
) -> Result<Option<PortOrigin>, Failure> {
    let reference = SockRef::from(&socket);
    let mut randoms = Randoms::for_this_call();
    let mut search = |range, widths: &[u32], attempts: &mut Attempts| {
        search_windows(&reference, address, range, widths, &mut randoms, attempts)
    };
    let mut searched = Search::Impossible;
    if window == 0 {
        searched = Search::Taken;
        if let Some(range) = port_range::cached_host_range().filter(|range| range.span() > SMALL_RANGE) {
            searched = search(range, &[1], attempts)?;
        }
        if let (Search::Taken, Ok(range)) = (&searched, port_range::known_host_range()) {
            searched = search(range, &FIRST_SEARCH, attempts)?;
        }
    }
    if searched == Search::Impossible {
        // The kernel's own search: in the caller's window, or where it knows no windows.
        match reference.bind(&SockAddr::from(address)) {
            Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => {}
            outcome => return without_help(Step::Bind, outcome).and(Ok(Some(PortOrigin::Free))),
        }
    }
    if let Search::Found(_) = searched {
        return Ok(Some(PortOrigin::Free));
    }

    let mut probe = Probe::new(socket, address);
    if probe.socket.is_none() || is_foreign(socket, probe.socket.as_ref()) {
        return Ok(None);
    }
    let Some(ports) = attempts.noting(ports_in(window)) else {
        return Ok(None);
    };
    if searched == Search::Taken && ports.range().span() > SMALL_RANGE {
        if let Search::Found(_) = search(ports.range(), &WIDER_SEARCH, attempts)? {
            return Ok(Some(PortOrigin::Free));
        }
    }
    randoms.differ_by_process();
    attempts.begin_pass(&ports);
    let mut shareable = None;
    for port in PortOrder::new(&ports, &mut randoms) {
        let answer = probe.ask_for(port)?;
        attempts.count(answer);
        if answer == Answer::Ours {
            shareable = Some(port);
            break;
        }
    }
    let Some(port) = shareable else {
        return if attempts.forbidden > 0 { Ok(None) } else { Err(no_port(attempts)) };
    };
    // It may be free after all.
    if let Search::Found(_) = search_in(&reference, address, Range::single(port), &mut Attempts::default())? {
        return Ok(Some(PortOrigin::Free));
    }
    Ok(defer_port(socket, address)?.then_some(PortOrigin::Deferred))
}

/// Binds the address without a port. False where the kernel cannot do that, before Linux 4.2.
fn defer_port(socket: BorrowedFd<'_>, address: SocketAddr) -> Result<bool, Failure> {
    let outcome = if set_deferred(socket, true) { bind_address(socket, address) } else { None };
    if !matches!(outcome, Some(Ok(()))) {
        set_deferred(socket, false);
    }
    outcome.transpose().map(|bound| bound.is_some()).map_err(|error| Failure::refused(Step::Bind, error))
}

/// listen(2), and SO_REUSEADDR. Chooses the port of a socket that has none.
pub(crate) fn listen_fd(socket: BorrowedFd<'_>, backlog: i32, attempts: &mut Attempts) -> Result<PortOrigin, Failure> {
    let reference = SockRef::from(&socket);
    if !is_tcp(socket) {
        return without_help(Step::Listen, reference.listen(backlog));
    }
    let deferred = is_deferred(socket);
    let has_port = || picked_port(&reference).is_ok();
    if deferred && !has_port() {
        if let Some(origin) = choose_and_listen(socket, backlog, attempts)? {
            set_deferred(socket, false);
            return Ok(origin);
        }
    }
    let outcome = without_help(Step::Listen, reference.listen(backlog));
    match &outcome {
        Ok(_) => {
            // The socket listens. It is of use also where a sandbox refuses the option.
            let _ = allow_reuse(&reference, true);
            if deferred {
                set_deferred(socket, false);
            }
        }
        Err(failure) if failure.errno() == libc::EADDRINUSE && !has_port() => {
            if let Some(origin) = choose_and_listen(socket, backlog, attempts)? {
                return Ok(origin);
            }
        }
        Err(_) => {}
    }
    outcome
}

/// Chooses the port of a socket that bind() has left without one, as for a listener.
pub(crate) fn choose_for_getsockname(socket: BorrowedFd<'_>) {
    if is_deferred(socket) && is_tcp(socket) && picked_port(&SockRef::from(&socket)).is_err() {
        // Where no port can be had any more, listen() will say so.
        let _ = choose_and_listen(socket, DEFAULT_BACKLOG, &mut Attempts::default());
    }
}

/// Claims a port that can be shared, binds it and listens at once: from then on nobody else can bind it. None where
/// ports cannot be named.
fn choose_and_listen(
    socket: BorrowedFd<'_>,
    backlog: i32,
    attempts: &mut Attempts,
) -> Result<Option<PortOrigin>, Failure> {
    let reference = SockRef::from(&socket);
    let Some(mut address) = reference.local_addr().ok().and_then(|address| address.as_socket()) else {
        return Ok(None);
    };
    address.set_port(ANY_PORT);
    *attempts = Attempts::on(Purpose::Listen, &address);
    let mut probe = Probe::new(socket, address);
    if is_foreign(socket, probe.socket.as_ref()) {
        return Ok(None);
    }
    let Some(ports) = attempts.noting(ports_in(own_window(socket))) else {
        return Ok(None);
    };
    if allow_reuse(&reference, true).is_err() {
        return Ok(None);
    }
    let mut randoms = Randoms::for_this_call();
    randoms.differ_by_process();
    let order = PortOrder::new(&ports, &mut randoms);
    let won = sweep(&ports, order, attempts, |port, heeds_claims| {
        let answer = probe.ask_for(port)?;
        if answer != Answer::Ours {
            return Ok(answer);
        }
        let claim = Claim::to_listen(port, heeds_claims);
        if let Claim::Refused = claim {
            return Ok(Answer::Claimed);
        }
        let answer = name_port(socket, address, address, port)?;
        if answer != Answer::Ours {
            return Ok(answer);
        }
        // Without a claim between them, another program can listen first. Then this socket is spent.
        reference.listen(backlog).map_err(|error| Failure::refused(Step::Listen, error))?;
        Ok(Answer::Ours)
    });
    match won {
        Ok(Some(_)) => Ok(Some(PortOrigin::Reused)),
        Ok(None) => Err(no_port(attempts)),
        Err(failure) if failure.step() == Step::Listen => Err(failure),
        // Where bind() is refused for a reason of its own, listen(2) has the answer.
        Err(_) => Ok(None),
    }
}

/// connect(2), with SO_REUSEADDR. Where it finds no port, one is named for it. The address is looked at only then: what
/// is wrong with it, the kernel says.
pub(crate) fn connect_fd(
    socket: BorrowedFd<'_>,
    system_call: &dyn Fn() -> io::Result<()>,
    address: &dyn Fn() -> Option<SockAddr>,
    attempts: &mut Attempts,
) -> Result<PortOrigin, Failure> {
    let system_call = || without_help(Step::Connect, system_call());
    if !is_tcp(socket) {
        return system_call();
    }
    prepare_to_connect(socket);
    let crowded = CROWDED.load(Ordering::Relaxed);
    let confined = crowded && confine(socket);
    let outcome = system_call();
    if confined {
        set_window(&SockRef::from(&socket), 0);
    }
    if errno_of(&outcome) != libc::EADDRNOTAVAIL {
        if crowded && matches!(errno_of(&outcome), 0 | libc::EINPROGRESS | libc::EINTR) {
            CROWDED.store(false, Ordering::Relaxed);
        }
        return outcome;
    }
    CROWDED.store(true, Ordering::Relaxed);
    let (outcome, waits) = help(socket, address(), &system_call, confined, attempts);
    match waits {
        Some(origin) if errno_of(&outcome) == libc::EINPROGRESS => wait_for(&system_call).map(|_| origin),
        _ => outcome,
    }
}

/// For a caller that has made the connect(2) itself, and will wait itself: names a port and begins the connection from
/// there.
pub(crate) fn begin_connect_fd(
    socket: BorrowedFd<'_>,
    address: &SockAddr,
    attempts: &mut Attempts,
) -> Result<PortOrigin, Failure> {
    let system_call = || without_help(Step::Connect, SockRef::from(&socket).connect(address));
    if !is_tcp(socket) {
        return system_call();
    }
    prepare_to_connect(socket);
    help(socket, Some(address.clone()), &system_call, false, attempts).0
}

/// Begins a connection for which connect(2) has found no port: from one that is named; or, where it was confined, from
/// one that it finds in the whole range, because it shares the ports of other connections. For a socket that waits, it
/// also says where the port came from. Nobody waits with a claim or another descriptor.
fn help(
    socket: BorrowedFd<'_>,
    address: Option<SockAddr>,
    system_call: &dyn Fn() -> Result<PortOrigin, Failure>,
    confined: bool,
    attempts: &mut Attempts,
) -> (Result<PortOrigin, Failure>, Option<PortOrigin>) {
    let mut search = address.and_then(|address| PortSearch::new(socket, &address, attempts));
    let mut found = search.as_mut().and_then(|search| search.ask_about_some(attempts).ok());
    if confined && !matches!(found, Some(Some(_))) {
        let (outcome, blocks) = begin(socket, system_call);
        if errno_of(&outcome) != libc::EADDRNOTAVAIL {
            return (outcome, blocks.then_some(PortOrigin::PickedByKernel));
        }
    }
    if let (Some(search), Some(None)) = (&mut search, &found) {
        found = search.look_at_all(attempts).ok();
    }
    match found {
        Some(Some(_claim)) => {
            let (outcome, blocks) = begin(socket, system_call);
            if errno_of(&outcome) != libc::EADDRNOTAVAIL {
                return (outcome.map(|_| PortOrigin::Reused), blocks.then_some(PortOrigin::Reused));
            }
            // Another program was faster.
            attempts.connections_taken += 1;
            (Err(no_connection(attempts)), None)
        }
        Some(None) => (Err(no_connection(attempts)), None),
        None => (without_help(Step::Connect, Err(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL))), None),
    }
}

/// connect(2) without waiting. Says also whether the socket is one that waits: it is non-blocking meanwhile.
fn begin(
    socket: BorrowedFd<'_>,
    system_call: &dyn Fn() -> Result<PortOrigin, Failure>,
) -> (Result<PortOrigin, Failure>, bool) {
    let reference = SockRef::from(&socket);
    let blocks = !reference.nonblocking().unwrap_or(true) && reference.set_nonblocking(true).is_ok();
    let outcome = system_call();
    if blocks {
        let _ = reference.set_nonblocking(false);
    }
    (outcome, blocks)
}

/// Waits for a connection that has begun: connect(2), which has another word for a time-out then (SO_SNDTIMEO).
fn wait_for(system_call: &dyn Fn() -> Result<PortOrigin, Failure>) -> Result<PortOrigin, Failure> {
    let outcome = system_call();
    if errno_of(&outcome) == libc::EALREADY {
        return without_help(Step::Connect, Err(io::Error::from_raw_os_error(libc::EINPROGRESS)));
    }
    outcome
}

/// SO_REUSEADDR; and the socket of a caller that asked for its port by getsockname() stops listening, and keeps the
/// port (`tcp_disconnect`). A listener that the caller made stays one.
pub(crate) fn prepare_to_connect(socket: BorrowedFd<'_>) {
    let reference = SockRef::from(&socket);
    // The connection is wanted also where a sandbox refuses the option.
    let _ = allow_reuse(&reference, true);
    if is_deferred(socket) {
        if reference.is_listener().unwrap_or(false) {
            let _ = reference.shutdown(Shutdown::Read);
        }
        set_deferred(socket, false);
    }
}

fn no_connection(attempts: &Attempts) -> Failure {
    Failure::no_port(Step::Connect, libc::EADDRNOTAVAIL, attempts)
}

/// 0 for success.
fn errno_of(outcome: &Result<PortOrigin, Failure>) -> i32 {
    outcome.as_ref().map_or_else(Failure::errno, |_| 0)
}

/// Whether the kernel found no port for the last connection of this process. To find none in the default range takes it
/// a millisecond or more; as long as it does, it is given a part of the range to look at.
static CROWDED: AtomicBool = AtomicBool::new(false);

/// Has connect() look at a part of the range only, unless the caller has confined it already.
fn confine(socket: BorrowedFd<'_>) -> bool {
    let believed = port_range::cached_host_range().filter(|range| range.span() > CONNECT_WINDOW);
    let Some(range) = believed.filter(|_| own_window(socket) == 0) else {
        return false;
    };
    let window = window(range, CONNECT_WINDOW, Randoms::for_this_call().next());
    set_window(&SockRef::from(&socket), window.ends())
}
