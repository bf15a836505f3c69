//! Topics: subscribing and publishing, for handlers and other threads.

use super::connection::{Connection, ConnectionId};
use super::handle::{Command, Handle};
use super::hub::Hub;
use super::outgoing::{Body, Outgoing};
use crate::connection::core::NOBODY;
use crate::connection::log_lines::log_of_thread;
use crate::connection::send::Partial;
use crate::error::SendError;
use crate::protocol::{Compress, OpCode, Prepared};
use crate::topics::{Next, Position, Published, Recovery};

/// A message from another thread to the subscribers of a topic.
pub(crate) struct ToTopic {
    pub(crate) topic: Box<str>,
    pub(crate) message: Prepared,
    pub(crate) key: Option<Box<[u8]>>,
}

impl Connection<'_> {
    /// Subscribes the connection to a topic; returns whether it was not subscribed before.
    ///
    /// From then on it is sent what is published to the topic, until it is unsubscribed, closes or
    /// ends. The topic is created by its first subscriber. Any client that can choose the name can
    /// listen to any topic, so the application has to check that the client may do so.
    ///
    /// Takes constant time.
    ///
    /// ```
    /// use wsloop::{Outgoing, Server, event::Utf8};
    ///
    /// let builder = Server::builder().on(Utf8, |conn, text| match text.split_once(' ') {
    ///     Some(("join", room)) => conn.subscribe(room).map(drop),
    ///     Some(("leave", room)) => Ok(drop(conn.unsubscribe(room))),
    ///     // Everyone else in the rooms.
    ///     _ => {
    ///         let rooms: Vec<String> = conn.topics().map(str::to_owned).collect();
    ///         rooms.iter().try_for_each(|room| conn.publish(room, text).map(drop))
    ///     }
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`SendError::TooManySubscriptions`], [`SendError::TooManyTopics`] or
    /// [`SendError::TopicNameTooLong`] at these limits, [`SendError::NotReady`] before `Ready`, and
    /// [`SendError::Closing`] when the connection closes.
    pub fn subscribe(&mut self, topic: &str) -> Result<bool, SendError> {
        // Messages that other loops have published before are earlier than the subscription.
        self.core.catch_up(topic);
        self.entry().subscribe(topic)
    }

    /// Subscribes the connection, and sends it what it has missed since `position`, before anything
    /// newer. The position is that of the last message that the client received, from an earlier
    /// connection; the application has put it into the messages
    /// ([`Hub::publish_with`]).
    ///
    /// Either all missed messages are sent, or none: see [`Recovery`]. The answer is
    /// [`Recovery::Gap`] as well if the connection was subscribed already, since older messages
    /// must not follow newer ones, and if the missed messages are larger than half of
    /// `max_backlog`.
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Self::subscribe).
    pub fn subscribe_from(
        &mut self,
        topic: &str,
        position: Position,
    ) -> Result<Recovery, SendError> {
        self.core.catch_up(topic);
        self.entry().subscribe_from(topic, position)
    }

    /// Subscribes the connection, and sends it the newest messages of the topic's
    /// [history](crate::Topic::history), oldest first: at most `most`, and as many as fit into half
    /// of `max_backlog`. Returns their number. For clients that come for the first time; those that
    /// come back call [`subscribe_from`](Self::subscribe_from).
    ///
    /// A connection that was subscribed already is sent nothing, since older messages must not
    /// follow newer ones.
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Self::subscribe).
    pub fn subscribe_recent(&mut self, topic: &str, most: usize) -> Result<usize, SendError> {
        self.core.catch_up(topic);
        self.entry().subscribe_recent(topic, most)
    }

    /// Ends a subscription; returns whether the connection was subscribed. What was published
    /// before is still sent.
    ///
    /// Takes constant time.
    pub fn unsubscribe(&mut self, topic: &str) -> bool {
        self.entry().unsubscribe(topic)
    }

    /// Returns whether the connection is subscribed to a topic. After it has begun to close, and in
    /// `Disconnect`, the answer is as before.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        let list = self.peer().topics;
        self.core.shared.topics.is_subscribed(list, topic)
    }

    /// Yields the topics that the connection is subscribed to, in no particular order. After it has
    /// begun to close, and in `Disconnect`, these are the topics from before.
    #[doc(alias = "getTopics")]
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &str> {
        self.core.shared.topics.names_of(self.peer().topics)
    }

    /// Publishes a message to all subscribers of a topic except this connection, which need not be
    /// subscribed. Otherwise as [`Hub::publish`].
    ///
    /// # Errors
    ///
    /// As [`Hub::publish`].
    pub fn publish<'m>(
        &mut self,
        topic: &str,
        message: impl Into<Outgoing<'m>>,
    ) -> Result<Published, SendError> {
        let slot = self.slot;
        self.server().publish_to(topic, &message.into(), slot)
    }

    /// Publishes a message that contains its own position, as [`Hub::publish_with`] does, to all
    /// subscribers except this connection.
    ///
    /// # Errors
    ///
    /// As [`Hub::publish`].
    pub fn publish_with(
        &mut self,
        topic: &str,
        message: impl FnOnce(Option<Position>) -> Prepared,
    ) -> Result<Published, SendError> {
        let slot = self.slot;
        self.server().publish_position(topic, message, slot)
    }
}

