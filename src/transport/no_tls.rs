//! Replaces TLS where the feature is off: a session type without values.

use std::io::{self, IoSlice};

use super::{Received, Socket};
use crate::reasons::TlsFailure;

/// A configuration that is never made.
#[derive(Clone)]
pub(crate) struct TlsConfig;

pub(crate) enum Tls {}

impl Tls {
    pub(super) fn new(_: TlsConfig) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn read(
        &mut self,
        _: &mut Socket,
        _: &mut [u8],
        _: &mut [u8],
    ) -> io::Result<Received> {
        match *self {}
    }

    pub(super) fn write(&mut self, _: &mut Socket, _: &[IoSlice<'_>]) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn flush(&mut self, _: &mut Socket) -> io::Result<bool> {
        match *self {}
    }

    pub(super) fn close_notify(&mut self, _: &mut Socket) -> io::Result<()> {
        match *self {}
    }

    pub(super) fn wait_for_header(&mut self) {
        match *self {}
    }

    pub(super) fn begin(&mut self, _: &[u8]) {
        match *self {}
    }

    pub(super) fn is_handshaking(&self) -> bool {
        match *self {}
    }

    pub(super) fn wants_write(&self) -> bool {
        match *self {}
    }

    pub(super) fn has_begun(&self) -> bool {
        match *self {}
    }

    pub(super) fn is_plain_http(&self) -> bool {
        match *self {}
    }

    pub(super) fn failure(&self, _: &io::Error) -> Option<TlsFailure> {
        match *self {}
    }

    pub(super) fn take_progress(&mut self) -> bool {
        match *self {}
    }

    pub(super) fn written(&self) -> u64 {
        match *self {}
    }

    pub(super) fn held(&self) -> (usize, usize) {
        match *self {}
    }

    pub(super) fn peer_certificates(&self) -> std::iter::Empty<&[u8]> {
        match *self {}
    }

    pub(super) fn server_name(&self) -> Option<&str> {
        match *self {}
    }
}
