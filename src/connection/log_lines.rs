//! Log lines: the one place that writes them, limits their number, and quotes the text of peers.
//!
//! A line that peers can cause has a [`Topic`]. A few lines per second are written of each topic;
//! the others are counted. The next line of the topic reports how many were left out, or else a
//! separate line does within about a second. A line that is left out costs a comparison and a
//! count: it is not formatted.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use log::Level;

use super::api::connection::ConnectionId;
use crate::panics::guard;
use crate::reasons::{ProtocolReason, RefusalReason, TlsFailure};

/// What a log line is about, which determines its target, its level and its limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Topic {
    /// A client was refused before its connection was open.
    Refusal(RefusalReason),
    /// TLS failed.
    Tls(TlsFailure),
    /// The peer broke the protocol or a limit.
    Protocol(ProtocolReason),
    Other(Matter),
}

/// Other things that a log line may be about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Matter {
    /// A connection that another server of the process gave away cannot be adopted.
    Adoption,
    /// A connection was closed because `memory_budget` is used up.
    BudgetClose,
    /// `memory_budget` is exceeded.
    BudgetExceeded,
    /// The network failed, or a connection has ended.
    End,
    /// A handler of the application failed.
    Handler,
    /// A connection exceeded a rate, and is not read for a while.
    HeldOff,
    /// Data that was sent to a connection is lost with it.
    Lost,
    /// A socket cannot be configured as requested.
    Socket,
    /// A connection was closed because `max_backlog` was exceeded.
    SlowConsumer,
    /// A request of another thread could not be carried out.
    Thread,
    /// The event queue cannot watch a connection or a source.
    Watch,
}

/// The last [`Matter`] in the order of the enum.
const LAST_MATTER: Matter = Matter::Watch;

impl Matter {
    const fn target(self) -> &'static str {
        match self {
            Self::Adoption | Self::Socket | Self::Watch => target::ACCEPT,
            Self::BudgetClose | Self::BudgetExceeded | Self::HeldOff | Self::SlowConsumer => {
                target::LIMITS
            }
            Self::End | Self::Lost => target::CONNECTION,
            Self::Handler => target::HANDLER,
            Self::Thread => target::SERVER,
        }
    }

    pub(crate) const fn level(self) -> Level {
        match self {
            Self::Handler | Self::Watch => Level::Error,
            Self::Adoption | Self::BudgetExceeded | Self::SlowConsumer => Level::Warn,
            Self::BudgetClose | Self::Lost => Level::Info,
            Self::End | Self::HeldOff | Self::Socket | Self::Thread => Level::Debug,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Adoption => "adoption",
            Self::BudgetClose => "budget_close",
            Self::BudgetExceeded => "budget_exceeded",
            Self::End => "end",
            Self::Handler => "handler",
            Self::HeldOff => "held_off",
            Self::Lost => "lost",
            Self::Socket => "socket",
            Self::SlowConsumer => "slow_consumer",
            Self::Thread => "thread",
            Self::Watch => "watch",
        }
    }
}

/// The targets of all log lines.
pub(crate) mod target {
    pub(crate) const ACCEPT: &str = "wsloop::accept";
    pub(crate) const CONNECTION: &str = "wsloop::connection";
    pub(crate) const HANDLER: &str = "wsloop::handler";
    pub(crate) const HANDSHAKE: &str = "wsloop::handshake";
    pub(crate) const LIMITS: &str = "wsloop::limits";
    pub(crate) const PROTOCOL: &str = "wsloop::protocol";
    pub(crate) const SERVER: &str = "wsloop::server";
    pub(crate) const TLS: &str = "wsloop::tls";
}

impl Topic {
    const COUNT: usize = RefusalReason::ALL.len()
        + TlsFailure::ALL.len()
        + ProtocolReason::ALL.len()
        + LAST_MATTER as usize
        + 1;

    const fn index(self) -> usize {
        const TLS: usize = RefusalReason::ALL.len();
        const PROTOCOL: usize = TLS + TlsFailure::ALL.len();
        const OTHER: usize = PROTOCOL + ProtocolReason::ALL.len();
        match self {
            Self::Refusal(reason) => reason as usize,
            Self::Tls(failure) => TLS + failure as usize,
            Self::Protocol(reason) => PROTOCOL + reason as usize,
            Self::Other(matter) => OTHER + matter as usize,
        }
    }

