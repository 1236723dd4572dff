//! Which processes hold ports, as far as /proc shows it: an ordinary user sees his own.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use ic_listener::SeenSocket;
use serde::Serialize;

/// Processes by how many ports they hold, the greatest holder first.
#[derive(Serialize, Default)]
pub struct Processes {
    pub holding: Vec<Process>,
    /// Ports whose sockets are in no process that we can see.
    pub not_seen: usize,
}

#[derive(Serialize)]
pub struct Process {
    pub pid: u32,
    pub name: String,
    pub ports: usize,
}

/// In net/tcp_states.h.
const LISTEN: u8 = 10;

/// The ports that are listened on.
pub fn listening(sockets: &[SeenSocket]) -> HashSet<u16> {
    sockets.iter().filter(|socket| socket.state == LISTEN).map(|socket| socket.local.port()).collect()
}

/// Who holds the ports, which are sorted. TIME_WAIT belongs to no process.
pub fn holding(sockets: &[SeenSocket], ports: &[u16]) -> Processes {
    let sockets: HashMap<u32, u16> = sockets
        .iter()
        .filter(|socket| socket.inode != 0 && ports.binary_search(&socket.local.port()).is_ok())
        .map(|socket| (socket.inode, socket.local.port()))
        .collect();
    let mut seen = HashSet::new();
    let mut holding: Vec<Process> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let files = fs::read_dir(entry.path().join("fd")).ok()?;
            let inodes = files.filter_map(|file| socket_inode(&file.ok()?.path()));
            let held: HashSet<u16> = inodes.filter_map(|inode| sockets.get(&inode).copied()).collect();
            seen.extend(&held);
            let name = || fs::read(entry.path().join("comm")).unwrap_or(b"?".to_vec());
            let name = || printable(String::from_utf8_lossy(&name()).trim_end());
            (!held.is_empty()).then(|| Process { pid, name: name(), ports: held.len() })
        })
        .collect();
    holding.sort_by_key(|process| (std::cmp::Reverse(process.ports), process.pid));
    let all: HashSet<u16> = sockets.into_values().collect();
    Processes { holding, not_seen: all.difference(&seen).count() }
}

/// `socket:[4711]`.
fn socket_inode(file: &Path) -> Option<u32> {
    fs::read_link(file).ok()?.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// A process chooses its name, which may have a terminal's control characters in it.
fn printable(name: &str) -> String {
    name.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}
