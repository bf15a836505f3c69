//! Loads a WebSocket server, checks every reply, and prints what it found out as JSON.
//!
//! `load --help` lists the options.

fn main() -> anyhow::Result<()> {
    if let Some(measure) = wsloop_peers::load::run(std::env::args())? {
        println!("{}", serde_json::to_string(&measure)?);
    }
    Ok(())
}
