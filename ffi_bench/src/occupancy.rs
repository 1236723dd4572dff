//! Fills the port range: with listeners that helper processes hold, and with connections in TIME_WAIT.

use std::collections::HashSet;
use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::{self, ChildStdin, ChildStdout, Command, Stdio};

use socket2::{Domain, Socket, Type};

use crate::namespace::{DEFAULT_PORTS, DEFAULT_RANGE};
use crate::processes::{die_with_parent, open_files_limit};

/// Files that a holder needs beside the sockets.
const SPARE_FILES: usize = 64;

/// Helper processes that hold sockets as long as this lives. One process may not have as many files as a range has
/// ports.
pub struct Holders(Vec<Holder>);

struct Holder {
    process: process::Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Holders {
    /// As many as it takes to hold the whole default range; at least two, so that both cores place.
    pub fn of(socket_type: Type) -> io::Result<Self> {
        let each_holds = open_files_limit().saturating_sub(SPARE_FILES).max(1);
        let count = DEFAULT_PORTS.div_ceil(each_holds).max(2);
        (0..count).map(|_| Holder::start(socket_type)).collect::<io::Result<_>>().map(Self)
    }

    /// Has so many more ports picked by the kernel, with SO_REUSEADDR and bind(0), and says which.
    pub fn pick(&mut self, count: usize) -> io::Result<Vec<u16>> {
        let holders = self.0.len();
        let shares =
            (0..holders).map(|holder| format!("pick {}", count / holders + usize::from(holder < count % holders)));
        self.order(shares.collect())
    }

    /// Has these ports taken.
    pub fn take(&mut self, ports: &[u16]) -> io::Result<()> {
        if ports.is_empty() {
            return Ok(());
        }
        let shares = ports.chunks(ports.len().div_ceil(self.0.len()));
        let taken = self.order(shares.map(|share| format!("take {}", words(share))).collect())?;
        if taken == ports { Ok(()) } else { Err(io::Error::other("the holders could not take all ports")) }
    }

    fn order(&mut self, orders: Vec<String>) -> io::Result<Vec<u16>> {
        for (holder, order) in self.0.iter_mut().zip(&orders) {
            writeln!(holder.orders, "{order}")?;
        }
        let mut ports = Vec::new();
        for (holder, _) in self.0.iter_mut().zip(&orders) {
            let mut answer = String::new();
            holder.answers.read_line(&mut answer)?;
            ports.extend(numbers(&answer)?);
        }
        Ok(ports)
    }
}

impl Holder {
    fn start(socket_type: Type) -> io::Result<Self> {
        let kind = if socket_type == Type::STREAM { "tcp" } else { "udp" };
        let mut process = Command::new(env::current_exe()?)
            .args(["hold", kind])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(orders), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(io::Error::other("a holder without pipes"));
        };
        Ok(Self { process, orders, answers: BufReader::new(answers) })
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // They may hold ten thousand sockets each; the next case must not see them being closed. There is nothing to do
        // about an error here.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The helper process: holds what the lines on standard input tell it to, and answers with the ports.
pub fn hold(kind: &str) -> io::Result<()> {
    die_with_parent();
    open_files_limit();
    let socket_type = if kind == "udp" { Type::DGRAM } else { Type::STREAM };
    let mut held = Vec::new();
    for order in io::stdin().lines() {
        let order = order?;
        let asked_for = match order.split_once(' ') {
            Some(("pick", count)) => vec![0; usize::from(*numbers(count)?.first().unwrap_or(&0))],
            Some(("take", ports)) => numbers(ports)?,
            _ => return Err(io::Error::other("unknown order")),
        };
        let mut ports = Vec::new();
        for port in asked_for {
            let socket = wildcard_socket(socket_type, port, socket_type == Type::STREAM)?;
            ports.push(socket.local_addr()?.as_socket().map_or(0, |address| address.port()));
            held.push(socket);
        }
        println!("{}", words(&ports));
    }
    Ok(())
}

/// A socket on the IPv6 wildcard that takes IPv4 too. A stream socket listens.
fn wildcard_socket(socket_type: Type, port: u16, reuse: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, socket_type, None)?;
    socket.set_only_v6(false)?;
    if reuse {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    if socket_type == Type::STREAM {
        socket.listen(128)?;
    }
    Ok(socket)
}

fn numbers(text: &str) -> io::Result<Vec<u16>> {
    text.split_whitespace().map(|word| word.parse().map_err(io::Error::other)).collect()
}

fn words(ports: &[u16]) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(" ")
}

/// All ports of the default range in a random order, the same in every run.
pub fn at_random() -> Vec<u16> {
    let mut ports: Vec<u16> = DEFAULT_RANGE.collect();
    fastrand::Rng::with_seed(1).shuffle(&mut ports);
    ports
}

/// All ports of the default range in an order in which SO_REUSEADDR + bind(0) may take them: what
/// `inet_csk_find_open_port` does, while nobody closes anything. The kernel itself needs minutes for it.
///
/// It starts at a random odd offset of the range's lower half, goes up in steps of two and round, then over the even
/// offsets, and only then looks at the upper half.
pub fn as_bind_0_would() -> Vec<u16> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut held = vec![false; DEFAULT_PORTS];
    let half = (DEFAULT_PORTS >> 2) << 1;
    (0..DEFAULT_PORTS)
        .map_while(|_| {
            let offset = [0..half, half..DEFAULT_PORTS].into_iter().find_map(|part| {
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
            Some(DEFAULT_RANGE.start() + offset as u16)
        })
        .collect()
}

/// The connecting side's ports, one after the other; outside the range, and in use for microseconds only.
const CLIENT_PORTS: std::ops::Range<u16> = 1024..21024;

/// Leaves every port of the range in TIME_WAIT, by a listener whose side closes first, and says how many there are.
///
/// With `reuse` the listeners have SO_REUSEADDR, and the TIME_WAITs can be taken by who sets it too.
pub fn leave_in_time_wait(reuse: bool, mut after_port: impl FnMut()) -> io::Result<usize> {
    for (port, client_port) in DEFAULT_RANGE.zip(CLIENT_PORTS.cycle()) {
        let listener = wildcard_socket(Type::STREAM, port, reuse)?;
        let client = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // The port's connection before this one is closed, but the kernel may not have finished with it.
        client.set_reuse_address(true)?;
        client.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, client_port)).into())?;
        client.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
        let (accepted, _) = listener.accept()?;
        drop(accepted);
        drop(client);
        drop(listener);
        after_port();
    }
    ports_in_time_wait()
}

/// How many ports of the range have a connection in TIME_WAIT now, by /proc/net/tcp and tcp6.
pub fn ports_in_time_wait() -> io::Result<usize> {
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
    Ok(ports.len())
}
