//! ic_ports: who holds the ports of this host, and whether there is one for a listener. For operators and health
//! checks; see man/ic_ports.1.

mod check;
mod destinations;
mod print;
mod processes;
mod survey;
mod system;
mod trial;

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use lexopt::prelude::*;

use crate::check::Check;
use crate::survey::{Reach, Survey};
use crate::trial::Answer;

const USAGE: &str = "\
usage: ic_ports [-a ADDRESS] [-p MIN-MAX] [-j] [-w SECONDS]
       ic_ports --to ADDRESS:PORT [-a ADDRESS] [-j] [-w SECONDS]
       ic_ports --check";

const HELP: &str = "\
Says who holds the ports that a listener may use, and whether one can be opened;
or how many ports are left towards one destination, and whether one can be
connected to; or whether the library of ic_listener_run can work here.

  -a, --address ADDRESS  a numeric address of this host, instead of all of them
  -p, --ports MIN-MAX    these ports, instead of the ephemeral port range
  -t, --to ADDRESS:PORT  that destination
  -c, --check            the library
  -w, --watch SECONDS    again and again, after so many seconds
  -j, --json             one JSON object
  -h, --help             this text
  -V, --version          the version

exit status: 0 yes, 1 no, 2 usage, 3 that cannot be told
";

/// A verdict that a health check can act on.
const NO: u8 = 1;
const BAD_USAGE: u8 = 2;
const CANNOT_TELL: u8 = 3;

/// What the command line asks for.
enum Command {
    Survey(Wanted),
    Check,
    Print(String),
}

/// What to find out, and how to print it.
#[derive(Default)]
struct Wanted {
    address: Option<String>,
    ports: Option<RangeInclusive<u16>>,
    to: Option<SocketAddr>,
    json: bool,
    watch: Option<Duration>,
}

fn main() -> ExitCode {
    let outcome = match command() {
        Ok(Command::Survey(wanted)) => survey(&wanted),
        Ok(Command::Check) => {
            let check = Check::run();
            Ok(print(&check.lines, if check.works { ExitCode::SUCCESS } else { ExitCode::from(NO) }))
        }
        Ok(Command::Print(text)) => Ok(print(&text, ExitCode::SUCCESS)),
        Err(error) => Err(error.to_string()),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("ic_ports: {error}\n{USAGE}");
        ExitCode::from(BAD_USAGE)
    })
}

/// Until the output cannot be written, if it is to be repeated. The error is what is wrong with the address.
fn survey(wanted: &Wanted) -> Result<ExitCode, String> {
    loop {
        let (text, status) = find_out(wanted)?;
        let Some(pause) = wanted.watch else { return Ok(print(&text, status)) };
        // JSON objects need nothing between them.
        let text = if wanted.json { text } else { text + "\n" };
        if print(&text, ExitCode::SUCCESS) != ExitCode::SUCCESS {
            return Ok(ExitCode::from(CANNOT_TELL));
        }
        thread::sleep(pause);
    }
}

fn find_out(wanted: &Wanted) -> Result<(String, ExitCode), String> {
    let address = wanted.address.as_deref();
    if let Some(to) = wanted.to {
        let from: Option<IpAddr> = address.map(str::parse).transpose().map_err(|_| "the address is not numeric")?;
        let reach = Reach::of(to, from);
        let text = if wanted.json { print::reach_json(&reach) } else { print::reach_text(&reach) };
        return Ok((text, status(&reach.connection.ic_listener_connect)));
    }
    let survey = Survey::of(address, wanted.ports.clone())?;
    let text = if wanted.json { print::json(&survey) } else { print::text(&survey) };
    Ok((text, status(&survey.listener.answer)))
}

fn status(verdict: &Answer) -> ExitCode {
    match verdict {
        Answer::Yes => ExitCode::SUCCESS,
        Answer::No { .. } => ExitCode::from(NO),
        Answer::Unknown { .. } => ExitCode::from(CANNOT_TELL),
    }
}

/// Fails when the output cannot be written: the answer did not arrive.
fn print(text: &str, status: ExitCode) -> ExitCode {
    let mut output = std::io::stdout();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Ok(()) => status,
        Err(_) => ExitCode::from(CANNOT_TELL),
    }
}

fn command() -> Result<Command, lexopt::Error> {
    let mut parser = lexopt::Parser::from_env();
    let mut wanted = Wanted::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Short('a') | Long("address") => wanted.address = Some(parser.value()?.string()?),
            Short('p') | Long("ports") => wanted.ports = Some(parser.value()?.parse_with(range)?),
            Short('t') | Long("to") => wanted.to = Some(parser.value()?.parse_with(destination)?),
            Short('c') | Long("check") => return Ok(Command::Check),
            Short('w') | Long("watch") => wanted.watch = Some(parser.value()?.parse_with(seconds)?),
            Short('j') | Long("json") => wanted.json = true,
            Short('h') | Long("help") => return Ok(Command::Print(format!("{USAGE}\n\n{HELP}"))),
            Short('V') | Long("version") => {
                return Ok(Command::Print(format!("ic_ports {}\n", env!("CARGO_PKG_VERSION"))));
            }
            _ => return Err(argument.unexpected()),
        }
    }
    if wanted.to.is_some() && wanted.ports.is_some() {
        return Err("--to is about the host's range, which connect() uses, and not about --ports".into());
    }
    Ok(Command::Survey(wanted))
}

/// `192.0.2.1:5432`, or `[2001:db8::1]:5432`.
fn destination(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse()
        .ok()
        .filter(|to: &SocketAddr| to.port() != 0)
        .ok_or("the destination should be ADDRESS:PORT, an IPv6 address in brackets")
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    match text.parse() {
        Ok(seconds @ 1..) => Ok(Duration::from_secs(seconds)),
        _ => Err("the seconds should be a whole number, 1 at least"),
    }
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

    #[test]
    fn what_is_no_range_no_destination_and_no_time_is_refused() {
        assert_eq!((range("7"), range("7-9")), (Ok(7..=7), Ok(7..=9)));
        for ports in ["", "-", "0", "0-7", "9-7", "1-65536", "-1", "a-b", "1-2-3", " 1"] {
            assert!(range(ports).is_err(), "{ports:?}");
        }
        assert_eq!(destination("[::1]:80"), Ok("[::1]:80".parse().unwrap()));
        for to in ["", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:x", "::1:80", "localhost:80", ":80"] {
            assert!(destination(to).is_err(), "{to:?}");
        }
        assert_eq!(seconds("5"), Ok(Duration::from_secs(5)));
        for time in ["", "0", "1.5", "-1"] {
            assert!(seconds(time).is_err(), "{time:?}");
        }
    }
}
