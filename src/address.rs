//! The local address of a listener.

use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use socket2::{Domain, Socket, Type};

use crate::error::{Failure, Step};
use crate::sys;
use crate::text::Text;

/// What getnameinfo(NI_NUMERICHOST) prints: `192.0.2.1`, `2001:db8::1`, `::ffff:192.0.2.1`, and link-local addresses
/// with their scope as a name or a number, `fe80::1%eth0`, `fe80::1%2`. Names are never resolved.
pub(crate) fn parse(text: &[u8]) -> Result<SocketAddr, Failure> {
    let not_numeric = || Failure::bad_address("not a numeric address", text);
    let words = std::str::from_utf8(text).map_err(|_| not_numeric())?;
    let Some((ip, scope)) = words.split_once('%') else {
        return words.parse().map(|ip: IpAddr| (ip, 0).into()).map_err(|_| not_numeric());
    };
    let ip: Ipv6Addr = ip.parse().map_err(|_| not_numeric())?;
    if !ip.is_unicast_link_local() {
        return Err(Failure::bad_address("only a link-local address has an interface", text));
    }
    let Some(index) = interface(scope) else {
        // The look-up takes a socket. Perhaps that is what was missing.
        Socket::new(Domain::IPV6, Type::STREAM, None).map_err(|error| Failure::refused(Step::Socket, error))?;
        return Err(Failure::bad_address("no such interface", text));
    };
    Ok(SocketAddrV6::new(ip, 0, 0, index).into())
}

/// bind() takes a multicast address and the limited broadcast address (seen on 6.18), and no peer could connect.
/// Without its interface, a link-local address cannot be bound (ipv6(7)).
pub(crate) fn check(address: SocketAddr) -> Result<SocketAddr, Failure> {
    let what = match (address.ip().to_canonical(), address) {
        (ip, _) if ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) => "not a unicast address",
        (IpAddr::V6(ip), SocketAddr::V6(address)) if ip.is_unicast_link_local() && address.scope_id() == 0 => {
            "a link-local address needs its interface, as in fe80::1%eth0"
        }
        _ => return Ok(address),
    };
    Err(Failure::BadAddress { what, address: Text::of(format_args!("{}", address.ip())) })
}

/// A scope as getaddrinfo() takes it: the name of an interface first, else its index in decimal digits.
fn interface(scope: &str) -> Option<u32> {
    let mut name = [0; libc::IF_NAMESIZE];
    // One byte is left for the NUL.
    name[..libc::IF_NAMESIZE - 1].get_mut(..scope.len())?.copy_from_slice(scope.as_bytes());
    let by_name = CStr::from_bytes_until_nul(&name).ok().filter(|name| name.count_bytes() == scope.len());
    let digits = !scope.is_empty() && scope.bytes().all(|byte| byte.is_ascii_digit());
    by_name.and_then(sys::interface_index).or_else(|| scope.parse().ok().filter(|&index| digits && index > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is taken, or what is wrong with it.
    fn taken(text: &str) -> Result<SocketAddr, &'static str> {
        match parse(text.as_bytes()).and_then(check) {
            Ok(address) => Ok(address),
            Err(Failure::BadAddress { what, .. }) => Err(what),
            Err(other) => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn numeric_addresses_are_taken() {
        for text in ["127.0.0.1", "0.0.0.0", "255.255.255.254", "::", "::1", "2001:db8::1", "::ffff:192.0.2.1"] {
            assert_eq!(taken(text), Ok(SocketAddr::new(text.parse().unwrap(), 0)), "{text}");
        }
        let loopback = sys::interface_index(c"lo").expect("there is a loopback interface");
        for text in ["fe80::1%lo".to_owned(), format!("fe80::1%{loopback}")] {
            let expected = SocketAddrV6::new("fe80::1".parse().unwrap(), 0, 0, loopback);
            assert_eq!(taken(&text), Ok(expected.into()), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        let (numeric, unicast) = ("not a numeric address", "not a unicast address");
        let (interface, link_local) = ("no such interface", "only a link-local address has an interface");
        for (text, what) in [
            ("", numeric),
            ("127.1", numeric),
            ("127.0.0.1:80", numeric),
            ("127.0.0.1%lo", numeric),
            ("224.0.0.1", unicast),
            ("255.255.255.255", unicast),
            ("::ffff:224.0.0.1", unicast),
            ("fe80::1", "a link-local address needs its interface, as in fe80::1%eth0"),
            ("fe80::1%nowhere", interface),
            ("fe80::1%+1", interface),
            ("fe80::1%0", interface),
            ("fe80::1%an-interface-of-more-than-15", interface),
            ("::1%lo", link_local),
        ] {
            assert_eq!(taken(text), Err(what), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[0-9a-fA-Fx:.%\\[\\]lo/ \\x00]{0,64}|\\PC{0,80}") {
            let _ = parse(text.as_bytes());
        }
    }
}
