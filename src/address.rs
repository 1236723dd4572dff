//! The local address of a listener, from the numeric text a database has at hand. Names are never resolved.

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::sys;

/// Where a listener is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LocalAddress {
    /// Every address of the host, IPv4 and IPv6.
    Wildcard,
    /// One address of the host (or all of one family, spelled out as `0.0.0.0`); the port is 0.
    Given(SocketAddr),
}

/// Why a text cannot be used as an address.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// This is wrong with it.
    Text(&'static str),
    /// Whether there is such an interface could not be found out: there was no socket to ask with.
    Lookup(io::Error),
}

const NOT_NUMERIC: &str = "not a numeric address";
const NOT_UNICAST: &str = "not a unicast address";
const NO_INTERFACE: &str = "a link-local address needs its interface, as in fe80::1%eth0";
const NO_SUCH_INTERFACE: &str = "no such interface";
const ALTERNATIVE_NAME: &str =
    "an interface name of 16 or more characters can only be an alternative one, use its name or its index";
const NOT_LINK_LOCAL: &str = "only a link-local address has an interface";

impl LocalAddress {
    /// What getnameinfo(NI_NUMERICHOST) prints: `192.0.2.1`, `2001:db8::1`, `::ffff:192.0.2.1`, and link-local
    /// addresses with their scope as a name or a number, `fe80::1%eth0`, `fe80::1%2`.
    ///
    /// A scope is asked for where it means something and refused where it does not: bind() fails without it on a
    /// link-local address and ignores it on any other (ipv6(7)). Multicast and broadcast addresses are refused, because
    /// bind() takes them (seen on 6.18) and no peer could connect. Those of a network are found by [`check_unicast`].
    ///
    /// [`check_unicast`]: LocalAddress::check_unicast
    pub(crate) fn parse(text: &[u8]) -> Result<Self, Unusable> {
        let (ip, scope) = match dotted_quad(text) {
            Some(ip) => (ip.into(), None),
            None => ip_and_scope(text).ok_or(Unusable::Text(NOT_NUMERIC))?,
        };
        let canonical = ip.to_canonical();
        if canonical.is_multicast() || canonical == IpAddr::V4(Ipv4Addr::BROADCAST) {
            return Err(Unusable::Text(NOT_UNICAST));
        }
        match (ip, scope) {
            (IpAddr::V6(ip), Some(scope)) if ip.is_unicast_link_local() => {
                Ok(Self::Given(SocketAddrV6::new(ip, 0, 0, interface(scope)?).into()))
            }
            (IpAddr::V6(ip), None) if ip.is_unicast_link_local() => Err(Unusable::Text(NO_INTERFACE)),
            (_, Some(_)) => Err(Unusable::Text(NOT_LINK_LOCAL)),
            (ip, None) => Ok(Self::Given((ip, 0).into())),
        }
    }

    /// Refuses the broadcast address of one of the host's networks, such as 10.0.0.255 in 10.0.0.0/24, and 10.0.0.0,
    /// which is another one before Linux 5.14. bind() takes both.
    pub(crate) fn check_unicast(self) -> Result<Self, Unusable> {
        match self {
            Self::Given(address) if is_directed_broadcast(address.ip()) => Err(Unusable::Text(NOT_UNICAST)),
            _ => Ok(self),
        }
    }

    /// The address of a socket.
    pub(crate) fn of(address: SocketAddr) -> Self {
        if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) { Self::Wildcard } else { Self::Given(address) }
    }

    /// The address to try, and the one to fall back on. The wildcard is one IPv6 socket that takes IPv4 as well; only
    /// where there is no IPv6 is it an IPv4 socket.
    pub(crate) fn candidates(self) -> (SocketAddr, Option<SocketAddr>) {
        match self {
            Self::Wildcard => ((Ipv6Addr::UNSPECIFIED, 0).into(), Some((Ipv4Addr::UNSPECIFIED, 0).into())),
            Self::Given(address) => (address, None),
        }
    }
}

/// Four numbers with dots between them, as std takes them. std's parser lies on other pages, which cost the first call of a
/// forked child, on one address, a fifth of its time (docs/why.md).
fn dotted_quad(text: &[u8]) -> Option<Ipv4Addr> {
    let (mut address, mut octet, mut begun, mut dots) = (0_u32, 0_u32, false, 0);
    for &byte in text {
        match byte {
            // No zero leads: elsewhere that is an octal number.
            b'0'..=b'9' if !begun || octet != 0 => {
                octet = octet * 10 + u32::from(byte - b'0');
                begun = true;
                if octet > 255 {
                    return None;
                }
            }
            b'.' if begun && dots < 3 => {
                address = (address << 8) | octet;
                (octet, begun) = (0, false);
                dots += 1;
            }
            _ => return None,
        }
    }
    (begun && dots == 3).then(|| Ipv4Addr::from((address << 8) | octet))
}

