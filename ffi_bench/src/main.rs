//! Measures ic_listener against what it replaces, through the C ABI of its static library.
//!
//! `ffi_bench [--quick] [--only GROUP]... [--before DIRECTORY] DIRECTORY` measures, shows tables, writes results.json
//! and pictures into the directory, and fails when a target is missed. With `--only` it writes nothing. `--before` has
//! the results of an earlier version to be compared with. Each group of cases is a forked process with a network
//! namespace of its own.
//!
//! `ffi_bench --draw DIRECTORY [FILE]...` measures nothing: it draws the pictures from the results that are there,
//! prints the tables, and puts them into the files, between marks (`tables.rs`).

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
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cases::{GROUPS, Group};
use crate::processes::Child;
use crate::results::Run;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let outcome = match words.split_first() {
        Some((first, [directory, files @ ..])) if first == "--draw" => draw(Path::new(directory), files).map(|()| true),
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

#[derive(Default)]
struct Wanted {
    quick: bool,
    only: Vec<String>,
    before: Option<PathBuf>,
    directory: PathBuf,
}

impl Wanted {
    fn from(words: &[String]) -> io::Result<Self> {
        let usage = || {
            let groups: Vec<&str> = GROUPS.iter().map(|(name, _)| *name).collect();
            io::Error::other(format!(
                "usage: ffi_bench [--quick] [--only GROUP]... [--before DIRECTORY] DIRECTORY, or --draw DIRECTORY [FILE]...\n\
                groups: {}",
                groups.join(" ")
            ))
        };
        let mut wanted = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--quick" => wanted.quick = true,
                "--only" => wanted.only.push(words.next().ok_or_else(usage)?.clone()),
                "--before" => wanted.before = Some(words.next().ok_or_else(usage)?.into()),
                _ if word.starts_with('-') => return Err(usage()),
                _ => wanted.directory = word.into(),
            }
        }
        let known = |group: &String| GROUPS.iter().any(|(name, _)| name == group);
        if wanted.directory.as_os_str().is_empty() || !wanted.only.iter().all(known) {
            Err(usage())
        } else {
            Ok(wanted)
        }
    }
}

/// Whether all targets are met.
fn bench(wanted: &Wanted) -> io::Result<bool> {
    let before = wanted.before.as_deref().map(Run::read).transpose()?;
    let mut run = Run::new(wanted.quick)?;
    let mut complete = true;
    for group in GROUPS {
        if wanted.only.is_empty() || wanted.only.iter().any(|name| name == group.0) {
            // The others do not take the blame for it.
            if let Err(error) = run_group(group, wanted.quick, &mut run) {
                eprintln!("ffi_bench: {}: {error}", group.0);
                complete = false;
            }
        }
    }
    if wanted.only.is_empty() {
        fs::create_dir_all(&wanted.directory)?;
        run.write(&wanted.directory)?;
        pictures::draw(&run, &wanted.directory)?;
    }
    Ok(targets::judge(&run, before.as_ref()) && complete)
}

fn run_group((name, act): &Group, quick: bool, run: &mut Run) -> io::Result<()> {
    let (from, to) = io::pipe()?;
    let child = Child::fork(|| {
        if let Err(error) = cases::run(*act, quick, to) {
            panic!("{name}: {error}");
        }
    })?;
    for line in BufReader::new(from).lines() {
        run.add(serde_json::from_str(&line?)?);
    }
    child.join()
}

/// Without measuring.
fn draw(directory: &Path, files: &[String]) -> io::Result<()> {
    let run = Run::read(directory)?;
    pictures::draw(&run, directory)?;
    tables::print(&run);
    files.iter().try_for_each(|file| tables::paste(&run, Path::new(file)))
}
