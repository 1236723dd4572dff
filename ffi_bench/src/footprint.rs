//! What linking the library adds to a C program: to the stripped file, and to what of it is loaded.

use std::env;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

/// Beside the results of the cases.
pub const FILE: &str = "linking.json";

#[derive(Serialize)]
pub struct Footprint {
    pub case: &'static str,
    pub compiler: String,
    pub without_bytes: u64,
    pub with_bytes: u64,
    pub added_bytes: u64,
    /// The same with -Wl,--gc-sections, as distributions like to link.
    pub added_bytes_gc_sections: u64,
    /// The archive itself, which is larger, because it has symbols and relocations in it.
    pub archive_bytes: u64,
}

const WITHOUT: &str = "int main(void) { return 0; }\n";
const WITH: &str = "#include \"ic_listener.h\"\n\
    int main(void) { int port, fd; return setup_listener(&port, &fd); }\n";

const LIBRARY: &str = env!("IC_LISTENER_STATIC_LIB");
const HEADERS: &str = env!("IC_LISTENER_HEADERS");

/// Builds both programs with cc in `scratch`, a directory that exists.
pub fn measure(scratch: &Path) -> io::Result<Footprint> {
    let without = size_of_program(scratch, WITHOUT, false, &[])?;
    let with = size_of_program(scratch, WITH, true, &[])?;
    let gc = ["-Wl,--gc-sections"];
    let without_gc = size_of_program(scratch, WITHOUT, false, &gc)?;
    let with_gc = size_of_program(scratch, WITH, true, &gc)?;
    let version = Command::new(compiler()).arg("--version").output()?;
    Ok(Footprint {
        case: "linking",
        compiler: String::from_utf8_lossy(&version.stdout).lines().next().unwrap_or_default().to_owned(),
        without_bytes: without,
        with_bytes: with,
        added_bytes: with.saturating_sub(without),
        added_bytes_gc_sections: with_gc.saturating_sub(without_gc),
        archive_bytes: fs::metadata(LIBRARY)?.len(),
    })
}

fn compiler() -> String {
    env::var("CC").unwrap_or_else(|_| "cc".to_owned())
}

fn size_of_program(scratch: &Path, source: &str, with_library: bool, options: &[&str]) -> io::Result<u64> {
    let (source_file, program) = (scratch.join("footprint.c"), scratch.join("footprint"));
    fs::write(&source_file, source)?;
    let mut command = Command::new(compiler());
    command.args(["-O2", "-s", "-I", HEADERS]).args(options).arg("-o").arg(&program).arg(&source_file);
    if with_library {
        command.arg(LIBRARY);
    }
    let status = command.status()?;
    if !status.success() {
        return Err(io::Error::other(format!("{command:?}: {status}")));
    }
    Ok(fs::metadata(&program)?.len())
}

impl Footprint {
    pub fn print(&self) {
        println!("\nwhat linking adds to a stripped C program");
        println!(
            "  {} KiB, {} KiB with -Wl,--gc-sections; the program without it is {} KiB",
            self.added_bytes / 1024,
            self.added_bytes_gc_sections / 1024,
            self.without_bytes / 1024
        );
    }

    pub fn write(&self, directory: &Path) -> io::Result<()> {
        fs::write(directory.join(FILE), serde_json::to_string_pretty(self)? + "\n")
    }
}
