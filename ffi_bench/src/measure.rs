//! One timed call, and many of them, the contenders taking turns.

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::io;
use std::os::fd::OwnedFd;
use std::ptr;
use std::slice;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use socket2::SockRef;

use crate::contenders::Contender;
use crate::processes::run_undisturbed;
use crate::results::Figures;

/// What comes right before each call, whoever makes it: so that nobody's call is warmed or cooled by a neighbour's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// A walk over as much memory as the largest cache has: a backend that has just run a query.
    Cold,
    /// A call of the same kind, which is not timed.
    Warm,
}

impl Condition {
    pub const BOTH: [Self; 2] = [Self::Cold, Self::Warm];

    pub fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Warm => "warm",
        }
    }

    pub fn prepare(self, contender: &Contender) {
        match self {
            Self::Cold => walk(),
            Self::Warm => drop(contender.open().map(|(socket, _)| close(socket))),
        }
    }
}

/// As large as the largest cache, by sysfs; within reason, since the walk takes most of a run's time.
pub fn walked_bytes() -> usize {
    let caches = (0..8).filter_map(|index| {
        let size = fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size")).ok()?;
        size.trim().strip_suffix('K')?.parse().ok()
    });
    (caches.max().unwrap_or(32 << 10) << 10).clamp(4 << 20, 64 << 20)
}

fn walk() {
    const LINE: usize = 64;
    static MEMORY: OnceLock<&[u8]> = OnceLock::new();
    let memory = MEMORY.get_or_init(|| memory(walked_bytes()));
    black_box(memory.iter().step_by(LINE).map(|&byte| u64::from(byte)).sum::<u64>());
}

/// Memory that children do not have: to copy its page tables would make a fork() cold that should be warm.
fn memory(bytes: usize) -> &'static [u8] {
    let (writable, private) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, which stays, and which nobody else knows.
    let memory = unsafe {
        let start = libc::mmap(ptr::null_mut(), bytes, writable, private, -1, 0);
        assert!(start != libc::MAP_FAILED && libc::madvise(start, bytes, libc::MADV_DONTFORK) == 0);
        slice::from_raw_parts_mut(start.cast(), bytes)
    };
    // Zeros might all be one page.
    memory.fill(1);
    memory
}

/// The time that the call took, and its errno, or 0.
pub type Sample = (u64, i32);

/// Takes the time of the call alone; closing the socket is the caller's.
pub fn timed(contender: &Contender) -> (Sample, Option<(OwnedFd, u16)>) {
    let start = Instant::now();
    let outcome = contender.open();
    let nanoseconds = start.elapsed().as_nanos() as u64;
    ((nanoseconds, outcome.as_ref().err().copied().unwrap_or(0)), outcome.ok())
}

/// A connection is reset, so that it leaves no TIME_WAIT for the next call.
fn close(socket: OwnedFd) {
    // It may have been reset already.
    let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
}

/// One call, on a socket that is closed again.
pub fn one_call(condition: Condition, contender: &Contender) -> io::Result<Sample> {
    condition.prepare(contender);
    let (sample, opened) = timed(contender);
    if let Some((socket, _)) = opened {
        close(socket);
    }
    Ok(sample)
}

/// In every round each contender makes one call. The rounds end when the time is used up.
pub fn in_turns(
    contenders: &[Contender],
    rounds: u64,
    time: Duration,
    mut sample: impl FnMut(&Contender) -> io::Result<Sample>,
) -> io::Result<Vec<Figures>> {
    /// A process of a real-time class that leaves the CPU less than 5 % of the time is stopped for 50 ms in every second
    /// (kernel.sched_rt_runtime_us), in the middle of a call. So it rests of its own accord, between rounds.
    const WORK: Duration = Duration::from_millis(20);

    let mut tallies: Vec<Tally> = contenders.iter().map(|_| Tally::default()).collect();
    // Shuffled anew for every round, so that nobody has a fixed neighbour.
    let mut order: Vec<usize> = (0..contenders.len()).collect();
    let mut random = fastrand::Rng::with_seed(1);
    run_undisturbed(true);
    let (began, mut rested) = (Instant::now(), Instant::now());
    for _ in 0..rounds {
        random.shuffle(&mut order);
        for &index in &order {
            tallies[index].add(sample(&contenders[index])?);
        }
        if rested.elapsed() > WORK {
            std::thread::sleep(rested.elapsed() / 15);
            rested = Instant::now();
        }
        if began.elapsed() > time {
            break;
        }
    }
    run_undisturbed(false);
    Ok(contenders.iter().zip(&tallies).map(|(contender, tally)| tally.figures(contender.name)).collect())
}

/// What the calls of one contender add up to.
pub struct Tally {
    latency: Histogram<u64>,
    errors: BTreeMap<i32, u64>,
}

impl Default for Tally {
    fn default() -> Self {
        let latency = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds that a histogram can have");
        Self { latency, errors: BTreeMap::new() }
    }
}

/// So many calls it takes for a p99: four of them lie beyond it.
const ENOUGH_FOR_P99: u64 = 400;

impl Tally {
    pub fn add(&mut self, (nanoseconds, errno): Sample) {
        // Saturating, so that it cannot fail: a minute is beyond any case.
        self.latency.saturating_record(nanoseconds);
        if errno != 0 {
            *self.errors.entry(errno).or_default() += 1;
        }
    }

    pub fn figures(&self, name: &str) -> Figures {
        let microseconds = |nanoseconds: u64| nanoseconds as f64 / 1000.0;
        let quantile = |quantile| microseconds(self.latency.value_at_quantile(quantile));
        let calls = self.latency.len();
        Figures {
            name: name.to_owned(),
            calls,
            succeeded: calls - self.errors.values().sum::<u64>(),
            errors: self.errors.iter().map(|(&errno, &times)| (errno_name(errno), times)).collect(),
            p50_us: quantile(0.5),
            p99_us: (calls >= ENOUGH_FOR_P99).then(|| quantile(0.99)),
            mean_us: microseconds(self.latency.mean().round() as u64),
            max_us: microseconds(self.latency.max()),
        }
    }
}

fn errno_name(errno: i32) -> String {
    match errno {
        libc::EADDRINUSE => "EADDRINUSE".to_owned(),
        libc::EADDRNOTAVAIL => "EADDRNOTAVAIL".to_owned(),
        _ => format!("errno {errno}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_p99_takes_enough_calls() {
        let mut tally = Tally::default();
        (1..ENOUGH_FOR_P99).for_each(|_| tally.add((5_000, 0)));
        assert_eq!(tally.figures("").p99_us, None);
        tally.add((5_000, libc::EADDRINUSE));
        let figures = tally.figures("");
        assert!(figures.p99_us.is_some() && figures.succeeded == ENOUGH_FOR_P99 - 1);
        assert_eq!(figures.errors, [("EADDRINUSE".to_owned(), 1)].into());
    }
}
