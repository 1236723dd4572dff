//! How a socket gets its port. This file is what the library exists for; it reads from top to bottom.
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
//! * connect() shares ports among connections to different destinations, but passes over every port that was bound,
//!   also those that listeners left in TIME_WAIT (`__inet_hash_connect`). Named, they can be connected from.
//! * IP_LOCAL_PORT_RANGE (Linux 6.3) makes bind() to port 0 and connect() look at a window of the host's range only,
//!   and pass over its reserved ports. A window that lies outside the range is ignored.
//!
//! # The plan for a listener
//!
//! 1. **Search exclusively.** The kernel looks for a port that no socket holds: first at a port drawn at random, where
//!    most calls end, then at a few more, then in windows. No other socket can take part in such a port, and none loses
//!    it to us: a program that has bound a port and is about to listen on it keeps it. Once we listen, SO_REUSEADDR is
//!    set after all; accepted connections inherit it, and the TIME_WAITs they leave can then be taken by the next
//!    listener. The windows are drawn from the range that was seen last, or Linux's default. Whether that is right, the
//!    kernel says: it gives the port that was asked for, or one of its own range. So nothing is read from /proc on this
//!    way.
//! 2. **Share one port.** When all of those were taken, free ports are rare or gone. One port is asked for with
//!    SO_REUSEADDR. In a range full of TIME_WAIT that is the end of it.
//! 3. **Search once more, wider.** It was refused, so the range is full of holders that do not share, and each port
//!    that can be shared may be one that a neighbour has bound and not yet listened on. A free one is worth a longer
//!    search.
//! 4. **Sweep.** Each port of the range is asked for with SO_REUSEADDR, once: this takes free ports as well, and those
//!    in TIME_WAIT, and those that only outgoing connections hold, provided their owners set SO_REUSEADDR. When
//!    listen() is lost to another socket, ours is spent (it stays bound): a fresh one goes on with the next port.
//! 5. **Look again** at the ports whose listen() was lost. The kernel marks a socket as listening before it looks for
//!    others, so two starters can refuse each other, and neither has the port. In a small range, look again at all:
//!    a socket that held a port for a moment may be gone.
//! 6. Give up, and say what was found.
//!
//! Before Linux 6.3, where only port 0 is forbidden, and in a range the caller named, step 1 names single ports and
//! step 3 does not exist. Where the host's range cannot be read, ports cannot be named; then the kernel picks, with and
//! without SO_REUSEADDR. Where everything but port 0 is forbidden (Landlock, a cgroup's program), step 1 has asked for
//! it already.
//!
//! A connection ([`crate::drop_in`]) has no step 1 to 3. Its connect() is tried first; then the sweep names ports for
//! it, and what is lost is not a listen() but a connect(), to a connection that exists.
//!
//! Why so, with figures, is in docs/why.md.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use socket2::{SockAddr, SockRef};

use crate::attempts::{Answer, Purpose};
use crate::error::{Cause, Failure, Step};
use crate::if_inet6::Absent;
use crate::port_order::{self, PortOrder, Randoms};
use crate::port_range::{self, Ports, Range, Unreadable};
use crate::sys::{self, IP_LOCAL_PORT_RANGE, OptionValue};
use crate::{Attempts, PortOrigin};

/// The windows of the first search, in ports, after the first port was refused. Single ports are drawn from all over
/// the range, which finds a free one where listeners stand in long rows; windows find one where few are free, at half
/// the cost for each port.
const FIRST_SEARCH: [u32; 6] = [1, 1, 1, 8, 8, 8];

/// The windows of the wider search: enough to find one free port in a hundred nine times in ten, and in many places,
/// because a wide window in a row of listeners is all held.
const WIDER_SEARCH: [u32; 32] = [8; 32];

/// How many ports are named exclusively where there are no windows.
const PROBES: usize = 16;

/// A range of so many ports is searched whole before a port is shared, and looked at twice before giving up.
const SMALL_RANGE: u32 = 64;

/// The search of a window takes microseconds. One that takes longer was made in the whole range, because the window is
/// outside it: then the range is read, and no more windows are searched in this one.
const PATIENCE: Duration = Duration::from_millis(1);

/// After so many forbidden ports and nothing else, port 0 is asked for before the rest.
const ENOUGH_REFUSALS: u32 = 16;

/// How many ports are kept for a second look. More than that are lost only to a crowd of starters in a small range,
/// where each of them took one of the ports.
const KEPT_FOR_A_SECOND_LOOK: usize = SMALL_RANGE as usize;

