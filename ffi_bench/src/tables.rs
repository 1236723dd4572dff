//! The results as tables in Markdown, and how they get into the README and the documents: between two marks,
//!
//! ```text
//! <!-- ffi_bench listeners cold -->
//! <!-- end -->
//! ```
//!
//! where `make draw` puts the table of that name, so that one run feeds all of them. A single figure goes into a line:
//!
//! ```text
//! <!-- ffi_bench left_1/cold/ic_listener/p50 -->9.2 ms<!-- end -->
//! <!-- ffi_bench quiet/warm/ic_listener:stock/p50 -->0.20<!-- end --> of Greenplum's C
//! ```

use std::fs;
use std::io;
use std::path::Path;

use crate::measure::Condition;
use crate::pictures::duration;
use crate::results::{Case, Figures, Run, title};

/// Names of tables, those of their contenders with headings, and their cases.
struct Table {
    name: &'static str,
    first_heading: &'static str,
    columns: &'static [(&'static str, &'static str)],
    cases: &'static [&'static str],
}

const TABLES: [Table; 4] = [
    Table {
        name: "listeners",
        first_heading: "the port range",
        columns: &[
            ("stock", "Greenplum's C"),
            ("so_reuseaddr", "with SO_REUSEADDR"),
            ("bind(0)", "bind(0)"),
            ("ic_listener", "**ic_listener**"),
            ("floor", "floor"),
            ("stock unicast", "one address: Greenplum's C"),
            ("ic_listener unicast", "one address: **ic_listener**"),
        ],
        cases: &[
            "quiet",
            "by_bind_0_30",
            "by_bind_0_50",
            "by_bind_0_90",
            "by_bind_0_99",
            "at_random_99",
            "time_wait",
            "first_call",
            "other_range_first",
            "other_range",
        ],
    },
    Table {
        name: "last-ports",
        first_heading: "the port range",
        columns: &[
            ("stock", "Greenplum's C"),
            ("ic_listener", "**ic_listener**"),
            ("stock unicast", "one address: Greenplum's C"),
            ("ic_listener unicast", "one address: **ic_listener**"),
        ],
        cases: &["left_50", "left_10", "left_2", "left_1"],
    },
    Table {
        name: "no-port",
        first_heading: "the port range",
        columns: &[
            ("stock", "Greenplum's C"),
            ("so_reuseaddr", "with SO_REUSEADDR"),
            ("bind(0)", "bind(0), one family"),
            ("bind each", "bind() for each port"),
            ("ic_listener", "**ic_listener**"),
            ("ic_listener report", "with a report"),
            ("stock unicast", "one address: Greenplum's C"),
            ("ic_listener unicast", "one address: **ic_listener**"),
            ("ic_listener report unicast", "with a report"),
        ],
        cases: &["held_all", "time_wait_not_reusable"],
    },
    Table {
        name: "connections",
        first_heading: "a connection on loopback",
        columns: &[
            ("connect", "connect()"),
            ("so_reuseaddr", "with SO_REUSEADDR"),
            ("floor", "bind() to a free port and connect()"),
            ("ic_listener", "**ic_listener_connect()**"),
            ("ic_listener report", "with a report"),
        ],
        cases: &[
            "connect_quiet",
            "connect_other",
            "connect_time_wait",
            "connect_half_free",
            "connect_half_time_wait",
            "connect_ten_left",
            "connect_none_left",
        ],
    },
];

/// What comes between the marks of that name: of a table and a condition, or of a thing of its own.
fn text(run: &Run, name: &str) -> Option<String> {
    match name {
        "machine" => return Some(conditions(run)),
        "others" => return Some(others(run)),
        _ if name.contains('/') => return figure(run, name),
        _ => {}
    }
    let (name, condition) = name.split_once(' ')?;
    let condition = CONDITIONS.into_iter().find(|one| one.name() == condition)?;
    if name == "slower" {
        return Some(slower(run, condition));
    }
    let table = TABLES.iter().find(|table| table.name == name)?;
    let headings: Vec<&str> = table.columns.iter().map(|(_, heading)| *heading).collect();
    let mut text = format!(
        "| {}, {} | {} | calls |\n|---|{}\n",
        table.first_heading,
        condition.name(),
        headings.join(" | "),
        "---|".repeat(headings.len() + 1)
    );
    for case in table.cases.iter().filter_map(|case| run.of(case, condition)) {
        let cells = table.columns.iter().map(|(name, _)| case.of(name).map_or(String::new(), |one| cell(case, one)));
        let calls = case.contenders.iter().map(|one| one.calls).max().unwrap_or(0);
        let row = format!("| {} | {} | {} |", title(&case.name), cells.collect::<Vec<_>>().join(" | "), number(calls));
        text += &(row + "\n");
    }
    Some(text)
}

