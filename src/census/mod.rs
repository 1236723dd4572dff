//! Who holds the ports: asked when a call finds no port, and by monitors at any time.
//!
//! # What is counted
//!
//! Every port of the range once, by its strongest holder; a port may have many, a listener with its connections among
//! them. From the strongest to the weakest, by whether waiting helps:
//!
//! 1. **Listening** (LISTEN). Its program has to end, or close it.
//! 2. **Bound**, and neither listening nor connected: about to listen or to connect, or kept for later.
//! 3. **Connected**: a program has the connection, or is making it (SYN_SENT, SYN_RECV, ESTABLISHED, CLOSE_WAIT).
//! 4. **Closing**: the program has closed it, and the peer has not answered yet (FIN_WAIT1, FIN_WAIT2, CLOSING,
//!    LAST_ACK).
//! 5. **TIME_WAIT**: no program has it. The kernel gives the port back when its time has passed, 60 s at most.
//!
//! IPv4 and IPv6 on one port are one holder. Only sockets count that are in the way of the address in question; all of
//! them are in the way of the wildcard.
//!
//! # Who says so
//!
//! The kernel, by sock_diag(7); where netlink is refused, /proc/net/tcp. Neither shows whether a socket has
//! SO_REUSEADDR, which decides whether a port can be shared (`inet_diag_sockopt` has other flags). After a call that
//! has failed it is known: the call asked for every port with SO_REUSEADDR, and would have got a
//! TIME_WAIT that has it. Bound sockets are shown by netlink on Linux 6.8 and later; elsewhere such a port is in use
//! and has no holder that can be seen.
//!
//! # What it costs
//!
//! One byte for each port and one buffer, mapped for the time of the census. As much time as the kernel takes to list
//! the holders: less than that of the failed call by netlink, some twice of it by /proc. After [`LONGEST`] the rest is
//! not counted.

use std::cmp::Reverse;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::port_range::Ports;
use crate::sys::{self, Pages};

pub(crate) mod netlink;
pub(crate) mod proc;

/// When a census is cut short: a million connections of one listener are listed one by one. In CPU time, so that a
/// crowd of others on the machine, on a bad day, changes nothing about the answer. A census never waits for anything.
const LONGEST: Duration = Duration::from_millis(500);

/// What the kernel fills at a time; netlink uses no more than 32 KiB (netlink_recvmsg).
const BUFFER: usize = 32 << 10;

/// One byte for each port number.
const PORT_NUMBERS: usize = 1 << 16;

/// Who holds the ports of a range; see [`crate::Options::census`].
///
/// `Display` is one line, such as
/// `64 ports in 40000-40063: 50 in TIME_WAIT (the next is free in 3 s, all in 41 s), 12 connections, 2 listeners`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Census {
    /// The range of the ports.
    pub range: RangeInclusive<u16>,
    /// How many ports of it count: all but those that the host reserves.
    pub ports: u32,
    /// How many the host reserves.
    pub reserved: u32,
    /// Who holds them.
    pub holders: Holders,
    /// Who said so.
    pub source: CensusSource,
    /// Whether every holder was counted. False when half a second of CPU time did not suffice.
    pub complete: bool,
    /// How long the census took.
    pub elapsed: Duration,
}

/// Ports by who holds them: each once, by its strongest holder, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holders {
    /// A socket listens on it.
    pub listening: u32,
    /// A socket is bound to it, and neither listens nor connects. Seen by netlink on Linux 6.8 and later only.
    pub bound: u32,
    /// A connection that a program has, or is making: SYN_SENT, SYN_RECV, ESTABLISHED, CLOSE_WAIT.
    pub connected: u32,
    /// A connection that its program has closed: FIN_WAIT1, FIN_WAIT2, CLOSING, LAST_ACK.
    pub closing: u32,
    /// Connections that have ended, in TIME_WAIT.
    pub time_wait: u32,
    /// How many seconds until the first of the ports in TIME_WAIT is free, rounded up. 0 when none is in TIME_WAIT.
    pub time_wait_next_s: u32,
    /// How many seconds until the last of them is free, rounded up. 0 when none is in TIME_WAIT.
    pub time_wait_last_s: u32,
}

/// Where a census comes from.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CensusSource {
    /// There is no census.
    None = 0,
    /// The kernel, over netlink: sock_diag(7). From Linux 6.8 on it shows sockets that are bound and neither listen nor
    /// connect.
    Netlink = 1,
    /// /proc/net/tcp and /proc/net/tcp6, where netlink is refused. They do not show such sockets.
    Proc = 2,
}