/// A socket in search of a port.
pub(crate) trait Seeker {
    /// The socket as it is now.
    fn socket(&self) -> SockRef<'_>;

    /// The address to bind, whatever its port.
    fn address(&self) -> SocketAddr;

    /// Does with the port what it is wanted for. False when it was lost: another socket listens there, or a connection
    /// to the same destination exists.
    fn use_port(&mut self) -> Result<bool, Failure>;

    /// Replaces a socket that is bound, and cannot be bound to anything else, by one that is not.
    fn renew(&mut self) -> Result<(), Failure>;

    /// Whether renew() does no harm: the caller does not know the socket yet.
    fn is_expendable(&self) -> bool {
        false
    }

    /// Gives the socket's descriptor back until the next renew(), where that is possible.
    fn lend_descriptor(&mut self) -> bool {
        false
    }

    /// How many ports may be lost at the second look before giving up.
    fn retries(&self) -> u32;
}

/// Gives the socket a port, of `named` or else of the host's range, and uses it. Says how the port was won, and which
/// it is where that is known.
///
/// (`#[inline(always)]`, here and where this is called, makes one piece of code of the way of a call that wins its
/// first port. In a forked child each page of code is a page fault: docs/why.md has the figures.)
#[inline(always)]
pub(crate) fn win_a_port(
    seeker: &mut impl Seeker,
    named: Option<Range>,
    attempts: &mut Attempts,
) -> Result<(PortOrigin, Option<u16>), Failure> {
    let mut hunt = Hunt::new(seeker, attempts);
    let origin = match named {
        Some(range) => {
            hunt.randoms.tell_apart();
            let ports = Ports::exactly(range);
            hunt.attempts.in_named_range();
            hunt.attempts.begin_pass(&ports);
            let mut order = PortOrder::new(&ports, hunt.randoms.next());
            match hunt.name_exclusively(&ports, &mut order)? {
                Some(origin) => Ok(origin),
                None => hunt.sweep(&ports, order, Host::IsNotAsked),
            }
        }
        None => hunt.in_host_range(),
    };
    origin.map(|origin| (origin, hunt.port))
}

/// Gives the socket a port of these by name and SO_REUSEADDR, free or shared, and uses it.
pub(crate) fn share_a_port(
    seeker: &mut impl Seeker,
    ports: &Ports,
    attempts: &mut Attempts,
) -> Result<PortOrigin, Failure> {
    let mut hunt = Hunt::new(seeker, attempts);
    hunt.randoms.tell_apart();
    hunt.attempts.begin_pass(ports);
    let order = PortOrder::new(ports, hunt.randoms.next());
    hunt.sweep(ports, order, Host::IsNotAsked)
}

/// One call's search.
struct Hunt<'a, S: Seeker> {
    seeker: &'a mut S,
    attempts: &'a mut Attempts,
    randoms: Randoms,
    /// Whether the socket has SO_REUSEADDR.
    sharing: bool,
    /// The port, where it is known already.
    port: Option<u16>,
}

/// How an exclusive search ended.
enum Search {
    Won,
    /// Every port that was looked at is held.
    Taken,
    /// It took so long that the windows must be outside the host's range.
    Astray,
    /// The kernel knows no windows, or forbids port 0.
    Impossible,
}

/// Whether bind() to port 0 is still to be asked for, should all names be forbidden.
#[derive(PartialEq, Eq)]
enum Host {
    MayBeAsked,
    IsNotAsked,
}

impl<'a, S: Seeker> Hunt<'a, S> {
    fn new(seeker: &'a mut S, attempts: &'a mut Attempts) -> Self {
        Self { seeker, attempts, randoms: Randoms::for_this_call(), sharing: false, port: None }
    }

    #[inline(always)]
    fn in_host_range(&mut self) -> Result<PortOrigin, Failure> {
        let mut search = Search::Taken;
        if let Some(range) = port_range::believed_host_range() {
            if range.span() > SMALL_RANGE {
                let window = port_order::single(range, self.randoms.next());
                search = self.search_in(window)?;
            }
        }
        match search {
            Search::Won => Ok(PortOrigin::Free),
            refused => self.in_crowded_range(refused),
        }
    }

