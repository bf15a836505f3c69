//! Checks that the messages of one connection arrive once each, in order and unaltered.

use crate::message::{Mark, Message, Name};
use crate::topics;

/// Checks the messages that the server receives on one connection.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) connection: u64,
    /// The number of messages received, which is the sequence number of the next one.
    pub(crate) count: u64,
}

impl Heard {
    pub(crate) fn new(connection: u64) -> Self {
        let count = 0;
        Self { connection, count }
    }

    /// Checks the next message.
    ///
    /// # Errors
    ///
    /// Returns a description of the message if it is not the expected one.
    pub(crate) fn take(
        &mut self,
        is_text: bool,
        payload: &[u8],
        scratch: &mut Vec<u8>,
    ) -> Result<(), String> {
        let Self { connection, count } = *self;
        let name = |sequence| Name::Echo {
            connection,
            sequence,
        };
        self.count += 1;
        judge(name, count, is_text, payload, scratch)
    }
}

/// Checks the messages that a client receives.
#[derive(Debug)]
pub(crate) struct Replies {
    connection: u64,
    pub(crate) echoes: u64,
    pub(crate) pushes: u64,
    pub(crate) news: u64,
    last_news: u64,
    pub(crate) topics: Box<topics::Heard>,
}

impl Replies {
    pub(crate) fn new(connection: u64) -> Self {
        Self {
            connection,
            echoes: 0,
            pushes: 0,
            news: 0,
            last_news: 0,
            topics: Box::default(),
        }
    }

    /// Checks the next message of a client that has sent `sent` messages; returns its kind.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Heard::take`].
    pub(crate) fn take(
        &mut self,
        sent: u64,
        is_text: bool,
        payload: &[u8],
        scratch: &mut Vec<u8>,
    ) -> Result<Mark, String> {
        let connection = self.connection;
        let mark = Mark::of(payload).ok_or_else(|| "a message of no kind".to_owned())?;
        match mark {
            Mark::Echo => {
                let next = self.echoes;
                self.echoes += 1;
                if next >= sent {
                    return Err(format!("echo {next} of what was not sent"));
                }
                let name = |sequence| Name::Echo {
                    connection,
                    sequence,
                };
                judge(name, next, is_text, payload, scratch)?;
            }
            Mark::Push => {
                let next = self.pushes;
                self.pushes += 1;
                let name = |sequence| Name::Push {
                    connection,
                    sequence,
                };
                judge(name, next, is_text, payload, scratch)?;
            }
            Mark::News(number) => {
                self.news += 1;
                if number <= self.last_news {
                    return Err(format!("news {number} after {}", self.last_news));
                }
                self.last_news = number;
                judge(
                    |number| Name::News { number },
                    number,
                    is_text,
                    payload,
                    scratch,
                )?;
            }
            Mark::Published(head) => {
                self.topics.take(&head)?;
                let name = |number| Name::Published(topics::Head { number, ..head });
                judge(name, head.number, is_text, payload, scratch)?;
            }
        }
        Ok(mark)
    }
}

/// Compares a message with the awaited one. If they differ, looks for the message that it is
/// instead.
fn judge(
    name: impl Fn(u64) -> Name,
    awaited: u64,
    is_text: bool,
    payload: &[u8],
    scratch: &mut Vec<u8>,
) -> Result<(), String> {
    let mut is = |number| {
        let message = Message::of(name(number));
        message.size == payload.len() && message.is_text() == is_text && {
            message.write(scratch);
            *scratch == payload
        }
    };
    if is(awaited) {
        return Ok(());
    }
    let size = payload.len();
    let what = name(awaited);
    if let Some(number) = (awaited + 1..awaited + 1 + NEAR).find(|&number| is(number)) {
        return Err(format!("{what:?} is missing, {number} came instead"));
    }
    if let Some(number) = (awaited.saturating_sub(NEAR)..awaited).find(|&number| is(number)) {
        return Err(format!("{number} came again instead of {what:?}"));
    }
    Err(format!("{what:?} came altered, in {size} bytes"))
}

/// The range around the awaited message in which a different one is looked for.
const NEAR: u64 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a message as it is received.
    fn arrival(name: Name) -> (bool, Vec<u8>) {
        let message = Message::of(name);
        let mut out = Vec::new();
        message.write(&mut out);
        (message.is_text(), out)
    }

    fn echo(sequence: u64) -> (bool, Vec<u8>) {
        let connection = 9;
        arrival(Name::Echo {
            connection,
            sequence,
        })
    }

    /// Returns what the server reports for messages in this order.
    fn heard(arrivals: &[(bool, Vec<u8>)]) -> Result<u64, String> {
        let mut heard = Heard::new(9);
        for (is_text, payload) in arrivals {
            heard.take(*is_text, payload, &mut Vec::new())?;
        }
        Ok(heard.count)
    }

    #[test]
    fn what_comes_as_it_was_sent_is_good() {
        let all: Vec<_> = (0..300).map(echo).collect();
        assert_eq!(heard(&all), Ok(300));
    }

    #[test]
    fn lost_repeated_swapped_and_altered_messages_are_told() {
        let lost = heard(&[echo(0), echo(2)]).unwrap_err();
        assert!(lost.contains("is missing, 2 came"), "{lost}");
        let again = heard(&[echo(0), echo(1), echo(1)]).unwrap_err();
        assert!(again.contains("1 came again"), "{again}");
        let swapped = heard(&[echo(1), echo(0)]).unwrap_err();
        assert!(swapped.contains("is missing, 1 came"), "{swapped}");
        // A change of a bit, of the length or of the kind is detected.
        let (is_text, payload) = (0..).map(echo).find(|(_, p)| p.len() > 100).unwrap();
        let sequence = (0..).find(|&n| echo(n).1 == payload).unwrap();
        for change in 0..3 {
            let mut all: Vec<_> = (0..sequence).map(echo).collect();
            let (mut is_text, mut payload) = (is_text, payload.clone());
            match change {
                0 => payload[99] ^= 1,
                1 => drop(payload.pop()),
                _ => is_text = !is_text,
            }
            all.push((is_text, payload));
            let altered = heard(&all).unwrap_err();
            assert!(altered.contains("came altered"), "{altered}");
        }
    }

    #[test]
    fn a_client_tells_three_kinds_of_messages_apart() {
        let connection = 9;
        let push = |sequence| {
            arrival(Name::Push {
                connection,
                sequence,
            })
        };
        let news = |number| arrival(Name::News { number });
        let take = |arrivals: &[(bool, Vec<u8>)]| {
            let mut replies = Replies::new(9);
            for (is_text, payload) in arrivals {
                replies.take(2, *is_text, payload, &mut Vec::new())?;
            }
            Ok::<_, String>((replies.echoes, replies.pushes, replies.news))
        };
        // A slow client may miss news, but no news arrives twice or out of order.
        let good = [push(0), echo(0), news(3), news(5), echo(1), push(1)];
        assert_eq!(take(&good), Ok((2, 2, 2)));
        assert!(take(&[news(3), news(3)]).is_err());
        assert!(take(&[news(3), news(2)]).is_err());
        assert!(take(&[push(1)]).is_err());
        assert!(take(&[echo(0), echo(0)]).is_err());
        let (is_text, mut payload) = news(3);
        payload[17] ^= 1;
        assert!(take(&[(is_text, payload)]).is_err());
        let early = take(&[echo(0), echo(1), echo(2)]).unwrap_err();
        assert!(early.contains("not sent"), "{early}");
        assert!(take(&[(false, b"?".to_vec())]).is_err());
    }
}
