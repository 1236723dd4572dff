//! The sockets of this network namespace as sock_diag(7) shows them, over a netlink socket.
//!
//! The messages are written and read by hand, byte by byte: two structs of linux/inet_diag.h. The kernel picks the
//! sockets (`INET_DIAG_REQ_BYTECODE`), so that a host's other sockets cost a look in its tables and nothing here. It
//! asks for no privilege.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

use super::{Entry, Filter, Transport};

/// Shows every socket that passes the filter to `each`, IPv4 and IPv6, until that has enough.
///
/// Sockets that are bound and neither listen nor connect are shown by Linux 6.8 and later only. Older kernels ignore
/// that bit of the request.
///
/// A connection may go on to FIN_WAIT2 or TIME_WAIT after the kernel has picked it, and before it writes it down. Then
/// it is shown with port 0, and what took its place is not shown (`inet_diag_dump_icsk`, Linux 6.18).
///
/// # Errors
///
/// Whatever the kernel says: a security policy may refuse netlink, and a container may have no `tcp_diag` module.
pub(crate) fn list(
    transport: Transport,
    filter: &Filter,
    buffer: &mut [u8],
    each: &mut dyn FnMut(&Entry) -> bool,
) -> io::Result<()> {
    let socket = open()?;
    for family in [libc::AF_INET, libc::AF_INET6] {
        let states = match filter {
            Filter::LocalPorts(_) => ALL_STATES,
            Filter::Towards { of_ipv4, .. } if *of_ipv4 == (family == libc::AF_INET) => CONNECTED_STATES,
            Filter::Towards { .. } => continue,
        };
        let mut request = Request::new(family, transport, NLM_F_REQUEST | NLM_F_DUMP, states);
        match filter {
            Filter::LocalPorts(ports) => {
                request.put(&[0; ID]);
                // Each condition is an op and the port it compares with; an op says how far to go when it holds, and
                // when not. To go beyond the end by one op means to leave the socket out.
                request.begin_bytecode(16);
                for (op, port, not) in [(INET_DIAG_BC_S_GE, ports.start(), 20u16), (INET_DIAG_BC_S_LE, ports.end(), 12)]
                {
                    request.put(&[op, 8]);
                    request.put(&not.to_ne_bytes());
                    request.put(&[0; 2]);
                    request.put(&port.to_ne_bytes());
                }
            }
            Filter::Towards { destination, .. } => {
                // inet_diag_sockid with the port of the destination, then inet_diag_hostcond with its address.
                request.put(&[0; 2]);
                request.put(&destination.port().to_be_bytes());
                request.put(&[0; ID - 4]);
                let (family, address, length) = octets(destination.ip());
                let condition = 12 + length as u8;
                request.begin_bytecode(condition.into());
                request.put(&[INET_DIAG_BC_D_COND, condition]);
                request.put(&(u16::from(condition) + 4).to_ne_bytes());
                request.put(&[family as u8, 8 * length as u8, 0, 0]);
                request.put(&(-1i32).to_ne_bytes());
                request.put(&address[..length]);
            }
        }
        socket.send(request.bytes())?;
        if !read_answer(&socket, buffer, each)? {
            break;
        }
    }
    Ok(())
}

/// Reads the answer to one request, message after message, to its end. False when `each` has had enough.
fn read_answer(mut socket: &Socket, buffer: &mut [u8], each: &mut dyn FnMut(&Entry) -> bool) -> io::Result<bool> {
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
                NLMSG_DONE | NLMSG_ERROR => return error_of(body).map_or(Ok(true), Err),
                SOCK_DIAG_BY_FAMILY if !each(&parse(body).ok_or_else(malformed)?) => return Ok(false),
                _ => {}
            }
        }
    }
}

/// Asks whether one connection exists.
pub(crate) struct InetDiag(pub(crate) Socket);

impl InetDiag {
    /// # Errors
    ///
    /// As socket(2): a policy may refuse netlink, or no descriptor is left. A kernel without tcp_diag says ENOENT to
    /// every question, and to a list, too: to that of the listeners that have a destination, which is empty elsewhere.
    pub(crate) fn new() -> io::Result<Self> {
        let mut request = Request::new(libc::AF_INET, Transport::Tcp, NLM_F_REQUEST | NLM_F_DUMP, 1 << 10);
        request.put(&[0, 0, 0, 1]);
        request.put(&[0; ID - 4]);
        let socket = open()?;
        socket.send(request.bytes())?;
        read_answer(&socket, &mut [0; 512], &mut |_| true)?;
        Ok(Self(socket))
    }

    /// The state of the socket that has this 4-tuple (net/tcp_states.h), or LISTEN where somebody listens on the source
    /// port; None where nobody has it. A question takes 2.4 µs (Linux 6.18).
    ///
    /// `interface` is the one that the asking socket is bound to, or 0.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub(crate) fn state_of(
        &self,
        source: SocketAddr,
        destination: SocketAddr,
        interface: u32,
    ) -> io::Result<Option<u8>> {
        // An IPv4-mapped connection is found as an IPv4 one.
        let (family, from, _) = octets(source.ip());
        let (_, to, _) = octets(destination.ip());
        let mut request = Request::new(family, Transport::Tcp, NLM_F_REQUEST, ALL_STATES);
        request.put(&source.port().to_be_bytes());
        request.put(&destination.port().to_be_bytes());
        request.put(&from);
        request.put(&to);
        request.put(&interface.to_ne_bytes());
        request.put(&[0xff; 8]); // INET_DIAG_NOCOOKIE
        self.0.send(request.bytes())?;
        let mut bytes = [0; 512];
        let length = (&self.0).read(&mut bytes)?;
        let (kind, body, _) = split_message(&bytes[..length]).ok_or_else(malformed)?;
        if kind == SOCK_DIAG_BY_FAMILY {
            return body.get(1).copied().map(Some).ok_or_else(malformed);
        }
        match error_of(body) {
            Some(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Some(error) => Err(error),
            None => Err(malformed()),
        }
    }
}

