//! Measures ic_listener against what it replaces, through the C ABI of its static library.
//!
//! `ffi_bench [--quick] [--only GROUP]... DIRECTORY` measures, shows a table, writes JSON and figures into the
//! directory, and fails when a target is missed. It starts itself for each group of cases (`case GROUP`), so that each
//! has a process and a network namespace of its own, and for the processes that hold sockets (`hold tcp|udp`).
//!
//! `ffi_bench --draw DIRECTORY` draws the figures from the JSON that is there, and measures nothing.

mod bench;
mod cases;
mod connecting;
mod contenders;
mod crowd;
mod figures;
mod fill;
mod footprint;
mod measure;
mod namespace;
mod occupancy;
mod processes;
mod results;
mod system_calls;
mod table;
mod targets;

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use indicatif::{ProgressBar, ProgressStyle};

use crate::bench::Event;
use crate::cases::GROUPS;
use crate::footprint::Footprint;
use crate::results::CaseResult;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["hold", kind] => occupancy::hold(kind).map(|()| true),
        ["case", group] => cases::run(group, false).map(|()| true),
        ["case", group, "--quick"] => cases::run(group, true).map(|()| true),
        ["--draw", directory] => draw(Path::new(directory)).map(|()| true),
        _ => Wanted::from(&words).and_then(|wanted| bench(&wanted)),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ffi_bench: {error}");
            ExitCode::from(2)
        }
    }
}

struct Wanted {
    quick: bool,
    only: Vec<String>,
    directory: PathBuf,
}

impl Wanted {
    fn from(words: &[&str]) -> io::Result<Self> {
        let usage = || io::Error::other("usage: ffi_bench [--quick] [--only GROUP]... DIRECTORY, or --draw DIRECTORY");
        let mut wanted = Self { quick: false, only: Vec::new(), directory: PathBuf::new() };
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            match word {
                "--quick" => wanted.quick = true,
                "--only" => wanted.only.push((*words.next().ok_or_else(usage)?).to_owned()),
                _ if word.starts_with('-') => return Err(usage()),
                _ => wanted.directory = word.into(),
            }
        }
        if wanted.directory.as_os_str().is_empty() { Err(usage()) } else { Ok(wanted) }
    }

    fn wants(&self, group: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == group)
    }
}

/// Whether all targets are met.
fn bench(wanted: &Wanted) -> io::Result<bool> {
    fs::create_dir_all(&wanted.directory)?;
    let mut results: Vec<CaseResult> = Vec::new();
    for (group, _) in GROUPS {
        if wanted.wants(group) {
            run_group(group, wanted, &mut results)?;
        }
    }
    if wanted.wants("linking") {
        let footprint = measured_footprint()?;
        footprint.print();
        footprint.write(&wanted.directory)?;
    }
    figures::draw(&results, &wanted.directory)?;
    table::print_for_readme(&results);
    Ok(targets::judge(&results))
}

/// Without measuring.
fn draw(directory: &Path) -> io::Result<()> {
    match figures::draw(&CaseResult::read_all(directory)?, directory)? {
        0 => Err(io::Error::other(format!("{} has not the results of a whole run", directory.display()))),
        _ => Ok(()),
    }
}

fn run_group(group: &str, wanted: &Wanted, results: &mut Vec<CaseResult>) -> io::Result<()> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["case", group]).args(wanted.quick.then_some("--quick")).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let events = child.stdout.take().ok_or_else(|| io::Error::other("a case without a pipe"))?;
    let mut bar = ProgressBar::hidden();
    for line in BufReader::new(events).lines() {
        match serde_json::from_str(&line?)? {
            Event::Begin { title, steps } => {
                bar.finish_and_clear();
                bar = new_bar(title, steps);
            }
            Event::Step { steps } => bar.inc(steps),
            Event::Result(mut result) => {
                bar.finish_and_clear();
                result.complete(quiet_of(&result.case, results))?;
                table::print(&result);
                result.write(&wanted.directory)?;
                results.push(*result);
            }
        }
    }
    bar.finish_and_clear();
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("the case {group} failed: {status}"))) }
}

/// The quiet host's result that a case is compared with.
fn quiet_of<'a>(case: &str, results: &'a [CaseResult]) -> Option<&'a CaseResult> {
    let quiet = match case {
        _ if case.starts_with("udp") => "udp_quiet",
        _ if case.starts_with("connect") => "connect_quiet",
        _ => "quiet",
    };
    results.iter().find(|result| result.case == quiet)
}

/// Draws on standard error, and nothing where that is not a terminal.
fn new_bar(title: String, steps: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{wide_msg} {bar:16} {percent:>3} % {elapsed:>4}").expect("a valid template");
    let bar = ProgressBar::new(steps).with_style(style).with_message(title);
    bar.tick();
    bar
}

fn measured_footprint() -> io::Result<Footprint> {
    let scratch = env::temp_dir().join(format!("ffi_bench.{}", std::process::id()));
    fs::create_dir(&scratch)?;
    let footprint = footprint::measure(Path::new(&scratch));
    fs::remove_dir_all(&scratch)?;
    footprint
}
