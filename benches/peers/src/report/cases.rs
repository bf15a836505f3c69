//! The measured cases.

use super::peers::{BUN, Peer, RAW, SOCKETIO, UWS, Variant, WSLOOP};
use super::process::EngineKind;

/// A case: the options of the servers and of the load generator, and the figure of interest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    /// The name on the command line and in the results.
    pub(super) id: &'static str,
    /// The name in the report.
    pub(super) title: &'static str,
    /// The options of the load generator, without the duration.
    pub(super) load: &'static str,
    /// A second load on a fresh server in the same round, for comparison with the first.
    pub(super) companion: Option<Companion>,
    /// The figure of interest.
    pub(super) figure: Figure,
    /// The basis of the ratio.
    pub(super) basis: Basis,
    /// The configuration of the servers.
    pub(super) server: Ask,
    /// Whether the case is part of the smoke test.
    pub(super) smoke: bool,
    /// The name of one message in the report.
    pub(super) unit: &'static str,
}

/// A load to compare with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Companion {
    /// The name in the report.
    pub(super) title: &'static str,
    /// The options of the load generator, without the duration.
    pub(super) load: &'static str,
    /// The configuration of the servers, if it is another one.
    pub(super) server: Option<Ask>,
}

/// A part of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// One loop in one process.
    OneLoop,
    /// Several loops in one process.
    Loops,
    /// Several processes that an engine connects.
    Engines,
}

/// The figure of interest of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Figure {
    /// The server's CPU time per message.
    Cpu,
    /// The CPU time, compared with that of the companion load.
    CpuOfCompanion,
    /// The latency of replies.
    Latency,
    /// The resident memory of a connection, in bytes.
    Memory,
    /// The resident memory of a subscription, in bytes.
    Subscription,
    /// The latency near the publisher and far from it.
    Sides,
    /// The CPU time of each process per published message.
    Processes,
}

/// The peer whose figure others are divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Basis {
    /// The bare TCP echo.
    Raw,
    /// uWebSockets, in cases that a bare echo cannot do.
    Uws,
    /// Socket.IO, in cases with several processes.
    SocketIo,
}

/// The configuration of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Echoes.
    Echo,
    /// Echoes of large messages: raw and wsloop read 512 KiB at a time.
    LargeEcho,
    /// Echoes over TLS.
    Tls,
    /// Messages to all clients.
    Broadcast,
    /// Messages to the subscribers of a topic.
    Topics,
    /// Messages to the subscribers of a topic. wsloop sends slow ones only the latest by key.
    TopicsConflate,
    /// Compressed messages to the subscribers of a topic, without context takeover.
    TopicsDeflateShared,
    /// Compressed echoes, without context takeover.
    DeflateShared,
    /// Compressed echoes, with context takeover.
    DeflateDedicated,
    /// Echoes by two loops.
    EchoLoops,
    /// Messages to the subscribers of a topic, by one loop, which greets its clients.
    TopicsGreet,
    /// Messages to the subscribers of a topic on two loops.
    TopicsLoops,
    /// Messages to the subscribers of a topic in two processes.
    TopicsEngine(EngineKind),
}

const ECHO: Case = Case {
    id: "",
    title: "",
    load: "",
    companion: None,
    figure: Figure::Cpu,
    basis: Basis::Raw,
    server: Ask::Echo,
    smoke: false,
    unit: "message",
};

const fn echo(id: &'static str, title: &'static str, load: &'static str) -> Case {
    Case {
        id,
        title,
        load,
        ..ECHO
    }
}

const fn large(id: &'static str, title: &'static str, load: &'static str) -> Case {
    Case {
        server: Ask::LargeEcho,
        ..echo(id, title, load)
    }
}

const fn against_uws(ask: Ask, case: Case) -> Case {
    Case {
        server: ask,
        basis: Basis::Uws,
        ..case
    }
}

const fn topics(id: &'static str, title: &'static str, load: &'static str) -> Case {
    unit("delivery", against_uws(Ask::Topics, echo(id, title, load)))
}

/// Two loops, compared with another load or with one loop.
const fn loops(
    id: &'static str,
    title: &'static str,
    load: &'static str,
    companion: Companion,
) -> Case {
    Case {
        server: Ask::TopicsLoops,
        companion: Some(companion),
        ..figure(Figure::CpuOfCompanion, topics(id, title, load))
    }
}

