//! What neither std nor socket2 can do: errno, the index of a network interface, any socket option as bytes, a socket
//! under the number of another one, and memory that is not on the heap.

use std::ffi::{CStr, c_int};
use std::fmt::{self, Write};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::time::Duration;

/// The ports that bind() to port 0 and connect() choose from (Linux 6.3), as a lower and an upper end in one word; 0 is
/// the host's range. ip(7). Not in the libc crate.
pub(crate) const IP_LOCAL_PORT_RANGE: c_int = 51;

/// Room for every option this library carries from one socket to another.
pub(crate) const OPTION_SIZE: usize = 16;

/// The value of a socket option.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct OptionValue {
    bytes: [u8; OPTION_SIZE],
    length: usize,
}

impl OptionValue {
    pub(crate) fn number(value: u32) -> Self {
        let mut bytes = [0; OPTION_SIZE];
        bytes[..4].copy_from_slice(&value.to_ne_bytes());
        Self { bytes, length: 4 }
    }

    /// The value as a number, which most options are.
    pub(crate) fn as_number(&self) -> u32 {
        u32::from_ne_bytes([self.bytes[0], self.bytes[1], self.bytes[2], self.bytes[3]])
    }
}

/// getsockopt(2)
pub(crate) fn get_option(socket: BorrowedFd<'_>, level: c_int, name: c_int) -> io::Result<OptionValue> {
    let mut bytes = [0; OPTION_SIZE];
    let mut length = OPTION_SIZE as libc::socklen_t;
    // SAFETY: the buffer has the length that is handed over with it, and both live through the call.
    let outcome = unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, bytes.as_mut_ptr().cast(), &mut length) };
    let length = (length as usize).min(OPTION_SIZE);
    succeeded(outcome).map(|()| OptionValue { bytes, length })
}

/// setsockopt(2)
pub(crate) fn set_option(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: &OptionValue) -> io::Result<()> {
    let OptionValue { bytes, length } = value;
    // SAFETY: the value has that length, and lives through the call.
    succeeded(unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, bytes.as_ptr().cast(), *length as libc::socklen_t)
    })
}

/// The file status flags and the descriptor flags: fcntl(2) with F_GETFL and F_GETFD.
pub(crate) fn flags(file: BorrowedFd<'_>) -> io::Result<(c_int, c_int)> {
    // SAFETY: neither takes a pointer.
    let (status, descriptor) =
        unsafe { (libc::fcntl(file.as_raw_fd(), libc::F_GETFL), libc::fcntl(file.as_raw_fd(), libc::F_GETFD)) };
    if status < 0 || descriptor < 0 { Err(io::Error::last_os_error()) } else { Ok((status, descriptor)) }
}

/// Sets the file status flags.
pub(crate) fn set_status_flags(file: BorrowedFd<'_>, flags: c_int) -> io::Result<()> {
    // SAFETY: takes no pointer.
    succeeded(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags) })
}

/// Puts `fresh` under the number of `place`, whose file is closed: dup3(2).
pub(crate) fn put_in_place(fresh: OwnedFd, place: BorrowedFd<'_>, close_on_exec: bool) -> io::Result<()> {
    let flags = if close_on_exec { libc::O_CLOEXEC } else { 0 };
    loop {
        // SAFETY: takes no pointer. The number of `place` stays open all the while, with another file behind it, which
        // is what the caller of this library asked for.
        let outcome = succeeded(unsafe { libc::dup3(fresh.as_raw_fd(), place.as_raw_fd(), flags) });
        match outcome {
            // EBUSY: another thread is opening a file; EINTR: a signal came first. dup(2).
            Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EINTR)) => {}
            outcome => return outcome,
        }
    }
}

/// Runs a system call of a socket that returns 0 or -1 with errno.
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

/// The name of a network interface.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct InterfaceName([u8; libc::IF_NAMESIZE]);

impl InterfaceName {
    /// None when it is too long for one, or empty.
    pub(crate) fn new(name: &[u8]) -> Option<Self> {
        let mut bytes = [0; libc::IF_NAMESIZE];
        // The last byte is NUL.
        bytes[..libc::IF_NAMESIZE - 1].get_mut(..name.len())?.copy_from_slice(name);
        (bytes[0] != 0).then_some(Self(bytes))
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Printable: any byte but NUL, '/', ':' and white space is a name to the kernel (`dev_valid_name`).
        self.0
            .iter()
            .take_while(|&&byte| byte != 0)
            .try_for_each(|&byte| f.write_char(if byte.is_ascii_graphic() { char::from(byte) } else { '?' }))
    }
}

impl fmt::Debug for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The name of the interface of that index: if_indextoname(3). None may also mean that the look-up failed.
pub(crate) fn interface_name(index: u32) -> Option<InterfaceName> {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the IF_NAMESIZE bytes the function may write.
    let found = !unsafe { libc::if_indextoname(index, name.as_mut_ptr()) }.is_null();
    found.then(|| InterfaceName(name.map(|byte| byte as u8)))
}

/// Sets the calling thread's errno.
pub(crate) fn set_errno(value: c_int) {
    // SAFETY: __errno_location() gives the address of the calling thread's errno, valid as long as the thread lives.
    unsafe { *libc::__errno_location() = value };
}

/// The nanoseconds of the monotonic clock, for what differs from call to call.
pub(crate) fn clock_nanoseconds() -> u64 {
    let time = read_clock(libc::CLOCK_MONOTONIC);
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

/// The CPU time that the calling thread has used so far.
pub(crate) fn thread_cpu_time() -> Duration {
    let time = read_clock(libc::CLOCK_THREAD_CPUTIME_ID);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn read_clock(clock: libc::clockid_t) -> libc::timespec {
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: zeros are a timespec, and the call writes nothing else. It cannot fail: Linux has both clocks since 2.6.12.
    unsafe {
        libc::clock_gettime(clock, time.as_mut_ptr());
        time.assume_init()
    }
}
