//! The order in which one caller tries the ports of a range.
//!
//! Three things are asked of it. Callers that start at the same moment must not follow each other from port to port, so
//! both the first port and the stride are drawn per call. The kernel's parity habit is kept: bind() to port 0 prefers the
//! odd offsets of the range and connect() the even ones (`inet_csk_find_open_port`, `__inet_hash_connect`), and so do we
//! prefer the odd ones. And the order takes constant memory: a stride that shares no factor with the number of ports
//! visits each of them once.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::port_range::Ports;

/// How many ports of one parity are tried before the other parity has its turn.
///
/// Odd offsets first keeps listeners out of the way of outgoing connections. But a host may have all its odd ports taken
/// (bind() to port 0 takes them first, and leaves them in TIME_WAIT) and every even one free. Trying all odd ones would
/// cost 14,116 refusals there, and 32 made such a call six times as slow as a quiet one; 8 make it twice as slow, and while
/// every second odd port is free only one call in 250 ever looks at an even one.
const PARITY_BLOCK: u32 = 8;

/// An endless walk over the ports of a range, reserved ones left out: each port once, then all again in the same order.
pub(crate) struct PortOrder<'a> {
    ports: &'a Ports<'a>,
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
    /// The order for one call; `seed` should differ between callers, see [`seed_for_this_call`].
    pub(crate) fn new(ports: &'a Ports<'a>, seed: u64) -> Self {
        let odd_offsets = ports.span() / 2;
        let even_offsets = ports.span() - odd_offsets;
        Self {
            ports,
            sides: [Side::new(1, odd_offsets, mix(seed)), Side::new(0, even_offsets, mix(seed.wrapping_add(1)))],
            turn: 0,
            left_in_block: PARITY_BLOCK,
        }
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
            let port = self.ports.at_offset(self.next_offset());
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

/// A number that differs between calls, threads and processes: the clock in nanoseconds and the address of the stack.
///
/// Nothing here is a secret. Should two children of one parent ever read the same nanosecond, they go the same way and
/// refuse each other a few ports. Asking the kernel for something better would cost every call: getpid(2) 0.12
/// microseconds of 5, getrandom(2) more.
pub(crate) fn seed_for_this_call() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let on_this_stack = 0u8;
    mix(since_epoch.as_nanos() as u64) ^ mix(std::ptr::from_ref(&on_this_stack).addr() as u64)
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

    #[test]
    fn every_round_visits_every_port_once_in_the_same_order() {
        for span in (1..200u64).chain([28_232, 55_536, 65_535]) {
            let (ports, seed) = (Ports::exactly(1, span as u16).unwrap(), span);
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
            let (ports, seed) = (Ports::exactly(min, 60_999).unwrap(), 7);
            let odd: Vec<bool> = PortOrder::new(&ports, seed).take(24).map(|port| (port - min) % 2 == 1).collect();
            assert_eq!(odd, [[true; 8], [false; 8], [true; 8]].concat());
        }
    }

    #[test]
    fn callers_with_different_seeds_go_different_ways() {
        let ports = Ports::exactly(32_768, 60_999).unwrap();
        let ways: HashSet<Vec<u16>> = (0..1000).map(|seed| PortOrder::new(&ports, seed).take(3).collect()).collect();
        assert_eq!(ways.len(), 1000);
        let first: HashSet<u16> = ways.iter().map(|way| way[0]).collect();
        assert!(first.len() > 900, "{} different first ports of 1000", first.len());
    }

    #[test]
    fn calls_have_different_seeds() {
        let seeds: HashSet<u64> = (0..100).map(|_| seed_for_this_call()).collect();
        assert_eq!(seeds.len(), 100);
    }

    #[test]
    fn reserved_ports_are_left_out_and_may_leave_nothing() {
        let order = |list: &[u8]| {
            Ports::exactly(10, 13)
                .unwrap()
                .leaving_out(list, |ports| PortOrder::new(ports, 1).take(3).collect::<Vec<_>>())
        };
        assert_eq!(order(b"8-20\n"), []);
        assert_eq!(order(b"10,12-13\n"), [11, 11, 11]);
    }
}
