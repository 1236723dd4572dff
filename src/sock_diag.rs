//! The sockets of this network namespace as sock_diag(7) lists them, over a netlink socket.
//!
//! The messages are written and read by hand, byte by byte: two structs of linux/inet_diag.h. The kernel picks the
//! ports (`INET_DIAG_REQ_BYTECODE`), so that a host's other sockets cost a look in its tables and nothing here.
//!
//! Sockets that are bound and neither listen nor connect are listed by Linux 6.8 and later only. Older kernels ignore
//! that bit of the request.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use socket2::{Domain, Protocol, Socket, Type};

use crate::census::{Seen, Tally, Transport};

/// Adds every socket of the transport whose local port is in the range to the tally, IPv4 and IPv6.
///
/// # Errors
///
/// Whatever the kernel says: a security policy may refuse netlink, and a container may have no `tcp_diag` module.
pub(crate) fn list(
    transport: Transport,
    ports: &RangeInclusive<u16>,
    buffer: &mut [u8],
    tally: &mut Tally,
) -> io::Result<()> {
    let netlink = Domain::from(libc::AF_NETLINK);
    let sock_diag = Protocol::from(libc::NETLINK_SOCK_DIAG);
    // The kernel answers within send() and recv(), so that a socket that never waits misses nothing.
    let mut socket = Socket::new(netlink, Type::RAW.nonblocking(), Some(sock_diag))?;
    socket.send(&request(libc::AF_INET, transport, ports))?;
    read_answer(&mut socket, buffer, tally)?;
    if tally.out_of_time() {
        return Ok(());
    }
    socket.send(&request(libc::AF_INET6, transport, ports))?;
    read_answer(&mut socket, buffer, tally)
}

/// Reads the answer to one request, message after message, to its end.
fn read_answer(socket: &mut Socket, buffer: &mut [u8], tally: &mut Tally) -> io::Result<()> {
    loop {
        let length = socket.read(buffer)?;
        let mut rest = &buffer[..length];
        if rest.is_empty() {
            return Err(malformed());
        }
        while !rest.is_empty() {
            let (kind, body);
            (kind, body, rest) = split_message(rest).ok_or_else(malformed)?;
            match kind {
                NLMSG_DONE | NLMSG_ERROR => {
                    // Both begin with 0 or a negative errno.
                    let errno = body.get(..4).map_or(0, |_| u32_at(body, 0) as i32);
                    return if errno < 0 { Err(io::Error::from_raw_os_error(-errno)) } else { Ok(()) };
                }
                SOCK_DIAG_BY_FAMILY => tally.add(&seen(body).ok_or_else(malformed)?),
                _ => {}
            }
        }
        if tally.out_of_time() {
            return Ok(());
        }
    }
}

// linux/netlink.h and linux/sock_diag.h
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;

// linux/inet_diag.h
const INET_DIAG_REQ_BYTECODE: u16 = 1;
const INET_DIAG_BC_S_GE: u8 = 2;
const INET_DIAG_BC_S_LE: u8 = 3;
const INET_DIAG_SKV6ONLY: u16 = 11;
const INET_DIAG_REQ_V2: usize = 56;
const INET_DIAG_MSG: usize = 72;

/// A bit for each state of net/tcp_states.h: TCP_ESTABLISHED (1) to TCP_BOUND_INACTIVE (13, Linux 6.8).
const ALL_STATES: u32 = (1 << 14) - 2;

const REQUEST: usize = NLMSG_HEADER + INET_DIAG_REQ_V2 + ATTRIBUTE_HEADER + 16;

