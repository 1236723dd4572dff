//! Many processes open and close at once, all of them the same contender.

use std::io::{self, PipeWriter};

use crate::bench::{Bench, FLOOR_PORT, Facts};
use crate::contenders::{Contender, TCP, set_floor_port};
use crate::measure::{self, Sample, Turns, new_tallies, timed};
use crate::processes::{Barrier, Child};
use crate::results::ContenderResult;
use crate::system_calls::{Count, Traced, marked};

/// So many calls each member makes before all go on to the next contender together.
const BURST: usize = 10;

pub fn crowd(bench: &Bench) -> io::Result<()> {
    for members in [2, 16, 64] {
        let title = format!("{members} processes opening and closing at once");
        bench.begin(&title, 1);
        let rounds = (bench.choose(6_400, 64_000) / (members * BURST)).max(5);
        let barrier = Barrier::new(members)?;

        let (from, to) = io::pipe()?;
        let children = (0..members)
            .map(|member| Child::fork(|| measure_as(member, rounds, &barrier, &to)))
            .collect::<io::Result<Vec<_>>>()?;
        drop(to);
        let mut tallies = new_tallies(&TCP);
        measure::receive(from, &mut tallies, |_| {})?;
        children.into_iter().try_for_each(Child::join)?;

        let results = ContenderResult::of_all(&TCP, &tallies, &counts_in_a_crowd(members, &barrier)?);
        bench.result(&format!("crowd_{members}"), &title, Facts::default(), results);
    }
    Ok(())
}

fn measure_as(member: usize, rounds: usize, barrier: &Barrier, mut to: &PipeWriter) {
    let mut samples: Vec<Sample> = Vec::with_capacity(rounds * BURST * TCP.len());
    burst_by_burst(member, rounds, barrier, |index, contender| {
        let (sample, socket) = timed(index, contender);
        drop(socket);
        samples.push(sample);
    });
    measure::send(&samples, &mut to).expect("the parent reads");
}

/// The system calls of one of so many members.
fn counts_in_a_crowd(members: usize, barrier: &Barrier) -> io::Result<Vec<Count>> {
    const ROUNDS: usize = 2;
    let others = (1..members)
        .map(|member| Child::fork(|| burst_by_burst(member, ROUNDS, barrier, |_, contender| drop(contender.open()))))
        .collect::<io::Result<Vec<_>>>()?;
    let traced = Traced::fork(|| {
        burst_by_burst(0, ROUNDS, barrier, |index, contender| drop(marked(index, contender)));
    })?;
    let counts = traced.count(TCP.len())?;
    others.into_iter().try_for_each(Child::join)?;
    Ok(counts)
}

fn burst_by_burst(member: usize, rounds: usize, barrier: &Barrier, mut call: impl FnMut(usize, &Contender)) {
    set_floor_port(FLOOR_PORT + member as u16);
    let mut turns = Turns::of(TCP.len());
    for _ in 0..rounds {
        for index in turns.next_round() {
            barrier.wait();
            (0..BURST).for_each(|_| call(index, &TCP[index]));
        }
    }
}