    pub(crate) const fn target(self) -> &'static str {
        match self {
            Self::Refusal(
                RefusalReason::AddressConnections
                | RefusalReason::AddressHalfOpen
                | RefusalReason::AddressRate,
            ) => target::LIMITS,
            Self::Refusal(_) => target::HANDSHAKE,
            Self::Tls(_) => target::TLS,
            Self::Protocol(_) => target::PROTOCOL,
            Self::Other(matter) => matter.target(),
        }
    }

    pub(crate) const fn level(self) -> Level {
        match self {
            Self::Refusal(_) | Self::Tls(_) | Self::Protocol(_) => Level::Info,
            Self::Other(matter) => matter.level(),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Refusal(reason) => reason.name(),
            Self::Tls(failure) => failure.name(),
            Self::Protocol(reason) => reason.name(),
            Self::Other(matter) => matter.name(),
        }
    }
}

/// A hint at a likely mistake, which is logged once for each server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hint {
    /// A client offered subprotocols, and none is configured.
    Subprotocols = 1,
    /// An origin was refused that differs from `Host` by the port alone.
    OriginPort = 2,
    /// An origin was refused, and `Host` looks like a name that a proxy made up.
    OriginProxy = 4,
    /// A page of another host connected, and nothing checks origins.
    OriginUnchecked = 8,
}

/// How many lines were written and left out lately, by topic.
pub(crate) struct LogLimits {
    entries: Box<[Entry]>,
    hints: u8,
    /// Lines were left out, and a timer is set that reports them.
    owes: bool,
}

#[derive(Clone, Copy, Default)]
struct Entry {
    /// When the second began in which lines are counted.
    since: Duration,
    /// Lines that were written in that second.
    lines: u8,
    /// Lines that were left out since the last one that was written.
    left_out: u64,
}

impl LogLimits {
    pub(crate) fn new() -> Self {
        Self {
            entries: vec![Entry::default(); Topic::COUNT].into(),
            hints: 0,
            owes: false,
        }
    }

    /// Returns permission to write a line, unless the topic has reached its limit for this second.
    pub(crate) fn admit(&mut self, topic: Topic, level: Level, now: Duration) -> Option<Line> {
        let mut line = Line {
            target: topic.target(),
            level,
            left_out: 0,
        };
        // Lines at `debug` are not limited.
        if level >= Level::Debug {
            return Some(line);
        }
        let entry = self.entries.get_mut(topic.index())?;
        if now.saturating_sub(entry.since) >= LINES_PERIOD {
            entry.since = now;
            entry.lines = 0;
        }
        if entry.lines >= LINES {
            entry.left_out += 1;
            return None;
        }
        entry.lines += 1;
        line.left_out = std::mem::take(&mut entry.left_out);
        Some(line)
    }

    /// Records that lines were left out; returns whether a timer has to be set that reports them.
    pub(crate) fn owe(&mut self) -> bool {
        !std::mem::replace(&mut self.owes, true)
    }

    /// Returns whether this hint was given.
    pub(crate) fn was_given(&self, hint: Hint) -> bool {
        self.hints & hint as u8 != 0
    }

    /// Returns whether this hint is new, and records that it was given.
    pub(crate) fn hint(&mut self, hint: Hint) -> bool {
        let new = self.hints & hint as u8 == 0;
        self.hints |= hint as u8;
        new
    }

    /// Reports how many lines were left out, unless a later line has reported them.
    pub(crate) fn settle(&mut self) {
        self.owes = false;
        let topics = RefusalReason::ALL
            .iter()
            .map(|reason| Topic::Refusal(*reason));
        let topics = topics
            .chain(TlsFailure::ALL.iter().map(|failure| Topic::Tls(*failure)))
            .chain(
                ProtocolReason::ALL
                    .iter()
                    .map(|reason| Topic::Protocol(*reason)),
            )
            .chain(LIMITED.iter().map(|matter| Topic::Other(*matter)));
        for topic in topics {
            let Some(entry) = self.entries.get_mut(topic.index()) else {
                continue;
            };
            let left_out = std::mem::take(&mut entry.left_out);
            if left_out > 0 {
                let line = Line::free(topic.target(), topic.level());
                line.write(format_args!(
                    "{left_out} similar lines were suppressed: {}",
                    topic.name()
                ));
            }
        }
    }
}

/// The matters whose lines are limited.
const LIMITED: &[Matter] = &[
    Matter::Adoption,
    Matter::BudgetClose,
    Matter::BudgetExceeded,
    Matter::Handler,
    Matter::Lost,
    Matter::SlowConsumer,
    Matter::Watch,
];

