//! Limits beyond single messages: on addresses, rates and memory.

mod addresses;
mod budget;
mod rate_meter;

pub(crate) use addresses::Addresses;
pub(crate) use budget::{Budget, Held, Turn};
pub(crate) use rate_meter::{Metered, Meters};
