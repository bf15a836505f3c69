//! A simulated engine: it watches the publishes of both loops, brings messages of another node,
//! loses some, and may keep the histories.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use super::model::{Item, Sequence};
use super::scene::{Scene, Shared};
use super::settings::{BRIEF, HISTORIES, KEPT, Kind, NAMES};
use crate::backplane::{Backplane, Inbox, Publish, Recover, Since, TopicMessage};
use crate::protocol::Prepared;
use crate::simulation::checks::Check;
use crate::topics::Position;

#[derive(Default)]
pub(super) struct Engine {
    /// The messages of each topic with a history, and the loops that have published them. The first
    /// has the offset 1.
    pub(super) streams: BTreeMap<usize, Vec<(u64, Option<usize>)>>,
    /// What is on its way to each loop.
    pub(super) pipes: [VecDeque<Parcel>; 2],
    /// What each loop has published and not flushed.
    outboxes: [Vec<u64>; 2],
}

pub(super) enum Parcel {
    Message(u64, Option<Position>),
    Reached(usize, Position),
    Lost(usize, Option<u64>),
    AllLost,
    Request(Request),
}

/// A request for missed messages.
pub(super) struct Request {
    recover: Recover,
    number: u64,
    topic: usize,
    /// The length of the stream at the time of the request.
    mark: usize,
    /// The answer has the messages up to this offset.
    end: usize,
}

/// The end of the engine at a loop.
pub(super) struct Tap {
    pub(super) scene: Shared,
    pub(super) side: usize,
}

/// Returns the position of a message in a stream.
pub(super) fn position(topic: usize, offset: usize) -> Position {
    Position::new(1000 + topic as u64, offset as u64)
}

fn topic_of(name: &str) -> usize {
    NAMES
        .iter()
        .position(|each| *each == name)
        .unwrap_or(NAMES.len())
}

impl Backplane for Tap {
    fn start(&mut self, inbox: Inbox) -> io::Result<()> {
        let side = &mut self.scene.borrow_mut().sides[self.side];
        (side.inbox, side.is_connected) = (Some(inbox), true);
        Ok(())
    }

    fn occupied(&mut self, topic: &str) {
        self.interest(topic, true);
    }

    fn vacated(&mut self, topic: &str) {
        self.interest(topic, false);
    }

    fn publish(&mut self, publish: &mut Publish<'_>) {
        let text = String::from_utf8_lossy(publish.payload()).into_owned();
        let shared = publish.share().position();
        let scene = &mut *self.scene.borrow_mut();
        let side = self.side;
        scene.sync(side);
        let number = text.split(' ').next().and_then(|word| word.parse().ok());
        let number: u64 = number.unwrap_or(u64::MAX);
        let topic = topic_of(publish.topic());
        scene.note("publish", side, number as usize);
        let except = match scene.publishing.take() {
            Some(publishing) if publishing.number == number => publishing.except,
            _ => None,
        };
        scene.sides[side].has_published = true;
        let message = &mut scene.messages[number as usize];
        let again = std::mem::replace(&mut message.was_published, true);
        let is_right = !again && message.topic == topic;
        scene.check(is_right, Check::Relayed, || {
            format!("{number} is published to {topic}")
        });
        let has_history = HISTORIES.contains(&topic);
        let other = 1 - side;
        match scene.settings.kind {
            Kind::Historian if has_history => scene.engine.outboxes[side].push(number),
            _ if has_history => {
                scene.sequenced(topic, number, shared);
                let wakes = scene.sides[other].interest.contains(&topic);
                scene.enter(other, Item::Message(number, shared), wakes);
            }
            _ if scene.sides[other].interest.contains(&topic) => {
                scene.sides[side].outgoing.push(number);
            }
            _ => {}
        }
        scene.deliver(side, number, None, except);
    }

    fn flush(&mut self) {
        let scene = &mut *self.scene.borrow_mut();
        let own = &mut scene.sides[self.side];
        let has_published = std::mem::take(&mut own.has_published);
        let outgoing = std::mem::take(&mut own.outgoing);
        scene.check(has_published, Check::Wakes, || "a flush of nothing".into());
        for number in outgoing {
            scene.enter(1 - self.side, Item::Message(number, None), true);
        }
        scene.take_outbox(self.side);
    }

