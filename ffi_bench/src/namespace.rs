//! A network of its own for a case: nobody else's sockets, the default ephemeral port range, loopback up.

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::process::Command;

/// The range of a new namespace (`inet_init_net`), and of the project's figures.
pub const DEFAULT_RANGE: RangeInclusive<u16> = 32768..=60999;

pub const DEFAULT_PORTS: usize = 28_232;

/// Leaves the host's network for a fresh one. To be called before any thread is started.
pub fn enter() -> io::Result<()> {
    // SAFETY: no memory is involved.
    let root = unsafe { libc::geteuid() } == 0;
    let flags = if root { libc::CLONE_NEWNET } else { libc::CLONE_NEWNET | libc::CLONE_NEWUSER };
    // SAFETY: no memory is involved; the process has one thread, as CLONE_NEWUSER wants it.
    if unsafe { libc::unshare(flags) } != 0 {
        let error = io::Error::last_os_error();
        return Err(io::Error::other(format!("no network namespace ({error}): run as root, or allow user namespaces")));
    }
    if !Command::new("ip").args(["link", "set", "lo", "up"]).status()?.success() {
        return Err(io::Error::other("ip(8) cannot bring up the loopback interface"));
    }
    set_range(&DEFAULT_RANGE)
}

/// Gives the namespace another range.
pub fn set_range(range: &RangeInclusive<u16>) -> io::Result<()> {
    set("ip_local_port_range", &format!("{}\t{}", range.start(), range.end()))
}

/// Makes room for a connection in TIME_WAIT on each port, and for the kernel's own counting of those about to end.
pub fn allow_time_wait() -> io::Result<()> {
    set("tcp_max_tw_buckets", &(2 * DEFAULT_PORTS).to_string())
}

fn set(name: &str, value: &str) -> io::Result<()> {
    fs::write(format!("/proc/sys/net/ipv4/{name}"), value)
        .map_err(|error| io::Error::other(format!("{name} = {value}: {error}")))
}
