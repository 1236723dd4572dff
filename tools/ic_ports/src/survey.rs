//! All that is asked, in one struct.

use std::fs;
use std::ops::RangeInclusive;

use ic_listener::{Census, Options};

use crate::asking::{self, Connection, Listener};
use crate::processes::{self, Processes};

/// What there is to print.
pub struct Survey {
    /// The address; None for all of the host.
    pub address: Option<String>,
    /// Whether the caller named the range. Else it is the host's.
    pub named: bool,
    /// Who holds the ports, or why that cannot be seen.
    pub census: Result<Census, String>,
    pub processes: Processes,
    pub listener: Listener,
    /// None where ports were named: connect() uses the host's range, and no other.
    pub connection: Option<Connection>,
}

impl Survey {
    /// # Errors
    ///
    /// What is wrong with the address.
    pub fn of(address: Option<&str>, ports: Option<RangeInclusive<u16>>) -> Result<Self, String> {
        let mut options = Options::new();
        if let Some(address) = address {
            options = options.address(address);
        }
        let named = ports.is_some();
        if let Some(ports) = ports {
            options = options.ports(ports);
        }

        // The census first: it would count the sockets that ask.
        let census = options.census().map_err(|error| error.to_string());
        let reserved = if named { Vec::new() } else { reserved_ports() };
        let usable: Vec<u16> = match &census {
            Ok(census) => census.range.clone().filter(|port| reserved.binary_search(port).is_err()).collect(),
            Err(_) => Vec::new(),
        };
        Ok(Self {
            address: address.map(str::to_owned),
            named,
            processes: processes::holding(&usable),
            listener: asking::for_a_listener(&options, &usable)?,
            connection: if named { None } else { Some(asking::for_a_connection(address)) },
            census,
        })
    }
}

/// Sorted. The kernel's notation: `8080,9000-9100`.
fn reserved_ports() -> Vec<u16> {
    let list = fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap_or_default();
    list.trim().split(',').filter_map(ports_of).flatten().collect()
}

fn ports_of(item: &str) -> Option<RangeInclusive<u16>> {
    let (min, max) = item.split_once('-').unwrap_or((item, item));
    Some(min.parse().ok()?..=max.parse().ok()?)
}