    /// What follows when the first port was refused, or none could be guessed. Few calls come here.
    #[cold]
    #[inline(never)]
    fn in_crowded_range(&mut self, refused: Search) -> Result<PortOrigin, Failure> {
        self.randoms.tell_apart();
        let range = match refused {
            Search::Impossible => None,
            _ => port_range::known_host_range().or_else(|| port_range::read_host_range().ok()),
        };
        // The rest of step 1.
        let mut search = match range {
            Some(range) if range.span() <= SMALL_RANGE => self.search_in(range)?,
            Some(range) => self.search_windows(range, &FIRST_SEARCH)?,
            None => Search::Impossible,
        };
        if let (Search::Taken, Some(range)) = (&search, range.filter(|range| range.span() > SMALL_RANGE)) {
            if self.share_one(range)? {
                return Ok(PortOrigin::Reused);
            }
            search = self.search_windows(range, &WIDER_SEARCH)?;
        }
        if let Search::Won = search {
            return Ok(PortOrigin::Free);
        }
        let ports = match self.host_ports()? {
            Ok(ports) => ports,
            Err(unreadable) => {
                self.attempts.unreadable = Some(unreadable);
                return self.let_kernel_pick()?.ok_or_else(|| no_port(self.attempts));
            }
        };
        self.attempts.begin_pass(&ports);
        let mut order = PortOrder::new(&ports, self.randoms.next());
        let won = match search {
            Search::Impossible => self.name_exclusively(&ports, &mut order)?,
            _ => None,
        };
        won.map_or_else(|| self.sweep(&ports, order, Host::MayBeAsked), Ok)
    }

    /// Searches windows of these widths.
    fn search_windows(&mut self, range: Range, widths: &[u32]) -> Result<Search, Failure> {
        let begun = Instant::now();
        for &width in widths {
            let random = self.randoms.next();
            let window = match width {
                1 => port_order::single(range, random),
                _ => port_order::window(range, width, random),
            };
            match self.search_in(window)? {
                Search::Taken => {}
                ended => return Ok(ended),
            }
            if begun.elapsed() > PATIENCE {
                return Ok(Search::Astray);
            }
        }
        Ok(Search::Taken)
    }

    /// Step 2. Only /proc knows whether a port is reserved, or whether the range is another one by now. It is read when
    /// the port is ours, and before it is used: most ports that are refused so far are refused here as well.
    fn share_one(&mut self, range: Range) -> Result<bool, Failure> {
        let port = port_order::single(range, self.randoms.next()).min();
        let permitted = || Ports::of_host().ok().filter(|ports| ports.may_be_named(port));
        let mut ports = None;
        if !self.seeker.is_expendable() {
            ports = permitted();
            if ports.is_none() {
                return Ok(false);
            }
        }
        self.share(true)?;
        if self.bind(port)? == Answer::Ours {
            if let Some(ports) = ports.or_else(permitted) {
                // When it is lost, the sweep asks for it again, and counts it.
                if self.use_port(true)? {
                    self.attempts.begin_pass(&ports);
                    self.attempts.count(Answer::Ours);
                    return Ok(true);
                }
            }
            self.renew()?;
        }
        self.share(false)?;
        Ok(false)
    }

    /// Has the kernel look for a free port in a window of the host's range.
    #[inline(always)]
    fn search_in(&mut self, window: Range) -> Result<Search, Failure> {
        if !set_window(&self.seeker.socket(), Some(window)) {
            return Ok(Search::Impossible);
        }
        let answer = self.bind(PICK)?;
        if answer == Answer::Ours {
            let port = picked_port(&self.seeker.socket())?;
            if !window.contains(port) {
                port_range::belief_was_wrong();
            }
            if self.use_port(false)? {
                self.attempts.count(Answer::Ours);
                self.port = Some(port);
                return Ok(Search::Won);
            }
            // The socket's owner had set SO_REUSEADDR, so that another could share the port and listen first.
            self.renew()?;
        }
        if answer == Answer::Forbidden {
            return Ok(Search::Impossible);
        }
        self.attempts.count_window(window.span());
        Ok(Search::Taken)
    }

    /// Step 1 where there are no windows.
    fn name_exclusively(&mut self, ports: &Ports, order: &mut PortOrder<'_>) -> Result<Option<PortOrigin>, Failure> {
        let probes = if ports.usable() <= SMALL_RANGE { ports.usable() as usize } else { PROBES };
        for port in order.take(probes) {
            if self.ask_for(port)? {
                return Ok(Some(PortOrigin::Free));
            }
        }
        Ok(None)
    }

