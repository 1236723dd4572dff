//! How many system calls a listener takes: counted with ptrace(2), in runs of their own, because each stop costs more
//! than the call that is counted.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use crate::contenders::Contender;
use crate::processes::Child;

/// A system call that does not exist, by which the traced process says whose calls follow. The kernel answers ENOSYS.
const MARK: libc::c_long = 100_000;

/// The mark that nobody's calls follow.
const NOBODY: u64 = u64::MAX;

/// The system calls of one contender.
#[derive(Clone, Default)]
pub struct Count {
    pub calls: u64,
    pub by_number: BTreeMap<u64, u64>,
}

/// Calls a contender between two marks.
pub fn marked(index: usize, contender: &Contender) -> Result<(OwnedFd, u16), i32> {
    mark(index as u64);
    let outcome = contender.open();
    mark(NOBODY);
    outcome
}

fn mark(whose: u64) {
    // SAFETY: no such system call.
    unsafe { libc::syscall(MARK, whose) };
}

/// A child whose system calls are counted.
pub struct Traced(Child);

impl Traced {
    /// Forks a child that runs `body`, which calls the contenders through [`marked`].
    pub fn fork(body: impl FnOnce()) -> io::Result<Self> {
        Child::fork(|| {
            // SAFETY: no memory is involved. A refusal shows in the parent, which sees the child end.
            unsafe {
                libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
                libc::raise(libc::SIGSTOP);
            }
            body();
        })
        .map(Self)
    }

    /// Follows the child to its end. The result has a place for each of so many contenders.
    pub fn count(self, contenders: usize) -> io::Result<Vec<Count>> {
        let pid = self.0.pid();
        let mut counts = vec![Count::default(); contenders];
        let mut whose = NOBODY;
        if libc::WIFSTOPPED(wait_for(pid)?) {
            let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
            // SAFETY: the child is ours and stopped; the argument is a number.
            ptrace(unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, pid, 0, options) })?;
        }
        loop {
            // SAFETY: the child is ours and stopped; no signal is passed on.
            ptrace(unsafe { libc::ptrace(libc::PTRACE_SYSCALL, pid, 0, 0) })?;
            let status = wait_for(pid)?;
            if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
                self.0.forget();
                return if status == 0 {
                    Ok(counts)
                } else {
                    Err(io::Error::other(format!("the traced child ended with status {status:#x}")))
                };
            }
            // TRACESYSGOOD: bit 7 tells a system call from a signal.
            if libc::WSTOPSIG(status) != libc::SIGTRAP | 0x80 {
                continue;
            }
            let Some((number, argument)) = entered(pid)? else { continue };
            if number == MARK as u64 {
                whose = argument;
                if let Some(count) = counts.get_mut(whose as usize) {
                    count.calls += 1;
                }
            } else if let Some(count) = counts.get_mut(whose as usize) {
                *count.by_number.entry(number).or_default() += 1;
            }
        }
    }
}

/// The number and first argument of the system call that the child is about to make; None when it comes back from one.
fn entered(pid: libc::pid_t) -> io::Result<Option<(u64, u64)>> {
    // SAFETY: zeros are a valid struct; the kernel writes at most its size, and `entry` is what it has filled when it
    // says so.
    unsafe {
        let mut info: libc::ptrace_syscall_info = std::mem::zeroed();
        let size = size_of_val(&info);
        ptrace(libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, pid, size, &mut info))?;
        Ok((info.op == libc::PTRACE_SYSCALL_INFO_ENTRY).then(|| (info.u.entry.nr, info.u.entry.args[0])))
    }
}

fn wait_for(pid: libc::pid_t) -> io::Result<i32> {
    let mut status = 0;
    // SAFETY: the pointer is to an int that lives through the call.
    match unsafe { libc::waitpid(pid, &mut status, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(status),
    }
}

fn ptrace(outcome: libc::c_long) -> io::Result<()> {
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The names of the calls that occur here; another one is shown by its number.
pub fn name(number: u64) -> String {
    const NAMES: [(libc::c_long, &str); 18] = [
        (libc::SYS_socket, "socket"),
        (libc::SYS_setsockopt, "setsockopt"),
        (libc::SYS_bind, "bind"),
        (libc::SYS_listen, "listen"),
        (libc::SYS_getsockname, "getsockname"),
        (libc::SYS_fcntl, "fcntl"),
        (libc::SYS_close, "close"),
        (libc::SYS_connect, "connect"),
        (libc::SYS_sendto, "sendto"),
        (libc::SYS_recvmsg, "recvmsg"),
        (libc::SYS_openat, "openat"),
        (libc::SYS_read, "read"),
        (libc::SYS_newfstatat, "newfstatat"),
        (libc::SYS_lseek, "lseek"),
        (libc::SYS_brk, "brk"),
        (libc::SYS_futex, "futex"),
        (libc::SYS_clock_gettime, "clock_gettime"),
        (libc::SYS_getpid, "getpid"),
    ];
    NAMES
        .iter()
        .find(|(known, _)| *known as u64 == number)
        .map_or_else(|| format!("number {number}"), |(_, name)| (*name).to_owned())
}
