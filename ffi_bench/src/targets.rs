//! What the acquisition strategy has to reach, and whether it does. All of it is counts, and ratios within one run: a
//! limit in microseconds would judge the machine.

use crate::results::{CaseResult, ContenderResult, Fill};

/// One target: what, what was measured, the limit, and what comes of it.
struct Verdict {
    what: String,
    measured: String,
    limit: String,
    finding: Finding,
}

#[derive(Debug, PartialEq, Eq)]
enum Finding {
    Met,
    Missed,
    /// The sample cannot carry a verdict.
    NotJudged(&'static str),
}

/// So many calls of each side it takes for a ratio of medians, and for one of p99s: fifty lie beyond it then.
const ENOUGH_FOR_P50: u64 = 100;
const ENOUGH_FOR_P99: u64 = 5_000;

/// A call that costs a thousand times another's makes few calls in a quick run.
const TOO_FEW: Finding = Finding::NotJudged("too few calls");

/// Shows whether the targets are met, as far as their cases ran; true unless one is missed.
pub fn judge(results: &[CaseResult]) -> bool {
    let verdicts = verdicts(results);
    println!("\ntargets");
    for Verdict { what, measured, limit, finding } in &verdicts {
        let (word, why) = match finding {
            Finding::Met => ("met", String::new()),
            Finding::Missed => ("NOT MET", String::new()),
            Finding::NotJudged(why) => ("not judged", format!(" ({why})")),
        };
        println!("  {word:<10} {what:<62} {measured:<28} {limit}{why}");
    }
    let number_of = |wanted: fn(&Finding) -> bool| verdicts.iter().filter(|verdict| wanted(&verdict.finding)).count();
    let met = number_of(|finding| *finding == Finding::Met);
    let missed = number_of(|finding| *finding == Finding::Missed);
    println!("{met} targets met, {missed} missed, {} not judged", verdicts.len() - met - missed);
    missed == 0
}

fn verdicts(results: &[CaseResult]) -> Vec<Verdict> {
    let find = |case: &str| results.iter().find(|result| result.case == case);
    let mut verdicts = Vec::new();

    if let Some(quiet) = find("quiet") {
        verdicts.extend(p50_to(quiet, "quiet host, wildcard", "ic_listener", "stock", 0.25));
        verdicts.extend(p50_to(quiet, "quiet host, unicast", "ic_listener unicast", "stock unicast", 1.05));
    }
    for percent in [30, 50] {
        if let Some(held) = find(&format!("held_by_bind_0_{percent}")) {
            let title = format!("{percent} % held, by SO_REUSEADDR + bind(0)");
            verdicts.extend(p50_to_quiet(held, find("quiet"), &title, 1.5));
            verdicts.extend(p99_to(held, &title, "ic_listener", "floor", 2.0));
        }
    }
    for (case, how) in [("held_by_bind_0_99", "by SO_REUSEADDR + bind(0)"), ("held_at_random_99", "at random")] {
        if let Some(held) = find(case) {
            let title = format!("99 % held, {how}");
            verdicts.extend(p50_to_quiet(held, find("quiet"), &title, 20.0));
            verdicts.extend(p50_to(held, &title, "ic_listener", "stock", 1.0));
        }
    }
    if let Some(time_wait) = find("time_wait_reusable") {
        let title = "range full of TIME_WAIT";
        verdicts.extend(time_wait.of("ic_listener").map(|ours| all_succeed(title, ours)));
        verdicts.extend(p99_to(time_wait, title, "ic_listener", "floor", 3.5));
    }
    if let Some(held) = find("held_all") {
        let title = "whole range held by listeners";
        verdicts.extend(held.of("ic_listener").map(|ours| all_in_use(title, ours)));
        verdicts.extend(p50_to(held, title, "ic_listener", "bind each", 1.25));
    }
    if let Some(fresh) = find("fresh_process") {
        let title = "first call of a forked process";
        verdicts.extend(p50_to(fresh, &format!("{title}, wildcard"), "ic_listener", "stock", 0.6));
        verdicts.extend(p50_to(fresh, &format!("{title}, unicast"), "ic_listener unicast", "stock unicast", 0.6));
    }
    if let Some(quiet) = find("connect_quiet") {
        verdicts.extend(p50_to(quiet, "connect, quiet host", "ic_listener", "connect", 1.15));
    }
    if let Some(time_wait) = find("connect_time_wait") {
        let title = "connect, range full of TIME_WAIT";
        verdicts.extend(time_wait.of("ic_listener").map(|ours| all_succeed(title, ours)));
        verdicts.extend(p50_to_quiet(time_wait, find("connect_quiet"), title, 6.0));
    }
    if let Some(connected) = find("connect_connected") {
        let title = "connect, range full of connections";
        verdicts.extend(connected.of("ic_listener").map(|ours| all_succeed(title, ours)));
        verdicts.extend(p50_to(connected, title, "ic_listener", "connect", 1.15));
    }
    if let Some(filled) = find("fill") {
        let fill_of = |name: &str| filled.of(name)?.fill.as_ref();
        if let (Some(ours), Some(stock)) = (fill_of("ic_listener"), fill_of("stock")) {
            verdicts.push(every_port(ours));
            verdicts.push(in_a_fraction_of(ours, stock));
        }
    }
    verdicts
}

fn p50_to(case: &CaseResult, title: &str, name: &str, other: &str, limit: f64) -> Option<Verdict> {
    let (ours, theirs) = (case.of(name)?, case.of(other)?);
    let enough = ours.calls.min(theirs.calls) >= ENOUGH_FOR_P50;
    Some(at_most(&format!("{title}: p50"), enough.then_some(ours.p50_us / theirs.p50_us), limit, &of_what(other)))
}

fn p99_to(case: &CaseResult, title: &str, name: &str, other: &str, limit: f64) -> Option<Verdict> {
    let (ours, theirs) = (case.of(name)?, case.of(other)?);
    let enough = ours.calls.min(theirs.calls) >= ENOUGH_FOR_P99;
    let ratio = ours.p99_us.zip(theirs.p99_us).filter(|_| enough).map(|(ours, theirs)| ours / theirs);
    Some(at_most(&format!("{title}: p99"), ratio, limit, &of_what(other)))
}

fn p50_to_quiet(case: &CaseResult, quiet: Option<&CaseResult>, title: &str, limit: f64) -> Option<Verdict> {
    let (ours, in_quiet) = (case.of("ic_listener")?, quiet?.of("ic_listener")?);
    let enough = ours.calls.min(in_quiet.calls) >= ENOUGH_FOR_P50;
    let ratio = enough.then_some(ours.p50_us / in_quiet.p50_us);
    Some(at_most(&format!("{title}: p50"), ratio, limit, "of its quiet p50"))
}

fn of_what(other: &str) -> String {
    match other {
        "bind each" => "of a bind() for each port".to_owned(),
        _ => format!("of {other}"),
    }
}

/// Without a ratio the sample was too small.
fn at_most(what: &str, ratio: Option<f64>, limit: f64, unit: &str) -> Verdict {
    Verdict {
        what: what.to_owned(),
        measured: ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.3} {unit}")),
        limit: format!("<= {limit} {unit}"),
        finding: ratio.map_or(TOO_FEW, |ratio| met_if(ratio <= limit)),
    }
}

