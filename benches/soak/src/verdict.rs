//! Checks the counters and the memory of the servers.

use crate::child::ServerStats;
use crate::ledger::{Faults, Totals};
use crate::topics::{Lines, TOPICS};

/// The resources of the servers' process at rest, without connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Level {
    /// Resident memory, before and after the allocator has returned free memory.
    pub(crate) resident: u64,
    pub(crate) trimmed: u64,
    /// The live heap, in bytes and in blocks.
    pub(crate) heap: u64,
    pub(crate) blocks: u64,
    pub(crate) descriptors: u64,
}

/// Compares the counters of the servers with the sums over all connections. `cut_before`
/// connections were cut before the drain.
pub(crate) fn check_sums(
    totals: &Totals,
    cut_before: u64,
    stats: &ServerStats,
    faults: &mut Faults,
) {
    let out = totals.echoed + totals.pushed + totals.news_out + stats.published_out;
    for (what, counted, sum) in [
        ("accepted", stats.accepted, totals.opened),
        ("connections", totals.settled, totals.opened),
        ("messages_in", stats.messages_in, totals.received),
        ("messages_out", stats.messages_out, out),
        ("requests", stats.requests, totals.requests),
        ("accept_failures", stats.accept_failures, 0),
    ] {
        if counted != sum {
            faults.add(format!(
                "{what}: {counted} were counted, and the sum is {sum}"
            ));
        }
    }
    // A drain does not cut clients that close in time. It cuts clients that do not read and
    // therefore do not answer the Close frame in time, and clients that never complete their
    // handshake.
    let cut = totals.cut() - cut_before;
    if stats.cut > cut {
        faults.add(format!(
            "cut: {} were counted, and the sum is {cut}",
            stats.cut
        ));
    }
}

/// Compares the counters of published messages with the sums over all topics, and these with what
/// the clients have received.
pub(crate) fn check_topics(
    totals: &Totals,
    stats: &ServerStats,
    topics: &Lines,
    faults: &mut Faults,
) {
    let mut sums = [0; 6];
    for line in topics {
        let [_, counts @ .., _] = line.numbers();
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum += count;
        }
    }
    if sums != stats.published {
        let counted = stats.published;
        faults.add(format!(
            "published: {counted:?} were counted, and the sums are {sums:?}"
        ));
    }
    for ((line, topic), received) in topics.iter().zip(&TOPICS).zip(totals.published) {
        let [_, receivers, queued, conflated, dropped, refused, ..] = line.numbers();
        if receivers != queued + conflated + dropped + refused {
            faults.add(format!("{}: {line:?} does not add up", topic.name));
        }
        // A connection that is cut loses what was queued for it.
        if received > line.due() || topic.is_exact() && received < line.due() {
            let (name, due) = (topic.name, line.due());
            faults.add(format!(
                "{name}: {received} were received of {due}: {line:?}"
            ));
        }
    }
}

/// Compares the resources after each load with those before.
pub(crate) fn check_levels(pristine: &Level, warmed: &Level, after: &Level, faults: &mut Faults) {
    for (what, level) in [("first", warmed), ("long", after)] {
        if level.descriptors != pristine.descriptors {
            let (now, before) = (level.descriptors, pristine.descriptors);
            faults.add(format!(
                "{now} descriptors after the {what} load, {before} before"
            ));
        }
    }
    for (what, now, before, more) in [
        (
            "blocks are allocated",
            after.blocks,
            warmed.blocks,
            BLOCKS_MORE,
        ),
        ("bytes are allocated", after.heap, warmed.heap, BYTES_MORE),
        (
            "bytes are resident",
            after.trimmed,
            warmed.trimmed,
            RESIDENT_MORE,
        ),
    ] {
        if now > before + more {
            faults.add(format!("{now} {what}, {before} were after the first load"));
        }
    }
}

/// The number of additional blocks that may be live after the long load, compared with the first. A
/// leak of one block per connection, let alone per message, would be much larger.
pub(crate) const BLOCKS_MORE: u64 = 2500;

