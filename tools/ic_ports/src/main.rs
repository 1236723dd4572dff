//! ic_ports: who holds the ports of this host, and whether there is one for a listener. For operators and health
//! checks; see man/ic_ports.1.

mod asking;
mod print;
mod processes;
mod survey;

use std::ffi::OsString;
use std::io::Write;
use std::ops::RangeInclusive;
use std::process::ExitCode;

use lexopt::prelude::*;

use crate::asking::Answer;
use crate::survey::Survey;

const USAGE: &str = "usage: ic_ports [-a ADDRESS] [-p MIN-MAX] [-j]";

const HELP: &str = "\
Says who holds the ports that a listener may use, and whether one can be opened.

  -a, --address ADDRESS  a numeric address of this host, instead of all of them
  -p, --ports MIN-MAX    these ports, instead of the ephemeral port range
  -j, --json             one JSON object
  -h, --help             this text
  -V, --version          the version

exit status: 0 a listener can be opened, 1 none can, 2 usage, 3 that cannot be told
";

/// A verdict that a health check can act on.
const NO_LISTENER: u8 = 1;
const BAD_USAGE: u8 = 2;
const CANNOT_TELL: u8 = 3;

/// What the command line asks for.
enum Command {
    Survey(Wanted),
    Print(String),
}

/// Which ports, and how to print what is found.
#[derive(Default)]
struct Wanted {
    address: Option<String>,
    ports: Option<RangeInclusive<u16>>,
    json: bool,
}

fn main() -> ExitCode {
    let wanted = match command(std::env::args_os()) {
        Ok(Command::Survey(wanted)) => wanted,
        Ok(Command::Print(text)) => return print(&text, ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("ic_ports: {error}\n{USAGE}");
            return ExitCode::from(BAD_USAGE);
        }
    };
    let survey = match Survey::of(wanted.address.as_deref(), wanted.ports) {
        Ok(survey) => survey,
        Err(what) => {
            eprintln!("ic_ports: {what}\n{USAGE}");
            return ExitCode::from(BAD_USAGE);
        }
    };
    let status = match survey.listener.answer {
        Answer::Yes => ExitCode::SUCCESS,
        Answer::No { .. } => ExitCode::from(NO_LISTENER),
        Answer::Unknown { .. } => ExitCode::from(CANNOT_TELL),
    };
    print(&if wanted.json { print::json(&survey) } else { print::text(&survey) }, status)
}

/// Fails when the output cannot be written: the answer did not arrive.
fn print(text: &str, status: ExitCode) -> ExitCode {
    let mut output = std::io::stdout();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Ok(()) => status,
        Err(_) => ExitCode::from(CANNOT_TELL),
    }
}

fn command(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, lexopt::Error> {
    let mut parser = lexopt::Parser::from_iter(arguments);
    let mut wanted = Wanted::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Short('a') | Long("address") => wanted.address = Some(parser.value()?.string()?),
            Short('p') | Long("ports") => wanted.ports = Some(parser.value()?.parse_with(range)?),
            Short('j') | Long("json") => wanted.json = true,
            Short('h') | Long("help") => return Ok(Command::Print(format!("{USAGE}\n\n{HELP}"))),
            Short('V') | Long("version") => {
                return Ok(Command::Print(format!("ic_ports {}\n", env!("CARGO_PKG_VERSION"))));
            }
            _ => return Err(argument.unexpected()),
        }
    }
    Ok(Command::Survey(wanted))
}

/// `40000-40063`, or `40000` alone.
fn range(text: &str) -> Result<RangeInclusive<u16>, &'static str> {
    let (min, max) = text.split_once('-').unwrap_or((text, text));
    match (min.parse(), max.parse()) {
        (Ok(min), Ok(max)) if 1 <= min && min <= max => Ok(min..=max),
        _ => Err("the ports should be MIN-MAX, from 1 to 65535"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Wanted, String> {
        let all = ["ic_ports"].iter().chain(arguments).map(OsString::from);
        match command(all) {
            Ok(Command::Survey(wanted)) => Ok(wanted),
            Ok(Command::Print(text)) => Err(text),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn every_option_is_taken() {
        let wanted = parse(&["-a", "::1", "--ports=7-9", "-j"]).unwrap();
        assert_eq!((wanted.address.as_deref(), wanted.ports, wanted.json), (Some("::1"), Some(7..=9), true));
        assert_eq!(parse(&["-p", "7"]).unwrap().ports, Some(7..=7));
        let wanted = parse(&[]).unwrap();
        assert_eq!((wanted.address, wanted.ports, wanted.json), (None, None, false));
    }

    #[test]
    fn anything_else_is_an_error() {
        for ports in ["", "-", "0", "0-7", "9-7", "1-65536", "-1", "a-b", "1-2-3", " 1"] {
            assert!(parse(&[&format!("--ports={ports}")]).is_err(), "{ports:?}");
        }
        for arguments in [&["-x"][..], &["--nosuch"], &["-a"], &["-p"], &["word"], &["--json=yes"]] {
            assert!(parse(arguments).is_err(), "{arguments:?}");
        }
    }
}
