//! The echo server of this crate.

fn main() {}
