//! The C library is made of the sources and the dependencies of this crate, though with another manifest.

use std::fs;
use std::path::Path;

/// The lines of `section`, without comments.
fn section(manifest: &str, section: &str) -> Vec<String> {
    let lines = manifest.lines().skip_while(|line| *line != format!("[{section}]")).skip(1);
    lines.take_while(|line| !line.starts_with('[')).filter(|line| line.contains('=')).map(str::to_owned).collect()
}

#[test]
fn the_c_library_has_the_version_and_the_dependencies_of_the_crate() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    // A package of this crate has the one only.
    let Ok(c_library) = fs::read_to_string(here.join("c_library/Cargo.toml")) else { return };
    let crate_ = fs::read_to_string(here.join("Cargo.toml")).expect("it is there");
    assert_eq!(section(&c_library, "dependencies"), section(&crate_, "dependencies"));
    assert_eq!(section(&c_library, "package")[..5], section(&crate_, "package")[..5]);
}
