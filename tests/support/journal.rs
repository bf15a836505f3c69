//! A logger that separates the lines of different servers, each of which has its own thread.

use std::cell::RefCell;
use std::sync::mpsc::Sender;

use log::kv::{Error, Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};

/// A log line.
#[derive(Clone, Debug)]
pub struct Line {
    pub level: Level,
    pub target: String,
    pub text: String,
    /// The names and values of key-value pairs.
    pub values: Vec<(String, String)>,
}

impl Line {
    pub fn value(&self, name: &str) -> Option<&str> {
        let mut values = self.values.iter();
        let found = values.find(|value| value.0 == name);
        found.map(|value| value.1.as_str())
    }
}

thread_local! {
    static SINK: RefCell<Option<Sink>> = const { RefCell::new(None) };
}

enum Sink {
    Lines(Sender<Line>),
    Panics,
}

struct Logger;

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if !record.target().starts_with("wsloop") {
            return;
        }
        SINK.with_borrow(|sink| match sink {
            None => {}
            Some(Sink::Panics) => panic!("a logger that fails"),
            Some(Sink::Lines(sender)) => {
                let mut values = Values(Vec::new());
                record.key_values().visit(&mut values).unwrap();
                _ = sender.send(Line {
                    level: record.level(),
                    target: record.target().to_owned(),
                    text: record.args().to_string(),
                    values: values.0,
                });
            }
        });
    }

    fn flush(&self) {}
}

struct Values(Vec<(String, String)>);

impl<'v> VisitSource<'v> for Values {
    fn visit_pair(&mut self, key: Key<'v>, value: Value<'v>) -> Result<(), Error> {
        self.0.push((key.to_string(), value.to_string()));
        Ok(())
    }
}

fn install(sink: Sink) {
    static LOGGER: Logger = Logger;
    _ = log::set_logger(&LOGGER);
    log::set_max_level(LevelFilter::Trace);
    SINK.set(Some(sink));
}

/// Sends the lines of this thread to a channel.
pub fn capture(sender: Sender<Line>) {
    install(Sink::Lines(sender));
}

/// Panics at each log line of this thread.
pub fn panics() {
    install(Sink::Panics);
}