/// Whose ports: TCP and UDP have 65,535 each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

/// Which sockets are to be seen.
pub(crate) enum Filter {
    /// Those with a local port in the range.
    LocalPorts(RangeInclusive<u16>),
    /// Those of IPv4 or IPv6 that are connected to the destination, or were, TIME_WAIT included. An IPv4-mapped address
    /// is the IPv4 one. (The kernel walks over all its connections once for each family.)
    Towards { destination: SocketAddr, of_ipv4: bool },
}

/// Counts the holders of `ports` that are in the way of the address; None is the wildcard.
///
/// # Errors
///
/// What was said of /proc/net/tcp, where netlink is refused, too; EMFILE and ENFILE where a descriptor is all that was
/// missing; ENOMEM.
pub(crate) fn take(transport: Transport, address: Option<SocketAddr>, ports: &Ports) -> io::Result<Census> {
    let start = sys::monotonic_time();
    let range = ports.range().min()..=ports.range().max();
    let mut memory = Pages::new(PORT_NUMBERS + BUFFER)?;
    let (strongest, buffer) = memory.bytes().split_at_mut(PORT_NUMBERS);
    let until = sys::thread_cpu_time() + LONGEST;
    let filter = Filter::LocalPorts(range.clone());
    // False when the time is over; then no more is to be added.
    let (mut sockets, mut complete) = (0u32, true);
    let mut add = |strongest: &mut [u8], entry: &Entry| {
        sockets += 1;
        if sockets % 256 == 0 {
            complete = sys::thread_cpu_time() < until;
        }
        if range.contains(&entry.local.port()) && in_the_way(address, entry) {
            let strongest = &mut strongest[usize::from(entry.local.port())];
            *strongest = strength(entry).max(*strongest);
        }
        complete
    };
    let source = match netlink::list(transport, &filter, buffer, &mut |entry| add(strongest, entry)) {
        Ok(()) => CensusSource::Netlink,
        Err(refused) => {
            strongest.fill(0);
            proc::list(transport, buffer, &mut |entry| add(strongest, entry)).map_err(|error| {
                // Without a descriptor, which file is missing cannot be known.
                if matches!(refused.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) { refused } else { error }
            })?;
            CensusSource::Proc
        }
    };
    let mut holders = Holders::default();
    for port in range.clone().filter(|&port| !ports.is_reserved(port)) {
        match strongest[usize::from(port)] {
            0 => {}
            LISTENING => holders.listening += 1,
            BOUND => holders.bound += 1,
            CONNECTED => holders.connected += 1,
            CLOSING => holders.closing += 1,
            seconds_left => holders.add_time_wait(seconds_left.into()),
        }
    }
    let elapsed = sys::monotonic_time() - start;
    Ok(Census { range, ports: ports.usable(), reserved: ports.reserved(), holders, source, complete, elapsed })
}

/// The TCP sockets of this network namespace that are in the way of the address; None is the wildcard.
pub(crate) fn sockets(address: Option<SocketAddr>) -> io::Result<Vec<Entry>> {
    let mut buffer = Pages::new(BUFFER)?;
    let mut sockets = Vec::new();
    let add = |sockets: &mut Vec<Entry>, entry: &Entry| {
        sockets.extend(Some(entry).filter(|entry| in_the_way(address, entry)).cloned());
        true
    };
    let filter = Filter::LocalPorts(0..=u16::MAX);
    if netlink::list(Transport::Tcp, &filter, buffer.bytes(), &mut |entry| add(&mut sockets, entry)).is_err() {
        sockets.clear();
        proc::list(Transport::Tcp, buffer.bytes(), &mut |entry| add(&mut sockets, entry))?;
    }
    Ok(sockets)
}

/// A socket as its source shows it.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its address is unspecified for a wildcard.
    pub local: SocketAddr,
    /// Its port is 0 unless the socket is connected, or was.
    pub remote: SocketAddr,
    /// The interface it is bound to, or 0.
    pub(crate) interface: u32,
    /// Whether it takes no IPv4.
    pub(crate) only_v6: bool,
    /// As in net/tcp_states.h of the kernel.
    pub state: u8,
    /// Until its timer runs out; in TIME_WAIT, until the port is given back.
    pub(crate) milliseconds_left: u32,
    /// As /proc/PID/fd shows it; 0 when no process has it.
    pub inode: u32,
}