/// The kernel answers within send() and recv(), so that a socket that never waits misses nothing.
fn open() -> io::Result<Socket> {
    let netlink = Domain::from(libc::AF_NETLINK);
    Socket::new(netlink, Type::RAW.nonblocking().cloexec(), Some(Protocol::from(libc::NETLINK_SOCK_DIAG)))
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
const INET_DIAG_BC_D_COND: u8 = 8;
const INET_DIAG_SKV6ONLY: u16 = 11;
/// inet_diag_sockid: ports, addresses, interface, cookie.
const ID: usize = 48;
const INET_DIAG_MSG: usize = 72;

/// A bit for each state of net/tcp_states.h: TCP_ESTABLISHED (1) to TCP_BOUND_INACTIVE (13, Linux 6.8).
const ALL_STATES: u32 = (1 << 14) - 2;

/// Without TCP_CLOSE (7), TCP_LISTEN (10) and TCP_BOUND_INACTIVE, which have no destination: for the last the kernel
/// walks all ports that are bound.
const CONNECTED_STATES: u32 = ALL_STATES & !(1 << 7 | 1 << 10 | 1 << 13);

/// A message to the kernel: `nlmsghdr`, `inet_diag_req_v2`, and perhaps a program for its filter.
struct Request {
    bytes: [u8; 128],
    length: usize,
}

impl Request {
    /// All but the inet_diag_sockid, which is put next.
    fn new(family: i32, transport: Transport, flags: u16, states: u32) -> Self {
        let mut request = Self { bytes: [0; 128], length: 0 };
        request.put(&[0; 4]); // nlmsg_len
        request.put(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        request.put(&flags.to_ne_bytes());
        request.put(&[0; 8]); // nlmsg_seq and nlmsg_pid: one request at a time, and nobody else's answers.
        let protocol = match transport {
            Transport::Tcp => libc::IPPROTO_TCP,
            Transport::Udp => libc::IPPROTO_UDP,
        };
        request.put(&[family as u8, protocol as u8, 0, 0]);
        request.put(&states.to_ne_bytes());
        request
    }

    fn begin_bytecode(&mut self, length: u16) {
        self.put(&(ATTRIBUTE_HEADER as u16 + length).to_ne_bytes());
        self.put(&INET_DIAG_REQ_BYTECODE.to_ne_bytes());
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    fn bytes(&mut self) -> &[u8] {
        self.bytes[..4].copy_from_slice(&(self.length as u32).to_ne_bytes());
        &self.bytes[..self.length]
    }
}

/// The family of an address, and its bytes in network order, of which so many count.
fn octets(ip: IpAddr) -> (i32, [u8; 16], usize) {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&ip.octets());
            (libc::AF_INET, bytes, 4)
        }
        IpAddr::V6(ip) => (libc::AF_INET6, ip.octets(), 16),
    }
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

/// NLMSG_DONE and NLMSG_ERROR both begin with 0 or a negative errno.
fn error_of(body: &[u8]) -> Option<io::Error> {
    let errno = body.get(..4).map_or(0, |_| u32_at(body, 0) as i32);
    (errno < 0).then(|| io::Error::from_raw_os_error(-errno))
}

/// What an `inet_diag_msg` and its attributes say.
fn parse(body: &[u8]) -> Option<Entry> {
    let (message, attributes) = body.split_at_checked(INET_DIAG_MSG)?;
    let address = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 16] = message[at..at + 16].try_into().ok()?;
        Some(match i32::from(message[0]) {
            libc::AF_INET => IpAddr::V4(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3])),
            _ => IpAddr::V6(Ipv6Addr::from(octets)),
        })
    };
    Some(Entry {
        local: SocketAddr::new(address(8)?, u16::from_be_bytes([message[4], message[5]])),
        remote: SocketAddr::new(address(24)?, u16::from_be_bytes([message[6], message[7]])),
        interface: u32_at(message, 40),
        only_v6: attribute(attributes, INET_DIAG_SKV6ONLY).is_some_and(|value| value.first() == Some(&1)),
        state: message[1],
        milliseconds_left: u32_at(message, 52),
        inode: u32_at(message, 68),
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
        let entry = parse(&message()).unwrap();
        assert_eq!(entry.local, "[::1]:40000".parse().unwrap());
        assert_eq!((entry.state, entry.interface, entry.milliseconds_left, entry.only_v6), (10, 7, 1_234, true));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(0u8..32, 0..200)) {
            let _ = parse(&bytes);
            let _ = attribute(&bytes, INET_DIAG_SKV6ONLY);
            let mut rest = &bytes[..];
            while let Some((_, _, following)) = split_message(rest) {
                prop_assert!(following.len() < rest.len());
                rest = following;
            }
        }
    }
}
