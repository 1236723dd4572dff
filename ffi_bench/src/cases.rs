//! What is measured. Each group of cases runs in a process and a network namespace of its own.

use std::io::{self, PipeWriter, Write};
use std::ops::RangeInclusive;
use std::time::Duration;

use socket2::{SockRef, Type};

use crate::contenders::{CONNECTING, Contender, FEW_LEFT, NONE_LEFT, TCP, UDP, start_as_a_postmaster};
use crate::measure::{Condition, Sample, in_turns, one_call, timed};
use crate::namespace::{self, DEFAULT_PORTS, DEFAULT_RANGE};
use crate::occupancy;
use crate::processes::{Child, open_files_limit};
use crate::results::Case;

pub type Group = (&'static str, fn(&Bench) -> io::Result<()>);

pub const GROUPS: &[Group] = &[
    ("self_check", self_check),
    ("quiet", |bench| bench.both("quiet", TCP, [1_000, 20_000])),
    ("held_by_bind_0", held_by_bind_0),
    ("held_at_random", held_at_random),
    // TIME_WAIT lasts 60 s: one condition at a time.
    ("time_wait", |bench| in_time_wait(bench, Condition::Cold, 52)),
    ("time_wait", |bench| in_time_wait(bench, Condition::Warm, 12)),
    ("time_wait_not_reusable", time_wait_not_reusable),
    ("udp", udp),
    ("first_call", |bench| first_calls(bench, "first_call", 700)),
    ("other_range", other_range),
    ("connect_quiet", |bench| connecting(bench, "connect_quiet", 0, 0)),
    ("connect_other", connect_other),
    ("connect_time_wait", |bench| connecting(bench, "connect_time_wait", 0, DEFAULT_PORTS)),
    ("connect_half_free", |bench| connecting(bench, "connect_half_free", HALF, 0)),
    ("connect_half_time_wait", |bench| connecting(bench, "connect_half_time_wait", HALF, HALF)),
    ("connect_ten_left", |bench| connecting(bench, "connect_ten_left", DEFAULT_PORTS - 10, 10)),
    ("connect_none_left", |bench| connecting(bench, "connect_none_left", DEFAULT_PORTS, 0)),
];

pub const OCCUPANCIES: [usize; 6] = [10, 30, 50, 75, 90, 99];

const HALF: usize = DEFAULT_PORTS / 2;

/// Outside the range; contenders.c has the first one, too.
const SERVER_PORT: u16 = 22_500;
const OTHER_SERVER_PORT: u16 = 22_501;

/// A group that hangs is ended by the kernel after this many seconds.
const TIME_LIMIT: u32 = 600;

/// Runs one group in this process.
pub fn run(act: fn(&Bench) -> io::Result<()>, quick: bool, results: PipeWriter) -> io::Result<()> {
    // SAFETY: no memory is involved; nothing else uses SIGALRM.
    unsafe { libc::alarm(TIME_LIMIT) };
    open_files_limit();
    namespace::enter()?;
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
        self.measure(name, contenders, (Condition::Cold, cold, 30), one_call)?;
        self.measure(name, contenders, (Condition::Warm, warm, 12), one_call)
    }

    /// Everybody in every round, and no new round after so many seconds.
    fn measure(
        &self,
        name: &str,
        contenders: &[Contender],
        (condition, rounds, seconds): (Condition, u64, u64),
        mut sample: impl FnMut(Condition, &Contender) -> io::Result<Sample>,
    ) -> io::Result<()> {
        let (rounds, time) = if self.quick {
            (rounds.div_ceil(5), Duration::from_secs(seconds) / 60)
        } else {
            (rounds, Duration::from_secs(seconds))
        };
        let contenders = in_turns(contenders, rounds, time, |contender| sample(condition, contender))?;
        let case = Case { name: name.to_owned(), condition, contenders };
        writeln!(&self.results, "{}", serde_json::to_string(&case)?)
    }
}

/// Every contender gives a socket that does not block, has the port it says, and, TCP, listens.
fn self_check(_bench: &Bench) -> io::Result<()> {
    for contender in TCP.iter().chain(UDP) {
        let (socket, port) = contender.open().map_err(io::Error::from_raw_os_error)?;
        let socket = SockRef::from(&socket);
        let its_port = socket.local_addr()?.as_socket().map(|address| address.port());
        let is_ready = socket.r#type()? == Type::DGRAM || socket.is_listener()?;
        if its_port != Some(port) || !is_ready || !socket.nonblocking()? {
            return Err(io::Error::other(format!("{} does not give what it should", contender.name)));
        }
    }
    Ok(())
}