/// The state of a connection that has ended (net/tcp_states.h).
pub(crate) const TIME_WAIT: u8 = 6;

// A holder as one byte: the stronger is the greater number, and of two TIME_WAITs the one that lasts longer. In
// TIME_WAIT it is the seconds that are left, 1 to 250: it lasts 60 (TCP_TIMEWAIT_LEN), and longer ones are believed up
// to there.
const LONGEST_TIME_WAIT: u8 = 250;
const CLOSING: u8 = 251;
const CONNECTED: u8 = 252;
const BOUND: u8 = 253;
const LISTENING: u8 = 254;

/// How strongly a socket holds its port; 0 when it does not.
fn strength(entry: &Entry) -> u8 {
    match entry.state {
        1 | 2 | 3 | 8 | 12 => CONNECTED, // ESTABLISHED, SYN_SENT, SYN_RECV, CLOSE_WAIT, NEW_SYN_RECV
        4 | 5 | 9 | 11 => CLOSING,       // FIN_WAIT1, FIN_WAIT2, LAST_ACK, CLOSING
        TIME_WAIT => entry.milliseconds_left.div_ceil(1000).clamp(1, LONGEST_TIME_WAIT.into()) as u8,
        7 | 13 => BOUND, // CLOSE, which is a UDP socket's usual state, and BOUND_INACTIVE
        10 => LISTENING, // LISTEN
        _ => 0,
    }
}

/// Whether a socket keeps others from the address, as bind() would find (`inet_rcv_saddr_equal`): it has that address
/// or a wildcard that takes it. On link-local addresses the interface counts too.
fn in_the_way(wanted: Option<SocketAddr>, entry: &Entry) -> bool {
    let Some(wanted) = wanted else {
        return true;
    };
    let (mine, theirs) = (wanted.ip().to_canonical(), entry.local.ip().to_canonical());
    match (mine, theirs) {
        // The IPv6 wildcard has IPv4 too, ours always and theirs unless it is told otherwise.
        (IpAddr::V6(mine), _) if mine.is_unspecified() => true,
        // A connection has IPv4's wildcard, too, if its socket was bound to IPv6's. Nobody says which were.
        (IpAddr::V4(_), IpAddr::V6(theirs)) => {
            let keeps_any = wanted.ip() == Ipv4Addr::UNSPECIFIED && entry.remote.port() != 0;
            !entry.only_v6 && (theirs.is_unspecified() || keeps_any)
        }
        (IpAddr::V6(_), IpAddr::V4(_)) => false,
        _ => {
            let interface = match wanted {
                SocketAddr::V4(_) => 0,
                SocketAddr::V6(wanted) => wanted.scope_id(),
            };
            (interface == 0 || entry.interface == 0 || interface == entry.interface)
                && (mine == theirs || mine.is_unspecified() || theirs.is_unspecified())
        }
    }
}

impl Holders {
    /// How many ports have a holder.
    pub fn total(&self) -> u32 {
        self.listening + self.bound + self.connected + self.closing + self.time_wait
    }

    fn add_time_wait(&mut self, seconds_left: u32) {
        self.time_wait_next_s =
            if self.time_wait == 0 { seconds_left } else { self.time_wait_next_s.min(seconds_left) };
        self.time_wait_last_s = self.time_wait_last_s.max(seconds_left);
        self.time_wait += 1;
    }

    /// The holders in words, the most frequent first, `unknown` being ports in use without a holder that can be seen;
    /// and what `which` is known about those in TIME_WAIT.
    pub(crate) fn describe(&self, unknown: u32, which: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut kinds = [
            (self.listening, if self.listening == 1 { "listener" } else { "listeners" }),
            (self.bound, "bound"),
            (self.connected, if self.connected == 1 { "connection" } else { "connections" }),
            (self.closing, "closing"),
            (self.time_wait, "in TIME_WAIT"),
            (unknown, "unknown"),
        ];
        kinds.sort_unstable_by_key(|&(count, kind)| (Reverse(count), kind));
        let mut separator = "";
        for (count, kind) in kinds.into_iter().filter(|&(count, _)| count > 0) {
            write!(f, "{separator}{count} {kind}")?;
            if kind == "in TIME_WAIT" {
                f.write_str(which)?;
                match (count, self.time_wait_next_s, self.time_wait_last_s) {
                    (1, next, _) => write!(f, " (free in {next} s)")?,
                    (_, next, last) if next == last => write!(f, " (all free in {last} s)")?,
                    (_, next, last) => write!(f, " (the next is free in {next} s, all in {last} s)")?,
                }
            }
            separator = ", ";
        }
        Ok(())
    }
}

