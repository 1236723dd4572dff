//! Links the contenders written in C, and the release static library of ic_listener that one of them is.

use std::env;
use std::path::Path;

const SOURCE: &str = "src/native/contenders.c";
const HEADER: &str = "../include/ic_listener.h";

/// The one that `make` builds.
const STATIC_LIB: &str = "../target/lib/libic_listener.a";

fn main() {
    let here = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let static_lib = Path::new(&here).join(STATIC_LIB);
    assert!(static_lib.exists(), "{} is not there; `make` at the top builds it", static_lib.display());
    for input in [SOURCE, HEADER, STATIC_LIB] {
        println!("cargo::rerun-if-changed={input}");
    }
    // Optimized whatever cargo's profile is: it is the C that a release of Greenplum runs.
    cc::Build::new()
        .file(SOURCE)
        .include("../include")
        .std("gnu11")
        .opt_level(2)
        .debug(false)
        .extra_warnings(true)
        .warnings_into_errors(true)
        .compile("contenders");
    println!("cargo::rustc-link-arg={}", static_lib.display());
}
