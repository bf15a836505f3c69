//! How handlers send, and which results are possible.

use super::acts::{act, draw};
use super::checks::Check;
use super::handlers::Shared;
use crate::connection::{Connection, Hub, Outgoing, Sent};
use crate::error::SendError;
use crate::protocol::{Compress, OpCode, Prepared};

/// Returns a unique message.
pub(super) fn message(world: &Shared, most: usize) -> String {
    draw(world, |world| {
        let number = world.hand.number();
        let size = match world.hand.random.below(10) {
            0 => world.hand.random.below(most),
            _ => world.hand.random.below(most.min(300)),
        };
        let text = format!("of the server, {number}:");
        let filler = (b'A' + (number % 26) as u8) as char;
        let left = size.saturating_sub(text.len());
        text + &String::from(filler).repeat(left)
    })
}

fn max_send(world: &Shared) -> usize {
    world.borrow().settings.config.limits.max_send_size
}

/// Records a message, and checks that an error is possible.
pub(super) fn noted(
    world: &Shared,
    client: usize,
    opcode: OpCode,
    payload: &[u8],
    result: Result<usize, SendError>,
) -> Option<u64> {
    let usual = match &result {
        Ok(_)
        | Err(
            SendError::Closing | SendError::Gone | SendError::NotReady | SendError::MessageUnderWay,
        ) => true,
        Err(SendError::BacklogFull { queued, limit }) => queued > &(limit / 2),
        // A peer that reads is served, unless the message is large compared to the memory budget.
        Err(SendError::NoMemory { budget }) => {
            let world = world.borrow();
            let line = &world.lines[client];
            // Behind data that waits for a slow peer, the kernel may accept nothing of this.
            let waits = !world.clients[client].seen.sent.is_empty();
            let reads = !line.is_full && !line.woken && !line.reset && !waits;
            // In a turn that exceeds the budget there is no room for a part that the kernel may
            // not accept: data sent in a turn counts until its end.
            let (turn, bytes) = world.sent_in;
            let sheds = world.shed_at == Some(world.turn);
            let much = turn == world.turn && bytes > budget / 8;
            // A single incoming message may fill the budget as well.
            let fills = world.settings.config.limits.max_recv_size > budget / 2;
            let large = payload.len() > budget / 64;
            // Topics and histories take a part of it.
            let has_topics = world.settings.topics;
            *budget < usize::MAX && (!reads || sheds || much || fills || large || has_topics)
        }
        Err(SendError::TooBig { size, limit }) => size > limit,
        Err(_) => false,
    };
    let world = &mut *world.borrow_mut();
    if result.is_ok() {
        let (turn, bytes) = world.sent_in;
        let before = if turn == world.turn { bytes } else { 0 };
        world.sent_in = (world.turn, before + payload.len());
    }
    world.check(usual, Check::Answers, || {
        format!("to client {client}: {result:?}")
    });
    world.sent(client, opcode, payload, result)
}

pub(super) fn send(conn: &mut Connection<'_>, world: &Shared, client: usize) {
    let text = message(world, 3000);
    let result = conn.send_utf8(&text);
    noted(
        world,
        client,
        OpCode::Text,
        text.as_bytes(),
        result.map(Sent::bytes),
    );
}

pub(super) fn send_much(conn: &mut Connection<'_>, world: &Shared, client: usize) {
    let most = max_send(world) + 10;
    let text = message(world, 20 * most);
    let result = conn.send_binary(text.as_bytes());
    noted(
        world,
        client,
        OpCode::Binary,
        text.as_bytes(),
        result.map(Sent::bytes),
    );
}

