//! What is measured. Each group of cases runs in a process and a network namespace of its own.

use std::io;
use std::ops::RangeInclusive;
use std::time::Duration;

use socket2::{SockRef, Type};

use crate::bench::{Bench, FLOOR_PORT, Facts};
use crate::connecting;
use crate::contenders::{ALLOCATES, BIND_EACH, Role, TCP, UDP, allocations, set_floor_port, set_port_range};
use crate::crowd;
use crate::fill;
use crate::measure::{self, Plan, Turns, new_tallies, timed};
use crate::namespace::{self, DEFAULT_PORTS, DEFAULT_RANGE};
use crate::occupancy::{self, Holders};
use crate::processes::{Child, die_with_parent, open_files_limit};
use crate::results::{ContenderResult, Occupancy, Placed};
use crate::system_calls::{Count, Traced, marked};

/// A group of cases: its name and what it runs.
pub type Group = (&'static str, fn(&Bench) -> io::Result<()>);

/// In this order. The quiet host comes first, because the others are compared with it.
pub const GROUPS: [Group; 15] = [
    ("self_check", self_check),
    ("quiet", quiet),
    ("held_by_bind_0", held_by_bind_0),
    ("held_at_random", held_at_random),
    ("time_wait_reusable", |bench| full_of_time_wait(bench, true)),
    ("time_wait_not_reusable", |bench| full_of_time_wait(bench, false)),
    ("fill", fill::fill),
    ("crowd", crowd::crowd),
    ("udp", udp),
    ("udp_held", udp_held),
    ("fresh_process", fresh_process),
    ("other_range", other_range),
    ("connect_quiet", connecting::quiet),
    ("connect_time_wait", connecting::time_wait),
    ("connect_connected", connecting::connected),
];

/// Shares of the range, in percent.
const OCCUPANCIES: [u32; 7] = [10, 25, 30, 50, 75, 90, 99];

/// A group that hangs is ended by the kernel after this many seconds.
const PATIENCE: u32 = 3600;

/// Runs one group in this process.
pub fn run(group: &str, quick: bool) -> io::Result<()> {
    let (_, act) = GROUPS
        .iter()
        .find(|(name, _)| *name == group)
        .ok_or_else(|| io::Error::other(format!("no case is called {group}")))?;
    die_with_parent();
    // SAFETY: no memory is involved; nothing else uses SIGALRM.
    unsafe { libc::alarm(PATIENCE) };
    open_files_limit();
    namespace::enter()?;
    set_floor_port(FLOOR_PORT);
    act(&Bench::new(quick))
}

/// Whether what follows measures what it says: every contender gives a socket that has the port it says, and, TCP,
/// listens; and the allocations of the static library are seen.
fn self_check(bench: &Bench) -> io::Result<()> {
    bench.begin("self-check", 1);
    let many_ports: Vec<String> = DEFAULT_RANGE.step_by(3).take(1000).map(|port| port.to_string()).collect();
    namespace::reserve_ports(&many_ports.join(","))?;
    let before = allocations();
    if ALLOCATES.open().is_ok() || allocations() == before {
        return Err(io::Error::other("an allocation of the static library was not counted"));
    }
    for (contenders, listens) in [(&TCP[..], true), (&UDP[..], false)] {
        for contender in contenders {
            let (socket, port) = contender.open().map_err(io::Error::from_raw_os_error)?;
            let socket = SockRef::from(&socket);
            let its_port = socket.local_addr()?.as_socket().map(|address| address.port());
            let right_type = if listens { socket.is_listener()? } else { socket.r#type()? == Type::DGRAM };
            let sits_right = !many_ports.contains(&port.to_string());
            let non_blocking = contender.role == Role::Std || socket.nonblocking()?;
            if its_port != Some(port) || !right_type || !sits_right || !non_blocking {
                return Err(io::Error::other(format!("{} does not give what it should", contender.name)));
            }
        }
    }
    Ok(())
}

fn quiet(bench: &Bench) -> io::Result<()> {
    let title = "quiet host";
    let plan = Plan { rounds: bench.choose(5_000, 50_000), at_least: 0, time: Duration::from_secs(60) };
    let results = bench.as_things_are(title, &TCP, plan)?;
    bench.result("quiet", title, Facts::default(), results);
    Ok(())
}

/// How long a contender is measured where calls may take milliseconds.
fn slow_plan(bench: &Bench) -> Plan {
    Plan {
        rounds: bench.choose(1_000, 10_000),
        at_least: bench.choose(10, 1_000),
        time: Duration::from_millis(bench.choose(400, 6_000)),
    }
}

fn held_by_bind_0(bench: &Bench) -> io::Result<()> {
    let mut holders = Holders::of(Type::STREAM)?;
    // The kernel takes minutes to place them all.
    let modelled = bench.is_quick().then(occupancy::as_bind_0_would);
    let mut held = 0;
    for percent in OCCUPANCIES {
        let title = format!("{percent} % held, by SO_REUSEADDR + bind(0)");
        let wanted = DEFAULT_PORTS * percent as usize / 100;
        if let Some(ports) = &modelled {
            holders.take(&ports[held..wanted])?;
        } else {
            place(bench, &title, &mut holders, wanted - held)?;
        }
        held = wanted;
        held_case(bench, "held_by_bind_0", &title, percent, Placed::BySoReuseaddrAndBind0)?;
    }
    Ok(())
}

/// Has the kernel pick so many more ports for the holders.
fn place(bench: &Bench, title: &str, holders: &mut Holders, count: usize) -> io::Result<()> {
    const AT_ONCE: usize = 100;
    let mut step = bench.progress(&format!("{title}: placing"), count.div_ceil(AT_ONCE) as u64);
    for placed in (0..count).step_by(AT_ONCE) {
        holders.pick(AT_ONCE.min(count - placed))?;
        step();
    }
    Ok(())
}

fn held_at_random(bench: &Bench) -> io::Result<()> {
    let mut holders = Holders::of(Type::STREAM)?;
    let ports = occupancy::at_random();
    let mut held = 0;
    for percent in OCCUPANCIES {
        let wanted = DEFAULT_PORTS * percent as usize / 100;
        holders.take(&ports[held..wanted])?;
        held = wanted;
        let title = format!("{percent} % held, at random");
        held_case(bench, "held_at_random", &title, percent, Placed::AtRandom)?;
    }
    holders.take(&ports[held..])?;
    let title = "the whole range held by listeners";
    let plan = Plan { rounds: bench.choose(20, 500), at_least: bench.choose(10, 200), ..slow_plan(bench) };
    set_port_range(DEFAULT_RANGE);
    let results = bench.as_things_are(title, &[&TCP[..], &[BIND_EACH]].concat(), plan)?;
    bench.result("held_all", title, Facts::default(), results);
    Ok(())
}

fn held_case(bench: &Bench, series: &str, title: &str, percent: u32, placed: Placed) -> io::Result<()> {
    let results = bench.as_things_are(title, &TCP, slow_plan(bench))?;
    let modelled = bench.is_quick() && placed == Placed::BySoReuseaddrAndBind0;
    let facts = Facts { occupancy: Some(Occupancy { percent, placed, modelled }), ..Facts::default() };
    bench.result(&format!("{series}_{percent}"), title, facts, results);
    Ok(())
}

fn full_of_time_wait(bench: &Bench, reusable: bool) -> io::Result<()> {
    let (case, title) = if reusable {
        ("time_wait_reusable", "the whole range in TIME_WAIT, left with SO_REUSEADDR")
    } else {
        ("time_wait_not_reusable", "the whole range in TIME_WAIT, left without SO_REUSEADDR")
    };
    // One connection each, and room for the kernel's own counting of those that are about to end.
    namespace::allow_time_wait(DEFAULT_PORTS + 1_000)?;
    let step = bench.progress(&format!("{title}: making it"), DEFAULT_PORTS as u64);
    let before = occupancy::leave_in_time_wait(reusable, step)?;
    // TIME_WAIT lasts 60 s, and the first of them has been there for some time.
    let plan = if reusable {
        Plan {
            rounds: bench.choose(1_000, 5_000),
            at_least: bench.choose(10, 100),
            time: Duration::from_secs(bench.choose(1, 10)),
        }
    } else {
        Plan { rounds: bench.choose(10, 100), at_least: bench.choose(10, 100), time: Duration::from_secs(10) }
    };
    let results = bench.as_things_are(title, &TCP, plan)?;
    let after = occupancy::ports_in_time_wait()?;
    if before != DEFAULT_PORTS || after != before {
        return Err(io::Error::other(format!(
            "{before} ports were in TIME_WAIT before the calls and {after} after them, instead of {DEFAULT_PORTS}"
        )));
    }
    let conditions = [("ports_in_time_wait_before".to_owned(), before as u64), ("after".to_owned(), after as u64)];
    bench.result(case, title, Facts { conditions: conditions.into(), ..Facts::default() }, results);
    Ok(())
}

fn udp(bench: &Bench) -> io::Result<()> {
    let title = "UDP, quiet host";
    let plan = Plan { rounds: bench.choose(5_000, 50_000), at_least: 0, time: Duration::from_secs(60) };
    let results = bench.as_things_are(title, &UDP, plan)?;
    bench.result("udp_quiet", title, Facts::default(), results);
    Ok(())
}

fn udp_held(bench: &Bench) -> io::Result<()> {
    const PERCENT: u32 = 90;
    let mut holders = Holders::of(Type::DGRAM)?;
    holders.take(&occupancy::at_random()[..DEFAULT_PORTS * PERCENT as usize / 100])?;
    let title = "UDP, 90 % held, at random";
    let results = bench.as_things_are(title, &UDP, slow_plan(bench))?;
    let occupancy = Occupancy { percent: PERCENT, placed: Placed::AtRandom, modelled: false };
    bench.result("udp_held_90", title, Facts { occupancy: Some(occupancy), ..Facts::default() }, results);
    Ok(())
}

/// A range that does not touch Linux's default, which is what a process that has never called takes for granted; half of
/// it is held, so that the kernel's search of the whole range is long.
fn other_range(bench: &Bench) -> io::Result<()> {
    const RANGE: RangeInclusive<u16> = 1024..=20000;
    const HELD: usize = RANGE.end().abs_diff(*RANGE.start()) as usize / 2;
    namespace::set_range(&RANGE)?;
    let title = "range 1024-20000, half held by SO_REUSEADDR + bind(0)";
    let mut holders = Holders::of(Type::STREAM)?;
    if bench.is_quick() {
        // The kernel would place them so, and take its time.
        holders.take(&RANGE.take(HELD).collect::<Vec<_>>())?;
    } else {
        place(bench, title, &mut holders, HELD)?;
    }
    first_calls(bench, "other_range_first", &format!("{title}: first call"), bench.choose(50, 1_000))?;
    let results = bench.as_things_are(title, &TCP, slow_plan(bench))?;
    bench.result("other_range", title, Facts::default(), results);
    Ok(())
}

/// The first call of a process: a backend makes one.
fn fresh_process(bench: &Bench) -> io::Result<()> {
    first_calls(bench, "fresh_process", "one call in a fresh process", bench.choose(200, 3_000))
}

/// Each is made by a child, forked from a process that has never called, so that whatever is read or loaded once is paid.
fn first_calls(bench: &Bench, case: &str, title: &str, rounds: u64) -> io::Result<()> {
    let mut step = bench.progress(title, rounds);
    let mut tallies = new_tallies(&TCP);
    let undisturbed = bench.undisturbed();
    let mut turns = Turns::of(TCP.len());
    for _ in 0..rounds {
        for index in turns.next_round() {
            let (from, to) = io::pipe()?;
            let child = Child::fork(|| {
                let (sample, _socket) = timed(index, &TCP[index]);
                measure::send(&[sample], &mut &to).expect("the parent reads");
            })?;
            drop(to);
            measure::receive(from, &mut tallies, |_| {})?;
            child.join()?;
        }
        step();
    }
    drop(undisturbed);
    let mut counts = vec![Count::default(); TCP.len()];
    for (index, contender) in TCP.iter().enumerate() {
        let child = Traced::fork(|| drop(marked(index, contender)))?;
        counts[index] = child.count(TCP.len())?.swap_remove(index);
    }
    let results = ContenderResult::of_all(&TCP, &tallies, &counts);
    bench.result(case, title, Facts::default(), results);
    Ok(())
}
