//! Subscribers near the publisher and far from it: on its loop or another one, at its node or
//! another one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::client::{Client, OPENED_AT_ONCE};
use super::frame::{self, client_frame};
use super::options::{Options, Place};
use super::socketio;
use super::stream::{Connector, Stream};

/// The longest time that the server's first message may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The kernel chooses the loop of a connection. At most this many are opened for each subscriber.
const TRIES: usize = 20;

/// The position of a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// On the publisher's loop, or at its node.
    Near,
    /// Elsewhere.
    Far,
}

/// Opens the subscribers, each on its side, and then the publisher.
pub(super) fn open(client: &mut Client, options: &Options) -> Result<()> {
    let sides = (0..options.connections).map(|number| side(number, options));
    let sides: Vec<_> = sides.collect();
    let far = sides.iter().filter(|side| **side == Side::Far).count();
    let wanted = [options.connections - far, far];
    let (publisher, mut streams) = match options.place {
        Some(_) => on_loops(wanted, options)?,
        None => at_nodes(wanted, options)?,
    };
    for side in sides {
        let stream = streams[side as usize].pop_front();
        let stream = stream.context("too few connections")?;
        client.add(stream, options)?.side = Some(side);
    }
    client.add(publisher, options)?;
    Ok(())
}

/// Returns the side of a subscriber. With several nodes, or on both sides, each topic has
/// subscribers on both.
fn side(number: usize, options: &Options) -> Side {
    match options.place {
        Some(Place::Near) => Side::Near,
        Some(Place::Far) => Side::Far,
        _ if (number / options.topics).is_multiple_of(2) => Side::Near,
        _ => Side::Far,
    }
}

/// The publisher, and the subscribers by side.
type Opened = (Stream, [VecDeque<Stream>; 2]);

/// Opens connections to one server until enough of them are on each side; closes the others.
fn on_loops(wanted: [usize; 2], options: &Options) -> Result<Opened> {
    let connector = Connector::new(options)?;
    let [mut publisher] = <[_; 1]>::try_from(connector.open(1)?)
        .ok()
        .context("no publisher")?;
    let home = first_text(&mut publisher)?;
    ensure!(home.starts_with("loop "), "the first message is {home}");
    let mut found = [VecDeque::new(), VecDeque::new()];
    let mut tries = TRIES * options.connections.max(OPENED_AT_ONCE);
    while found[0].len() < wanted[0] || found[1].len() < wanted[1] {
        for mut stream in connector.open(OPENED_AT_ONCE)? {
            let side = match first_text(&mut stream)? == home {
                true => Side::Near,
                false => Side::Far,
            } as usize;
            if found[side].len() < wanted[side] {
                found[side].push_back(stream);
            }
        }
        tries = tries.saturating_sub(OPENED_AT_ONCE);
        if tries == 0 {
            bail!("too few connections are on the wanted loop");
        }
    }
    Ok((publisher, found))
}

/// Opens connections to the nodes: near ones to the first node, far ones to the last.
fn at_nodes(wanted: [usize; 2], options: &Options) -> Result<Opened> {
    let ends = [options.nodes.first(), options.nodes.last()];
    let mut found = [VecDeque::new(), VecDeque::new()];
    // The publisher is one more at the first node.
    let more = [1, 0];
    for (side, node) in ends.into_iter().enumerate() {
        let connector = Connector::to(*node.context("no node")?, options)?;
        while found[side].len() < wanted[side] + more[side] {
            let missing = wanted[side] + more[side] - found[side].len();
            let mut streams = connector.open(missing.min(OPENED_AT_ONCE))?;
            if options.socketio {
                connect(&mut streams)?;
            }
            found[side].extend(streams);
        }
    }
    let publisher = found[0].pop_back().context("no publisher")?;
    Ok((publisher, found))
}

/// Connects to the main namespace of a Socket.IO server.
fn connect(streams: &mut [Stream]) -> Result<()> {
    let request = client_frame(frame::TEXT, socketio::CONNECT.as_bytes(), [5, 6, 7, 8]);
    for stream in &mut *streams {
        let open = first_text(stream)?;
        ensure!(
            open.starts_with(socketio::OPEN),
            "the first packet is {open}"
        );
        let written = stream.write(&request)?;
        ensure!(written == Some(request.len()), "a new socket takes nothing");
    }
    for stream in streams {
        let connected = first_text(stream)?;
        let right = connected.starts_with(socketio::CONNECT);
        ensure!(right, "the answer to a connect is {connected}");
    }
    Ok(())
}

/// Reads one text message, and nothing after it.
fn first_text(stream: &mut Stream) -> Result<String> {
    let end = Instant::now() + PATIENCE;
    let mut frame = Vec::new();
    loop {
        ensure!(Instant::now() < end, "the server sends no first message");
        let missing = match frame::parse(&frame).map_err(anyhow::Error::msg)? {
            Some(header) if frame.len() == header.size + header.length => {
                ensure!(header.first == frame::TEXT, "the first message is not text");
                frame.drain(..header.size);
                return Ok(String::from_utf8(frame)?);
            }
            Some(header) => header.size + header.length - frame.len(),
            None => 1,
        };
        let mut buffer = vec![0; missing];
        match stream.read(&mut buffer)? {
            Some(0) => bail!("the server closed before its first message"),
            Some(read) => frame.extend_from_slice(&buffer[..read]),
            None => std::thread::yield_now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn far(arguments: &str) -> Vec<bool> {
        let line = format!("load --connect 127.0.0.1:1 --mode topics --size 64 {arguments}");
        let options = Options::parse(line.split(' ').map(String::from));
        let options = options.unwrap().unwrap();
        let sides = (0..options.connections).map(|number| side(number, &options) == Side::Far);
        sides.collect()
    }

    #[test]
    fn each_topic_has_subscribers_on_both_sides() {
        for arguments in [
            "--connect 127.0.0.1:2 --topics 2 --connections 8",
            "--place both --topics 2 --connections 8",
        ] {
            let sides = [false, false, true, true, false, false, true, true];
            assert_eq!(far(arguments), sides);
        }
        assert_eq!(far("--place far --connections 2"), [true, true]);
        assert_eq!(far("--place near --connections 2"), [false, false]);
    }
}
