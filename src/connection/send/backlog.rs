//! How much may be queued for a connection, and what happens to data beyond that.

use crate::protocol::OpCode;

/// The kind of queued data, which matters when there is too much.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Control,
    Message,
    /// A frame of a message that is sent in parts: without it, the frames that follow are useless.
    Part,
}

impl Kind {
    pub(crate) fn of(opcode: OpCode) -> Self {
        if opcode.is_control() {
            Self::Control
        } else {
            Self::Message
        }
    }
}

/// The decision on a message that cannot be sent at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Admission {
    Queue,
    /// Memory is short: the message is sent only if the kernel takes it now.
    Offer,
    Drop,
}

/// Returns how many bytes may be queued already when a frame of `size` bytes is added.
pub(crate) fn room_before(size: usize, kind: Kind, limit: usize) -> usize {
    let reserve = match kind {
        Kind::Control => CONTROL_RESERVE,
        Kind::Message | Kind::Part => 0,
    };
    // Up to half of the limit, every frame is accepted.
    let room = limit.saturating_add(reserve).saturating_sub(size);
    room.max(limit / 2)
}

/// How many bytes of control frames may be queued beyond `max_backlog`.
const CONTROL_RESERVE: usize = 4 << 10;
