//! The structs of the C ABI. Each begins with its size, and none has a hole.

use std::ffi::{c_char, c_int};
use std::fmt;
use std::net::SocketAddr;
use std::ptr;
use std::time::Duration;

use crate::text::Text;
use crate::{Attempts, Census, CensusSource, Error, PortOrigin, Step};

/// The size of the message in a report or census, its terminating NUL included.
pub const IC_LISTENER_MESSAGE_SIZE: usize = 256;

/// A struct said to be larger than this was not initialized, as the kernel has it (copy_struct_from_user).
pub(super) const LARGEST_STRUCT: u32 = 4096;

/// What a listener should be like. Start from IC_LISTENER_OPTIONS_INIT, which has the defaults. The library only reads
/// it, and keeps no pointer to it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct IcListenerOptions {
    /// sizeof(IcListenerOptions), as IC_LISTENER_OPTIONS_INIT sets it. Later versions add members at the end. A newer
    /// library takes the defaults for members that the caller does not have. An older one fails with EINVAL if a member
    /// that it does not know is not zero.
    pub size: u32,
    /// The backlog for listen(2), which limits it to net.core.somaxconn. 0 means 128. UDP does not use it.
    pub backlog: i32,
    /// A numeric address of this host: IPv4 ("192.0.2.1"), IPv6 ("2001:db8::1"), IPv4-mapped ("::ffff:192.0.2.1"), or
    /// link-local IPv6 with its interface as a name or an index ("fe80::1%eth0", "fe80::1%2"). Names are not resolved.
    /// NULL is the wildcard: one IPv6 socket that takes IPv4 too, or an IPv4 socket on a host without IPv6.
    ///
    /// No other socket can listen on the port of that address. Others may bind the port on other addresses. Two sockets
    /// with SO_REUSEPORT can bind the port on the wildcard; connections to this address still reach this socket. With
    /// "0.0.0.0" and "::ffff:0.0.0.0" others may bind the port on IPv6, and Linux lets another user take IPv4
    /// connections there, by two sockets with SO_REUSEPORT. NULL, "::" and unicast addresses are safe from that.
    pub address: *const c_char,
    /// The lowest port that may be used, 1 to 65535. Set both ends of the range or neither. All ports of the range are
    /// used, also those that the host reserves. 0 and 0 mean the host's ephemeral port range
    /// (net.ipv4.ip_local_port_range) without its reserved ports (net.ipv4.ip_local_reserved_ports), as the calling
    /// thread's network namespace has them.
    pub port_min: i32,
    /// The highest port that may be used.
    pub port_max: i32,
}

/// Who holds the ports of a range. Each port counts once, by its strongest holder, in the order of the members: a port
/// with a listener and its connections counts as listening. IPv4 and IPv6 on one port are one holder. In the report of
/// ic_listener_open_udp() the holders are UDP sockets, bound or connected.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IcListenerHolders {
    /// Where the numbers come from: an IcListenerCensusSource. With IC_LISTENER_CENSUS_SOURCE_NONE all are 0.
    pub source: i32,
    /// 1 if all holders were counted. 0 if half a second of CPU time was not enough.
    pub complete: i32,
    /// Ports with a listener (LISTEN).
    pub listening: u32,
    /// Ports with a bound socket that neither listens nor connects.
    pub bound: u32,
    /// Ports with a connection that is open or being made (SYN_SENT, SYN_RECV, ESTABLISHED, CLOSE_WAIT).
    pub connected: u32,
    /// Ports with a connection that its program has closed and its peer has not (FIN_WAIT1, FIN_WAIT2, CLOSING,
    /// LAST_ACK).
    pub closing: u32,
    /// Ports in TIME_WAIT: no program has them, and the kernel keeps them for up to 60 seconds. Those whose socket had
    /// SO_REUSEADDR can be listened on; Linux does not show which. After a call that failed they are those without it.
    pub time_wait: u32,
    /// Ports without a holder that can be seen. In a census they are free, or bound where the source does not show it
    /// (before Linux 6.8), or their connection went on to FIN_WAIT2 or TIME_WAIT at that moment. After a call that
    /// failed they are in use.
    pub unseen: u32,
    /// Seconds until the first port in TIME_WAIT is free, rounded up; 0 when there is none.
    pub time_wait_next_s: u32,
    /// Seconds until all ports in TIME_WAIT are free, rounded up; 0 when there is none.
    pub time_wait_last_s: u32,
}

