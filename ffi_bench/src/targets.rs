//! What the library has to reach, and whether it does. Nearly all of it is counts, and ratios within one run: a limit in
//! microseconds would judge the machine.

use crate::measure::Condition::{self, Cold, Warm};
use crate::results::{Figures, Run, title};

/// One target: what, what was measured, the limit, and whether it is met, if the sample can carry a verdict.
struct Verdict {
    what: String,
    measured: String,
    limit: String,
    is_met: Option<bool>,
}

/// So many calls of each side it takes for a ratio of medians, and of means.
const ENOUGH: u64 = 50;

/// None where there are too few calls.
type Measure = fn(&Figures) -> Option<f64>;

const P50: Measure = |one| (one.calls >= ENOUGH).then_some(one.p50_us);
const P99: Measure = |one| one.p99_us;
const MEAN: Measure = |one| (one.calls >= ENOUGH).then_some(one.mean_us);

/// Case, condition, whose and what is at most so many times whose: a contender's, its own on a quiet host, or, where rivals
/// do not do it at all, so many microseconds.
type Limit = (&'static str, Condition, &'static str, (&'static str, Measure), f64, &'static str);

const QUIET: &str = "its own on a quiet host";
const US: &str = "us";

const LIMITS: &[Limit] = &[
    ("quiet", Warm, "ic_listener", ("p50", P50), 0.25, "stock"),
    ("quiet", Warm, "ic_listener unicast", ("p50", P50), 1.05, "stock unicast"),
    ("by_bind_0_30", Cold, "ic_listener", ("p99", P99), 2.0, "floor"),
    ("by_bind_0_50", Cold, "ic_listener", ("p99", P99), 2.0, "floor"),
    ("by_bind_0_30", Cold, "ic_listener", ("p50", P50), 1.5, QUIET),
    ("by_bind_0_50", Cold, "ic_listener", ("p50", P50), 1.5, QUIET),
    ("by_bind_0_99", Cold, "ic_listener", ("p50", P50), 20.0, QUIET),
    ("by_bind_0_99", Cold, "ic_listener", ("p50", P50), 1.0, "stock"),
    ("at_random_99", Cold, "ic_listener", ("p50", P50), 20.0, QUIET),
    ("at_random_99", Cold, "ic_listener", ("p50", P50), 1.0, "stock"),
    ("time_wait", Cold, "ic_listener", ("p99", P99), 3.5, "floor"),
    ("held_all", Cold, "ic_listener", ("p50", P50), 1.25, "bind each"),
    ("first_call", Cold, "ic_listener", ("p50", P50), 0.9, "stock"),
    ("first_call", Cold, "ic_listener unicast", ("p50", P50), 0.9, "stock unicast"),
    ("first_call", Warm, "ic_listener", ("p50", P50), 0.9, "stock"),
    ("first_call", Warm, "ic_listener unicast", ("p50", P50), 0.9, "stock unicast"),
    ("connect_quiet", Cold, "ic_listener", ("p50", P50), 1.15, "connect"),
    ("connect_quiet", Warm, "ic_listener", ("p50", P50), 1.15, "connect"),
    ("connect_other", Warm, "ic_listener", ("p50", P50), 1.15, "connect"),
    ("connect_time_wait", Warm, "ic_listener", ("p50", P50), 100.0, US),
    ("connect_half_free", Warm, "ic_listener", ("p50", P50), 1.5, "floor"),
    ("connect_ten_left", Warm, "ic_listener", ("mean", MEAN), 15.0, "connect"),
    ("connect_none_left", Warm, "ic_listener", ("mean", MEAN), 12.0, "connect"),
    ("connect_none_left", Warm, "ic_listener", ("p99", P99), 12.0, "connect"),
];

/// Every call has to succeed here.
const SUCCESSFUL: &[&str] = &[
    "time_wait",
    "connect_time_wait",
    "connect_other",
    "connect_half_free",
    "connect_half_time_wait",
    "connect_ten_left",
];

/// At most so many times what it was before, by the floor of the same run.
const TO_BEFORE: f64 = 1.1;

/// Shows whether the targets are met, as far as their cases ran; true unless one is missed.
pub fn judge(run: &Run, before: Option<&Run>) -> bool {
    let mut verdicts = verdicts(run);
    verdicts.extend(before.map_or(Vec::new(), |before| compared(run, before)));
    println!("\ntargets");
    for Verdict { what, measured, limit, is_met } in &verdicts {
        if let Some(is_met) = is_met {
            println!("  {:<8} {what:<100} {measured:<16} {limit}", if *is_met { "met" } else { "NOT MET" });
        }
    }
    let number_of = |wanted| verdicts.iter().filter(|verdict| verdict.is_met == wanted).count();
    let missed = number_of(Some(false));
    println!("{} targets met, {missed} missed, {} without enough calls", number_of(Some(true)), number_of(None));
    missed == 0
}

fn verdicts(run: &Run) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    let of = |name: &str, condition, contender| run.of(name, condition).and_then(|case| case.of(contender));
    for &(name, condition, ours, (what, measure), limit, other) in LIMITS {
        let Some(one) = of(name, condition, ours) else { continue };
        let other_s = match other {
            US => Some(1.0),
            QUIET => of("quiet", condition, ours).and_then(measure),
            _ => of(name, condition, other).and_then(measure),
        };
        let ratio = measure(one).zip(other_s).map(|(one, other)| one / other);
        verdicts.push(at_most(describe(name, condition, ours, what), ratio, limit, other));
    }
    for (name, condition) in SUCCESSFUL.iter().flat_map(|name| [(name, Cold), (name, Warm)]) {
        if let Some(one) = of(name, condition, "ic_listener") {
            let what = describe(name, condition, "ic_listener", "calls that succeed");
            verdicts.push(all(what, one.succeeded, one.calls));
        }
    }
    if let Some(one) = of("held_all", Warm, "ic_listener") {
        let in_use = one.errors.get("EADDRINUSE").copied().unwrap_or(0);
        let what = describe("held_all", Warm, "ic_listener", "calls that say EADDRINUSE");
        verdicts.push(all(what, in_use, one.calls));
    }
    verdicts
}

