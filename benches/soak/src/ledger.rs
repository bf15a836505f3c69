//! Holds what the server says of each connection against what its client says.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::record::{ClientRecord, Ending, ServerRecord, Stage, Why};

/// A connection of which not both sides have told its end.
#[derive(Debug)]
struct Entry {
    addr: SocketAddr,
    client: Option<ClientRecord>,
    server: Option<ServerRecord>,
    /// When the first of the two told.
    since: Option<Instant>,
}

/// The sums over all connections that are over.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) opened: u64,
    /// Connections of which both sides have told.
    pub(crate) settled: u64,
    pub(crate) requests: u64,
    pub(crate) pings: u64,
    /// What the clients sent, and what the server received.
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// What the server sent, and what the clients received.
    pub(crate) echoed: u64,
    pub(crate) echoes: u64,
    pub(crate) pushed: u64,
    pub(crate) pushes: u64,
    pub(crate) news_out: u64,
    pub(crate) news_in: u64,
    pub(crate) endings: BTreeMap<(Ending, Why), u64>,
}

impl Totals {
    /// Connections that did not end in order.
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

/// Faults: the first ones in words, and the number of all.
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

/// The account of a run.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: HashMap<u64, Entry>,
    /// The numbers of those in `entries`, for a server that was not told a number.
    numbers: HashMap<SocketAddr, Vec<u64>>,
    pub(crate) totals: Totals,
    pub(crate) faults: Faults,
}

impl Ledger {
    /// Notes that a client has connected.
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

    /// Takes a client's word that a connection is over.
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

    /// Takes the server's word.
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

    /// Tells of connections of which one side has told nothing for too long, and forgets them.
    pub(crate) fn overdue(&mut self, now: Instant) {
        let late = |entry: &Entry| entry.since.is_some_and(|since| now - since > PATIENCE);
        let late = self.entries.iter().filter(|(_, entry)| late(entry));
        let numbers: Vec<_> = late.map(|(&number, _)| number).collect();
        for number in numbers {
            self.miss(number);
        }
    }

    /// Ends the account: nothing may be open any more.
    pub(crate) fn close(&mut self) {
        let numbers: Vec<_> = self.entries.keys().copied().collect();
        for number in numbers {
            self.miss(number);
        }
    }

    /// Connections that are not settled.
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

    /// Compares the two sides, once both are there.
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
        *totals
            .endings
            .entry((client.ending, server.why))
            .or_default() += 1;
    }
}

/// What does not fit in the two accounts of one connection.
fn compare(client: &ClientRecord, server: &ServerRecord) -> Vec<&'static str> {
    let mut faults = Vec::new();
    let mut must = |holds: bool, fault| {
        if !holds {
            faults.push(fault);
        }
    };
    must(fits(client, server.why), "an end that does not fit");

    // What a client got must have been sent, and what the server got as well.
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

    // Whose Close frame was read, or end of stream after one's own, has had everything before it.
    let all_in = match client.ending {
        // The server stops listening when it closes by itself.
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
        must(client.news == server.news, "news lost on the way out");
        // Pongs to who does not read may be left out.
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
    faults
}

/// Whether a connection may have ended so for both.
fn fits(client: &ClientRecord, why: Why) -> bool {
    use Ending::*;
    match client.ending {
        // Both may close at the same moment.
        Closed => why == Why::Peer || (why.is_own() && why != Why::Cut),
        Answered => why.is_own() && why != Why::Cut,
        HalfClosed => why == Why::Eof || why.is_own(),
        Dropped | Reset | InMessage | InFrame | InRecord => {
            matches!(why, Why::Eof | Why::Io) || why.is_own()
        }
        InHandshake | InHello => {
            client.stage < Stage::Open && matches!(why, Why::Eof | Why::Io | Why::TimedOut)
        }
        // Who does not read may be given up before its Close frame is reached.
        Lost => why == Why::Cut || (client.is_slow && why.is_own()),
        Unfinished => matches!(why, Why::TimedOut | Why::Cut | Why::Shutdown),
        Visited => why == Why::Answered || why == Why::Eof,
        Refused => why == Why::Handshake,
    }
}

/// How much later than the first side the second may tell.
const PATIENCE: Duration = Duration::from_secs(40);

/// Faults that are written out.
const FAULTS_SHOWN: usize = 50;

#[cfg(test)]
mod tests;
