//! Who is measured, and the C ABI through which all of them are called.

use std::ffi::c_int;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

/// What `setup_listener` is in C; the contenders all have its signature.
pub type Open = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int;

/// What a contender stands for; within a case, ratios are taken between roles of one address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// What Greenplum's C does today.
    Stock,
    /// The fix that was proposed for it.
    SoReuseaddr,
    /// Rust's standard library, which sets SO_REUSEADDR for TCP.
    Std,
    /// The fewest system calls on a port that the kernel picks.
    Bind0,
    /// The fewest system calls on a port known to be free.
    Floor,
    /// The fewest system calls that show a range to be held by listeners: a refused bind() for each port.
    BindEach,
    IcListener,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Address {
    Wildcard,
    Unicast,
}

#[derive(Clone, Copy)]
pub struct Contender {
    pub name: &'static str,
    pub role: Role,
    pub address: Address,
    open: Open,
}

impl Contender {
    const fn new(name: &'static str, role: Role, address: Address, open: Open) -> Self {
        Self { name, role, address, open }
    }

    /// Calls the contender. The error is its errno.
    pub fn open(&self) -> Result<(OwnedFd, u16), c_int> {
        let (mut port, mut fd) = (0, -1);
        // SAFETY: both pointers are to ints that live through the call.
        let outcome = unsafe { (self.open)(&mut port, &mut fd) };
        if outcome != 0 {
            return Err(io::Error::last_os_error().raw_os_error().unwrap_or(0));
        }
        // SAFETY: on success the contender gives the socket away, and nobody else has its number.
        Ok((unsafe { OwnedFd::from_raw_fd(fd) }, port as u16))
    }
}

pub static TCP: [Contender; 9] = [
    Contender::new("stock", Role::Stock, Address::Wildcard, bench_stock),
    Contender::new("so_reuseaddr", Role::SoReuseaddr, Address::Wildcard, bench_so_reuseaddr),
    Contender::new("std", Role::Std, Address::Wildcard, std_listener),
    Contender::new("bind(0)", Role::Bind0, Address::Wildcard, bench_bind_0),
    Contender::new("floor", Role::Floor, Address::Wildcard, bench_floor),
    Contender::new("ic_listener", Role::IcListener, Address::Wildcard, setup_listener),
    Contender::new("stock unicast", Role::Stock, Address::Unicast, bench_stock_unicast),
    Contender::new("floor unicast", Role::Floor, Address::Unicast, bench_floor_unicast),
    Contender::new("ic_listener unicast", Role::IcListener, Address::Unicast, bench_ic_listener_unicast),
];

/// What makes a connection.
pub static CONNECTING: [Contender; 3] = [
    Contender::new("connect", Role::Stock, Address::Unicast, bench_connect),
    Contender::new("so_reuseaddr", Role::SoReuseaddr, Address::Unicast, bench_connect_so_reuseaddr),
    Contender::new("ic_listener", Role::IcListener, Address::Unicast, bench_connect_ic_listener),
];

/// Takes part where the whole range is held.
pub const BIND_EACH: Contender = Contender::new("bind each", Role::BindEach, Address::Wildcard, bench_bind_each);

/// Is refused and allocates; no contender.
pub const ALLOCATES: Contender =
    Contender::new("allocates", Role::IcListener, Address::Wildcard, bench_ic_listener_allocates);

/// SO_REUSEADDR is not among them: on UDP it lets two sockets have one port.
pub static UDP: [Contender; 4] = [
    Contender::new("stock", Role::Stock, Address::Wildcard, bench_stock_udp),
    Contender::new("std", Role::Std, Address::Wildcard, std_udp_socket),
    Contender::new("floor", Role::Floor, Address::Wildcard, bench_floor_udp),
    Contender::new("ic_listener", Role::IcListener, Address::Wildcard, bench_ic_listener_udp),
];

/// Heap allocations of this thread since it began, in C, in Rust and in the static library.
pub fn allocations() -> u64 {
    // SAFETY: reads a counter of the calling thread.
    unsafe { bench_allocations() }
}

