//! All that is found out, in one struct for each question.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use ic_listener::{Census, Options};

use crate::destinations::{self, Connections, Destinations};
use crate::processes::{self, Processes};
use crate::trial::{self, Connection, Left, Listener};

/// Who holds the ports, and whether there is one.
pub struct Survey {
    /// The address; None for all of the host.
    pub address: Option<String>,
    /// Whether the caller named the range. Else it is the host's.
    pub named: bool,
    /// Who holds the ports, or why that cannot be seen.
    pub census: Result<Census, String>,
    pub processes: Processes,
    /// None where sockets cannot be seen.
    pub destinations: Option<Destinations>,
    pub listener: Listener,
    /// None where ports were named: connect() uses the host's range, and no other.
    pub connection: Option<Connection>,
}

impl Survey {
    /// The error is what is wrong with the address.
    pub fn of(address: Option<&str>, ports: Option<RangeInclusive<u16>>) -> Result<Self, String> {
        let mut options = Options::new();
        if let Some(address) = address {
            options = options.address_text(address).map_err(|error| error.to_string())?;
        }
        let named = ports.is_some();
        if let Some(ports) = ports {
            options = options.ports(ports);
        }
        // Without the interface of a link-local address.
        let ip = address.and_then(|address| address.split('%').next()?.parse().ok());

        // The census first: it would count the sockets that ask.
        let census = options.census().map_err(|error| error.to_string());
        let usable = usable(&census, named);
        let seen = options.sockets();
        let sockets = seen.as_deref().unwrap_or_default();
        // The connections of a listener came from elsewhere.
        let listening = processes::listening(sockets);
        let connecting: Vec<u16> = usable.iter().copied().filter(|port| !listening.contains(port)).collect();
        Ok(Self {
            address: address.map(str::to_owned),
            named,
            processes: processes::holding(sockets, &usable),
            destinations: seen.as_ref().ok().map(|sockets| destinations::from(sockets, &connecting)),
            listener: trial::for_a_listener(&options, &usable)?,
            connection: if named { None } else { Some(trial::for_a_connection(ip)) },
            census,
        })
    }
}

/// How many ports are left towards one destination.
pub struct Reach {
    pub to: SocketAddr,
    /// The address that connections come from, or why there is no way.
    pub from: Result<IpAddr, String>,
    /// The range of the host, or why it cannot be seen.
    pub census: Result<Census, String>,
    pub connections: Option<Connections>,
    pub left: Left,
    pub connection: Connection,
}

impl Reach {
    pub fn of(to: SocketAddr, address: Option<IpAddr>) -> Self {
        let from = address.map_or_else(|| trial::source_towards(to).map_err(|error| error.to_string()), Ok);
        let census = Options::new().census().map_err(|error| error.to_string());
        let usable = usable(&census, false);
        let known = from.as_ref().ok().filter(|_| !usable.is_empty());
        Self {
            to,
            connections: known.and_then(|&from| destinations::connections_to(to, from, &usable).ok()),
            left: known.map(|&from| trial::left_towards(to, from, &usable)).unwrap_or_default(),
            connection: trial::for_a_connection_to(to, address),
            from,
            census,
        }
    }
}

/// The ports of the range but for reserved ones, sorted; none where the range is not known.
fn usable(census: &Result<Census, String>, named: bool) -> Vec<u16> {
    let Ok(census) = census else { return Vec::new() };
    let reserved = if named { Vec::new() } else { reserved_ports() };
    census.range.clone().filter(|port| reserved.binary_search(port).is_err()).collect()
}

/// Sorted. The kernel's notation: `8080,9000-9100`.
fn reserved_ports() -> Vec<u16> {
    let list = fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap_or_default();
    list.trim().split(',').filter_map(|item| crate::range(item).ok()).flatten().collect()
}
