//! However much one client sends, the server serves other clients in between, and loses nothing.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Client, PATIENCE, REQUEST, Running, frame};
use wsloop::event::{Binary, Ready, Utf8};
use wsloop::{Builder, Server};

/// A server that the test runs turn by turn, with counters.
struct Turned {
    server: Server,
    addr: SocketAddr,
    ready: Rc<Cell<usize>>,
    /// Binary messages, sent by the flooding client.
    flood: Rc<Cell<usize>>,
    /// Text messages, sent by the polite client.
    polite: Rc<Cell<usize>>,
    began: Instant,
}

impl Turned {
    fn new(configure: impl FnOnce(Builder) -> Builder) -> Self {
        let counts: [Rc<Cell<usize>>; 3] = Default::default();
        let [ready, flood, polite] = counts.clone();
        let count = |cell: &Rc<Cell<usize>>| cell.set(cell.get() + 1);
        let builder = Server::builder()
            .listen("127.0.0.1:0")
            .on(Ready, move |_, ()| count(&ready))
            .on(Binary, move |_, _| count(&flood))
            .on(Utf8, move |conn, text| {
                count(&polite);
                conn.send_utf8(text)
            });
        let server = configure(builder).build().expect("it can be built");
        let addr = server.local_addr().expect("it listens");
        let [ready, flood, polite] = counts;
        Self {
            server,
            addr,
            ready,
            flood,
            polite,
            began: Instant::now(),
        }
    }

    fn turn(&mut self) {
        assert!(self.began.elapsed() < PATIENCE, "it goes on");
        let running = self.server.turn(Some(Duration::from_millis(20)));
        assert!(running.expect("it runs"));
    }

    fn client(&mut self) -> Client {
        let mut client = Client::connect(self.addr);
        client.send_raw(REQUEST);
        let before = self.ready.get();
        while self.ready.get() == before {
            self.turn();
        }
        assert_eq!(client.response().status, 101);
        client
    }
}

#[test]
fn a_flood_of_messages_gets_its_share_of_a_turn() {
    const SHARE: usize = 16;
    let mut turned = Turned::new(|builder| builder.turn_bytes(1 << 20).turn_messages(SHARE));
    let mut flooder = turned.client();
    let mut polite = turned.client();
    let count = 8000;
    flooder.send_raw(frame(0x82, b"x").repeat(count));
    polite.send_text("please");
    let mut turns = 0;
    while turned.polite.get() == 0 {
        turned.turn();
        turns += 1;
    }
    assert!(turns <= 2, "served after {turns} turns");
    assert!(turned.flood.get() <= turns * SHARE);
    polite.expect_text("please");
    while turned.flood.get() < count {
        let before = turned.flood.get();
        turned.turn();
        assert!(turned.flood.get() - before <= SHARE);
        // All messages have already arrived, so no turn waits.
        assert!(turned.flood.get() > before);
    }
    // No message is delivered twice.
    flooder.send_text("done");
    while turned.polite.get() == 1 {
        turned.turn();
    }
    flooder.expect_text("done");
    assert_eq!(turned.flood.get(), count);
}

#[test]
fn control_frames_count_like_messages() {
    let mut turned = Turned::new(|builder| builder.turn_bytes(1 << 20).turn_messages(8));
    let mut flooder = turned.client();
    let mut polite = turned.client();
    flooder.send_raw([frame(0x89, b"x").repeat(4000), frame(0x82, b"x")].concat());
    for _ in 0..10 {
        let before = turned.polite.get();
        polite.send_text("please");
        turned.turn();
        turned.turn();
        assert_eq!(turned.polite.get(), before + 1);
        polite.expect_text("please");
    }
    assert_eq!(turned.flood.get(), 0, "the pings are not through");
    while turned.flood.get() == 0 {
        turned.turn();
    }
    for _ in 0..4000 {
        flooder.expect_frame(0x8a, "x");
    }
}

#[test]
fn a_flood_of_bytes_gets_its_share_of_a_turn() {
    const SIZE: usize = 10_000;
    const BUFFER: usize = 32 << 10;
    let mut turned = Turned::new(|builder| {
        builder
            .turn_bytes(64 << 10)
            .turn_messages(usize::MAX)
            .read_buffer(BUFFER)
    });
    let mut flooder = turned.client();
    let mut polite = turned.client();
    let count = 1000;
    let mut writer = Client::over(flooder.stream.try_clone().expect("a second descriptor"));
    let writing =
        std::thread::spawn(move || writer.send_raw(frame(0x82, &[7; SIZE]).repeat(count)));
    let mut answered = 0;
    while turned.flood.get() < count {
        polite.send_text("please");
        let before = turned.flood.get();
        turned.turn();
        turned.turn();
        // Two shares, plus the rest of the last read in each.
        assert!((turned.flood.get() - before) * SIZE <= 2 * (96 << 10) + SIZE);
        answered += 1;
        assert_eq!(turned.polite.get(), answered);
        polite.expect_text("please");
    }
    writing.join().expect("everything was taken");
    flooder.send_text("done");
    while turned.polite.get() == answered {
        turned.turn();
    }
    flooder.expect_text("done");
    assert_eq!(turned.flood.get(), count);
}

#[test]
fn a_crowd_at_the_door_does_not_keep_others_from_being_served() {
    let mut turned = Turned::new(|builder| builder.turn_accepts(4));
    let mut polite = turned.client();
    let crowd: Vec<Client> = (0..40).map(|_| Client::connect(turned.addr)).collect();
    let before = turned.server.stats().accepted;
    let mut turns = 0;
    while turned.server.stats().accepted < before + crowd.len() as u64 {
        let accepted = turned.server.stats().accepted;
        polite.send_text("please");
        turned.turn();
        assert!(turned.server.stats().accepted - accepted <= 4);
        turns += 1;
        assert_eq!(turned.polite.get(), turns);
        polite.expect_text("please");
    }
    assert!(turns >= 10);
}

#[test]
fn many_floods_at_once_and_a_polite_client() {
    let server = Running::start(|builder| {
        builder
            .turn_bytes(16 << 10)
            .turn_messages(16)
            .on(Binary, |conn, _| *conn.data::<u64>() += 1)
            .on(Utf8, |conn, text| {
                let count = *conn.data::<u64>();
                conn.send_utf8(&format!("{text} {count}"))
            })
    });
    let stop = Arc::new(AtomicBool::new(false));
    let flood = |mut client: Client| {
        let stop = stop.clone();
        std::thread::spawn(move || {
            let mut sent = 0;
            let some = frame(0x82, b"0123456789").repeat(100);
            while !stop.load(Ordering::Relaxed) {
                client.send_raw(&some);
                sent += 100;
            }
            client.send_text("count");
            client.expect_text(&format!("count {sent}"));
        })
    };
    let floods = [
        flood(server.ready()),
        flood(server.ready()),
        flood(server.ready()),
    ];
    let mut polite = server.ready();
    for _ in 0..100 {
        polite.send_text("please");
        polite.expect_text("please 0");
    }
    // New clients are accepted as well.
    for _ in 0..10 {
        server.ready();
    }
    stop.store(true, Ordering::Relaxed);
    for flood in floods {
        flood.join().expect("nothing of the flood is lost");
    }
}
