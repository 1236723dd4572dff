//! Which ports may be used: the host's ephemeral port range without its reserved ports, or the range the caller named.

use std::fs::File;
use std::io::{self, Read};
use std::sync::RwLock;
use std::time::{Duration, Instant};

/// How long the host's range is remembered.
///
/// Reading it costs two /proc files, 4 microseconds each, as much as the listener itself; an administrator's change has
/// to count within a second. At 100 ms the reading is spread thin for whoever opens many listeners (one call in some
/// 20,000 pays it) and a change is seen ten times sooner than promised.
const REMEMBERED_FOR: Duration = Duration::from_millis(100);

/// More than the longest list of reserved ports takes, in bytes.
const LONGEST_LIST: usize = 256 << 10;

const RANGE_FILE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const RESERVED_FILE: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// The only state this library keeps, and the figure that pays for it: the second and every further call of a process need
/// not spend 8 of 13 microseconds on reading.
///
/// Nobody ever waits for this lock: whoever does not get it reads the files for himself. That also makes it safe in a
/// child forked while another thread held it, which then reads on every call; so does a process in which a call panicked.
static REMEMBERED: RwLock<HostPorts> = RwLock::new(HostPorts::UNKNOWN);

/// A range of ports and those of it that must not be used.
#[derive(Clone, Copy)]
pub(crate) struct Ports<'a> {
    min: u16,
    max: u16,
    usable: u32,
    reserved: Option<&'a PortSet>,
}

impl Ports<'static> {
    /// Exactly the ports from `min` to `max`, as a caller behind a firewall names them. None when the range is empty.
    ///
    /// The host's reserved ports are not left out: reserving them is how an administrator keeps them for such a caller.
    pub(crate) fn exactly(min: u16, max: u16) -> Option<Self> {
        (1 <= min && min <= max).then(|| Self { min, max, usable: span(min, max), reserved: None })
    }
}

impl Ports<'_> {
    /// These ports without those of a list in the kernel's notation.
    #[cfg(test)]
    pub(crate) fn leaving_out<T>(self, list: &[u8], act: impl FnOnce(&Ports) -> T) -> T {
        let mut reserved = PortSet::EMPTY;
        reserved.insert_list(list).unwrap();
        let usable = self.usable - reserved.count_within(self.min, self.max);
        act(&Ports { usable, reserved: Some(&reserved), ..self })
    }

    pub(crate) fn min(&self) -> u16 {
        self.min
    }

    pub(crate) fn max(&self) -> u16 {
        self.max
    }

    /// The number of ports from the lower to the upper end, reserved ones counted.
    pub(crate) fn span(&self) -> u32 {
        span(self.min, self.max)
    }

    /// The number of ports that may be used.
    pub(crate) fn usable(&self) -> u32 {
        self.usable
    }

    /// The port so many places above the lower end; `offset` is below [`Ports::span`].
    pub(crate) fn at_offset(&self, offset: u32) -> u16 {
        (u32::from(self.min) + offset) as u16
    }

    pub(crate) fn is_reserved(&self, port: u16) -> bool {
        self.reserved.is_some_and(|reserved| reserved.contains(port))
    }
}

/// Calls `act` with the host's ephemeral range as it was at most [`REMEMBERED_FOR`] before `now`, or with None where it
/// cannot be read.
pub(crate) fn with_host_ports<T>(now: Instant, act: impl FnOnce(Option<&Ports>) -> T) -> T {
    if let Ok(remembered) = REMEMBERED.try_read()
        && remembered.known_at(now)
    {
        let ports = remembered.ports();
        if ports.reserved.is_some() {
            return act(Some(&ports));
        }
        // Without a list to look at, the lock is held no longer than needed: another thread may have to renew what is
        // remembered, and a child forked meanwhile never could.
        let (min, max) = (ports.min, ports.max);
        drop(remembered);
        return act(Ports::exactly(min, max).as_ref());
    }
    match REMEMBERED.try_write() {
        Ok(mut remembered) => act(remembered.read(now).as_ref()),
        Err(_) => with_own_reading(now, act),
    }
}

/// Out of line, so that only those who need them pay for 8 KiB of stack.
#[cold]
#[inline(never)]
fn with_own_reading<T>(now: Instant, act: impl FnOnce(Option<&Ports>) -> T) -> T {
    let mut host = HostPorts::UNKNOWN;
    act(host.read(now).as_ref())
}

