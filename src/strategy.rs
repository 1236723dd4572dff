//! How a listener gets its port. This file is what the library exists for; it reads from top to bottom. How a
//! connection gets one is in src/connection.rs.
//!
//! # The kernel's rules
//!
//! (c_tests/kernel/kernel_facts.c asks the running kernel for each of them; the functions named are Linux's.)
//!
//! * bind() to port 0 hands out only ports that no socket holds in any way, SO_REUSEADDR or not
//!   (`inet_csk_find_open_port`). A port in TIME_WAIT, or with an outgoing connection on it, has to be asked for by
//!   number.
//! * A socket bound without SO_REUSEADDR has its port to itself from bind() on: its listen() cannot lose it.
//! * A socket bound with SO_REUSEADDR shares the port with every other holder that set the option, as long as none
//!   listens. The first to listen has it; the listen() of the others fails with EADDRINUSE (`inet_csk_listen_start`).
//! * While a socket listens, no other can bind its port on an overlapping address, whatever options they set.
//! * IP_LOCAL_PORT_RANGE (Linux 6.3) makes bind() to port 0 look at a window of the host's range only, and pass over
//!   its reserved ports. A window that lies outside the range is ignored.
//!
//! # The plan
//!
//! 1. **Search exclusively.** The kernel looks for a port that no socket holds: first at a port drawn at random, where
//!    most calls end, then at a few more, then in windows. No other socket can take part in such a port, and none loses
//!    it to us: a program that has bound a port and is about to listen on it keeps it. Once we listen, SO_REUSEADDR is
//!    set after all; accepted connections inherit it, and the TIME_WAITs they leave can then be taken by the next
//!    listener. The windows are drawn from the range that was seen last, or Linux's default. The kernel gives the port
//!    that was asked for, or one of its own range. So nothing is read from /proc on this way.
//! 2. **Share one port.** All of those were taken, so free ports are rare or gone. One port is asked for with
//!    SO_REUSEADDR. In a range full of TIME_WAIT that is the end of it.
//! 3. **Search once more, wider.** It was refused, so the range is full of holders that do not share, and each port
//!    that can be shared may be one that a neighbour has bound and not yet listened on. A free one is worth a longer
//!    search.
//! 4. **Sweep.** Each port of the range is asked for with SO_REUSEADDR, once: this takes free ports as well, and those
//!    in TIME_WAIT, and those that only outgoing connections hold, provided their owners set SO_REUSEADDR. Who shares a
//!    port claims it first (src/claim.rs), so that two callers of this library do not listen on it at the same moment.
//!    When listen() is lost to another program, our socket is spent (it stays bound): a fresh one goes on with the next
//!    port.
//! 5. **Sweep again**, in the same order, if a port was claimed or lost, or the range is small. The kernel marks a
//!    socket as listening before it looks for others, so two starters can refuse each other, and neither has the port.
//!    At last the claims of strangers are not heeded: somebody may sit on the names.
//! 6. Give up, and say what was found.
//!
//! Before Linux 6.3, where only port 0 is forbidden, and in a range the caller named, step 1 names single ports and
//! step 3 does not exist. Where the host's range cannot be read, ports cannot be named; then the kernel picks, with and
//! without SO_REUSEADDR.
//!
//! Why so, with figures, is in docs/why.md.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use socket2::{SockAddr, SockRef, Socket, Type};

use crate::attempts::Answer;
use crate::claim::Claim;
use crate::error::{Failure, Step};
use crate::listener::{NewSocket, open};
use crate::port_order::{self, PortOrder, Randoms};
use crate::port_range::{self, Ports, Range, Unreadable};
use crate::sys::{self, IP_LOCAL_PORT_RANGE};
use crate::{Attempts, PortOrigin};

/// The windows of the first search, in ports, after the first port was refused. Single ports are drawn from all over
/// the range, which finds a free one where listeners stand in long rows; windows find one where few are free, at half
/// the cost for each port.
pub(crate) const FIRST_SEARCH: [u32; 6] = [1, 1, 1, 8, 8, 8];

/// The windows of the wider search: enough to find one free port in a hundred nine times in ten, and in many places,
/// because a wide window in a row of listeners is all held.
pub(crate) const WIDER_SEARCH: [u32; 32] = [8; 32];

