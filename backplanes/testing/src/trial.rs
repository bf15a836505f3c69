//! Two nodes, their clients, and a fault.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::checker::{self, Counts, Sums};
use crate::client::{Client, Roamer, What};
use crate::engine::{Engine, Fault};
use crate::node::TOPICS;
use crate::processes::Process;
use crate::proxy::Proxy;

/// A running node program.
struct Node {
    name: String,
    process: Process,
    out: BufReader<ChildStdout>,
    port: u16,
}

impl Node {
    fn start(program: &Path, name: &str, engine: &dyn Engine, port: u16) -> Result<Self, String> {
        let mut command = Command::new(program);
        command
            .args(["node", engine.name(), name, &MAX_WAITING.to_string()])
            .args(engine.addresses(port))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child: Child = command.spawn().map_err(text)?;
        let out = child.stdout.take().ok_or("it has no output")?;
        let mut node = Self {
            name: name.into(),
            process: Process(child),
            out: BufReader::new(out),
            port: 0,
        };
        let line = node.line()?;
        let port = line
            .strip_prefix("port ")
            .and_then(|port| port.parse().ok());
        node.port = port.ok_or("it does not say its port")?;
        Ok(node)
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        self.out.read_line(&mut line).map_err(text)?;
        Ok(line.trim_end().into())
    }

    fn tell(&mut self, line: &str) -> Result<(), String> {
        let input = self.process.0.stdin.as_mut().ok_or("it has no input")?;
        writeln!(input, "{line}").map_err(text)
    }

    fn ask(&mut self, line: &str) -> Result<String, String> {
        self.tell(line)?;
        self.line()
    }

    fn counts(&mut self, counts: &mut Counts) -> Result<(), String> {
        let line = self.ask("counts")?;
        let words: Vec<&str> = line.split(' ').skip(1).collect();
        for three in words.chunks(3) {
            if let [publisher, topic, last] = three {
                let last = last.parse().map_err(text)?;
                counts.insert(((*publisher).into(), (*topic).into()), last);
            }
        }
        Ok(())
    }

    /// Returns a counter of the backplane.
    fn stat(&mut self, name: &str) -> Result<u64, String> {
        let line = self.ask("stats")?;
        let words: Vec<&str> = line.split(' ').skip(1).collect();
        let found = words.chunks(2).find(|pair| pair.first() == Some(&name));
        let value = found.and_then(|pair| pair.get(1)?.parse().ok());
        value.ok_or_else(|| format!("{name} is not in {line}"))
    }
}

/// What a trial has found. What is wrong is an error of [`run`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// From the end of the fault until each client had heard from each publisher on other nodes, in
    /// each topic.
    pub heard_again: Duration,
    /// The sums of all clients.
    pub sums: Sums,
    /// How often a client that moved between the nodes was recovered.
    pub recovered: u64,
    /// The longest time until a node answered a ping.
    pub slowest_ping: Duration,
    /// The most memory of a node, in bytes.
    pub memory: usize,
    /// The most bytes that waited for the engine.
    pub waiting: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sums {
            delivered,
            missing,
            announced,
            unknown,
        } = self.sums;
        write!(
            f,
            "heard again after {:.2} s; {delivered} delivered, {missing} missing, {announced} \
             announced and {unknown} times an unknown number; {} recoveries; slowest ping {:.0} ms; memory {} MB; \
             waiting {} kB",
            self.heard_again.as_secs_f64(),
            self.recovered,
            self.slowest_ping.as_secs_f64() * 1e3,
            self.memory >> 20,
            self.waiting >> 10,
        )
    }
}

/// Two nodes with two clients each, whose publishers have begun.
pub struct Trial<'e> {
    engine: &'e mut dyn Engine,
    program: &'e Path,
    proxies: Vec<Proxy>,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    roamer: Option<Roamer>,
    /// The last messages of nodes that were killed are not known.
    report: Report,
    restarts: u32,
}

/// Runs one fault as a test: prints the report.
///
/// # Panics
///
/// Panics with what [`run`] returns, or if the engine does not have the fault.
pub fn must_pass(program: &Path, engine: &mut dyn Engine, fault: Fault) {
    // A few at a time, because a machine that is overloaded delivers nothing in time.
    static TURNS: [Mutex<()>; 3] = [const { Mutex::new(()) }; 3];
    let turn = TURNS[fault as usize % TURNS.len()].lock();
    let _turn = turn.unwrap_or_else(PoisonError::into_inner);
    assert!(engine.faults().contains(&fault), "{fault:?}");
    match run(program, engine, fault) {
        Ok(report) => println!("{fault:?}: {report}"),
        Err(error) => panic!("{fault:?}: {error}"),
    }
}

