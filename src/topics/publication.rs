//! A message that is published: framed once, compressed once for each window, for all receivers.

use std::sync::Arc;

use super::turn_log::Place;
use crate::error::SendError;
use crate::protocol::{Compress, FrameHead, OpCode, Prepared};

/// A message on its way to the subscribers of a topic. It is reused, so that a publish allocates
/// nothing.
pub(crate) struct Publication {
    plain: Form,
    /// The message compressed for a window of 9 to 15 bits.
    deflated: [Form; 7],
    /// The payload's size, in bytes.
    size: usize,
    opcode: OpCode,
    compress: Compress,
    key: Vec<u8>,
    has_key: bool,
    shared_key: Option<Arc<[u8]>>,
}

/// A frame, in memory that is reused, or shared with queues and histories.
#[derive(Default)]
pub(crate) struct Form {
    bytes: Vec<u8>,
    shared: Option<Arc<[u8]>>,
    is_made: bool,
    /// Where it is among the frames of the turn.
    place: Option<Place>,
}

impl Form {
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.shared {
            Some(shared) => shared,
            None => &self.bytes,
        }
    }

    /// Returns the frame in memory that others can hold.
    pub(crate) fn share(&mut self) -> &Arc<[u8]> {
        self.shared
            .get_or_insert_with(|| self.bytes.as_slice().into())
    }

    /// Returns the frame, and where it is among those of the turn.
    #[inline]
    pub(crate) fn placed(&mut self) -> (&[u8], &mut Option<Place>) {
        let bytes = match &self.shared {
            Some(shared) => shared,
            None => self.bytes.as_slice(),
        };
        (bytes, &mut self.place)
    }

    /// Builds the frame.
    fn frame<'p>(&mut self, head: FrameHead, payload: impl Iterator<Item = &'p [u8]>) {
        self.bytes.extend_from_slice(&head);
        payload.for_each(|part| self.bytes.extend_from_slice(part));
        self.is_made = true;
    }

    fn clear(&mut self) {
        self.shared = None;
        self.place = None;
        self.is_made = false;
        self.bytes.clear();
        // A large message enlarged the buffer; the next one is likely to be small.
        self.bytes.shrink_to(FORM_MAX);
    }
}

impl Default for Publication {
    fn default() -> Self {
        Self {
            plain: Form::default(),
            deflated: Default::default(),
            size: 0,
            opcode: OpCode::Text,
            compress: Compress::Auto,
            key: Vec::new(),
            has_key: false,
            shared_key: None,
        }
    }
}

impl Publication {
    /// Frames a message of `size` bytes, at most `limit`, from its parts.
    pub(crate) fn begin<'p>(
        &mut self,
        opcode: OpCode,
        parts: impl Iterator<Item = &'p [u8]>,
        size: usize,
        limit: usize,
        compress: Compress,
    ) -> Result<(), SendError> {
        if size > limit {
            return Err(SendError::TooBig { size, limit });
        }
        (self.opcode, self.size, self.compress) = (opcode, size, compress);
        self.plain.frame(FrameHead::new(opcode, size), parts);
        Ok(())
    }

    /// Takes a message that is framed already.
    pub(crate) fn begin_prepared(&mut self, prepared: &Prepared) {
        self.size = prepared.size();
        (self.opcode, self.compress) = (prepared.opcode(), prepared.compression());
        self.plain.shared = Some(prepared.shared_frame().clone());
        self.plain.is_made = true;
    }

    /// Sets the key of the message.
    pub(crate) fn set_key(&mut self, key: &[u8]) {
        self.key.extend_from_slice(key);
        self.has_key = true;
    }

    /// Discards the message, and keeps the memory for the next one.
    pub(crate) fn clear(&mut self) {
        self.plain.clear();
        for form in self.deflated.iter_mut().filter(|form| form.is_made) {
            form.clear();
        }
        self.key.clear();
        self.has_key = false;
        self.shared_key = None;
    }

    /// Returns the payload's size, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Returns the frame that is not compressed.
    pub(crate) fn plain(&mut self) -> &mut Form {
        &mut self.plain
    }

    /// Returns the key, if the message has one.
    pub(crate) fn key(&mut self) -> Option<&Arc<[u8]>> {
        if !self.has_key {
            return None;
        }
        let key = || self.key.as_slice().into();
        Some(self.shared_key.get_or_insert_with(key))
    }

    /// Returns the message for a history.
    pub(crate) fn prepare(&mut self) -> Prepared {
        let frame = self.plain.share().clone();
        let prepared = Prepared::framed(frame, self.size, self.opcode).compress(self.compress);
        prepared.sharing()
    }
}

impl Publication {
    pub(crate) fn opcode(&self) -> OpCode {
        self.opcode
    }

    pub(crate) fn compress(&self) -> Compress {
        self.compress
    }
}

#[cfg(feature = "deflate")]
impl Publication {
    /// Returns the frame compressed for a window of `bits`, or the plain frame where that is not
    /// larger. `deflate` appends the compressed payload on the first call for a window.
    pub(crate) fn deflated(
        &mut self,
        bits: u8,
        room: &mut Vec<u8>,
        deflate: impl FnOnce(&[u8], &mut Vec<u8>) -> bool,
    ) -> &mut Form {
        let form = &mut self.deflated[usize::from(bits.clamp(9, 15) - 9)];
        if !form.is_made {
            let frame = self.plain.bytes();
            let payload = frame.get(frame.len() - self.size..).unwrap_or_default();
            room.clear();
            if deflate(payload, room) && room.len() < self.size {
                let head = FrameHead::new(self.opcode, room.len()).compressed();
                form.frame(head, std::iter::once(room.as_slice()));
            } else if self.plain.shared.is_some() {
                form.shared = self.plain.shared.clone();
                form.is_made = true;
            } else {
                form.bytes.extend_from_slice(frame);
                form.is_made = true;
            }
        }
        form
    }
}

/// Largest buffer of a form that is kept, in bytes.
const FORM_MAX: usize = 64 << 10;
