//! Settings of a connection to Redis.

use std::fmt;
use std::io;
use std::time::Duration;

use redis::{ConnectionInfo, IntoConnectionInfo, RedisError};
use wsloop::backplane::node::Settings;

use crate::Redis;

/// The settings of a [`Redis`]. [`start`](Self::start) begins.
///
/// Made by [`Redis::builder`], [`Redis::sentinel`] and [`Redis::cluster`].
#[derive(Clone)]
#[must_use]
pub struct Builder {
    urls: Vec<String>,
    kind: Kind,
    options: Options,
}

#[derive(Clone)]
enum Kind {
    Single,
    /// The name of the primary.
    Sentinel(String),
    Cluster,
}

/// The server or servers.
pub(crate) enum Target {
    Single(ConnectionInfo),
    /// The sentinels, and the name of the primary.
    Sentinel(Vec<ConnectionInfo>, String),
    /// Some nodes.
    Cluster(Vec<ConnectionInfo>),
}

#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) prefix: String,
    pub(crate) node: Settings,
    pub(crate) connect_timeout: Duration,
    pub(crate) command_timeout: Duration,
    pub(crate) retry: (Duration, Duration),
    pub(crate) user: Option<(String, String)>,
    pub(crate) database: i64,
    #[cfg(feature = "tls")]
    pub(crate) root_certificates: Option<Vec<u8>>,
}

impl Builder {
    pub(crate) fn single(url: &str) -> Self {
        Self::new(Kind::Single, vec![url.into()])
    }

    pub(crate) fn sentinel(urls: Vec<String>, name: &str) -> Self {
        Self::new(Kind::Sentinel(name.into()), urls)
    }

    pub(crate) fn cluster(urls: Vec<String>) -> Self {
        Self::new(Kind::Cluster, urls)
    }

    fn new(kind: Kind, urls: Vec<String>) -> Self {
        let mut node = Settings::default();
        node.keeps_history = true;
        let options = Options {
            prefix: "wsloop:".into(),
            node,
            connect_timeout: Duration::from_secs(3),
            command_timeout: Duration::from_secs(5),
            retry: (Duration::from_millis(100), Duration::from_secs(5)),
            user: None,
            database: 0,
            #[cfg(feature = "tls")]
            root_certificates: None,
        };
        Self {
            urls,
            kind,
            options,
        }
    }

    /// Sets what the names of channels and keys begin with. The channel of a topic is the prefix
    /// and the name of the topic. Default `wsloop:`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.options.prefix = prefix.into();
        self
    }

    /// Sets how many bytes of messages may wait for Redis, including those that it has not
    /// confirmed. Beyond it the oldest are dropped, and the other nodes are told. Default 16 MiB.
    pub fn max_waiting(mut self, bytes: usize) -> Self {
        self.options.node.max_waiting = bytes;
        self
    }

    /// Sets how long a channel stays subscribed after its last subscriber has left. Default 5 s.
    pub fn grace(mut self, time: Duration) -> Self {
        self.options.node.grace = time;
        self
    }

    /// Sets after how long a silence a probe goes through Redis to this node. After as long again
    /// without an answer the connection counts as broken. Default 5 s.
    pub fn probe_after(mut self, time: Duration) -> Self {
        self.options.node.probe_after = time;
        self
    }

    /// Sets over how long the channels are subscribed again after a reconnect, so that not all
    /// nodes do it at the same time. Default 100 ms.
    pub fn resubscribe_over(mut self, time: Duration) -> Self {
        self.options.node.resubscribe_over = time;
        self
    }

    /// Sets whether Redis keeps the histories of topics. Without it each process keeps its own, so
    /// that a client is recovered only by the process that it was connected to. Default yes.
    pub fn history(mut self, is_on: bool) -> Self {
        self.options.node.keeps_history = is_on;
        self
    }

    /// Sets how long connecting to a server may take. Default 3 s.
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.options.connect_timeout = time;
        self
    }

    /// Sets how long the answer to a command may take before the connection counts as broken. A
    /// client that waits for a recovery gets a gap after this time. Default 5 s.
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

    /// Sets the user and password for the servers that Sentinel names. A user in an URL of Sentinel
    /// is for Sentinel. For other servers, prefer the URL. Default none.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.options.user = Some((name.into(), password.into()));
        self
    }

    /// Sets the database for the servers that Sentinel names, which matters for histories. Default
    /// 0.
    pub fn database(mut self, number: u32) -> Self {
        self.options.database = number.into();
        self
    }

    /// Sets the certificates of the authorities that are trusted, in PEM format, in place of those
    /// of the system.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.options.root_certificates = Some(pem.into());
        self
    }

    /// Starts the thread that talks to Redis, and returns at once: connecting takes place in the
    /// background, and is repeated until it succeeds.
    ///
    /// # Errors
    ///
    /// Returns an error if an URL cannot be parsed or the thread cannot be started.
    pub fn start(self) -> Result<Redis, Error> {
        let parse = |url: &String| {
            let info = url.as_str().into_connection_info();
            info.map_err(Error::Url)
        };
        let mut infos = self.urls.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let target = match self.kind {
            Kind::Single => Target::Single(infos.pop().ok_or(Error::NoUrl)?),
            _ if infos.is_empty() => return Err(Error::NoUrl),
            Kind::Sentinel(name) => Target::Sentinel(infos, name),
            Kind::Cluster => Target::Cluster(infos),
        };
        Redis::start(target, self.options)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URLs may have passwords.
        f.debug_struct("Builder")
            .field("prefix", &self.options.prefix)
            .finish_non_exhaustive()
    }
}

/// A [`Redis`] cannot be started.
#[non_exhaustive]
#[derive(Debug)]
pub enum Error {
    /// There is no URL.
    NoUrl,
    /// The thread cannot be started.
    Thread(io::Error),
    /// An URL cannot be parsed.
    Url(RedisError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoUrl => f.write_str("there is no URL of a server"),
            Self::Thread(error) => write!(f, "the thread cannot be started: {error}"),
            Self::Url(error) => write!(f, "the URL of a server cannot be parsed: {error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoUrl => None,
            Self::Thread(error) => Some(error),
            Self::Url(error) => Some(error),
        }
    }
}