    fn keeps_history(&self) -> bool {
        self.scene.borrow().settings.kind == Kind::Historian
    }

    fn recover(&mut self, recover: Recover) {
        let scene = &mut *self.scene.borrow_mut();
        let topic = topic_of(recover.topic());
        // What the loop has published before has to be in the answer.
        scene.take_outbox(self.side);
        scene.last_request += 1;
        let number = scene.last_request;
        let mark = scene.engine.streams.get(&topic).map_or(0, Vec::len);
        scene.note("request", self.side, topic);
        let late = scene.settings.late;
        if !scene.is_calm && scene.random.chance(late / 4) {
            drop(recover);
            return scene.enter(self.side, Item::Answer(number, None), true);
        }
        scene.engine.pipes[self.side].push_back(Parcel::Request(Request {
            recover,
            number,
            topic,
            mark,
            end: mark,
        }));
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        // The loop has ended. A check may have panicked.
        let Ok(mut scene) = self.scene.try_borrow_mut() else {
            return;
        };
        let side = &mut scene.sides[self.side];
        side.is_connected = false;
        side.interest.clear();
        let left = side.outgoing.len();
        scene.engine.pipes[self.side].clear();
        scene.check(left == 0, Check::Relayed, || {
            format!(
                "loop {} has ended with {left} messages for the other",
                self.side
            )
        });
    }
}

impl Tap {
    fn interest(&self, topic: &str, is_occupied: bool) {
        let scene = &mut *self.scene.borrow_mut();
        let topic = topic_of(topic);
        scene.note("interest", topic, is_occupied.into());
        let interest = &mut scene.sides[self.side].interest;
        let is_new = match is_occupied {
            true => interest.insert(topic),
            false => interest.remove(&topic),
        };
        scene.check(is_new, Check::Interest, || {
            format!("topic {topic} is occupied again: {is_occupied}")
        });
    }
}

impl Scene {
    /// Notes the position of a message in the sequence that all loops share.
    fn sequenced(&mut self, topic: usize, number: u64, position: Option<Position>) {
        let Some(position) = position else {
            return self.fail(Check::History, || {
                format!("message {number} has no position")
            });
        };
        // A topic that nobody keeps begins anew.
        let may_restart = topic == BRIEF
            || !self.settings.is_roomy()
            || self.sides.iter().any(|side| side.has_ended);
        let sequence = self.sequences.entry(topic).or_insert_with(|| Sequence {
            epoch: position.epoch(),
            all: Vec::new(),
        });
        let last = sequence.all.last().map_or(0, |(offset, _)| *offset);
        let is_same = sequence.epoch == position.epoch();
        if !is_same {
            sequence.all.clear();
            sequence.epoch = position.epoch();
        }
        sequence.all.push((position.offset(), number));
        let is_next = match is_same {
            true => position.offset() == last + 1,
            false => may_restart && position.offset() == 1,
        };
        self.check(is_next, Check::History, || {
            format!("message {number} of topic {topic} has the position {position} after {last}")
        });
    }

    /// The engine takes what a loop has published, and passes it on to the other.
    fn take_outbox(&mut self, side: usize) {
        for number in std::mem::take(&mut self.engine.outboxes[side]) {
            let topic = self.messages[number as usize].topic;
            let position = self.append(topic, number, Some(side));
            self.engine.pipes[side].push_back(Parcel::Reached(topic, position));
            self.send(1 - side, number, Some(position));
        }
    }

    fn append(&mut self, topic: usize, number: u64, origin: Option<usize>) -> Position {
        let stream = self.engine.streams.entry(topic).or_default();
        stream.push((number, origin));
        position(topic, stream.len())
    }

