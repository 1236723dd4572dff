//! Makes libcontenders.so: the contenders written in C, and the release static library of ic_listener that one of them is.
//!
//! A Rust program cannot link a Rust static library directly: both bring a Rust runtime, and `rust_eh_personality` is
//! defined twice. A shared object with a version script has room for a runtime of its own. Nothing is added to what is
//! measured: the code in it is the archive's, position-independent as it is for every C program; its calls within itself
//! are direct, because the symbols are local, and those to libc go through the same table as in any executable.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

const C_SOURCES: [&str; 3] = ["src/native/contenders.c", "src/native/greenplum.c", "src/native/allocations.c"];
const C_HEADER: &str = "src/native/greenplum.h";
const EXPORTS: &str = "src/native/exports.map";
const HEADERS: &str = "../include";

/// The one that `make` builds, with link-time optimization.
const STATIC_LIB: &str = "../target/release/libic_listener.a";

/// Where the system libraries stand that the static library needs; a test holds them against what rustc reports.
const C_TESTS: &str = "../c_tests/Makefile";

fn main() {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(variable("OUT_DIR"));
    println!("cargo::rerun-if-env-changed=IC_LISTENER_STATIC_LIB");
    let static_lib = env::var_os("IC_LISTENER_STATIC_LIB").map_or_else(|| here.join(STATIC_LIB), PathBuf::from);
    assert!(static_lib.exists(), "{} is not there; `make` at the top builds it", static_lib.display());
    for input in C_SOURCES.iter().chain([&C_HEADER, &EXPORTS]) {
        println!("cargo::rerun-if-changed={input}");
    }
    println!("cargo::rerun-if-changed={}", static_lib.display());
    println!("cargo::rerun-if-changed={}", here.join(HEADERS).join("ic_listener.h").display());

    println!("cargo::rerun-if-changed={}", here.join(C_TESTS).display());
    let c_tests = fs::read_to_string(here.join(C_TESTS)).expect("the C tests have a Makefile");
    let system_libs = c_tests.lines().find_map(|line| line.strip_prefix("SYSTEM_LIBS = ")).expect("it has SYSTEM_LIBS");

    make_shared_object(&here, &out.join("libcontenders.so"), &static_lib, system_libs);
    println!("cargo::rustc-link-search=native={}", out.display());
    println!("cargo::rustc-link-lib=dylib=contenders");
    println!("cargo::rustc-link-arg-bins=-Wl,-rpath,{}", out.display());
    println!("cargo::rustc-env=IC_LISTENER_STATIC_LIB={}", static_lib.display());
    println!("cargo::rustc-env=IC_LISTENER_HEADERS={}", here.join(HEADERS).display());
    println!("cargo::rustc-env=IC_LISTENER_SYSTEM_LIBS={system_libs}");
}

fn make_shared_object(here: &Path, shared_object: &Path, static_lib: &Path, system_libs: &str) {
    // Optimized whatever cargo's profile is: it is the C that a release of Greenplum runs.
    let compiler = cc::Build::new().opt_level(2).debug(false).warnings(true).extra_warnings(true).get_compiler();
    let mut command = compiler.to_command();
    command
        .args(["-std=gnu11", "-Werror", "-shared", "-fPIC", "-Wl,-z,now", "-Wl,-z,defs"])
        .arg("-I")
        .arg(here.join(HEADERS))
        .arg(format!("-Wl,--version-script={}", here.join(EXPORTS).display()))
        .arg("-o")
        .arg(shared_object)
        .args(C_SOURCES.map(|source| here.join(source)))
        .arg(static_lib)
        .args(system_libs.split(' '));
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
