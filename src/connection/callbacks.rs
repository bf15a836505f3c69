//! The types of closures that the application leaves to be called later: callbacks and timers.

use super::api::connection::Connection;
use super::api::hub::Hub;
use super::event::Ticks;
use crate::error::{HandlerError, SendError};

/// A callback that is called when a message was sent or dropped.
pub(crate) type Done =
    Box<dyn FnOnce(&mut Connection<'_>, Result<(), SendError>) -> Result<(), HandlerError>>;

/// A timer of the server.
pub(crate) type HubAction = Box<dyn for<'t> FnMut(&mut Hub<'t>, Ticks) -> Result<(), HandlerError>>;

/// A timer of a connection.
pub(crate) type ConnectionAction =
    Box<dyn for<'t> FnMut(&mut Connection<'t>, Ticks) -> Result<(), HandlerError>>;
