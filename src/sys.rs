//! What neither std nor socket2 can do: errno, the index of a network interface, and memory without malloc(3).

use std::ffi::{CStr, c_int};
use std::io;
use std::ptr::{self, NonNull};
use std::slice;

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

/// Zeroed memory straight from the kernel, unmapped when dropped. Not from malloc(3), which a signal handler must not
/// call. Only pages that are written take memory.
pub(crate) struct Mapped {
    start: NonNull<u8>,
    length: usize,
}

impl Mapped {
    /// Maps `length` bytes; 0 is EINVAL.
    pub(crate) fn zeroed(length: usize) -> io::Result<Self> {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address that the kernel chooses touches nothing that is there already.
        let start = unsafe { libc::mmap(ptr::null_mut(), length, access, kind, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Self { start, length })
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping has so many bytes, zeros at first; it lives as long as self, which is borrowed.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nobody can have borrowed it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}