/// What a call did. Start from IC_LISTENER_REPORT_INIT. The call fills it on success and on failure.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct IcListenerReport {
    /// sizeof(IcListenerReport), as IC_LISTENER_REPORT_INIT sets it. Later versions add members at the end. The library
    /// fills what the caller has, and zeroes what it does not know itself. A size below that of version 0.1.0, or above
    /// 4096, makes the call fail with EINVAL, and the report stays as it was.
    pub size: u32,
    /// The errno of the failure; 0 on success.
    pub error: i32,
    /// The step that failed, an IcListenerStep; ic_listener_step_name() has its name.
    pub step: i32,
    /// AF_INET6 or AF_INET: the family of the socket, or of the last one that was tried. 0 when there was none.
    pub family: i32,
    /// Where the port came from: an IcListenerPortOrigin.
    pub origin: i32,
    /// The port that ic_listener_open_tcp() or ic_listener_open_udp() gave; else 0.
    pub port: i32,
    /// The lowest port of the range. 0 when the range was not read: a call that succeeds at once does not need it, and
    /// where it cannot be read the kernel picks a port.
    pub port_min: i32,
    /// The highest port of the range, or 0.
    pub port_max: i32,
    /// How many ports were tried, with the one that was won. After a pass over the whole range each port counts once.
    pub ports_tried: u32,
    /// How many of them were in use (bind: EADDRINUSE).
    pub ports_in_use: u32,
    /// How many of them are forbidden (bind: EACCES or EPERM).
    pub ports_forbidden: u32,
    /// How many ports of the range the host reserves. They were passed over. 0 when the range was not read.
    pub ports_reserved: u32,
    /// How often another socket listened first on a port that this call had bound (listen: EADDRINUSE).
    pub listens_lost: u32,
    /// How many of the tried ports have a connection to the destination of ic_listener_connect().
    pub connections_taken: u32,
    /// Who holds the ports. A call that fails after it has asked for every port of the range counts them. All 0
    /// otherwise.
    pub holders: IcListenerHolders,
    /// How long the call took, in nanoseconds, with the counting of the holders.
    pub elapsed_ns: u64,
    /// One line in English, NUL-terminated, without a newline, fit for errdetail(): how the call succeeded, or why it
    /// failed, such as "no port to listen on in 40000-40063: 64 tried, 64 in use: 50 in TIME_WAIT without SO_REUSEADDR
    /// (the next is free in 3 s, all in 41 s), 12 connections, 2 listeners". The wording may change: decide by error
    /// and step.
    pub message: [c_char; IC_LISTENER_MESSAGE_SIZE],
}

/// Who holds the ports of a range. Start from IC_LISTENER_CENSUS_INIT. ic_listener_census() fills it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct IcListenerCensus {
    /// sizeof(IcListenerCensus), as IC_LISTENER_CENSUS_INIT sets it. Later versions add members at the end; those that
    /// this library does not know become 0. A size below that of version 0.1.0, or above 4096, makes the call fail with
    /// EINVAL, and the census stays as it was.
    pub size: u32,
    /// The errno of the failure; 0 on success.
    pub error: i32,
    /// The lowest port of the range.
    pub port_min: i32,
    /// The highest port of the range.
    pub port_max: i32,
    /// How many ports the range has, without those that the host reserves.
    pub ports: u32,
    /// How many the host reserves.
    pub ports_reserved: u32,
    /// Who holds them.
    pub holders: IcListenerHolders,
    /// How long the census took, in nanoseconds.
    pub elapsed_ns: u64,
    /// One line in English, NUL-terminated, without a newline, such as "64 ports in 40000-40063: 50 in TIME_WAIT (the
    /// next is free in 3 s, all in 41 s), 12 connections, 2 listeners, 0 without a holder"; or why the call failed. The
    /// wording may change.
    pub message: [c_char; IC_LISTENER_MESSAGE_SIZE],
}