/// Any other numeric address, and what is behind its percent sign.
#[cold]
fn ip_and_scope(text: &[u8]) -> Option<(IpAddr, Option<&str>)> {
    let text = std::str::from_utf8(text).ok()?;
    match text.split_once('%') {
        None => Some((text.parse().ok()?, None)),
        Some((address, scope)) => Some((address.parse().ok()?, Some(scope))),
    }
}

/// Whether a socket of this address can take IPv4 connections, which IPV6_V6ONLY would forbid: the IPv6 wildcard, and
/// IPv4-mapped addresses.
pub(crate) fn takes_ipv4_through_ipv6(address: &SocketAddr) -> bool {
    match address {
        SocketAddr::V4(_) => false,
        SocketAddr::V6(address) => address.ip().is_unspecified() || address.ip().to_ipv4_mapped().is_some(),
    }
}

/// Asks the kernel, by way of a UDP socket: its connect() sends nothing, and says EACCES for a broadcast address unless
/// SO_BROADCAST is set. What cannot be found out is taken for unicast.
fn is_directed_broadcast(ip: IpAddr) -> bool {
    let IpAddr::V4(ip) = ip.to_canonical() else {
        return false;
    };
    // The last address of a network, whose prefix has at most 30 bits, or the first of one of at most 24. The socket
    // takes 6 microseconds, as long as all the rest of a call; the other addresses need none.
    let last_octet = ip.octets()[3];
    if ip.is_unspecified() || (last_octet & 0b11 != 0b11 && last_octet != 0) {
        return false;
    }
    let Ok(scout) = Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), Some(Protocol::UDP)) else {
        return false;
    };
    let discard = SockAddr::from(SocketAddrV4::new(ip, 9));
    let refused = scout.connect(&discard).is_err_and(|error| error.raw_os_error() == Some(libc::EACCES));
    refused && scout.set_broadcast(true).is_ok() && scout.connect(&discard).is_ok()
}

