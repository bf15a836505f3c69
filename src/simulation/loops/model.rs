//! The model of two loops: what waits for each, who receives what, and which losses are told.

use std::collections::{BTreeMap, VecDeque};

use super::scene::{Client, Scene};
use super::settings::{BRIEF, LATEST, NAMES};
use crate::backplane::{self, Since, TopicMessage};
use crate::connection::Hub;
use crate::server::Server;
use crate::simulation::checks::Check;
use crate::simulation::output::Told;
use crate::topics::{Position, Recovery};

/// What waits for a loop.
pub(super) enum Item {
    Message(u64, Option<Position>),
    Reached,
    Lost(usize, Option<u64>),
    AllLost,
    /// The answer to a request; `None` is a gap.
    Answer(u64, Option<Vec<(u64, Position)>>),
}

/// The inbox of a loop. The loop is not asked for what is in it: it is known from the publishes,
/// and when the loop looks.
pub(super) struct Inflow {
    items: VecDeque<(Item, usize)>,
    pub(super) bytes: usize,
    limit: usize,
    lost: BTreeMap<usize, Option<u64>>,
    is_all_lost: bool,
    unanswered: Vec<u64>,
    /// How many messages were dropped, and of which topics any.
    pub(super) dropped: u64,
    dropped_now: u64,
    pub(super) incomplete: Vec<usize>,
    /// Whether the loop was woken for it, and how often in all.
    is_woken: bool,
    pub(super) rings: u64,
}

/// The messages of a topic whose history all loops keep.
pub(super) struct Sequence {
    pub(super) epoch: u64,
    /// The offsets and numbers of the messages.
    pub(super) all: Vec<(u64, u64)>,
}

/// A client that waits for the messages that it missed.
pub(super) struct Pending {
    pub(super) request: u64,
    pub(super) since: Since,
    /// Newer messages, and their bytes.
    held: Vec<(u64, Option<Position>)>,
    bytes: usize,
}

/// A recovery that a handler has to be told.
pub(super) struct Due {
    pub(super) topic: usize,
    /// `None` if the outcome depends on memory.
    pub(super) outcome: Option<Recovery>,
}

impl Inflow {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            items: VecDeque::new(),
            bytes: 0,
            limit,
            lost: BTreeMap::new(),
            is_all_lost: false,
            unanswered: Vec::new(),
            dropped: 0,
            dropped_now: 0,
            incomplete: Vec::new(),
            is_woken: false,
            rings: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

impl Pending {
    pub(super) fn new(request: u64, since: Since) -> Self {
        Self {
            request,
            since,
            held: Vec::new(),
            bytes: 0,
        }
    }
}

impl Scene {
    /// Puts something into the inbox of a loop.
    pub(super) fn enter(&mut self, side: usize, item: Item, wakes: bool) {
        if !self.sides[side].is_connected {
            return;
        }
        let size = self.size_of(&item);
        let inflow = &mut self.sides[side].inflow;
        inflow.items.push_back((item, size));
        inflow.bytes += size;
        while self.sides[side].inflow.bytes > self.sides[side].inflow.limit
            && self.sides[side].inflow.items.len() > 1
        {
            self.drop_oldest(side);
        }
        let inflow = &mut self.sides[side].inflow;
        if (wakes || inflow.bytes > inflow.limit / 4) && !inflow.is_woken {
            inflow.is_woken = true;
            inflow.rings += 1;
            self.note("ring", side, 0);
        }
    }

    /// Returns the size of an item in an inbox.
    fn size_of(&self, item: &Item) -> usize {
        let of = |number: u64| {
            let key = self.messages[number as usize].key.map_or(0, |_| 1);
            self.frame_size(number) + key + size_of::<TopicMessage>()
        };
        match item {
            Item::Message(number, _) => of(*number),
            Item::Answer(_, Some(all)) => {
                let all = all.iter().map(|(number, _)| of(*number));
                size_of::<backplane::Item>() + all.sum::<usize>()
            }
            _ => size_of::<backplane::Item>(),
        }
    }

    fn drop_oldest(&mut self, side: usize) {
        let inflow = &mut self.sides[side].inflow;
        let Some((item, size)) = inflow.items.pop_front() else {
            return;
        };
        inflow.bytes -= size;
        let (topic, count) = match item {
            Item::Message(number, _) => {
                inflow.dropped_now += 1;
                let topic = self.messages[number as usize].topic;
                inflow.incomplete.push(topic);
                (topic, Some(1))
            }
            Item::Lost(topic, count) => (topic, count),
            Item::AllLost => {
                inflow.is_all_lost = true;
                return;
            }
            Item::Answer(request, _) => return inflow.unanswered.push(request),
            Item::Reached => return,
        };
        merge(&mut inflow.lost, topic, count);
    }