/// How many ports are named exclusively where there are no windows.
const NAMED_EXCLUSIVELY: usize = 16;

/// A range of so many ports is searched whole before a port is shared, and swept twice before giving up.
pub(crate) const SMALL_RANGE: u32 = 64;

/// How many ports that the kernel picked may be lost. It picks shared ones before Linux 4.11, and with
/// ip_autobind_reuse=1.
const LOST_PICKS: u32 = 16;

/// How often the CPU is left to others that hold a claim, sched_yield(2), before it is asked for again.
const YIELDS: u32 = 4;

/// A TCP socket that listens on a port of `named`, or else of the host's range; its port, and where that came from.
pub(crate) fn open_listener(
    address: SocketAddr,
    named: Option<Range>,
    backlog: i32,
    attempts: &mut Attempts,
) -> Result<NewSocket, Failure> {
    let socket = OwnSocket { socket: Some(open(address, Type::STREAM)?), address, backlog };
    let mut listener = Listener { socket, attempts, randoms: Randoms::for_this_call() };
    let (port, origin) = match named {
        Some(range) => listener.in_named_range(range)?,
        None => listener.in_host_range()?,
    };
    Ok((listener.socket.into_inner()?, port, origin))
}

/// One call's search.
struct Listener<'a> {
    socket: OwnSocket,
    attempts: &'a mut Attempts,
    randoms: Randoms,
}

/// How an exclusive search ended.
#[derive(PartialEq, Eq)]
pub(crate) enum Search {
    Found(u16),
    /// Every port that was looked at is held.
    Taken,
    /// The kernel knows no windows, or forbids port 0.
    Impossible,
}

