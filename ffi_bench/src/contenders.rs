//! Who is measured, and the C ABI through which all of them are called.

use std::ffi::{c_char, c_int};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;

/// The address, NULL for the wildcard; where the port goes; where the socket goes. 0, or another number and errno.
type Open = unsafe extern "C" fn(*const c_char, *mut c_int, *mut c_int) -> c_int;

#[derive(Clone, Copy)]
pub struct Contender {
    pub name: &'static str,
    unicast: bool,
    open: Open,
}

const fn wildcard(name: &'static str, open: Open) -> Contender {
    Contender { name, unicast: false, open }
}

const fn unicast(name: &'static str, open: Open) -> Contender {
    Contender { name, unicast: true, open }
}

impl Contender {
    /// The error is the call's errno.
    pub fn open(&self) -> Result<(OwnedFd, u16), c_int> {
        let (mut port, mut fd) = (0, -1);
        let address = if self.unicast { c"127.0.0.1".as_ptr() } else { ptr::null() };
        // SAFETY: a string or NULL; both other pointers are to ints that live through the call.
        let outcome = unsafe { (self.open)(address, &mut port, &mut fd) };
        if outcome != 0 {
            return Err(io::Error::last_os_error().raw_os_error().unwrap_or(0));
        }
        // SAFETY: on success the contender gives the socket away, and nobody else has its number.
        Ok((unsafe { OwnedFd::from_raw_fd(fd) }, port as u16))
    }
}

const STOCK: Contender = wildcard("stock", bench_stock);
const SO_REUSEADDR: Contender = wildcard("so_reuseaddr", bench_so_reuseaddr);
const BIND_0: Contender = wildcard("bind(0)", bench_bind_0);
const FLOOR: Contender = wildcard("floor", bench_floor);
const IC_LISTENER: Contender = wildcard("ic_listener", bench_ic_listener);
const STOCK_UNICAST: Contender = unicast("stock unicast", bench_stock);
const IC_LISTENER_UNICAST: Contender = unicast("ic_listener unicast", bench_ic_listener);

pub const TCP: &[Contender] = &[STOCK, SO_REUSEADDR, BIND_0, FLOOR, IC_LISTENER, STOCK_UNICAST, IC_LISTENER_UNICAST];

/// Where few ports are left, and a call takes milliseconds.
pub const FEW_LEFT: &[Contender] = &[STOCK, FLOOR, IC_LISTENER, STOCK_UNICAST, IC_LISTENER_UNICAST];

/// Where none is left. What a report costs is who holds the ports.
pub const NONE_LEFT: &[Contender] = &[
    STOCK,
    SO_REUSEADDR,
    BIND_0,
    wildcard("bind each", bench_bind_each),
    IC_LISTENER,
    wildcard("ic_listener report", bench_ic_listener_report),
    STOCK_UNICAST,
    IC_LISTENER_UNICAST,
    unicast("ic_listener report unicast", bench_ic_listener_report),
];

/// SO_REUSEADDR is not among them: on UDP it lets two sockets have one port.
pub const UDP: &[Contender] = &[
    wildcard("stock", bench_stock_udp),
    wildcard("floor", bench_floor_udp),
    wildcard("ic_listener", bench_ic_listener_udp),
];

/// What makes a connection. The floor names a port that is free.
pub const CONNECTING: &[Contender] = &[
    unicast("connect", bench_connect),
    unicast("so_reuseaddr", bench_connect_so_reuseaddr),
    unicast("floor", bench_connect_floor),
    unicast("ic_listener", bench_connect_ic_listener),
    unicast("ic_listener report", bench_connect_ic_listener_report),
];

/// What a postmaster has called before it forks a backend.
pub fn start_as_a_postmaster() {
    // SAFETY: no memory is involved.
    unsafe { bench_start_as_a_postmaster() }
}

macro_rules! opening {
    ($($function:ident)*) => {
        unsafe extern "C" {
            $(fn $function(address: *const c_char, port: *mut c_int, fd: *mut c_int) -> c_int;)*
            fn bench_start_as_a_postmaster();
        }
    };
}

opening! {
    bench_stock bench_stock_udp bench_so_reuseaddr bench_bind_0 bench_bind_each bench_floor bench_floor_udp
    bench_ic_listener bench_ic_listener_report bench_ic_listener_udp
    bench_connect bench_connect_so_reuseaddr bench_connect_floor
    bench_connect_ic_listener bench_connect_ic_listener_report
}
