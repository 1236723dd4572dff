//! The order in which one caller tries the ports of a range.
//!
//! Three things are asked of it. Callers that start at the same moment must not follow each other from port to port, so
//! both the first port and the stride are drawn per call. The kernel's parity habit is kept: bind() to port 0 prefers
//! the odd offsets of the range and connect() the even ones (`inet_csk_find_open_port`, `__inet_hash_connect`), and so
//! do we prefer the odd ones. And the order takes constant memory: a stride that shares no factor with the number of
//! ports visits each of them once.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::port_range::{Ports, Range};
use crate::sys;

/// How many ports of one parity are tried before the other parity has its turn.
///
/// Odd offsets first keeps listeners out of the way of outgoing connections. But a host may have all its odd ports
/// taken (bind() to port 0 takes them first, and leaves them in TIME_WAIT) and every even one free. Trying all odd ones
/// would cost 14,116 refusals there, and 32 made such a call six times as slow as a quiet one; 8 make it twice as slow,
/// and while every second odd port is free only one call in 250 ever looks at an even one.
const PARITY_BLOCK: u32 = 8;

/// An endless walk over the ports of a range, reserved ones left out: each port once, then all again in the same order.
pub(crate) struct PortOrder<'a> {
    ports: &'a Ports,
    sides: [Side; 2],
    turn: usize,
    left_in_block: u32,
}

/// The offsets of one parity, walked with a stride that is coprime to their number.
struct Side {
    first_offset: u32,
    count: u32,
    visited: u32,
    random: u64,
    at: Option<u32>,
    /// Drawn for the second port: the first one is the last in nearly every call, and divisions are what costs here.
    stride: Option<u32>,
}

impl<'a> PortOrder<'a> {
    /// The order for one call; `seed` should differ between callers, see [`Randoms`].
    pub(crate) fn new(ports: &'a Ports, seed: u64) -> Self {
        let odd_offsets = ports.range().span() / 2;
        let even_offsets = ports.range().span() - odd_offsets;
        Self {
            ports,
            sides: [Side::new(1, odd_offsets, mix(seed)), Side::new(0, even_offsets, mix(seed.wrapping_add(1)))],
            turn: 0,
            left_in_block: PARITY_BLOCK,
        }
    }

    /// The order for a call that draws nothing else.
    pub(crate) fn for_this_call(ports: &'a Ports) -> Self {
        let mut randoms = Randoms::for_this_call();
        randoms.tell_apart();
        Self::new(ports, randoms.next())
    }

    fn next_offset(&mut self) -> u32 {
        if self.sides.iter().all(Side::exhausted) {
            self.sides.iter_mut().for_each(|side| side.visited = 0);
            self.turn = 0;
            self.left_in_block = PARITY_BLOCK;
        }
        let other = 1 - self.turn;
        if self.sides[self.turn].exhausted() || (self.left_in_block == 0 && !self.sides[other].exhausted()) {
            self.turn = other;
            self.left_in_block = PARITY_BLOCK;
        }
        self.left_in_block = self.left_in_block.saturating_sub(1);
        self.sides[self.turn].next_offset()
    }
}

impl Iterator for PortOrder<'_> {
    type Item = u16;

    /// Ends only where every port is reserved.
    fn next(&mut self) -> Option<u16> {
        if self.ports.usable() == 0 {
            return None;
        }
        loop {
            let port = self.ports.range().at_offset(self.next_offset());
            if !self.ports.is_reserved(port) {
                return Some(port);
            }
        }
    }
}

impl Side {
    fn new(first_offset: u32, count: u32, random: u64) -> Self {
        Self { first_offset, count, visited: 0, random, at: None, stride: None }
    }

    fn exhausted(&self) -> bool {
        self.visited == self.count
    }

