//! What std and socket2 do not have.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io;
use std::os::fd::AsRawFd;

use socket2::Socket;

/// Of Linux 6.3; ip(7).
pub const IP_LOCAL_PORT_RANGE: c_int = 51;

/// An option of four bytes.
pub fn set_option(socket: &Socket, level: c_int, name: c_int, value: u32) -> io::Result<()> {
    // SAFETY: the pointer and the size are those of `value`.
    let returned = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), 4) };
    if returned == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Rust opens /dev/null for a standard output that is closed, before main(). The output would be lost, with status 0.
#[used]
// SAFETY: called by the C library before main(), with nothing that depends on the order.
#[unsafe(link_section = ".init_array")]
static CLOSED_OUTPUT: extern "C" fn() = {
    extern "C" fn refuse_closed_output() {
        const MESSAGE: &[u8] = b"ic_ports: standard output is closed\n";
        // SAFETY: system calls, one of them with a constant.
        unsafe {
            if libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) == -1 {
                libc::write(libc::STDERR_FILENO, MESSAGE.as_ptr().cast(), MESSAGE.len());
                libc::_exit(crate::CANNOT_TELL.into());
            }
        }
    }
    refuse_closed_output
};
