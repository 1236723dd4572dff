//! Child processes that do not outlive their parent.

use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A forked child, to be joined or left to end with this process.
pub struct Child(libc::pid_t);

impl Child {
    /// Forks; the child runs `body` and ends. The calling process must have one thread.
    pub fn fork(body: impl FnOnce()) -> io::Result<Self> {
        // SAFETY: with one thread, the child may do what the parent may.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                // SAFETY: no memory is involved.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                let outcome = catch_unwind(AssertUnwindSafe(body));
                // SAFETY: ends the process, without the exit handlers that are the parent's.
                unsafe { libc::_exit(i32::from(outcome.is_err())) }
            }
            pid => Ok(Self(pid)),
        }
    }

    /// Waits for its end; an error unless it ended well.
    pub fn join(self) -> io::Result<()> {
        let mut status = 0;
        // SAFETY: the pointer is to an int that lives through the call.
        match unsafe { libc::waitpid(self.0, &mut status, 0) } {
            -1 => Err(io::Error::last_os_error()),
            _ if status == 0 => Ok(()),
            _ => Err(io::Error::other(format!("a child ended with status {status:#x}"))),
        }
    }
}

/// Has this process wait for the children of its children, too.
pub fn adopt_orphans() {
    // SAFETY: no memory is involved.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
}

/// Until no child is left: those that held thousands of sockets close them for a while.
pub fn wait_for_orphans() {
    // SAFETY: the status is not asked for.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) } > 0 {}
}

/// Has child processes hold what `make` makes of each number below `count`, at most two files each, until this process
/// ends. One process may not have as many files as a range has ports.
pub fn hold<T>(count: usize, make: impl Fn(usize) -> io::Result<T>) -> io::Result<()> {
    const OTHER_FILES: usize = 64;
    let (mut from, to) = io::pipe()?;
    // At least two, so that both cores are at work.
    let processes = (2 * count).div_ceil(open_files_limit() - OTHER_FILES).max(2);
    for process in 0..processes {
        Child::fork(|| {
            let held: io::Result<Vec<T>> = (process..count).step_by(processes).map(&make).collect();
            if let Err(error) = &held {
                eprintln!("a socket to hold: {error}");
            }
            (&to).write_all(&[u8::from(held.is_ok())]).expect("the parent reads");
            loop {
                std::thread::park();
            }
        })?;
    }
    let mut held = vec![0; processes];
    from.read_exact(&mut held)?;
    if held.contains(&0) { Err(io::Error::other("not all sockets could be held")) } else { Ok(()) }
}

/// Runs this process before all ordinary ones, or no longer, so that what else the machine has to do stays out of the
/// figures: a time slice of another process is longer than a thousand listeners take. It takes privilege (CAP_SYS_NICE
/// or RLIMIT_RTPRIO); without it nothing changes.
pub fn run_undisturbed(undisturbed: bool) {
    let (policy, priority) = if undisturbed { (libc::SCHED_RR, 1) } else { (libc::SCHED_OTHER, 0) };
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: 0 is this thread; the parameters are only read.
    unsafe { libc::sched_setscheduler(0, policy, &parameters) };
}

/// Lets this process open as many files as it may, and says how many that are.
pub fn open_files_limit() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointers are to an rlimit that lives through the calls.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
    limit.rlim_cur as usize
}
