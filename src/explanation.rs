//! Who holds the ports that a call did not get: a census after the failure, and one line that says both.

use std::fmt;
use std::net::Ipv6Addr;

use crate::attempts::Purpose;
use crate::census::{self, Census, Transport};
use crate::port_range::Ports;
use crate::{Attempts, Error};

impl Attempts {
    /// Who holds the ports that were in use. None where none was, where not all were asked for, or where that cannot be
    /// seen.
    pub(crate) fn holders(&self) -> Option<Census> {
        let range = self.range.filter(|_| self.in_use > 0 && self.usable == Some(self.tried))?;
        let ports = if self.named { Ports::exactly(range) } else { Ports::not_reserved(range).ok()? };
        let transport = if self.purpose == Purpose::Datagrams { Transport::Udp } else { Transport::Tcp };
        let address = self.address.filter(|address| address.ip() != Ipv6Addr::UNSPECIFIED);
        census::take(transport, address, &ports).ok()
    }
}

impl Error {
    /// The error as one line that says who holds the ports, such as `no port to listen on in 40000-40063: 64 tried, 64
    /// in use: 50 in TIME_WAIT without SO_REUSEADDR (the next is free in 3 s, all in 41 s), 12 connections, 2
    /// listeners`.
    ///
    /// The census should have been taken right after the call, with its options.
    pub fn explained_by<'a>(&'a self, census: &'a Census) -> impl fmt::Display + 'a {
        Explained(self, census)
    }
}

struct Explained<'a>(&'a Error, &'a Census);

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(error, Census { holders, .. }) = self;
        let attempts = error.attempts();
        write!(f, "{error}")?;
        if !error.is_no_port() || attempts.in_use == 0 {
            return Ok(());
        }
        if attempts.purpose == Purpose::Connect {
            // Ports with a connection to this destination are among the holders, and can be used towards others.
            let refused = attempts.in_use.saturating_sub(holders.listening);
            if refused > 0 {
                write!(f, "; {refused} held without SO_REUSEADDR")?;
            }
            if holders.total() > 0 {
                f.write_str("; held: ")?;
            }
            return holders.describe(0, "", f);
        }
        // Right behind "64 in use", or after what else there was.
        f.write_str(if attempts.in_use == attempts.tried { ": " } else { "; in use: " })?;
        // The call has asked for these ports with SO_REUSEADDR. Had they it too, one of them would have been taken.
        holders.describe(attempts.in_use.saturating_sub(holders.total()), " without SO_REUSEADDR", f)
    }
}
