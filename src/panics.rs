//! Panics of the application: they end its connection, never the server (decision 9).

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::HandlerError;

/// Calls a closure of the application.
///
/// Nothing that it borrows may be left half-changed by a panic: the state of the reactor is not
/// reachable from a handler but through methods that do not panic midway.
///
/// # Errors
///
/// The panic.
pub(crate) fn guard<T>(call: impl FnOnce() -> T) -> Result<T, HandlerError> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let error = HandlerError::from_panic(&*panic);
        drop_panic(panic);
        error
    })
}

/// Calls a closure of the application that may fail.
///
/// # Errors
///
/// Its own, or the panic.
pub(crate) fn guarded<T>(
    call: impl FnOnce() -> Result<T, HandlerError>,
) -> Result<T, HandlerError> {
    guard(call).unwrap_or_else(Err)
}

/// Drops the value of a panic, which may panic itself, and so may the next one.
fn drop_panic(panic: Box<dyn std::any::Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
}
