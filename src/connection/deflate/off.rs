//! permessage-deflate with the feature disabled: it is never agreed on, so no value of [`Deflate`]
//! exists.

use std::sync::Arc;

use super::{Compressed, Plain};
use crate::config::Config;
use crate::connection::limits::Budget;
use crate::error::ProtocolError;
use crate::protocol::{Compress, OpCode, Piece, Prepared};
use crate::topics::{Form, Publication};

pub(crate) struct Compressors;

impl Compressors {
    pub(crate) fn new(_: &Config) -> Self {
        Self
    }

    pub(crate) fn recycle(&mut self, _: Compressed) {}

    pub(crate) fn wants_publication(&self, _: &Publication) -> bool {
        false
    }
}

pub(crate) enum Deflate {}

impl Deflate {
    pub(crate) fn held(&self) -> usize {
        match *self {}
    }

    pub(crate) fn forget(&mut self) {
        match *self {}
    }

    pub(crate) fn compress(
        &mut self,
        _: &mut Compressors,
        _: &mut Budget,
        _: Plain<'_>,
    ) -> Option<Compressed> {
        match *self {}
    }

    pub(crate) fn compress_prepared<'p>(
        &mut self,
        _: &mut Compressors,
        _: &'p Prepared,
    ) -> &'p Arc<[u8]> {
        match *self {}
    }

    pub(crate) fn compress_publication<'m>(
        &mut self,
        _: &mut Compressors,
        _: &'m mut Publication,
    ) -> &'m mut Form {
        match *self {}
    }

    pub(crate) fn inflate<'r>(
        &mut self,
        _: &mut Compressors,
        _: &[u8],
        _: usize,
        _: &'r mut Vec<u8>,
    ) -> Result<&'r [u8], ProtocolError> {
        match *self {}
    }

    pub(crate) fn begin_parts(
        &mut self,
        _: &mut Compressors,
        _: &mut Budget,
        _: OpCode,
        _: usize,
        _: Compress,
        _: bool,
    ) -> bool {
        match *self {}
    }

    pub(crate) fn compress_part(
        &mut self,
        _: &mut Compressors,
        _: &[u8],
        _: bool,
    ) -> Option<Compressed> {
        match *self {}
    }

    pub(crate) fn end_parts(&mut self, _: &mut Compressors) {
        match *self {}
    }

    pub(crate) fn arrive(&mut self, _: &mut Compressors, _: &Piece<'_>) {
        match *self {}
    }

    pub(crate) fn arrive_large(&mut self, _: &mut Compressors, _: OpCode, _: &[u8], _: Vec<u8>) {
        match *self {}
    }

    pub(crate) fn has_more(&self) -> bool {
        match *self {}
    }

    pub(crate) fn next_piece<'r>(
        &mut self,
        _: &mut Compressors,
        _: &'r mut Vec<u8>,
    ) -> Result<Option<Piece<'r>>, ProtocolError> {
        match *self {}
    }

    pub(crate) fn stop_pieces(&mut self) {
        match *self {}
    }
}
