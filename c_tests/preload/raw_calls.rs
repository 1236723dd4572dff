//! A listener on port 0 without libc's bind() and listen(), as programs in Go have it: no preloaded library reaches it.

use std::ffi::{c_int, c_long};
use std::io::Error;

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
}

#[cfg(target_arch = "x86_64")]
const SOCKET_BIND_LISTEN: [c_long; 3] = [41, 49, 50];
#[cfg(not(target_arch = "x86_64"))]
const SOCKET_BIND_LISTEN: [c_long; 3] = [198, 200, 201];

fn main() {
    const AF_INET: u16 = 2;
    const SOCK_STREAM: c_int = 1;
    let [socket, bind, listen] = SOCKET_BIND_LISTEN;
    let mut address = [0_u8; 16];
    address[..2].copy_from_slice(&AF_INET.to_ne_bytes());
    // SAFETY: the address has the length that is given, and lives through the calls.
    let listening = unsafe {
        let fd = syscall(socket, c_int::from(AF_INET as u8), SOCK_STREAM, 0);
        syscall(bind, fd as c_int, address.as_ptr(), 16) == 0 && syscall(listen, fd as c_int, 5) == 0
    };
    println!("{}", if listening { "a listener".to_owned() } else { Error::last_os_error().to_string() });
}