/// Asks for all sockets of a family whose local port is in the range: `nlmsghdr`, `inet_diag_req_v2`, and a program for
/// the kernel's filter.
fn request(family: i32, transport: Transport, ports: &RangeInclusive<u16>) -> [u8; REQUEST] {
    let mut request = [0; REQUEST];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        request[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(&(REQUEST as u32).to_ne_bytes());
    put(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    put(&[0; 8]); // nlmsg_seq and nlmsg_pid: one request at a time, and nobody else's answers.

    let protocol = match transport {
        Transport::Tcp => libc::IPPROTO_TCP,
        Transport::Udp => libc::IPPROTO_UDP,
    };
    put(&[family as u8, protocol as u8, 0, 0]);
    put(&ALL_STATES.to_ne_bytes());
    put(&[0; 48]); // Any addresses, ports and interface.

    // Each condition is an op and the port it compares with; an op says how far to go when it holds, and when not. To
    // go beyond the end by one op means to leave the socket out.
    const CONDITION: u8 = 8;
    put(&((ATTRIBUTE_HEADER + 2 * usize::from(CONDITION)) as u16).to_ne_bytes());
    put(&INET_DIAG_REQ_BYTECODE.to_ne_bytes());
    for (op, port, left) in [(INET_DIAG_BC_S_GE, ports.start(), 2), (INET_DIAG_BC_S_LE, ports.end(), 1)] {
        put(&[op, CONDITION]);
        put(&u16::from(left * CONDITION + 4).to_ne_bytes());
        put(&[0; 2]);
        put(&port.to_ne_bytes());
    }
    request
}

/// The type and the body of the first message, and what follows it.
fn split_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    if bytes.len() < NLMSG_HEADER {
        return None;
    }
    let length = u32_at(bytes, 0) as usize;
    let body = bytes.get(NLMSG_HEADER..length)?;
    let rest = bytes.get(length.checked_next_multiple_of(4)?..).unwrap_or_default();
    Some((u16_at(bytes, 4), body, rest))
}

/// What an `inet_diag_msg` and its attributes say.
fn seen(body: &[u8]) -> Option<Seen> {
    let (message, attributes) = body.split_at_checked(INET_DIAG_MSG)?;
    let address: [u8; 16] = message[8..24].try_into().ok()?;
    let address = match i32::from(message[0]) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::new(address[0], address[1], address[2], address[3])),
        _ => IpAddr::V6(Ipv6Addr::from(address)),
    };
    Some(Seen {
        port: u16::from_be_bytes([message[4], message[5]]),
        address,
        interface: u32_at(message, 40),
        only_v6: attribute(attributes, INET_DIAG_SKV6ONLY).is_some_and(|value| value.first() == Some(&1)),
        state: message[1],
        milliseconds_left: u32_at(message, 52),
    })
}

fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16_at(attributes.get(..ATTRIBUTE_HEADER)?, 0));
        let value = attributes.get(ATTRIBUTE_HEADER..length)?;
        if u16_at(attributes, 2) == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn malformed() -> io::Error {
    io::Error::from_raw_os_error(libc::EBADMSG)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A socket as Linux 6.18 lists it: `inet_diag_msg`, then an attribute of one byte and INET_DIAG_SKV6ONLY.
    fn message() -> Vec<u8> {
        let mut body = vec![0; INET_DIAG_MSG];
        body[0] = libc::AF_INET6 as u8;
        body[1] = 10;
        body[4..6].copy_from_slice(&40_000u16.to_be_bytes());
        body[8..24].copy_from_slice(&Ipv6Addr::LOCALHOST.octets());
        body[40..44].copy_from_slice(&7u32.to_ne_bytes());
        body[52..56].copy_from_slice(&1_234u32.to_ne_bytes());
        for (kind, value) in [(8u16, 3u8), (INET_DIAG_SKV6ONLY, 1)] {
            body.extend(5u16.to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend([value, 0, 0, 0]);
        }
        body
    }

    #[test]
    fn a_message_says_all_that_is_needed() {
        let seen = seen(&message()).unwrap();
        assert_eq!((seen.port, seen.address), (40_000, IpAddr::V6(Ipv6Addr::LOCALHOST)));
        assert_eq!((seen.state, seen.interface, seen.milliseconds_left, seen.only_v6), (10, 7, 1_234, true));
    }

    #[test]
    fn an_ipv4_address_is_the_first_four_bytes() {
        let mut body = message();
        body.truncate(INET_DIAG_MSG);
        body[0] = libc::AF_INET as u8;
        body[8..12].copy_from_slice(&[192, 0, 2, 1]);
        let seen = seen(&body).unwrap();
        assert_eq!((seen.address, seen.only_v6), ("192.0.2.1".parse().unwrap(), false));
    }

    #[test]
    fn messages_follow_each_other_at_multiples_of_four() {
        let mut bytes = Vec::new();
        for body in [&b"abcde"[..], b"", b"12345678"] {
            bytes.extend(((NLMSG_HEADER + body.len()) as u32).to_ne_bytes());
            bytes.extend(7u16.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(body);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let (kind, first, rest) = split_message(&bytes).unwrap();
        let (_, second, rest) = split_message(rest).unwrap();
        let (_, third, rest) = split_message(rest).unwrap();
        assert_eq!((kind, first, second, third, rest), (7, &b"abcde"[..], &b""[..], &b"12345678"[..], &b""[..]));
        assert!(split_message(&bytes[..20]).is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = seen(&bytes);
            let mut rest = &bytes[..];
            while let Some((_, _, following)) = split_message(rest) {
                prop_assert!(following.len() < rest.len());
                rest = following;
            }
        }

        #[test]
        fn no_attributes_make_the_reader_panic(lengths in proptest::collection::vec(0u16..24, 0..20)) {
            let bytes: Vec<u8> = lengths.iter().flat_map(|length| length.to_ne_bytes()).collect();
            let _ = attribute(&bytes, INET_DIAG_SKV6ONLY);
        }
    }
}
