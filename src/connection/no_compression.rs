//! Stands in for permessage-deflate where the feature is off: it is never agreed on.

use std::sync::Arc;

use super::core::Core;
use super::peer::Extras;
use crate::error::ProtocolError;
use crate::protocol::{Compress, OpCode, Piece, Prepared};

impl Extras {
    pub(super) fn compressors(&self) -> usize {
        0
    }
}

impl Core {
    pub(super) fn deflate(
        &mut self,
        _: usize,
        _: OpCode,
        _: &[u8],
        _: Compress,
    ) -> Option<Vec<u8>> {
        None
    }

    pub(super) fn recycle_deflated(&mut self, _: Vec<u8>) {}

    pub(super) fn forget_deflated(&mut self, _: usize) {}

    pub(super) fn deflate_prepared<'p>(
        &mut self,
        _: usize,
        prepared: &'p Prepared,
    ) -> &'p Arc<[u8]> {
        prepared.frame()
    }

    pub(crate) fn inflate<'r>(
        &mut self,
        _: usize,
        _: &[u8],
        _: &'r mut Vec<u8>,
    ) -> Result<&'r [u8], ProtocolError> {
        Err(ProtocolError::BadDeflate)
    }

    pub(super) fn deflate_gathered(
        &mut self,
        _: usize,
        _: OpCode,
        _: &[&[u8]],
        _: usize,
        _: Compress,
    ) -> Option<Vec<u8>> {
        None
    }

    pub(super) fn deflate_frames(
        &mut self,
        _: usize,
        _: OpCode,
        _: &[&[u8]],
        _: usize,
        _: Compress,
    ) -> Option<(Vec<u8>, Vec<usize>)> {
        None
    }

    pub(super) fn begin_deflated(&mut self, _: usize, _: OpCode, _: usize, _: Compress) -> bool {
        false
    }

    pub(super) fn deflate_part(&mut self, _: usize, _: &[u8], _: bool) -> Option<Vec<u8>> {
        None
    }

    pub(super) fn end_deflated(&mut self, _: usize) {}

    pub(crate) fn arrive(&mut self, _: usize, _: &Piece<'_>) {}

    pub(crate) fn arrive_large(&mut self, _: usize, _: OpCode, _: &[u8], _: Vec<u8>) {}

    pub(crate) fn is_expanding(&self, _: usize) -> bool {
        false
    }

    pub(crate) fn expand<'r>(
        &mut self,
        _: usize,
        _: &'r mut Vec<u8>,
    ) -> Result<Option<Piece<'r>>, ProtocolError> {
        Ok(None)
    }

    pub(crate) fn stop_expanding(&mut self, _: usize) {}

    pub(crate) fn drop_compression(&mut self, _: usize) {}
}
