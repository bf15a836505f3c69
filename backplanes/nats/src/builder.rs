//! Settings of a connection to NATS.

use std::fmt;
use std::io;
#[cfg(feature = "tls")]
use std::path::PathBuf;
use std::time::Duration;

use async_nats::{ConnectOptions, ServerAddr};
use wsloop::backplane::node::Settings;

use crate::Nats;
use crate::subject::is_prefix;

/// The settings of a [`Nats`]. [`start`](Self::start) begins.
///
/// Made by [`Nats::builder`].
#[derive(Clone)]
#[must_use]
pub struct Builder {
    urls: String,
    options: Options,
}

#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) connect: ConnectOptions,
    pub(crate) prefix: String,
    pub(crate) node: Settings,
    pub(crate) connect_timeout: Duration,
    pub(crate) command_timeout: Duration,
    pub(crate) retry: (Duration, Duration),
    pub(crate) subscription_capacity: usize,
    pub(crate) history: Option<History>,
}

/// Where JetStream keeps the histories of topics, for [`Builder::history_storage`].
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Storage {
    /// In files. Histories survive a restart of the server.
    #[default]
    File,
    /// In memory. Histories end when the server ends. Only for a single server: in a cluster, a
    /// node could not see that the server with the stream was restarted.
    Memory,
}

/// The stream with the histories of topics.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) stream: String,
    pub(crate) prefix: String,
    pub(crate) storage: Storage,
    pub(crate) max_messages: u32,
    pub(crate) max_age: Duration,
    pub(crate) max_bytes: u64,
    pub(crate) replicas: u8,
    pub(crate) duplicates: Duration,
}

impl Builder {
    pub(crate) fn new(urls: &str) -> Self {
        let history = History {
            stream: "WSLOOP_HISTORY".into(),
            prefix: "wsloop-history.".into(),
            storage: Storage::File,
            max_messages: 1000,
            max_age: Duration::from_secs(24 * 3600),
            max_bytes: 256 << 20,
            replicas: 1,
            duplicates: Duration::from_secs(120),
        };
        let options = Options {
            connect: ConnectOptions::new(),
            prefix: "wsloop.".into(),
            node: Settings::default(),
            connect_timeout: Duration::from_secs(3),
            command_timeout: Duration::from_secs(5),
            retry: (Duration::from_millis(100), Duration::from_secs(5)),
            subscription_capacity: 64 << 10,
            history: Some(history),
        };
        Self {
            urls: urls.into(),
            options,
        }
    }