fn met_if(met: bool) -> Finding {
    if met { Finding::Met } else { Finding::Missed }
}

fn all_succeed(what: &str, ours: &ContenderResult) -> Verdict {
    Verdict {
        what: format!("{what}: calls that succeed"),
        measured: format!("{} of {}", ours.succeeded, ours.calls),
        limit: "all of 1,000 and more".to_owned(),
        finding: met_if(ours.succeeded == ours.calls && ours.calls >= 1000),
    }
}

fn all_in_use(what: &str, ours: &ContenderResult) -> Verdict {
    let in_use = ours.errors.get("EADDRINUSE").copied().unwrap_or(0);
    Verdict {
        what: format!("{what}: calls that say EADDRINUSE"),
        measured: format!("{in_use} of {}", ours.calls),
        limit: "all".to_owned(),
        finding: met_if(in_use == ours.calls),
    }
}

fn every_port(ours: &Fill) -> Verdict {
    Verdict {
        what: format!("range filled by {} processes: ports", ours.processes),
        measured: ours.ports.to_string(),
        limit: format!("all {} that are not reserved", ours.usable_ports),
        finding: met_if(ours.ports == ours.usable_ports && !ours.stopped),
    }
}

/// By CPU time, since the two do not run at the same time: whatever else the machine does is not held against either.
/// Where bind(0) was stopped, it would have taken longer, and the fraction is smaller still.
fn in_a_fraction_of(ours: &Fill, stock: &Fill) -> Verdict {
    let verdict = at_most("range filled: CPU time", Some(ours.cpu_seconds / stock.cpu_seconds), 0.05, "of stock");
    match (stock.stopped, verdict.finding) {
        (false, finding) => Verdict { finding, ..verdict },
        (true, finding) => Verdict {
            measured: format!("less than {}", verdict.measured),
            finding: if finding == Finding::Met { finding } else { Finding::NotJudged("stock was stopped too early") },
            ..verdict
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(cpu_seconds: f64, stopped: bool) -> Fill {
        Fill { processes: 4, seconds: cpu_seconds, cpu_seconds, ports: 28_200, usable_ports: 28_200, stopped }
    }

    #[test]
    fn a_ratio_is_judged_when_there_is_one() {
        assert_eq!(at_most("", Some(0.5), 0.5, "").finding, Finding::Met);
        assert_eq!(at_most("", Some(0.51), 0.5, "").finding, Finding::Missed);
        assert_eq!(at_most("", None, 0.5, "").finding, TOO_FEW);
    }

    #[test]
    fn a_fill_that_was_cut_short_can_be_met_and_not_missed() {
        let ours = filled(1.0, false);
        assert_eq!(in_a_fraction_of(&ours, &filled(20.0, false)).finding, Finding::Met);
        assert_eq!(in_a_fraction_of(&ours, &filled(19.0, false)).finding, Finding::Missed);
        assert_eq!(in_a_fraction_of(&ours, &filled(20.0, true)).finding, Finding::Met);
        assert!(matches!(in_a_fraction_of(&ours, &filled(19.0, true)).finding, Finding::NotJudged(_)));
        assert_eq!(every_port(&filled(1.0, true)).finding, Finding::Missed);
    }
}
