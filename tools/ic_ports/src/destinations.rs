//! Where the connections of this host go.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ic_listener::Connection;
use serde::Serialize;

/// How many are listed; the others are counted.
const LISTED: usize = 10;

/// In net/tcp_states.h.
const TIME_WAIT: u8 = 6;

/// Destinations by how many ports go there, the greatest first.
#[derive(Serialize)]
pub struct Destinations {
    pub most: Vec<Destination>,
    /// How many more destinations there are.
    pub more: usize,
}

#[derive(Serialize)]
pub struct Destination {
    pub address: IpAddr,
    pub port: u16,
    #[serde(flatten)]
    pub connections: Connections,
}

#[derive(Serialize, Clone, Copy, Default)]
pub struct Connections {
    /// All but those in TIME_WAIT.
    pub connections: usize,
    pub time_wait: usize,
}

impl Connections {
    fn add(&mut self, state: u8) {
        if state == TIME_WAIT {
            self.time_wait += 1;
        } else {
            self.connections += 1;
        }
    }

    fn all(self) -> usize {
        self.connections + self.time_wait
    }
}

/// The destinations of connections from the ports, which are sorted, and from the address or all of this host; or why they
/// cannot be seen.
pub fn from(ports: &[u16], address: Option<IpAddr>) -> io::Result<Destinations> {
    let mut by_destination: HashMap<(IpAddr, u16), Connections> = HashMap::new();
    ic_listener::for_each_connection(&mut |Connection { local, remote, state, .. }| {
        if ports.binary_search(&local.port()).is_ok() && is_in_the_way(address, local.ip(), true) {
            by_destination.entry((remote.ip().to_canonical(), remote.port())).or_default().add(state);
        }
    })?;
    let mut most: Vec<Destination> = by_destination
        .into_iter()
        .map(|((address, port), connections)| Destination { address, port, connections })
        .collect();
    most.sort_by_key(|destination| (Reverse(destination.connections.all()), destination.address, destination.port));
    let more = most.len().saturating_sub(LISTED);
    most.truncate(LISTED);
    Ok(Destinations { most, more })
}

/// The connections from the ports to one destination, or why they cannot be seen.
pub fn connections_to(target: SocketAddr, source: IpAddr, ports: &[u16]) -> io::Result<Connections> {
    let mut connections = Connections::default();
    let wanted = (target.ip().to_canonical(), target.port());
    ic_listener::for_each_connection(&mut |Connection { local, remote, state, .. }| {
        if (remote.ip().to_canonical(), remote.port()) == wanted
            && local.ip().to_canonical() == source.to_canonical()
            && ports.binary_search(&local.port()).is_ok()
        {
            connections.add(state);
        }
    })?;
    Ok(connections)
}

/// Whether a socket of that local address keeps others from the wanted one; None is all of this host.
///
/// A socket of the IPv6 wildcard counts for IPv4, too: /proc does not show whether it has IPV6_V6ONLY. So does, for
/// IPv4's wildcard, an IPv6 connection: its socket may have been bound to the IPv6 wildcard.
pub fn is_in_the_way(wanted: Option<IpAddr>, local: IpAddr, is_connected: bool) -> bool {
    let Some(wanted) = wanted else { return true };
    if is_connected && wanted == Ipv4Addr::UNSPECIFIED {
        return true;
    }
    let (wanted, local) = (wanted.to_canonical(), local.to_canonical());
    let takes = |one: IpAddr, other: IpAddr| one == other || one.is_unspecified() && (one.is_ipv6() || other.is_ipv4());
    takes(wanted, local) || takes(local, wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_keeps_others_from_the_address_is_in_the_way() {
        for (wanted, local, expected) in [
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "::ffff:127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("127.0.0.1", "0.0.0.0", true),
            ("127.0.0.1", "::", true),
            ("127.0.0.1", "::1", false),
            ("::1", "::", true),
            ("::1", "0.0.0.0", false),
            ("0.0.0.0", "127.0.0.2", true),
            ("0.0.0.0", "::1", false),
            ("::", "127.0.0.1", true),
            ("::", "::1", true),
        ] {
            let address = |text: &str| text.parse().unwrap();
            assert_eq!(is_in_the_way(Some(address(wanted)), address(local), false), expected, "{local} for {wanted}");
            let is_connected = is_in_the_way(Some(address(wanted)), address(local), true);
            assert_eq!(is_connected, expected || wanted == "0.0.0.0", "a connection of {local} for {wanted}");
        }
        assert!(is_in_the_way(None, "127.0.0.1".parse().unwrap(), false));
    }
}