impl Hub<'_> {
    /// Publishes a message to all subscribers of a topic; [`Published`] tells what became of it for
    /// each. A topic without subscribers is not an error.
    ///
    /// The message is framed once, and compressed once for each window size among the subscribers.
    /// It is queued at once, in the order of the program with all other calls that send, publish,
    /// subscribe or unsubscribe, and it leaves at the end of the turn, in one write for each
    /// subscriber.
    ///
    /// A subscriber that reads too slowly is treated by the policy of the topic
    /// ([`Topic::slow_consumer`](crate::Topic::slow_consumer)).
    /// [`Outgoing::in_frames`] has no effect here.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::TooBig`] above the server's `max_send_size`, [`SendError::BadFrame`]
    /// and [`SendError::BadUtf8`] for malformed parts, and, only for a topic with a history that
    /// does not exist yet, [`SendError::TooManyTopics`] or [`SendError::TopicNameTooLong`].
    pub fn publish<'m>(
        &mut self,
        topic: &str,
        message: impl Into<Outgoing<'m>>,
    ) -> Result<Published, SendError> {
        self.publish_to(topic, &message.into(), NOBODY)
    }

    /// Publishes a message that contains its own position, so that the client can tell what it
    /// received last: see [`Connection::subscribe_from`]. The library adds nothing to messages, so
    /// the application chooses the form. The position is `None` for a topic without a
    /// [history](crate::Topic::history).
    ///
    /// ```
    /// use wsloop::{Hub, Prepared, Published, SendError};
    ///
    /// fn say(hub: &mut Hub<'_>, room: &str, text: &str) -> Result<Published, SendError> {
    ///     hub.publish_with(room, |position| match position {
    ///         Some(position) => Prepared::text(&format!("{position} {text}")),
    ///         None => Prepared::text(text),
    ///     })
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish).
    pub fn publish_with(
        &mut self,
        topic: &str,
        message: impl FnOnce(Option<Position>) -> Prepared,
    ) -> Result<Published, SendError> {
        self.publish_position(topic, message, NOBODY)
    }

    /// Returns the position of the last message of a topic; `None` if the topic has no history, or
    /// does not exist. A client without a position can begin with it.
    pub fn position(&self, topic: &str) -> Option<Position> {
        self.core.shared.topics.position(topic)
    }

    /// Yields the subscribers of a topic, in no particular order. Connections that have begun to
    /// close are not among them.
    #[doc(alias = "numSubscribers")]
    pub fn subscribers(&self, topic: &str) -> impl ExactSizeIterator<Item = ConnectionId> {
        let members = self.core.shared.topics.members(topic).iter();
        let peers = &self.core.peers;
        members.map(|member| ConnectionId {
            serial: peers
                .get(member.slot as usize)
                .map_or(0, |peer| peer.serial),
            slot: member.slot,
        })
    }

    /// Calls `action` for each subscriber of a topic, in no particular order. `action` may
    /// subscribe, unsubscribe and close; connections that it unsubscribes or closes before their
    /// turn are skipped.
    ///
    /// ```
    /// use wsloop::Hub;
    ///
    /// /// Returns the names of the users in a room.
    /// fn names(hub: &mut Hub<'_>, room: &str) -> Vec<String> {
    ///     let mut names = Vec::new();
    ///     hub.for_each_subscriber(room, |conn| names.push(conn.data::<String>().clone()));
    ///     names
    /// }
    /// ```
    pub fn for_each_subscriber(
        &mut self,
        topic: &str,
        mut action: impl FnMut(&mut Connection<'_>),
    ) {
        let ids: Vec<_> = self.subscribers(topic).collect();
        for id in ids {
            if let Some(mut conn) = self.get(id)
                && conn.is_ready()
                && conn.is_subscribed(topic)
                && !conn.peer().is_cut()
            {
                action(&mut conn);
            }
        }
    }

    /// Yields each topic that has subscribers, with their number, in no particular order.
    pub fn topics(&self) -> impl Iterator<Item = (&str, usize)> {
        self.core.shared.topics.all()
    }

    /// Returns the number of topics. Those without subscribers that have a history are included.
    pub fn topic_count(&self) -> usize {
        self.core.shared.topics.len()
    }

    /// Returns the number of subscriptions of all connections.
    pub fn subscriptions(&self) -> usize {
        self.core.shared.topics.subscriptions()
    }

    fn publish_to(
        &mut self,
        topic: &str,
        message: &Outgoing<'_>,
        except: usize,
    ) -> Result<Published, SendError> {
        let next = self.core.begin_publish(topic)?;
        self.publish_next(topic, message, except, next)
    }

    fn publish_next(
        &mut self,
        topic: &str,
        message: &Outgoing<'_>,
        except: usize,
        next: Next,
    ) -> Result<Published, SendError> {
        let limit = self.core.shared.config.limits.max_send_size;
        let publication = self.core.shared.publication.get_or_insert_default();
        match &message.body {
            Body::Whole(opcode, payload) => {
                let parts = std::iter::once(*payload);
                publication.begin(*opcode, parts, payload.len(), limit, message.compress)?;
            }
            Body::Gathered(opcode, parts) | Body::Frames(opcode, parts) => {
                let size = check_parts(*opcode, parts, limit)?;
                publication.begin(
                    *opcode,
                    parts.iter().copied(),
                    size,
                    limit,
                    message.compress,
                )?;
            }
            Body::Prepared(prepared) => publication.begin_prepared(prepared),
        }
        if let Some(key) = message.key {
            publication.set_key(key);
        }
        self.core.publish(topic, except, next)
    }

    fn publish_position(
        &mut self,
        topic: &str,
        message: impl FnOnce(Option<Position>) -> Prepared,
        except: usize,
    ) -> Result<Published, SendError> {
        let next = self.core.begin_publish(topic)?;
        let message = message(next.position);
        self.publish_next(topic, &Outgoing::prepared(&message), except, next)
    }
}

