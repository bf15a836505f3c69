//! Compares the server's record of each connection with that of its client.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::record::{ClientRecord, Ending, ServerRecord, Stage, Why};
use crate::topics::TOPICS;

/// A connection whose end has not been reported by both sides.
#[derive(Debug)]
struct Entry {
    addr: SocketAddr,
    client: Option<ClientRecord>,
    server: Option<ServerRecord>,
    /// When the first of the two sides reported the end.
    since: Option<Instant>,
}

/// The sums over all completed connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) opened: u64,
    /// Connections that both sides have reported.
    pub(crate) settled: u64,
    pub(crate) requests: u64,
    pub(crate) pings: u64,
    /// Messages that the clients sent, and that the server received.
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// Messages that the server sent, and that the clients received.
    pub(crate) echoed: u64,
    pub(crate) echoes: u64,
    pub(crate) pushed: u64,
    pub(crate) pushes: u64,
    pub(crate) news_out: u64,
    pub(crate) news_in: u64,
    /// Published messages that the clients received, by topic.
    pub(crate) published: [u64; TOPICS.len()],
    pub(crate) endings: BTreeMap<(Ending, Why), u64>,
}

impl Totals {
    /// Returns the number of connections that did not end in an orderly way.
    pub(crate) fn cut(&self) -> u64 {
        let rough = |ending: Ending| {
            ending.is_kill() || matches!(ending, Ending::Lost | Ending::Unfinished)
        };
        let cut = self
            .endings
            .iter()
            .filter(|((ending, _), _)| rough(*ending));
        cut.map(|(_, count)| count).sum()
    }
}

/// Faults: the total number, and the first ones in words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) count: u64,
    pub(crate) first: Vec<String>,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: impl Into<String>) {
        self.count += 1;
        if self.first.len() < FAULTS_SHOWN {
            let fault = fault.into();
            eprintln!("FAULT: {fault}");
            self.first.push(fault);
        }
    }
}

/// The ledger of a run.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: HashMap<u64, Entry>,
    /// The numbers of the connections in `entries`, by client address, for records without a
    /// number.
    numbers: HashMap<SocketAddr, Vec<u64>>,
    pub(crate) totals: Totals,
    pub(crate) faults: Faults,
}

impl Ledger {
    /// Records that a client has connected.
    pub(crate) fn open(&mut self, number: u64, addr: SocketAddr) {
        self.totals.opened += 1;
        let entry = Entry {
            addr,
            client: None,
            server: None,
            since: None,
        };
        if self.entries.insert(number, entry).is_some() {
            self.faults.add(format!("{number} was opened twice"));
        }
        self.numbers.entry(addr).or_default().push(number);
    }

    /// Records the client's report of an ended connection.
    pub(crate) fn client(&mut self, record: ClientRecord, now: Instant) {
        let number = record.number;
        match self.entries.get_mut(&number) {
            Some(entry) if entry.client.is_none() => {
                entry.client = Some(record);
                entry.since.get_or_insert(now);
            }
            _ => self.faults.add(format!("{number} ended twice")),
        }
        self.settle(number);
    }

    /// Records the server's report of an ended connection.
    pub(crate) fn server(&mut self, record: ServerRecord, now: Instant) {
        let at = record.addr;
        let free = |entry: &Entry| entry.server.is_none();
        let number = record.number.or_else(|| {
            let numbers = self.numbers.get(&at)?.iter();
            let mut open = numbers.filter(|&number| self.entries.get(number).is_some_and(free));
            open.next().copied()
        });
        let entry = number.and_then(|number| self.entries.get_mut(&number));
        let (Some(number), Some(entry)) = (number, entry.filter(|entry| free(entry))) else {
            let fault = format!("a Disconnect too many, or of nobody: {record:?}");
            self.faults.add(fault);
            return;
        };
        if entry.addr != at {
            let fault = format!("{number} came from {}, not from {at}", entry.addr);
            self.faults.add(fault);
        }
        entry.server = Some(record);
        entry.since.get_or_insert(now);
        self.settle(number);
    }

    /// Reports and removes connections that one side has not reported for too long.
    pub(crate) fn overdue(&mut self, now: Instant) {
        let late = |entry: &Entry| entry.since.is_some_and(|since| now - since > PATIENCE);
        let late = self.entries.iter().filter(|(_, entry)| late(entry));
        let numbers: Vec<_> = late.map(|(&number, _)| number).collect();
        for number in numbers {
            self.miss(number);
        }
    }

    /// Closes the ledger: reports all connections that are still open.
    pub(crate) fn close(&mut self) {
        let numbers: Vec<_> = self.entries.keys().copied().collect();
        for number in numbers {
            self.miss(number);
        }
    }

    /// Returns the number of connections that are not settled.
    pub(crate) fn unsettled(&self) -> usize {
        self.entries.len()
    }

    fn miss(&mut self, number: u64) {
        let Some(entry) = self.remove(number) else {
            return;
        };
        let missing = match entry.client {
            Some(_) => "no Disconnect",
            None => "no end at the client",
        };
        self.faults.add(format!("{number}: {missing}: {entry:?}"));
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        if let Some(numbers) = self.numbers.get_mut(&entry.addr) {
            numbers.retain(|&other| other != number);
            if numbers.is_empty() {
                self.numbers.remove(&entry.addr);
            }
        }
        Some(entry)
    }

