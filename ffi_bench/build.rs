//! Makes libcontenders.so: the contenders written in C, and the release static library of ic_listener that one of them
//! is.
//!
//! A shared object, with a version script, as an extension of a database is one: this program's Rust runtime and the
//! library's stay apart. Nothing is added to what is measured: the code in it is the archive's, position-independent as
//! it is for every C program; its calls within itself are direct, because the symbols are local, and those to libc go
//! through the same table as in any executable.

use std::env;
use std::path::{Path, PathBuf};

const C_SOURCES: [&str; 2] = ["src/native/contenders.c", "src/native/greenplum.c"];
const C_HEADER: &str = "src/native/greenplum.h";
const EXPORTS: &str = "src/native/exports.map";
const HEADERS: &str = "../include";

/// The one that `make` builds.
const STATIC_LIB: &str = "../target/lib/libic_listener.a";

fn main() {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(variable("OUT_DIR"));
    let static_lib = path("IC_LISTENER_STATIC_LIB", here.join(STATIC_LIB));
    let headers = path("IC_LISTENER_HEADERS", here.join(HEADERS));
    assert!(static_lib.exists(), "{} is not there; `make` at the top builds it", static_lib.display());
    for input in C_SOURCES.iter().chain([&C_HEADER, &EXPORTS]) {
        println!("cargo::rerun-if-changed={input}");
    }
    println!("cargo::rerun-if-changed={}", static_lib.display());
    println!("cargo::rerun-if-changed={}", headers.join("ic_listener.h").display());

    make_shared_object(&here, &out.join("libcontenders.so"), &static_lib, &headers);
    println!("cargo::rustc-link-search=native={}", out.display());
    println!("cargo::rustc-link-lib=dylib=contenders");
    println!("cargo::rustc-link-arg-bins=-Wl,-rpath,{}", out.display());
    println!("cargo::rustc-env=IC_LISTENER_STATIC_LIB={}", static_lib.display());
    println!("cargo::rustc-env=IC_LISTENER_HEADERS={}", headers.display());
}

fn make_shared_object(here: &Path, shared_object: &Path, static_lib: &Path, headers: &Path) {
    // Optimized whatever cargo's profile is: it is the C that a release of Greenplum runs.
    let compiler = cc::Build::new().opt_level(2).debug(false).warnings(true).extra_warnings(true).get_compiler();
    let mut command = compiler.to_command();
    command
        .args(["-std=gnu11", "-Werror", "-shared", "-fPIC", "-Wl,-z,now", "-Wl,-z,defs"])
        .arg("-I")
        .arg(headers)
        .arg(format!("-Wl,--version-script={}", here.join(EXPORTS).display()))
        .arg("-o")
        .arg(shared_object)
        .args(C_SOURCES.map(|source| here.join(source)))
        .arg(static_lib);
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

/// That of the environment, to measure another version of the library, or else this.
fn path(name: &str, usual: PathBuf) -> PathBuf {
    println!("cargo::rerun-if-env-changed={name}");
    env::var_os(name).map_or(usual, PathBuf::from)
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
