//! uWebSockets, the C++ server; see `src/server/uws.cpp`.
//!
//! `build.rs` compiles uWebSockets from source, with the flags of its own build. For every
//! dedicated compressor uWebSockets selects the smallest one, with a window of 512 bytes; see
//! `HttpResponse::upgrade` in its source.
//!
//! With `--loops N` there are N threads, each with an `App` that listens on the same port
//! (`SO_REUSEPORT`). A message is published to the subscribers of its own thread, and then passed
//! to each other thread with `Loop::defer`, the only function of uWebSockets that may be called
//! from other threads ("Threading" in its manual).
#![expect(unsafe_code, reason = "calls C++")]

use std::ffi::{CString, c_char, c_int, c_uint};
use std::path::Path;
use std::ptr;

use wsloop_peers::server::{Deflate, Mode, Options, Skill, refuse};

unsafe extern "C" {
    fn wsloop_peers_uws(
        host: *const c_char,
        port: c_int,
        chain: *const c_char,
        key: *const c_char,
        mode: c_int,
        shared: bool,
        dedicated: bool,
        max_message: c_uint,
        loops: c_uint,
        greet: bool,
    ) -> bool;
}

fn main() {
    let options = Options::of(&[
        Skill::Broadcast,
        Skill::Deflate,
        Skill::Greet,
        Skill::Loops,
        Skill::Tls,
        Skill::Topics,
    ]);
    if options.mode == Mode::Broadcast && options.loops > 1 {
        refuse("--mode broadcast goes only with one loop");
    }
    let host = c_string(options.listen.ip().to_string());
    let tls = options
        .tls
        .as_ref()
        .map(|(chain, key)| (c_path(chain), c_path(key)));
    let (chain, key) = tls
        .as_ref()
        .map_or((ptr::null(), ptr::null()), |(chain, key)| {
            (chain.as_ptr(), key.as_ptr())
        });
    // The numbers of `enum Mode` in uws.cpp.
    let mode = match options.mode {
        Mode::Broadcast => 1,
        Mode::Topics => 2,
        _ => 0,
    };
    let max_message = c_uint::try_from(options.max_message).unwrap_or(c_uint::MAX);
    let loops = c_uint::try_from(options.loops).unwrap_or_else(|error| refuse(error));
    // SAFETY: The pointers are null or point to strings that end in a zero byte and outlive the
    // call.
    let served = unsafe {
        wsloop_peers_uws(
            host.as_ptr(),
            options.listen.port().into(),
            chain,
            key,
            mode,
            options.deflate == Some(Deflate::Shared),
            options.deflate == Some(Deflate::Dedicated),
            max_message,
            loops,
            options.greet,
        )
    };
    if !served {
        refuse(format_args!(
            "cannot listen on {}, or not with that certificate",
            options.listen
        ));
    }
}

fn c_string(text: String) -> CString {
    CString::new(text).unwrap_or_else(|error| refuse(error))
}

fn c_path(path: &Path) -> CString {
    c_string(path.display().to_string())
}