/// The sizes of the structs in version 0.1.0, below which no caller's is.
pub(super) const OPTIONS_SIZE_0_1: u32 = 2 * 4 + size_of::<*const c_char>() as u32 + 2 * 4;
pub(super) const REPORT_SIZE_0_1: u32 = 360;
pub(super) const CENSUS_SIZE_0_1: u32 = 328;

/// Reads a struct that begins with its size, from a caller that may be older or newer than this library, as the
/// kernel's copy_struct_from_user() does it: what the caller does not have is zero, what the library does not know must
/// be.
///
/// # Safety
///
/// `from` points to a struct that begins with its size, which is at least `least` or is really there to be read. Zeros
/// are a valid T.
pub(super) unsafe fn read_sized<T>(from: *const T, least: u32) -> Option<T> {
    // SAFETY: the caller's promise for the size.
    let size = unsafe { from.cast::<u32>().read() };
    if !(least..=LARGEST_STRUCT).contains(&size) {
        return None;
    }
    let (size, known) = (size as usize, (size as usize).min(size_of::<T>()));
    // SAFETY: size bytes can be read, the caller says, and as many of them as T has can be written.
    unsafe {
        let unknown = std::slice::from_raw_parts(from.cast::<u8>().add(known), size - known);
        if unknown.iter().any(|&byte| byte != 0) {
            return None;
        }
        let mut known_part = std::mem::zeroed::<T>();
        ptr::copy_nonoverlapping(from.cast::<u8>(), ptr::from_mut(&mut known_part).cast::<u8>(), known);
        Some(known_part)
    }
}

/// Fills as much of a struct that begins with its size as its owner has, and zeroes what this library does not know.
///
/// # Safety
///
/// `to` points to `size` bytes that can be written, a u32 at least.
pub(super) unsafe fn write_sized<T>(from: &T, to: *mut T, size: u32) {
    let known = (size as usize).min(size_of::<T>());
    // SAFETY: the caller's promise; known is no more than either has.
    unsafe {
        ptr::copy_nonoverlapping(ptr::from_ref(from).cast::<u8>(), to.cast::<u8>(), known);
        to.cast::<u8>().add(known).write_bytes(0, size as usize - known);
        to.cast::<u32>().write(size);
    }
}

impl IcListenerHolders {
    fn of(census: &Census, unseen: u32) -> Self {
        let holders = census.holders;
        Self {
            source: census.source as i32,
            complete: census.complete.into(),
            listening: holders.listening,
            bound: holders.bound,
            connected: holders.connected,
            closing: holders.closing,
            time_wait: holders.time_wait,
            unseen,
            time_wait_next_s: holders.time_wait_next_s,
            time_wait_last_s: holders.time_wait_last_s,
        }
    }
}

impl IcListenerReport {
    pub(super) fn of_success(origin: PortOrigin, port: Option<u16>, attempts: &Attempts, elapsed: Duration) -> Self {
        let mut report = Self::with_attempts(attempts);
        report.elapsed_ns = nanoseconds(elapsed);
        report.origin = origin as i32;
        report.port = port.unwrap_or(0).into();
        let how = match origin {
            PortOrigin::Deferred => "will be chosen when it is known what it is for",
            PortOrigin::Reused => "was reused",
            PortOrigin::PickedByKernel => "was picked by the kernel",
            PortOrigin::Free | PortOrigin::None => "was free",
        };
        match attempts.tried {
            0 => set_message(&mut report.message, format_args!("the system call needed no help")),
            tried => set_message(&mut report.message, format_args!("the port {how}, {tried} tried")),
        }
        report
    }

    pub(super) fn of_failure(error: &Error, census: Option<&Census>, elapsed: Duration) -> Self {
        let mut report = Self::with_attempts(error.attempts());
        report.error = error.errno();
        report.step = error.step() as i32;
        report.elapsed_ns = nanoseconds(elapsed);
        match census {
            None => set_message(&mut report.message, format_args!("{error}")),
            Some(census) => {
                let unseen = error.attempts().in_use.saturating_sub(census.holders.total());
                report.elapsed_ns = report.elapsed_ns.saturating_add(nanoseconds(census.elapsed));
                report.holders = IcListenerHolders::of(census, unseen);
                set_message(&mut report.message, format_args!("{}", error.explained_by(census)));
            }
        }
        report
    }