    /// Sets what the subjects of topics begin with, with a `.` at its end. The subject of a topic
    /// is the prefix and the name of the topic, in which some characters are
    /// [escaped](crate#subjects). Default `wsloop.`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.options.prefix = prefix.into();
        self
    }

    /// Sets how many bytes of messages may wait for NATS, including those that it has not
    /// confirmed. Beyond it the oldest are dropped, and the other nodes are told. Default 16 MiB.
    pub fn max_waiting(mut self, bytes: usize) -> Self {
        self.options.node.max_waiting = bytes;
        self
    }

    /// Sets how long a topic stays subscribed after its last subscriber has left. Default 5 s.
    pub fn grace(mut self, time: Duration) -> Self {
        self.options.node.grace = time;
        self
    }

    /// Sets after how long a silence a probe goes through NATS to this node. After as long again
    /// without an answer the connection counts as broken. Default 5 s.
    pub fn probe_after(mut self, time: Duration) -> Self {
        self.options.node.probe_after = time;
        self
    }

    /// Sets over how long the topics are subscribed again after a reconnect, so that not all nodes
    /// do it at the same time. Default 100 ms.
    pub fn resubscribe_over(mut self, time: Duration) -> Self {
        self.options.node.resubscribe_over = time;
        self
    }

    /// Sets how long connecting to a server may take. Default 3 s.
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.options.connect_timeout = time;
        self
    }

    /// Sets how long the confirmation of a message or a subscription may take before the connection
    /// counts as broken. A client that waits for a recovery gets a gap after this time. Default
    /// 5 s.
    pub fn command_timeout(mut self, time: Duration) -> Self {
        self.options.command_timeout = time;
        self
    }

    /// Sets the pause before the first new attempt to connect, which doubles with each attempt, and
    /// the longest pause. Pauses vary at random by half. Default 100 ms and 5 s.
    pub fn retry(mut self, first: Duration, longest: Duration) -> Self {
        self.options.retry = (first, longest);
        self
    }

    /// Sets how many messages of a subscription may wait in the client library. Beyond it, messages
    /// are lost, which is announced for all topics. The thread takes them out at once, so this
    /// happens only in extreme bursts. With less than 8,192, confirmations may be lost as well,
    /// which ends the connection. Default 65,536.
    pub fn subscription_capacity(mut self, messages: usize) -> Self {
        self.options.subscription_capacity = messages.max(1);
        self
    }

    /// Sets the user and the password. They can be in the URL instead. Default none.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        let connect = self.options.connect;
        self.options.connect = connect.user_and_password(name.into(), password.into());
        self
    }

    /// Sets a token. Default none.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.options.connect = self.options.connect.token(token.into());
        self
    }

    /// Sets the contents of a credentials file (JWT and NKey). Default none.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is malformed.
    #[cfg(feature = "nkeys")]
    #[cfg_attr(docsrs, doc(cfg(feature = "nkeys")))]
    pub fn credentials(mut self, text: &str) -> io::Result<Self> {
        self.options.connect = self.options.connect.credentials(text)?;
        Ok(self)
    }

    /// Requires TLS, and sets a file with the certificates of the authorities that are trusted, in
    /// PEM format, in addition to those of the system.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn root_certificates(mut self, path: impl Into<PathBuf>) -> Self {
        let connect = self.options.connect.require_tls(true);
        self.options.connect = connect.add_root_certificates(path.into());
        self
    }

    /// Sets all options of the client library at once, for authentication and TLS beyond the other
    /// methods. It replaces what [`user`](Self::user) and the like have set before. Options for
    /// reconnecting, capacities, timeouts, events and inboxes have no effect: this crate sets them.
    /// `no_echo` must not be set: confirmations need the echo.
    pub fn connect_options(mut self, options: ConnectOptions) -> Self {
        self.options.connect = options;
        self
    }

    /// Sets whether JetStream keeps the histories of topics. Without it each process keeps its own,
    /// so that a client is recovered only by the process that it was connected to. With it, a
    /// server without JetStream counts as not available. Default yes.
    pub fn history(mut self, is_on: bool) -> Self {
        let default = Self::new("").options.history;
        self.options.history = match is_on {
            true => self.options.history.or(default),
            false => None,
        };
        self
    }

    fn with_history(mut self, set: impl FnOnce(&mut History)) -> Self {
        self = self.history(true);
        if let Some(history) = &mut self.options.history {
            set(history);
        }
        self
    }

    /// Sets the name of the stream with the histories, and what its subjects begin with, with a `.`
    /// at its end. Default `WSLOOP_HISTORY` and `wsloop-history.`.
    pub fn history_stream(self, name: impl Into<String>, prefix: impl Into<String>) -> Self {
        self.with_history(|history| {
            history.stream = name.into();
            history.prefix = prefix.into();
        })
    }

    /// Sets where the histories are kept. Default files.
    pub fn history_storage(self, storage: Storage) -> Self {
        self.with_history(|history| history.storage = storage)
    }

    /// Sets the most messages of each topic, their age, and the bytes of all topics together. These
    /// are upper limits for the stream: a topic gets no more than its own
    /// [settings](wsloop::Topic::history), which are applied to what is read. Default 1,000
    /// messages, 24 hours, 256 MiB.
    pub fn history_limits(self, messages: u32, age: Duration, bytes: u64) -> Self {
        self.with_history(|history| {
            history.max_messages = messages.max(1);
            history.max_age = age.max(Duration::from_secs(1));
            history.max_bytes = bytes.max(1);
        })
    }

    /// Sets how many servers of a cluster keep the histories. Default 1.
    pub fn history_replicas(self, count: u8) -> Self {
        self.with_history(|history| history.replicas = count.max(1))
    }

    /// Sets for how long JetStream recognises a message that is sent again after a reconnect.
    /// Default 2 minutes. A message that comes again later is kept twice, but read once.
    pub fn history_duplicates(self, time: Duration) -> Self {
        self.with_history(|history| history.duplicates = time)
    }

    /// Starts the thread that talks to NATS, and returns at once: connecting takes place in the
    /// background, and is repeated until it succeeds.
    ///
    /// # Errors
    ///
    /// Returns an error if an URL cannot be parsed, a prefix or the name of the stream is not
    /// valid, or the thread cannot be started.
    pub fn start(self) -> Result<Nats, Error> {
        let Self { urls, mut options } = self;
        let mut servers = Vec::new();
        for url in urls.split(',').map(str::trim).filter(|url| !url.is_empty()) {
            let server: ServerAddr = url.parse().map_err(Error::Url)?;
            // The client library does not read them.
            if let Some(user) = server.username() {
                let password = unescape(server.password().unwrap_or_default());
                let user = unescape(user);
                options.connect = options.connect.user_and_password(user, password);
            }
            servers.push(server);
        }
        if servers.is_empty() {
            return Err(Error::NoUrl);
        }
        let prefixes = [
            Some(&options.prefix),
            options.history.as_ref().map(|history| &history.prefix),
        ];
        for prefix in prefixes.into_iter().flatten() {
            if !is_prefix(prefix) {
                return Err(Error::Name(prefix.clone()));
            }
        }
        if let Some(history) = &options.history {
            let is_special =
                |one: char| one.is_whitespace() || one.is_control() || ".*>/\\".contains(one);
            let [one, other] = [&history.prefix, &options.prefix];
            if history.stream.is_empty() || history.stream.contains(is_special) {
                return Err(Error::Name(history.stream.clone()));
            }
            // A stream must not store what it sends out.
            if one.starts_with(other.as_str()) || other.starts_with(one.as_str()) {
                return Err(Error::Name(one.clone()));
            }
        }
        Nats::spawn(servers, options)
    }
}