/// The number of additional live bytes. Each server keeps buffers for large messages, at most 8
/// MiB, and the first load may not have filled them.
pub(crate) const BYTES_MORE: u64 = 20 << 20;

/// The number of additional resident bytes after free memory was returned: the same, plus partly
/// used pages.
pub(crate) const RESIDENT_MORE: u64 = 28 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Ending, Why};
    use crate::topics::{Line, Topic};

    #[test]
    fn sums_that_differ_are_told() {
        let totals = Totals {
            opened: 5,
            settled: 5,
            received: 20,
            echoed: 20,
            pushed: 3,
            news_out: 4,
            requests: 2,
            endings: [((Ending::Reset, Why::Io), 7)].into(),
            ..Totals::default()
        };
        let stats = ServerStats {
            accepted: 5,
            messages_in: 20,
            messages_out: 27,
            requests: 2,
            ..ServerStats::default()
        };
        let faults = |stats: ServerStats| {
            let mut faults = Faults::default();
            check_sums(&totals, 7, &stats, &mut faults);
            faults.count
        };
        assert_eq!(faults(stats), 0);
        let changes: [fn(&mut ServerStats); 6] = [
            |stats| stats.accepted += 1,
            |stats| stats.messages_in -= 1,
            |stats| stats.messages_out += 1,
            |stats| stats.requests += 1,
            |stats| stats.accept_failures += 1,
            |stats| stats.cut += 1,
        ];
        for change in changes {
            let mut stats = stats;
            change(&mut stats);
            assert_eq!(faults(stats), 1);
        }
    }

    #[test]
    fn topics_that_differ_are_told() {
        let exact = TOPICS.iter().position(Topic::is_exact).unwrap();
        let other = TOPICS.iter().position(|topic| !topic.is_exact()).unwrap();
        let (mut topics, mut totals) = (Lines::default(), Totals::default());
        for topic in [exact, other] {
            topics[topic] = Line::from_numbers([3, 10, 5, 2, 2, 1, 1, 2]);
            totals.published[topic] = 6;
        }
        let stats = ServerStats {
            published: [20, 10, 4, 4, 2, 2],
            ..ServerStats::default()
        };
        let faults = |totals: &Totals, stats: ServerStats, topics: &Lines| {
            let mut faults = Faults::default();
            check_topics(totals, &stats, topics, &mut faults);
            faults.count
        };
        assert_eq!(faults(&totals, stats, &topics), 0);
        for at in 0..6 {
            let mut stats = stats;
            stats.published[at] += 1;
            assert_eq!(faults(&totals, stats, &topics), 1);
        }
        for (topic, fewer, more) in [(exact, 1, 1), (other, 0, 1)] {
            let mut totals = totals.clone();
            totals.published[topic] -= 1;
            assert_eq!(faults(&totals, stats, &topics), fewer);
            totals.published[topic] += 2;
            assert_eq!(faults(&totals, stats, &topics), more);
        }
        topics[other].receivers += 1;
        assert_eq!(faults(&totals, stats, &topics), 2);
    }

    #[test]
    fn what_is_not_given_back_is_told() {
        let level = Level {
            resident: 100 << 20,
            trimmed: 20 << 20,
            heap: 1 << 20,
            blocks: 1000,
            descriptors: 20,
        };
        let faults = |after: Level| {
            let mut faults = Faults::default();
            check_levels(&level, &level, &after, &mut faults);
            faults.count
        };
        assert_eq!(faults(level), 0);
        let descriptors = 21;
        assert_eq!(
            faults(Level {
                descriptors,
                ..level
            }),
            1
        );
        let heap = level.heap + BYTES_MORE + 1;
        assert_eq!(faults(Level { heap, ..level }), 1);
        let blocks = level.blocks + BLOCKS_MORE + 1;
        assert_eq!(faults(Level { blocks, ..level }), 1);
        let trimmed = level.trimmed + RESIDENT_MORE + 1;
        assert_eq!(faults(Level { trimmed, ..level }), 1);
    }
}
