//! What is written elsewhere is what Cargo.toml says. (That the header is the one the sources say: `make check-header`.)
//! The C library, and the library in ic_ports, are made of the sources and the dependencies of this crate, though with
//! other manifests.

use std::fs;
use std::path::Path;

#[test]
fn the_header_has_the_version_of_the_package() {
    let header = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("include/ic_listener.h")).unwrap();
    for line in [
        concat!("IC_LISTENER_VERSION \"", env!("CARGO_PKG_VERSION"), "\""),
        concat!("IC_LISTENER_VERSION_MAJOR ", env!("CARGO_PKG_VERSION_MAJOR")),
        concat!("IC_LISTENER_VERSION_MINOR ", env!("CARGO_PKG_VERSION_MINOR")),
        concat!("IC_LISTENER_VERSION_PATCH ", env!("CARGO_PKG_VERSION_PATCH")),
    ] {
        assert!(header.contains(&format!("#define {line}\n")), "{line}");
    }
}

/// The lines of `section`, without comments.
fn section(manifest: &str, section: &str) -> Vec<String> {
    let lines = manifest.lines().skip_while(|line| *line != format!("[{section}]")).skip(1);
    lines.take_while(|line| !line.starts_with('[')).filter(|line| line.contains('=')).map(str::to_owned).collect()
}

#[test]
fn other_manifests_have_the_version_and_the_dependencies_of_the_crate() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crate_ = fs::read_to_string(here.join("Cargo.toml")).expect("it is there");
    for other in ["c_library", "tools/ic_ports/library"] {
        // A package of this crate has the one only.
        let Ok(other) = fs::read_to_string(here.join(other).join("Cargo.toml")) else { return };
        assert_eq!(section(&other, "dependencies"), section(&crate_, "dependencies"));
        assert_eq!(section(&other, "package")[..5], section(&crate_, "package")[..5]);
    }
}
