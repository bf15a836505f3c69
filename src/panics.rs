//! Panics in application code: they end the connection, never the server (decision 9).

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::HandlerError;

/// Calls a closure of the application, and catches a panic.
///
/// A panic leaves nothing half-changed that the closure borrows: a handler reaches the reactor's
/// state only through methods that do not panic midway.
///
/// # Errors
///
/// Returns the panic.
pub(crate) fn guard<T>(call: impl FnOnce() -> T) -> Result<T, HandlerError> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let error = HandlerError::from_panic(&*panic);
        drop_panic(panic);
        error
    })
}

/// Calls a fallible closure of the application, and catches a panic.
///
/// # Errors
///
/// Returns the error of the closure, or the panic.
pub(crate) fn guarded<T>(
    call: impl FnOnce() -> Result<T, HandlerError>,
) -> Result<T, HandlerError> {
    guard(call).unwrap_or_else(Err)
}

/// Drops the value of a panic. That may panic in turn; the value of the second panic is leaked.
fn drop_panic(panic: Box<dyn std::any::Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
}
