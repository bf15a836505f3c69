//! A server on its own thread, which tests and programs start with `Server::spawn`.

use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};

use wsloop::event::{Start, Utf8};
use wsloop::{BuildError, Builder, Error, Server};

use crate::support::{Client, echo};

fn listening() -> Builder {
    echo(Server::builder().listen("127.0.0.1:0"))
}

#[test]
fn it_listens_when_it_is_returned_and_counts_until_it_is_shut_down() {
    let server = Server::spawn(listening).expect("it is built");
    let addr = server.local_addrs()[0];
    let mut client = Client::connect(addr);
    client.upgrade();
    client.expect_alive();
    client.send_close(1000, "");
    client.expect_close(1000);
    let stats = server.shutdown().expect("it ran");
    assert_eq!((stats.accepted, stats.messages_in), (1, 1));
    TcpStream::connect(addr).expect_err("nobody listens any more");
}

#[test]
fn it_ends_when_it_is_dropped() {
    let server = Server::spawn(listening).expect("it is built");
    let (addr, handle) = (server.local_addrs()[0], server.handle().clone());
    drop(server);
    TcpStream::connect(addr).expect_err("nobody listens any more");
    handle.shutdown().expect_err("it has ended");
}

#[test]
fn one_that_ends_by_itself_is_waited_for() {
    let server = Server::spawn(|| {
        listening().on(Utf8, |conn, text| {
            if text == "end" {
                conn.server().shutdown();
            }
        })
    });
    let server = server.expect("it is built");
    let mut client = Client::connect(server.local_addrs()[0]);
    client.upgrade();
    client.send_text("end");
    client.expect_close(1001);
    client.send_close(1001, "");
    assert_eq!(server.join().expect("it ran").messages_in, 1);
    // The server ends before the call of `shutdown`.
    let server = Server::spawn(|| listening().on(Start, |hub, ()| hub.shutdown()));
    let stats = server.expect("it is built").shutdown().expect("it ran");
    assert_eq!(stats.accepted, 0);
}

#[test]
fn what_cannot_be_built_is_an_error_and_a_panic_goes_on() {
    let error = Server::spawn(Server::builder).expect_err("it has no listener");
    assert!(
        matches!(error, Error::Build(BuildError::NoListener)),
        "{error}"
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = taken.local_addr().expect("it is bound");
    let error = Server::spawn(move || Server::builder().listen(addr)).expect_err("it is taken");
    assert!(error.to_string().contains(&addr.to_string()), "{error}");
    let panics = || Server::spawn(|| panic!("no settings"));
    let panic = catch_unwind(AssertUnwindSafe(panics)).expect_err("it panics");
    assert_eq!(panic.downcast_ref(), Some(&"no settings"));
}
