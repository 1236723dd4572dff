//! Why an IPv6 address of this host cannot be bound. Asked only when a call has failed.

use std::fmt;
use std::fs::File;
use std::net::{Ipv6Addr, SocketAddr};

use crate::proc_net_tcp::read_lines;
use crate::sys::{self, InterfaceName};

/// An address that bind() did not take for one of this host's (EADDRNOTAVAIL).
#[derive(Debug)]
pub(crate) struct Absent {
    address: SocketAddr,
    /// The interface the caller named with it.
    interface: Option<InterfaceName>,
    seen: Option<Seen>,
}

/// What the host has to do with the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// Whether another host has it is still being found out.
    Tentative,
    /// Another host has it.
    Duplicate,
    /// Another interface has it.
    On(InterfaceName),
}

impl Absent {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, interface: None, seen: None }
    }

    /// Looks it up among the host's addresses. It takes a descriptor; without one less is said.
    pub(crate) fn look_up(&mut self) {
        let SocketAddr::V6(address) = self.address else {
            return;
        };
        self.interface = sys::interface_name(address.scope_id());
        // Not /proc/net, which is that of the process's first thread: another thread may be in another network
        // namespace.
        let Ok(file) = File::open("/proc/thread-self/net/if_inet6") else {
            return;
        };
        let mut found = None;
        let mut buffer = [0; 1024];
        let read = read_lines(file, &mut buffer, |lines| {
            let here = lines.split(|&byte| byte == b'\n').filter_map(Line::parse);
            for line in here.filter(|line| line.address == *address.ip()) {
                let on_another = address.scope_id() != 0 && line.index != address.scope_id();
                match line.problem() {
                    None if on_another => found = found.or(Some(Seen::On(line.interface))),
                    Some(problem) if !on_another => found = Some(problem),
                    _ => {}
                }
            }
            true
        });
        if read.is_ok() {
            self.seen = found;
        }
    }
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = self.address.ip();
        write!(f, "{ip}")?;
        match (self.interface, self.address) {
            (Some(interface), _) => write!(f, "%{interface}")?,
            (None, SocketAddr::V6(address)) if address.scope_id() != 0 => write!(f, "%{}", address.scope_id())?,
            _ => {}
        }
        match self.seen {
            None => f.write_str(" is not an address of this host"),
            Some(Seen::On(interface)) => write!(f, " is not an address of this host, but {ip}%{interface} is"),
            Some(Seen::Tentative) => f.write_str(" is still tentative: duplicate address detection has not ended"),
            Some(Seen::Duplicate) => f.write_str(" is a duplicate: another host has it"),
        }
    }
}

/// A line of /proc/net/if_inet6: address, index of the interface, prefix length, scope, flags, name of the interface;
/// all numbers in hexadecimal (`if6_seq_show`).
struct Line {
    address: Ipv6Addr,
    index: u32,
    flags: u32,
    interface: InterfaceName,
}

impl Line {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
        let address = Ipv6Addr::from(u128::from_str_radix(words.next()?, 16).ok()?);
        let index = u32::from_str_radix(words.next()?, 16).ok()?;
        let flags = u32::from_str_radix(words.nth(2)?, 16).ok()?;
        Some(Self { address, index, flags, interface: InterfaceName::new(words.next()?.as_bytes())? })
    }

    fn problem(&self) -> Option<Seen> {
        if self.flags & libc::IFA_F_DADFAILED != 0 {
            Some(Seen::Duplicate)
        } else if self.flags & libc::IFA_F_TENTATIVE != 0 {
            Some(Seen::Tentative)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_the_kernel_prints() {
        let line = Line::parse(b"fe80000000000000000000000000012a 02 40 20 80     eth0").unwrap();
        assert_eq!((line.address, line.index), ("fe80::12a".parse().unwrap(), 2));
        assert_eq!((line.interface.to_string(), line.problem()), ("eth0".to_owned(), None));
        let with_flags = |flags: &str| {
            let line = format!("00000000000000000000000000000001 01 80 10 {flags} lo");
            Line::parse(line.as_bytes()).unwrap().problem()
        };
        assert_eq!(with_flags("c0"), Some(Seen::Tentative));
        assert_eq!(with_flags("c8"), Some(Seen::Duplicate));
    }

    #[test]
    fn anything_else_is_no_line() {
        for line in ["", "x", "1", "1 02 40 20", "1 02 40 20 80", "1 02 40 20 80 interface.of.16.c", "g 2 40 20 80 lo"]
        {
            assert!(Line::parse(line.as_bytes()).is_none(), "{line}");
        }
    }
}
