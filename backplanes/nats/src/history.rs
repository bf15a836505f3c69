//! Histories of topics, in one stream of JetStream.
//!
//! A message of a topic with a history is published to the subject of the topic in the stream. The
//! server stores it, and publishes it again on the topic's ordinary subject, with its sequence
//! number and that of the message before it on the same subject (`RePublish`). So one subscription
//! is enough for all messages, and [`session`](crate::session) knows which positions it may claim.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_nats::{Client, HeaderMap, Message, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_stream::StreamExt;
use wsloop::Position;
use wsloop::backplane::node::{Decoded, decode};
use wsloop::backplane::{Since, TopicMessage};

use crate::builder::{History, Storage};
use crate::connect::with_source;
use crate::subject;

/// The stream, as it was found.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) name: Arc<str>,
    prefix: Arc<str>,
    /// Changes when the stream is created anew.
    pub(crate) epoch: u64,
    created: Arc<str>,
    /// Most messages of a topic that it keeps.
    max_messages: usize,
    answer_within: Duration,
}

/// What is known of a stream.
struct Info {
    first: u64,
    last: u64,
}

/// A request for the messages of a topic.
pub(crate) struct Wanted {
    pub(crate) topic: Arc<str>,
    pub(crate) since: Since,
    pub(crate) history: (usize, Duration),
    /// This node, and the last message that it had published to the topic at the time of the
    /// request. Its later messages reach the client in another way.
    pub(crate) node: u64,
    pub(crate) until: (u64, u64),
    /// The subject for the answer.
    pub(crate) inbox: String,
}