const fn same_loop(load: &'static str) -> Companion {
    Companion {
        title: "same loop",
        load,
        server: None,
    }
}

const fn one_loop(load: &'static str, server: Ask) -> Companion {
    Companion {
        title: "one loop",
        load,
        server: Some(server),
    }
}

/// Two processes and an engine, at a rate if `rate`, otherwise as fast as possible.
const fn engine(
    kind: EngineKind,
    figure: Figure,
    id: &'static str,
    title: &'static str,
    load: &'static str,
) -> Case {
    Case {
        server: Ask::TopicsEngine(kind),
        basis: Basis::SocketIo,
        figure,
        ..echo(id, title, load)
    }
}

const fn redis(figure: Figure, id: &'static str, title: &'static str, load: &'static str) -> Case {
    engine(EngineKind::Redis, figure, id, title, load)
}

const fn nats(figure: Figure, id: &'static str, title: &'static str, load: &'static str) -> Case {
    engine(EngineKind::Nats, figure, id, title, load)
}

const fn figure(figure: Figure, case: Case) -> Case {
    Case { figure, ..case }
}

const fn unit(unit: &'static str, case: Case) -> Case {
    Case { unit, ..case }
}

const fn smoke(case: Case) -> Case {
    Case {
        smoke: true,
        ..case
    }
}

