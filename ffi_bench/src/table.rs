//! The results as a table on the terminal.

use crate::results::{CaseResult, ContenderResult};

pub fn print(result: &CaseResult) {
    println!("\n{}", result.title);
    println!(
        "  {:<20} {:>7} {:>10} {:>10} {:>10} {:>8} {:>8} {:>8} {:>8} {:>9} {:>7}",
        "", "success", "p50 us", "p99 us", "max us", "calls", "x stock", "x floor", "x quiet", "sys calls", "allocs"
    );
    for contender in &result.contenders {
        println!(
            "  {:<20} {:>7} {:>10} {:>10} {:>10} {:>8} {:>8} {:>8} {:>8} {:>9} {:>7}",
            contender.name,
            percentage(contender),
            figure(contender.p50_us),
            contender.p99_us.map_or("-".into(), figure),
            figure(contender.max_us),
            contender.calls,
            contender.ratio_to_stock.map_or("-".into(), ratio),
            contender.ratio_to_floor.map_or("-".into(), ratio),
            contender.ratio_to_quiet.map_or("-".into(), ratio),
            contender.system_calls_per_call.map_or("-".into(), figure),
            contender.allocations_per_call,
        );
        if let Some(fill) = &contender.fill {
            let how = if fill.stopped { "stopped after" } else { "in" };
            println!(
                "  {:<20} {} of {} ports by {} processes, {how} {:.2} s ({:.2} s of CPU time)",
                "", fill.ports, fill.usable_ports, fill.processes, fill.seconds, fill.cpu_seconds
            );
        }
    }
}

/// The contenders of the README's table, and how it calls them.
pub const README_COLUMNS: [(&str, &str); 6] = [
    ("stock", "Greenplum's C"),
    ("so_reuseaddr", "with SO_REUSEADDR"),
    ("std", "Rust's std"),
    ("bind(0)", "bind(0)"),
    ("ic_listener", "ic_listener"),
    ("floor", "floor"),
];

/// Its rows.
const README_CASES: [(&str, &str); 11] = [
    ("quiet", "quiet"),
    ("held_by_bind_0_30", "30 % held by listeners that came by SO_REUSEADDR and bind(0)"),
    ("held_by_bind_0_50", "50 %"),
    ("held_by_bind_0_90", "90 %"),
    ("held_by_bind_0_99", "99 %"),
    ("held_at_random_99", "99 % held by listeners at random"),
    ("time_wait_reusable", "all in TIME_WAIT, reusable"),
    ("held_all", "all held by listeners"),
    ("fresh_process", "first call of a forked backend"),
    ("other_range_first", "the same in the range 1024-20000, half held as above"),
    ("other_range", "later calls there"),
];

/// The table of the README, to be pasted there, of the cases that ran.
pub fn print_for_readme(results: &[CaseResult]) {
    let names: Vec<&str> = README_COLUMNS.iter().map(|(_, heading)| *heading).collect();
    println!("\nfor README.md: p50 / p99 in \u{b5}s (number of calls); p99 of 1,000 calls and more\n");
    println!("| the port range | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()));
    for (case, title) in README_CASES {
        if let Some(result) = results.iter().find(|result| result.case == case) {
            let cells: Vec<String> =
                README_COLUMNS.iter().map(|(name, _)| result.of(name).map_or(String::new(), readme_cell)).collect();
            println!("| {title} | {} |", cells.join(" | "));
        }
    }
}

fn readme_cell(contender: &ContenderResult) -> String {
    let failed = contender.calls - contender.succeeded;
    let outcome = match failed {
        0 => String::new(),
        _ if failed == contender.calls => "fails, ".to_owned(),
        _ => format!("{} fail, ", with_commas(failed as f64)),
    };
    let p99 = contender.p99_us.map_or(String::new(), |p99| format!(" / {}", with_commas(p99)));
    format!("{outcome}{}{p99} ({})", with_commas(contender.p50_us), with_commas(contender.calls as f64))
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

/// Cut, not rounded: 999 of 1000 must not look like all.
fn percentage(contender: &ContenderResult) -> String {
    let tenths = contender.succeeded * 1000 / contender.calls.max(1);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

fn figure(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

pub fn ratio(value: f64) -> String {
    if value < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

#[cfg(test)]
mod tests {
    use super::with_commas;

    #[test]
    fn figures_read_as_they_should() {
        let figures = [(7.26, "7.3"), (7.0, "7"), (9.96, "10"), (37.4, "37"), (999.6, "1,000"), (2_271.0, "2,271")];
        for (figure, text) in figures {
            assert_eq!(with_commas(figure), text);
        }
        assert_eq!(with_commas(1_234_567.0), "1,234,567");
    }
}
