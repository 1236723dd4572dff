//! Measures ic_listener against what it replaces, through the C ABI of its static library.
//!
//! `run` measures, shows tables, judges the targets, and writes results.json and a picture into the directory; `quick`
//! does so in a minute. Both compare with the results of an earlier version in another directory. `only` measures some
//! groups of cases and writes nothing. `draw` measures nothing: it draws the picture from the results that are there,
//! and puts the tables into the files, between marks (`tables.rs`).

mod cases;
mod contenders;
mod measure;
mod namespace;
mod occupancy;
mod pictures;
mod processes;
mod results;
mod tables;
mod targets;

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::ExitCode;

use crate::cases::{GROUPS, Group};
use crate::processes::{Child, adopt_orphans, wait_for_orphans};
use crate::results::Run;

const USAGE: &str =
    "usage: ffi_bench run|quick DIRECTORY [BEFORE], only GROUP..., or draw DIRECTORY [FILE...]; groups:";

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["run", directory, ref before @ ..] => bench(false, directory, before.first()),
        ["quick", directory, ref before @ ..] => bench(true, directory, before.first()),
        ["only", ref groups @ ..] => {
            measure(false, groups).map(|(run, complete)| targets::judge(&run, None) && complete)
        }
        ["draw", directory, ref files @ ..] => draw(directory, files).map(|()| true),
        _ => Err(io::Error::other(GROUPS.iter().fold(USAGE.to_owned(), |usage, (name, _)| usage + " " + name))),
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

/// Whether all targets are met.
fn bench(quick: bool, directory: &str, before: Option<&&str>) -> io::Result<bool> {
    let before = before.map(|before| Run::read(Path::new(before))).transpose()?;
    let (run, complete) = measure(quick, &GROUPS.iter().map(|(name, _)| *name).collect::<Vec<_>>())?;
    fs::create_dir_all(directory)?;
    run.write(Path::new(directory))?;
    pictures::draw(&run, Path::new(directory))?;
    Ok(targets::judge(&run, before.as_ref()) && complete)
}

/// Each group in a forked process, and whether all came to their end.
fn measure(quick: bool, groups: &[&str]) -> io::Result<(Run, bool)> {
    let mut run = Run::new(quick)?;
    let mut complete = true;
    adopt_orphans();
    for group in GROUPS.iter().filter(|(name, _)| groups.contains(name)) {
        // The others do not take the blame for it.
        if let Err(error) = run_group(group, quick, &mut run) {
            eprintln!("ffi_bench: {}: {error}", group.0);
            complete = false;
        }
        wait_for_orphans();
    }
    Ok((run, complete))
}

fn run_group((name, act): &Group, quick: bool, run: &mut Run) -> io::Result<()> {
    let (from, to) = io::pipe()?;
    let child = Child::fork(|| {
        if let Err(error) = cases::run(*act, quick, to) {
            panic!("{name}: {error}");
        }
    })?;
    for line in BufReader::new(from).lines() {
        let case: results::Case = serde_json::from_str(&line?)?;
        case.print();
        run.cases.push(case);
    }
    child.join()
}

fn draw(directory: &str, files: &[&str]) -> io::Result<()> {
    let run = Run::read(Path::new(directory))?;
    pictures::draw(&run, Path::new(directory))?;
    files.iter().try_for_each(|file| tables::paste(&run, Path::new(file)))
}
