//! The C header says the version of the package. (That it is the one the sources say is tested where it is generated.)

use std::fs;
use std::path::Path;

#[test]
fn the_header_has_the_version_of_the_package() {
    let header = fs::read_to_string(in_the_package("include/ic_listener.h")).expect("it is committed");
    let macro_value = |name: &str| {
        let define = format!("#define {name} ");
        header.lines().find_map(|line| line.strip_prefix(&define)).unwrap_or_else(|| panic!("no {name}"))
    };
    assert_eq!(macro_value("IC_LISTENER_VERSION"), format!("\"{}\"", env!("CARGO_PKG_VERSION")));
    assert_eq!(macro_value("IC_LISTENER_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MAJOR"));
    assert_eq!(macro_value("IC_LISTENER_VERSION_MINOR"), env!("CARGO_PKG_VERSION_MINOR"));
    assert_eq!(macro_value("IC_LISTENER_VERSION_PATCH"), env!("CARGO_PKG_VERSION_PATCH"));
}

fn in_the_package(path: &str) -> impl AsRef<Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
