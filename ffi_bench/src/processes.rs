//! Child processes that do not outlive their parent, and a barrier between them.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::time::Duration;

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
                die_with_parent();
                let outcome = catch_unwind(AssertUnwindSafe(body));
                // SAFETY: ends the process, without the exit handlers that are the parent's.
                unsafe { libc::_exit(i32::from(outcome.is_err())) }
            }
            pid => Ok(Self { pid, joined: false }),
        }
    }

    pub fn pid(&self) -> libc::pid_t {
        self.pid
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

    /// Somebody else (the tracer) has waited for it.
    pub fn forget(mut self) {
        self.joined = true;
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

/// The CPU time that this process has used.
pub fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that lives through the call.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Asks the kernel to kill this process when its parent ends.
pub fn die_with_parent() {
    // SAFETY: no memory is involved.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// While it lives, this process runs before all ordinary ones, so that what else the machine has to do stays out of the
/// figures: a time slice of another process is longer than a thousand listeners take.
pub struct Undisturbed {
    pub granted: bool,
}

impl Undisturbed {
    /// It takes privilege (CAP_SYS_NICE or RLIMIT_RTPRIO); without it nothing changes.
    pub fn ask() -> Self {
        Self { granted: schedule(libc::SCHED_RR, 1) }
    }
}

impl Drop for Undisturbed {
    fn drop(&mut self) {
        if self.granted {
            schedule(libc::SCHED_OTHER, 0);
        }
    }
}

fn schedule(policy: i32, priority: i32) -> bool {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: 0 is this thread; the parameters are only read.
    unsafe { libc::sched_setscheduler(0, policy, &parameters) == 0 }
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

/// A barrier for forked processes: pthread_barrier_t in memory that they share.
pub struct Barrier(NonNull<libc::pthread_barrier_t>);

impl Barrier {
    pub fn new(members: usize) -> io::Result<Self> {
        // SAFETY: a new mapping; it is as large as what is put into it, and page-aligned.
        unsafe {
            let memory = libc::mmap(
                std::ptr::null_mut(),
                size_of::<libc::pthread_barrier_t>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            if memory == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            let mut attributes = std::mem::zeroed();
            libc::pthread_barrierattr_init(&mut attributes);
            libc::pthread_barrierattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED);
            match libc::pthread_barrier_init(memory.cast(), &attributes, members as u32) {
                0 => Ok(Self(NonNull::new_unchecked(memory.cast()))),
                error => Err(io::Error::from_raw_os_error(error)),
            }
        }
    }

    pub fn wait(&self) {
        // SAFETY: initialized in new(), unmapped only in drop().
        unsafe { libc::pthread_barrier_wait(self.0.as_ptr()) };
    }
}

impl Drop for Barrier {
    fn drop(&mut self) {
        // SAFETY: mapped with this size in new(); other processes have mappings of their own.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<libc::pthread_barrier_t>()) };
    }
}
