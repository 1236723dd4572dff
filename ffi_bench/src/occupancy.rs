//! Fills the port range: with listeners and connections that helper processes hold, and with connections in TIME_WAIT.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use socket2::{Domain, Socket, Type};

use crate::namespace::{self, DEFAULT_PORTS, DEFAULT_RANGE};
use crate::processes::Holders;

/// Has these ports held on the wildcard, TCP ports by listeners with SO_REUSEADDR.
pub fn held(socket_type: Type, ports: &[u16]) -> io::Result<Holders> {
    let reuse = socket_type == Type::STREAM;
    Holders::start(ports.len(), |index| wildcard_socket(socket_type, ports[index], reuse))?.wait()
}

/// A socket on the IPv6 wildcard that takes IPv4 too. A stream socket listens.
fn wildcard_socket(socket_type: Type, port: u16, reuse: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, socket_type, None)?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(reuse)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    if socket_type == Type::STREAM {
        socket.listen(128)?;
    }
    Ok(socket)
}

/// All ports of the default range in a random order, the same in every run.
pub fn at_random() -> Vec<u16> {
    let mut ports: Vec<u16> = DEFAULT_RANGE.collect();
    fastrand::Rng::with_seed(1).shuffle(&mut ports);
    ports
}

/// So many ports of the range in an order in which SO_REUSEADDR + bind(0) takes them, as `inet_csk_find_open_port` has
/// it, while nobody closes anything. The kernel itself needs minutes for it; [`kernel_picks_like`] asks it.
///
/// It starts at a random odd offset of the range's lower half, goes up in steps of two and round, then over the even
/// offsets, and only then looks at the upper half.
pub fn as_bind_0_would(range: std::ops::RangeInclusive<u16>, count: usize) -> Vec<u16> {
    let ports = range.len();
    let half = (ports >> 2) << 1;
    let mut random = fastrand::Rng::with_seed(1);
    let mut held = vec![false; ports];
    (0..count)
        .map_while(|_| {
            let offset = [0..half, half..ports].into_iter().find_map(|part| {
                let remaining = part.len() & !1;
                let odd = random.usize(..remaining) | 1;
                [odd, odd - 1].into_iter().find_map(|first| {
                    (0..remaining)
                        .step_by(2)
                        .map(|step| part.start + (first + step) % remaining)
                        .find(|&offset| !held[offset])
                })
            })?;
            held[offset] = true;
            Some(range.start() + offset as u16)
        })
        .collect()
}

/// Whether the kernel, too, picks in the part of the range where [`as_bind_0_would`] has the next ports: the lower half's
/// odd offsets, its even ones, and so on.
pub fn kernel_picks_like(next: &[u16]) -> io::Result<bool> {
    const PICKS: usize = 20;
    let part = |port: u16| {
        let offset = usize::from(port - DEFAULT_RANGE.start());
        (offset >= DEFAULT_PORTS / 2, offset % 2 == 0)
    };
    let expected: HashSet<_> = next.iter().take(PICKS).map(|&port| part(port)).collect();
    let picked: io::Result<Vec<Socket>> = (0..PICKS).map(|_| wildcard_socket(Type::STREAM, 0, true)).collect();
    let port_of = |socket: &Socket| Ok(socket.local_addr()?.as_socket().map_or(0, |address| address.port()));
    let picked: io::Result<HashSet<_>> = picked?.iter().map(|socket| port_of(socket).map(part)).collect();
    Ok(picked?.is_subset(&expected))
}

/// The connecting side's ports, one after the other; outside the range, and in use for microseconds only.
const CLIENT_PORTS: std::ops::Range<u16> = 1024..21024;

/// Leaves these ports in TIME_WAIT, by a listener whose side closes first.
///
/// With `reuse` the listeners have SO_REUSEADDR, and the TIME_WAITs can be taken by who sets it too.
pub fn leave_in_time_wait(ports: &[u16], reuse: bool) -> io::Result<()> {
    namespace::allow_time_wait()?;
    for (&port, client_port) in ports.iter().zip(CLIENT_PORTS.cycle()) {
        let listener = wildcard_socket(Type::STREAM, port, reuse)?;
        let client = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // The port's connection before this one is closed, but the kernel may not have finished with it.
        client.set_reuse_address(true)?;
        client.bind(&loopback(client_port).into())?;
        client.connect(&loopback(port).into())?;
        let (accepted, _) = listener.accept()?;
        drop(accepted);
        drop(client);
    }
    are_in_time_wait(ports.len())
}

/// An error unless so many ports of the range have a connection in TIME_WAIT, by /proc/net/tcp and tcp6. It lasts 60 s.
pub fn are_in_time_wait(expected: usize) -> io::Result<()> {
    const TIME_WAIT: &str = "06";
    let mut ports = HashSet::new();
    for file in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        for line in fs::read_to_string(file)?.lines().skip(1) {
            let mut columns = line.split_whitespace().skip(1);
            let local = columns.next().and_then(|address| address.rsplit(':').next());
            let state = columns.nth(1);
            if let Some(Ok(port)) = local.map(|port| u16::from_str_radix(port, 16))
                && state == Some(TIME_WAIT)
                && DEFAULT_RANGE.contains(&port)
            {
                ports.insert(port);
            }
        }
    }
    match ports.len() {
        found if found == expected => Ok(()),
        found => Err(io::Error::other(format!("{found} ports are in TIME_WAIT, instead of {expected}"))),
    }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A server on the loopback address, to which nobody has a connection or some ports of the range have one each.
pub struct Server {
    listener: Socket,
    _connections: [Holders; 2],
}

impl Server {
    /// The connections have ports that connect() chose, and SO_REUSEADDR.
    pub fn with_connections(port: u16, from: &[u16]) -> io::Result<Self> {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        listener.set_reuse_address(true)?;
        listener.bind(&loopback(port).into())?;
        listener.listen(4096)?;
        let accepted = Holders::start(from.len(), |_| Ok(listener.accept()?.0))?;
        let connected = Holders::start(from.len(), |index| {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            client.set_reuse_address(true)?;
            confine(&client, from[index])?;
            client.connect(&loopback(port).into())?;
            Ok(client)
        })?;
        let _connections = [accepted.wait()?, connected.wait()?];
        listener.set_nonblocking(true)?;
        Ok(Self { listener, _connections })
    }

    /// Takes the connections that have been made and reset since the last time, and closes them. Nobody does while calls
    /// are made: a SYN that meets a socket of the same 4-tuple while a process has it is lost, and comes again a second
    /// later.
    pub fn clear(&self) {
        while self.listener.accept().is_ok() {}
    }
}

/// Has connect() choose this port: IP_LOCAL_PORT_RANGE, Linux 6.3.
fn confine(socket: &Socket, port: u16) -> io::Result<()> {
    const IP_LOCAL_PORT_RANGE: libc::c_int = 51;
    let range = u32::from(port) << 16 | u32::from(port);
    // SAFETY: the option's value is the u32 that lives through the call.
    let outcome = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE, (&raw const range).cast(), 4)
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
