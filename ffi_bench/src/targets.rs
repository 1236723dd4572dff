//! What the acquisition strategy has to reach, and whether it does.

use crate::results::{CaseResult, ContenderResult, Fill};

/// One target: what, what was measured, the limit, and whether it is met.
pub struct Verdict {
    what: String,
    measured: String,
    limit: String,
    met: bool,
}

/// Judges what was measured; a target whose case did not run has no verdict.
pub fn judge(results: &[CaseResult]) -> Vec<Verdict> {
    let find = |case: &str| results.iter().find(|result| result.case == case);
    let ours = |case: &str| find(case)?.of("ic_listener");
    let mut verdicts = Vec::new();

    let quiet = ours("quiet").and_then(|ours| ours.ratio_to_stock);
    verdicts.extend(quiet.map(|ratio| at_most("quiet host, wildcard: p50", ratio, 0.30, "of stock")));
    let unicast = find("quiet").and_then(|quiet| quiet.of("ic_listener unicast")?.ratio_to_stock);
    verdicts.extend(unicast.map(|ratio| at_most("quiet host, unicast: p50", ratio, 1.0, "of stock")));

    for percent in [30, 50] {
        if let Some(ours) = ours(&format!("held_by_bind_0_{percent}")) {
            let title = format!("{percent} % held, by SO_REUSEADDR + bind(0)");
            verdicts.extend(
                ours.ratio_to_quiet.map(|ratio| at_most(&format!("{title}: p50"), ratio, 1.5, "x its quiet p50")),
            );
            verdicts.push(at_most(&format!("{title}: p99"), ours.p99_us, 50.0, "us"));
        }
    }
    for (case, how) in [("held_by_bind_0_99", "by SO_REUSEADDR + bind(0)"), ("held_at_random_99", "at random")] {
        let ratio = ours(case).and_then(|ours| ours.ratio_to_quiet);
        verdicts.extend(ratio.map(|ratio| at_most(&format!("99 % held, {how}: p50"), ratio, 20.0, "x its quiet p50")));
    }
    if let Some(ours) = ours("time_wait_reusable") {
        verdicts.push(all_succeed("range full of TIME_WAIT", ours));
        verdicts.push(at_most("range full of TIME_WAIT: p99", ours.p99_us, 150.0, "us"));
    }
    if let Some(ours) = ours("held_all") {
        verdicts.push(all_in_use("whole range held by listeners", ours));
        verdicts.push(at_most("whole range held by listeners: EADDRINUSE, p99", ours.p99_us / 1000.0, 10.0, "ms"));
        // Whether those milliseconds are the machine's or ours.
        let ratio = find("held_all").and_then(|all| Some(ours.p50_us / all.of("bind each")?.p50_us));
        verdicts.extend(
            ratio.map(|ratio| at_most("whole range held by listeners: p50", ratio, 1.25, "of a bind() for each port")),
        );
    }
    if let (Some(ours), Some(stock)) = (
        ours("fill").and_then(|ours| ours.fill.as_ref()),
        find("fill").and_then(|fill| fill.of("stock")?.fill.as_ref()),
    ) {
        verdicts.push(every_port(ours));
        verdicts.push(in_a_fraction_of(ours, stock));
    }
    verdicts
}

fn at_most(what: &str, measured: f64, limit: f64, unit: &str) -> Verdict {
    Verdict {
        what: what.to_owned(),
        measured: format!("{measured:.2} {unit}"),
        limit: format!("<= {limit} {unit}"),
        met: measured <= limit,
    }
}

fn all_succeed(what: &str, ours: &ContenderResult) -> Verdict {
    Verdict {
        what: format!("{what}: calls that succeed"),
        measured: format!("{} of {}", ours.succeeded, ours.calls),
        limit: "1000 of 1000".to_owned(),
        met: ours.succeeded == ours.calls && ours.calls >= 1000,
    }
}

fn all_in_use(what: &str, ours: &ContenderResult) -> Verdict {
    let in_use = ours.errors.get("EADDRINUSE").copied().unwrap_or(0);
    Verdict {
        what: format!("{what}: calls that say EADDRINUSE"),
        measured: format!("{in_use} of {}", ours.calls),
        limit: "all".to_owned(),
        met: in_use == ours.calls,
    }
}

fn every_port(ours: &Fill) -> Verdict {
    Verdict {
        what: format!("range filled by {} processes: ports", ours.processes),
        measured: ours.ports.to_string(),
        limit: format!("all {} that are not reserved", ours.usable_ports),
        met: ours.ports == ours.usable_ports && !ours.stopped,
    }
}

/// By CPU time, since the two do not run at the same time: whatever else the machine does is not held against either.
/// Where bind(0) was stopped, it would have taken longer, and the fraction is smaller still.
fn in_a_fraction_of(ours: &Fill, stock: &Fill) -> Verdict {
    let verdict = at_most("range filled: CPU time", ours.cpu_seconds / stock.cpu_seconds, 0.05, "of bind(0)'s");
    let bound = if stock.stopped { "less than " } else { "" };
    Verdict { measured: format!("{bound}{}", verdict.measured), ..verdict }
}

/// Shows the verdicts; says whether every target is met.
pub fn print(verdicts: &[Verdict]) -> bool {
    println!("\ntargets");
    for Verdict { what, measured, limit, met } in verdicts {
        println!("  {:<8} {what:<62} {measured:<28} {limit}", if *met { "met" } else { "NOT MET" });
    }
    let missed = verdicts.iter().filter(|verdict| !verdict.met).count();
    println!("{} of {} targets met", verdicts.len() - missed, verdicts.len());
    missed == 0
}