/// All cases, in the order of the report.
pub(super) const CASES: &[Case] = &[
    smoke(echo(
        "echo-20-text",
        "Echo of 20 B text, 64 connections",
        "--spin --size 20",
    )),
    echo(
        "echo-125-binary",
        "Echo of 125 B binary, 64 connections",
        "--spin --size 125 --kind binary",
    ),
    echo(
        "echo-1k-text",
        "Echo of 1 KiB text, 64 connections",
        "--spin --size 1024",
    ),
    echo(
        "echo-16k-binary",
        "Echo of 16 KiB binary, 64 connections",
        "--spin --size 16384 --kind binary",
    ),
    smoke(large(
        "echo-64k-text",
        "Echo of 64 KiB ASCII text, 64 connections",
        "--spin --size 65536",
    )),
    large(
        "echo-64k-utf8",
        "Echo of 64 KiB text, mostly multi-byte, 64 connections",
        "--spin --size 65536 --kind utf8",
    ),
    large(
        "echo-1m-binary",
        "Echo of 1 MiB binary, 8 connections",
        "--spin --size 1048576 --kind binary --connections 8",
    ),
    large(
        "echo-1m-text",
        "Echo of 1 MiB ASCII text, 8 connections",
        "--spin --size 1048576 --connections 8",
    ),
    smoke(echo(
        "pipelined-32",
        "Pipelined: 32 B text, 16 at once, 64 connections",
        "--spin --size 32 --depth 16",
    )),
    echo(
        "many-500",
        "Echo of 20 B text, 500 connections",
        "--spin --size 20 --connections 500",
    ),
    Case {
        companion: Some(Companion {
            title: "64 open",
            load: "--spin --size 20",
            server: None,
        }),
        ..figure(
            Figure::CpuOfCompanion,
            echo(
                "idle-10k-active-64",
                "Echo of 20 B text, 64 connections active of 10,064 open",
                "--spin --size 20 --idle 10000",
            ),
        )
    },
    figure(
        Figure::Latency,
        echo(
            "latency-1",
            "Latency of 32 B, 1 connection, a client that sleeps",
            "--size 32 --connections 1",
        ),
    ),
    smoke(figure(
        Figure::Latency,
        echo(
            "latency-1-rate",
            "Latency of 32 B, 1 connection, 5,000 messages a second",
            "--size 32 --connections 1 --rate 5000",
        ),
    )),
    figure(
        Figure::Latency,
        echo(
            "latency-64-rate",
            "Latency of 32 B, 64 connections, half of what the bare echo can do",
            "--size 32 --rate HALF",
        ),
    ),
    smoke(figure(
        Figure::Memory,
        echo(
            "idle-plain",
            "Memory of 10,000 idle connections",
            "--mode idle --connections 10000",
        ),
    )),
    figure(
        Figure::Memory,
        against_uws(
            Ask::Tls,
            echo(
                "idle-tls",
                "Memory of 5,000 idle connections with TLS",
                "--mode idle --connections 5000",
            ),
        ),
    ),
    smoke(unit(
        "handshake",
        against_uws(
            Ask::Echo,
            echo(
                "handshake",
                "Opening and closing handshakes, 32 at a time",
                "--spin --mode handshake --connections 32",
            ),
        ),
    )),
    unit(
        "handshake",
        against_uws(
            Ask::Tls,
            echo(
                "handshake-tls",
                "Opening and closing handshakes with TLS, 32 at a time",
                "--spin --mode handshake --connections 32",
            ),
        ),
    ),
    smoke(against_uws(
        Ask::Tls,
        echo(
            "tls-1k-text",
            "TLS echo of 1 KiB text, 64 connections",
            "--spin --size 1024",
        ),
    )),
    against_uws(
        Ask::Tls,
        echo(
            "tls-16k-text",
            "TLS echo of 16 KiB text, 64 connections",
            "--spin --size 16384",
        ),
    ),
    unit(
        "delivery",
        against_uws(
            Ask::Broadcast,
            echo(
                "broadcast-64-depth-1",
                "Broadcast of 64 B text to 1,000 clients",
                "--spin --mode broadcast --size 64 --connections 1000",
            ),
        ),
    ),
    smoke(unit(
        "delivery",
        against_uws(
            Ask::Broadcast,
            echo(
                "broadcast-64-depth-16",
                "Broadcast of 64 B text to 1,000 clients, 16 at once",
                "--spin --mode broadcast --size 64 --connections 1000 --depth 16",
            ),
        ),
    )),
    topics(
        "topic-64-depth-1",
        "Publish of 64 B text to a topic with 1,000 subscribers",
        "--spin --mode topics --size 64 --connections 1000",
    ),
    smoke(topics(
        "topic-64-depth-16",
        "Publish of 64 B text to a topic with 1,000 subscribers, 16 at once",
        "--spin --mode topics --size 64 --connections 1000 --depth 16",
    )),
    topics(
        "topic-1k-depth-16",
        "Publish of 1 KiB text to a topic with 1,000 subscribers, 16 at once",
        "--spin --mode topics --size 1024 --connections 1000 --depth 16",
    ),
    smoke(topics(
        "topics-8-depth-16",
        "Publish of 64 B text to random topics out of 100, 16 at once; 1,000 clients, each in 8 topics",
        "--spin --mode topics --size 64 --connections 1000 --depth 16 --topics 100 --each 8",
    )),
    smoke(Case {
        server: Ask::TopicsDeflateShared,
        ..topics(
            "topics-8-depth-16-deflate-shared",
            "The same with 1 KiB JSON, compressed without context",
            "--spin --mode topics --size 1024 --kind json --deflate shared --connections 1000 \
             --depth 16 --topics 100 --each 8",
        )
    }),
    figure(
        Figure::Latency,
        topics(
            "topic-rate-100",
            "Latency of 64 B to a topic with 1,000 subscribers, 100 messages a second",
            "--mode topics --size 64 --connections 1000 --rate 100",
        ),
    ),
    smoke(figure(
        Figure::Latency,
        topics(
            "topic-rate-1000",
            "Latency of 64 B to a topic with 1,000 subscribers, 1,000 messages a second",
            "--mode topics --size 64 --connections 1000 --rate 1000",
        ),
    )),
    smoke(Case {
        server: Ask::TopicsConflate,
        companion: Some(Companion {
            title: "none slow",
            load: "--spin --mode topics --size 256 --connections 990 --depth 16 --keys 100",
            server: None,
        }),
        ..figure(
            Figure::CpuOfCompanion,
            topics(
                "topic-slow-10",
                "Publish of 256 B text with 100 keys to 990 subscribers, 16 at once, and to 10 that \
                 do not read",
                "--spin --mode topics --size 256 --connections 990 --depth 16 --keys 100 --slow 10",
            ),
        )
    }),
    smoke(figure(
        Figure::Subscription,
        topics(
            "subscriptions",
            "Memory of 300,000 subscriptions: 5,000 connections, each in 60 topics out of 1,000",
            "--mode subscriptions --connections 5000 --topics 1000 --each 60",
        ),
    )),
    against_uws(
        Ask::DeflateShared,
        echo(
            "deflate-1k-shared",
            "Compressed echo of 1 KiB JSON, no context kept, 64 connections",
            "--spin --size 1024 --kind json --deflate shared",
        ),
    ),
    against_uws(
        Ask::DeflateDedicated,
        echo(
            "deflate-1k-dedicated",
            "Compressed echo of 1 KiB JSON, context kept, 64 connections",
            "--spin --size 1024 --kind json --deflate dedicated",
        ),
    ),
    figure(
        Figure::Memory,
        against_uws(
            Ask::DeflateShared,
            echo(
                "idle-deflate-shared",
                "Memory of 5,000 idle connections with compression, no context kept",
                "--mode idle --connections 5000 --size 1024 --kind json --deflate shared",
            ),
        ),
    ),
    figure(
        Figure::Memory,
        against_uws(
            Ask::DeflateDedicated,
            echo(
                "idle-deflate-dedicated",
                "Memory of 1,000 idle connections with compression, context kept",
                "--mode idle --connections 1000 --size 1024 --kind json --deflate dedicated",
            ),
        ),
    ),
    smoke(Case {
        companion: Some(one_loop("--spin --size 20", Ask::Echo)),
        ..figure(
            Figure::CpuOfCompanion,
            against_uws(
                Ask::EchoLoops,
                echo(
                    "loops-echo-20",
                    "Two loops: echo of 20 B text, 64 connections",
                    "--spin --size 20",
                ),
            ),
        )
    }),
    smoke(loops(
        "loops-topic-far",
        "Two loops: publish of 64 B text to a topic with 1,000 subscribers on the other loop",
        "--spin --mode topics --size 64 --connections 1000 --place far",
        same_loop("--spin --mode topics --size 64 --connections 1000 --place near"),
    )),
    loops(
        "loops-topic-far-depth-16",
        "The same, 16 at once",
        "--spin --mode topics --size 64 --connections 1000 --depth 16 --place far",
        same_loop("--spin --mode topics --size 64 --connections 1000 --depth 16 --place near"),
    ),
    loops(
        "loops-topic-far-20",
        "Two loops: publish of 64 B text to a topic with 20 subscribers on the other loop",
        "--spin --mode topics --size 64 --connections 20 --place far",
        same_loop("--spin --mode topics --size 64 --connections 20 --place near"),
    ),
    loops(
        "loops-topic-both",
        "Two loops: publish of 64 B text to a topic with 500 subscribers on each",
        "--spin --mode topics --size 64 --connections 1000 --place both",
        one_loop(
            "--spin --mode topics --size 64 --connections 1000 --place near",
            Ask::TopicsGreet,
        ),
    ),
    smoke(Case {
        server: Ask::TopicsLoops,
        ..figure(
            Figure::Sides,
            topics(
                "loops-topic-rate",
                "Two loops: latency of 64 B to a topic with 50 subscribers on each, 1,000 messages a \
                 second",
                "--mode topics --size 64 --connections 100 --place both --rate 1000",
            ),
        )
    }),
    redis(
        Figure::Sides,
        "redis-1-rate",
        "Redis: latency of 64 B, 1 topic, 1,000 messages a second",
        "--mode topics --size 64 --topics 1 --connections 2 --rate 1000",
    ),
    redis(
        Figure::Processes,
        "redis-1-full",
        "Redis: messages of 64 B as fast as possible, 1 topic",
        "--mode topics --size 64 --topics 1 --connections 2 --spin --depth 16 --window 256",
    ),
    smoke(redis(
        Figure::Sides,
        "redis-10-rate",
        "Redis: latency of 64 B, 10 topics, 1,000 messages a second",
        "--mode topics --size 64 --topics 10 --connections 20 --rate 1000",
    )),
    smoke(redis(
        Figure::Processes,
        "redis-10-full",
        "Redis: messages of 64 B as fast as possible, 10 topics",
        "--mode topics --size 64 --topics 10 --connections 20 --spin --depth 16 --window 256",
    )),
    redis(
        Figure::Sides,
        "redis-1000-rate",
        "Redis: latency of 64 B, 1,000 topics, 1,000 messages a second",
        "--mode topics --size 64 --topics 1000 --connections 2000 --rate 1000",
    ),
    redis(
        Figure::Processes,
        "redis-1000-full",
        "Redis: messages of 64 B as fast as possible, 1,000 topics",
        "--mode topics --size 64 --topics 1000 --connections 2000 --spin --depth 16 --window 256",
    ),
    redis(
        Figure::Processes,
        "redis-10-wide-full",
        "Redis: messages of 64 B as fast as possible, 10 topics with 50 subscribers in each process",
        "--mode topics --size 64 --topics 10 --connections 1000 --spin --depth 16 --window 64",
    ),
    nats(
        Figure::Sides,
        "nats-1-rate",
        "NATS: latency of 64 B, 1 topic, 1,000 messages a second",
        "--mode topics --size 64 --topics 1 --connections 2 --rate 1000",
    ),
    nats(
        Figure::Processes,
        "nats-1-full",
        "NATS: messages of 64 B as fast as possible, 1 topic",
        "--mode topics --size 64 --topics 1 --connections 2 --spin --depth 16 --window 256",
    ),
    smoke(nats(
        Figure::Sides,
        "nats-10-rate",
        "NATS: latency of 64 B, 10 topics, 1,000 messages a second",
        "--mode topics --size 64 --topics 10 --connections 20 --rate 1000",
    )),
    smoke(nats(
        Figure::Processes,
        "nats-10-full",
        "NATS: messages of 64 B as fast as possible, 10 topics",
        "--mode topics --size 64 --topics 10 --connections 20 --spin --depth 16 --window 256",
    )),
    nats(
        Figure::Sides,
        "nats-1000-rate",
        "NATS: latency of 64 B, 1,000 topics, 1,000 messages a second",
        "--mode topics --size 64 --topics 1000 --connections 2000 --rate 1000",
    ),
    nats(
        Figure::Processes,
        "nats-1000-full",
        "NATS: messages of 64 B as fast as possible, 1,000 topics",
        "--mode topics --size 64 --topics 1000 --connections 2000 --spin --depth 16 --window 256",
    ),
    nats(
        Figure::Processes,
        "nats-10-wide-full",
        "NATS: messages of 64 B as fast as possible, 10 topics with 50 subscribers in each process",
        "--mode topics --size 64 --topics 10 --connections 1000 --spin --depth 16 --window 64",
    ),
];

