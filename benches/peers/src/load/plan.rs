//! Which connection is subscribed to which topics, and the topic and the key of each message.

use super::frame::{self, client_frame};
use super::options::{Mode, Options};
use super::payload::payload;
use super::socketio;

/// The plan of a run with topics. It is the same in each run, so that all servers do the same work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    topics: usize,
    /// The topics of each connection.
    each: usize,
    keys: usize,
}

impl Plan {
    pub(super) fn new(options: &Options) -> Self {
        // The first subscription of each connection comes before the measured ones.
        let first = usize::from(options.mode == Mode::Subscriptions);
        Self {
            topics: options.topics,
            each: options.each + first,
            keys: options.keys.unwrap_or(1),
        }
    }

    /// Returns the topics of a connection. They are evenly spread, so that all topics have the same
    /// number of subscribers, give or take one.
    pub(super) fn topics_of(&self, connection: usize) -> impl Iterator<Item = usize> {
        let Self { topics, each, .. } = *self;
        let distance = topics / each;
        (0..each).map(move |place| (connection + place * distance) % topics)
    }

    /// Returns the subscribers of each topic, among the first `connections`.
    pub(super) fn subscribers(&self, connections: usize) -> Vec<Vec<usize>> {
        let mut all = vec![Vec::new(); self.topics];
        for connection in 0..connections {
            for topic in self.topics_of(connection) {
                all[topic].push(connection);
            }
        }
        all
    }

    /// Returns the topic of a message: a random one, but always the same for the same message.
    pub(super) fn topic(&self, message: usize) -> usize {
        fastrand::Rng::with_seed(message as u64).usize(..self.topics)
    }

    /// Returns the name of the topic of a message.
    pub(super) fn topic_name(&self, message: usize) -> String {
        name(self.topic(message))
    }

    /// Returns the key of a message.
    pub(super) fn key(&self, message: usize) -> usize {
        message % self.keys
    }

    /// Returns the number of keys.
    pub(super) fn keys(&self) -> usize {
        self.keys
    }

    /// Returns the payload of a message: its topic, its key, its number, and then what the options
    /// ask for.
    pub(super) fn payload(&self, options: &Options, message: usize) -> Vec<u8> {
        let name = self.topic_name(message);
        let head = format!("{name} k{:03} {message:04} ", self.key(message));
        let rest = options.size.saturating_sub(head.len());
        [
            head.into_bytes(),
            payload(options.kind, rest, message as u64),
        ]
        .concat()
    }
}

/// Returns the frames that subscribe a connection, and a ping. Its pong shows that the server has
/// seen them.
pub(super) fn subscribe(topics: impl Iterator<Item = usize>, socketio: bool) -> Vec<u8> {
    let mut frames = Vec::new();
    for topic in topics {
        let wish = match socketio {
            true => socketio::subscribe(&name(topic)),
            false => format!("+{}", name(topic)),
        };
        frames.extend(client_frame(frame::TEXT, wish.as_bytes(), [4, 3, 2, 1]));
    }
    frames.extend(client_frame(frame::PING, b"", [1, 2, 3, 4]));
    frames
}

fn name(topic: usize) -> String {
    format!("t{topic:04}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(arguments: &str) -> (Plan, Options) {
        let line = format!("load --connect 127.0.0.1:1 {arguments}");
        let options = Options::parse(line.split(' ').map(String::from));
        let options = options.unwrap().unwrap();
        (Plan::new(&options), options)
    }

    #[test]
    fn subscriptions_are_spread_evenly() {
        for (arguments, subscribers) in [
            ("--mode topics --size 64", 1000),
            ("--mode topics --size 64 --topics 100 --each 8", 80),
            ("--mode subscriptions --topics 1000 --each 60", 61),
        ] {
            let (plan, _) = plan(arguments);
            let all = plan.subscribers(1000);
            assert!(all.iter().all(|topic| topic.len() == subscribers));
            for mut topic in all {
                topic.dedup();
                assert_eq!(topic.len(), subscribers, "a connection subscribes twice");
            }
        }
    }

    #[test]
    fn messages_begin_with_their_topic_and_key() {
        let (plan, options) = plan("--mode topics --size 64 --topics 100 --keys 7");
        for message in 0..200 {
            let payload = plan.payload(&options, message);
            assert_eq!(payload.len(), 64);
            let text = String::from_utf8(payload).unwrap();
            let mut words = text.split(' ');
            assert_eq!(words.next(), Some(&*name(plan.topic(message))));
            assert_eq!(words.next(), Some(&*format!("k{:03}", message % 7)));
        }
    }
}