/// The connection or the client that a line is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who {
    /// `None` for a client that was refused before it became a connection.
    pub(crate) serial: Option<u64>,
    /// `None` for a Unix socket.
    pub(crate) peer: Option<SocketAddr>,
}

impl Who {
    /// Returns the identity of a client that was refused before it became a connection.
    pub(crate) fn refused(peer: Option<SocketAddr>) -> Self {
        Self { serial: None, peer }
    }
}

/// Permission to write one line.
#[derive(Debug)]
pub(crate) struct Line {
    target: &'static str,
    level: Level,
    left_out: u64,
}

impl Line {
    /// Returns permission to write a line that no peer can cause often.
    pub(crate) fn free(target: &'static str, level: Level) -> Self {
        Self {
            target,
            level,
            left_out: 0,
        }
    }

    /// Returns permission to write a line at the level of its matter, which no peer can cause
    /// often.
    pub(crate) fn of(matter: Matter) -> Self {
        Self::free(matter.target(), matter.level())
    }

    /// Writes a line about the server.
    pub(crate) fn write(self, text: fmt::Arguments<'_>) {
        let Self {
            target,
            level,
            left_out,
        } = self;
        write_guarded(|| log::log!(target: target, level, "{text}{}", LeftOut(left_out)));
    }

    /// Writes a line about a connection.
    pub(crate) fn about(self, who: Who, text: fmt::Arguments<'_>) {
        let Self {
            target,
            level,
            left_out,
        } = self;
        let left_out = LeftOut(left_out);
        let peer = Address(who.peer);
        write_guarded(|| match who.serial {
            Some(serial) => log::log!(
                target: target,
                level,
                connection = serial,
                peer:% = peer;
                "connection {serial} from {peer}: {text}{left_out}"
            ),
            None => log::log!(target: target, level, peer:% = peer; "{peer}: {text}{left_out}"),
        });
    }
}

/// Logs that a request of another thread could not be carried out.
pub(crate) fn log_of_thread(id: Option<ConnectionId>, what: &str, error: &dyn fmt::Display) {
    let line = Line::of(Matter::Thread);
    match id {
        Some(id) => line.write(format_args!(
            "connection {id}: {what} from another thread failed: {error}"
        )),
        None => line.write(format_args!("{what} from another thread failed: {error}")),
    }
}

/// Drops values of the application; a panic in their `drop` is logged.
pub(crate) fn drop_guarded<T>(values: T) {
    if let Err(error) = guard(|| drop(values)) {
        let line = Line::of(Matter::Handler);
        line.write(format_args!(
            "dropping a value of the application failed: {}",
            Clean(error)
        ));
    }
}

/// Calls the application's logger, whose panic must not unwind through the event loop.
fn write_guarded(write: impl FnOnce()) {
    // The error cannot be logged.
    let _ = guard(write);
}

/// The number of lines that were left out before this one, if there are any.
struct LeftOut(u64);

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({count} similar lines were suppressed before)"),
        }
    }
}

/// A peer's address, as a line shows it.
#[derive(Clone, Copy)]
struct Address(Option<SocketAddr>);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(addr) => addr.fmt(f),
            None => f.write_str("unix"),
        }
    }
}

/// Bytes that a peer chose: quoted, escaped, and cut to 120.
pub(crate) struct Shown<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.get(..SHOWN).unwrap_or(self.0);
        write!(f, "\"{}\"", shown.escape_ascii())?;
        match self.0.len() - shown.len() {
            0 => Ok(()),
            more => write!(f, " and {more} bytes more"),
        }
    }
}

/// Text of the application, which may contain data from a peer. Control characters are escaped, and
/// it is cut to 1,000 bytes.
pub(crate) struct Clean<T>(pub(crate) T);

impl<T: fmt::Display> fmt::Display for Clean<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;

        let mut out = Cleaner {
            out: f,
            room: CLEAN,
            cut: 0,
        };
        write!(out, "{}", self.0)?;
        match out.cut {
            0 => Ok(()),
            cut => write!(f, " and {cut} bytes more"),
        }
    }
}

struct Cleaner<'a, 'f> {
    out: &'a mut fmt::Formatter<'f>,
    room: usize,
    cut: usize,
}

