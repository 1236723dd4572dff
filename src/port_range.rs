//! Which ports may be used: the host's ephemeral port range without its reserved ports, or the range the caller named.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::sys::Pages;

/// More than the longest list of reserved ports takes, in bytes: two ports of every three, 249 KiB.
const LONGEST_LIST: usize = 256 << 10;

const RANGE_FILE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const RESERVED_FILE: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// A range of port numbers, both ends included; never empty, and never port 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    min: u16,
    max: u16,
}

impl Range {
    /// None when the range is empty or begins with port 0, which cannot be listened on.
    pub(crate) fn new(min: u16, max: u16) -> Option<Self> {
        (1 <= min && min <= max).then_some(Self { min, max })
    }

    pub(crate) fn single(port: u16) -> Self {
        Self { min: port, max: port }
    }

    pub(crate) fn min(self) -> u16 {
        self.min
    }

    pub(crate) fn max(self) -> u16 {
        self.max
    }

    /// The number of ports from the lower to the upper end, reserved ones counted.
    pub(crate) fn span(self) -> u32 {
        u32::from(self.max) - u32::from(self.min) + 1
    }

    pub(crate) fn contains(self, port: u16) -> bool {
        (self.min..=self.max).contains(&port)
    }

    /// Both ends in one word, as IP_LOCAL_PORT_RANGE has them: ip(7).
    pub(crate) fn ends(self) -> u32 {
        (u32::from(self.max) << 16) | u32::from(self.min)
    }

    /// The port so many places above the lower end; `offset` is below [`Range::span`].
    pub(crate) fn at_offset(self, offset: u32) -> u16 {
        (u32::from(self.min) + offset) as u16
    }
}

/// What a socket of this host most probably may use, without a look at /proc: the range that was read last in this
/// process, or else Linux's default. None when that is known to be wrong.
///
/// It is never trusted. The kernel checks every port that is asked for through it, so that it may be as old as it
/// likes, or another network namespace's.
pub(crate) fn cached_host_range() -> Option<Range> {
    match CACHED.load(Ordering::Relaxed) {
        NOT_READ => Some(LINUX_DEFAULT),
        ends => Range::new(ends as u16, (ends >> 16) as u16),
    }
}

/// The range as it was read last in this process, or as it is now.
pub(crate) fn known_host_range() -> Result<Range, Unreadable> {
    match CACHED.load(Ordering::Relaxed) {
        NOT_READ | WRONG => read_host_range(),
        ends => Range::new(ends as u16, (ends >> 16) as u16).ok_or(Unreadable::HIDDEN_RANGE),
    }
}

/// The kernel picked a port outside its window: the next call has to read the range.
pub(crate) fn forget_host_range() {
    CACHED.store(WRONG, Ordering::Relaxed);
}

const LINUX_DEFAULT: Range = Range { min: 32_768, max: 60_999 };

/// It pays on a host with another range than Linux's default: see docs/why.md.
static CACHED: AtomicU32 = AtomicU32::new(NOT_READ);

const NOT_READ: u32 = 0;

/// No range has this form.
const WRONG: u32 = 1 << 16;

/// The host's ephemeral port range as it is now.
pub(crate) fn read_host_range() -> Result<Range, Unreadable> {
    let mut text = [0; 64];
    let range = read_once(RANGE_FILE, &mut text).and_then(|text| parse_range(text).ok_or(Unreadable::HIDDEN_RANGE))?;
    CACHED.store(range.ends(), Ordering::Relaxed);
    Ok(range)
}

/// A file of /proc/sys without which ports cannot be named.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unreadable {
    pub(crate) file: &'static str,
    /// Why it cannot be read. 0: it does not say what the kernel would, as when a container runtime hides it.
    pub(crate) errno: i32,
}

impl Unreadable {
    const HIDDEN_RANGE: Self = Self { file: RANGE_FILE, errno: 0 };
    const HIDDEN_LIST: Self = Self { file: RESERVED_FILE, errno: 0 };