/// Returns the case with a name.
pub(super) fn find(id: &str) -> Option<&'static Case> {
    CASES.iter().find(|case| case.id == id)
}

impl Case {
    /// Returns the case as its companion load is run.
    pub(super) fn with(&self, companion: Companion) -> Self {
        Self {
            load: companion.load,
            server: companion.server.unwrap_or(self.server),
            ..*self
        }
    }

    /// Returns the part of the report that shows the case.
    pub(super) fn part(&self) -> Part {
        match self.server {
            Ask::EchoLoops | Ask::TopicsLoops => Part::Loops,
            Ask::TopicsEngine(_) => Part::Engines,
            _ => Part::OneLoop,
        }
    }

    /// Returns the engine that connects the processes of the case.
    pub(super) fn engine(&self) -> Option<EngineKind> {
        match self.server {
            Ask::TopicsEngine(kind) => Some(kind),
            _ => None,
        }
    }

    /// Returns whether a peer takes part in the case. The peer may still refuse the configuration.
    pub(super) fn includes(&self, peer: &Peer) -> bool {
        let bare = peer.id == RAW || peer.variant == Variant::SmallReads;
        let apart = self.basis == Basis::Uws;
        match peer.variant {
            _ if self.engine() == Some(EngineKind::Redis) => matches!(peer.id, WSLOOP | SOCKETIO),
            _ if self.part() == Part::Engines => peer.id == WSLOOP,
            _ if self.part() == Part::Loops => matches!(peer.id, WSLOOP | UWS),
            _ if peer.id == SOCKETIO => false,
            _ if self.has_topics() => matches!(peer.id, WSLOOP | UWS | BUN),
            Variant::Batched => self.id == "pipelined-32",
            Variant::SmallReads => self.server == Ask::LargeEcho,
            Variant::None => !(bare && apart),
        }
    }

