//! The protocol of Socket.IO (version 5) on that of Engine.IO (version 4), over a WebSocket: text
//! messages with a number for each layer, then JSON.

use super::frame::{self, client_frame};

/// The target of the request that opens a WebSocket.
pub(super) const TARGET: &str = "/socket.io/?EIO=4&transport=websocket";
/// Engine.IO: the server's first packet begins with this.
pub(super) const OPEN: &str = "0{";
/// Socket.IO: asks for the main namespace; the answer begins with it, too.
pub(super) const CONNECT: &str = "40";
/// Engine.IO: the server's ping.
pub(super) const PING: &[u8] = b"2";

/// Returns the frame that answers a ping.
pub(super) fn pong() -> Vec<u8> {
    client_frame(frame::TEXT, b"3", [1, 2, 3, 4])
}

/// Returns the event that subscribes its sender.
pub(super) fn subscribe(topic: &str) -> String {
    event(&["subscribe", topic])
}

/// Returns the event that publishes a text.
pub(super) fn publish(topic: &str, text: &str) -> String {
    event(&["publish", topic, text])
}

/// Returns the event that a subscriber receives.
pub(super) fn message(text: &str) -> String {
    event(&["message", text])
}

/// Returns an event: its name, then its arguments.
fn event(words: &[&str]) -> String {
    format!("42{}", serde_json::json!(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_json() {
        assert_eq!(
            publish("a", r#"b "c" \"#),
            r#"42["publish","a","b \"c\" \\"]"#
        );
    }
}
