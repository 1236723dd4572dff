//! One timed call, and many of them, the contenders taking turns.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::contenders::{Contender, Role, allocations};

/// What one call did.
pub struct Sample {
    /// Its place in the list of contenders.
    pub contender: u32,
    /// 0 on success.
    pub errno: i32,
    pub nanoseconds: u64,
    pub allocations: u32,
    pub port: u32,
}

/// Calls the contender and takes the time of the call alone; closing the socket is the caller's.
pub fn timed(index: usize, contender: &Contender) -> (Sample, Option<OwnedFd>) {
    let allocations_before = allocations();
    let start = Instant::now();
    let outcome = contender.open();
    let nanoseconds = start.elapsed().as_nanos() as u64;
    let allocations = (allocations() - allocations_before) as u32;
    let (errno, port, socket) = match outcome {
        Ok((socket, port)) => (0, port, Some(socket)),
        Err(errno) => (errno, 0, None),
    };
    (Sample { contender: index as u32, errno, nanoseconds, allocations, port: port.into() }, socket)
}

/// How long a case is measured.
#[derive(Clone, Copy)]
pub struct Plan {
    pub rounds: u64,
    /// So many calls each contender makes, whatever they cost.
    pub at_least: u64,
    /// For all contenders together. One that has used up its share of it sits rounds out, evenly over the run: a call
    /// that costs a thousand times another's would otherwise decide how many calls there are. Ours never does.
    pub time: Duration,
}

/// A process of a real-time class that leaves the CPU less than 5 % of the time is stopped for 50 ms in every second
/// (kernel.sched_rt_runtime_us), in the middle of a call. So it rests of its own accord, between calls.
const WORK: Duration = Duration::from_millis(20);
const REST: Duration = Duration::from_millis(2);

/// The order in which contenders take their turns: shuffled anew for every round. What comes right before a call
/// decides how warm the caches are for it; with a fixed or a rotating order that would be the same contender's work
/// every time.
pub struct Turns {
    random: fastrand::Rng,
    order: Vec<usize>,
}

impl Turns {
    /// Of so many contenders. The same orders in every process, so that several can go through them together.
    pub fn of(contenders: usize) -> Self {
        Self { random: fastrand::Rng::with_seed(1), order: (0..contenders).collect() }
    }

    /// The next round's: indices of contenders.
    pub fn next_round(&mut self) -> Vec<usize> {
        self.random.shuffle(&mut self.order);
        self.order.clone()
    }
}

/// Every round calls each contender once.
pub fn interleaved(contenders: &[Contender], plan: Plan, mut after_round: impl FnMut()) -> Vec<Tally> {
    let mut tallies = new_tallies(contenders);
    let share = plan.time.as_nanos() as f64 / contenders.len() as f64;
    let mut rested = Instant::now();
    let mut turns = Turns::of(contenders.len());
    for round in 0..plan.rounds {
        let share_by_now = share * (round + 1) as f64 / plan.rounds as f64;
        let calls_by_now = plan.at_least * (round + 1) / plan.rounds;
        for index in turns.next_round() {
            let tally = &mut tallies[index];
            let ours = contenders[index].role == Role::IcListener;
            let had_its_share = tally.nanoseconds as f64 > share_by_now && tally.calls() >= calls_by_now.max(1);
            if had_its_share && !ours {
                continue;
            }
            let (sample, socket) = timed(index, &contenders[index]);
            drop(socket);
            tally.add(&sample);
        }
        after_round();
        if rested.elapsed() > WORK {
            std::thread::sleep(REST);
            rested = Instant::now();
        }
    }
    tallies
}

/// Calls one contender after the other until `keep_on` says stop, and keeps what it opened.
pub fn opened_until(
    index: usize,
    contender: &Contender,
    mut keep_on: impl FnMut(&Sample) -> ControlFlow<()>,
) -> (Vec<Sample>, Vec<OwnedFd>) {
    let (mut samples, mut sockets) = (Vec::new(), Vec::new());
    loop {
        let (sample, socket) = timed(index, contender);
        sockets.extend(socket);
        let stop = keep_on(&sample).is_break();
        samples.push(sample);
        if stop {
            return (samples, sockets);
        }
    }
}

/// What the calls of one contender add up to.
pub struct Tally {
    pub latency: Histogram<u64>,
    pub errors: BTreeMap<i32, u64>,
    pub allocations: u64,
    nanoseconds: u64,
}