/// The host's ephemeral range and its reserved ports, read in place: a backend calls once, right after it was forked, and
/// there every page that is touched costs more than a system call.
struct HostPorts {
    read_at: Option<Instant>,
    min: u16,
    max: u16,
    usable: u32,
    any_reserved: bool,
    reserved: PortSet,
}

impl HostPorts {
    const UNKNOWN: Self =
        Self { read_at: None, min: 0, max: 0, usable: 0, any_reserved: false, reserved: PortSet::EMPTY };

    fn known_at(&self, now: Instant) -> bool {
        // Another thread may have read after this call began; and a time namespace may have set the clock back.
        let age = self.read_at.and_then(|read_at| now.checked_duration_since(read_at));
        age.is_some_and(|age| age < REMEMBERED_FOR)
    }

    fn ports(&self) -> Ports<'_> {
        let Self { min, max, usable, .. } = *self;
        // Ports that are reserved outside the range do not matter.
        Ports { min, max, usable, reserved: (usable < span(min, max)).then_some(&self.reserved) }
    }

    /// What the kernel says now. None means that nobody knows (no /proc, or one that may not be read).
    fn read(&mut self, now: Instant) -> Option<Ports<'_>> {
        self.read_at = None;
        let mut text = [0; 64];
        (self.min, self.max) = parse_range(read_once(RANGE_FILE, &mut text).ok()?)?;
        self.read_reserved()?;
        self.usable = span(self.min, self.max);
        if self.any_reserved {
            self.usable -= self.reserved.count_within(self.min, self.max);
        }
        self.read_at = Some(now);
        Some(self.ports())
    }

    fn read_reserved(&mut self) -> Option<()> {
        if self.any_reserved {
            self.reserved = PortSet::EMPTY;
            self.any_reserved = false;
        }
        let mut text = [0; 2048];
        let list = read_once(RESERVED_FILE, &mut text).ok()?;
        if list == b"\n" {
            return Some(());
        }
        self.any_reserved = true;
        if self.reserved.insert_list(list).is_some() {
            return Some(());
        }
        // The kernel cuts the list off at the end of the buffer and answers one read only (proc_do_large_bitmap, seen on
        // 6.18), so a long list is read again, whole. None is longer than two ports of every three: 249 KiB.
        let mut text = Vec::new();
        text.try_reserve_exact(LONGEST_LIST).ok()?;
        text.resize(LONGEST_LIST, 0);
        self.reserved.insert_list(read_once(RESERVED_FILE, &mut text).ok()?)
    }
}

/// One bit for each port: 8 KiB whatever the list looks like, and no allocation.
#[derive(Clone, Copy)]
struct PortSet([u64; 1024]);

impl PortSet {
    const EMPTY: Self = Self([0; 1024]);

    fn contains(&self, port: u16) -> bool {
        self.0[usize::from(port) / 64] >> (port % 64) & 1 == 1
    }

    fn insert(&mut self, port: u16) {
        self.0[usize::from(port) / 64] |= 1 << (port % 64);
    }

    /// How many ports from `min` to `max` are in the set. Word by word: a look at each of 28,232 ports would cost more than
    /// reading the files.
    fn count_within(&self, min: u16, max: u16) -> u32 {
        let (first, last) = (usize::from(min) / 64, usize::from(max) / 64);
        let mut count = self.0[first..=last].iter().map(|word| word.count_ones()).sum();
        count -= (self.0[first] & !(u64::MAX << (min % 64))).count_ones();
        count -= (self.0[last] & !(u64::MAX >> (63 - max % 64))).count_ones();
        count
    }

    /// Adds what the kernel's notation lists: `8080,9000-9100`, and a newline. None when it is anything else: cut off at the
    /// end of the buffer, or empty, as container runtimes leave a file that they hide.
    fn insert_list(&mut self, list: &[u8]) -> Option<()> {
        for item in list.strip_suffix(b"\n")?.split(|&byte| byte == b',').filter(|item| !item.is_empty()) {
            let mut ends = item.splitn(2, |&byte| byte == b'-').map(parse_port);
            let first = ends.next()??;
            let last = ends.next().unwrap_or(Some(first))?;
            (first..=last).for_each(|port| self.insert(port));
        }
        Some(())
    }
}

fn span(min: u16, max: u16) -> u32 {
    u32::from(max) - u32::from(min) + 1
}

