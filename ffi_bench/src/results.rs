//! What a run found: `results.json`, and the table on the terminal.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::measure::{Condition, walked_bytes};

#[derive(Serialize, Deserialize)]
pub struct Run {
    pub kernel: String,
    pub cpu: String,
    pub cpus: usize,
    /// Before each cold call.
    pub walked_bytes: usize,
    /// A short run; its tails are worth less.
    pub quick: bool,
    pub cases: Vec<Case>,
}

#[derive(Serialize, Deserialize)]
pub struct Case {
    pub name: String,
    pub condition: Condition,
    pub contenders: Vec<Figures>,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Figures {
    pub name: String,
    pub calls: u64,
    pub succeeded: u64,
    /// How often each errno came.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub errors: BTreeMap<String, u64>,
    pub p50_us: f64,
    /// Of 400 calls and more.
    pub p99_us: Option<f64>,
    pub mean_us: f64,
    pub max_us: f64,
}

const FILE: &str = "results.json";

/// Where `make bench` leaves it.
#[cfg(test)]
pub const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/figures");

impl Run {
    pub fn new(quick: bool) -> io::Result<Self> {
        Ok(Self {
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            cpu: cpu_model()?,
            cpus: std::thread::available_parallelism()?.get(),
            walked_bytes: walked_bytes(),
            quick,
            cases: Vec::new(),
        })
    }

    pub fn of(&self, name: &str, condition: Condition) -> Option<&Case> {
        self.cases.iter().find(|case| case.name == name && case.condition == condition)
    }

    pub fn read(directory: &Path) -> io::Result<Self> {
        let path = directory.join(FILE);
        fs::read_to_string(&path)
            .and_then(|text| Ok(serde_json::from_str(&text)?))
            .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
    }

    /// One line for each contender of each case, so that two runs can be compared by diff.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        let text = serde_json::to_string(self)?;
        let text = text.replace("{\"name\"", "\n{\"name\"").replace("\"cases\"", "\n\"cases\"");
        fs::write(directory.join(FILE), text + "\n")
    }
}

impl Case {
    pub fn of(&self, name: &str) -> Option<&Figures> {
        self.contenders.iter().find(|contender| contender.name == name)
    }

    pub fn print(&self) {
        println!("\n{}, {}: {}", self.name, self.condition.name(), title(&self.name));
        println!("  {:26}  success     p50 us     p99 us    mean us     max us    calls  x stock", "");
        for one in &self.contenders {
            let stock = if one.name.ends_with("unicast") { self.of("stock unicast") } else { self.contenders.first() };
            println!(
                "  {:26} {:>6} % {:>10.1} {:>10} {:>10.1} {:>10.1} {:>8} {:>8}",
                one.name,
                // Cut, not rounded: 999 of 1000 must not look like all.
                one.succeeded * 100 / one.calls.max(1),
                one.p50_us,
                one.p99_us.map_or("-".to_owned(), |us| format!("{us:.1}")),
                one.mean_us,
                one.max_us,
                one.calls,
                stock.map_or("-".to_owned(), |stock| format!("{:.2}", one.p50_us / stock.p50_us)),
            );
        }
    }
}

/// What a case is, in the tables.
pub fn title(name: &str) -> String {
    match name.rsplit_once('_') {
        Some(("by_bind_0", percent)) => return format!("{percent} % held, as SO_REUSEADDR and bind(0) do it"),
        Some(("at_random", percent)) => return format!("{percent} % held, at random"),
        Some(("udp_at_random", percent)) => return format!("UDP, {percent} % held, at random"),
        Some(("left", ports)) => return format!("listeners on all ports but {ports}"),
        _ => {}
    }
    match name {
        "held_all" => "listeners on all ports",
        "time_wait" => "all ports in TIME_WAIT, left by listeners with SO_REUSEADDR",
        "time_wait_not_reusable" => "all ports in TIME_WAIT, left without SO_REUSEADDR",
        "first_call" => "first call of a forked backend",
        "other_range_first" => "first call, range 1024-20000, half of it held as by bind(0)",
        "other_range" => "later calls in that range",
        "udp_quiet" => "UDP, quiet",
        "connect_other" => "a connection to another destination on every port",
        "connect_time_wait" => "all ports in TIME_WAIT, left by listeners",
        "connect_half_free" => "half of the 4-tuples taken, the other ports free",
        "connect_half_time_wait" => "half of the 4-tuples taken, the other ports in TIME_WAIT, left by listeners",
        "connect_ten_left" => "all 4-tuples taken but ten, those ports in TIME_WAIT, left by listeners",
        "connect_none_left" => "all 4-tuples taken",
        _ => "quiet",
    }
    .to_owned()
}

fn cpu_model() -> io::Result<String> {
    let text = fs::read_to_string("/proc/cpuinfo")?;
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    Ok(model.map_or_else(|| env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned()))
}