    pub(super) fn of_panic(words: &str) -> Self {
        let mut report = Self::with_attempts(&Attempts::default());
        report.error = libc::ENOTRECOVERABLE;
        report.step = Step::Internal as i32;
        set_message(&mut report.message, format_args!("internal error: {words}"));
        report
    }

    fn with_attempts(attempts: &Attempts) -> Self {
        let (port_min, port_max) = attempts.range().map_or((0, 0), |range| (*range.start(), *range.end()));
        Self {
            size: size_of::<Self>() as u32,
            error: 0,
            step: Step::None as i32,
            family: match attempts.address {
                None => libc::AF_UNSPEC,
                Some(SocketAddr::V4(_)) => libc::AF_INET,
                Some(SocketAddr::V6(_)) => libc::AF_INET6,
            },
            origin: PortOrigin::None as i32,
            port: 0,
            port_min: port_min.into(),
            port_max: port_max.into(),
            ports_tried: attempts.tried,
            ports_in_use: attempts.in_use,
            ports_forbidden: attempts.forbidden,
            ports_reserved: attempts.reserved(),
            listens_lost: attempts.listens_lost,
            connections_taken: attempts.connections_taken,
            holders: IcListenerHolders::default(),
            elapsed_ns: 0,
            message: [0; IC_LISTENER_MESSAGE_SIZE],
        }
    }
}

impl IcListenerCensus {
    pub(super) fn of(census: &Census) -> Self {
        let mut filled = Self {
            port_min: (*census.range.start()).into(),
            port_max: (*census.range.end()).into(),
            ports: census.ports,
            ports_reserved: census.reserved,
            holders: IcListenerHolders::of(census, census.unseen()),
            elapsed_ns: nanoseconds(census.elapsed),
            ..Self::of_failure(0, format_args!(""))
        };
        set_message(&mut filled.message, format_args!("{census}"));
        filled
    }

    pub(super) fn of_failure(error: c_int, message: fmt::Arguments<'_>) -> Self {
        let mut filled = Self {
            size: size_of::<Self>() as u32,
            error,
            port_min: 0,
            port_max: 0,
            ports: 0,
            ports_reserved: 0,
            holders: IcListenerHolders { source: CensusSource::None as i32, ..IcListenerHolders::default() },
            elapsed_ns: 0,
            message: [0; IC_LISTENER_MESSAGE_SIZE],
        };
        set_message(&mut filled.message, message);
        filled
    }
}

/// Fills a message that was all zeros, and leaves its last byte so. A line that is too long is cut.
fn set_message(to: &mut [c_char; IC_LISTENER_MESSAGE_SIZE], message: fmt::Arguments<'_>) {
    let text = Text::<{ IC_LISTENER_MESSAGE_SIZE - 1 }>::of(message);
    to.iter_mut().zip(text.as_bytes()).for_each(|(to, &from)| *to = from as c_char);
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_is_too_long_is_cut_and_terminated() {
        let mut message = [0; IC_LISTENER_MESSAGE_SIZE];
        set_message(&mut message, format_args!("{}", "x".repeat(1000)));
        assert!(message[..255].iter().all(|&byte| byte as u8 == b'x') && message[255] == 0);
        // No character is cut in two, and nothing shorter follows.
        message = [0; IC_LISTENER_MESSAGE_SIZE];
        set_message(&mut message, format_args!("{}{}y", "x".repeat(254), "\u{e9}"));
        assert_eq!(message[253..].iter().map(|&byte| byte as u8).collect::<Vec<_>>(), [b'x', 0, 0]);
    }

    #[test]
    fn the_structs_have_the_sizes_of_version_0_1() {
        assert_eq!(size_of::<IcListenerOptions>() as u32, OPTIONS_SIZE_0_1);
        assert_eq!(size_of::<IcListenerReport>() as u32, REPORT_SIZE_0_1);
        assert_eq!(size_of::<IcListenerCensus>() as u32, CENSUS_SIZE_0_1);
    }
}