/// Tells the floor of this process which port is free.
pub fn set_floor_port(port: u16) {
    // SAFETY: only one thread of a measuring process calls into the contenders.
    unsafe { bench_set_floor_port(port.into()) }
}

/// Tells those that connect where to.
pub fn set_server_port(port: u16) {
    // SAFETY: as above.
    unsafe { bench_set_server_port(port.into()) }
}

/// Tells [`BIND_EACH`] which ports there are.
pub fn set_port_range(ports: RangeInclusive<u16>) {
    // SAFETY: as above.
    unsafe { bench_set_port_range((*ports.start()).into(), (*ports.end()).into()) }
}

unsafe extern "C" {
    fn setup_listener(port: *mut c_int, fd: *mut c_int) -> c_int;
    fn bench_stock(port: *mut c_int, fd: *mut c_int) -> c_int;
    fn bench_stock_unicast(port: *mut c_int, fd: *mut c_int) -> c_int;
    fn bench_stock_udp(port: *mut c_int, fd: *mut c_int) -> c_int;
    fn bench_so_reuseaddr(port: *mut c_int, fd: *mut c_int) -> c_int;
    fn bench_bind_0(port: *mut c_int, fd: *mut c_int) -> c_int;
    fn bench_floor(port: *mut c_int, fd: *mut c_int) -> c_int;
    fn bench_floor_unicast(port: *mut c_int, fd: *mut c_int) -> c_int;
    fn bench_floor_udp(port: *mut c_int, fd: *mut c_int) -> c_int;
    fn bench_bind_each(port: *mut c_int, fd: *mut c_int) -> c_int;
    fn bench_ic_listener_allocates(port: *mut c_int, fd: *mut c_int) -> c_int;
    fn bench_ic_listener_unicast(port: *mut c_int, fd: *mut c_int) -> c_int;
    fn bench_ic_listener_udp(port: *mut c_int, fd: *mut c_int) -> c_int;
    fn bench_connect(port: *mut c_int, fd: *mut c_int) -> c_int;
    fn bench_connect_so_reuseaddr(port: *mut c_int, fd: *mut c_int) -> c_int;
    fn bench_connect_ic_listener(port: *mut c_int, fd: *mut c_int) -> c_int;
    fn bench_set_server_port(port: c_int);
    fn bench_set_floor_port(port: c_int);
    fn bench_set_port_range(min: c_int, max: c_int);
    fn bench_allocations() -> u64;
}

/// SAFETY (for callers): both pointers may be written.
unsafe extern "C" fn std_listener(port: *mut c_int, fd: *mut c_int) -> c_int {
    let opened =
        TcpListener::bind(("::", 0)).and_then(|listener| Ok((listener.local_addr()?.port(), listener.into_raw_fd())));
    // SAFETY: the caller's promise.
    unsafe { give(opened, port, fd) }
}

/// SAFETY (for callers): both pointers may be written.
unsafe extern "C" fn std_udp_socket(port: *mut c_int, fd: *mut c_int) -> c_int {
    let opened = UdpSocket::bind(("::", 0)).and_then(|socket| Ok((socket.local_addr()?.port(), socket.into_raw_fd())));
    // SAFETY: the caller's promise.
    unsafe { give(opened, port, fd) }
}

/// SAFETY (for callers): both pointers may be written.
unsafe fn give(opened: io::Result<(u16, c_int)>, port: *mut c_int, fd: *mut c_int) -> c_int {
    match opened {
        Ok((its_port, its_fd)) => {
            // SAFETY: the caller's promise.
            unsafe {
                port.write(its_port.into());
                fd.write(its_fd);
            }
            0
        }
        Err(error) => {
            // SAFETY: the address of the calling thread's errno.
            unsafe { *libc::__errno_location() = error.raw_os_error().unwrap_or(libc::EINVAL) };
            -1
        }
    }
}