impl Handle {
    /// Publishes a message to all subscribers of a topic, as [`Hub::publish`] does. To learn the
    /// outcome, call it with [`ask`](Self::ask).
    ///
    /// # Errors
    ///
    /// Returns [`SendError::BadFrame`] and [`SendError::BadUtf8`] for malformed parts, and
    /// [`SendError::Gone`] if the server has ended.
    pub fn publish<'m>(
        &self,
        topic: &str,
        message: impl Into<Outgoing<'m>>,
    ) -> Result<(), SendError> {
        let message = ToTopic::new(topic, message.into())?;
        self.command(Command::Publish(Box::new(message)))
    }
}

impl ToTopic {
    /// Makes a message that another thread can publish.
    pub(super) fn new(topic: &str, message: Outgoing<'_>) -> Result<Self, SendError> {
        let Outgoing {
            body,
            compress,
            key,
        } = message;
        let message = match body {
            Body::Whole(opcode, payload) => Prepared::of(opcode, &[payload]).compress(compress),
            Body::Gathered(opcode, parts) | Body::Frames(opcode, parts) => {
                check_parts(opcode, &parts, usize::MAX)?;
                Prepared::of(opcode, &parts).compress(compress)
            }
            Body::Prepared(prepared) => prepared.clone(),
        };
        Ok(Self {
            topic: topic.into(),
            message,
            key: key.map(Into::into),
        })
    }

    /// Publishes the message; a failure is logged.
    pub(crate) fn publish(self, hub: &mut Hub<'_>) {
        let Self {
            topic,
            message,
            key,
        } = self;
        let mut message = Outgoing::prepared(&message);
        message.key = key.as_deref();
        if let Err(error) = hub.publish_to(&topic, &message, NOBODY) {
            log_of_thread(None, "publish", &error);
        }
    }
}

/// Checks the parts of a message; returns their size together.
fn check_parts(opcode: OpCode, parts: &[&[u8]], limit: usize) -> Result<usize, SendError> {
    let mut message = Partial::new(opcode, Compress::No)?;
    for part in parts {
        message.add(part, limit)?;
    }
    message.finish()?;
    Ok(message.size())
}