    /// Notes that a loop has looked into its inbox, if it has.
    pub(super) fn sync(&mut self, side: usize) {
        let own = &self.sides[side];
        let has_looked = own
            .inbox
            .as_ref()
            .is_some_and(|inbox| inbox.waiting_bytes() == 0);
        if has_looked && !own.inflow.is_empty() {
            self.take_in(side);
        }
    }

    /// Distributes what waits for a loop.
    fn take_in(&mut self, side: usize) {
        self.note("take in", side, self.sides[side].inflow.items.len());
        let inflow = &mut self.sides[side].inflow;
        inflow.bytes = 0;
        inflow.is_woken = false;
        inflow.dropped += std::mem::take(&mut inflow.dropped_now);
        let lost = std::mem::take(&mut inflow.lost);
        let is_all_lost = std::mem::take(&mut inflow.is_all_lost);
        let unanswered = std::mem::take(&mut inflow.unanswered);
        let items = std::mem::take(&mut inflow.items);
        for (topic, count) in lost {
            self.lose(side, topic, count);
        }
        if is_all_lost {
            self.lose_all(side);
        }
        for request in unanswered {
            self.answered(side, request, None);
        }
        for (item, _) in items {
            match item {
                Item::Message(number, position) => self.deliver(side, number, position, None),
                Item::Reached => {}
                Item::Lost(topic, count) => self.lose(side, topic, count),
                Item::AllLost => self.lose_all(side),
                Item::Answer(request, messages) => self.answered(side, request, messages),
            }
        }
    }

    /// Returns whether a topic has subscribers on a loop.
    pub(super) fn has_members(&self, side: usize, topic: usize) -> bool {
        let own = |client: &Client| client.side == side && client.topics.contains(&topic);
        self.clients.iter().any(own)
    }

    fn lose(&mut self, side: usize, topic: usize, count: Option<u64>) {
        if self.has_members(side, topic) {
            self.note("lost", side, topic);
            merge(&mut self.sides[side].gaps, topic, count);
        }
    }

    fn lose_all(&mut self, side: usize) {
        for topic in 0..NAMES.len() {
            self.lose(side, topic, None);
        }
    }

    /// Sends a message to the subscribers of a loop, except one of them.
    pub(super) fn deliver(
        &mut self,
        side: usize,
        number: u64,
        position: Option<Position>,
        except: Option<usize>,
    ) {
        let topic = self.messages[number as usize].topic;
        let size = self.frame_size(number);
        let most = self.settings.config.limits.max_backlog / 2;
        for at in 0..self.clients.len() {
            let is_exact = self.is_exact(at);
            let client = &mut self.clients[at];
            if client.side != side || Some(at) == except || !client.topics.contains(&topic) {
                continue;
            }
            if let Some(pending) = client.pending.get_mut(&topic) {
                if pending.bytes + size <= most || !is_exact {
                    pending.bytes += size;
                    pending.held.push((number, position));
                    continue;
                }
                // The answer is too late.
                client.release(topic);
                client.owe(topic, Some(Recovery::Gap));
            }
            client.expected.push(number);
        }
    }

    /// Passes the answer to a request on to the client that waits for it.
    fn answered(&mut self, side: usize, request: u64, messages: Option<Vec<(u64, Position)>>) {
        let waits = |client: &Client| {
            let mut pending = client.pending.iter();
            let own = pending.find(|(_, pending)| pending.request == request);
            own.map(|(topic, _)| *topic)
        };
        let found = self.clients.iter().enumerate();
        let mut found = found.filter(|(_, client)| client.side == side);
        let found = found.find_map(|(at, client)| Some((at, waits(client)?)));
        let Some((at, topic)) = found else {
            return;
        };
        self.note("answer", at, topic);
        let is_exact = self.is_exact(at);
        let Some(mut messages) = messages else {
            self.clients[at].release(topic);
            let outcome = is_exact.then_some(Recovery::Gap);
            return self.clients[at].owe(topic, outcome);
        };
        let pending = &self.clients[at].pending[&topic];
        let since = pending.since;
        let last = messages.last().map(|(_, position)| *position);
        let last = match since {
            Since::Position(since) => last.or(Some(since)),
            Since::Recent(_) => last,
        };
        // What was on its way to the loop meanwhile is among the missed messages.
        let is_older = |(_, position): &(u64, Option<Position>)| {
            position.zip(last).is_some_and(|(position, last)| {
                position.epoch() == last.epoch() && position.offset() <= last.offset()
            })
        };
        let mut held = pending.held.clone();
        self.tell(|| format!("{since:?}: {messages:?}, held {held:?}"));
        if is_exact {
            let mut left = self.settings.config.limits.max_backlog / 2;
            let newest = messages.iter().rev().take_while(|(number, _)| {
                let size = self.frame_size(*number);
                let fits = size <= left;
                left -= if fits { size } else { 0 };
                fits
            });
            let fits = newest.count();
            if fits < messages.len() && matches!(since, Since::Position(_)) {
                self.clients[at].release(topic);
                return self.clients[at].owe(topic, Some(Recovery::Gap));
            }
            messages.drain(..messages.len() - fits);
            let older = held.iter().filter(|each| is_older(each));
            let numbers: Vec<_> = messages.iter().map(|(number, _)| *number).collect();
            let is_covered = older.clone().all(|(number, _)| numbers.contains(number));
            if matches!(since, Since::Recent(_)) && !is_covered {
                // Newer messages must not be lost for older ones.
                messages.clear();
            } else {
                held.retain(|each| !is_older(each));
            }
        }
        let client = &mut self.clients[at];
        client
            .expected
            .extend(messages.iter().map(|(number, _)| *number));
        if let Some(pending) = client.pending.get_mut(&topic) {
            pending.held = held;
        }
        client.release(topic);
        client.owe(
            topic,
            is_exact.then_some(Recovery::Recovered(messages.len())),
        );
    }