impl Stream {
    /// Finds or creates the stream.
    ///
    /// # Errors
    ///
    /// Returns the reason of the failure.
    pub(crate) async fn open(
        client: &Client,
        history: &History,
        prefix: &str,
    ) -> Result<Self, String> {
        let name = &history.stream;
        let server = client.server_info();
        if history.storage == Storage::Memory && server.cluster.is_some() {
            return Err("histories in memory need a single server".into());
        }
        let subjects = format!("{}>", history.prefix);
        let target = format!("{prefix}>");
        let age = nanos(history.max_age);
        let config = json!({
            "name": name,
            "subjects": [&subjects],
            "retention": "limits",
            "discard": "old",
            "max_consumers": -1,
            "max_msgs": -1,
            "max_msg_size": -1,
            "max_bytes": history.max_bytes.min(i64::MAX as u64),
            "max_age": age,
            "max_msgs_per_subject": history.max_messages,
            "storage": match history.storage {
                Storage::File => "file",
                Storage::Memory => "memory",
            },
            "num_replicas": history.replicas,
            "duplicate_window": nanos(history.duplicates).min(age),
            "republish": {"src": &subjects, "dest": &target},
        });
        let mut info = request(client, &format!("STREAM.INFO.{name}"), &json!({})).await;
        if matches!(info, Err(Failure::Refused(NO_STREAM, _))) {
            info = request(client, &format!("STREAM.CREATE.{name}"), &config).await;
            if matches!(info, Err(Failure::Refused(OTHER_STREAM, _))) {
                // Another node with other settings was faster.
                info = request(client, &format!("STREAM.INFO.{name}"), &json!({})).await;
            }
        }
        let info = info.map_err(|failure| format!("stream {name}: {}", failure.text()))?;
        let found = &info["config"];
        let has_subjects = found["subjects"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| *one == *subjects));
        if !has_subjects || found["republish"]["dest"] != *target {
            return Err(format!(
                "stream {name} exists, but does not republish {subjects} to {target}"
            ));
        }
        for limit in ["max_msgs_per_subject", "max_age", "max_bytes", "storage"] {
            if found[limit] != config[limit] {
                log::warn!(
                    "stream {name} exists with {limit} {}, not {}",
                    found[limit],
                    config[limit]
                );
            }
        }
        let is_in_memory = found["storage"] == "memory";
        if is_in_memory && server.cluster.is_some() {
            return Err(format!(
                "stream {name} is in memory, which needs a single server"
            ));
        }
        // A stream in memory begins anew with its server, but keeps the time of its creation.
        let run = if is_in_memory {
            server.server_id.as_str()
        } else {
            ""
        };
        let created = info["created"].as_str().unwrap_or_default();
        let max_messages = found["max_msgs_per_subject"].as_i64().unwrap_or_default();
        Ok(Self {
            name: name.as_str().into(),
            prefix: history.prefix.as_str().into(),
            epoch: hash(&[name, created, run]),
            created: created.into(),
            max_messages: usize::try_from(max_messages)
                .ok()
                .filter(|most| *most > 0)
                .unwrap_or(usize::MAX),
            answer_within: client.timeout().unwrap_or(ANSWER_WITHIN),
        })
    }

    /// Returns the subject of a topic in the stream.
    pub(crate) fn subject(&self, topic: &str) -> String {
        subject::encode(&self.prefix, topic)
    }

    /// Returns the position of the last message of all topics.
    ///
    /// # Errors
    ///
    /// Returns the reason of the failure.
    pub(crate) async fn last(&self, client: &Client) -> Result<u64, String> {
        self.info(client).await.map(|info| info.last)
    }

    async fn info(&self, client: &Client) -> Result<Info, String> {
        let what = format!("STREAM.INFO.{}", self.name);
        let info = request(client, &what, &json!({})).await;
        let info = info.map_err(|failure| failure.text())?;
        let number = |name: &str| info["state"][name].as_u64().ok_or("it has no state");
        if info["created"].as_str() != Some(&*self.created) {
            return Err("the stream was created anew".into());
        }
        Ok(Info {
            first: number("first_seq")?,
            last: number("last_seq")?,
        })
    }

    /// Returns the sequence number of a message that the stream has published again, and that of
    /// the message of its topic before it, or 0.
    pub(crate) fn numbers(&self, message: &Message) -> Option<(u64, u64)> {
        let headers = message.headers.as_ref()?;
        let text = |name: &str| headers.get(name).map(|value| value.as_str());
        if text("Nats-Stream")? != &*self.name {
            return None;
        }
        let last = text("Nats-Last-Sequence")?.parse().ok()?;
        Some((text("Nats-Sequence")?.parse().ok()?, last))
    }

    /// Returns the messages that are wanted, the oldest first; `None` if some are not kept.
    ///
    /// # Completeness
    ///
    /// The stream removes the messages of a topic from the oldest on, whether for their number,
    /// their age or the bytes of all. So no message after a position is missing
    ///
    /// - if the message at the position is still there, or
    /// - if no message of the stream after the position was removed for its age or the bytes, which
    ///   its first sequence number says when the messages have been read, and fewer messages of the
    ///   topic are there than the most, so that none was removed for their number.
    ///
    /// Messages that a node had to drop are missing, too: the next message of the topic tells.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the stream.
    pub(crate) async fn read(
        &self,
        client: &Client,
        wanted: &Wanted,
    ) -> Result<Option<Vec<TopicMessage>>, String> {
        let from = match wanted.since {
            Since::Position(position) if position.epoch() != self.epoch => return Ok(None),
            Since::Position(position) => position.offset(),
            _ => 0,
        };
        let reading = timeout(self.answer_within, self.read_from(client, wanted, from));
        let (read, has_first) = match reading.await {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => {
                log::debug!("history of {:?}: {error}", wanted.topic);
                return Ok(None);
            }
            Err(_) => return Ok(None),
        };
        // It must be the stream of this epoch still.
        let Info { first, last } = self.info(client).await?;
        let (most, age) = wanted.history;
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let oldest = now.saturating_sub(age);
        let count = read.len();
        let is_old = |one: &Read| one.at < oldest;
        let messages = match wanted.since {
            Since::Position(_) => {
                let is_whole =
                    has_first || from <= last && from + 1 >= first && count < self.max_messages;
                let is_kept = !read.iter().any(|one| is_old(one) || one.dropped > 0);
                (is_whole && is_kept && count <= most).then(|| messages(read, wanted, usize::MAX))
            }
            Since::Recent(recent) => {
                let read: Vec<Read> = read.into_iter().skip_while(is_old).collect();
                // No older messages than those before a loss.
                let whole = read.iter().rposition(|one| one.dropped > 0).unwrap_or(0);
                let read = read.into_iter().skip(whole).collect();
                Some(messages(read, wanted, recent.min(most)))
            }
            _ => None,
        };
        Ok(messages)
    }

    /// Reads the messages of a topic after a sequence number, and whether there is one with this
    /// number.
    async fn read_from(
        &self,
        client: &Client,
        wanted: &Wanted,
        from: u64,
    ) -> Result<(Vec<Read>, bool), String> {
        let Self { name, .. } = self;
        let mut answers = client
            .subscribe(wanted.inbox.clone())
            .await
            .map_err(|error| with_source(&error))?;
        let mut config = json!({
            "deliver_subject": &wanted.inbox,
            "filter_subject": self.subject(&wanted.topic),
            "ack_policy": "none",
            "replay_policy": "instant",
            "inactive_threshold": nanos(Duration::from_secs(5)),
            "num_replicas": 1,
            "mem_storage": true,
        });
        match from {
            0 => config["deliver_policy"] = "all".into(),
            _ => {
                config["deliver_policy"] = "by_start_sequence".into();
                config["opt_start_seq"] = from.into();
            }
        }
        let what = format!("CONSUMER.CREATE.{name}");
        let body = json!({"stream_name": &**name, "config": config});
        let created = request(client, &what, &body).await;
        let created = created.map_err(|failure| failure.text())?;
        let pending = created["num_pending"].as_u64().unwrap_or_default();
        let mut read = Vec::new();
        let mut has_first = false;
        let mut heard = 0;
        let is_too_much =
            matches!(wanted.since, Since::Position(_)) && pending > wanted.history.0 as u64 + 1;
        let mut result = match is_too_much {
            true => Err("there are more messages than its history has".to_owned()),
            false => Ok(()),
        };
        while result.is_ok() && heard < pending {
            let Some(message) = answers.next().await else {
                result = Err("the connection has ended".into());
                break;
            };
            let Some(stamp) = message.reply.as_deref().and_then(Stamp::parse) else {
                continue;
            };
            heard += 1;
            if stamp.count != heard {
                result = Err("some messages did not arrive".into());
                break;
            }
            if stamp.sequence <= from {
                has_first |= stamp.sequence == from;
            } else {
                let position = Position::new(self.epoch, stamp.sequence);
                let payload = &message.payload;
                read.extend(Read::new(&wanted.topic, payload, stamp.at, position));
            }
            if stamp.pending == 0 {
                break;
            }
        }
        if let Some(consumer) = created["name"].as_str() {
            let what = format!("$JS.API.CONSUMER.DELETE.{name}.{consumer}");
            // Otherwise it ends by itself.
            let _ = client.publish(what, "".into()).await;
        }
        result.map(|()| (read, has_first))
    }
}

