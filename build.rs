//! With the feature `header`, writes `include/ic_listener.h` (or `$IC_LISTENER_HEADER`): `make header` does that. Without
//! it there is nothing to do, and cbindgen is not compiled.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "header")]
    header::write();
}

#[cfg(feature = "header")]
mod header {
    use std::path::{Path, PathBuf};
    use std::{env, fs};

    /// What C programs see, in the header's order.
    const SOURCES: [&str; 5] =
        ["src/error.rs", "src/attempts.rs", "src/census/mod.rs", "src/ffi/structs.rs", "src/ffi/mod.rs"];

    pub fn write() {
        let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
        let config = cbindgen::Config::from_file("cbindgen.toml").expect("cbindgen.toml can be read");
        println!("cargo::rerun-if-changed=cbindgen.toml");
        let mut builder = cbindgen::Builder::new().with_config(config);
        for source in SOURCES {
            println!("cargo::rerun-if-changed={source}");
            let text = fs::read_to_string(source).unwrap_or_else(|error| panic!("{source}: {error}"));
            let copy = out.join(source.replace('/', "-"));
            fs::write(&copy, text).expect("OUT_DIR can be written");
            builder = builder.with_src(copy);
        }
        println!("cargo::rerun-if-env-changed=IC_LISTENER_HEADER");
        let header = env::var_os("IC_LISTENER_HEADER").map_or_else(|| "include/ic_listener.h".into(), PathBuf::from);
        println!("cargo::rerun-if-changed={}", header.display());
        write_at_once(&header, builder.generate().expect("the sources have a C header"));
    }

    /// So that nobody ever sees half a header.
    fn write_at_once(header: &Path, bindings: cbindgen::Bindings) {
        let new = header.with_extension("h.new");
        bindings.write(fs::File::create(&new).unwrap_or_else(|error| panic!("{}: {error}", new.display())));
        fs::rename(new, header).expect("the directory can be written");
    }
}
