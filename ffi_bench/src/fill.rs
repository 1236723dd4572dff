//! Several processes take ports until there is none left. The contenders come one after the other here, each on an
//! empty range.

use std::collections::HashSet;
use std::io::{self, PipeWriter, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::bench::{Bench, Facts};
use crate::contenders::{Contender, TCP};
use crate::measure::{self, Tally, new_tallies};
use crate::namespace::{self, DEFAULT_PORTS};
use crate::processes::{Barrier, Child, cpu_time, open_files_limit};
use crate::results::{ContenderResult, Fill};
use crate::system_calls::{Count, Traced, marked};

/// A few of the ports, so that taking one that is reserved shows.
const RESERVED: &str = "40000-40031";
const USABLE_PORTS: usize = DEFAULT_PORTS - 32;

pub fn fill(bench: &Bench) -> io::Result<()> {
    let title = "filling the range to its last port, by several processes";
    namespace::reserve_ports(RESERVED)?;
    let patience = Duration::from_secs(bench.choose(3, 300));
    let mut tallies = new_tallies(&TCP);
    let mut counts = vec![Count::default(); TCP.len()];
    let mut fills = vec![None; TCP.len()];
    for (index, contender) in TCP.iter().enumerate() {
        let wanted = match contender.name {
            "stock" | "ic_listener" => true,
            // Minutes each.
            "so_reuseaddr" | "std" => !bench.is_quick(),
            _ => false,
        };
        if wanted {
            bench.begin(&format!("{title}: {}", contender.name), 1);
            fills[index] = Some(fill_with(index, contender, patience, &mut tallies)?);
            counts[index] = count_while_filling(index, contender)?;
        }
    }
    let mut results = ContenderResult::of_all(&TCP, &tallies, &counts);
    for (result, fill) in results.iter_mut().zip(fills) {
        result.fill = fill;
        // There was no floor.
        result.ratio_to_floor = None;
    }
    results.retain(|result| result.fill.is_some());
    bench.result("fill", title, Facts::default(), results);
    Ok(())
}

/// Four, or as many as it takes to hold the range with room for uneven shares.
fn processes() -> usize {
    DEFAULT_PORTS.div_ceil((open_files_limit() / 2).max(1)).max(4)
}

/// Each process goes on until it is refused, or has used up its patience of CPU time.
fn fill_with(index: usize, contender: &Contender, patience: Duration, tallies: &mut [Tally]) -> io::Result<Fill> {
    let processes = processes();
    let (start, end) = (Barrier::new(processes + 1)?, Barrier::new(processes + 1)?);
    let (samples_from, samples_to) = io::pipe()?;
    let (mut times_from, times_to) = io::pipe()?;
    let children = (0..processes)
        .map(|_| {
            Child::fork(|| fill_as_one_of_many(index, contender, patience, &start, &end, (&samples_to, &times_to)))
        })
        .collect::<io::Result<Vec<_>>>()?;
    drop((samples_to, times_to));
    start.wait();
    let began = Instant::now();
    end.wait();
    let seconds = began.elapsed().as_secs_f64();

    let (mut ports, mut refused) = (HashSet::new(), 0);
    measure::receive(samples_from, tallies, |sample| {
        if sample.errno == 0 {
            ports.insert(sample.port);
        } else {
            refused += 1;
        }
    })?;
    let mut times = Vec::new();
    times_from.read_to_end(&mut times)?;
    let (times, _) = times.as_chunks();
    let cpu_seconds = times.iter().map(|&time| f64::from_ne_bytes(time)).sum();
    children.into_iter().try_for_each(Child::join)?;
    Ok(Fill {
        processes,
        seconds,
        cpu_seconds,
        ports: ports.len(),
        usable_ports: USABLE_PORTS,
        stopped: refused < processes,
    })
}

fn fill_as_one_of_many(
    index: usize,
    contender: &Contender,
    patience: Duration,
    start: &Barrier,
    end: &Barrier,
    (mut samples_to, mut times_to): (&PipeWriter, &PipeWriter),
) {
    // Asking for the CPU time is a system call, and worth a fifth of a socket.
    const CALLS_BETWEEN_LOOKS: usize = 64;
    start.wait();
    let began = cpu_time();
    let mut calls = 0;
    let (samples, sockets) = measure::opened_until(index, contender, |sample| {
        calls += 1;
        let too_long = calls % CALLS_BETWEEN_LOOKS == 0 && cpu_time() - began > patience;
        if sample.errno != 0 || too_long { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let took = cpu_time() - began;
    // Nobody closes before all are done.
    end.wait();
    times_to.write_all(&took.as_secs_f64().to_ne_bytes()).expect("the parent reads");
    measure::send(&samples, &mut samples_to).expect("the parent reads");
    drop(sockets);
}

/// The system calls of one of the processes that fill the range, for two seconds at most.
fn count_while_filling(index: usize, contender: &Contender) -> io::Result<Count> {
    const TIME: Duration = Duration::from_secs(2);
    let processes = processes();
    let (start, end) = (Barrier::new(processes)?, Barrier::new(processes)?);
    let take_ports = |open: &dyn Fn() -> Result<(OwnedFd, u16), i32>| {
        start.wait();
        let began = Instant::now();
        let mut sockets = Vec::new();
        while let Ok((socket, _)) = open()
            && began.elapsed() < TIME
        {
            sockets.push(socket);
        }
        end.wait();
    };
    let others =
        (1..processes).map(|_| Child::fork(|| take_ports(&|| contender.open()))).collect::<io::Result<Vec<_>>>()?;
    let traced = Traced::fork(|| take_ports(&|| marked(index, contender)))?;
    let mut counts = traced.count(index + 1)?;
    others.into_iter().try_for_each(Child::join)?;
    Ok(counts.swap_remove(index))
}
