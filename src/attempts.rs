//! What one call tried, for its report.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use crate::error::Words;
use crate::port_range::{Ports, Range, Unreadable};

/// Where the port came from.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortOrigin {
    /// The call failed.
    None = 0,
    /// No socket held it.
    Free = 1,
    /// It was taken with SO_REUSEADDR: it was in TIME_WAIT, under outgoing connections, or bound by a socket that did
    /// not listen. (Or it was free: where free ports are rare, free and shared ones are taken alike.)
    Reused = 2,
    /// The plain system call of ic_listener_bind(), ic_listener_listen() or ic_listener_connect() succeeded, also on a
    /// port that you named; or the port range cannot be read from /proc/sys, and the kernel chose the port.
    PickedByKernel = 3,
    /// ic_listener_bind() succeeded without a port yet. ic_listener_listen(), ic_listener_connect() or
    /// ic_listener_getsockname() will choose one that can be shared.
    Deferred = 4,
}

/// What a port is wanted for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Purpose {
    #[default]
    Listen,
    Datagrams,
    Connect,
}

/// What became of a port that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The socket has it.
    Ours,
    /// bind() said EADDRINUSE.
    InUse,
    /// bind() said EACCES or EPERM.
    Forbidden,
    /// Another caller is about to take it.
    Claimed,
    /// Another socket listened first.
    Lost,
    /// It has a connection to this destination.
    Connected,
}

/// The ports that one call tried.
///
/// As soon as a call has to name every port of the range, its numbers are those of that one pass; before it, they are
/// those of the searches in parts of the range.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Attempts {
    /// How many ports were tried, the one that was won included.
    pub tried: u32,
    /// How many were in use (bind() said EADDRINUSE).
    pub in_use: u32,
    /// How many are forbidden (bind() said EACCES or EPERM).
    pub forbidden: u32,
    /// How often another socket listened first on a port this call had bound (listen() said EADDRINUSE).
    pub listens_lost: u32,
    /// How many ports have a connection to the same destination.
    pub connections_taken: u32,
    claimed: u32,
    pub(crate) purpose: Purpose,
    /// The last address that was tried; of a connection, its source.
    pub(crate) address: Option<SocketAddr>,
    pub(crate) range: Option<Range>,
    pub(crate) usable: Option<u32>,
    /// The caller named the range, reserved ports included.
    pub(crate) named: bool,
    unreadable: Option<Unreadable>,
}

impl Attempts {
    pub(crate) fn on(purpose: Purpose, address: &SocketAddr) -> Self {
        Self { purpose, address: Some(*address), ..Self::default() }
    }

    /// What was read. None, and a note of the file, when it cannot be.
    pub(crate) fn noting<T>(&mut self, read: Result<T, Unreadable>) -> Option<T> {
        read.map_err(|unreadable| self.unreadable = Some(unreadable)).ok()
    }

    /// From here on each of these ports is asked for, once.
    pub(crate) fn begin_pass(&mut self, ports: &Ports) {
        self.range = Some(ports.range());
        self.usable = Some(ports.usable());
        (self.tried, self.in_use, self.forbidden, self.claimed, self.connections_taken) = (0, 0, 0, 0, 0);
    }

    /// Counts a port that was asked for the first time.
    pub(crate) fn count(&mut self, answer: Answer) {
        self.tried += 1;
        match answer {
            Answer::Ours => {}
            Answer::InUse => self.in_use += 1,
            Answer::Forbidden => self.forbidden += 1,
            Answer::Claimed => self.claimed += 1,
            Answer::Lost => self.listens_lost += 1,
            Answer::Connected => self.connections_taken += 1,
        }
    }

    /// Counts a window in which the kernel found no port, unless the pass over single ports has begun.
    pub(crate) fn count_window(&mut self, ports: u32) {
        if self.usable.is_none() {
            self.tried += ports;
            self.in_use += ports;
        }
    }

    /// The kernel has found none of these ports.
    pub(crate) fn count_all(&mut self, ports: &Ports, answer: Answer) {
        self.begin_pass(ports);
        self.tried = ports.usable();
        match answer {
            Answer::Forbidden => self.forbidden = self.tried,
            _ => self.in_use = self.tried,
        }
    }

    /// Whether privilege is all that was missing.
    pub(crate) fn all_forbidden(&self) -> bool {
        self.tried > 0 && self.forbidden == self.tried
    }

    /// Whether each port of the host's range was asked for, and forbidden, and none was bound by way of port 0 either.
    pub(crate) fn host_range_is_forbidden(&self) -> bool {
        !self.named && self.usable == Some(self.tried) && self.all_forbidden() && self.listens_lost == 0
    }

    /// The range the ports came from: the host's ephemeral range, or the one in the options. None when the host's range
    /// was not read: a call that succeeds at once does not need it.
    pub fn range(&self) -> Option<RangeInclusive<u16>> {
        self.range.map(|range| range.min()..=range.max())
    }

    /// How many ports of the range the host reserves, if it was read.
    pub fn reserved(&self) -> u32 {
        self.range.zip(self.usable).map_or(0, |(range, usable)| range.span() - usable)
    }
}

/// Why there is no port, in one line.
impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.purpose {
            Purpose::Listen => "no port to listen on",
            Purpose::Datagrams => "no UDP port",
            Purpose::Connect => "no port to connect from",
        })?;
        if let Some(Unreadable { file, errno }) = self.unreadable {
            write!(f, ": {file} cannot be read (")?;
            match errno {
                0 => f.write_str("hidden")?,
                errno => write!(f, "{}", Words(&io::Error::from_raw_os_error(errno)))?,
            }
            f.write_str("), and the kernel found no port")?;
        } else if let Some(range) = self.range {
            write!(f, " in {}-{}", range.min(), range.max())?;
            if self.usable == Some(0) {
                return f.write_str(": all of them are reserved");
            }
            write!(f, ": {} tried", self.tried)?;
        } else {
            return f.write_str(" in the ephemeral port range");
        }
        for (count, what) in [
            (self.in_use, "in use"),
            (self.forbidden, "forbidden"),
            (self.claimed, "being taken by others"),
            (self.listens_lost, "lost to another listener"),
            (self.connections_taken, "connected to the same destination already"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}
