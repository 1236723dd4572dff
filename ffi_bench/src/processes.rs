//! Child processes that do not outlive their parent.

use std::io::{self, PipeReader, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use socket2::Socket;

/// A forked child. Dropping it without [`Child::join`] kills it.
pub struct Child {
    pid: libc::pid_t,
    joined: bool,
}

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
            pid => Ok(Self { pid, joined: false }),
        }
    }

    /// Waits for its end; an error unless it ended well.
    pub fn join(mut self) -> io::Result<()> {
        let mut status = 0;
        // SAFETY: the pointer is to an int that lives through the call.
        if unsafe { libc::waitpid(self.pid, &mut status, 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
        self.joined = true;
        if status == 0 { Ok(()) } else { Err(io::Error::other(format!("a child ended with status {status:#x}"))) }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.joined {
            // SAFETY: the process is ours and not waited for, so that its id is not anybody else's.
            unsafe {
                libc::kill(self.pid, libc::SIGKILL);
                libc::waitpid(self.pid, std::ptr::null_mut(), 0);
            }
        }
    }
}

/// Processes that hold sockets until they are dropped. One process may not have as many files as a range has ports.
pub struct Holders {
    children: Vec<Child>,
    ready: PipeReader,
}

impl Holders {
    /// Has `make` called with each number below `count`.
    pub fn start(count: usize, make: impl Fn(usize) -> io::Result<Socket>) -> io::Result<Self> {
        const OTHER_FILES: usize = 64;
        let (ready, is_ready) = io::pipe()?;
        // At least two, so that both cores are at work.
        let processes = count.div_ceil(open_files_limit().saturating_sub(OTHER_FILES).max(1)).max(2);
        let children = (0..processes).map(|process| {
            Child::fork(|| {
                let held: io::Result<Vec<Socket>> = (process..count).step_by(processes).map(&make).collect();
                if let Err(error) = &held {
                    eprintln!("a socket to hold: {error}");
                }
                (&is_ready).write_all(&[u8::from(held.is_ok())]).expect("the parent reads");
                loop {
                    // SAFETY: no memory is involved.
                    unsafe { libc::pause() };
                }
            })
        });
        Ok(Self { children: children.collect::<io::Result<_>>()?, ready })
    }

    /// Until all are there.
    pub fn wait(mut self) -> io::Result<Self> {
        let mut ready = vec![0; self.children.len()];
        self.ready.read_exact(&mut ready)?;
        if ready.contains(&0) {
            return Err(io::Error::other("not all sockets could be held"));
        }
        Ok(self)
    }
}

/// The CPU time that this process has used.
pub fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that lives through the call.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// While it lives, this process runs before all ordinary ones, so that what else the machine has to do stays out of the
/// figures: a time slice of another process is longer than a thousand listeners take. It takes privilege (CAP_SYS_NICE
/// or RLIMIT_RTPRIO); without it nothing changes.
pub struct Undisturbed;

impl Undisturbed {
    pub fn ask() -> Self {
        schedule(libc::SCHED_RR, 1);
        Self
    }
}

impl Drop for Undisturbed {
    fn drop(&mut self) {
        schedule(libc::SCHED_OTHER, 0);
    }
}

fn schedule(policy: i32, priority: i32) {
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
