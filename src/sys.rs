//! What neither std nor socket2 can do: errno, and the index of a network interface.

use std::ffi::{CStr, c_int};
use std::io;

/// The index of the interface of that name in this thread's network namespace, if there is one: if_nametoindex(3).
///
/// The function opens a socket, so that it can fail for want of a file descriptor as well.
pub(crate) fn interface_index(name: &CStr) -> io::Result<Option<u32>> {
    // SAFETY: the argument is a terminated string that outlives the call, and the function keeps no pointer to it.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => none_when(libc::ENODEV),
        index => Ok(Some(index)),
    }
}

/// The index itself, if an interface has it: if_indextoname(3), which opens a socket, too.
pub(crate) fn existing_interface(index: u32) -> io::Result<Option<u32>> {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the IF_NAMESIZE bytes the function may write.
    if unsafe { libc::if_indextoname(index, name.as_mut_ptr()) }.is_null() {
        return none_when(libc::ENXIO);
    }
    Ok(Some(index))
}

/// None when errno is the one that says so, else the error it stands for.
fn none_when<T>(errno: c_int) -> io::Result<Option<T>> {
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(errno) { Ok(None) } else { Err(error) }
}

/// Sets the calling thread's errno.
pub(crate) fn set_errno(value: c_int) {
    // SAFETY: __errno_location() gives the address of the calling thread's errno, valid as long as the thread lives.
    unsafe { *libc::__errno_location() = value };
}
