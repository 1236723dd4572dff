//! The results as tables in Markdown, and how they get into the README and the documents: between two marks,
//!
//! ```text
//! <!-- ffi_bench listeners cold -->
//! <!-- end -->
//! ```
//!
//! where `make draw` puts the table of that name, so that one run feeds all of them.

use std::fs;
use std::io;
use std::path::Path;

use crate::measure::Condition;
use crate::results::{Case, Figures, Run, title};

/// Names of tables, those of their contenders with headings, and their cases.
struct Table {
    name: &'static str,
    first_heading: &'static str,
    columns: &'static [(&'static str, &'static str)],
    cases: &'static [&'static str],
}

const TABLES: [Table; 5] = [
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
    Table {
        name: "udp",
        first_heading: "the port range",
        columns: &[("stock", "Greenplum's C"), ("ic_listener", "**ic_listener**"), ("floor", "floor")],
        cases: &["udp_quiet", "udp_at_random_90"],
    },
];

/// What comes between the marks of that name: the machine, where ours is slower, or a table in one condition.
fn text(run: &Run, name: &str) -> Option<String> {
    match name {
        "machine" => return Some(conditions(run)),
        "slower" => return Some(slower(run)),
        _ => {}
    }
    let (name, condition) = name.split_once(' ')?;
    let condition = Condition::BOTH.into_iter().find(|one| one.name() == condition)?;
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

/// Where ours takes longer than Greenplum's C, or connect(), by a tenth and more; on success, or where both fail.
fn slower(run: &Run) -> String {
    let mut text = "| p50 / p99, times | of | cold | warm |\n|---|---|---|---|\n".to_owned();
    for case in run.cases.iter().filter(|case| case.condition == Condition::Cold) {
        for (ours, stock, of) in [
            ("ic_listener", "stock", "Greenplum's C"),
            ("ic_listener unicast", "stock unicast", "Greenplum's C, one address"),
            ("ic_listener", "connect", "connect()"),
        ] {
            let cells = Condition::BOTH.map(|condition| {
                let case = run.of(&case.name, condition)?;
                let (ours, stock) = (case.of(ours)?, case.of(stock)?);
                let p99 = ours.p99_us.zip(stock.p99_us).map(|(one, other)| one / other);
                let times: Vec<f64> = [Some(ours.p50_us / stock.p50_us), p99].into_iter().flatten().collect();
                let is_slower = times.iter().any(|&times| times >= 1.1);
                ((ours.succeeded > 0) == (stock.succeeded > 0) && is_slower)
                    .then(|| times.iter().map(|times| format!("{times:.2}")).collect::<Vec<_>>().join(" / "))
            });
            if cells.iter().any(Option::is_some) {
                let [cold, warm] = cells.map(Option::unwrap_or_default);
                text += &format!("| {} | {of} | {cold} | {warm} |\n", title(&case.name));
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
        let text = text(run, mark).ok_or_else(|| format!("no table is called {mark}"))?;
        new += &format!("{START}{mark}{CLOSE}\n{text}{END}{rest}");
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
        assert!(pasted(&run, "<!-- ffi_bench machine -->").is_err());
        assert!(pasted(&run, "<!-- ffi_bench no such -->\n<!-- end -->").is_err());
        // Every case of a table has been measured, with every contender.
        for table in &TABLES {
            for case in table.cases {
                let case = run.of(case, Condition::Cold).unwrap_or_else(|| panic!("{case} was not measured"));
                let known = |(name, _): &(&str, &str)| case.of(name).is_some();
                assert!(table.columns.iter().all(known), "{}: a contender is missing", case.name);
            }
        }
    }
}
