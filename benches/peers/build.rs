//! Builds uWebSockets for server-uws.
//!
//! The source comes from the crate `libuwebsockets-sys`, of which nothing else is used, or from the
//! directory in the variable `UWS_DIR`. The build needs GCC and the headers of OpenSSL and zlib: on
//! Debian the packages g++, libssl-dev and zlib1g-dev. The flags are those of uWebSockets' own
//! build: `-O3 -flto`, and for C++ `-march=native`, with epoll. `CFLAGS` and `CXXFLAGS` are added;
//! a `-march` in `CXXFLAGS` replaces `-march=native`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "uws")]
    uws::build();
}

#[cfg(feature = "uws")]
mod uws {
    use std::env;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    pub(super) fn build() {
        println!("cargo::rerun-if-changed={SERVER}");
        for name in ["UWS_DIR", "CFLAGS", "CXXFLAGS", "CC", "CXX"] {
            println!("cargo::rerun-if-env-changed={name}");
        }
        let source = env::var_os("UWS_DIR").map_or_else(packaged, PathBuf::from);
        let sockets = source.join("uSockets/src");

        let mut c = compiler(&sockets);
        c.std("c11");
        for part in ["", "eventing", "crypto"] {
            c.files(files(&sockets.join(part), "c"));
        }
        let mut cpp = compiler(&sockets);
        cpp.cpp(true).std("c++20").include(source.join("src"));
        cpp.files(files(&sockets.join("crypto"), "cpp"))
            .file(SERVER);
        if !env::var("CXXFLAGS").is_ok_and(|flags| flags.contains("-march")) {
            cpp.flag("-march=native");
        }
        // Rust's linker cannot optimise GCC's objects across files, so GCC links them into one
        // object.
        let object = variable("OUT_DIR").join("uws.o");
        let mut link = cpp.get_compiler().to_command();
        link.args(["-r", "-flinker-output=nolto-rel"]);
        // GCC 12 fails to split this program into several partitions.
        link.args(["-flto-partition=none", "-o"]);
        link.arg(&object);
        link.args(c.compile_intermediates());
        link.args(cpp.compile_intermediates());
        run(&mut link);

        let bin = "cargo::rustc-link-arg-bin=server-uws";
        println!("{bin}={}", object.display());
        for library in ["ssl", "crypto", "z", "stdc++"] {
            println!("{bin}=-l{library}");
        }
    }

    fn compiler(sockets: &Path) -> cc::Build {
        let mut build = cc::Build::new();
        build.include(sockets).define("LIBUS_USE_OPENSSL", None);
        build.opt_level(3).flag("-flto").flag("-pthread");
        // Warnings in the source of uWebSockets are not ours to fix.
        build.warnings(false).debug(false);
        build
    }

    /// Returns the source directory in the package `libuwebsockets-sys`.
    fn packaged() -> PathBuf {
        let mut metadata = Command::new(variable("CARGO"));
        metadata.args(["metadata", "--format-version=1", "--locked"]);
        let listed = run(&mut metadata);
        let manifest = listed
            .split('"')
            .find(|text| text.contains("/libuwebsockets-sys-") && text.ends_with("/Cargo.toml"))
            .expect("the crate libuwebsockets-sys is a dependency");
        Path::new(manifest).with_file_name("uWebSockets")
    }

    fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(directory)
            .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|found| found == extension))
            .collect();
        files.sort();
        files
    }

    fn variable(name: &str) -> PathBuf {
        env::var_os(name).map_or_else(|| panic!("{name} is not set"), PathBuf::from)
    }

    fn run(command: &mut Command) -> String {
        let output = command
            .output()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    const SERVER: &str = "src/server/uws.cpp";
}
