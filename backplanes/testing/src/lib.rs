//! Tests of backplanes with real engines, several processes and faults.
//!
//! [`Engine`] starts the servers of an engine and harms them. [`trial::run`] starts node programs
//! ([`node`]) that publish numbered messages to each other's clients, applies a [`Fault`], and lets
//! the [`checker`] compare what each client heard with what was published: every message was
//! delivered in order and once, or announced as lost.

pub mod checker;
pub mod client;
pub mod desk;
pub mod engine;
pub mod nats;
pub mod node;
pub mod processes;
pub mod proxy;
pub mod redis;
pub mod trial;

pub use engine::{Engine, Fault};