/// A message that was read from the stream.
struct Read {
    message: TopicMessage,
    /// The time when it was stored, since 1970.
    at: Duration,
    /// The node, series and number.
    origin: Option<(u64, u64, u64)>,
    /// How many messages before it were dropped.
    dropped: u64,
}

impl Read {
    /// Reads a message; `None` if it is malformed, which no subscriber heard either.
    fn new(topic: &Arc<str>, payload: &[u8], at: Duration, position: Position) -> Option<Self> {
        let (message, origin, dropped) = match decode(topic, payload) {
            Decoded::Message(message, origin) => {
                let from = (origin.node, origin.series, origin.number);
                (message, Some(from), origin.dropped)
            }
            Decoded::Foreign(message) => (message, None, 0),
            _ => return None,
        };
        Some(Self {
            message: message.at(position),
            at,
            origin,
            dropped,
        })
    }
}

/// Returns the newest messages, at most so many: each once, and without those that the node has
/// published later than it was asked.
fn messages(read: Vec<Read>, wanted: &Wanted, most: usize) -> Vec<TopicMessage> {
    let mut known = std::collections::HashSet::new();
    let read = read.into_iter().filter(|one| {
        let Some((node, series, number)) = one.origin else {
            return true;
        };
        let is_later = node == wanted.node && (series, number) > wanted.until;
        !is_later && known.insert((node, series, number))
    });
    let mut messages: Vec<TopicMessage> = read.map(|one| one.message).collect();
    let first = messages.len().saturating_sub(most);
    messages.drain(..first);
    messages
}