    fn next_offset(&mut self) -> u32 {
        let (random, count) = (self.random, self.count);
        let at = match self.at {
            None => below(random as u32, count),
            Some(at) => {
                let next = at + *self.stride.get_or_insert_with(|| coprime_stride((random >> 32) as u32, count));
                if next < count { next } else { next - count }
            }
        };
        self.at = Some(at);
        self.visited += 1;
        self.first_offset + 2 * at
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

/// Random numbers for one call: what callers do at one moment must differ between them. Nothing here is a secret.
pub(crate) struct Randoms(u64);

impl Randoms {
    /// From the clock and the stack: they differ between calls, threads and processes as far as the clock does.
    pub(crate) fn for_this_call() -> Self {
        Self::at(sys::clock_nanoseconds())
    }

    fn at(nanoseconds: u64) -> Self {
        let on_this_stack = 0u8;
        Self(mix(nanoseconds) ^ mix(std::ptr::from_ref(&on_this_stack).addr() as u64))
    }

    /// Makes them differ also where the clock ticks in milliseconds: or else children of one parent would follow each
    /// other from port to port. A call that wins its first port is spared this. getpid(2) is a system call, and the
    /// counter, in a forked child, a page to copy.
    pub(crate) fn tell_apart(&mut self) {
        static CALLS: AtomicU32 = AtomicU32::new(0);
        self.add(std::process::id(), CALLS.fetch_add(1, Ordering::Relaxed));
    }

    fn add(&mut self, process: u32, call: u32) {
        self.0 = mix(self.0 ^ mix(process.into())) ^ mix(call.into());
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0)
    }
}

/// A part of the range that is `width` wide, or all of a smaller range, at a place drawn by `random`. It begins at an
/// even offset, so that the kernel's own search in it keeps to its parities.
pub(crate) fn window(range: Range, width: u32, random: u64) -> Range {
    let slots = (range.span().saturating_sub(width) / 2) + 1;
    let first = 2 * below(random as u32, slots);
    let last = (first + width - 1).min(range.span() - 1);
    Range::new(range.at_offset(first), range.at_offset(last)).unwrap_or(range)
}

/// One port at an odd offset of the range, where bind() to port 0 looks first, drawn by `random`.
pub(crate) fn single(range: Range, random: u64) -> Range {
    let odd_offsets = range.span() / 2;
    let offset = if odd_offsets == 0 { 0 } else { 2 * below(random as u32, odd_offsets) + 1 };
    Range::new(range.at_offset(offset), range.at_offset(offset)).unwrap_or(range)
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): every input bit changes half of the output bits.
fn mix(value: u64) -> u64 {
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
    fn every_round_visits_every_port_once_in_the_same_order() {
        for span in (1..200u64).chain([28_232, 55_536, 65_535]) {
            let (ports, seed) = (ports(1, span as u16), span);
            let mut walk = PortOrder::new(&ports, seed);
            let first: Vec<u16> = walk.by_ref().take(span as usize).collect();
            let second: Vec<u16> = walk.take(span as usize).collect();
            assert_eq!(first.iter().collect::<HashSet<_>>().len(), span as usize, "span {span}");
            assert_eq!(first, second, "span {span}");
        }
    }

    #[test]
    fn odd_offsets_come_first_and_even_ones_before_all_odd_ones_are_gone() {
        for min in [32_768, 32_769] {
            let ports = ports(min, 60_999);
            let odd: Vec<bool> = PortOrder::new(&ports, 7).take(24).map(|port| (port - min) % 2 == 1).collect();
            assert_eq!(odd, [[true; 8], [false; 8], [true; 8]].concat());
        }
    }

    #[test]
    fn callers_with_different_seeds_go_different_ways() {
        let ports = ports(32_768, 60_999);
        let ways: HashSet<Vec<u16>> = (0..1000).map(|seed| PortOrder::new(&ports, seed).take(3).collect()).collect();
        assert_eq!(ways.len(), 1000);
        let first: HashSet<u16> = ways.iter().map(|way| way[0]).collect();
        assert!(first.len() > 900, "{} different first ports of 1000", first.len());
    }

    #[test]
    fn calls_are_told_apart_although_the_clock_stands_still() {
        let drawn = |_| {
            let mut randoms = Randoms::at(7);
            randoms.tell_apart();
            randoms.next()
        };
        assert_eq!((0..100).map(drawn).collect::<HashSet<u64>>().len(), 100);
    }

    #[test]
    fn processes_are_told_apart_although_all_else_is_the_same() {
        let drawn = |process| {
            let mut randoms = Randoms(7);
            randoms.add(process, 0);
            randoms.next()
        };
        assert_eq!((0..100).map(drawn).collect::<HashSet<u64>>().len(), 100);
    }

    #[test]
    fn windows_lie_in_the_range_begin_at_even_offsets_and_reach_both_ends() {
        for (min, max) in [(1000, 1000), (1000, 1001), (1000, 1031), (1000, 1032), (1000, 2001), (1, 65_535)] {
            let range = Range::new(min, max).unwrap();
            for width in [2, 32] {
                let width = u32::min(width, range.span());
                let drawn: Vec<Range> =
                    (0..=u32::MAX).step_by(1 << 16).map(|r| window(range, width, r.into())).collect();
                for window in &drawn {
                    assert_eq!(window.span(), width);
                    assert!(range.contains(window.min()) && range.contains(window.max()));
                    assert_eq!((window.min() - min) % 2, 0);
                }
                assert!(drawn.iter().any(|window| window.min() == min));
                assert!(drawn.iter().any(|window| u32::from(max - window.max()) <= 1));
            }
            let singles: HashSet<u16> =
                (0..=u32::MAX).step_by(1 << 12).map(|r| single(range, r.into()).min()).collect();
            assert!(singles.iter().all(|port| range.contains(*port) && (min == max || (port - min) % 2 == 1)));
            assert!(singles.len() as u32 * 10 >= range.span() / 2 * 9);
        }
    }

    #[test]
    fn reserved_ports_are_left_out_and_may_leave_nothing() {
        let order = |list: &[u8]| {
            let ports = Ports::without(Range::new(10, 13).unwrap(), list);
            PortOrder::new(&ports, 1).take(3).collect::<Vec<_>>()
        };
        assert_eq!(order(b"8-20\n"), []);
        assert_eq!(order(b"10,12-13\n"), [11, 11, 11]);
    }
}
