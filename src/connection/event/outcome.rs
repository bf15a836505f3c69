//! The return values of handlers.

use std::fmt;

use crate::connection::api::sent::Sent;
use crate::error::HandlerError;
use crate::plain_http::Response;
use crate::topics::Published;

/// The result of a handler that can refuse.
#[expect(clippy::exhaustive_enums, reason = "yes or no")]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Verdict {
    /// Continue.
    #[default]
    Accept,
    /// Refuse; the effect depends on the event.
    Refuse,
}

impl From<bool> for Verdict {
    fn from(accept: bool) -> Self {
        if accept { Self::Accept } else { Self::Refuse }
    }
}

/// A handler that can refuse may end in a send: that accepts.
impl From<Sent> for Verdict {
    fn from(_: Sent) -> Self {
        Self::Accept
    }
}

/// A handler that can refuse may end in a publish: that accepts.
impl From<Published> for Verdict {
    fn from(_: Published) -> Self {
        Self::Accept
    }
}

impl From<()> for Verdict {
    fn from((): ()) -> Self {
        Self::Accept
    }
}

/// The result of a handler, as far as other handlers of the same event depend on it.
pub trait Answer {
    /// Returns whether the remaining handlers are not called.
    fn is_refusal(&self) -> bool;
}

impl Answer for () {
    fn is_refusal(&self) -> bool {
        false
    }
}

impl Answer for Verdict {
    fn is_refusal(&self) -> bool {
        *self == Self::Refuse
    }
}

/// The first handler that returns a response answers the request.
impl Answer for Option<Response> {
    fn is_refusal(&self) -> bool {
        self.is_some()
    }
}

/// A type that a handler may return where `O` is expected: `O` itself or a `Result`. For a
/// [`Verdict`] also `bool`, where `false` refuses, and `()`, which accepts. For an `Option` of a
/// [`Response`] also a `Response`.
#[diagnostic::on_unimplemented(
    message = "a handler for this event cannot return `{Self}`",
    label = "return nothing, a `Result`, or what the event asks for"
)]
pub trait Outcome<O> {
    /// Converts the return value.
    ///
    /// # Errors
    ///
    /// Returns the handler's own error.
    fn into_outcome(self) -> Result<O, HandlerError>;
}

impl<O> Outcome<O> for O {
    fn into_outcome(self) -> Result<O, HandlerError> {
        Ok(self)
    }
}

impl<T, E: fmt::Display> Outcome<()> for Result<T, E> {
    fn into_outcome(self) -> Result<(), HandlerError> {
        self.map(drop).map_err(|error| HandlerError::new(&error))
    }
}

impl Outcome<Verdict> for bool {
    fn into_outcome(self) -> Result<Verdict, HandlerError> {
        Ok(self.into())
    }
}

impl Outcome<Verdict> for () {
    fn into_outcome(self) -> Result<Verdict, HandlerError> {
        Ok(Verdict::Accept)
    }
}

impl<T: Into<Verdict>, E: fmt::Display> Outcome<Verdict> for Result<T, E> {
    fn into_outcome(self) -> Result<Verdict, HandlerError> {
        self.map(Into::into)
            .map_err(|error| HandlerError::new(&error))
    }
}

impl Outcome<Option<Self>> for Response {
    fn into_outcome(self) -> Result<Option<Self>, HandlerError> {
        Ok(Some(self))
    }
}

impl<T: Into<Option<Response>>, E: fmt::Display> Outcome<Option<Response>> for Result<T, E> {
    fn into_outcome(self) -> Result<Option<Response>, HandlerError> {
        self.map(Into::into)
            .map_err(|error| HandlerError::new(&error))
    }
}
