//! Loops that cannot be built, fail, panic, or end.

use std::io;
use std::net::{TcpListener, TcpStream};

use wsloop::backplane::{Backplane, Inbox, Publish};
use wsloop::{BuildError, Error};

use super::*;

/// Returns an address on which nobody listens.
fn free_addr() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

#[test]
fn a_builder_that_panics_ends_all() {
    for wrong in 0..3 {
        let addr = free_addr();
        let loops = Loops::new(3, move |number| {
            assert!(number != wrong, "no settings for {number}");
            Server::builder().listen(addr)
        });
        let error = loops.run().unwrap_err();
        let Error::LoopPanicked { number, text } = &error else {
            panic!("{error}");
        };
        assert_eq!(*number, wrong);
        assert!(text.contains(&format!("no settings for {wrong}")), "{text}");
        assert!(error.to_string().contains(&**text), "{error}");
        // Nobody listens any more.
        TcpListener::bind(addr).unwrap();
    }
}

#[test]
fn a_loop_that_cannot_be_built_ends_all() {
    for wrong in 0..3 {
        let addr = free_addr();
        let loops = Loops::new(3, move |number| match number == wrong {
            true => Server::builder(),
            false => Server::builder().listen(addr),
        });
        let error = loops.spawn().unwrap_err();
        assert!(
            matches!(error, Error::Build(BuildError::NoListener)),
            "{error}"
        );
        TcpListener::bind(addr).unwrap();
    }
}

#[test]
fn the_places_of_all_loops_have_to_be_the_same() {
    let (one, other) = (free_addr(), free_addr());
    let lists: [&[SocketAddr]; 5] = [&[other], &[one, other], &[], &[other, one], &[one, one]];
    for wrong in lists {
        let firsts = [one, other];
        let firsts = &firsts[..if wrong.len() == 2 { 1 } else { 2 }];
        let (firsts, wrong) = (firsts.to_vec(), wrong.to_vec());
        let loops = Loops::new(2, move |number| {
            let places = [&firsts, &wrong][number];
            let headless = Server::builder().headless(true);
            places
                .iter()
                .fold(headless, |builder, addr| builder.listen(*addr))
        });
        let error = loops.spawn().unwrap_err();
        assert!(
            matches!(error, Error::Build(BuildError::Conflict(_))),
            "{error}"
        );
    }
    let loops = Loops::new(2, move |number| {
        Server::builder().listen([one, other][number])
    });
    let error = loops.spawn().unwrap_err();
    assert!(error.to_string().contains("other places"), "{error}");
}

/// A backplane that panics when it sends a certain message.
struct Bomb(bool);

impl Backplane for Bomb {
    fn start(&mut self, _inbox: Inbox) -> io::Result<()> {
        Ok(())
    }

    fn occupied(&mut self, _topic: &str) {}

    fn vacated(&mut self, _topic: &str) {}

    fn publish(&mut self, publish: &mut Publish<'_>) {
        self.0 = publish.payload() == b"boom";
    }

    fn flush(&mut self) {
        assert!(!self.0, "it went off");
    }
}

#[test]
fn a_loop_that_panics_ends_the_others() {
    for wrong in [0, 1] {
        let loops = two_loops_with(move |number, builder| match number == wrong {
            true => builder.backplane(Bomb(false)),
            false => builder,
        });
        let addr = loops.local_addrs()[0];
        let mut clients = one_of_each(addr);
        clients[wrong].send_text("publish all boom");
        clients[1 - wrong].answer_close(1001);
        // Its own clients are cut.
        clients[wrong].read_to_end();
        let error = loops.join().unwrap_err();
        let Error::LoopPanicked { number, text } = error else {
            panic!("{error}");
        };
        assert_eq!(number, wrong);
        assert!(text.contains("it went off"), "{text}");
        TcpStream::connect(addr).unwrap_err();
    }
}

#[test]
fn a_panic_of_a_handler_stays_within_its_connection() {
    let loops = two_loops();
    let mut clients = crowd(loops.local_addrs()[0], 2);
    for clients in &mut clients {
        clients[0].send_text("panic");
        clients[0].answer_close(1011);
    }
    loops.handle().run(|_, _| panic!("in a closure")).unwrap();
    for client in clients.iter_mut().flat_map(|clients| &mut clients[1..]) {
        settle(client);
    }
    clients
        .into_iter()
        .flat_map(|clients| clients.into_iter().skip(1))
        .for_each(leave);
    loops.shutdown().unwrap();
}

#[test]
fn they_end_when_they_are_dropped() {
    let loops = two_loops();
    let addr = loops.local_addrs()[0];
    let clients = one_of_each(addr);
    let handle = loops.handle().clone();
    let closing: Vec<_> = clients
        .into_iter()
        .map(|mut client| std::thread::spawn(move || client.answer_close(1001)))
        .collect();
    drop(loops);
    closing
        .into_iter()
        .for_each(|one| drop(one.join().unwrap()));
    handle.shutdown().unwrap_err();
    TcpStream::connect(addr).unwrap_err();
}

#[test]
fn a_shutdown_at_the_start_holds_for_all_loops() {
    for number in [0, 1] {
        let loops = two_loops_with(move |own, builder| {
            builder.on(Start, move |hub, ()| {
                if own == number {
                    hub.shutdown();
                }
            })
        });
        loops.join().unwrap();
    }
}

#[test]
fn zero_loops_are_as_many_as_can_run_at_the_same_time() {
    let make = |number| obeying(number, Server::builder().listen("127.0.0.1:0"));
    let loops = Loops::new(0, make).spawn().unwrap();
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(loops.handle().len(), cores);
    assert_eq!(loops.shutdown().unwrap().len(), cores);
    // One loop has its address alone.
    let loops = Loops::new(1, make).spawn().unwrap();
    let addr = loops.local_addrs()[0];
    Server::builder()
        .listen(addr)
        .reuse_port(true)
        .build()
        .unwrap_err();
    assert_eq!(greeted(&mut Client::connect(addr)), 0);
    Loops::new(usize::MAX, make).spawn().unwrap_err();
}
