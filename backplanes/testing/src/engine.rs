//! What an engine has to offer for the tests.

use std::io;

/// A way to harm an engine or its nodes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// The server is killed with SIGKILL, and started again later.
    Killed,
    /// The server is stopped with SIGSTOP, and continues later.
    Frozen,
    /// The server is shut down and started again at once.
    Restarted,
    /// The server closes the connections with subscriptions.
    SubscribersKilled,
    /// The server closes the other connections.
    PublishersKilled,
    /// A node does not read, until the server drops its connection, while others publish much.
    Overrun,
    /// The network swallows everything, without closing connections.
    Cut,
    /// The network swallows everything of one node, which publishes more than may wait.
    SenderCut,
    /// The primary is killed, and another takes its place.
    Failover,
    /// The server is started only after the nodes.
    AwayFromStart,
    /// A node is killed with SIGKILL and started again.
    NodeKilled,
    /// Nothing.
    Nothing,
}

/// The servers of an engine, which are ended when it is dropped.
pub trait Engine: Send {
    /// The name of the engine, the first argument of the node program.
    fn name(&self) -> &'static str;

    /// Returns the faults that can be tried with it.
    fn faults(&self) -> Vec<Fault>;

    /// Returns the port that nodes connect to, through a proxy; `None` if they find the servers in
    /// another way, without one.
    fn port(&self) -> Option<u16>;

    /// Returns the addresses for the node program. With a proxy, `port` is its port.
    fn addresses(&self, port: u16) -> Vec<String>;

    /// Kills the server with SIGKILL.
    ///
    /// # Errors
    ///
    /// Returns an error if this cannot be done.
    fn kill(&mut self) -> io::Result<()>;

    /// Starts the server, and waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// Returns an error if this cannot be done.
    fn start(&mut self) -> io::Result<()>;

    /// Stops the server with SIGSTOP, or lets it continue.
    ///
    /// # Errors
    ///
    /// Returns an error if this cannot be done.
    fn freeze(&mut self, is_frozen: bool) -> io::Result<()>;

    /// Lets the server close the connections with subscriptions, or the others.
    ///
    /// # Errors
    ///
    /// Returns an error if this cannot be done.
    fn close_clients(&mut self, with_subscriptions: bool) -> io::Result<()>;
}