/// So many calls it takes for a p99: ten of them lie beyond it.
const ENOUGH_FOR_P99: u64 = 1_000;

impl Tally {
    pub fn calls(&self) -> u64 {
        self.latency.len()
    }

    pub fn succeeded(&self) -> u64 {
        self.calls() - self.errors.values().sum::<u64>()
    }

    pub fn p50(&self) -> u64 {
        self.latency.value_at_quantile(0.5)
    }

    /// None when there are too few calls.
    pub fn p99(&self) -> Option<u64> {
        (self.calls() >= ENOUGH_FOR_P99).then(|| self.latency.value_at_quantile(0.99))
    }

    fn add(&mut self, sample: &Sample) {
        // Saturating, so that it cannot fail: a minute is beyond any case.
        self.latency.saturating_record(sample.nanoseconds);
        if sample.errno != 0 {
            *self.errors.entry(sample.errno).or_default() += 1;
        }
        self.allocations += u64::from(sample.allocations);
        self.nanoseconds += sample.nanoseconds;
    }
}

pub fn new_tallies(contenders: &[Contender]) -> Vec<Tally> {
    let tally = || Tally {
        latency: Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds that a histogram can have"),
        errors: BTreeMap::new(),
        allocations: 0,
        nanoseconds: 0,
    };
    contenders.iter().map(|_| tally()).collect()
}

const RECORD: usize = 24;

/// Sends samples to the process that tallies. Several processes share a pipe, so a record is never torn: a write of
/// PIPE_BUF bytes or less is atomic (pipe(7)).
pub fn send(samples: &[Sample], to: &mut impl Write) -> io::Result<()> {
    const AT_ONCE: usize = libc::PIPE_BUF / RECORD;
    for some in samples.chunks(AT_ONCE) {
        let mut bytes = Vec::with_capacity(AT_ONCE * RECORD);
        for sample in some {
            bytes.extend(sample.contender.to_ne_bytes());
            bytes.extend(sample.errno.to_ne_bytes());
            bytes.extend(sample.nanoseconds.to_ne_bytes());
            bytes.extend(sample.allocations.to_ne_bytes());
            bytes.extend(sample.port.to_ne_bytes());
        }
        to.write_all(&bytes)?;
    }
    Ok(())
}

/// Adds up what arrives until all senders are done, and shows each sample to `look`.
pub fn receive(from: impl Read, tallies: &mut [Tally], mut look: impl FnMut(&Sample)) -> io::Result<()> {
    let mut from = io::BufReader::new(from);
    let mut record = [0; RECORD];
    loop {
        match from.read_exact(&mut record) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
        let half = |at: usize| u32::from_ne_bytes(record[at..at + 4].try_into().expect("four bytes"));
        let sample = Sample {
            contender: half(0),
            errno: half(4) as i32,
            nanoseconds: u64::from_ne_bytes(record[8..16].try_into().expect("eight bytes")),
            allocations: half(16),
            port: half(20),
        };
        look(&sample);
        tallies[sample.contender as usize].add(&sample);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contender_follows_every_other() {
        const CONTENDERS: usize = 9;
        const ROUNDS: usize = 9_000;
        let mut turns = Turns::of(CONTENDERS);
        let mut followed = [[0_usize; CONTENDERS]; CONTENDERS];
        for _ in 0..ROUNDS {
            let order = turns.next_round();
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..CONTENDERS));
            order.windows(2).for_each(|pair| followed[pair[0]][pair[1]] += 1);
        }
        // One time in nine each; the seed is fixed, and so is what comes of it.
        let expected = ROUNDS / CONTENDERS;
        for (first, row) in followed.iter().enumerate() {
            for (second, &times) in row.iter().enumerate() {
                assert!(first == second || times.abs_diff(expected) < expected / 8, "{first}, {second}: {times}");
            }
        }
    }

    #[test]
    fn a_p99_takes_a_thousand_calls() {
        let mut tallies = new_tallies(&crate::contenders::UDP[..1]);
        let sample = Sample { contender: 0, errno: 0, nanoseconds: 5_000, allocations: 0, port: 1 };
        (0..999).for_each(|_| tallies[0].add(&sample));
        assert_eq!(tallies[0].p99(), None);
        tallies[0].add(&sample);
        assert!(tallies[0].p99().is_some());
    }
}
