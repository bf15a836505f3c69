//! The logger of the examples: lines on standard error, warnings and errors unless `RUST_LOG` says
//! otherwise.

pub(crate) fn init() {
    let settings = env_logger::Env::default().default_filter_or("warn");
    env_logger::Builder::from_env(settings).init();
}
