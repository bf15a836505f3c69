//! Compares wsloop with a bare TCP echo and with other WebSocket servers.

pub mod server;