/// The name of a case, how many ports are held, who is measured, and how many rounds, cold and warm.
type Step = (String, usize, &'static [Contender], [u64; 2]);

/// Shares of the range. Those that are not in the table are for the picture.
fn shares(series: &str, in_the_table: &[usize]) -> Vec<Step> {
    let step = |percent: usize| {
        let rounds = if in_the_table.contains(&percent) { [500, 1_000] } else { [150, 150] };
        (format!("{series}_{percent}"), DEFAULT_PORTS * percent / 100, TCP, rounds)
    };
    OCCUPANCIES.map(step).into()
}

fn held_by_bind_0(bench: &Bench) -> io::Result<()> {
    let ports = occupancy::as_bind_0_would(DEFAULT_RANGE, DEFAULT_PORTS);
    held(bench, &ports, shares("by_bind_0", &[30, 50, 90, 99]), occupancy::kernel_picks_like)
}

fn held_at_random(bench: &Bench) -> io::Result<()> {
    let mut steps = shares("at_random", &[99]);
    steps.extend([50, 10, 2, 1].map(|left| (format!("left_{left}"), DEFAULT_PORTS - left, FEW_LEFT, [500, 100])));
    steps.push(("held_all".to_owned(), DEFAULT_PORTS, NONE_LEFT, [60, 30]));
    held(bench, &occupancy::at_random(), steps, |_| Ok(()))
}

fn held(bench: &Bench, ports: &[u16], steps: Vec<Step>, check: fn(&[u16]) -> io::Result<()>) -> io::Result<()> {
    let mut held = 0;
    for (name, count, contenders, rounds) in steps {
        occupancy::hold_ports(Type::STREAM, &ports[held..count])?;
        held = count;
        check(&ports[held..])?;
        bench.both(&name, contenders, rounds)?;
    }
    Ok(())
}

fn in_time_wait(bench: &Bench, condition: Condition, seconds: u64) -> io::Result<()> {
    occupancy::leave_in_time_wait(&occupancy::at_random(), true)?;
    bench.measure("time_wait", TCP, (condition, 500, seconds), one_call)?;
    occupancy::are_in_time_wait(DEFAULT_PORTS)
}

fn time_wait_not_reusable(bench: &Bench) -> io::Result<()> {
    occupancy::leave_in_time_wait(&occupancy::at_random(), false)?;
    bench.both("time_wait_not_reusable", NONE_LEFT, [30, 30])?;
    occupancy::are_in_time_wait(DEFAULT_PORTS)
}

fn udp(bench: &Bench) -> io::Result<()> {
    bench.both("udp_quiet", UDP, [500, 20_000])?;
    occupancy::hold_ports(Type::DGRAM, &occupancy::at_random()[..DEFAULT_PORTS * 9 / 10])?;
    bench.both("udp_at_random_90", UDP, [500, 1_000])
}

/// A range that does not touch Linux's default, which is what a process that has never called takes for granted; half of
/// it is held, so that the kernel's search of the whole range is long.
fn other_range(bench: &Bench) -> io::Result<()> {
    const RANGE: RangeInclusive<u16> = 1024..=20000;
    namespace::set_range(&RANGE)?;
    occupancy::hold_ports(Type::STREAM, &occupancy::as_bind_0_would(RANGE, RANGE.len() / 2))?;
    first_calls(bench, "other_range_first", 500)?;
    bench.both("other_range", TCP, [500, 1_000])
}

fn first_calls(bench: &Bench, name: &str, rounds: u64) -> io::Result<()> {
    start_as_a_postmaster();
    bench.measure(name, TCP, (Condition::Cold, rounds, 180), first_call)?;
    bench.measure(name, TCP, (Condition::Warm, rounds, 180), first_call)
}

/// The call that a backend makes: in a child, forked from a process that has never called, so that whatever is read or
/// loaded once is paid. The walk of the cold ones is the parent's.
fn first_call(condition: Condition, contender: &Contender) -> io::Result<Sample> {
    let (from, to) = io::pipe()?;
    if condition == Condition::Cold {
        condition.prepare(contender);
    }
    let child = Child::fork(|| {
        let (sample, _opened) = timed(contender);
        serde_json::to_writer(to, &sample).expect("the parent reads");
    })?;
    let sample = serde_json::from_reader(from)?;
    child.join()?;
    Ok(sample)
}

/// Connections from the default range: so many ports have one to the server, and so many others are in TIME_WAIT, left by
/// a listener.
fn connecting(bench: &Bench, name: &str, connected: usize, waiting: usize) -> io::Result<()> {
    let ports = occupancy::at_random();
    occupancy::leave_in_time_wait(&ports[connected..connected + waiting], true)?;
    let server = occupancy::server(SERVER_PORT, &ports[..connected])?;
    let sample = |condition, contender: &Contender| {
        // Closes the connections that were made and reset before. Not while a call is made: a SYN that meets a socket of
        // the same 4-tuple while a process has it is lost, and comes again a second later.
        while server.accept().is_ok() {}
        one_call(condition, contender)
    };
    // Within the 60 s of TIME_WAIT.
    bench.measure(name, CONNECTING, (Condition::Cold, 500, 20), sample)?;
    bench.measure(name, CONNECTING, (Condition::Warm, 5_000, 20), sample)?;
    occupancy::are_in_time_wait(waiting)
}

/// A connection to another destination on every port.
fn connect_other(bench: &Bench) -> io::Result<()> {
    occupancy::server(OTHER_SERVER_PORT, &occupancy::at_random())?;
    connecting(bench, "connect_other", 0, 0)
}