    fn by(file: &'static str) -> impl Fn(io::Error) -> Self {
        move |error| Self { file, errno: error.raw_os_error().unwrap_or(0) }
    }

    /// Whether a descriptor or memory is what was missing.
    pub(crate) fn is_momentary(&self) -> bool {
        matches!(self.errno, libc::EMFILE | libc::ENFILE | libc::ENOMEM)
    }

    /// The range as it was read last in this process, where a descriptor is what was missing.
    pub(crate) fn or_remembered(self) -> Result<Range, Self> {
        if self.is_momentary() { known_host_range() } else { Err(self) }
    }
}

/// Ports that may be asked for by name.
pub(crate) struct Ports {
    range: Range,
    reserved: Option<PortSet>,
}

impl Ports {
    /// Exactly these ports, as a caller behind a firewall names them.
    ///
    /// The host's reserved ports are not left out: reserving them is how an administrator keeps them for such a caller.
    pub(crate) fn exactly(range: Range) -> Self {
        Self { range, reserved: None }
    }

    /// The ports of the host's range that are not reserved, as they are now.
    pub(crate) fn of_host() -> Result<Self, Unreadable> {
        read_host_range().and_then(Self::not_reserved)
    }

    /// The ports of such a range that are not reserved. bind() by name would take those as well.
    pub(crate) fn not_reserved(range: Range) -> Result<Self, Unreadable> {
        Ok(Self { range, reserved: read_reserved(range)? })
    }

    /// These ports without those of a list in the kernel's notation.
    #[cfg(test)]
    pub(crate) fn without(range: Range, list: &[u8]) -> Self {
        Self { range, reserved: Some(PortSet::listed(list, range).unwrap()) }
    }

    pub(crate) fn range(&self) -> Range {
        self.range
    }

    /// The number of ports that may be used.
    pub(crate) fn usable(&self) -> u32 {
        self.range.span() - self.reserved()
    }

    /// The number of ports in between that the host reserves.
    pub(crate) fn reserved(&self) -> u32 {
        self.reserved.as_ref().map_or(0, |reserved| reserved.count)
    }

    /// Whether it is one of these ports.
    pub(crate) fn may_be_named(&self, port: u16) -> bool {
        self.range.contains(port) && !self.is_reserved(port)
    }

    pub(crate) fn is_reserved(&self, port: u16) -> bool {
        self.reserved.as_ref().is_some_and(|reserved| reserved.contains(port))
    }
}

/// Whether the host reserved no ports when the list was read last in this process. A process without a descriptor to
/// read it with goes by that.
static NOTHING_RESERVED: AtomicBool = AtomicBool::new(false);

/// The ports of the range that the host reserves. None when it reserves none anywhere.
fn read_reserved(range: Range) -> Result<Option<PortSet>, Unreadable> {
    match read_list(range) {
        Err(unreadable) if unreadable.is_momentary() && NOTHING_RESERVED.load(Ordering::Relaxed) => Ok(None),
        list => {
            NOTHING_RESERVED.store(matches!(list, Ok(None)), Ordering::Relaxed);
            list
        }
    }
}

fn read_list(range: Range) -> Result<Option<PortSet>, Unreadable> {
    let mut text = [0; 512];
    let list = match read_once(RESERVED_FILE, &mut text) {
        Ok(list) => list,
        // Before Linux 4.3 or so the list exists in the host's first network namespace only. Nobody can obey it
        // elsewhere, and a runtime that hides the file leaves it there.
        Err(Unreadable { errno: libc::ENOENT, .. }) => return Ok(None),
        Err(unreadable) => return Err(unreadable),
    };
    if list == b"\n" {
        return Ok(None);
    }
    if list.ends_with(b"\n") || list.is_empty() {
        return PortSet::listed(list, range).map(Some);
    }
    // The kernel cuts the list off at the end of the buffer and answers one read only (proc_do_large_bitmap, seen on
    // 6.18), so a long list is read again, whole.
    let mut text = Pages::new(LONGEST_LIST).map_err(Unreadable::by(RESERVED_FILE))?;
    PortSet::listed(read_once(RESERVED_FILE, text.bytes())?, range).map(Some)
}