/// Runs one fault with new nodes.
///
/// # Errors
///
/// Returns what is wrong: a message that was lost without an announcement, a node that did not
/// answer, a topic that was not heard again.
pub fn run(program: &Path, engine: &mut dyn Engine, fault: Fault) -> Result<Report, String> {
    if fault == Fault::AwayFromStart {
        engine.kill().map_err(text)?;
    }
    let mut trial = Trial::start(program, engine)?;
    if fault == Fault::AwayFromStart {
        thread::sleep(Duration::from_secs(1));
        trial.engine.start().map_err(text)?;
    }
    let started = Instant::now();
    trial.wait_until_heard(started)?;
    if fault == Fault::AwayFromStart {
        trial.report.heard_again = started.elapsed();
    }
    if fault != Fault::AwayFromStart {
        thread::sleep(Duration::from_millis(300));
        trial.apply(fault)?;
    }
    thread::sleep(Duration::from_millis(300));
    trial.finish()
}

impl<'e> Trial<'e> {
    /// Starts the nodes and clients.
    ///
    /// # Errors
    ///
    /// Returns an error if one cannot be started.
    pub fn start(program: &'e Path, engine: &'e mut dyn Engine) -> Result<Self, String> {
        let mut trial = Self {
            engine,
            program,
            proxies: Vec::new(),
            nodes: Vec::new(),
            clients: Vec::new(),
            roamer: None,
            report: Report::default(),
            restarts: 0,
        };
        for name in ["A", "B"] {
            let mut port = 0;
            if let Some(upstream) = trial.engine.port() {
                let proxy = Proxy::start(upstream).map_err(text)?;
                port = proxy.port();
                trial.proxies.push(proxy);
            }
            let node = Node::start(program, name, trial.engine, port)?;
            trial.nodes.push(node);
        }
        for number in 0..trial.nodes.len() {
            trial.add_clients(number)?;
        }
        for node in &mut trial.nodes {
            node.tell(&format!("rate {RATE}"))?;
        }
        let ports = trial.nodes.iter().map(|node| node.port).collect();
        trial.roamer = Some(Roamer::start("h0", ports));
        Ok(trial)
    }

    fn add_clients(&mut self, number: usize) -> Result<(), String> {
        let node = &self.nodes[number];
        for _ in 0..2 {
            let client = Client::connect(&node.name, node.port, &TOPICS).map_err(text)?;
            self.clients.push(client);
        }
        Ok(())
    }

