//! What neither std nor socket2 can do: errno, and the index of a network interface.

use std::ffi::{CStr, c_int};

/// The index of the interface of that name in this thread's network namespace: if_nametoindex(3).
///
/// None may also mean that the look-up failed: glibc opens a socket for it, and leaves an errno that says something else
/// when it could not (ENOENT instead of EMFILE, seen in 2.36).
pub(crate) fn interface_index(name: &CStr) -> Option<u32> {
    // SAFETY: the argument is a terminated string that outlives the call, and the function keeps no pointer to it.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

/// Whether an interface has that index: if_indextoname(3). False may also mean that the look-up failed.
pub(crate) fn interface_exists(index: u32) -> bool {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the IF_NAMESIZE bytes the function may write.
    !unsafe { libc::if_indextoname(index, name.as_mut_ptr()) }.is_null()
}

/// Sets the calling thread's errno.
pub(crate) fn set_errno(value: c_int) {
    // SAFETY: __errno_location() gives the address of the calling thread's errno, valid as long as the thread lives.
    unsafe { *libc::__errno_location() = value };
}