/// A scope as getaddrinfo() takes it: the name of an interface first, else its index in decimal digits.
fn interface(scope: &str) -> Result<u32, Unusable> {
    let mut name = [0; libc::IF_NAMESIZE];
    if scope.is_empty() || scope.contains('\0') {
        return Err(Unusable::Text(NO_SUCH_INTERFACE));
    }
    if scope.len() >= name.len() {
        // ip link property add dev eth0 altname ...; if_nametoindex(3) has no room for it.
        return Err(Unusable::Text(ALTERNATIVE_NAME));
    }
    name[..scope.len()].copy_from_slice(scope.as_bytes());
    let name = CStr::from_bytes_until_nul(&name).map_err(|_| Unusable::Text(NO_SUCH_INTERFACE))?;
    let by_number = || {
        let digits = scope.bytes().all(|byte| byte.is_ascii_digit());
        scope.parse().ok().filter(|&index| digits && sys::interface_name(index).is_some())
    };
    if let Some(index) = sys::interface_index(name).or_else(by_number) {
        return Ok(index);
    }
    // The look-up takes a socket. Perhaps that is what was missing.
    Socket::new(Domain::IPV6, Type::STREAM, None).map_err(Unusable::Lookup)?;
    Err(Unusable::Text(NO_SUCH_INTERFACE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is taken, or what is wrong with it.
    fn parse(text: &str) -> Result<LocalAddress, &'static str> {
        LocalAddress::parse(text.as_bytes()).map_err(|unusable| match unusable {
            Unusable::Text(what) => what,
            Unusable::Lookup(error) => panic!("{text}: {error}"),
        })
    }

    fn given(text: &str) -> SocketAddr {
        match parse(text) {
            Ok(LocalAddress::Given(address)) => address,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn numeric_addresses_are_taken() {
        for text in ["127.0.0.1", "0.0.0.0", "255.255.255.254", "::", "::1", "2001:db8::1", "::ffff:192.0.2.1"] {
            let address = given(text);
            assert_eq!(address.ip(), text.parse::<IpAddr>().unwrap());
            assert_eq!(address.port(), 0);
        }
    }

    #[test]
    fn a_link_local_address_comes_with_its_interface() {
        let loopback = sys::interface_index(c"lo").expect("every network namespace has lo");
        for scope in ["lo", &loopback.to_string()] {
            match given(&format!("fe80::1%{scope}")) {
                SocketAddr::V6(address) => assert_eq!(address.scope_id(), loopback),
                SocketAddr::V4(address) => panic!("{address}"),
            }
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let junk = "x".repeat(4096);
        for (text, what) in [
            ("", NOT_NUMERIC),
            (" ", NOT_NUMERIC),
            ("localhost", NOT_NUMERIC),
            ("127.0.0.1:80", NOT_NUMERIC),
            ("[::1]", NOT_NUMERIC),
            ("[::1]:80", NOT_NUMERIC),
            ("127.0.0.1 ", NOT_NUMERIC),
            (" ::1", NOT_NUMERIC),
            ("127.1", NOT_NUMERIC),
            ("0x7f.0.0.1", NOT_NUMERIC),
            ("1.2.3.4.5", NOT_NUMERIC),
            ("::1::", NOT_NUMERIC),
            ("\0", NOT_NUMERIC),
            ("127.0.0.1\0", NOT_NUMERIC),
            ("%lo", NOT_NUMERIC),
            (&junk, NOT_NUMERIC),
            ("224.0.0.1", NOT_UNICAST),
            ("255.255.255.255", NOT_UNICAST),
            ("::ffff:224.0.0.1", NOT_UNICAST),
            ("::ffff:255.255.255.255", NOT_UNICAST),
            ("ff02::1%lo", NOT_UNICAST),
            ("fe80::1", NO_INTERFACE),
            ("fe80::1%", NO_SUCH_INTERFACE),
            ("fe80::1%nosuchif0", NO_SUCH_INTERFACE),
            ("fe80::1%4000000000", NO_SUCH_INTERFACE),
            ("fe80::1%+1", NO_SUCH_INTERFACE),
            ("fe80::1%lo\0", NO_SUCH_INTERFACE),
            ("fe80::1%lo%lo", NO_SUCH_INTERFACE),
            ("fe80::1%a.name.that.is.too.long", ALTERNATIVE_NAME),
            ("::1%lo", NOT_LINK_LOCAL),
            ("::1%1", NOT_LINK_LOCAL),
            ("127.0.0.1%lo", NOT_LINK_LOCAL),
        ] {
            assert_eq!(parse(text), Err(what), "{text:?}");
        }
    }

    #[test]
    fn ipv4_comes_through_ipv6_for_wildcard_and_mapped_only() {
        for (text, expected) in
            [("::", true), ("::ffff:127.0.0.1", true), ("::1", false), ("0.0.0.0", false), ("127.0.0.1", false)]
        {
            assert_eq!(takes_ipv4_through_ipv6(&given(text)), expected, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 250_000, ..ProptestConfig::default() })]

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,80}") {
            let _ = LocalAddress::parse(text.as_bytes());
        }

        #[test]
        fn no_text_that_looks_like_an_address_makes_it_panic(text in "[0-9a-fA-Fx:.%\\[\\]lo/ \\x00]{0,64}") {
            let _ = LocalAddress::parse(text.as_bytes());
        }

        #[test]
        fn a_dotted_quad_is_what_std_takes_for_one(text in "[0-9]{0,4}(\\.[0-9]{0,4}){2,4}") {
            prop_assert_eq!(dotted_quad(text.as_bytes()), text.parse().ok());
        }

        #[test]
        fn every_ipv6_address_is_taken_as_written(ip in any::<u128>().prop_map(Ipv6Addr::from)) {
            prop_assert_eq!(parse(&ip.to_string()), expected(ip.into()));
        }

        #[test]
        fn every_ipv4_address_is_taken_as_written(ip in any::<u32>().prop_map(Ipv4Addr::from)) {
            prop_assert_eq!(parse(&ip.to_string()), expected(ip.into()));
            let mapped = ip.to_ipv6_mapped();
            prop_assert_eq!(parse(&mapped.to_string()), expected(mapped.into()));
        }
    }

    fn expected(ip: IpAddr) -> Result<LocalAddress, &'static str> {
        match ip.to_canonical() {
            IpAddr::V4(ip) if ip.octets()[0] & 0xf0 == 224 || ip == Ipv4Addr::BROADCAST => Err(NOT_UNICAST),
            IpAddr::V6(ip) if ip.octets()[0] == 0xff => Err(NOT_UNICAST),
            IpAddr::V6(ip) if ip.segments()[0] & 0xffc0 == 0xfe80 => Err(NO_INTERFACE),
            _ => Ok(LocalAddress::Given((ip, 0).into())),
        }
    }
}