    /// Sends a message to a loop that wants it, or loses it.
    fn send(&mut self, side: usize, number: u64, position: Option<Position>) {
        let topic = self.messages[number as usize].topic;
        if !self.sides[side].interest.contains(&topic) && !self.random.chance(50) {
            return;
        }
        let loses = self.settings.loses;
        let parcel = match !self.is_calm && self.random.chance(loses) {
            true if self.random.chance(100) => Parcel::AllLost,
            true => Parcel::Lost(topic, self.random.chance(700).then_some(1)),
            false => Parcel::Message(number, position),
        };
        self.engine.pipes[side].push_back(parcel);
    }

    /// A message of another node arrives.
    pub(super) fn arrive_from_afar(&mut self) {
        let topic = self.random.below(NAMES.len());
        let number = self.new_message(topic);
        self.note("from afar", topic, number as usize);
        let keeps = self.settings.kind == Kind::Historian && HISTORIES.contains(&topic);
        let position = keeps.then(|| self.append(topic, number, None));
        for side in 0..2 {
            self.send(side, number, position);
        }
    }

    /// The engine brings what is on its way to a loop, at most so much.
    pub(super) fn bring(&mut self, side: usize, most: usize) {
        let Some(inbox) = self.sides[side].inbox.clone() else {
            return;
        };
        for _ in 0..most {
            let Some(parcel) = self.engine.pipes[side].pop_front() else {
                break;
            };
            match parcel {
                Parcel::Message(number, position) => {
                    let message = self.topic_message(number, position);
                    self.enter(side, Item::Message(number, position), true);
                    inbox.deliver([message]);
                }
                Parcel::Reached(topic, position) => {
                    self.enter(side, Item::Reached, true);
                    inbox.reached(NAMES[topic], position);
                }
                Parcel::Lost(topic, count) => {
                    self.enter(side, Item::Lost(topic, count), true);
                    inbox.lost(NAMES[topic], count);
                }
                Parcel::AllLost => {
                    self.enter(side, Item::AllLost, true);
                    inbox.lost_all();
                }
                Parcel::Request(request) => self.answer(side, request),
            }
        }
        self.check_inboxes();
    }

    fn topic_message(&self, number: u64, position: Option<Position>) -> TopicMessage {
        let kept = &self.messages[number as usize];
        let message = TopicMessage::new(NAMES[kept.topic], Prepared::text(&self.text(number)));
        let message = match kept.key {
            Some(key) => message.key([key]),
            None => message,
        };
        match position {
            Some(position) => message.at(position),
            None => message,
        }
    }

    /// Answers a request, or puts it off.
    fn answer(&mut self, side: usize, mut request: Request) {
        let topic = request.topic;
        let stream = self
            .engine
            .streams
            .get(&topic)
            .map_or(&[][..], Vec::as_slice);
        let late = self.settings.late;
        if !self.is_calm && self.random.chance(late) {
            // A later answer has more messages, but none that the loop has published meanwhile. All
            // others are on their way to the loop already.
            let newer = stream.iter().skip(request.mark);
            let before = newer
                .take_while(|(_, origin)| *origin != Some(side))
                .count();
            request.end = request.mark + before;
            return self.engine.pipes[side].push_back(Parcel::Request(request));
        }
        let first = stream.len().saturating_sub(KEPT);
        let start = match request.recover.since() {
            Since::Position(since) => {
                let offset = since.offset() as usize;
                let is_kept = since == position(topic, offset) && offset >= first;
                (is_kept && offset <= request.end).then_some(offset)
            }
            Since::Recent(most) => Some(first.max(request.end.saturating_sub(most))),
        };
        let messages = start.map(|start| {
            let kept = start.min(request.end)..request.end;
            let kept = kept.map(|at| (stream[at].0, position(topic, at + 1)));
            kept.collect::<Vec<_>>()
        });
        self.enter(side, Item::Answer(request.number, messages.clone()), true);
        match messages {
            Some(messages) => {
                let messages = messages.iter();
                let messages = messages.map(|(number, at)| self.topic_message(*number, Some(*at)));
                request.recover.recovered(messages.collect());
            }
            None => request.recover.gap(),
        }
    }
}