/// A case, a condition, a contender or one to another, and what of it.
fn figure(run: &Run, name: &str) -> Option<String> {
    let [case, condition, who, what] = name.split('/').collect::<Vec<_>>().try_into().ok()?;
    let case = run.of(case, CONDITIONS.into_iter().find(|one| one.name() == condition)?)?;
    let measured = |who: &str| {
        let one = case.of(who)?;
        match what {
            "p50" => Some(one.p50_us),
            "p99" => one.p99_us,
            "mean" => Some(one.mean_us),
            _ => None,
        }
    };
    match who.split_once(':') {
        None => measured(who).map(duration),
        Some((one, other)) => measured(one).zip(measured(other)).map(|(one, other)| match one / other {
            ratio if ratio < 9.95 => format!("{ratio:.2}"),
            ratio => with_commas(ratio),
        }),
    }
}

const CONDITIONS: [Condition; 2] = [Condition::Cold, Condition::Warm];

/// Bold where ours gets what Greenplum's C, or connect(), does not.
fn cell(case: &Case, one: &Figures) -> String {
    let times = [Some(one.p50_us), one.p99_us].into_iter().flatten().map(with_commas).collect::<Vec<_>>().join(" / ");
    match one.succeeded {
        0 => format!("fails, {times}"),
        some if some < one.calls => format!("{} of {}, {times}", number(some), number(one.calls)),
        _ if one.name.starts_with("ic_listener") && case.contenders.iter().any(|other| other.succeeded == 0) => {
            format!("**{times}**")
        }
        _ => times,
    }
}

/// What fits into no other table.
fn others(run: &Run) -> String {
    let mut text = "| | Greenplum's C | ic_listener |\n|---|---|---|\n".to_owned();
    for case in run.cases.iter().filter(|case| case.name.starts_with("udp")) {
        let of = |name| case.of(name).map_or(String::new(), |one| cell(case, one));
        let (title, condition) = (title(&case.name), case.condition.name());
        text += &format!("| {title}, {condition} | {} | {} |\n", of("stock"), of("ic_listener"));
    }
    if let (Some(stock), Some(ours)) = (run.fill("stock"), run.fill("ic_listener")) {
        let more = if stock.stopped { "more than " } else { "" };
        text += &format!(
            "| {} processes fill the range to its last port, CPU time | {more}{:.1} s | {:.2} s |\n",
            ours.processes, stock.cpu_seconds, ours.cpu_seconds
        );
    }
    text + &format!("| added to a stripped C program, static library | | {} KiB |\n", run.linking_adds_bytes / 1024)
}

/// Where ours takes longer than Greenplum's C, or connect(), by a tenth and more; on success, or where both fail.
fn slower(run: &Run, condition: Condition) -> String {
    let mut text = format!("| slower, {} | p50, times | p99, times |\n|---|---|---|\n", condition.name());
    for case in run.cases.iter().filter(|case| case.condition == condition) {
        for (ours, stock, to) in [
            ("ic_listener", "stock", "of Greenplum's C"),
            ("ic_listener unicast", "stock unicast", "of Greenplum's C, one address"),
            ("ic_listener", "connect", "of connect()"),
        ] {
            let (Some(ours), Some(stock)) = (case.of(ours), case.of(stock)) else { continue };
            let p50 = ours.p50_us / stock.p50_us;
            let p99 = ours.p99_us.zip(stock.p99_us).map(|(one, other)| one / other);
            if (p50 >= 1.1 || p99 >= Some(1.1)) && (ours.succeeded > 0) == (stock.succeeded > 0) {
                let p99 = p99.map_or(String::new(), |p99| format!("{p99:.2}"));
                text += &format!("| {} | {p50:.2} {to} | {p99} |\n", title(&case.name));
            }
        }
    }
    text
}

/// The kernel without what a distribution appends.
pub fn machine(run: &Run) -> String {
    let kernel = run.kernel.split('-').next().unwrap_or(&run.kernel);
    let short = if run.quick { ", a short run" } else { "" };
    format!("Linux {kernel}, {}, {} CPUs{short}", run.cpu, run.cpus)
}

