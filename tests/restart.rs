//! Processes of the example `restart` replace each other under load, while clients connect and
//! disconnect on all of its sockets. No client is refused.
//!
//! `cargo test` builds the examples before it runs this test. So does
//! `cargo test --examples --test restart`, which runs only this test.

#![cfg(target_os = "linux")] // subreapers exist only on Linux
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use support::process::spawn_example;
use support::temp::TempDir;
use support::{Client, PATIENCE};

/// The processes of the example. Those that have not ended are killed when this is dropped.
struct Processes {
    /// The lines of standard error, which all processes share.
    said: Receiver<String>,
    /// The processes that serve or drain, the oldest first.
    alive: Vec<Pid>,
    places: Vec<String>,
}

impl Processes {
    fn start(program: &Path, addresses: &[&str]) -> Self {
        // As a subreaper, this process becomes the parent of orphaned descendants and can wait for
        // them.
        set_child_subreaper(true).unwrap();
        // It is waited for by its number, as all of them.
        let mut command = Command::new(program);
        let (child, said) = spawn_example(command.args(addresses).stdin(Stdio::null()));
        let mut processes = Self {
            said,
            alive: vec![Pid::from_raw(child.id().try_into().unwrap())],
            places: Vec::new(),
        };
        let id = processes.serving();
        assert_eq!(processes.alive, [id]);
        processes
    }

    #[track_caller]
    fn line(&self) -> String {
        self.said.recv_timeout(PATIENCE).expect("it says something")
    }

    /// Waits until a process serves; returns its process id.
    fn serving(&mut self) -> Pid {
        self.places.clear();
        loop {
            let line = self.line();
            if let Some(place) = line.strip_prefix("listening on ") {
                self.places.push(place.to_owned());
            } else {
                let line = line.strip_prefix("process ");
                let id = line.and_then(|line| line.strip_suffix(" serves"));
                return Pid::from_raw(id.expect("process N serves").parse().unwrap());
            }
        }
    }

    /// Waits until the oldest process ends successfully; returns how many connections it drained.
    fn ended(&mut self) -> usize {
        let id = self.alive[0];
        let line = self.line();
        let told = line.strip_prefix(&format!("process {id} ends: "));
        let told = told.unwrap_or_else(|| panic!("process {id} ends, not {line}"));
        let drained = told
            .strip_suffix(" connections in order, 0 cut")
            .expect(told);
        let status = waitpid(id, None).unwrap();
        assert_eq!(status, WaitStatus::Exited(id, 0));
        self.alive.remove(0);
        drained.parse().unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill(*self.alive.last().unwrap(), signal).unwrap();
    }

    /// Replaces the serving process; returns how many connections it drained.
    fn restart(&mut self) -> usize {
        self.signal(Signal::SIGHUP);
        let next = self.serving();
        self.alive.push(next);
        self.ended()
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        // Each process becomes a child of this one when the previous one has ended.
        for id in &self.alive {
            let _ = kill(*id, Signal::SIGKILL);
            let _ = waitpid(*id, None);
        }
    }
}

/// Returns the path of the example: cargo puts it beside the directory of this test.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    profile.join("examples").join("restart")
}

/// The progress of the clients.
#[derive(Default)]
struct Load {
    /// Echoes received.
    echoes: AtomicUsize,
    /// Connections opened by staying clients.
    stay: AtomicUsize,
    enough: AtomicBool,
}

