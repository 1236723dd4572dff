//! What the groups of cases share: how much is measured, and how it is reported to the program that started them, by
//! one line of JSON for each event.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::contenders::{Contender, Role};
use crate::measure::{Plan, Tally, interleaved};
use crate::processes::Undisturbed;
use crate::results::{CaseResult, ContenderResult, Occupancy};
use crate::system_calls::{Count, Traced, marked};

/// Ports from here on are what the floor is told is free: outside the range, one for each process.
pub const FLOOR_PORT: u16 = 22_000;

#[derive(Serialize, Deserialize)]
pub enum Event {
    Begin { title: String, steps: u64 },
    Step { steps: u64 },
    Result(Box<CaseResult>),
}

/// How much is measured, and the way back to the program that shows it.
pub struct Bench {
    quick: bool,
    /// Whether the last measurement was, see [`Undisturbed`].
    undisturbed: Cell<bool>,
}

impl Bench {
    pub fn new(quick: bool) -> Self {
        Self { quick, undisturbed: Cell::new(false) }
    }

    pub fn is_quick(&self) -> bool {
        self.quick
    }

    pub fn choose<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }

    fn tell(&self, event: &Event) {
        // Nobody is left to be told of an error; the group ends with the program.
        if let Ok(line) = serde_json::to_string(event) {
            println!("{line}");
        }
    }

    pub fn begin(&self, title: &str, steps: u64) {
        self.tell(&Event::Begin { title: title.to_owned(), steps });
    }

    /// A function to be called after each of `steps` steps, which tells of every hundredth part of the way.
    pub fn progress(&self, title: &str, steps: u64) -> impl FnMut() + '_ {
        self.begin(title, steps);
        let every = (steps / 100).max(1);
        let mut done = 0;
        move || {
            done += 1;
            if done % every == 0 {
                self.tell(&Event::Step { steps: every });
            }
        }
    }

    pub fn result(&self, case: &str, title: &str, facts: Facts, contenders: Vec<ContenderResult>) {
        self.tell(&Event::Result(Box::new(CaseResult {
            case: case.to_owned(),
            title: title.to_owned(),
            kernel: String::new(),
            cpu: String::new(),
            cpus: 0,
            quick: self.quick,
            undisturbed: self.undisturbed.take(),
            occupancy: facts.occupancy,
            conditions: facts.conditions,
            contenders,
        })));
    }

    pub fn undisturbed(&self) -> Undisturbed {
        let undisturbed = Undisturbed::ask();
        self.undisturbed.set(undisturbed.granted);
        undisturbed
    }

    /// Measures the contenders as things are now.
    pub fn as_things_are(&self, title: &str, contenders: &[Contender], plan: Plan) -> io::Result<Vec<ContenderResult>> {
        let progress = self.progress(title, plan.rounds);
        let undisturbed = self.undisturbed();
        let tallies = interleaved(contenders, plan, progress);
        drop(undisturbed);
        let counts = count_system_calls(contenders, &tallies)?;
        Ok(ContenderResult::of_all(contenders, &tallies, &counts))
    }
}

/// What there was, beside the contenders.
#[derive(Default)]
pub struct Facts {
    pub occupancy: Option<Occupancy>,
    pub conditions: BTreeMap<String, u64>,
}

/// Counts the system calls of contenders that have been called before, in a process of its own.
fn count_system_calls(contenders: &[Contender], tallies: &[Tally]) -> io::Result<Vec<Count>> {
    const ROUNDS: usize = 50;
    const TIME: Duration = Duration::from_millis(300);
    let child = Traced::fork(|| {
        let start = Instant::now();
        for round in 0..ROUNDS {
            for (index, contender) in contenders.iter().enumerate() {
                // The range is read by one call in many; the first call of this process is not the one to count. A call
                // that is bound to fail makes so many system calls, each of them stopped twice, that two more do not
                // show.
                if round == 0 && contender.role == Role::IcListener && tallies[index].succeeded() > 0 {
                    drop(contender.open());
                }
                drop(marked(index, contender));
            }
            if start.elapsed() > TIME {
                return;
            }
        }
    })?;
    child.count(contenders.len())
}
