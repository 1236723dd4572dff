//! The other side of a connection: connect() from a port of the range, to a server outside it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::bench::{Bench, Facts};
use crate::contenders::{CONNECTING, set_server_port};
use crate::measure::Plan;
use crate::namespace::{self, DEFAULT_PORTS};
use crate::occupancy;
use crate::processes::{Barrier, Child, open_files_limit};

/// Outside the range, and of the ports that leave_in_time_wait() connects from.
const SERVER_PORT: u16 = 22_500;
const NEXT_SERVER_PORT: u16 = 22_501;

/// Files that a process needs beside the connections.
const SPARE_FILES: usize = 64;

pub fn quiet(bench: &Bench) -> io::Result<()> {
    let title = "connect, quiet host";
    let _server = Server::that_closes()?;
    let plan = Plan { rounds: bench.choose(5_000, 50_000), at_least: 0, time: Duration::from_secs(30) };
    let results = bench.as_things_are(title, &CONNECTING, plan)?;
    bench.result("connect_quiet", title, Facts::default(), results);
    Ok(())
}

pub fn time_wait(bench: &Bench) -> io::Result<()> {
    let title = "connect, the whole range in TIME_WAIT, left by listeners with SO_REUSEADDR";
    let _server = Server::that_closes()?;
    namespace::allow_time_wait(DEFAULT_PORTS + 1_000)?;
    let step = bench.progress(&format!("{title}: making it"), DEFAULT_PORTS as u64);
    let before = occupancy::leave_in_time_wait(true, step)?;
    let plan = Plan {
        rounds: bench.choose(1_000, 5_000),
        at_least: bench.choose(10, 100),
        time: Duration::from_secs(bench.choose(1, 10)),
    };
    let results = bench.as_things_are(title, &CONNECTING, plan)?;
    let after = occupancy::ports_in_time_wait()?;
    let conditions =
        [("ports_in_time_wait_before", before as u64), ("ports_in_time_wait_after", after as u64)].map(owned).into();
    bench.result("connect_time_wait", title, Facts { occupancy: None, conditions }, results);
    Ok(())
}

pub fn connected(bench: &Bench) -> io::Result<()> {
    let title = "connect, a connection to another destination on every port";
    let _server = Server::that_closes()?;
    let _connections = Connections::on_every_port()?;
    let plan = Plan {
        rounds: bench.choose(1_000, 5_000),
        at_least: bench.choose(10, 1_000),
        time: Duration::from_secs(bench.choose(1, 10)),
    };
    let results = bench.as_things_are(title, &CONNECTING, plan)?;
    bench.result("connect_connected", title, Facts::default(), results);
    Ok(())
}

fn owned((what, number): (&str, u64)) -> (String, u64) {
    (what.to_owned(), number)
}

fn listener(port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(4096)?;
    Ok(socket)
}

/// Takes connections, and closes them.
struct Server {
    _accepting: Child,
}

impl Server {
    fn that_closes() -> io::Result<Self> {
        let socket = listener(SERVER_PORT)?;
        set_server_port(SERVER_PORT);
        let _accepting = Child::fork(|| {
            loop {
                // A connection may have been reset already.
                drop(socket.accept());
            }
        })?;
        Ok(Self { _accepting })
    }
}

/// As many connections as the range has ports, all to one destination. One process may not have so many files.
struct Connections {
    _processes: Vec<Child>,
}

impl Connections {
    fn on_every_port() -> io::Result<Self> {
        let pairs = DEFAULT_PORTS.div_ceil(open_files_limit().saturating_sub(SPARE_FILES).max(1)).max(2);
        let server = listener(NEXT_SERVER_PORT)?;
        let ready = Barrier::new(2 * pairs + 1)?;
        let mut processes = Vec::new();
        for pair in 0..pairs {
            let count = DEFAULT_PORTS / pairs + usize::from(pair < DEFAULT_PORTS % pairs);
            processes.push(Child::fork(|| hold(&ready, count, || server.accept().map(|(accepted, _)| accepted)))?);
            processes.push(Child::fork(|| {
                hold(&ready, count, || {
                    let client = Socket::new(Domain::IPV4, Type::STREAM, None)?;
                    client.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, NEXT_SERVER_PORT)).into())?;
                    Ok(client)
                });
            })?);
        }
        ready.wait();
        Ok(Self { _processes: processes })
    }
}

/// Makes so many sockets, says so, and keeps them until the process is killed.
fn hold(ready: &Barrier, count: usize, make: impl FnMut() -> io::Result<Socket>) {
    let held: io::Result<Vec<Socket>> = std::iter::repeat_with(make).take(count).collect();
    let _held = held.expect("as many connections as there are ports");
    ready.wait();
    loop {
        // SAFETY: no memory is involved.
        unsafe { libc::pause() };
    }
}
