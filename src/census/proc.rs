//! The sockets of this network namespace as /proc/net/tcp and its like list them, for where netlink is refused.
//!
//! Two things these files do not say: which sockets are bound and neither listen nor connect, and whether `::` takes
//! IPv4.

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Entry, Transport};

/// Shows every socket of the transport to `each`, IPv4 and IPv6, until that has enough.
///
/// # Errors
///
/// As open(2) and read(2): ENOENT without /proc.
pub(crate) fn list(transport: Transport, buffer: &mut [u8], each: &mut dyn FnMut(&Entry) -> bool) -> io::Result<()> {
    // Not /proc/net, which is that of the process's first thread: another thread may be in another network namespace.
    let (ipv4, ipv6) = match transport {
        Transport::Tcp => ("/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"),
        Transport::Udp => ("/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"),
    };
    if !read_sockets(File::open(ipv4)?, buffer, each)? {
        return Ok(());
    }
    match File::open(ipv6) {
        Ok(file) => read_sockets(file, buffer, each).map(|_| ()),
        // A kernel without IPv6.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Reads a file of whole lines, the first of which is a heading. False when `each` has had enough.
///
/// # Errors
///
/// As read(2); EBADMSG for a line longer than the buffer.
fn read_sockets(mut file: impl Read, buffer: &mut [u8], each: &mut dyn FnMut(&Entry) -> bool) -> io::Result<bool> {
    let mut kept = 0;
    loop {
        let length = match file.read(&mut buffer[kept..]) {
            Ok(0) => return Ok(true),
            Ok(length) => kept + length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let whole = buffer[..length].iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        // The heading is no socket.
        if !buffer[..whole].split(|&byte| byte == b'\n').filter_map(parse).all(|entry| each(&entry)) {
            return Ok(false);
        }
        // The kernel ends what it gives with a line; other makers of these files need not.
        buffer.copy_within(whole..length, 0);
        kept = length - whole;
        if kept == buffer.len() {
            return Err(io::Error::from_raw_os_error(libc::EBADMSG));
        }
    }
}

/// What one line says: `sl local_address rem_address st tx_queue:rx_queue tr:tm->when ...`, all in hexadecimal.
fn parse(line: &[u8]) -> Option<Entry> {
    let mut words = line.split(|&byte| byte == b' ').filter(|word| !word.is_empty()).skip(1);
    let (local, remote) = (socket_address(words.next()?)?, socket_address(words.next()?)?);
    let state = hexadecimal(words.next()?)?;
    let (_timer, clock_ticks) = split_at_colon(words.nth(1)?)?;
    Some(Entry {
        local,
        remote,
        interface: 0,
        only_v6: false,
        state: u8::try_from(state).ok()?,
        // USER_HZ, which is 100 on every machine Rust's std is made for.
        milliseconds_left: hexadecimal(clock_ticks)?.saturating_mul(10),
        // After retrnsmt, uid and timeout.
        inode: words.nth(3).and_then(|word| std::str::from_utf8(word).ok()?.parse().ok()).unwrap_or(0),
    })
}

fn socket_address(word: &[u8]) -> Option<SocketAddr> {
    let (address, port) = split_at_colon(word)?;
    Some(SocketAddr::new(ip_address(address)?, u16::try_from(hexadecimal(port)?).ok()?))
}

/// An address in network order, printed as one number, or four, of the machine's order.
fn ip_address(digits: &[u8]) -> Option<IpAddr> {
    let mut bytes = [0; 16];
    for (to, word) in bytes.chunks_exact_mut(4).zip(digits.chunks(8)) {
        to.copy_from_slice(&hexadecimal(word)?.to_ne_bytes());
    }
    match digits.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))),
        32 => Some(IpAddr::V6(Ipv6Addr::from(bytes))),
        _ => None,
    }
}

fn split_at_colon(word: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = word.iter().position(|&byte| byte == b':')?;
    Some((&word[..colon], &word[colon + 1..]))
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn a_line_is_what_the_kernel_prints() {
        let line =
            b"   6: 0100007F:9C46 0100007F:9C40 06 00000000:00000000 03:00001764 00000000     0        0 0 3 0000";
        let entry = parse(line).unwrap();
        assert_eq!((entry.local, entry.remote.port()), ("127.0.0.1:40006".parse().unwrap(), 40_000));
        assert_eq!((entry.state, entry.milliseconds_left, entry.inode), (6, 59_880, 0));
        let line = b"   0: B80D0120000000000000000001000000:9C41 00000000000000000000000000000000:0000 0A \
            00000000:00000000 00:00000000 00000000     0        0 894623 1 0000000000000000 100 0 0 10 0";
        let entry = parse(line).unwrap();
        assert_eq!(entry.local, "[2001:db8::1]:40001".parse().unwrap());
        assert_eq!((entry.state, entry.milliseconds_left, entry.inode), (10, 0, 894_623));
    }

    #[test]
    fn lines_may_come_in_pieces_of_any_length() {
        let line = |port: u16, state: u8| {
            format!("   0: 0100007F:{port:04X} 0100007F:0016 {state:02X} 00000000:00000000 00:00000000 00000000 0\n")
        };
        let sockets = [(40_000, 10), (40_001, 1), (40_002, 10), (39_999, 10), (40_003, 6)];
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
            .to_owned()
            + &sockets.map(|(port, state)| line(port, state)).concat();
        for size in 128..=text.len() {
            let mut states = Vec::new();
            let mut each = |entry: &Entry| {
                states.push((entry.local.port(), entry.state));
                true
            };
            assert!(read_sockets(text.as_bytes(), &mut vec![0; size], &mut each).unwrap());
            assert_eq!(states, sockets, "{size} bytes at a time");
        }
        let too_long = read_sockets(&[b'x'; 65][..], &mut [0; 64], &mut |_| true);
        assert_eq!(too_long.unwrap_err().raw_os_error(), Some(libc::EBADMSG));
    }

    proptest! {
        #[test]
        fn no_line_makes_the_reader_panic(line in "[0-9A-F: ]{0,80}") {
            let _ = parse(line.as_bytes());
        }
    }
}
