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
/// Odd offsets first keeps listeners out of the way of outgoing connections, but a host may have all its odd ports taken
/// (bind() to port 0 takes them first) and every even one free. Trying all odd ones would cost 14,116 refusals there;
/// 32 cost 6 microseconds, and while one odd port in five is free only one call in a thousand ever sees an even one.
const PARITY_BLOCK: u32 = 32;

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
    stride: u32,
    at: u32,
    visited: u32,
}

impl<'a> PortOrder<'a> {
    /// The order for one call; `seed` should differ between callers, see [`seed_for_this_call`].
    pub(crate) fn new(ports: &'a Ports, seed: u64) -> Self {
        let odd_offsets = ports.span() / 2;
        let even_offsets = ports.span() - odd_offsets;
        let first_turn = usize::from(odd_offsets == 0);
        Self {
            ports,
            sides: [Side::new(1, odd_offsets, mix(seed)), Side::new(0, even_offsets, mix(seed.wrapping_add(1)))],
            turn: first_turn,
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
        let (start, stride) = match count {
            0 | 1 => (0, 0),
            _ => (below(random as u32, count), coprime_stride((random >> 32) as u32, count)),
        };
        Self { first_offset, count, stride, at: start, visited: 0 }
    }

    fn exhausted(&self) -> bool {
        self.visited == self.count
    }

    fn next_offset(&mut self) -> u32 {
        let offset = self.first_offset + 2 * self.at;
        self.visited += 1;
        self.at += self.stride;
        if self.at >= self.count {
            self.at -= self.count;
        }
        offset
    }
}

/// A stride in 1..count without a common factor with `count`, so that stepping by it visits all of 0..count.
fn coprime_stride(random: u32, count: u32) -> u32 {
    let drawn = 1 + below(random, count - 1);
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

/// A number that differs between calls, threads and forked children.
///
/// Time alone could be the same for two processes on two cores, the process id is the same for two threads, and the
/// stack address is the same in all children of one parent; together they are different. Nothing here is a secret, so a
/// generator for secrets (and the system call it costs in every fresh backend) is not needed.
pub(crate) fn seed_for_this_call() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let on_this_stack = 0u8;
    mix(since_epoch.as_nanos() as u64)
        ^ mix(u64::from(std::process::id()))
        ^ mix(std::ptr::from_ref(&on_this_stack).addr() as u64)
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): every input bit changes half of the output bits.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
