//! Data that is being sent: replies, the queue of a connection, messages in parts, and completion
//! callbacks.

mod backlog;
mod completions;
mod multipart;
mod outbox;
mod reply_buffer;
mod tags;

pub(crate) use backlog::{Admission, Kind, room_before};
pub(crate) use completions::Completions;
pub(crate) use multipart::{Frames, Partial};
pub(crate) use outbox::{COPY_MAX, Outbox, Replaced, SEGMENT_MAX};
pub(crate) use reply_buffer::{ReplyBuffer, WRITE_THROUGH};
pub(crate) use tags::Tag;