    /// Returns whether the servers need topics, which most peers do not have.
    fn has_topics(&self) -> bool {
        matches!(
            self.server,
            Ask::Topics | Ask::TopicsConflate | Ask::TopicsDeflateShared
        )
    }

    /// Returns the arguments of a peer's server. `certificate` and `key` are for TLS.
    pub(super) fn server_args(&self, peer: &Peer, certificate: &str, key: &str) -> Vec<String> {
        let large_reads = matches!(peer.id, "raw" | "wsloop");
        let line = match self.server {
            Ask::Echo => "",
            Ask::LargeEcho if large_reads => "--read-buffer 524288",
            Ask::LargeEcho => "",
            Ask::Tls => &format!("--tls {certificate} {key}"),
            Ask::Broadcast => "--mode broadcast",
            Ask::TopicsConflate if peer.id == WSLOOP => "--mode topics --conflate",
            Ask::Topics | Ask::TopicsConflate | Ask::TopicsEngine(_) => "--mode topics",
            Ask::TopicsGreet => "--mode topics --greet",
            Ask::TopicsLoops => "--mode topics --greet --loops 2",
            Ask::EchoLoops => "--loops 2",
            Ask::TopicsDeflateShared => "--mode topics --deflate shared",
            Ask::DeflateShared => "--deflate shared",
            Ask::DeflateDedicated => "--deflate dedicated",
        };
        let batched = (peer.variant == Variant::Batched).then_some("--batched");
        let limit = "--max-message 67108864";
        let words = line.split_whitespace().chain(limit.split(' '));
        words.chain(batched).map(String::from).collect()
    }

