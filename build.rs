//! Generates the C header from `src/ffi.rs` into OUT_DIR. `make header` copies it to `include/`, where it is committed; a
//! test fails when the two differ. (A build script that wrote to the source tree would make that test pass by itself, and
//! is refused by `cargo publish`.)

use std::env;
use std::fs;
use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=src/ffi.rs");
    println!("cargo::rerun-if-changed=cbindgen.toml");
    println!("cargo::rustc-check-cfg=cfg(ic_listener_test_panic)");

    let source = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let mut config = cbindgen::Config::from_file(source.join("cbindgen.toml")).expect("cbindgen.toml");
    config.after_includes = Some(version_macros() + INITIALIZERS);
    let mut header = Vec::new();
    cbindgen::Builder::new()
        .with_config(config)
        .with_src(source.join("src/ffi.rs"))
        .generate()
        .expect("src/ffi.rs has a C header")
        .write(&mut header);
    let header = in_c_terms(&String::from_utf8(header).expect("cbindgen writes UTF-8"));
    fs::write(PathBuf::from(variable("OUT_DIR")).join("ic_listener.h"), header).expect("OUT_DIR can be written");
}

/// Macros that cbindgen cannot make from Rust; they are used after the structs are declared.
const INITIALIZERS: &str = r#"

/*
 * The default options: IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
 */
#define IC_LISTENER_OPTIONS_INIT { sizeof(IcListenerOptions), NULL, 0, 0, 0, 0 }

/*
 * A report to be filled: IcListenerReport report = IC_LISTENER_REPORT_INIT;
 */
#define IC_LISTENER_REPORT_INIT \
    { sizeof(IcListenerReport), 0, IC_LISTENER_STEP_NONE, 0, IC_LISTENER_PORT_ORIGIN_NONE, \
      0, 0, 0, 0, 0, 0, 0, "", \
      IC_LISTENER_CENSUS_SOURCE_NONE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/*
 * A census to be filled: IcListenerCensus census = IC_LISTENER_CENSUS_INIT;
 */
#define IC_LISTENER_CENSUS_INIT \
    { sizeof(IcListenerCensus), 0, IC_LISTENER_CENSUS_SOURCE_NONE, 0, 0, 0, \
      0, 0, 0, 0, 0, 0, 0, 0, 0, 0, "" }"#;

/// Comments as PostgreSQL writes them, and the heading that Rust wants over a function's preconditions in a C reader's words.
fn in_c_terms(header: &str) -> String {
    header
        .replace("/**\n", "/*\n")
        .replace(" * # Safety\n *\n * ", " * Pointers: ")
        .replace(" // __cplusplus", " /* __cplusplus */")
        .replace(" // extern \"C\"", " /* extern \"C\" */")
}

fn version_macros() -> String {
    format!(
        "\n/*\n * The version of this header; ic_listener_version() is the one of the library that is linked.\n */\n\
         #define IC_LISTENER_VERSION \"{}\"\n\
         #define IC_LISTENER_VERSION_MAJOR {}\n\
         #define IC_LISTENER_VERSION_MINOR {}\n\
         #define IC_LISTENER_VERSION_PATCH {}",
        variable("CARGO_PKG_VERSION"),
        variable("CARGO_PKG_VERSION_MAJOR"),
        variable("CARGO_PKG_VERSION_MINOR"),
        variable("CARGO_PKG_VERSION_PATCH"),
    )
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