impl Listener<'_> {
    fn in_host_range(&mut self) -> Result<(u16, PortOrigin), Failure> {
        let mut search = Search::Taken;
        if let Some(range) = port_range::cached_host_range().filter(|range| range.span() > SMALL_RANGE) {
            search = self.search(range, &[1])?;
        }
        match search {
            Search::Found(port) => Ok((port, PortOrigin::Free)),
            refused => self.in_crowded_range(refused),
        }
    }

    /// What follows when the first port was refused, or none could be guessed. Few calls come here.
    #[cold]
    fn in_crowded_range(&mut self, mut search: Search) -> Result<(u16, PortOrigin), Failure> {
        self.randoms.differ_by_process();
        let range = port_range::known_host_range().ok().filter(|_| search != Search::Impossible);
        // The rest of step 1, and step 2.
        search = match range {
            Some(range) => self.search(range, &FIRST_SEARCH)?,
            None => Search::Impossible,
        };
        if let (Search::Taken, Some(range)) = (&search, range.filter(|range| range.span() > SMALL_RANGE)) {
            if self.share_one(range)? {
                return self.named(PortOrigin::Reused);
            }
        }
        if let Search::Found(port) = search {
            return Ok((port, PortOrigin::Free));
        }
        let Some(ports) = self.host_ports()? else {
            return self.let_kernel_pick()?.ok_or_else(|| no_port(self.attempts));
        };
        if search == Search::Taken && ports.range().span() > SMALL_RANGE {
            search = self.search(ports.range(), &WIDER_SEARCH)?;
        }
        if let Search::Found(port) = search {
            return Ok((port, PortOrigin::Free));
        }
        if search == Search::Impossible && self.name_exclusively(&ports)? {
            return self.named(PortOrigin::Free);
        }
        // A port that may not be named may still be picked.
        if self.attempts.all_forbidden() {
            if let Some(picked) = self.let_kernel_pick()? {
                return Ok(picked);
            }
        }
        if self.sweep(&ports)? {
            return self.named(PortOrigin::Reused);
        }
        if self.attempts.forbidden > 0 {
            if let Some(picked) = self.let_kernel_pick()? {
                return Ok(picked);
            }
        }
        Err(no_port(self.attempts))
    }

    fn in_named_range(&mut self, range: Range) -> Result<(u16, PortOrigin), Failure> {
        self.randoms.differ_by_process();
        self.attempts.named = true;
        let ports = Ports::exactly(range);
        if self.name_exclusively(&ports)? {
            return self.named(PortOrigin::Free);
        }
        if self.sweep(&ports)? { self.named(PortOrigin::Reused) } else { Err(no_port(self.attempts)) }
    }

    /// A cgroup's program may have changed the port that was named.
    fn named(&self, origin: PortOrigin) -> Result<(u16, PortOrigin), Failure> {
        Ok((picked_port(&self.socket.get())?, origin))
    }

    /// Has the kernel look for a free port in windows of these widths, and listens there.
    fn search(&mut self, range: Range, widths: &[u32]) -> Result<Search, Failure> {
        let (socket, address) = (self.socket.get(), self.socket.address);
        let search = search_windows(&socket, address, range, widths, &mut self.randoms, self.attempts)?;
        match search {
            Search::Found(_) if self.socket.listen()? => self.share(true)?,
            Search::Found(_) => {
                self.attempts.listens_lost += 1;
                self.socket.renew(false)?;
                return Ok(Search::Taken);
            }
            Search::Impossible if is_bound(&self.socket.get()) => self.socket.renew(false)?,
            Search::Impossible | Search::Taken => {}
        }
        Ok(search)
    }

    /// Step 2. Only /proc knows whether a port is reserved, or whether the range is another one by now. It is read when
    /// the port is ours, and before it is used: most ports that are refused so far are refused here as well.
    fn share_one(&mut self, range: Range) -> Result<bool, Failure> {
        let port = port_order::single(range, self.randoms.next()).min();
        self.share(true)?;
        if self.socket.bind(port, true)? == Answer::Ours {
            // When it is lost, the sweep asks for it again, and counts it.
            if let Ok(ports) = Ports::of_host() {
                if ports.may_be_named(port) && self.socket.claim_and_listen(port, true)? == Answer::Ours {
                    self.attempts.begin_pass(&ports);
                    self.attempts.count(Answer::Ours);
                    return Ok(true);
                }
            }
            self.socket.renew(false)?;
        }
        self.share(false)?;
        Ok(false)
    }

    /// Step 1 where there are no windows.
    fn name_exclusively(&mut self, ports: &Ports) -> Result<bool, Failure> {
        self.attempts.begin_pass(ports);
        let is_small = ports.usable() <= SMALL_RANGE;
        let most = if is_small { SMALL_RANGE as usize } else { NAMED_EXCLUSIVELY };
        // At odd offsets, where bind() to port 0 looks first, too, and connect() last.
        let order = PortOrder::new(ports, &mut self.randoms);
        for port in order.filter(|port| is_small || (port - ports.range().min()) % 2 == 1).take(most) {
            let mut answer = self.socket.bind(port, false)?;
            if answer == Answer::Ours && !self.socket.listen()? {
                self.socket.renew(false)?;
                answer = Answer::Lost;
            }
            self.attempts.count(answer);
            if answer == Answer::Ours {
                self.share(true)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Steps 4 and 5.
    fn sweep(&mut self, ports: &Ports) -> Result<bool, Failure> {
        self.share(true)?;
        let order = PortOrder::new(ports, &mut self.randoms);
        let socket = &mut self.socket;
        sweep(ports, order, self.attempts, |port, heeds_claims| {
            let mut answer = socket.bind(port, true)?;
            if answer == Answer::Ours {
                answer = socket.claim_and_listen(port, heeds_claims)?;
                if answer != Answer::Ours {
                    socket.renew(true)?;
                }
            }
            Ok(answer)
        })
        .map(|port| port.is_some())
    }

    /// What is left when ports cannot be named. None when the kernel found no port either.
    fn let_kernel_pick(&mut self) -> Result<Option<(u16, PortOrigin)>, Failure> {
        for share in [false, true] {
            self.share(share)?;
            for _ in 0..LOST_PICKS {
                if self.socket.bind(ANY_PORT, share)? != Answer::Ours {
                    break;
                }
                if self.socket.listen()? {
                    // In a pass it was counted.
                    self.attempts.tried += u32::from(self.attempts.usable.is_none());
                    self.share(true)?;
                    return self.named(PortOrigin::PickedByKernel).map(Some);
                }
                self.attempts.listens_lost += 1;
                self.socket.renew(share)?;
            }
        }
        Ok(None)
    }

    /// The host's ports that may be named. What is missing for a moment is asked for twice, the second time with the
    /// socket's own descriptor to spare.
    fn host_ports(&mut self) -> Result<Option<Ports>, Failure> {
        let mut read = Ports::of_host();
        if read.as_ref().is_err_and(Unreadable::is_momentary) {
            self.socket.socket = None;
            read = Ports::of_host();
            self.socket.renew(false)?;
        }
        Ok(self.attempts.noting(read))
    }

    /// Lets the socket take ports that others hold and share, or not.
    fn share(&self, sharing: bool) -> Result<(), Failure> {
        allow_reuse(&self.socket.get(), sharing)
    }
}

/// A socket that the library may close and open again.
struct OwnSocket {
    /// None between closing and opening only.
    socket: Option<Socket>,
    address: SocketAddr,
    backlog: i32,
}

impl OwnSocket {
    fn get(&self) -> SockRef<'_> {
        match &self.socket {
            Some(socket) => SockRef::from(socket),
            None => unreachable!("it was not opened again"),
        }
    }

    fn into_inner(self) -> Result<Socket, Failure> {
        self.socket.ok_or_else(|| Failure::refused(Step::Socket, io::Error::from_raw_os_error(libc::EBADF)))
    }

    /// Takes a fresh socket, because this one is bound to a port that is of no use. The old one is closed first: its
    /// descriptor may be the last one.
    fn renew(&mut self, sharing: bool) -> Result<(), Failure> {
        self.socket = None;
        self.socket = Some(open(self.address, Type::STREAM)?);
        if sharing { allow_reuse(&self.get(), true) } else { Ok(()) }
    }

    fn bind(&mut self, port: u16, sharing: bool) -> Result<Answer, Failure> {
        let answer = bind(&self.get(), self.address, port)?;
        if answer == Answer::Forbidden && is_bound(&self.get()) {
            self.renew(sharing)?;
        }
        Ok(answer)
    }

    /// Whether the socket listens now. If not, another one listens on its port.
    fn listen(&self) -> Result<bool, Failure> {
        listen(&self.get(), self.backlog)
    }

    /// Listens on a shared port that the socket is bound to.
    fn claim_and_listen(&self, port: u16, heeds_claims: bool) -> Result<Answer, Failure> {
        match Claim::to_listen(port, heeds_claims) {
            Claim::Refused => Ok(Answer::Claimed),
            _held => Ok(if self.listen()? { Answer::Ours } else { Answer::Lost }),
        }
    }
}

/// Takes the first port that `take` says is ours. The second argument of `take` is whether every claim is heeded.
///
/// All ports are asked for again in a small range, or when one was lost or claimed. After a claim, which takes
/// microseconds, the CPU is first left to others. If a port is claimed still, and nothing else was found, somebody may
/// sit on the name; then the claims of strangers are not heeded any more.
pub(crate) fn sweep(
    ports: &Ports,
    order: PortOrder<'_>,
    attempts: &mut Attempts,
    mut take: impl FnMut(u16, bool) -> Result<Answer, Failure>,
) -> Result<Option<u16>, Failure> {
    attempts.begin_pass(ports);
    for pass in 0..3 {
        let mut again = pass == 0 && ports.usable() <= SMALL_RANGE;
        let mut claimed = false;
        for port in order.clone() {
            let answer = take(port, pass < 2)?;
            match answer {
                Answer::Claimed => claimed = true,
                Answer::Lost => again |= pass == 0,
                _ => {}
            }
            if pass == 0 {
                attempts.count(answer);
            } else if answer == Answer::Lost {
                attempts.listens_lost += 1;
            }
            if answer == Answer::Ours {
                return Ok(Some(port));
            }
        }
        if !(again || claimed) {
            break;
        }
        if claimed {
            (0..YIELDS).for_each(|_| std::thread::yield_now());
        }
    }
    Ok(None)
}

/// Has the kernel bind the socket to a free port in windows of the host's range, at random places and of these widths,
/// or in all of a small range.
pub(crate) fn search_windows(
    socket: &SockRef<'_>,
    address: SocketAddr,
    range: Range,
    widths: &[u32],
    randoms: &mut Randoms,
    attempts: &mut Attempts,
) -> Result<Search, Failure> {
    if range.span() <= SMALL_RANGE {
        return search_in(socket, address, range, attempts);
    }
    for &width in widths {
        let window = match width {
            1 => port_order::single(range, randoms.next()),
            _ => port_order::window(range, width, randoms.next()),
        };
        match search_in(socket, address, window, attempts)? {
            Search::Taken => {}
            ended => return Ok(ended),
        }
    }
    Ok(Search::Taken)
}

/// Has the kernel bind the socket to a free port in a window of the host's range.
pub(crate) fn search_in(
    socket: &SockRef<'_>,
    address: SocketAddr,
    window: Range,
    attempts: &mut Attempts,
) -> Result<Search, Failure> {
    if !set_window(socket, window.ends()) {
        return Ok(Search::Impossible);
    }
    let answer = bind(socket, address, ANY_PORT);
    set_window(socket, 0);
    match answer? {
        Answer::Ours => {
            attempts.count(Answer::Ours);
            let port = picked_port(socket)?;
            if !window.contains(port) {
                port_range::forget_host_range();
            }
            Ok(Search::Found(port))
        }
        Answer::Forbidden => Ok(Search::Impossible),
        _ => {
            attempts.count_window(window.span());
            Ok(Search::Taken)
        }
    }
}

/// Asks for a port. Unless [`is_bound`] says otherwise, a socket that was refused is as it was, and can ask for another
/// one.
pub(crate) fn bind(socket: &SockRef<'_>, mut address: SocketAddr, port: u16) -> Result<Answer, Failure> {
    address.set_port(port);
    socket.bind(&SockAddr::from(address)).map_or_else(|error| refusal(error, address), |()| Ok(Answer::Ours))
}

/// What an error of bind() means for the port that was asked for.
fn refusal(error: io::Error, address: SocketAddr) -> Result<Answer, Failure> {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => Ok(Answer::InUse),
        // Below ip_unprivileged_port_start, or a security module's or cgroup program's decision on this port.
        Some(libc::EACCES | libc::EPERM) => Ok(Answer::Forbidden),
        Some(libc::EADDRNOTAVAIL) => Err(Failure::not_of_this_host(address)),
        _ => Err(Failure::refused(Step::Bind, error)),
    }
}