/// What the reply subject of a message from a consumer says.
struct Stamp {
    sequence: u64,
    /// Counts the messages of the consumer, from 1 on.
    count: u64,
    at: Duration,
    pending: u64,
}

impl Stamp {
    fn parse(reply: &str) -> Option<Self> {
        let tokens: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
        // Either `stream.consumer.deliveries` and the numbers, or with domain and account before
        // and more behind.
        let first = match tokens.len() {
            7 => 3,
            9.. => 5,
            _ => return None,
        };
        let number = |at: usize| tokens.get(first + at)?.parse().ok();
        Some(Self {
            sequence: number(0)?,
            count: number(1)?,
            at: Duration::from_nanos(number(2)?),
            pending: number(3)?,
        })
    }
}

/// The answer to a message for the stream.
pub(crate) enum Stored {
    Yes,
    /// The stream does not take it.
    Refused(String),
    /// There is no stream, or it is not available.
    NoStream,
}

impl Stored {
    pub(crate) fn read(answer: &Message) -> Self {
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            return Self::NoStream;
        }
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
        let error = &answer["error"];
        match error["code"].as_u64() {
            None => Self::Yes,
            Some(503) => Self::NoStream,
            Some(_) => Self::Refused(error["description"].as_str().unwrap_or_default().into()),
        }
    }
}

/// Returns the headers of a message for the stream: with the number by which it recognises
/// repetitions.
pub(crate) fn headers(node: u64, series: u64, number: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", format!("{node:x}-{series:x}-{number:x}"));
    headers
}

enum Failure {
    /// With the number of the error and its description.
    Refused(u64, String),
    Other(String),
}

impl Failure {
    fn text(self) -> String {
        match self {
            Self::Refused(_, text) | Self::Other(text) => text,
        }
    }
}

/// Sends a request to JetStream.
async fn request(client: &Client, what: &str, body: &Value) -> Result<Value, Failure> {
    let subject = format!("$JS.API.{what}");
    let answer = client.request(subject, body.to_string().into()).await;
    let answer = answer.map_err(|error| {
        Failure::Other(match error.kind() {
            async_nats::RequestErrorKind::NoResponders => "JetStream is not available".into(),
            _ => with_source(&error),
        })
    })?;
    let answer: Value = serde_json::from_slice(&answer.payload)
        .map_err(|error| Failure::Other(error.to_string()))?;
    let error = &answer["error"];
    if error.is_null() {
        return Ok(answer);
    }
    let text = error["description"].as_str().unwrap_or("unknown error");
    let number = error["err_code"].as_u64().unwrap_or_default();
    Err(Failure::Refused(number, text.into()))
}

/// The same in all processes (FNV-1a).
fn hash(texts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    for text in texts {
        for byte in text.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos())
        .unwrap_or(u64::MAX)
        .min(i64::MAX as u64)
}

/// The error of JetStream that says that there is no such stream.
const NO_STREAM: u64 = 10059;

/// The error that says that a stream of this name has another configuration.
const OTHER_STREAM: u64 = 10058;

const ANSWER_WITHIN: Duration = Duration::from_secs(5);