impl Load {
    /// Waits until clients have received `echoes` more echoes, and have opened `stay` staying
    /// connections.
    #[track_caller]
    fn await_more(&self, echoes: usize, stay: usize) {
        let enough = self.echoes.load(Ordering::SeqCst) + echoes;
        let deadline = Instant::now() + PATIENCE;
        while self.echoes.load(Ordering::SeqCst) < enough || self.stay.load(Ordering::SeqCst) < stay
        {
            assert!(Instant::now() < deadline, "the clients go on");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Runs a client that repeatedly connects, exchanges messages and closes. It panics if it is
    /// refused, reset or not answered.
    fn come_and_go<S: Read + Write>(&self, name: usize, connect: impl Fn() -> Client<S>) {
        let mut number = 0;
        while !self.enough.load(Ordering::SeqCst) {
            let mut client = connect();
            client.upgrade();
            let mut open = true;
            for _ in 0..3 {
                let text = format!("{name}: {number}");
                open = self.is_echoed(&mut client, &text);
                if !open {
                    // The text is sent again on the next connection.
                    break;
                }
                number += 1;
            }
            if open {
                client.send_close(1000, "");
                let frame = client.read_frame();
                assert_eq!(frame.first, 0x88, "{frame:?}");
                client.expect_eof();
            }
        }
    }

    /// Runs a client that stays until the server closes it, and reconnects after each restart.
    fn stay<S: Read + Write>(&self, restarts: usize, connect: impl Fn() -> Client<S>) {
        for number in 0..=restarts {
            let mut client = connect();
            client.upgrade();
            self.stay.fetch_add(1, Ordering::SeqCst);
            let code = if number < restarts { 1012 } else { 1001 };
            let frame = client.read_frame();
            expect_closed(&frame, code, &mut client);
        }
    }

    /// Returns whether the text comes back. If not, the server has closed the connection for a
    /// restart.
    fn is_echoed<S: Read + Write>(&self, client: &mut Client<S>, text: &str) -> bool {
        client.send_text(text);
        let frame = client.read_frame();
        if frame.first == 0x88 {
            expect_closed(&frame, 1012, client);
            return false;
        }
        assert_eq!(String::from_utf8(frame.payload).unwrap(), text);
        self.echoes.fetch_add(1, Ordering::SeqCst);
        true
    }
}

/// Expects a Close frame with this code and without a reason, and answers it.
fn expect_closed<S: Read + Write>(frame: &support::Frame, code: u16, client: &mut Client<S>) {
    assert_eq!(frame.first, 0x88, "{frame:?}");
    assert_eq!(frame.payload, code.to_be_bytes());
    client.send_close(code, "");
    client.expect_eof();
}

/// Stops the clients, even if the test fails.
struct Ends<'l>(&'l Load);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.enough.store(true, Ordering::SeqCst);
    }
}

#[test]
fn nobody_is_refused_while_processes_are_replaced() {
    const RESTARTS: usize = 4;
    const STAYING: usize = 2;
    let dir = TempDir::new();
    let path = dir.path("socket");
    let unix = format!("unix:{}", path.display());
    let mut processes = Processes::start(&program(), &["127.0.0.1:0", &unix]);
    let addr: SocketAddr = processes.places[0].parse().unwrap();
    let places = processes.places.clone();
    let over_tcp = || Client::<TcpStream>::connect(addr);
    let over_unix = || {
        let stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client::over(stream)
    };
    let load = Load::default();
    thread::scope(|scope| {
        let load = &load;
        let _ends = Ends(load);
        let mut coming = Vec::new();
        for name in 0..3 {
            coming.push(scope.spawn(move || load.come_and_go(name, over_tcp)));
            coming.push(scope.spawn(move || load.come_and_go(name + 3, over_unix)));
        }
        for _ in 0..STAYING {
            scope.spawn(move || load.stay(RESTARTS, over_tcp));
        }
        for number in 1..=RESTARTS {
            load.await_more(100, number * STAYING);
            let drained = processes.restart();
            assert!(drained >= STAYING, "{drained} in restart {number}");
            // The addresses are the same, and the file of the Unix socket still exists.
            assert_eq!(processes.places, places);
        }
        load.await_more(100, (RESTARTS + 1) * STAYING);
        load.enough.store(true, Ordering::SeqCst);
        for client in coming {
            client.join().unwrap();
        }
        // Without a successor, the remaining clients receive another code.
        processes.signal(Signal::SIGTERM);
    });
    assert!(processes.ended() >= STAYING);
    assert!(TcpStream::connect(addr).is_err(), "it was the last one");
}

#[test]
fn a_successor_that_does_not_start_changes_nothing() {
    let dir = TempDir::new();
    let link = dir.path("program");
    std::os::unix::fs::symlink(program(), &link).unwrap();
    let mut processes = Processes::start(&link, &["127.0.0.1:0"]);
    let addr: SocketAddr = processes.places[0].parse().unwrap();
    let mut client = Client::connect(addr);
    client.upgrade();
    let replace = |target: &Path| {
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(target, &link).unwrap();
    };
    // The new version is broken.
    for broken in ["/bin/false", "/nowhere"] {
        replace(Path::new(broken));
        processes.signal(Signal::SIGHUP);
        loop {
            let line = processes.line();
            if line.starts_with("the successor did not start: Ok(") {
                break;
            }
            // The message of the shell.
            assert!(line.contains("not found"), "{line}");
        }
        client.expect_alive();
        Client::connect(addr).upgrade();
    }
    // The next attempt succeeds.
    replace(&program());
    processes.signal(Signal::SIGHUP);
    let next = processes.serving();
    processes.alive.push(next);
    client.answer_close(1012);
    processes.ended();
    let mut client = Client::connect(addr);
    client.upgrade();
    client.expect_alive();
    processes.signal(Signal::SIGTERM);
    client.expect_close(1001);
    client.send_close(1001, "");
    processes.ended();
}