fn conditions(run: &Run) -> String {
    format!(
        "{}; p50 / p99 in \u{b5}s, p99 of 400 calls and more.\n\
        Cold: right before each call comes a walk over {} MiB, as much as the largest cache holds, as in a backend that\n\
        has just run a query. Warm: right before each call comes another call of the same function.\n",
        machine(run),
        run.walked_bytes >> 20
    )
}

pub fn print(run: &Run) {
    let names = TABLES.iter().map(|table| table.name).chain(["slower"]);
    let names = names.flat_map(|name| CONDITIONS.map(|condition| format!("{name} {}", condition.name())));
    for name in names.chain(["machine", "others"].map(str::to_owned)) {
        println!("{START}{name}{CLOSE}\n{}{END}\n", text(run, &name).unwrap_or_default());
    }
}

const START: &str = "<!-- ffi_bench ";
const CLOSE: &str = " -->";
const END: &str = "<!-- end -->";

pub fn paste(run: &Run, file: &Path) -> io::Result<()> {
    let wrong = |error: String| io::Error::other(format!("{}: {error}", file.display()));
    let old = fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    fs::write(file, pasted(run, &old).map_err(wrong)?)
}

/// The document, with what the run says between the marks.
fn pasted(run: &Run, document: &str) -> Result<String, String> {
    let mut parts = document.split(START);
    let mut new = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (mark, rest) = part.split_once(CLOSE).ok_or("a mark without an end")?;
        let (_, rest) = rest.split_once(END).ok_or_else(|| format!("no {END} after {START}{mark}{CLOSE}"))?;
        let text = text(run, mark).ok_or_else(|| format!("no table and no figure is called {mark}"))?;
        let line = if mark.contains('/') { "" } else { "\n" };
        new += &format!("{START}{mark}{CLOSE}{line}{text}{END}{rest}");
    }
    Ok(new)
}

fn number(count: u64) -> String {
    with_commas(count as f64)
}

/// Two significant digits and more: 7.3, 37, 2,271.
pub fn with_commas(value: f64) -> String {
    if value < 9.95 {
        return format!("{value:.1}").replace(".0", "");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::DIRECTORY;

    #[test]
    fn figures_read_as_they_should() {
        let figures = [(7.26, "7.3"), (7.0, "7"), (9.96, "10"), (37.4, "37"), (999.6, "1,000"), (2_271.0, "2,271")];
        for (figure, text) in figures {
            assert_eq!(with_commas(figure), text);
        }
        assert_eq!(with_commas(1_234_567.0), "1,234,567");
    }

    /// After a measurement, `make draw`.
    #[test]
    fn the_documents_say_what_the_results_say() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let run = Run::read(Path::new(DIRECTORY)).unwrap();
        for file in ["README.md", "docs/why.md"] {
            let document = fs::read_to_string(top.join(file)).unwrap();
            assert!(pasted(&run, &document).unwrap() == document, "{file} is not what the results say: make draw");
        }
    }

    #[test]
    fn tables_go_between_their_marks() {
        let run = Run::read(Path::new(DIRECTORY)).unwrap();
        let document = "one\n<!-- ffi_bench machine -->\nold\n<!-- end -->\ntwo\n";
        let new = pasted(&run, document).unwrap();
        assert_eq!(new, document.replace("old\n", &conditions(&run)));
        assert_eq!(pasted(&run, &new).unwrap(), new);
        let line = |text: &str, name: &str| format!("in <!-- ffi_bench {name} -->{text}<!-- end -->, so");
        let quiet = run.of("quiet", Condition::Warm).unwrap().of("ic_listener").unwrap();
        for (name, text) in [
            ("quiet/warm/ic_listener/p50", duration(quiet.p50_us)),
            ("quiet/warm/ic_listener:ic_listener/mean", "1.00".to_owned()),
        ] {
            assert_eq!(pasted(&run, &line("old", name)).unwrap(), line(&text, name));
        }
        assert!(pasted(&run, &line("", "quiet/warm/nobody/p50")).is_err());
        assert!(pasted(&run, "<!-- ffi_bench machine -->").is_err());
        assert!(pasted(&run, "<!-- ffi_bench no such -->\n<!-- end -->").is_err());
        // Every case of a table has been measured, every contender is known, and no case is in no table.
        for table in &TABLES {
            for case in table.cases {
                let case = run.of(case, Condition::Cold).unwrap_or_else(|| panic!("{case} was not measured"));
                let known = |(name, _): &(&str, &str)| case.of(name).is_some();
                assert!(table.columns.iter().all(known), "{}: a contender is missing", case.name);
            }
        }
    }
}
