//! What one call tried, for its report.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use crate::port_range::Ports;

/// The address family of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// AF_INET: takes IPv4 only.
    Ipv4,
    /// AF_INET6: on the wildcard, and on IPv4-mapped addresses, takes IPv4 as well.
    Ipv6,
}

impl Family {
    pub(crate) fn of(address: &SocketAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }
}

/// How a port was won.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortOrigin {
    /// Nobody held it.
    Free,
    /// Taken with SO_REUSEADDR: it may have been in TIME_WAIT, under outgoing connections, or bound by somebody who was
    /// not listening. (Or free: when free ports are rare, free and shareable ones are taken alike.)
    Reused,
    /// The kernel picked it, because the host's range cannot be read from /proc/sys.
    PickedByKernel,
}

/// The ports one call tried: in use, forbidden, lost to others (some of them more than once), and won.
#[derive(Clone, Debug, Default)]
pub struct Attempts {
    family: Option<Family>,
    ports: Option<(u16, u16)>,
    usable: u32,
    /// The port that was looked at last was not refused: it was won, or something else went wrong on it.
    pub(crate) got_through: bool,
    pub(crate) tried: u32,
    pub(crate) forbidden: u32,
    pub(crate) listens_lost: u32,
    /// Ports of lost listens, each counted once.
    pub(crate) ports_lost: u32,
}

impl Attempts {
    pub(crate) fn on(family: Family, ports: Option<&Ports>) -> Self {
        Self {
            family: Some(family),
            ports: ports.map(|ports| (ports.min(), ports.max())),
            usable: ports.map_or(u32::MAX, Ports::usable),
            ..Self::default()
        }
    }

    /// Counts a port, unless all of them have been looked at already and this is the second look at one. Says which.
    pub(crate) fn look_at_a_port(&mut self) -> bool {
        let first_look = self.tried < self.usable;
        self.tried += u32::from(first_look);
        first_look
    }

    /// The address family of the last socket that was asked for. None when it did not come to that.
    pub fn family(&self) -> Option<Family> {
        self.family
    }

    /// The range the ports came from: the host's ephemeral range, or the one in the options. None where the range could
    /// not be read and the kernel picked.
    pub fn range(&self) -> Option<RangeInclusive<u16>> {
        self.ports.map(|(min, max)| min..=max)
    }

    /// How many ports were looked at, each counted once, the one that was won included.
    pub fn tried(&self) -> u32 {
        self.tried
    }

    /// How many were in use (bind() said EADDRINUSE).
    pub fn in_use(&self) -> u32 {
        self.tried.saturating_sub(self.forbidden + self.ports_lost + u32::from(self.got_through))
    }

    /// How many were refused for want of privilege (bind() said EACCES or EPERM).
    pub fn forbidden(&self) -> u32 {
        self.forbidden
    }

    /// How often another socket listened first on a port this call had bound (listen() said EADDRINUSE).
    pub fn listens_lost(&self) -> u32 {
        self.listens_lost
    }

    /// Why there is no port, in one line.
    pub(crate) fn fmt_no_port(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((min, max)) = self.ports else {
            f.write_str("no port to listen on: the ephemeral port range cannot be read, and the kernel found no port")?;
            return self.fmt_lost(f);
        };
        write!(f, "no port to listen on in {min}-{max}: ")?;
        if self.usable == 0 {
            return f.write_str("all of them are reserved");
        }
        write!(f, "{} tried", self.tried)?;
        if self.in_use() > 0 {
            write!(f, ", {} in use", self.in_use())?;
        }
        if self.forbidden > 0 {
            write!(f, ", {} not permitted", self.forbidden)?;
        }
        self.fmt_lost(f)
    }

    fn fmt_lost(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ports, listens) = (self.ports_lost, self.listens_lost);
        if ports > 0 {
            write!(f, ", {ports} lost to another listener")?;
        }
        if listens > ports { write!(f, " ({listens} times)") } else { Ok(()) }
    }
}