/// The kernel's notation: two numbers between white space. Port 0 cannot be listened on, so a range from 0 starts at 1.
fn parse_range(text: &[u8]) -> Option<(u16, u16)> {
    let mut numbers = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).map(parse_port);
    let (min, max) = (numbers.next()??.max(1), numbers.next()??);
    (numbers.next().is_none() && min <= max).then_some((min, max))
}

fn parse_port(digits: &[u8]) -> Option<u16> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// What one read() of the file gives: /proc/sys answers a value whole or not at all.
fn read_once<'a>(path: &str, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let length = File::open(path)?.read(buffer)?;
    Ok(&buffer[..length])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(list: &[u8]) -> Option<PortSet> {
        let mut set = PortSet::EMPTY;
        set.insert_list(list).map(|()| set)
    }

    fn reserved(list: &[u8]) -> Option<Vec<u16>> {
        set(list).map(|set| (0..=u16::MAX).filter(|&port| set.contains(port)).collect())
    }

    #[test]
    fn the_range_is_what_the_kernel_prints() {
        assert_eq!(parse_range(b"32768\t60999\n"), Some((32768, 60999)));
        assert_eq!(parse_range(b"0\t65535\n"), Some((1, 65535)));
        assert_eq!(parse_range(b"7\t7\n"), Some((7, 7)));
        for wrong in [&b""[..], b"\n", b"0\t0", b"9 8", b"1", b"1 2 3", b"1 65536", b"a b", b"-1 5"] {
            assert_eq!(parse_range(wrong), None, "{:?}", wrong.escape_ascii().to_string());
        }
    }

    #[test]
    fn reserved_ports_are_single_ports_and_spans() {
        assert_eq!(reserved(b"\n"), Some(vec![]));
        assert_eq!(reserved(b"8080\n"), Some(vec![8080]));
        assert_eq!(reserved(b"1,3-5,65534-65535\n"), Some(vec![1, 3, 4, 5, 65534, 65535]));
        for wrong in [&b""[..], b"1", b"1,3-", b"x\n", b"1-\n", b"-1\n", b"1-2-3\n", b"65536\n", b"1;2\n"] {
            assert_eq!(reserved(wrong), None, "{:?}", wrong.escape_ascii().to_string());
        }
    }

    #[test]
    fn only_a_range_of_real_ports_can_be_named() {
        assert!(Ports::exactly(0, 10).is_none());
        assert!(Ports::exactly(10, 9).is_none());
        let whole = Ports::exactly(1, 65535).unwrap();
        assert_eq!((whole.span(), whole.usable(), whole.at_offset(65534)), (65535, 65535, 65535));
    }

    #[test]
    fn counting_within_a_span_is_the_same_as_looking_at_each_port() {
        let set = set(b"1-3,63-64,127,128,1000-1100,65472,65535\n").unwrap();
        for (min, max) in
            [(1, 65535), (1, 1), (63, 63), (64, 64), (2, 64), (63, 128), (1001, 1002), (65535, 65535), (900, 65534)]
        {
            let expected = (min..=max).filter(|&port| set.contains(port)).count() as u32;
            assert_eq!(set.count_within(min, max), expected, "{min}-{max}");
        }
    }

    #[test]
    fn usable_leaves_out_the_reserved() {
        Ports::exactly(10, 20).unwrap().leaving_out(b"5,12-14,20-30\n", |ports| {
            assert_eq!((ports.span(), ports.usable()), (11, 7));
            assert_eq!((10..=20).filter(|&port| ports.is_reserved(port)).collect::<Vec<_>>(), [12, 13, 14, 20]);
        });
    }

    #[test]
    fn a_reading_is_known_for_a_while_and_not_before_it_was_made() {
        let start = Instant::now();
        let later = start + REMEMBERED_FOR;
        let mut host = HostPorts::UNKNOWN;
        assert!(!host.known_at(start));
        host.read(start + Duration::from_millis(1)).expect("/proc/sys can be read");
        assert!(!host.known_at(start));
        assert!(host.known_at(later));
        assert!(!host.known_at(later + Duration::from_millis(1)));
    }

    #[test]
    fn whoever_does_not_get_the_lock_reads_for_himself() {
        let mut host = HostPorts::UNKNOWN;
        let expected = host.read(Instant::now()).map(|ports| (ports.min(), ports.max()));
        assert!(expected.is_some());
        let _held = REMEMBERED.write();
        let seen = with_host_ports(Instant::now(), |ports| ports.map(|ports| (ports.min(), ports.max())));
        assert_eq!(seen, expected);
    }
}
