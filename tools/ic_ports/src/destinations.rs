//! Where the connections of this host go.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};

use ic_listener::{Options, SeenSocket};
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

/// The destinations of connections from the ports, which are sorted.
pub fn from(sockets: &[SeenSocket], ports: &[u16]) -> Destinations {
    let mut by_destination: HashMap<(IpAddr, u16), Connections> = HashMap::new();
    for socket in sockets.iter().filter(|socket| socket.remote.port() != 0) {
        if ports.binary_search(&socket.local.port()).is_ok() {
            let destination = (socket.remote.ip().to_canonical(), socket.remote.port());
            by_destination.entry(destination).or_default().add(socket.state);
        }
    }
    let mut most: Vec<Destination> = by_destination
        .into_iter()
        .map(|((address, port), connections)| Destination { address, port, connections })
        .collect();
    most.sort_by_key(|destination| (Reverse(destination.connections.all()), destination.address, destination.port));
    let more = most.len().saturating_sub(LISTED);
    most.truncate(LISTED);
    Destinations { most, more }
}

/// The connections from the ports to one destination, or why they cannot be seen.
pub fn connections_to(target: SocketAddr, source: IpAddr, ports: &[u16]) -> io::Result<Connections> {
    let mut connections = Connections::default();
    let wanted = (target.ip().to_canonical(), target.port());
    for SeenSocket { local, remote, state, .. } in Options::new().sockets()? {
        if (remote.ip().to_canonical(), remote.port()) == wanted
            && local.ip().to_canonical() == source.to_canonical()
            && ports.binary_search(&local.port()).is_ok()
        {
            connections.add(state);
        }
    }
    Ok(connections)
}
