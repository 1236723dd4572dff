//! The local address of a listener, from the numeric text a database has at hand. Names are never resolved.

use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::str::FromStr;

use crate::sys;

/// Where a listener is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LocalAddress {
    /// Every address of the host, IPv4 and IPv6.
    Wildcard,
    /// One address of the host (or all of one family, spelled out as `0.0.0.0`); the port is 0.
    Given(SocketAddr),
}

/// The text is not a numeric address, or names an interface this host does not have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotAnAddress;

impl LocalAddress {
    /// What getnameinfo(NI_NUMERICHOST) prints: `192.0.2.1`, `2001:db8::1`, `::ffff:192.0.2.1`, and link-local addresses
    /// with their scope as a name or a number, `fe80::1%eth0`, `fe80::1%2`.
    ///
    /// A scope is asked for where it means something and refused where it does not: bind() fails without it on a
    /// link-local address and ignores it on any other (ipv6(7)).
    pub(crate) fn parse(text: &str) -> Result<Self, NotAnAddress> {
        let (address, scope) = match text.split_once('%') {
            None => (text, None),
            Some((address, scope)) => (address, Some(scope)),
        };
        let scope_id = match (IpAddr::from_str(address).map_err(|_| NotAnAddress)?, scope) {
            (IpAddr::V6(ip), Some(scope)) if ip.is_unicast_link_local() => interface(scope)?,
            (IpAddr::V6(ip), None) if ip.is_unicast_link_local() => return Err(NotAnAddress),
            (_, Some(_)) => return Err(NotAnAddress),
            (ip, None) => return Ok(Self::Given((ip, 0).into())),
        };
        let ip = Ipv6Addr::from_str(address).map_err(|_| NotAnAddress)?;
        Ok(Self::Given(SocketAddrV6::new(ip, 0, 0, scope_id).into()))
    }

    /// The addresses to try in turn. The wildcard is one IPv6 socket that takes IPv4 as well; only where IPv6 is not to
    /// be had is it an IPv4 socket.
    pub(crate) fn candidates(self) -> impl Iterator<Item = SocketAddr> {
        match self {
            Self::Wildcard => [Some((Ipv6Addr::UNSPECIFIED, 0).into()), Some((Ipv4Addr::UNSPECIFIED, 0).into())],
            Self::Given(address) => [Some(address), None],
        }
        .into_iter()
        .flatten()
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

/// A scope as getaddrinfo() takes it: the name of an interface first, else its index in decimal digits.
fn interface(scope: &str) -> Result<u32, NotAnAddress> {
    let mut name = [0; libc::IF_NAMESIZE];
    if scope.is_empty() || scope.len() >= name.len() {
        return Err(NotAnAddress);
    }
    name[..scope.len()].copy_from_slice(scope.as_bytes());
    let name = CStr::from_bytes_until_nul(&name).map_err(|_| NotAnAddress)?;
    if name.count_bytes() != scope.len() {
        return Err(NotAnAddress);
    }
    sys::interface_index(name)
        .or_else(|| {
            let digits = scope.bytes().all(|byte| byte.is_ascii_digit());
            let index = scope.parse().ok().filter(|_| digits)?;
            sys::interface_exists(index).then_some(index)
        })
        .ok_or(NotAnAddress)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn given(text: &str) -> SocketAddr {
        match LocalAddress::parse(text) {
            Ok(LocalAddress::Given(address)) => address,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn numeric_addresses_are_taken() {
        for text in ["127.0.0.1", "0.0.0.0", "255.255.255.255", "::", "::1", "2001:db8::1", "::ffff:192.0.2.1"] {
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
        for text in [
            "",
            " ",
            "localhost",
            "127.0.0.1:80",
            "[::1]",
            "[::1]:80",
            "127.0.0.1 ",
            " ::1",
            "127.1",
            "0x7f.0.0.1",
            "1.2.3.4.5",
            "::1::",
            "fe80::1",
            "fe80::1%",
            "fe80::1%nosuchif0",
            "fe80::1%4000000000",
            "fe80::1%+1",
            "fe80::1%lo\0",
            "fe80::1%lo%lo",
            "::1%lo",
            "::1%1",
            "127.0.0.1%lo",
            "%lo",
            &junk,
            "\0",
            "127.0.0.1\0",
        ] {
            assert_eq!(LocalAddress::parse(text), Err(NotAnAddress), "{text:?}");
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
            let _ = LocalAddress::parse(&text);
        }

        #[test]
        fn no_text_that_looks_like_an_address_makes_it_panic(text in "[0-9a-fA-Fx:.%\\[\\]lo/ \\x00]{0,64}") {
            let _ = LocalAddress::parse(&text);
        }

        #[test]
        fn what_is_taken_is_what_was_written(ip in any::<u128>().prop_map(Ipv6Addr::from)) {
            prop_assume!(!ip.is_unicast_link_local());
            prop_assert_eq!(given(&ip.to_string()).ip(), IpAddr::V6(ip));
        }

        #[test]
        fn every_ipv4_address_is_taken(ip in any::<u32>().prop_map(Ipv4Addr::from)) {
            prop_assert_eq!(given(&ip.to_string()).ip(), IpAddr::V4(ip));
        }
    }
}