/// Whether the socket listens now. If not, another one listens on its port.
pub(crate) fn listen(socket: &SockRef<'_>, backlog: i32) -> Result<bool, Failure> {
    match socket.listen(backlog) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => Ok(false),
        Err(error) => Err(Failure::refused(Step::Listen, error)),
    }
}

/// The port number by which bind() is asked to pick one.
pub(crate) const ANY_PORT: u16 = 0;

/// Confines the kernel's own choice of a port to a window, or, with 0, to the host's range again. False when the kernel
/// cannot do that.
pub(crate) fn set_window(socket: &SockRef<'_>, ends: u32) -> bool {
    sys::set_option(socket.as_fd(), libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE, ends).is_ok()
}

pub(crate) fn allow_reuse(socket: &SockRef<'_>, allow: bool) -> Result<(), Failure> {
    socket.set_reuse_address(allow).map_err(|error| Failure::refused(Step::Setsockopt, error))
}

/// The port a socket has; an error when it has none.
pub(crate) fn picked_port(socket: &SockRef<'_>) -> Result<u16, Failure> {
    let address = socket.local_addr().map_err(|error| Failure::refused(Step::Getsockname, error))?;
    let port = address.as_socket().map_or(0, |address| address.port());
    if port == 0 {
        let nonsense = io::Error::from_raw_os_error(libc::EADDRNOTAVAIL);
        return Err(Failure::refused(Step::Getsockname, nonsense));
    }
    Ok(port)
}

/// Whether the socket has a port, or may have, although bind() refused it: Linux 5.10 to 5.16 leave it bound when a
/// cgroup's program forbids the port afterwards (BPF_CGROUP_INET4_POST_BIND).
pub(crate) fn is_bound(socket: &SockRef<'_>) -> bool {
    !socket.local_addr().is_ok_and(|address| address.as_socket().is_some_and(|address| address.port() == ANY_PORT))
}

/// The errno of the system call that finds no port; EACCES when privilege is all that was missing.
pub(crate) fn no_port(attempts: &Attempts) -> Failure {
    let step = if attempts.listens_lost > 0 { Step::Listen } else { Step::Bind };
    let privilege_is_missing = attempts.all_forbidden() && attempts.listens_lost == 0;
    Failure::no_port(step, if privilege_is_missing { libc::EACCES } else { libc::EADDRINUSE }, attempts)
}