    /// Names a port for the first time, and uses it if it is given.
    fn ask_for(&mut self, port: u16) -> Result<bool, Failure> {
        let answer = self.bind(port)?;
        self.attempts.count(answer);
        if answer == Answer::Ours {
            if self.use_port(false)? {
                return Ok(true);
            }
            self.renew()?;
        }
        Ok(false)
    }

    /// Steps 4 to 6. `order` goes on behind the ports that have been named already, and ends with those.
    fn sweep(&mut self, ports: &Ports, order: PortOrder<'_>, mut host: Host) -> Result<PortOrigin, Failure> {
        let small = ports.usable() <= SMALL_RANGE;
        let mut second_look = SecondLook::NONE;
        let mut named_first = (ports.usable() - self.attempts.tried()) as usize;
        self.share(true)?;

        for port in order.take(ports.usable() as usize) {
            let first_look = named_first > 0;
            named_first = named_first.saturating_sub(1);
            let answer = self.bind(port)?;
            if first_look {
                self.attempts.count(answer);
            }
            match answer {
                Answer::Ours if self.use_port(!first_look)? => {
                    if !first_look {
                        self.attempts.won_again(true);
                    }
                    return Ok(PortOrigin::Reused);
                }
                Answer::Ours => {
                    second_look.push(port, !first_look);
                    self.renew()?;
                }
                Answer::InUse if small => second_look.push(port, true),
                Answer::InUse => {}
                Answer::Forbidden => {
                    if host == Host::MayBeAsked
                        && self.attempts.all_forbidden()
                        && self.attempts.forbidden() >= ENOUGH_REFUSALS
                    {
                        host = Host::IsNotAsked;
                        if let Some(origin) = self.let_kernel_pick()? {
                            return Ok(origin);
                        }
                    }
                }
            }
        }
        // A port that may not be named may still be picked.
        if host == Host::MayBeAsked && self.attempts.forbidden() > 0 {
            if let Some(origin) = self.let_kernel_pick()? {
                return Ok(origin);
            }
        }

        let mut retries = 0;
        while let Some((port, was_in_use)) = second_look.pop() {
            if self.bind(port)? != Answer::Ours {
                continue;
            }
            if self.use_port(true)? {
                self.attempts.won_again(was_in_use);
                return Ok(PortOrigin::Reused);
            }
            self.renew()?;
            retries += 1;
            if retries > self.seeker.retries() {
                break;
            }
            if self.attempts.purpose() == Purpose::Listen {
                second_look.push(port, was_in_use);
            }
        }
        Err(no_port(self.attempts))
    }

