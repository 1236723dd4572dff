//! Which processes hold ports, as far as /proc shows it: an ordinary user sees his own.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use procfs::net::{TcpNetEntry, TcpState};
use procfs::process::{FDTarget, all_processes};
use serde::Serialize;

use crate::destinations::is_in_the_way;

/// Processes by how many ports they hold, the greatest holder first.
#[derive(Serialize, Default)]
pub struct Processes {
    pub holding: Vec<Process>,
    /// Ports whose sockets are in no process that we can see.
    pub not_seen: usize,
}

#[derive(Serialize)]
pub struct Process {
    pub pid: i32,
    pub name: String,
    pub ports: usize,
}

/// The sockets of /proc/net/tcp and tcp6: not those that are only bound.
pub fn sockets() -> Vec<TcpNetEntry> {
    [procfs::net::tcp(), procfs::net::tcp6()].into_iter().flat_map(Result::unwrap_or_default).collect()
}

/// The ports that are listened on.
pub fn listening(sockets: &[TcpNetEntry]) -> HashSet<u16> {
    let listeners = sockets.iter().filter(|socket| socket.state == TcpState::Listen);
    listeners.map(|socket| socket.local_address.port()).collect()
}

/// Who holds the ports, which are sorted, of the address or of all this host. TIME_WAIT belongs to no process.
pub fn holding(sockets: &[TcpNetEntry], ports: &[u16], address: Option<IpAddr>) -> Processes {
    let sockets: HashMap<u64, u16> = sockets
        .iter()
        .filter(|socket| {
            let (local, is_connected) = (socket.local_address, socket.remote_address.port() != 0);
            let is_one_of_them = socket.inode != 0 && ports.binary_search(&local.port()).is_ok();
            is_one_of_them && is_in_the_way(address, local.ip(), is_connected)
        })
        .map(|socket| (socket.inode, socket.local_address.port()))
        .collect();
    let mut seen = HashSet::new();
    let mut holding: Vec<Process> = all_processes()
        .into_iter()
        .flatten()
        .filter_map(|process| {
            let process = process.ok()?;
            let inodes = process.fd().ok()?.filter_map(|fd| match fd.ok()?.target {
                FDTarget::Socket(inode) => Some(inode),
                _ => None,
            });
            let held: HashSet<u16> = inodes.filter_map(|inode| sockets.get(&inode).copied()).collect();
            seen.extend(&held);
            let name = || process.stat().map_or_else(|_| "?".to_owned(), |stat| printable(&stat.comm));
            (!held.is_empty()).then(|| Process { pid: process.pid, name: name(), ports: held.len() })
        })
        .collect();
    holding.sort_by_key(|process| (std::cmp::Reverse(process.ports), process.pid));
    let all: HashSet<u16> = sockets.into_values().collect();
    Processes { holding, not_seen: all.difference(&seen).count() }
}

/// A process chooses its name, which may have a terminal's control characters in it.
fn printable(name: &str) -> String {
    name.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}
