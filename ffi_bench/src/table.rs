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
            figure(contender.p99_us),
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