/// A set of ports: one bit for each, 8 KiB whatever is in it. It is neither on the stack, which may be a signal
/// handler's, nor on the heap, where a signal handler must not go.
pub(crate) struct PortSet {
    bits: Pages,
    pub(crate) count: u32,
}

impl PortSet {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { bits: Pages::new(usize::from(u16::MAX) / 8 + 1)?, count: 0 })
    }

    /// What the kernel's notation lists of the range: `8080,9000-9100`, and a newline. Anything else is hidden: cut off
    /// at the end of the buffer, or empty, as container runtimes leave such a file.
    fn listed(list: &[u8], range: Range) -> Result<Self, Unreadable> {
        let mut set = Self::new().map_err(Unreadable::by(RESERVED_FILE))?;
        set.insert_list(list, range).map(|()| set).ok_or(Unreadable::HIDDEN_LIST)
    }

    pub(crate) fn contains(&self, port: u16) -> bool {
        (self.bits.as_bytes()[usize::from(port) / 8] >> (port % 8)) & 1 == 1
    }

    pub(crate) fn insert(&mut self, port: u16) {
        if !self.contains(port) {
            self.bits.bytes()[usize::from(port) / 8] |= 1 << (port % 8);
            self.count += 1;
        }
    }

    fn insert_list(&mut self, list: &[u8], range: Range) -> Option<()> {
        for item in list.strip_suffix(b"\n")?.split(|&byte| byte == b',').filter(|item| !item.is_empty()) {
            let mut ends = item.splitn(2, |&byte| byte == b'-').map(parse_port);
            let first = ends.next()??;
            let last = ends.next().unwrap_or(Some(first))?;
            (first.max(range.min)..=last.min(range.max)).for_each(|port| self.insert(port));
        }
        Some(())
    }
}

/// The kernel's notation: two numbers between white space. A range from 0 starts at 1.
fn parse_range(text: &[u8]) -> Option<Range> {
    let mut numbers = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).map(parse_port);
    let (min, max) = (numbers.next()??.max(1), numbers.next()??);
    numbers.next().is_none().then(|| Range::new(min, max))?
}

fn parse_port(digits: &[u8]) -> Option<u16> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Whether TCP timestamps are on (net.ipv4.tcp_timestamps), which let a connection take over its own TIME_WAIT.
pub(crate) fn timestamps_are_on() -> bool {
    let mut text = [0; 16];
    !matches!(read_once("/proc/sys/net/ipv4/tcp_timestamps", &mut text), Ok(b"0\n") | Err(_))
}

/// What one read() of the file gives: /proc/sys answers a value whole or not at all.
fn read_once<'a>(file: &'static str, buffer: &'a mut [u8]) -> Result<&'a [u8], Unreadable> {
    let mut open = File::open(file).map_err(Unreadable::by(file))?;
    loop {
        match open.read(buffer) {
            Ok(length) => return Ok(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Unreadable::by(file)(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(min: u16, max: u16) -> Range {
        Range::new(min, max).unwrap()
    }

    fn reserved(list: &[u8]) -> Option<Vec<u16>> {
        let set = PortSet::listed(list, range(1, u16::MAX)).ok()?;
        Some((0..=u16::MAX).filter(|&port| set.contains(port)).collect())
    }

    #[test]
    fn the_range_is_what_the_kernel_prints() {
        assert_eq!(parse_range(b"32768\t60999\n"), Some(range(32768, 60999)));
        assert_eq!(parse_range(b"0\t65535\n"), Some(range(1, 65535)));
        assert_eq!(parse_range(b"7\t7\n"), Some(range(7, 7)));
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
        assert_eq!(Range::new(0, 10), None);
        assert_eq!(Range::new(10, 9), None);
        let whole = range(1, 65535);
        assert_eq!((whole.span(), Ports::exactly(whole).usable(), whole.at_offset(65534)), (65535, 65535, 65535));
        assert_eq!(Ports::without(range(10, 20), b"5,12-14,13,20-30\n").usable(), 7);
    }
}