impl Census {
    /// How many ports have no holder that can be seen. They are free, or bound where the source does not show that.
    pub fn unseen(&self) -> u32 {
        self.ports.saturating_sub(self.holders.total())
    }
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = if self.ports == 1 { "port" } else { "ports" };
        write!(f, "{} {ports} in {}-{}: ", self.ports, self.range.start(), self.range.end())?;
        self.holders.describe(0, "", f)?;
        let separator = if self.holders.total() > 0 { ", " } else { "" };
        write!(f, "{separator}{} without a holder", self.unseen())?;
        if self.complete { Ok(()) } else { f.write_str(" (not counted to the end)") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_ordered_by_whether_waiting_helps() {
        let any = "0.0.0.0:0".parse().unwrap();
        let strength_of = |state, milliseconds_left| {
            strength(&Entry {
                local: any,
                remote: any,
                interface: 0,
                only_v6: false,
                state,
                milliseconds_left,
                inode: 0,
            })
        };
        for (states, expected) in [
            (&[0, 14, 255][..], 0),
            (&[4, 5, 9, 11], CLOSING),
            (&[1, 2, 3, 8, 12], CONNECTED),
            (&[7, 13], BOUND),
            (&[10], LISTENING),
        ] {
            assert!(states.iter().all(|&state| strength_of(state, 0) == expected), "{states:?}");
        }
        for (milliseconds_left, expected) in [(0, 1), (2_001, 3), (60_000, 60), (u32::MAX, LONGEST_TIME_WAIT)] {
            assert_eq!(strength_of(TIME_WAIT, milliseconds_left), expected);
        }
    }

    #[test]
    fn a_link_local_address_is_another_one_on_each_interface() {
        let (local, remote) = ("[fe80::1%7]:40000".parse().unwrap(), "[::]:0".parse().unwrap());
        for (interface, expected) in [(0, true), (7, true), (8, false)] {
            let entry = Entry { local, remote, interface, only_v6: false, state: 10, milliseconds_left: 0, inode: 0 };
            assert_eq!(in_the_way(Some(local), &entry), expected);
        }
    }

    struct Words<'a>(&'a Holders, u32, &'a str);

    impl fmt::Display for Words<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.describe(self.1, self.2, f)
        }
    }

    #[test]
    fn the_words_name_the_most_frequent_holder_first() {
        let mut holders = Holders { listening: 2, connected: 12, ..Holders::default() };
        assert_eq!(Words(&holders, 0, "").to_string(), "12 connections, 2 listeners");
        holders = Holders { listening: 1, connected: 1, bound: 1, closing: 3, ..Holders::default() };
        assert_eq!(Words(&holders, 4, "").to_string(), "4 unknown, 3 closing, 1 bound, 1 connection, 1 listener");
        for (seconds, expected) in [
            (&[7][..], "1 in TIME_WAIT without SO_REUSEADDR (free in 7 s)"),
            (&[9, 9], "2 in TIME_WAIT without SO_REUSEADDR (all free in 9 s)"),
            (&[30, 3, 41], "3 in TIME_WAIT without SO_REUSEADDR (the next is free in 3 s, all in 41 s)"),
        ] {
            let mut holders = Holders::default();
            seconds.iter().for_each(|&left| holders.add_time_wait(left));
            assert_eq!(Words(&holders, 0, " without SO_REUSEADDR").to_string(), expected);
        }
    }

    #[test]
    fn a_line_with_every_kind_of_holder_fits_into_the_report() {
        let mut holders =
            Holders { listening: 10_000, bound: 10_000, connected: 10_000, closing: 10_000, ..Holders::default() };
        (0..10_000).for_each(|port| holders.add_time_wait(59 + port % 2));
        let line = "no port to listen on in 10000-65535: 55536 tried, 55536 in use: ".to_owned()
            + &Words(&holders, 10_000, " without SO_REUSEADDR").to_string();
        // IC_LISTENER_MESSAGE_SIZE
        assert!(line.len() < 256, "{}: {line}", line.len());
    }
}
