//! Checks the counters and the memory of the servers.

use crate::child::ServerStats;
use crate::ledger::{Faults, Totals};

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
    let out = totals.echoed + totals.pushed + totals.news_out;
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
