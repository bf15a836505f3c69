//! Stands in for permessage-deflate where the feature is off: it is never agreed on.

use std::sync::Arc;

use super::core::Core;
use crate::error::ProtocolError;
use crate::protocol::{Compress, OpCode, Prepared};

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
}
