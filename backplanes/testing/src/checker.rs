//! Compares what a client heard with what was published.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::client::{Heard, What};

/// The number of the last message of each publisher and topic.
pub type Counts = BTreeMap<(String, String), u64>;

/// Sums over what a client heard.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Sums {
    /// Messages that were delivered.
    pub delivered: u64,
    /// Messages that are missing between two that were delivered.
    pub missing: u64,
    /// How many losses were announced with a number.
    pub announced: u64,
    /// How many announcements had no number.
    pub unknown: u64,
}

impl Sums {
    /// Adds other sums.
    pub fn add(&mut self, other: &Self) {
        self.delivered += other.delivered;
        self.missing += other.missing;
        self.announced += other.announced;
        self.unknown += other.unknown;
    }
}

/// Messages of a publisher that are missing: how many, and between which times.
struct Hole {
    count: u64,
    from: Instant,
    to: Instant,
}

/// Checks what a client of a node heard. All messages of a publisher and topic have to come in
/// order and once, and each missing one has to be announced: by a number of lost messages that
/// covers it, or by a loss of unknown size in its time. Without one of unknown size, delivered and
/// announced messages are exactly those that were published. Messages of the node's own publishers
/// must not be missing. With `counts`, this includes the last message of each publisher.
///
/// # Errors
///
/// Returns what is wrong.
pub fn check(node: &str, heard: &[Heard], counts: Option<&Counts>) -> Result<Sums, String> {
    let mut sums = Sums::default();
    let mut topics: BTreeMap<&str, Vec<&Heard>> = BTreeMap::new();
    for one in heard {
        topics.entry(&one.topic).or_default().push(one);
    }
    for (topic, heard) in &topics {
        let before = sums;
        let mut last: BTreeMap<&str, (u64, Instant)> = BTreeMap::new();
        let mut holes: Vec<Hole> = Vec::new();
        let mut gaps: Vec<(Instant, Option<u64>)> = Vec::new();
        for one in heard {
            match &one.what {
                What::Gap(count) => {
                    gaps.push((one.at, *count));
                    match count {
                        Some(count) => sums.announced += count,
                        None => sums.unknown += 1,
                    }
                }
                What::Message(publisher, number) => {
                    sums.delivered += 1;
                    let before = last.insert(publisher, (*number, one.at));
                    let Some((before, from)) = before else {
                        continue;
                    };
                    if *number <= before {
                        return Err(format!(
                            "{node} {topic}: {publisher} {number} came after {before}"
                        ));
                    }
                    let count = number - before - 1;
                    if count == 0 {
                        continue;
                    }
                    if publisher.starts_with(&format!("{node}.")) {
                        return Err(format!(
                            "{node} {topic}: {count} own messages before {publisher} {number} are \
                             missing"
                        ));
                    }
                    sums.missing += count;
                    let to = one.at;
                    holes.push(Hole { count, from, to });
                }
            }
        }
        for ((publisher, other), count) in counts.into_iter().flatten() {
            if let Some((number, from)) = last.get(publisher.as_str())
                && other == topic
                && number != count
            {
                let is_told = |(at, gap): &(Instant, Option<u64>)| gap.is_none() && at >= from;
                if number > count || !gaps.iter().any(is_told) {
                    return Err(format!(
                        "{node} {topic}: the last of {publisher} was {number} of {count}"
                    ));
                }
                sums.missing += count - number;
            }
        }
        let (missing, announced) = (
            sums.missing - before.missing,
            sums.announced - before.announced,
        );
        if counts.is_some() && sums.unknown == before.unknown && missing != announced {
            return Err(format!(
                "{node} {topic}: {missing} messages are missing and {announced} announced"
            ));
        }
        cover(&holes, &gaps).map_err(|error| format!("{node} {topic}: {error}"))?;
    }
    Ok(sums)
}

/// Checks what a client heard that moved from node to node: messages may come again after a
/// recovery, and none is missing without a loss that was announced.
///
/// # Errors
///
/// Returns what is wrong.
pub fn check_roamer(heard: &[Heard]) -> Result<(), String> {
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    // The first time of each message.
    let first_time = heard.iter().filter(|one| match &one.what {
        What::Message(publisher, number) => {
            let last = last.entry(publisher).or_default();
            let is_new = *number > *last;
            *last = (*last).max(*number);
            is_new
        }
        What::Gap(_) => true,
    });
    let first_time: Vec<Heard> = first_time.cloned().collect();
    check("-", &first_time, None).map(drop)
}

/// Checks that each hole is covered by announcements.
fn cover(holes: &[Hole], gaps: &[(Instant, Option<u64>)]) -> Result<(), String> {
    let mut known: Vec<(Instant, u64)> = Vec::new();
    known.extend(gaps.iter().filter_map(|(at, count)| Some((*at, (*count)?))));
    for hole in holes {
        // A loss is told at the end of the turn, so behind the message that follows it.
        let until = hole.to + SLACK;
        let is_here = |at: Instant| hole.from <= at && at <= until;
        if gaps
            .iter()
            .any(|(at, count)| count.is_none() && is_here(*at))
        {
            continue;
        }
        let mut left = hole.count;
        for (at, count) in &mut known {
            if is_here(*at) {
                let used = left.min(*count);
                *count -= used;
                left -= used;
            }
        }
        if left > 0 {
            return Err(format!(
                "{} missing messages, {left} of them not announced",
                hole.count
            ));
        }
    }
    Ok(())
}

/// How much later than the next message a loss may be told.
const SLACK: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(whats: &[What]) -> Vec<Heard> {
        let at = Instant::now();
        let heard = whats.iter().map(|what| Heard {
            at,
            topic: "t".into(),
            what: what.clone(),
        });
        heard.collect()
    }

    fn message(publisher: &str, number: u64) -> What {
        What::Message(publisher.into(), number)
    }

    #[test]
    fn a_complete_stream_is_right_and_others_are_wrong() {
        let right = [message("B.0", 4), message("B.0", 5), message("B.1", 9)];
        assert_eq!(
            check("A", &heard(&right), None).map(|sums| sums.delivered),
            Ok(3)
        );
        let again = [message("B.0", 4), message("B.0", 4)];
        assert!(check("A", &heard(&again), None).is_err());
        let back = [message("B.0", 4), message("B.0", 3)];
        assert!(check("A", &heard(&back), None).is_err());
        let counts = Counts::from([(("B.0".into(), "t".into()), 6)]);
        assert!(check("A", &heard(&right), Some(&counts)).is_err());
    }

    #[test]
    fn a_hole_needs_an_announcement_that_is_large_enough() {
        let hole = |gap: What| [message("B.0", 4), gap, message("B.0", 7)];
        assert!(check("A", &heard(&hole(What::Gap(None))), None).is_ok());
        assert!(check("A", &heard(&hole(What::Gap(Some(2)))), None).is_ok());
        assert!(check("A", &heard(&hole(What::Gap(Some(1)))), None).is_err());
        assert!(check("A", &heard(&[message("B.0", 4), message("B.0", 7)]), None).is_err());
        // A node never loses its own messages.
        assert!(check("B", &heard(&hole(What::Gap(None))), None).is_err());
        // Two holes do not share an announcement with a number.
        let two = [
            message("B.0", 4),
            What::Gap(Some(2)),
            message("B.0", 7),
            message("B.0", 10),
        ];
        assert!(check("A", &heard(&two), None).is_err());
    }
}