    /// Compares the two records, if both are there.
    fn settle(&mut self, number: u64) {
        let both = |entry: &Entry| entry.client.is_some() && entry.server.is_some();
        if !self.entries.get(&number).is_some_and(both) {
            return;
        }
        let Some(Entry {
            client: Some(client),
            server: Some(server),
            ..
        }) = self.remove(number)
        else {
            return;
        };
        for fault in compare(&client, &server) {
            let fault = format!("{number}: {fault}: {client:?}, {server:?}");
            self.faults.add(fault);
        }
        let totals = &mut self.totals;
        totals.settled += 1;
        totals.requests += server.requests;
        totals.pings += server.pings;
        totals.sent += client.sent;
        totals.received += server.received;
        totals.echoed += server.echoed;
        totals.echoes += client.echoes;
        totals.pushed += server.pushed;
        totals.pushes += client.pushes;
        totals.news_out += server.news;
        totals.news_in += client.news;
        for (total, count) in totals.published.iter_mut().zip(client.topics.counts) {
            *total += count;
        }
        *totals
            .endings
            .entry((client.ending, server.why))
            .or_default() += 1;
    }
}

/// Returns the contradictions between the two records of a connection.
fn compare(client: &ClientRecord, server: &ServerRecord) -> Vec<String> {
    let mut faults = Vec::new();
    let mut must = |holds: bool, fault: &str| {
        if !holds {
            faults.push(fault.to_owned());
        }
    };
    must(fits(client, server.why), "an end that does not fit");

    // A side cannot receive more than the other has sent.
    must(
        server.received <= client.sent,
        "received more than was sent",
    );
    must(client.echoes <= server.echoed, "more echoes than were sent");
    must(client.pushes <= server.pushed, "more pushes than were sent");
    must(client.news <= server.news, "more news than were sent");
    must(client.pongs <= server.pings, "more pongs than pings");
    must(server.pings <= client.pings, "more pings than were sent");
    must(
        client.requests <= server.requests,
        "more answers than requests",
    );
    must(server.echoed == server.received, "not all was echoed");

    // A side that reads the peer's Close frame or end of stream has received everything before it.
    let all_in = match client.ending {
        // A server that closes first ignores further messages.
        Ending::Closed => server.why == Why::Peer,
        Ending::HalfClosed => server.why == Why::Eof,
        _ => false,
    };
    if all_in {
        must(server.received == client.sent, "lost on the way in");
        must(server.pings == client.pings, "pings lost on the way in");
    }
    let all_out = match client.ending {
        Ending::Closed | Ending::Answered => true,
        Ending::HalfClosed => server.why == Why::Eof,
        _ => false,
    };
    if all_out {
        must(client.echoes == server.echoed, "echoes lost on the way out");
        must(client.pushes == server.pushed, "pushes lost on the way out");
        // Published messages that were dropped for newer ones are among the sent ones.
        must(
            client.news + server.topics.evicted >= server.news,
            "news lost on the way out",
        );
        // The server may drop pongs for a client that does not read.
        must(client.is_slow || client.pongs == server.pings, "pongs lost");
    }
    if client.ending == Ending::Visited {
        must(client.requests == server.requests, "answers lost");
    }

    // RFC 6455, 5.5.1: "an endpoint typically echos the status code it received".
    match (client.ending, server.why) {
        (Ending::Closed, Why::Peer) => {
            let codes = (client.close_sent, client.close_received);
            must(
                codes == (Some(server.code), Some(server.code)),
                "Close codes differ",
            );
        }
        (Ending::Answered | Ending::Closed, _) => {
            must(
                client.close_received == Some(server.code),
                "Close codes differ",
            );
        }
        _ => {}
    }
    faults.extend(client.topics.compare(&server.topics, all_out));
    faults
}

/// Returns whether the two causes of the end can belong to the same connection.
fn fits(client: &ClientRecord, why: Why) -> bool {
    use Ending::*;
    match client.ending {
        // Both sides may close at the same time.
        Closed => why == Why::Peer || (why.is_own() && why != Why::Cut),
        Answered => why.is_own() && why != Why::Cut,
        HalfClosed => why == Why::Eof || why.is_own(),
        Dropped | Reset | InMessage | InFrame | InRecord => {
            matches!(why, Why::Eof | Why::Io) || why.is_own()
        }
        InHandshake | InHello => {
            client.stage < Stage::Open && matches!(why, Why::Eof | Why::Io | Why::TimedOut)
        }
        // The server may cut a client that does not read before the client reaches the Close frame.
        Lost => why == Why::Cut || (client.is_slow && why.is_own()),
        Unfinished => matches!(why, Why::TimedOut | Why::Cut | Why::Shutdown),
        Visited => why == Why::Answered || why == Why::Eof,
        Refused => why == Why::Handshake,
    }
}

/// How long after the first side the second may report the end.
const PATIENCE: Duration = Duration::from_secs(40);

/// The number of faults that are written out.
const FAULTS_SHOWN: usize = 50;

#[cfg(test)]
mod tests;
