//! Whether the library, preloaded or not, can do here what it is for: the parts one by one, and then a port in
//! TIME_WAIT that is taken again.

use std::fmt::Display;
use std::fs;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self, UnixDatagram};

use ic_listener::{CensusSource, Options};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

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
        let preloaded = preloaded_from();
        let calls = Calls { are_preloaded: preloaded.is_some() };
        match preloaded {
            Some(path) => check.part(&path, "called by listen()", calls.reach_the_library()),
            None => check.say(PRELOAD, "not loaded here; the library in ic_ports is tried"),
        }
        check.kernel();
        check.part("a port in TIME_WAIT", "listened on and connected from again", calls.take_from_time_wait());
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

/// bind(), listen() and connect(): the plain ones, which the preloaded library takes over, or those of the library.
struct Calls {
    are_preloaded: bool,
}

impl Calls {
    /// The preloaded listen() leaves SO_REUSEADDR on the socket, and the system call does not.
    fn reach_the_library(&self) -> Result<(), String> {
        let listener = self.listener(0).map_err(|error| error.to_string())?;
        match listener.reuse_address() {
            Ok(true) => Ok(()),
            _ => Err("loaded, but not called by listen()".to_owned()),
        }
    }

    fn bind(&self, socket: &Socket, port: u16) -> io::Result<()> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        socket.set_reuse_address(port != 0)?;
        if self.are_preloaded {
            socket.bind(&SockAddr::from(address))
        } else {
            ic_listener::bind(socket, &address).map(drop).map_err(io::Error::from)
        }
    }

    fn listener(&self, port: u16) -> io::Result<Socket> {
        let socket = tcp_socket()?;
        self.bind(&socket, port)?;
        if self.are_preloaded {
            socket.listen(1)?;
        } else {
            ic_listener::listen(&socket, 1)?;
        }
        Ok(socket)
    }

    /// From that port, or from any.
    fn connection(&self, port: u16, to: &SockAddr) -> io::Result<Socket> {
        let socket = tcp_socket()?;
        if port != 0 {
            self.bind(&socket, port)?;
        }
        if self.are_preloaded {
            socket.connect(to)?;
        } else {
            ic_listener::connect(&socket, &to.as_socket().ok_or(io::ErrorKind::InvalidInput)?)?;
        }
        Ok(socket)
    }

    fn take_from_time_wait(&self) -> Result<(), String> {
        let step = |step: &'static str| move |error: io::Error| format!("{step}: {error}");
        let listener = self.listener(0).map_err(step("listen"))?;
        let address = listener.local_addr().map_err(step("getsockname"))?;
        let port = address.as_socket().map_or(0, |address| address.port());
        let mut client = self.connection(0, &address).map_err(step("connect"))?;
        let (accepted, _) = listener.accept().map_err(step("accept"))?;
        // The side that closes first gets the TIME_WAIT.
        drop(accepted);
        client.read(&mut [0]).map_err(step("read"))?;
        drop(client);
        drop(listener);

        let other = self.listener(0).map_err(step("listen"))?;
        let to = other.local_addr().map_err(step("getsockname"))?;
        drop(self.connection(port, &to).map_err(step("connect from a port in TIME_WAIT"))?);
        self.listener(port).map_err(step("listen on a port in TIME_WAIT"))?;
        Ok(())
    }
}
