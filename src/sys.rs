//! What neither std nor socket2 has: errno, a few socket options, the index of a network interface, memory that is not
//! on the heap, and two clocks.

use std::ffi::{CStr, c_int};
use std::io;
use std::mem::{MaybeUninit, offset_of};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::time::Duration;

/// The ports that bind() to port 0 and connect() choose from (Linux 6.3), as a lower and an upper end in one word; 0 is
/// the host's range. ip(7). Not in the libc crate.
pub(crate) const IP_LOCAL_PORT_RANGE: c_int = 51;

/// The index of the interface that a socket is bound to, or 0 (Linux 5.1). socket(7). Not in the libc crate.
pub(crate) const SO_BINDTOIFINDEX: c_int = 62;

/// A number that each network namespace has for itself (Linux 5.14). socket(7). Not in the libc crate.
const SO_NETNS_COOKIE: c_int = 71;

/// Reads an option into `value`.
fn get_bytes(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: &mut [u8]) -> io::Result<()> {
    let mut length = value.len() as libc::socklen_t;
    // SAFETY: the buffer has the length that is handed over with it, and both live through the call.
    let outcome = unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &mut length) };
    succeeded(outcome)
}

/// The value of an option that is a number: getsockopt(2).
pub(crate) fn get_option(socket: BorrowedFd<'_>, level: c_int, name: c_int) -> io::Result<u32> {
    let mut value = [0; 4];
    get_bytes(socket, level, name, &mut value).map(|()| u32::from_ne_bytes(value))
}

/// Sets an option that is a number: setsockopt(2).
pub(crate) fn set_option(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: u32) -> io::Result<()> {
    let length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the value has that length, and lives through the call.
    succeeded(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, ptr::from_ref(&value).cast(), length) })
}

/// The cookie of the socket's network namespace. None before Linux 5.14.
pub(crate) fn netns_cookie(socket: BorrowedFd<'_>) -> Option<u64> {
    let mut value = [0; 8];
    get_bytes(socket, libc::SOL_SOCKET, SO_NETNS_COOKIE, &mut value).ok().map(|()| u64::from_ne_bytes(value))
}

/// The user of the process that the peer of a Unix socket was made by: SO_PEERCRED. unix(7).
pub(crate) fn peer_user(socket: BorrowedFd<'_>) -> Option<u32> {
    let mut credentials = [0; size_of::<libc::ucred>()];
    get_bytes(socket, libc::SOL_SOCKET, libc::SO_PEERCRED, &mut credentials).ok()?;
    let user = offset_of!(libc::ucred, uid);
    Some(u32::from_ne_bytes(credentials[user..user + 4].try_into().ok()?))
}

/// The effective user of this process.
pub(crate) fn effective_user() -> u32 {
    // SAFETY: it takes nothing, and cannot fail.
    unsafe { libc::geteuid() }
}

/// What a system call says that returns 0, or -1 with errno.
fn succeeded(outcome: c_int) -> io::Result<()> {
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Zeroed memory from mmap(2), which unlike the heap may be asked for in a signal handler, and fails without aborting.
pub(crate) struct Pages {
    start: ptr::NonNull<u8>,
    length: usize,
}

impl Pages {
    /// `length` is not 0.
    pub(crate) fn new(length: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at a place the kernel chooses touches nothing that exists.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = ptr::NonNull::new(start.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Self { start, length })
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        // SAFETY: the mapping is readable, has this length, and lives as long as self.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: as above, writable, and nobody else refers to it while self is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by new(), and nothing refers to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// The index of the interface of that name in this thread's network namespace: if_nametoindex(3).
///
/// None may also mean that the look-up failed: glibc opens a socket for it, and leaves an errno that says something
/// else when it could not (ENOENT instead of EMFILE, seen in 2.36).
pub(crate) fn interface_index(name: &CStr) -> Option<u32> {
    // SAFETY: the argument is a terminated string that outlives the call, and the function keeps no pointer to it.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

/// Sets the calling thread's errno.
pub(crate) fn set_errno(value: c_int) {
    // SAFETY: __errno_location() gives the address of the calling thread's errno, valid as long as the thread lives.
    unsafe { *libc::__errno_location() = value };
}

/// The time of the monotonic clock.
pub(crate) fn monotonic_time() -> Duration {
    read_clock(libc::CLOCK_MONOTONIC)
}

/// The CPU time that the calling thread has used so far.
pub(crate) fn thread_cpu_time() -> Duration {
    read_clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn read_clock(clock: libc::clockid_t) -> Duration {
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: zeros are a timespec, and the call writes nothing else. It cannot fail: Linux has both clocks since
    // 2.6.12.
    let time = unsafe {
        libc::clock_gettime(clock, time.as_mut_ptr());
        time.assume_init()
    };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
