//! What a case found, as it goes into `results/*.json`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::contenders::{Address, Contender, Role};
use crate::footprint;
use crate::measure::Tally;
use crate::system_calls::{self, Count};

#[derive(Serialize, Deserialize)]
pub struct CaseResult {
    pub case: String,
    pub title: String,
    pub kernel: String,
    pub cpu: String,
    pub cpus: usize,
    /// A short run; its tails are worth less.
    pub quick: bool,
    /// The calls were made with real-time priority. Not so where many processes are at work at once.
    pub undisturbed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub occupancy: Option<Occupancy>,
    /// What else was there, such as the number of ports in TIME_WAIT.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub conditions: BTreeMap<String, u64>,
    pub contenders: Vec<ContenderResult>,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Occupancy {
    pub percent: u32,
    /// How the listeners came to their ports.
    pub placed: Placed,
    /// Whether the kernel really placed them, or a model of what it does.
    pub modelled: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placed {
    AtRandom,
    BySoReuseaddrAndBind0,
}

#[derive(Serialize, Deserialize)]
pub struct ContenderResult {
    pub name: String,
    pub calls: u64,
    pub succeeded: u64,
    pub success_rate: f64,
    /// How often each errno came.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub errors: BTreeMap<String, u64>,
    pub p50_us: f64,
    /// Of 1,000 calls and more.
    pub p99_us: Option<f64>,
    pub max_us: f64,
    /// p50 by p50, of the contenders on the same address.
    pub ratio_to_stock: Option<f64>,
    pub ratio_to_floor: Option<f64>,
    /// p50 by its own p50 on a quiet host.
    pub ratio_to_quiet: Option<f64>,
    pub system_calls_per_call: Option<f64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub system_calls: BTreeMap<String, f64>,
    pub allocations_per_call: f64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fill: Option<Fill>,
}

/// A range filled by one contender.
#[derive(Clone, Serialize, Deserialize)]
pub struct Fill {
    pub processes: usize,
    pub seconds: f64,
    /// Of all processes together. Another program on the machine makes `seconds` longer, but not this.
    pub cpu_seconds: f64,
    /// Different ports that it got.
    pub ports: usize,
    pub usable_ports: usize,
    /// It was stopped then, and would have taken longer.
    pub stopped: bool,
}

impl CaseResult {
    pub fn of(&self, name: &str) -> Option<&ContenderResult> {
        self.contenders.iter().find(|contender| contender.name == name)
    }

    /// All that [`Self::write`] left in the directory.
    pub fn read_all(directory: &Path) -> io::Result<Vec<Self>> {
        let mut results = Vec::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let is_case = path.file_name().is_some_and(|name| name != footprint::FILE);
            if is_case && path.extension().is_some_and(|extension| extension == "json") {
                let result = serde_json::from_str(&fs::read_to_string(&path)?);
                results.push(result.map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?);
            }
        }
        Ok(results)
    }

    /// Fills in what takes the whole run to know: the machine, and the ratio to the quiet host.
    pub fn complete(&mut self, quiet: Option<&CaseResult>) -> io::Result<()> {
        self.kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
        self.cpu = cpu_model()?;
        self.cpus = std::thread::available_parallelism()?.get();
        for contender in &mut self.contenders {
            contender.ratio_to_quiet = quiet
                .and_then(|quiet| quiet.of(&contender.name))
                .map(|its_quiet| significant(contender.p50_us / its_quiet.p50_us));
        }
        Ok(())
    }

    pub fn write(&self, directory: &Path) -> io::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(directory.join(format!("{}.json", self.case)), text + "\n")
    }
}

impl ContenderResult {
    /// The results of the contenders of one case; `counts` is empty where system calls were not counted.
    pub fn of_all(contenders: &[Contender], tallies: &[Tally], counts: &[Count]) -> Vec<Self> {
        let mut results: Vec<Self> = contenders
            .iter()
            .zip(tallies)
            .enumerate()
            .map(|(index, (contender, tally))| Self::new(contender, tally, counts.get(index)))
            .collect();
        let p50_of = |role: Role, address: Address| {
            let index = contenders.iter().position(|other| other.role == role && other.address == address)?;
            Some(microseconds(tallies[index].p50()))
        };
        for (result, contender) in results.iter_mut().zip(contenders) {
            result.ratio_to_stock =
                p50_of(Role::Stock, contender.address).map(|stock| significant(result.p50_us / stock));
            result.ratio_to_floor =
                p50_of(Role::Floor, contender.address).map(|floor| significant(result.p50_us / floor));
        }
        results
    }

    fn new(contender: &Contender, tally: &Tally, count: Option<&Count>) -> Self {
        let count = count.filter(|count| count.calls > 0);
        let calls = tally.calls() as f64;
        Self {
            name: contender.name.to_owned(),
            calls: tally.calls(),
            succeeded: tally.succeeded(),
            success_rate: tally.succeeded() as f64 / calls,
            errors: tally.errors.iter().map(|(&errno, &times)| (errno_name(errno), times)).collect(),
            p50_us: microseconds(tally.p50()),
            p99_us: tally.p99().map(microseconds),
            max_us: microseconds(tally.latency.max()),
            ratio_to_stock: None,
            ratio_to_floor: None,
            ratio_to_quiet: None,
            system_calls_per_call: count
                .map(|count| rounded(count.by_number.values().sum::<u64>() as f64 / count.calls as f64)),
            system_calls: count.map_or_else(BTreeMap::new, |count| {
                let per_call = |times: u64| rounded(times as f64 / count.calls as f64);
                count.by_number.iter().map(|(&number, &times)| (system_calls::name(number), per_call(times))).collect()
            }),
            allocations_per_call: rounded(tally.allocations as f64 / calls),
            fill: None,
        }
    }
}

fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1000.0
}

/// To four significant digits, of which the histogram vouches for three.
fn significant(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

/// To two places: a count divided by a number of calls does not mean more.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn errno_name(errno: i32) -> String {
    match errno {
        libc::EADDRINUSE => "EADDRINUSE".to_owned(),
        libc::EADDRNOTAVAIL => "EADDRNOTAVAIL".to_owned(),
        libc::EMFILE => "EMFILE".to_owned(),
        libc::ENFILE => "ENFILE".to_owned(),
        libc::ENOBUFS => "ENOBUFS".to_owned(),
        _ => format!("errno {errno}"),
    }
}

fn cpu_model() -> io::Result<String> {
    let text = fs::read_to_string("/proc/cpuinfo")?;
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    Ok(model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned()))
}
