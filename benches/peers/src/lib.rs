//! Compares wsloop with a bare TCP echo and with other WebSocket servers.
//!
//! [`load`] is a client that loads a server and checks every byte of the answers; [`report`] runs
//! it against one server after the other and writes down what came out; [`server`] is what the
//! servers have in common. `README.md` beside this crate tells how to use them.

#[path = "../../../src/client_frames.rs"]
mod client_frames;
pub mod load;
pub mod report;
pub mod server;
