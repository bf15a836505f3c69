//! Programs that the tests start.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

/// Starts an example; returns it with the lines of its standard error. A thread reads them until
/// the end, so that the example never blocks.
#[track_caller]
pub fn spawn_example(command: &mut Command) -> (Child, Receiver<String>) {
    let spawned = command.stderr(Stdio::piped()).spawn();
    let mut child = spawned.unwrap_or_else(|error| {
        let program = command.get_program().display();
        panic!("{program}: {error}; `cargo build --examples` builds it")
    });
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    (child, lines)
}
