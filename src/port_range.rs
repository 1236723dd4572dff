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

const RANGE_FILE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const RESERVED_FILE: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// The only state this library keeps, and the figure that pays for it: a remembered range makes the second and every
/// further call of a process three times faster (8 of 12 microseconds are the reading).
///
/// Nobody ever waits for this lock: whoever does not get it reads the files for himself. That also makes it safe in a
/// child forked while another thread held it.
static REMEMBERED: RwLock<Option<(Instant, Ports)>> = RwLock::new(None);

/// A range of ports and those of it that must not be used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    min: u16,
    max: u16,
    usable: u32,
    reserved: PortSet,
}

impl Ports {
    /// Exactly the ports from `min` to `max`, as a caller behind a firewall names them. None when the range is empty.
    ///
    /// The host's reserved ports are not left out: reserving them is how an administrator keeps them for such a caller.
    pub(crate) fn exactly(min: u16, max: u16) -> Option<Self> {
        (1 <= min && min <= max).then(|| Self::without(min, max, PortSet::EMPTY))
    }

    fn without(min: u16, max: u16, reserved: PortSet) -> Self {
        let usable = (min..=max).filter(|&port| !reserved.contains(port)).count() as u32;
        Self { min, max, usable, reserved }
    }

    /// What the kernel says now. An error means that nobody knows (no /proc, or one that may not be read).
    fn read_from_the_kernel() -> io::Result<Self> {
        let mut text = [0; 64];
        let (min, max) = parse_range(read_once(RANGE_FILE, &mut text)?).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self::without(min, max, PortSet::read_reserved()?))
    }

    #[cfg(test)]
    pub(crate) fn with_reserved(self, list: &[u8]) -> Self {
        Self::without(self.min, self.max, PortSet::parse(list).unwrap())
    }

    pub(crate) fn min(&self) -> u16 {
        self.min
    }

    pub(crate) fn max(&self) -> u16 {
        self.max
    }

    /// The number of ports from the lower to the upper end, reserved ones counted.
    pub(crate) fn span(&self) -> u32 {
        u32::from(self.max) - u32::from(self.min) + 1
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
        self.reserved.contains(port)
    }
}

/// Calls `act` with the host's ephemeral range as it was at most [`REMEMBERED_FOR`] before `now`, or with None where it
/// cannot be read.
pub(crate) fn with_host_ports<T>(now: Instant, act: impl FnOnce(Option<&Ports>) -> T) -> T {
    if let Ok(remembered) = REMEMBERED.try_read()
        && let Some((read_at, ports)) = remembered.as_ref()
        && let Some(age) = now.checked_duration_since(*read_at)
        && age < REMEMBERED_FOR
    {
        return act(Some(ports));
    }
    let Ok(ports) = Ports::read_from_the_kernel() else {
        return act(None);
    };
    if let Ok(mut remembered) = REMEMBERED.try_write() {
        *remembered = Some((now, ports));
    }
    act(Some(&ports))
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

    fn read_reserved() -> io::Result<Self> {
        let mut text = [0; 2048];
        let list = match read_once(RESERVED_FILE, &mut text) {
            // A kernel without the file reserves nothing; any other refusal leaves us in the dark.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::EMPTY),
            list => list?,
        };
        if list.ends_with(b"\n") {
            return Self::parse(list).ok_or(io::ErrorKind::InvalidData.into());
        }
        // The kernel cuts the list off at the end of the buffer and answers one read only (proc_do_large_bitmap, seen on
        // 6.18), so a long list is read again, whole. Every second port reserved makes 32,768 numbers of up to five
        // digits and a separator: 192 KiB.
        let mut text = Vec::new();
        text.try_reserve_exact(256 << 10)?;
        text.resize(256 << 10, 0);
        Self::parse(read_once(RESERVED_FILE, &mut text)?).ok_or(io::ErrorKind::InvalidData.into())
    }

    /// The kernel's notation: `8080,9000-9100`, and a newline. None when it is anything else.
    fn parse(list: &[u8]) -> Option<Self> {
        let mut set = Self::EMPTY;
        for item in list.trim_ascii().split(|&byte| byte == b',').filter(|item| !item.is_empty()) {
            let mut ends = item.splitn(2, |&byte| byte == b'-').map(parse_port);
            let first = ends.next()??;
            let last = ends.next().unwrap_or(Some(first))?;
            (first..=last).for_each(|port| set.insert(port));
        }
        Some(set)
    }
}

impl std::fmt::Debug for PortSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries((0..=u16::MAX).filter(|&port| self.contains(port))).finish()
    }
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

    fn reserved(list: &[u8]) -> Option<Vec<u16>> {
        PortSet::parse(list).map(|set| (0..=u16::MAX).filter(|&port| set.contains(port)).collect())
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
        for wrong in [&b"x\n"[..], b"1-\n", b"-1\n", b"1-2-3\n", b"65536\n", b"1;2\n"] {
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
    fn usable_leaves_out_the_reserved() {
        let ports = Ports::exactly(10, 20).unwrap().with_reserved(b"5,12-14,20-30");
        assert_eq!((ports.span(), ports.usable()), (11, 7));
    }
}
