//! The server listens on sockets that its process inherited, in a separate process
//! (sd_listen_fds(3)).
//!
//! The process runs this program again. A shell starts it, puts the sockets in place, and sets
//! `LISTEN_PID`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, ChildStderr, Command, Stdio};

use socket2::{Domain, Socket, Type};

use crate::support;
use crate::support::Client;
use crate::support::temp::TempDir;
use wsloop::{Builder, Loops, Place, Server};

/// The places on which the process listens: names separated by commas, `*` for all.
const PLACES: &str = "WSLOOP_TEST_PLACES";

/// How many loops share the sockets; one server without it.
const LOOPS: &str = "WSLOOP_TEST_LOOPS";

/// The directory with the certificate, if the process uses TLS.
#[cfg(feature = "tls")]
const CERTIFICATE: &str = "WSLOOP_TEST_CERTIFICATE";

/// The code of the process: it serves, and prints on standard error where it listens, or why it
/// does not.
#[test]
#[ignore = "it is the process that the others start"]
fn the_process() {
    let Ok(places) = env::var(PLACES) else {
        return;
    };
    if let Ok(count) = env::var(LOOPS) {
        return serve_on_loops(count.parse().unwrap(), places);
    }
    let mut server = match builder(&places).build() {
        Ok(server) => server,
        Err(error) => return eprintln!("refused: {error}"),
    };
    for listener in server.listeners() {
        eprintln!("listening on {listener}");
    }
    let left = ["LISTEN_FDS", "LISTEN_PID"].map(|name| env::var_os(name).is_some());
    eprintln!("left in the environment: {left:?}");
    match Server::builder().listen_inherited().build() {
        Ok(other) => eprintln!("again: listening on {}", other.listeners().next().unwrap()),
        Err(error) => eprintln!("again: {error}"),
    }
    server.start().unwrap();
}

fn builder(places: &str) -> Builder {
    let builder = places.split(',').fold(Server::builder(), |builder, name| {
        builder.listener(tls(match name {
            "*" => Place::all_inherited(),
            name => Place::inherited(name),
        }))
    });
    support::echo(builder)
}

/// Serves on several loops, and prints how many sockets each of them has, and how many there are.
fn serve_on_loops(count: usize, places: String) {
    let loops = match Loops::new(count, move |_| builder(&places)).spawn() {
        Ok(loops) => loops,
        Err(error) => return eprintln!("refused: {error}"),
    };
    let of_each = loops.handle().each().iter();
    let of_each: Vec<usize> = of_each
        .map(|handle| handle.listeners().unwrap().recv().unwrap().unwrap().len())
        .collect();
    let all = loops.handle().listeners().unwrap().len();
    eprintln!("sockets: {of_each:?} of {all}");
    loops.join().unwrap();
}

#[cfg(feature = "tls")]
fn tls(place: Place) -> Place {
    let Some(dir) = env::var_os(CERTIFICATE) else {
        return place;
    };
    let file = |name| std::path::Path::new(&dir).join(name);
    place.tls(wsloop::config_from_pem(file("chain.pem"), file("key.pem")).unwrap())
}

#[cfg(not(feature = "tls"))]
fn tls(place: Place) -> Place {
    place
}

/// The process. It is killed when this is dropped.
struct Process {
    child: Child,
    said: BufReader<ChildStderr>,
}

impl Process {
    /// Starts the process with the sockets as descriptors 3 and 4, and with these variables.
    fn start(places: &str, sockets: Vec<OwnedFd>, vars: &[(&str, &str)]) -> Self {
        const SCRIPT: &str =
            r#"export LISTEN_PID=${AS:-$$}; exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null"#;
        let mut sockets = sockets.into_iter().map(Stdio::from);
        let mut child = Command::new("sh")
            .args(["-c", SCRIPT])
            .arg(env::current_exe().unwrap())
            .args(["--exact", "inherited::the_process"])
            .args(["--ignored", "--nocapture"])
            .env(PLACES, places)
            .envs(vars.iter().copied())
            .stdin(sockets.next().unwrap_or_else(Stdio::null))
            .stdout(sockets.next().unwrap_or_else(Stdio::null))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        Self { child, said }
    }

    #[track_caller]
    fn expect(&mut self, line: &str) {
        let mut said = String::new();
        self.said.read_line(&mut said).unwrap();
        assert_eq!(said.trim_end(), line);
    }