impl fmt::Write for Cleaner<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            match self.room.checked_sub(letter.len_utf8()) {
                Some(room) if self.cut == 0 => self.room = room,
                _ => {
                    self.cut += letter.len_utf8();
                    continue;
                }
            }
            // The line and paragraph separators end a line for some readers.
            match letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}') {
                true => write!(self.out, "{}", letter.escape_default())?,
                false => self.out.write_char(letter)?,
            }
        }
        Ok(())
    }
}

/// How many lines of a topic are written in a second.
const LINES: u8 = 5;

pub(crate) const LINES_PERIOD: Duration = Duration::from_secs(1);

/// How many bytes of a peer's text are shown.
const SHOWN: usize = 120;

/// How many bytes of the application's text are shown.
const CLEAN: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_have_places_of_their_own() {
        let matters = LIMITED.iter().map(|matter| Topic::Other(*matter));
        let topics: Vec<Topic> = RefusalReason::ALL
            .iter()
            .map(|reason| Topic::Refusal(*reason))
            .chain(TlsFailure::ALL.iter().map(|failure| Topic::Tls(*failure)))
            .chain(
                ProtocolReason::ALL
                    .iter()
                    .map(|reason| Topic::Protocol(*reason)),
            )
            .chain(matters)
            .collect();
        let mut places: Vec<usize> = topics.iter().map(|topic| topic.index()).collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), topics.len());
        assert!(places.iter().all(|place| *place < Topic::COUNT));
        // All these topics have levels at which lines are limited: lines at `debug` are not.
        for topic in topics {
            assert!(topic.level() < Level::Debug, "{topic:?}");
        }
    }

    #[test]
    fn each_topic_has_so_many_lines_in_a_second_and_none_is_lost() {
        let mut journal = LogLimits::new();
        let flood = Topic::Protocol(ProtocolReason::Unmasked);
        let (mut lines, mut told) = (0, 0);
        // 3,000 lines in three seconds.
        for at in 0..3000 {
            let now = Duration::from_millis(at);
            if let Some(line) = journal.admit(flood, Level::Info, now) {
                lines += 1;
                told += line.left_out;
            }
        }
        assert_eq!(lines, 3 * u64::from(LINES));
        // Lines left out in the last second are reported by the next line, or by the timer.
        let open = journal.entries[flood.index()].left_out;
        assert_eq!(lines + told + open, 3000);
        // Other topics are not affected, and lines at `debug` are never limited.
        let now = Duration::from_millis(2999);
        let other = Topic::Refusal(RefusalReason::BadKey);
        assert!(journal.admit(other, Level::Info, now).is_some());
        assert!(journal.admit(flood, Level::Debug, now).is_some());
        let next = journal.admit(flood, Level::Info, Duration::from_millis(3000));
        assert_eq!(next.map(|line| line.left_out), Some(open));
        assert_eq!(journal.entries[flood.index()].left_out, 0);
    }

    #[test]
    fn what_a_peer_chose_is_quoted_escaped_and_cut() {
        assert_eq!(
            Shown(b"a\"b\\\r\n\x1b[0m\0").to_string(),
            r#""a\"b\\\r\n\x1b[0m\x00""#
        );
        assert_eq!(
            Shown("\u{e9}\u{202e}".as_bytes()).to_string(),
            r#""\xc3\xa9\xe2\x80\xae""#
        );
        let long = vec![b'x'; 1000];
        let expected = format!("\"{}\" and 880 bytes more", "x".repeat(120));
        assert_eq!(Shown(&long).to_string(), expected);
        assert_eq!(
            Shown(&long[..120]).to_string(),
            format!("\"{}\"", "x".repeat(120))
        );
    }

    #[test]
    fn text_of_the_application_has_no_control_characters_and_an_end() {
        assert_eq!(
            Clean("a\n\u{1b}é\u{2028}").to_string(),
            r"a\n\u{1b}é\u{2028}"
        );
        let long = "é".repeat(600);
        let expected = format!("{} and 200 bytes more", "é".repeat(500));
        assert_eq!(Clean(long).to_string(), expected);
    }

    #[test]
    fn a_panic_of_the_logger_stays_there() {
        struct Twice;
        impl Drop for Twice {
            fn drop(&mut self) {
                std::panic::panic_any(Thrice);
            }
        }
        struct Thrice;
        impl Drop for Thrice {
            fn drop(&mut self) {
                panic!("when the value of the second panic is dropped");
            }
        }
        write_guarded(|| panic!("a logger"));
        write_guarded(|| std::panic::panic_any(Twice));
    }
}