pub(super) fn send_with(conn: &mut Connection<'_>, world: &Shared, client: usize) {
    let text = message(world, 2000);
    let bytes = text.as_bytes();
    let choice = draw(world, |world| {
        world
            .hand
            .random
            .pick(&[Compress::Auto, Compress::Yes, Compress::No])
    });
    let (front, back) = bytes.split_at(bytes.len() / 2);
    let result = match draw(world, |world| world.hand.random.below(3)) {
        0 => conn.send_message(Outgoing::text(&text).compress(choice)),
        1 => conn.send_message(Outgoing::parts(OpCode::Text, &[front, b"", back]).compress(choice)),
        _ => conn.send_message(
            Outgoing::parts(OpCode::Text, &[front, b"", back])
                .in_frames()
                .compress(choice),
        ),
    };
    noted(world, client, OpCode::Text, bytes, result.map(Sent::bytes));
}

pub(super) fn broadcast(hub: &mut Hub<'_>, world: &Shared) {
    let text = message(world, 9000.min(max_send(world)));
    let prepared = Prepared::text(&text);
    hub.for_each(|conn| {
        let client = world.borrow().names.get(&conn.id().as_u64()).copied();
        let result = conn.send_prepared(&prepared);
        noted(
            world,
            client.unwrap_or(0),
            OpCode::Text,
            text.as_bytes(),
            result.map(Sent::bytes),
        );
    });
}

/// Begins, continues or ends a message that is sent in parts.
pub(super) fn parts(conn: &mut Connection<'_>, world: &Shared, client: usize) {
    if !conn.is_message_under_way() {
        if conn.start_message(OpCode::Binary, Compress::Auto).is_ok() {
            world.borrow_mut().clients[client].seen.parts = Some((OpCode::Binary, Vec::new()));
        }
        return;
    }
    let part = message(world, 500);
    let ends = draw(world, |world| world.hand.random.chance(500));
    let result = match ends {
        true => conn.end_message(&part),
        false => conn.send_part(&part),
    };
    if result.is_err() {
        return;
    }
    let world = &mut *world.borrow_mut();
    let parts = &mut world.clients[client].seen.parts;
    let whole = parts.as_mut().map(|(opcode, payload)| {
        payload.extend_from_slice(part.as_bytes());
        (*opcode, payload.clone())
    });
    if ends && let Some((opcode, payload)) = whole {
        *parts = None;
        world.sent(client, opcode, &payload, result.map(Sent::bytes));
    }
}

/// Returns a callback that must be called once, and is recorded with this number.
fn callback(
    world: &Shared,
    client: usize,
    number: u64,
) -> impl FnOnce(&mut Connection<'_>, Result<(), SendError>) -> Result<(), &'static str> + 'static {
    let world = world.clone();
    move |conn: &mut Connection<'_>, result| {
        let client_now = world.borrow().names.get(&conn.id().as_u64()).copied();
        let same = client_now == Some(client);
        world.borrow_mut().check(same, Check::CallbackOnce, || {
            format!("of client {client}, for {client_now:?}")
        });
        world.borrow_mut().called_back(client, number, result);
        act(conn, &world)
    }
}

pub(super) fn send_then(conn: &mut Connection<'_>, world: &Shared, client: usize) {
    let text = message(world, 2000);
    let number = draw(world, |world| world.hand.number());
    let done = callback(world, client, number);
    let result = conn.send_message(Outgoing::text(&text).then(done));
    let result = result.map(Sent::bytes);
    let is_taken = result.is_ok();
    let sent = noted(world, client, OpCode::Text, text.as_bytes(), result);
    if is_taken {
        let world = &mut *world.borrow_mut();
        world.clients[client]
            .seen
            .callbacks
            .insert(number, sent.unwrap_or(0));
    }
}

pub(super) fn when_sent(conn: &mut Connection<'_>, world: &Shared, client: usize) {
    let number = draw(world, |world| world.hand.number());
    let done = callback(world, client, number);
    let result = conn.when_sent(done);
    if result.is_ok() {
        let world = &mut *world.borrow_mut();
        let seen = &mut world.clients[client].seen;
        // If messages may be dropped, the callback may wait for a later one.
        let last = seen.sent.iter().rev().find(|item| item.is_sure);
        seen.callbacks
            .insert(number, last.map_or(0, |item| item.number));
    }
}