    /// Expects the process to fail with an error that contains these words.
    #[track_caller]
    fn expect_refusal(mut self, named: &str) {
        let mut said = String::new();
        self.said.read_line(&mut said).unwrap();
        assert!(said.starts_with("refused: "), "{said}");
        assert!(said.contains(named), "{said}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tcp() -> (OwnedFd, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    (socket.into(), addr)
}

fn expect_echo<S: Read + Write>(mut client: Client<S>) {
    client.upgrade();
    client.expect_alive();
}

#[test]
fn all_of_them_tcp_and_unix() {
    let dir = TempDir::new();
    let path = dir.path("socket");
    let (socket, addr) = tcp();
    let unix = UnixListener::bind(&path).unwrap();
    // A client that connects before the process starts is served as well.
    let early = Client::connect(addr);
    let mut process = Process::start("*", vec![socket, unix.into()], &[("LISTEN_FDS", "2")]);
    process.expect(&format!("listening on {addr}"));
    process.expect(&format!("listening on unix:{}", path.display()));
    process.expect("left in the environment: [false, false]");
    process.expect("again: cannot listen on inherited sockets: all of them are in use already");
    expect_echo(early);
    expect_echo(Client::connect(addr));
    expect_echo(Client::connect_unix(&path));
    drop(process);
    // The server does not remove a file that it has not created.
    assert!(path.exists());
}

#[test]
fn by_name_in_the_order_of_the_places() {
    let ((one, first), (other, second)) = (tcp(), tcp());
    let vars = [("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "web:admin")];
    let mut process = Process::start("admin,*", vec![one, other], &vars);
    process.expect(&format!("listening on {second}"));
    process.expect(&format!("listening on {first}"));
    expect_echo(Client::connect(first));
    expect_echo(Client::connect(second));
}

#[test]
fn those_of_one_name_leave_the_others() {
    let ((one, first), (other, second)) = (tcp(), tcp());
    let vars = [("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "web:admin")];
    let mut process = Process::start("web", vec![one, other], &vars);
    process.expect(&format!("listening on {first}"));
    process.expect("left in the environment: [false, false]");
    // Another server takes the remaining socket.
    process.expect(&format!("again: listening on {second}"));
    expect_echo(Client::connect(first));
}

#[test]
fn a_name_that_is_not_there_or_taken() {
    let vars = [("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "web")];
    Process::start("chat", vec![tcp().0], &vars)
        .expect_refusal(r#"none has that name; the unused ones are named ["web"]"#);
    Process::start("web,web", vec![tcp().0], &vars).expect_refusal("in use already");
    // Without LISTEN_FDNAMES all sockets have this name.
    let unnamed = [("LISTEN_FDS", "1")];
    Process::start("web", vec![tcp().0], &unnamed).expect_refusal(r#"["unknown"]"#);
    let mut process = Process::start("unknown", vec![tcp().0], &unnamed);
    let mut said = String::new();
    process.said.read_line(&mut said).unwrap();
    assert!(said.starts_with("listening on 127.0.0.1:"), "{said}");
}

#[test]
fn none_or_those_of_another_process() {
    Process::start("*", vec![tcp().0], &[]).expect_refusal("LISTEN_FDS is not set");
    let another = [("LISTEN_FDS", "1"), ("AS", "1")];
    Process::start("*", vec![tcp().0], &another).expect_refusal("LISTEN_PID is 1, but this");
}

#[test]
fn what_does_not_listen_is_refused() {
    let vars = [("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "web")];
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    Process::start("*", vec![datagrams.into()], &vars)
        .expect_refusal(r#"socket 0, named "web", is not a TCP or Unix stream socket"#);
    // A connection, as inetd passes it.
    let (_socket, addr) = tcp();
    let connected = TcpStream::connect(addr).unwrap();
    Process::start("*", vec![connected.into()], &vars).expect_refusal("is not listening");
    let (one, _other) = UnixStream::pair().unwrap();
    Process::start("*", vec![one.into()], &vars).expect_refusal("is not listening");
    // Descriptor 3 is not a socket, and 5 is closed.
    Process::start("*", vec![], &vars).expect_refusal("is not a TCP or Unix stream socket");
    let sockets = vec![tcp().0, tcp().0];
    Process::start("*", sockets, &[("LISTEN_FDS", "3")]).expect_refusal("socket 2, named");
}

/// Listens so often on one address, as several loops do.
fn shared(count: usize) -> (Vec<OwnedFd>, SocketAddr) {
    let mut addr = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut sockets = Vec::new();
    for _ in 0..count {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&addr.into()).unwrap();
        socket.listen(128).unwrap();
        addr = socket.local_addr().unwrap().as_socket().unwrap();
        sockets.push(socket.into());
    }
    (sockets, addr)
}

#[test]
fn loops_share_out_what_they_inherit() {
    // The loops of the predecessor, those of the successor, and the sockets of each.
    for (before, after, each) in [
        (1, 1, "[1] of 1"),
        (1, 2, "[1, 1] of 1"),
        (2, 1, "[2] of 2"),
        (2, 2, "[1, 1] of 2"),
        (2, 3, "[1, 1, 1] of 2"),
    ] {
        let (sockets, addr) = shared(before);
        // These clients wait in the queues of all sockets.
        let waiting: Vec<Client> = (0..50).map(|_| Client::connect(addr)).collect();
        let (fds, loops) = (before.to_string(), after.to_string());
        let vars = [("LISTEN_FDS", &*fds), (LOOPS, &*loops)];
        let mut process = Process::start("*", sockets, &vars);
        process.expect(&format!("sockets: {each}"));
        for client in waiting {
            expect_echo(client);
        }
    }
}

#[test]
fn loops_share_each_inherited_address() {
    let dir = TempDir::new();
    let path = dir.path("socket");
    let unix = UnixListener::bind(&path).unwrap();
    let (socket, addr) = tcp();
    let vars = [("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "web:local")];
    for places in ["*", "web,local", "local,*"] {
        let sockets = vec![
            socket.try_clone().unwrap(),
            unix.try_clone().unwrap().into(),
        ];
        let vars = [vars[0], vars[1], (LOOPS, "2")];
        let mut process = Process::start(places, sockets, &vars);
        process.expect("sockets: [2, 2] of 2");
        for _ in 0..10 {
            expect_echo(Client::connect(addr));
            expect_echo(Client::connect_unix(&path));
        }
    }
    let vars = [vars[0], vars[1], (LOOPS, "2")];
    Process::start("web,chat", vec![socket, unix.into()], &vars)
        .expect_refusal("none has that name");
}

#[test]
#[cfg(feature = "tls")]
fn with_tls() {
    let dir = TempDir::new();
    let identity = support::tls::Identity::in_files(&dir);
    let (socket, addr) = tcp();
    let path = dir.path("");
    let vars = [("LISTEN_FDS", "1"), (CERTIFICATE, path.to_str().unwrap())];
    let mut process = Process::start("unknown", vec![socket], &vars);
    process.expect(&format!("listening on {addr}"));
    expect_echo(identity.connect(addr));
}
