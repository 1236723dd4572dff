//! What is measured. Each group of cases runs in a process and a network namespace of its own.

use std::collections::HashSet;
use std::io::{self, PipeWriter, Read, Write};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use socket2::{SockRef, Type};

use crate::contenders::{CONNECTING, Contender, FEW_LEFT, NONE_LEFT, TCP, UDP, set_ports, start_as_a_postmaster};
use crate::measure::{Condition, Tally, Turns, interleaved, timed};
use crate::namespace::{self, DEFAULT_PORTS, DEFAULT_RANGE};
use crate::occupancy::{self, Server};
use crate::processes::{Child, Holders, Undisturbed, cpu_time, open_files_limit};
use crate::results::{Case, Fill, Found, title};

pub type Group = (&'static str, fn(&Bench) -> io::Result<()>);

pub const GROUPS: &[Group] = &[
    ("self_check", self_check),
    ("quiet", |bench| bench.both("quiet", TCP, [1_000, 20_000])),
    ("held_by_bind_0", held_by_bind_0),
    ("held_at_random", held_at_random),
    // TIME_WAIT lasts 60 s: one condition at a time.
    ("time_wait", |bench| in_time_wait(bench, Condition::Cold)),
    ("time_wait", |bench| in_time_wait(bench, Condition::Warm)),
    ("time_wait_not_reusable", time_wait_not_reusable),
    ("fill", fill),
    ("udp", udp),
    ("first_call", |bench| first_calls(bench, "first_call", 700)),
    ("other_range", other_range),
    ("connect_quiet", |bench| connecting(bench, "connect_quiet", &[], &[])),
    ("connect_other", connect_other),
    ("connect_time_wait", |bench| connecting(bench, "connect_time_wait", &[], &occupancy::at_random())),
    ("connect_half_free", |bench| connecting(bench, "connect_half_free", halves()[0], &[])),
    ("connect_half_time_wait", |bench| connecting(bench, "connect_half_time_wait", halves()[0], halves()[1])),
    ("connect_ten_left", connect_ten_left),
    ("connect_none_left", |bench| connecting(bench, "connect_none_left", &occupancy::at_random(), &[])),
];

pub const OCCUPANCIES: [usize; 6] = [10, 30, 50, 75, 90, 99];

/// The last ports of the range.
pub const LEFT: [usize; 4] = [50, 10, 2, 1];

/// Outside the range.
const FLOOR_PORT: u16 = 22_000;
const SERVER_PORT: u16 = 22_500;
const OTHER_SERVER_PORT: u16 = 22_501;

/// A group that hangs is ended by the kernel after this many seconds.
const PATIENCE: u32 = 600;

/// Runs one group in this process.
pub fn run(act: fn(&Bench) -> io::Result<()>, quick: bool, results: PipeWriter) -> io::Result<()> {
    // SAFETY: no memory is involved; nothing else uses SIGALRM.
    unsafe { libc::alarm(PATIENCE) };
    open_files_limit();
    namespace::enter()?;
    set_ports(FLOOR_PORT, SERVER_PORT, DEFAULT_RANGE);
    act(&Bench { quick, results })
}

/// How much is measured, and the way back to the program that started this.
pub struct Bench {
    quick: bool,
    results: PipeWriter,
}

impl Bench {
    /// So many rounds, cold and warm, as things are now.
    fn both(&self, name: &str, contenders: &[Contender], [cold, warm]: [u64; 2]) -> io::Result<()> {
        self.measure(name, contenders, (Condition::Cold, cold, 30), || ())?;
        self.measure(name, contenders, (Condition::Warm, warm, 12), || ())
    }

    /// Everybody in every round, and no new round after so many seconds.
    fn measure(
        &self,
        name: &str,
        contenders: &[Contender],
        (condition, rounds, seconds): (Condition, u64, u64),
        between: impl Fn(),
    ) -> io::Result<()> {
        let rounds = self.rounds(rounds);
        let time = if self.quick { Duration::from_millis(250) } else { Duration::from_secs(seconds) };
        let bar = bar(&format!("{}, {}", title(name), condition.name()), rounds);
        let contenders = interleaved(contenders, condition, rounds, time, || {
            bar.inc(1);
            between();
        });
        bar.finish_and_clear();
        self.tell(&Found::Case(Case { name: name.to_owned(), condition, contenders }))
    }

    fn rounds(&self, rounds: u64) -> u64 {
        if self.quick { rounds.div_ceil(5) } else { rounds }
    }

    fn tell(&self, found: &Found) -> io::Result<()> {
        writeln!(&self.results, "{}", serde_json::to_string(found)?)
    }
}

/// Draws on standard error, and nothing where that is not a terminal.
fn bar(what: &str, steps: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{wide_msg} {bar:16} {percent:>3} % {elapsed:>4}").expect("a valid template");
    let bar = ProgressBar::new(steps).with_style(style).with_message(what.to_owned());
    bar.tick();
    bar
}

/// Every contender gives a socket that has the port it says, which is not reserved, and, TCP, listens.
fn self_check(_bench: &Bench) -> io::Result<()> {
    let reserved: Vec<u16> = DEFAULT_RANGE.step_by(3).take(1_000).collect();
    let list: Vec<String> = reserved.iter().map(u16::to_string).collect();
    namespace::reserve_ports(&list.join(","))?;
    for (contenders, listens) in [(TCP, true), (UDP, false)] {
        for contender in contenders {
            let (socket, port) = contender.open().map_err(io::Error::from_raw_os_error)?;
            let socket = SockRef::from(&socket);
            let its_port = socket.local_addr()?.as_socket().map(|address| address.port());
            let right_type = if listens { socket.is_listener()? } else { socket.r#type()? == Type::DGRAM };
            if its_port != Some(port) || !right_type || reserved.contains(&port) || !socket.nonblocking()? {
                return Err(io::Error::other(format!("{} does not give what it should", contender.name)));
            }
        }
    }
    Ok(())
}

fn held_by_bind_0(bench: &Bench) -> io::Result<()> {
    let ports = occupancy::as_bind_0_would(DEFAULT_RANGE, DEFAULT_PORTS);
    held_case_by_case(bench, "by_bind_0", &ports, |next| match occupancy::kernel_picks_like(next)? {
        true => Ok(()),
        false => Err(io::Error::other("SO_REUSEADDR and bind(0) pick other ports on this kernel")),
    })?;
    Ok(())
}

fn held_at_random(bench: &Bench) -> io::Result<()> {
    let ports = occupancy::at_random();
    let mut holders = held_case_by_case(bench, "at_random", &ports, |_| Ok(()))?;
    let mut held = share(*OCCUPANCIES.last().expect("a last one"));
    for left in LEFT {
        holders.push(occupancy::held(Type::STREAM, &ports[held..DEFAULT_PORTS - left])?);
        held = DEFAULT_PORTS - left;
        bench.both(&format!("left_{left}"), FEW_LEFT, [500, 100])?;
    }
    holders.push(occupancy::held(Type::STREAM, &ports[held..])?);
    bench.both("held_all", NONE_LEFT, [60, 30])
}

fn share(percent: usize) -> usize {
    DEFAULT_PORTS * percent / 100
}

fn held_case_by_case(
    bench: &Bench,
    series: &str,
    ports: &[u16],
    check: impl Fn(&[u16]) -> io::Result<()>,
) -> io::Result<Vec<Holders>> {
    let (mut holders, mut held) = (Vec::new(), 0);
    for percent in OCCUPANCIES {
        holders.push(occupancy::held(Type::STREAM, &ports[held..share(percent)])?);
        held = share(percent);
        check(&ports[held..])?;
        // The others are for the picture.
        let in_the_table = matches!((series, percent), ("by_bind_0", 30 | 50 | 90) | (_, 99));
        let rounds = if in_the_table { [500, 1_000] } else { [150, 150] };
        bench.both(&format!("{series}_{percent}"), TCP, rounds)?;
    }
    Ok(holders)
}

fn in_time_wait(bench: &Bench, condition: Condition) -> io::Result<()> {
    occupancy::leave_in_time_wait(&occupancy::at_random(), true)?;
    let seconds = if condition == Condition::Cold { 52 } else { 12 };
    bench.measure("time_wait", TCP, (condition, 500, seconds), || ())?;
    occupancy::are_in_time_wait(DEFAULT_PORTS)
}

fn time_wait_not_reusable(bench: &Bench) -> io::Result<()> {
    occupancy::leave_in_time_wait(&occupancy::at_random(), false)?;
    bench.both("time_wait_not_reusable", NONE_LEFT, [30, 30])?;
    occupancy::are_in_time_wait(DEFAULT_PORTS)
}

fn udp(bench: &Bench) -> io::Result<()> {
    bench.both("udp_quiet", UDP, [500, 20_000])?;
    let _holders = occupancy::held(Type::DGRAM, &occupancy::at_random()[..share(90)])?;
    bench.both("udp_at_random_90", UDP, [500, 1_000])
}

/// A range that does not touch Linux's default, which is what a process that has never called takes for granted; half of
/// it is held, so that the kernel's search of the whole range is long.
fn other_range(bench: &Bench) -> io::Result<()> {
    const RANGE: RangeInclusive<u16> = 1024..=20000;
    namespace::set_range(&RANGE)?;
    let ports = occupancy::as_bind_0_would(RANGE, RANGE.len() / 2);
    let _holders = occupancy::held(Type::STREAM, &ports)?;
    first_calls(bench, "other_range_first", 500)?;
    bench.both("other_range", TCP, [500, 1_000])
}

/// The call that a backend makes: in a child, forked from a process that has never called, so that whatever is read or
/// loaded once is paid. The walk of the cold ones is the parent's.
fn first_calls(bench: &Bench, name: &str, rounds: u64) -> io::Result<()> {
    start_as_a_postmaster();
    for condition in [Condition::Cold, Condition::Warm] {
        let rounds = bench.rounds(rounds);
        let bar = bar(&format!("{}, {}", title(name), condition.name()), rounds);
        let mut tallies: Vec<Tally> = TCP.iter().map(|_| Tally::default()).collect();
        let mut turns = Turns::of(TCP.len());
        let _undisturbed = Undisturbed::ask();
        for _ in 0..rounds {
            for index in turns.next_round() {
                let (from, to) = io::pipe()?;
                if condition == Condition::Cold {
                    condition.prepare(&TCP[index]);
                }
                let child = Child::fork(|| {
                    let (sample, _opened) = timed(&TCP[index]);
                    serde_json::to_writer(to, &sample).expect("the parent reads");
                })?;
                tallies[index].add(serde_json::from_reader(from)?);
                child.join()?;
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        let contenders = TCP.iter().zip(&tallies).map(|(contender, tally)| tally.figures(contender.name)).collect();
        bench.tell(&Found::Case(Case { name: name.to_owned(), condition, contenders }))?;
    }
    Ok(())
}

/// Connections from the default range: each port of `connected` has one to the server, and each of `waiting` is in
/// TIME_WAIT, left by a listener.
fn connecting(bench: &Bench, name: &str, connected: &[u16], waiting: &[u16]) -> io::Result<()> {
    occupancy::leave_in_time_wait(waiting, true)?;
    let server = Server::with_connections(SERVER_PORT, connected)?;
    // Within the 60 s of TIME_WAIT.
    bench.measure(name, CONNECTING, (Condition::Cold, 500, 20), || server.clear())?;
    bench.measure(name, CONNECTING, (Condition::Warm, 5_000, 20), || server.clear())?;
    occupancy::are_in_time_wait(waiting.len())
}

/// A connection to another destination on every port.
fn connect_other(bench: &Bench) -> io::Result<()> {
    let _connections = Server::with_connections(OTHER_SERVER_PORT, &occupancy::at_random())?;
    connecting(bench, "connect_other", &[], &[])
}

fn connect_ten_left(bench: &Bench) -> io::Result<()> {
    let ports = occupancy::at_random();
    let (ten, others) = ports.split_at(10);
    connecting(bench, "connect_ten_left", others, ten)
}

fn halves() -> [&'static [u16]; 2] {
    let ports: &'static [u16] = occupancy::at_random().leak();
    let (one, other) = ports.split_at(DEFAULT_PORTS / 2);
    [one, other]
}

/// Several processes take ports until there is none left, each contender on an empty range.
fn fill(bench: &Bench) -> io::Result<()> {
    /// So that taking one that is reserved shows.
    const RESERVED: RangeInclusive<u16> = 40000..=40031;
    namespace::reserve_ports(&format!("{}-{}", RESERVED.start(), RESERVED.end()))?;
    // Four, or as many as it takes to hold the range with room for uneven shares.
    let processes = DEFAULT_PORTS.div_ceil((open_files_limit() / 2).max(1)).max(4);
    // Greenplum's C takes half a minute.
    let patience = Duration::from_millis(if bench.quick { 700 } else { 300_000 });
    for contender in TCP.iter().filter(|contender| ["stock", "ic_listener"].contains(&contender.name)) {
        let bar = bar(&format!("filling the range: {}", contender.name), 1);
        let began = Instant::now();
        let mut pipes = Vec::new();
        // They keep their sockets until they are dropped.
        let _children: Vec<Child> = (0..processes)
            .map(|_| {
                let (from, to) = io::pipe()?;
                pipes.push(from);
                Child::fork(|| fill_as_one_of_many(contender, patience, to))
            })
            .collect::<io::Result<_>>()?;
        let (mut cpu_seconds, mut ports, mut stopped) = (0.0, HashSet::new(), false);
        for mut from in pipes {
            let mut answer = String::new();
            from.read_to_string(&mut answer)?;
            let one: Filled = serde_json::from_str(&answer)?;
            cpu_seconds += one.0;
            ports.extend(one.1);
            stopped |= one.2;
        }
        bar.finish_and_clear();
        bench.tell(&Found::Fill(Fill {
            contender: contender.name.to_owned(),
            processes,
            seconds: began.elapsed().as_secs_f64(),
            cpu_seconds,
            ports: ports.len(),
            usable_ports: DEFAULT_PORTS - RESERVED.len(),
            stopped,
        }))?;
    }
    Ok(())
}

/// CPU time, ports, and whether the patience was used up before the ports were.
type Filled = (f64, Vec<u16>, bool);

fn fill_as_one_of_many(contender: &Contender, patience: Duration, mut to: PipeWriter) {
    // Asking for the CPU time is a system call, and worth a fifth of a socket.
    const CALLS_BETWEEN_LOOKS: usize = 64;
    let mut opened = Vec::new();
    let mut stopped = false;
    while let (false, Ok(socket)) = (stopped, contender.open()) {
        opened.push(socket);
        stopped = opened.len() % CALLS_BETWEEN_LOOKS == 0 && cpu_time() > patience;
    }
    let ports = opened.iter().map(|(_, port)| *port).collect();
    let filled: Filled = (cpu_time().as_secs_f64(), ports, stopped);
    to.write_all(&serde_json::to_vec(&filled).expect("numbers")).expect("the parent reads");
    drop(to);
    loop {
        // SAFETY: no memory is involved.
        unsafe { libc::pause() };
    }
}