    /// Notes that a client has left a topic.
    pub(super) fn leave(&mut self, at: usize, topic: usize) {
        let client = &mut self.clients[at];
        client.topics.remove(&topic);
        client.due.retain(|due| due.topic != topic);
        let side = client.side;
        if !self.has_members(side, topic) && self.sides[side].gaps.remove(&topic).is_some() {
            self.sides[side].excused.insert(topic);
        }
    }

    /// Notes that a client is not open any more.
    fn close(&mut self, at: usize) {
        self.note("close", at, 0);
        let is_exact = self.is_exact(at);
        let client = &mut self.clients[at];
        client.is_open = false;
        for topic in client.pending.keys().copied().collect::<Vec<_>>() {
            if is_exact {
                client.pending.remove(&topic);
            } else {
                // Its wait may have ended shortly before.
                client.release(topic);
            }
        }
        for topic in self.clients[at].topics.clone() {
            self.leave(at, topic);
        }
    }

    /// Notes which clients are open, when a handler is called or a turn ends.
    pub(super) fn refresh(&mut self, side: usize, hub: &mut Hub<'_>) {
        self.sync(side);
        for at in 0..self.clients.len() {
            let client = &self.clients[at];
            if client.side != side || !client.is_open {
                continue;
            }
            let conn = client.id.and_then(|id| hub.get(id));
            if !conn.is_some_and(|conn| conn.is_ready()) {
                self.close(at);
            }
        }
    }

    /// Returns the messages that a client missed, by the sequence that all loops share.
    pub(super) fn missed(&self, topic: usize, since: Position) -> Option<Vec<u64>> {
        let sequence = self.sequences.get(&topic)?;
        let last = sequence.all.last()?.0;
        if sequence.epoch != since.epoch() || since.offset() > last {
            return None;
        }
        let all = sequence.all.iter();
        let missed = all.filter(|(offset, _)| *offset > since.offset());
        Some(missed.map(|(_, number)| *number).collect())
    }

    /// Returns whether a loop has to have a topic's whole history, as far as it is kept.
    pub(super) fn keeps_all(&self, side: usize, topic: usize) -> bool {
        topic != BRIEF
            && self.settings.is_roomy()
            && !self.sides.iter().any(|side| side.has_ended)
            && !self.sides[side].inflow.incomplete.contains(&topic)
    }

    /// Reads what a client was sent, and checks it.
    pub(super) fn parse(&mut self, at: usize) {
        loop {
            let client = &mut self.clients[at];
            match client.output.next(&client.line.sent) {
                Ok(None) => return,
                Ok(Some((_, Told::Message(_, payload)))) => {
                    let text = String::from_utf8_lossy(&payload).into_owned();
                    let number = text.split(' ').next().and_then(|word| word.parse().ok());
                    match number.filter(|number| self.messages.len() as u64 > *number) {
                        Some(number) if self.text(number) == text => self.receive(at, number),
                        _ => self.fail(Check::MessagesOut, || format!("client {at}: {text:?}")),
                    }
                }
                Ok(Some((_, Told::Close(_)))) => client.was_closed = true,
                Ok(Some((_, Told::Answer(101)))) => {}
                Ok(Some((_, told))) => {
                    // A client is refused that was disconnected early, or that comes too late.
                    let is_right = matches!(told, Told::Answer(403 | 503));
                    self.check(is_right, Check::WholeFrames, || format!("{told:?}"));
                }
                Err(error) => return self.fail(Check::WholeFrames, || error),
            }
        }
    }

