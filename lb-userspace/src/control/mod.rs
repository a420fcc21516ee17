//! From what is desired to what the maps hold: compile the desired image, plan the steps, apply them in order.

pub mod compile;
pub mod ids;
pub mod image;
pub mod ledger;
pub mod maglev;
pub mod plan;
pub mod reconcile;
pub mod ring;
mod settings;