    /// What is left when ports cannot be named. None when the kernel found no port either.
    fn let_kernel_pick(&mut self) -> Result<Option<PortOrigin>, Failure> {
        set_window(&self.seeker.socket(), None);
        // Kernels before 4.11, and those with ip_autobind_reuse=1, hand out shared ports when asked with SO_REUSEADDR.
        for share in [false, true] {
            self.share(share)?;
            let mut retries = 0;
            loop {
                let answer = self.bind(PICK)?;
                if answer != Answer::Ours {
                    if self.attempts.unreadable.is_some() {
                        self.attempts.count(answer);
                    }
                    break;
                }
                if self.use_port(retries > 0)? {
                    self.attempts.count(Answer::Ours);
                    return Ok(Some(PortOrigin::PickedByKernel));
                }
                self.renew()?;
                retries += 1;
                if retries > self.seeker.retries() {
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }

    /// The host's ports that may be named. What is missing for a moment is asked for twice, the second time with the
    /// socket's own descriptor to spare. An error of the seeker's is the outer one.
    fn host_ports(&mut self) -> Result<Result<Ports, Unreadable>, Failure> {
        match Ports::of_host() {
            Err(unreadable) if unreadable.is_momentary() => {
                let lent = self.seeker.lend_descriptor();
                let ports = Ports::of_host();
                if lent {
                    self.renew()?;
                }
                Ok(ports)
            }
            ports => Ok(ports),
        }
    }

    /// Lets the socket take ports that others hold and share, or not.
    fn share(&mut self, sharing: bool) -> Result<(), Failure> {
        self.sharing = sharing;
        allow_reuse(&self.seeker.socket(), sharing)
    }

    fn renew(&mut self) -> Result<(), Failure> {
        self.seeker.renew()?;
        if self.sharing { allow_reuse(&self.seeker.socket(), true) } else { Ok(()) }
    }

    #[inline(always)]
    fn use_port(&mut self, again: bool) -> Result<bool, Failure> {
        let used = self.seeker.use_port()?;
        if !used {
            self.attempts.lost(again);
        }
        Ok(used)
    }

    /// Asks for a port. After a refusal the socket is as it was, and can ask for another one.
    #[inline(always)]
    fn bind(&mut self, port: u16) -> Result<Answer, Failure> {
        let answer = bind(&self.seeker.socket(), self.seeker.address(), port)?;
        if answer == Answer::Forbidden && is_bound(&self.seeker.socket()) {
            self.renew()?;
        }
        Ok(answer)
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
        Some(libc::EADDRNOTAVAIL) => {
            Err(Failure { step: Step::Bind, source: error, cause: Cause::NotOfThisHost(Absent::new(address)) })
        }
        _ => Err(Failure::refused(Step::Bind, error)),
    }
}

/// Whether the socket listens now. If not, another one listens on its port.
#[inline(always)]
pub(crate) fn listen(socket: &SockRef<'_>, backlog: i32) -> Result<bool, Failure> {
    match socket.listen(backlog) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => Ok(false),
        Err(error) => Err(Failure::refused(Step::Listen, error)),
    }
}

/// The port number by which bind() is asked to pick one.
pub(crate) const PICK: u16 = 0;

/// Confines the kernel's own choice of a port to a window, or to the host's range again. False when the kernel cannot
/// do that.
pub(crate) fn set_window(socket: &SockRef<'_>, window: Option<Range>) -> bool {
    let ends = window.map_or(0, |window| (u32::from(window.max()) << 16) | u32::from(window.min()));
    sys::set_option(socket.as_fd(), libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE, &OptionValue::number(ends)).is_ok()
}

#[inline(always)]
pub(crate) fn allow_reuse(socket: &SockRef<'_>, allow: bool) -> Result<(), Failure> {
    // Not by socket2: its function lies on a page of its own, a tenth of the first call of a forked child.
    let value = OptionValue::number(allow.into());
    sys::set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, &value)
        .map_err(|error| Failure::refused(Step::Setsockopt, error))
}

/// The port a socket has; an error when it has none.
#[inline(always)]
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
    !socket.local_addr().is_ok_and(|address| address.as_socket().is_some_and(|address| address.port() == PICK))
}

/// The errno of the system call that finds no port; EACCES when privilege is all that was missing.
fn no_port(attempts: &Attempts) -> Failure {
    if attempts.purpose() == Purpose::Connect {
        return Failure::no_port(Step::Connect, libc::EADDRNOTAVAIL);
    }
    let step = if attempts.listens_lost() > 0 { Step::Listen } else { Step::Bind };
    let privilege_is_missing = attempts.all_forbidden() && attempts.listens_lost() == 0;
    Failure::no_port(step, if privilege_is_missing { libc::EACCES } else { libc::EADDRINUSE })
}

/// The ports that are looked at again, in the order they came in; the oldest are forgotten. With each goes whether it
/// was in use, and not lost.
struct SecondLook {
    kept: [(u16, bool); KEPT_FOR_A_SECOND_LOOK],
    oldest: usize,
    count: usize,
}

impl SecondLook {
    const NONE: Self = Self { kept: [(0, false); KEPT_FOR_A_SECOND_LOOK], oldest: 0, count: 0 };

    fn push(&mut self, port: u16, was_in_use: bool) {
        self.kept[(self.oldest + self.count) % KEPT_FOR_A_SECOND_LOOK] = (port, was_in_use);
        if self.count < KEPT_FOR_A_SECOND_LOOK {
            self.count += 1;
        } else {
            self.oldest += 1;
        }
    }

    fn pop(&mut self) -> Option<(u16, bool)> {
        self.count = self.count.checked_sub(1)?;
        let port = self.kept[self.oldest % KEPT_FOR_A_SECOND_LOOK];
        self.oldest += 1;
        Some(port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_come_back_in_the_order_they_were_put_aside() {
        let mut second_look = SecondLook::NONE;
        assert_eq!(second_look.pop(), None);
        (1..=3).for_each(|port| second_look.push(port, false));
        assert_eq!(second_look.pop(), Some((1, false)));
        (4..=200).for_each(|port| second_look.push(port, true));
        let kept: Vec<_> = std::iter::from_fn(|| second_look.pop()).collect();
        assert_eq!(kept, (137..=200).map(|port| (port, true)).collect::<Vec<_>>());
    }
}
