//! Fills the port range: with listeners and connections that helper processes hold, and with connections in TIME_WAIT.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd;

use socket2::{Domain, Socket, Type};

use crate::namespace::{self, DEFAULT_PORTS, DEFAULT_RANGE};
use crate::processes::hold;

/// Has these ports held on the wildcard, TCP ports by listeners with SO_REUSEADDR.
pub fn hold_ports(socket_type: Type, ports: &[u16]) -> io::Result<()> {
    let reuse = socket_type == Type::STREAM;
    hold(ports.len(), |index| wildcard_socket(socket_type, ports[index], reuse))
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
pub fn as_bind_0_would(range: RangeInclusive<u16>, count: usize) -> Vec<u16> {
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

/// An error unless the kernel, too, picks in the part of the range where [`as_bind_0_would`] has the next ports: the lower
/// half's odd offsets, its even ones, and so on.
pub fn kernel_picks_like(next: &[u16]) -> io::Result<()> {
    const PICKS: usize = 20;
    let part = |port: u16| {
        let offset = usize::from(port - DEFAULT_RANGE.start());
        (offset >= DEFAULT_PORTS / 2, offset % 2 == 0)
    };
    let expected: Vec<_> = next.iter().take(PICKS).map(|&port| part(port)).collect();
    let picked: io::Result<Vec<Socket>> = (0..PICKS).map(|_| wildcard_socket(Type::STREAM, 0, true)).collect();
    for socket in picked? {
        let address = socket.local_addr()?.as_socket();
        if !address.is_some_and(|address| expected.contains(&part(address.port()))) {
            return Err(io::Error::other("SO_REUSEADDR and bind(0) pick other ports on this kernel"));
        }
    }
    Ok(())
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

/// An error unless there are so many connections in TIME_WAIT. It lasts 60 s.
pub fn are_in_time_wait(expected: usize) -> io::Result<()> {
    const TIME_WAIT: Option<&str> = Some("06");
    let sockets = fs::read_to_string("/proc/self/net/tcp")? + &fs::read_to_string("/proc/self/net/tcp6")?;
    match sockets.lines().filter(|line| line.split_whitespace().nth(3) == TIME_WAIT).count() {
        found if found == expected => Ok(()),
        found => Err(io::Error::other(format!("{found} connections are in TIME_WAIT, instead of {expected}"))),
    }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A server on the loopback address that does not block. Each of the ports has a connection to it, by connect(), with
/// SO_REUSEADDR.
pub fn server(port: u16, connected: &[u16]) -> io::Result<Socket> {
    let server = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    server.set_reuse_address(true)?;
    server.bind(&loopback(port).into())?;
    server.listen(4096)?;
    hold(connected.len(), |index| {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        client.set_reuse_address(true)?;
        confine(&client, connected[index])?;
        client.connect(&loopback(port).into())?;
        Ok((client, server.accept()?))
    })?;
    server.set_nonblocking(true)?;
    Ok(server)
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
