//! Whether the library, preloaded or not, can do here what it is for: the parts one by one, and then a port in
//! TIME_WAIT that is taken again.

use std::fmt::Display;
use std::fs;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self, UnixDatagram};

use ic_listener::{CensusSource, Options};
use socket2::{Domain, Protocol, Socket, Type};

use crate::system::{self, IP_LOCAL_PORT_RANGE};

const PRELOAD: &str = "libic_listener_preload.so";

/// What was found, and whether all of it works.
pub struct Check {
    pub lines: String,
    pub works: bool,
}

impl Check {
    pub fn run() -> Self {
        let mut check = Self { lines: String::new(), works: true };
        match preloaded_from() {
            Some(path) => check.part(&path, "called by listen()", listen_reaches_the_library()),
            None => check.say(PRELOAD, "not loaded here; the library in ic_ports is tried"),
        }
        check.kernel();
        check.part("a port in TIME_WAIT", "listened on and connected from again", take_from_time_wait());
        check
    }

    fn say(&mut self, part: &str, found: impl Display) {
        self.lines += &format!("{part}: {found}\n");
    }

    fn part(&mut self, part: &str, works: &str, outcome: Result<(), String>) {
        self.works &= outcome.is_ok();
        self.say(part, outcome.map_or_else(|error| error, |()| works.to_owned()));
    }

    /// What the library can do without.
    fn kernel(&mut self) {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let window =
            tcp_socket().and_then(|socket| system::set_option(&socket, libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE, 0));
        let searches = match window {
            Ok(()) => "searches windows of the port range",
            Err(_) => "tries single ports; there are windows to search since Linux 6.3",
        };
        self.say(&format!("Linux {}", release.trim()), searches);
        match Options::new().census() {
            Ok(census) => {
                let (min, max) = census.range.clone().into_inner();
                self.say("port range", format_args!("{min} to {max}, {} of them not reserved", census.ports));
                self.say(
                    "connections",
                    match census.source {
                        CensusSource::Netlink => "asked for by netlink",
                        _ => "read from /proc/net/tcp; netlink is refused",
                    },
                );
            }
            Err(error) => self.say("port range and connections", error),
        }
        match claim() {
            Ok(()) => self.say("claims", "taken by abstract Unix names"),
            Err(error) => self.say("claims", format_args!("none: {error}; two programs may choose the same port")),
        }
    }
}

/// The path of the preloaded library, if it is mapped.
fn preloaded_from() -> Option<String> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with(PRELOAD))?;
    Some(line[line.find('/')?..].to_owned())
}

fn claim() -> io::Result<()> {
    let name = format!("ic_ports --check {}", std::process::id());
    UnixDatagram::bind_addr(&net::SocketAddr::from_abstract_name(name)?).map(drop)
}

fn tcp_socket() -> io::Result<Socket> {
    Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))
}

/// The preloaded listen() leaves SO_REUSEADDR on the socket, and the system call does not.
fn listen_reaches_the_library() -> Result<(), String> {
    let is_left = tcp_socket().and_then(|socket| socket.listen(1).and_then(|()| socket.reuse_address()));
    match is_left {
        Ok(true) => Ok(()),
        Ok(false) => Err("loaded, but not called by listen()".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// By the library in this program. The system calls that it makes are the preloaded functions, where there are any.
fn bound_socket(port: u16) -> io::Result<Socket> {
    let socket = tcp_socket()?;
    socket.set_reuse_address(port != 0)?;
    ic_listener::bind(&socket, &(Ipv4Addr::LOCALHOST, port).into())?;
    Ok(socket)
}

fn listener(port: u16) -> io::Result<(Socket, SocketAddr)> {
    let socket = bound_socket(port)?;
    ic_listener::listen(&socket, 1)?;
    let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidData)?;
    Ok((socket, address))
}

fn take_from_time_wait() -> Result<(), String> {
    let step = |step: &'static str| move |error: io::Error| format!("{step}: {error}");
    let (first, address) = listener(0).map_err(step("listen"))?;
    // Now, because afterwards it might get the first one's port.
    let (_other, to) = listener(0).map_err(step("listen"))?;
    let mut client = tcp_socket().map_err(step("socket"))?;
    ic_listener::connect(&client, &address).map_err(|error| step("connect")(error.into()))?;
    let (accepted, _) = first.accept().map_err(step("accept"))?;
    // The side that closes first gets the TIME_WAIT.
    drop(accepted);
    client.read(&mut [0]).map_err(step("read"))?;
    drop((client, first));

    let client = bound_socket(address.port()).map_err(step("bind to a port in TIME_WAIT"))?;
    ic_listener::connect(&client, &to).map_err(|error| step("connect from a port in TIME_WAIT")(error.into()))?;
    drop(client);
    listener(address.port()).map_err(step("listen on a port in TIME_WAIT"))?;
    Ok(())
}
