//! Compares wsloop with a bare TCP echo and with other WebSocket servers.
//!
//! [`load`] is a client that loads a server and checks every byte of the replies. [`report`] runs
//! it against each server in turn and writes down the results. [`server`] is shared by the servers.
//! `README.md` beside this crate explains their use.

#[path = "../../../src/client_frames.rs"]
mod client_frames;
pub mod load;
pub mod report;
pub mod server;