    /// Returns the arguments of the load generator for a peer.
    pub(super) fn load_args(&self, load: &str, peer: &Peer, certificate: &str) -> Vec<String> {
        let mut args: Vec<_> = load.split_whitespace().map(String::from).collect();
        if self.server == Ask::Tls {
            args.extend(["--tls".into(), certificate.into()]);
        }
        if peer.id == RAW || peer.variant == Variant::SmallReads {
            args.push("--raw".into());
        }
        if peer.id == SOCKETIO {
            args.push("--socketio".into());
        }
        args
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::peers;
    use super::*;

    #[test]
    fn names_are_unique() {
        let names: HashSet<_> = CASES.iter().map(|case| case.id).collect();
        assert_eq!(names.len(), CASES.len());
        let names: HashSet<_> = peers::PEERS.iter().map(|peer| peer.id).collect();
        assert_eq!(names.len(), peers::PEERS.len());
    }

    #[test]
    fn a_bare_echo_knows_no_handshakes() {
        let raw = peers::find(RAW).unwrap();
        assert!(!find("handshake").unwrap().includes(raw));
        assert!(!find("tls-1k-text").unwrap().includes(raw));
        assert!(find("echo-20-text").unwrap().includes(raw));
    }

    #[test]
    fn only_peers_with_topics_take_part_in_their_cases() {
        let case = find("topic-slow-10").unwrap();
        let there = peers::PEERS.iter().filter(|peer| case.includes(peer));
        assert_eq!(there.count(), 3);
        let conflates = |id: &str| {
            let args = case.server_args(peers::find(id).unwrap(), "", "");
            args.contains(&"--conflate".to_owned())
        };
        assert!(conflates(WSLOOP) && !conflates(UWS));
    }

    #[test]
    fn several_loops_and_processes_are_for_those_that_have_them() {
        let there = |case: &str| {
            let case = find(case).unwrap();
            let there = peers::PEERS.iter().filter(|peer| case.includes(peer));
            there.map(|peer| peer.id).collect::<Vec<_>>()
        };
        assert_eq!(there("loops-topic-far"), [WSLOOP, UWS]);
        assert_eq!(there("redis-10-full"), [WSLOOP, SOCKETIO]);
        assert_eq!(there("nats-10-full"), [WSLOOP]);
        assert!(!there("echo-20-text").contains(&SOCKETIO));
    }

    #[test]
    fn variants_run_where_they_matter() {
        let batched = peers::find("yawc-batched").unwrap();
        assert!(find("pipelined-32").unwrap().includes(batched));
        assert!(!find("echo-20-text").unwrap().includes(batched));
        let args = find("pipelined-32").unwrap().server_args(batched, "", "");
        assert!(args.contains(&"--batched".to_owned()));
    }
}
