//! The order in which one caller tries the ports of a range.
//!
//! Callers that start at the same moment must not follow each other from port to port, so the first port and the stride
//! are drawn for each call. A stride that shares no factor with the number of ports visits each of them once, and takes
//! no memory.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::port_range::{Ports, Range};
use crate::sys;

/// A walk over the ports of a range, reserved ones left out: each port once.
#[derive(Clone)]
pub(crate) struct PortOrder<'a> {
    ports: &'a Ports,
    offset: u32,
    stride: u32,
    left: u32,
}

impl<'a> PortOrder<'a> {
    pub(crate) fn new(ports: &'a Ports, randoms: &mut Randoms) -> Self {
        let (random, span) = (randoms.next(), ports.range().span());
        let stride = coprime_stride((random >> 32) as u32, span);
        Self { ports, offset: below(random as u32, span), stride, left: span }
    }
}

impl Iterator for PortOrder<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        loop {
            self.left = self.left.checked_sub(1)?;
            let port = self.ports.range().at_offset(self.offset);
            self.offset = (self.offset + self.stride) % self.ports.range().span();
            if !self.ports.is_reserved(port) {
                return Some(port);
            }
        }
    }
}

/// A stride without a common factor with `count`, so that stepping by it visits all of 0..count.
fn coprime_stride(random: u32, count: u32) -> u32 {
    let drawn = 1 + below(random, count.saturating_sub(1));
    (drawn..count).chain(1..drawn).find(|&stride| greatest_common_divisor(stride, count) == 1).unwrap_or(1)
}

fn greatest_common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// `random` scaled to 0..bound, without a division.
fn below(random: u32, bound: u32) -> u32 {
    ((u64::from(random) * u64::from(bound)) >> 32) as u32
}

/// A part of the range that is `width` wide, or all of a smaller range, at a random place. It begins at an even offset,
/// so that the kernel's own search in it keeps to its parities.
pub(crate) fn window(range: Range, width: u32, random: u64) -> Range {
    let slots = (range.span().saturating_sub(width) / 2) + 1;
    let first = 2 * below(random as u32, slots);
    let last = (first + width - 1).min(range.span() - 1);
    Range::new(range.at_offset(first), range.at_offset(last)).unwrap_or(range)
}

/// One port at an odd offset of the range. There bind() to port 0 looks first, and connect() last
/// (`inet_csk_find_open_port`, `__inet_hash_connect`).
pub(crate) fn single(range: Range, random: u64) -> Range {
    let odd_offsets = range.span() / 2;
    let offset = if odd_offsets == 0 { 0 } else { 2 * below(random as u32, odd_offsets) + 1 };
    Range::single(range.at_offset(offset))
}

/// Random numbers for one call: what callers do at one moment must differ between them. Nothing here is a secret.
pub(crate) struct Randoms(u64);

impl Randoms {
    /// From the clock and the stack: they differ between calls, threads and processes as far as the clock does.
    pub(crate) fn for_this_call() -> Self {
        let on_this_stack = 0u8;
        Self(mix(sys::monotonic_time().as_nanos() as u64) ^ mix(std::ptr::from_ref(&on_this_stack).addr() as u64))
    }

    /// Makes them differ also where the clock ticks in milliseconds: or else children of one parent would follow each
    /// other from port to port. A call that wins its first port is spared this. getpid(2) is a system call, and the
    /// counter, in a forked child, a page to copy.
    pub(crate) fn differ_by_process(&mut self) {
        static CALLS: AtomicU32 = AtomicU32::new(0);
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        self.0 = mix(self.0 ^ mix(std::process::id().into())) ^ mix(call.into());
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0)
    }
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): every input bit changes half of the output bits.
pub(crate) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn ports(min: u16, max: u16) -> Ports {
        Ports::exactly(Range::new(min, max).unwrap())
    }

    #[test]
    fn every_port_is_visited_once() {
        for span in (1..200u16).chain([28_232, 55_536, 65_535]) {
            let ports = ports(1, span);
            let walk: Vec<u16> = PortOrder::new(&ports, &mut Randoms(span.into())).collect();
            assert_eq!(walk.len(), usize::from(span));
            assert_eq!(walk.iter().collect::<HashSet<_>>().len(), usize::from(span), "span {span}");
        }
    }

    #[test]
    fn windows_lie_in_the_range_begin_at_even_offsets_and_reach_both_ends() {
        for (min, max) in [(1000, 1000), (1000, 1001), (1000, 1031), (1000, 1032), (1000, 2001), (1, 65_535)] {
            let range = Range::new(min, max).unwrap();
            let randoms = || (0..=u32::MAX).step_by(1 << 14).map(u64::from);
            for width in [2, 32].map(|width| u32::min(width, range.span())) {
                let drawn: Vec<Range> = randoms().map(|random| window(range, width, random)).collect();
                for window in &drawn {
                    assert!(range.contains(window.min()) && range.contains(window.max()));
                    assert_eq!((window.span(), (window.min() - min) % 2), (width, 0));
                }
                assert!(drawn.iter().any(|window| window.min() == min));
                assert!(drawn.iter().any(|window| max - window.max() <= 1));
            }
            let singles: HashSet<u16> = randoms().map(|random| single(range, random).min()).collect();
            assert!(singles.iter().all(|port| range.contains(*port) && (min == max || (port - min) % 2 == 1)));
            assert!(singles.len() as u32 * 10 >= range.span() / 2 * 9);
        }
    }

    #[test]
    fn reserved_ports_are_left_out_and_may_leave_nothing() {
        let order = |list: &[u8]| {
            let ports = Ports::without(Range::new(10, 13).unwrap(), list);
            PortOrder::new(&ports, &mut Randoms(1)).collect::<Vec<_>>()
        };
        assert_eq!(order(b"8-20\n"), []);
        assert_eq!(order(b"10,12-13\n"), [11]);
    }
}