    /// Applies a fault, and waits until every topic is heard again.
    ///
    /// # Errors
    ///
    /// Returns what is wrong.
    pub fn apply(&mut self, fault: Fault) -> Result<(), String> {
        let began = Instant::now();
        let before = self.connects()?;
        match fault {
            Fault::Killed => {
                self.engine.kill().map_err(text)?;
                self.watch(Duration::from_secs(1))?;
                self.engine.start().map_err(text)?;
            }
            Fault::Restarted => {
                self.engine.kill().map_err(text)?;
                self.engine.start().map_err(text)?;
            }
            Fault::Frozen => {
                self.engine.freeze(true).map_err(text)?;
                self.watch(Duration::from_millis(2500))?;
                self.engine.freeze(false).map_err(text)?;
            }
            Fault::SubscribersKilled => self.engine.close_clients(true).map_err(text)?,
            Fault::PublishersKilled => self.engine.close_clients(false).map_err(text)?,
            Fault::Overrun => {
                // A server that slows the sender down may need several bursts.
                let since = Instant::now();
                while self.nodes[1].stat("connects")? <= before[1] {
                    if since.elapsed() > PATIENCE {
                        return Err("the server keeps the connection of the slow node".into());
                    }
                    if let Some(proxy) = self.proxies.get(1) {
                        proxy.stall();
                    }
                    for _ in 0..8 {
                        self.nodes[0].tell("burst t0 200 10000")?;
                        thread::sleep(Duration::from_millis(50));
                    }
                    // The silence must not be what ends the connection.
                    thread::sleep(Duration::from_millis(200));
                    if let Some(proxy) = self.proxies.get(1) {
                        proxy.heal();
                    }
                    let healed = Instant::now();
                    while healed.elapsed() < Duration::from_secs(2)
                        && self.nodes[1].stat("connects")? <= before[1]
                    {
                        thread::sleep(Duration::from_millis(20));
                    }
                }
            }
            Fault::Cut => {
                self.proxies.iter().for_each(Proxy::cut);
                self.watch(Duration::from_millis(2500))?;
                self.proxies.iter().for_each(Proxy::heal);
            }
            Fault::SenderCut => {
                if let Some(proxy) = self.proxies.first() {
                    proxy.cut();
                }
                let dropped = self.nodes[0].stat("dropped")?;
                let since = Instant::now();
                while self.nodes[0].stat("dropped")? == dropped {
                    if since.elapsed() > PATIENCE {
                        return Err("the node drops nothing".into());
                    }
                    self.nodes[0].tell("burst t1 100 10000")?;
                    thread::sleep(Duration::from_millis(100));
                }
                self.watch(Duration::from_millis(1500))?;
                if let Some(proxy) = self.proxies.first() {
                    proxy.heal();
                }
            }
            Fault::Failover => self.engine.kill().map_err(text)?,
            Fault::NodeKilled => self.replace_node(1)?,
            Fault::AwayFromStart | Fault::Nothing => {}
        }
        let ended = Instant::now();
        // What is heard before a node has noticed the fault does not count.
        let affected = match fault {
            Fault::NodeKilled | Fault::AwayFromStart | Fault::Nothing => 0..0,
            Fault::Overrun => 1..2,
            Fault::SenderCut => 0..1,
            _ => 0..self.nodes.len(),
        };
        for number in affected {
            while self.nodes[number].stat("connects")? <= before[number] {
                self.measure()?;
                if ended.elapsed() > PATIENCE {
                    let name = &self.nodes[number].name;
                    return Err(format!("{name} does not connect again"));
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        self.wait_until_heard(Instant::now())?;
        let heard_again = ended.elapsed();
        self.report.heard_again = self.report.heard_again.max(heard_again);
        log::info!(
            "{fault:?}: {:.2} s, heard again after {:.2} s",
            (ended - began).as_secs_f64(),
            heard_again.as_secs_f64()
        );
        Ok(())
    }

    /// Returns how often each node has connected.
    fn connects(&mut self) -> Result<Vec<u64>, String> {
        let nodes = self.nodes.iter_mut();
        nodes.map(|node| node.stat("connects")).collect()
    }

    /// Kills a node, and starts another in its place.
    fn replace_node(&mut self, number: usize) -> Result<(), String> {
        let name = self.nodes[number].name.clone();
        self.nodes[number].process.kill();
        // What its clients have heard is checked without its last messages.
        let (gone, left) = std::mem::take(&mut self.clients)
            .into_iter()
            .partition(|client| client.node == name);
        self.clients = left;
        let gone: Vec<Client> = gone;
        for client in gone {
            let sums = checker::check(&client.node, &client.heard(), None)?;
            self.report.sums.add(&sums);
        }
        self.restarts += 1;
        let port = self.proxies.get(number).map_or(0, Proxy::port);
        let name = format!("R{}", self.restarts);
        self.nodes[number] = Node::start(self.program, &name, self.engine, port)?;
        self.nodes[number].tell(&format!("rate {RATE}"))?;
        if let Some(roamer) = &self.roamer {
            roamer.set_ports(self.nodes.iter().map(|node| node.port).collect());
        }
        self.add_clients(number)
    }

    /// Looks for some time whether the nodes work without the engine: their own clients hear their
    /// messages, and pings are answered.
    fn watch(&mut self, time: Duration) -> Result<(), String> {
        let due = Instant::now() + time;
        thread::sleep(time / 2);
        self.measure()?;
        let since = Instant::now();
        loop {
            let is_heard = self.clients.iter().all(|client| {
                let own = format!("{}.", client.node);
                let heard = client.heard();
                TOPICS.iter().all(|topic| {
                    let mut newest = heard.iter().rev().take_while(|one| one.at > since);
                    newest.any(|one| {
                        let is_own =
                            matches!(&one.what, What::Message(by, _) if by.starts_with(&own));
                        one.topic == *topic && is_own
                    })
                })
            });
            if is_heard {
                break;
            }
            if since.elapsed() > PATIENCE {
                return Err("a node does not deliver to its own clients".into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        Ok(())
    }

    fn measure(&mut self) -> Result<(), String> {
        for node in &mut self.nodes {
            let waiting = node.stat("waiting")?;
            self.report.waiting = self.report.waiting.max(waiting);
            self.report.memory = self.report.memory.max(node.process.memory());
        }
        for client in &self.clients {
            if client.has_ended() {
                return Err(format!("a client of {} was disconnected", client.node));
            }
            self.report.slowest_ping = self.report.slowest_ping.max(client.slowest_ping());
        }
        if self.report.slowest_ping > PATIENCE {
            return Err("a node hangs".into());
        }
        if self.report.memory > MEMORY_MAX {
            return Err(format!(
                "a node uses {} bytes of memory",
                self.report.memory
            ));
        }
        if self.report.waiting > MAX_WAITING as u64 {
            return Err(format!("{} bytes wait for the engine", self.report.waiting));
        }
        Ok(())
    }

    /// Waits until each client has heard from each publisher on another node, in each topic.
    fn wait_until_heard(&mut self, since: Instant) -> Result<(), String> {
        loop {
            let missing = self.clients.iter().find_map(|client| {
                let mut wanted: BTreeMap<(String, String), ()> = BTreeMap::new();
                for node in self.nodes.iter().filter(|node| node.name != client.node) {
                    for number in 0..crate::node::LOOPS {
                        for topic in TOPICS {
                            let publisher = format!("{}.{number}", node.name);
                            wanted.insert((publisher, topic.to_owned()), ());
                        }
                    }
                }
                let heard = client.heard();
                for one in heard.iter().rev().take_while(|one| one.at >= since) {
                    if let What::Message(publisher, _) = &one.what {
                        wanted.remove(&(publisher.clone(), one.topic.clone()));
                    }
                }
                let (first, ()) = wanted.pop_first()?;
                Some((client.node.clone(), first))
            });
            let Some((node, (publisher, topic))) = missing else {
                return Ok(());
            };
            self.measure()?;
            if since.elapsed() > PATIENCE {
                return Err(format!(
                    "a client of {node} hears nothing of {publisher} in {topic}"
                ));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the publishers, and checks everything that the clients have heard.
    ///
    /// # Errors
    ///
    /// Returns what is wrong.
    pub fn finish(mut self) -> Result<Report, String> {
        for node in &mut self.nodes {
            node.tell("rate 0")?;
        }
        thread::sleep(Duration::from_millis(50));
        let mut counts = Counts::new();
        for node in &mut self.nodes {
            node.counts(&mut counts)?;
        }
        let due = Instant::now() + PATIENCE;
        loop {
            let mut sums = Sums::default();
            let mut error = Ok(());
            for client in &self.clients {
                let heard = client.heard().clone();
                match checker::check(&client.node, &heard, Some(&counts)) {
                    Ok(own) => sums.add(&own),
                    Err(wrong) => error = Err(wrong),
                }
            }
            match error {
                Ok(()) => {
                    self.report.sums.add(&sums);
                    break;
                }
                Err(error) if Instant::now() > due => {
                    for node in &mut self.nodes {
                        let stats = node.ask("stats").unwrap_or_default();
                        log::error!("{}: {stats}", node.name);
                    }
                    return Err(error);
                }
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
        self.measure()?;
        if let Some(roamer) = self.roamer.take() {
            let (heard, recovered) = roamer.finish();
            checker::check_roamer(&heard).map_err(|error| format!("roamer: {error}"))?;
            self.report.recovered = recovered;
        }
        Ok(self.report)
    }
}

fn text(error: impl fmt::Display) -> String {
    error.to_string()
}

/// Returns an error of the operating system as one of a trial.
///
/// # Errors
///
/// Returns the error, if it is one.
pub fn as_text<T>(result: io::Result<T>) -> Result<T, String> {
    result.map_err(text)
}

/// Messages a second of each loop in each topic.
const RATE: u32 = 25;

/// The most bytes that may wait for the engine in a node.
const MAX_WAITING: usize = 4 << 20;

/// The most memory of a node.
const MEMORY_MAX: usize = 300 << 20;

/// After this time something does not happen any more.
const PATIENCE: Duration = Duration::from_secs(30);
