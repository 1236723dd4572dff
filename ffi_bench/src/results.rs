//! What a run found: `results.json`, and the table on the terminal.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

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
    /// What linking the library adds to a stripped C program.
    pub linking_adds_bytes: u64,
    #[serde(default)]
    pub fills: Vec<Fill>,
    #[serde(default)]
    pub cases: Vec<Case>,
}

/// What a group of cases tells the program that started it.
#[derive(Serialize, Deserialize)]
pub enum Found {
    Case(Case),
    Fill(Fill),
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

/// A range filled by one contender.
#[derive(Serialize, Deserialize)]
pub struct Fill {
    pub contender: String,
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
            linking_adds_bytes: linking_adds_bytes()?,
            fills: Vec::new(),
            cases: Vec::new(),
        })
    }

    pub fn add(&mut self, found: Found) {
        match found {
            Found::Case(case) => {
                case.print();
                self.cases.push(case);
            }
            Found::Fill(fill) => {
                fill.print();
                self.fills.push(fill);
            }
        }
    }

    pub fn of(&self, name: &str, condition: Condition) -> Option<&Case> {
        self.cases.iter().find(|case| case.name == name && case.condition == condition)
    }

    pub fn fill(&self, contender: &str) -> Option<&Fill> {
        self.fills.iter().find(|fill| fill.contender == contender)
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
        fs::write(directory.join(FILE), text.replace("\"fills\"", "\n\"fills\"") + "\n")
    }
}

impl Case {
    pub fn of(&self, name: &str) -> Option<&Figures> {
        self.contenders.iter().find(|contender| contender.name == name)
    }

    /// The one that a contender is compared with: Greenplum's C on the same address, or connect().
    fn stock_of(&self, name: &str) -> Option<&Figures> {
        let stock = if name.ends_with("unicast") { "stock unicast" } else { "stock" };
        self.of(stock).or_else(|| self.of("connect"))
    }

    fn print(&self) {
        println!("\n{}, {}", title(&self.name), self.condition.name());
        println!(
            "  {:<26} {:>7} {:>10} {:>10} {:>10} {:>10} {:>8} {:>8} {:>8}",
            "", "success", "p50 us", "p99 us", "mean us", "max us", "calls", "x stock", "x floor"
        );
        let ratio = |one: &Figures, other: Option<&Figures>| {
            other.map_or("-".to_owned(), |other| format!("{:.2}", one.p50_us / other.p50_us))
        };
        let figure = |us: f64| if us < 100.0 { format!("{us:.1}") } else { format!("{us:.0}") };
        for one in &self.contenders {
            println!(
                "  {:<26} {:>5} % {:>10} {:>10} {:>10} {:>10} {:>8} {:>8} {:>8}",
                one.name,
                // Cut, not rounded: 999 of 1000 must not look like all.
                one.succeeded * 100 / one.calls.max(1),
                figure(one.p50_us),
                one.p99_us.map_or("-".into(), figure),
                figure(one.mean_us),
                figure(one.max_us),
                one.calls,
                ratio(one, self.stock_of(&one.name)),
                ratio(one, self.of("floor")),
            );
        }
    }
}

impl Fill {
    fn print(&self) {
        let how = if self.stopped { "stopped after" } else { "in" };
        println!(
            "\nfilled by {} processes of {}: {} of {} ports, {how} {:.2} s ({:.2} s of CPU time)",
            self.processes, self.contender, self.ports, self.usable_ports, self.seconds, self.cpu_seconds
        );
    }
}

/// What a case is, in the tables.
pub fn title(name: &str) -> String {
    let of_range = |percent: &str, how: &str| format!("{percent} % held, {how}");
    if let Some(percent) = name.strip_prefix("by_bind_0_") {
        return of_range(percent, "as SO_REUSEADDR and bind(0) do it");
    } else if let Some(percent) = name.strip_prefix("at_random_") {
        return of_range(percent, "at random");
    } else if let Some(percent) = name.strip_prefix("udp_at_random_") {
        return format!("UDP, {}", of_range(percent, "at random"));
    } else if let Some(left) = name.strip_prefix("left_") {
        return format!("listeners on all ports but {left}");
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

/// Builds a C program with the static library and one without it.
fn linking_adds_bytes() -> io::Result<u64> {
    let scratch = env::temp_dir().join(format!("ffi_bench.{}", std::process::id()));
    fs::create_dir(&scratch)?;
    let size_of = |body: &str, library: Option<&str>| {
        let (source, program) = (scratch.join("program.c"), scratch.join("program"));
        fs::write(&source, format!("#include \"ic_listener.h\"\nint main(void) {{ int port, fd; return {body}; }}\n"))?;
        let mut command = Command::new(env::var("CC").unwrap_or_else(|_| "cc".to_owned()));
        command.args(["-O2", "-s", "-w", "-I", env!("IC_LISTENER_HEADERS"), "-o"]).arg(&program).arg(&source);
        match command.args(library).status()? {
            status if status.success() => Ok(fs::metadata(&program)?.len()),
            status => Err(io::Error::other(format!("{command:?}: {status}"))),
        }
    };
    let with = size_of("setup_listener(&port, &fd)", Some(env!("IC_LISTENER_STATIC_LIB")));
    let without = size_of("0", None);
    fs::remove_dir_all(&scratch)?;
    Ok(with?.saturating_sub(without?))
}