/// Ours in each case against the same before. What the machine does to the floor it does to all.
fn compared(run: &Run, before: &Run) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    // A first call has a target of its own.
    for case in run.cases.iter().filter(|case| !["first_call", "other_range_first"].contains(&&*case.name)) {
        let Some(old) = before.of(&case.name, case.condition) else { continue };
        for name in ["ic_listener", "ic_listener unicast"] {
            let (Some(one), Some(two)) = (case.of(name), old.of(name)) else { continue };
            let machine = case.of("floor").zip(old.of("floor")).map_or(1.0, |(one, two)| one.p50_us / two.p50_us);
            // What succeeds now and failed before may take its time.
            if one.succeeded == 0 || two.succeeded > 0 {
                let ratio = P50(one).zip(P50(two)).map(|(one, two)| one / two / machine);
                let what = describe(&case.name, case.condition, name, "p50");
                verdicts.push(at_most(what, ratio, TO_BEFORE, "before"));
            }
        }
    }
    verdicts
}

fn describe(case: &str, condition: Condition, contender: &str, what: &str) -> String {
    let kind = if case.starts_with("connect") { "connect, " } else { "" };
    let address = if contender.ends_with("unicast") { ", one address" } else { "" };
    format!("{kind}{}{address}, {}: {what}", title(case), condition.name())
}

/// Without a ratio the sample was too small.
fn at_most(what: String, measured: Option<f64>, limit: f64, other: &str) -> Verdict {
    Verdict {
        what,
        measured: measured.map_or("-".to_owned(), |measured| format!("{measured:.3}")),
        limit: format!("<= {limit} {}{other}", if other == US { "" } else { "of " }),
        is_met: measured.map(|measured| measured <= limit),
    }
}

fn all(what: String, count: u64, of: u64) -> Verdict {
    Verdict { what, measured: format!("{count} of {of}"), limit: "all".to_owned(), is_met: Some(count == of) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Case, DIRECTORY};
    use std::path::Path;

    /// The committed results, with ours changed.
    fn results(mut change: impl FnMut(&str, &mut Figures)) -> Run {
        let mut run = Run::read(Path::new(DIRECTORY)).unwrap();
        for Case { name, contenders, .. } in &mut run.cases {
            contenders.iter_mut().filter(|one| one.name.starts_with("ic_listener")).for_each(|one| change(name, one));
        }
        run
    }

    #[test]
    fn every_target_can_be_missed() {
        let run = results(|case, one| {
            // More so than on a quiet host.
            let factor = if case == "quiet" { 1e3 } else { 1e6 };
            (one.p50_us, one.mean_us) = (one.p50_us * factor, one.mean_us * factor);
            one.p99_us = one.p99_us.map(|p99| p99 * factor);
            one.succeeded = 0;
            one.errors.clear();
        });
        let verdicts = verdicts(&run);
        let targets = LIMITS.len() + 2 * SUCCESSFUL.len() + 1;
        assert_eq!(verdicts.len(), targets, "a target is about a case that was not measured");
        for verdict in verdicts {
            assert_ne!(verdict.is_met, Some(true), "{}", verdict.what);
        }
    }

    #[test]
    fn a_run_is_compared_with_the_one_before_by_the_floor() {
        let is_met = |ours: f64, machine: f64| {
            let mut now = results(|_, one| one.p50_us *= ours);
            now.cases[0].contenders.iter_mut().for_each(|one| one.p50_us *= machine);
            compared(&now, &results(|_, _| ())).remove(0).is_met
        };
        assert_eq!(is_met(1.09, 1.0), Some(true));
        assert_eq!(is_met(1.11, 1.0), Some(false));
        assert_eq!(is_met(1.0, 2.0), Some(true));
    }
}