    fn receive(&mut self, at: usize, number: u64) {
        let is_exact = self.is_exact(at);
        let client = &mut self.clients[at];
        let place = client.received.len();
        client.received.push(number);
        if is_exact {
            let next = client.expected.get(place).copied();
            return self.check(next == Some(number), Check::MessagesOut, || {
                format!("client {at} received {number} instead of {next:?}")
            });
        }
        let message = &self.messages[number as usize];
        let group = (
            message.topic,
            message.key.filter(|_| message.topic == LATEST),
        );
        // The next message of this topic that it may receive.
        let start = client.places.get(&group).copied().unwrap_or(0);
        let mut rest = client.expected.iter().skip(start);
        if let Some(found) = rest.position(|each| *each == number) {
            client.places.insert(group, start + found + 1);
            return;
        }
        // The wait for missed messages may have ended early.
        let mut held = client.pending.values().flat_map(|pending| &pending.held);
        let is_held = held.any(|(each, _)| *each == number);
        self.check(is_held, Check::MessagesOut, || {
            format!("client {at} received {number} again, too late, or not its own")
        });
    }

    /// Checks what holds after each turn of a loop.
    pub(super) fn check_turn(&mut self, side: usize, server: &Server) {
        let shared = &server.reactor.core.shared;
        let is_settled = shared.dirty.is_empty();
        for at in 0..self.clients.len() {
            if self.clients[at].side != side {
                continue;
            }
            self.parse(at);
            let client = &self.clients[at];
            let (received, expected) = (client.received.len(), client.expected.len());
            if self.is_exact(at) && client.is_open && is_settled {
                self.check(received == expected, Check::MessagesOut, || {
                    format!("client {at} received {received} messages of {expected} in the turn")
                });
            }
        }
        if server.state == crate::server::State::Stopped {
            return;
        }
        if !shared.topics.has_changes() {
            for (topic, name) in NAMES.iter().enumerate() {
                let is_occupied = !shared.topics.members(name).is_empty();
                let own = &self.sides[side];
                let is_right = own.interest.contains(&topic) == is_occupied
                    && own.told.contains(&topic) == is_occupied
                    && self.has_members(side, topic) == is_occupied;
                self.check(is_right, Check::Interest, || {
                    format!("{name} on loop {side}, occupied: {is_occupied}")
                });
            }
        }
        let dropped = server.stats().inbox_dropped;
        let known = self.sides[side].inflow.dropped;
        self.check(dropped == known, Check::Gaps, || {
            format!("loop {side} has dropped {dropped} messages instead of {known}")
        });
        self.check_inboxes();
    }

    /// Checks what holds when a loop would sleep.
    pub(super) fn check_sleep(&mut self, side: usize) {
        let own = &mut self.sides[side];
        own.excused.clear();
        let (gaps, outgoing) = (own.gaps.clone(), own.outgoing.len());
        self.check(gaps.is_empty(), Check::Gaps, || {
            format!("loop {side} has not told {gaps:?}")
        });
        self.check(outgoing == 0, Check::Wakes, || {
            format!("loop {side} sleeps with {outgoing} messages for the other")
        });
        for at in 0..self.clients.len() {
            let client = &mut self.clients[at];
            if client.side != side {
                continue;
            }
            let owed = client.due.first().map(|due| due.topic);
            self.check(owed.is_none(), Check::Recoveries, || {
                format!("client {at} is not told of its recovery in {owed:?}")
            });
        }
    }

    /// Checks that what waits for the loops is what the model has, and how often they were woken.
    pub(super) fn check_inboxes(&mut self) {
        for side in 0..2 {
            let own = &self.sides[side];
            if !own.is_connected {
                continue;
            }
            let waiting = own.inbox.as_ref().map_or(0, |inbox| inbox.waiting_bytes());
            let (known, rings, woken) = (own.inflow.bytes, own.bell.rings(), own.inflow.rings);
            self.check(waiting == known, Check::Relayed, || {
                format!("{waiting} bytes wait for loop {side} instead of {known}")
            });
            self.check(rings == woken, Check::Wakes, || {
                format!("loop {side} was woken {rings} times instead of {woken}")
            });
        }
    }
}

impl Client {
    /// Ends the wait for missed messages: what was held is sent.
    pub(super) fn release(&mut self, topic: usize) {
        if let Some(pending) = self.pending.remove(&topic) {
            self.expected
                .extend(pending.held.iter().map(|(number, _)| *number));
        }
    }

    /// Notes that the outcome of a recovery has to be told.
    pub(super) fn owe(&mut self, topic: usize, outcome: Option<Recovery>) {
        self.due.push(Due { topic, outcome });
    }
}

/// Adds a loss; an unknown number makes the sum unknown.
fn merge(all: &mut BTreeMap<usize, Option<u64>>, topic: usize, count: Option<u64>) {
    let sum = all.entry(topic).or_insert(Some(0));
    *sum = sum.zip(count).map(|(sum, count)| sum + count);
}
