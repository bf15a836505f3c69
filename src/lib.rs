//! wip
mod config;
mod error;
pub mod protocol;
pub use config::{Limits, SlowConsumer};
pub use error::*;
