//! A lazy timer wheel: one entry per connection, checked when it is due, never moved by traffic.
//!
//! Traffic only stores a time in its connection. When an entry expires, its owner checks whether
//! the deadline was postponed, and inserts a new entry if it was. The owner ignores an entry that
//! was replaced by a newer one.

/// The timer wheel; times are in milliseconds since the reactor's epoch.
pub(super) struct Wheel {
    slots: Vec<Vec<Entry>>,
    /// One bit for each of `slots` that is not empty.
    occupied: [u64; SLOTS / 64],
    /// The last tick that has expired.
    last: u64,
    /// The tick before which no entry is due; `u64::MAX` if there is no entry.
    next: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// When the entry is due: the low 32 bits of the milliseconds, so that entries are small.
    pub(super) due: u32,
    /// The slot of the connection.
    pub(super) slot: u32,
}

impl Wheel {
    pub(super) fn new() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| Vec::new()).collect(),
            occupied: [0; SLOTS / 64],
            last: 0,
            next: u64::MAX,
        }
    }

    /// Adds an entry, due at most [`MAX_AHEAD`] from now. An entry that is already due expires with
    /// the next tick.
    pub(super) fn insert(&mut self, due: u64, slot: usize) {
        let tick = tick_of(due).max(self.last + 1);
        let at = (tick % SLOTS as u64) as usize;
        self.slots[at].push(Entry {
            due: due as u32,
            slot: slot as u32,
        });
        self.occupied[at / 64] |= 1 << (at % 64);
        self.next = self.next.min(tick);
    }

    /// Returns when to check again, in milliseconds: no later than in the tick of the first entry.
    pub(super) fn next(&self) -> Option<u64> {
        (self.next != u64::MAX).then_some(self.next << SHIFT)
    }

    /// Moves the entries that are due at `now` to `expired`.
    pub(super) fn expire(&mut self, now: u64, expired: &mut Vec<Entry>) {
        let tick = now >> SHIFT;
        if tick <= self.last {
            return;
        }
        if tick >= self.next {
            // One round of the wheel visits every slot.
            let from = self.last.max(tick.saturating_sub(SLOTS as u64));
            for tick in from + 1..=tick {
                let at = (tick % SLOTS as u64) as usize;
                if self.occupied[at / 64] & 1 << (at % 64) == 0 {
                    continue;
                }
                let entries = &mut self.slots[at];
                expired.extend(entries.extract_if(.., |entry| entry.is_due(now)));
                if entries.is_empty() {
                    *entries = Vec::new();
                    self.occupied[at / 64] &= !(1 << (at % 64));
                }
            }
        }
        self.last = tick;
        if tick >= self.next {
            self.next = self.first_occupied();
        }
    }

    /// Returns the first tick after `last` whose slot holds entries, of this round or a later one.
    fn first_occupied(&self) -> u64 {
        let start = self.last + 1;
        let at = (start % SLOTS as u64) as usize;
        let words = SLOTS / 64;
        for step in 0..=words {
            let word = (at / 64 + step) % words;
            let mut bits = self.occupied[word];
            if step == 0 {
                bits &= u64::MAX << (at % 64);
            } else if step == words {
                bits &= !(u64::MAX << (at % 64));
            }
            if bits != 0 {
                let found = word * 64 + bits.trailing_zeros() as usize;
                return start + ((found + SLOTS - at) % SLOTS) as u64;
            }
        }
        u64::MAX
    }
}

impl Entry {
    fn is_due(self, now: u64) -> bool {
        (now as u32).wrapping_sub(self.due) < 1 << 31
    }
}

/// How far ahead an entry may be due, in milliseconds: twelve days.
pub(super) const MAX_AHEAD: u64 = 1 << 30;

/// Returns the first tick that begins at or after `due`.
fn tick_of(due: u64) -> u64 {
    due.saturating_add((1 << SHIFT) - 1) >> SHIFT
}

/// The length of a tick as a shift: 16 ms. A deadline is met at most that late.
const SHIFT: u32 = 4;

/// A round of the wheel takes 32.8 s; entries further ahead wait for their round.
const SLOTS: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expire(wheel: &mut Wheel, now: u64) -> Vec<u64> {
        let mut expired = Vec::new();
        wheel.expire(now, &mut expired);
        let mut dues: Vec<u64> = expired.iter().map(|entry| entry.due.into()).collect();
        dues.sort_unstable();
        dues
    }

    #[test]
    fn entries_come_up_when_due_and_not_before() {
        let mut wheel = Wheel::new();
        assert_eq!(wheel.next(), None);
        wheel.insert(100, 1);
        wheel.insert(50_000, 2); // in the second round
        assert_eq!(wheel.next(), Some(112));
        assert_eq!(expire(&mut wheel, 99), [0; 0]);
        assert_eq!(expire(&mut wheel, 112), [100]);
        let mut woken = 0;
        let mut now = 112;
        while now < 50_000 {
            now = wheel.next().expect("one is left");
            assert!(now > 112 && now <= 50_000 + 16);
            let expired = expire(&mut wheel, now);
            if now < 50_000 {
                assert_eq!(expired, [0; 0]);
                woken += 1;
            } else {
                assert_eq!(expired, [50_000]);
            }
        }
        assert!(woken <= 1, "woken {woken} times for nothing");
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn the_low_bits_are_enough() {
        let mut wheel = Wheel::new();
        let start = u64::from(u32::MAX) - 5_000;
        assert_eq!(expire(&mut wheel, start), [0; 0]);
        let far = start + MAX_AHEAD;
        wheel.insert(start + 10_000, 1);
        wheel.insert(far, 2);
        assert_eq!(expire(&mut wheel, start + 9_999), [0; 0]);
        assert_eq!(expire(&mut wheel, start + 10_016), [4_999]);
        assert_eq!(expire(&mut wheel, far - 1), [0; 0]);
        assert_eq!(expire(&mut wheel, far + 16), [far % (1 << 32)]);
    }

    #[test]
    fn an_entry_that_is_late_comes_up_next() {
        let mut wheel = Wheel::new();
        assert_eq!(expire(&mut wheel, 1000), [0; 0]);
        wheel.insert(10, 1);
        assert_eq!(expire(&mut wheel, 1001), [0; 0]);
        let next = wheel.next().expect("due");
        assert_eq!(expire(&mut wheel, next), [10]);
    }

    proptest! {
        /// For any steps, no entry expires early or more than a tick late, and `next` is never too
        /// late.
        #[test]
        fn every_entry_comes_up_once(
            dues in prop::collection::vec(1u64..200_000, 1..60),
            steps in prop::collection::vec(1u64..60_000, 1..40),
        ) {
            let mut wheel = Wheel::new();
            for due in &dues {
                wheel.insert(*due, 0);
            }
            let mut waiting = dues.clone();
            waiting.sort_unstable();
            let mut now = 0;
            for step in steps.into_iter().cycle() {
                let Some(first) = waiting.first() else { break };
                let next = wheel.next().expect("entries wait");
                prop_assert!(next < first + 16 || next <= now + 16);
                now += step;
                let expired = expire(&mut wheel, now);
                // All entries that are due by the beginning of this tick have expired.
                let due = waiting.partition_point(|due| tick_of(*due) <= now >> SHIFT);
                prop_assert!(expired.len() >= due);
                prop_assert!(expired.iter().all(|due| *due <= now));
                let count = expired.len();
                prop_assert_eq!(&waiting[..count], &expired[..]);
                waiting.drain(..count);
            }
            prop_assert_eq!(wheel.next(), None);
        }
    }
}