/// Decodes the percent signs of a user or a password in a URL.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, others @ ..] = rest {
        let digits = others.get(..2).filter(|_| *first == b'%');
        let digits = digits.and_then(|digits| str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = match byte {
            Some(_) => &others[2..],
            None => others,
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URLs may have passwords.
        f.debug_struct("Builder")
            .field("prefix", &self.options.prefix)
            .finish_non_exhaustive()
    }
}

/// A [`Nats`] cannot be started.
#[non_exhaustive]
#[derive(Debug)]
pub enum Error {
    /// A prefix or the name of the stream is not valid, or one prefix begins with the other.
    Name(String),
    /// There is no URL.
    NoUrl,
    /// The thread cannot be started.
    Thread(io::Error),
    /// An URL cannot be parsed.
    Url(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name:?} is not a valid prefix or name of a stream"),
            Self::NoUrl => f.write_str("there is no URL of a server"),
            Self::Thread(error) => write!(f, "the thread cannot be started: {error}"),
            Self::Url(error) => write!(f, "the URL of a server cannot be parsed: {error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Name(_) | Self::NoUrl => None,
            Self::Thread(error) | Self::Url(error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_in_urls_are_decoded() {
        assert_eq!(unescape("a%40b%2"), "a@b%2");
    }

    #[test]
    fn names_are_checked() {
        let url = "nats://127.0.0.1:1";
        for wrong in [
            Builder::new(url).prefix("a"),
            Builder::new(url).history_stream("a.b", "h."),
            Builder::new(url).history_stream("S", "wsloop.h."),
        ] {
            assert!(matches!(wrong.start(), Err(Error::Name(_))));
        }
        assert!(matches!(Builder::new(" ,").start(), Err(Error::NoUrl)));
        assert!(matches!(
            Builder::new("nats://[").start(),
            Err(Error::Url(_))
        ));
    }
}
