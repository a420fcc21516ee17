//! The config: as people write it (`raw`), and as the agent uses it (`model`), with every fault in between at once.
//!
//! A file's way: text -> TOML document -> `read` -> `raw` -> `rules` and `settings` -> [`Config`]. A change at run time
//! goes through the same `rules`. [`Overrides`] carry such changes over a restart of the agent.

mod change;
mod diagnostic;
mod fault;
mod load;
pub mod model;
mod overrides;
mod raw;
mod read;
mod rules;
mod settings;
mod store;
mod table;
mod values;

pub use diagnostic::{Diagnostic, Related, render};
pub use load::{ConfigError, load, parse};
pub use model::*;
pub use overrides::Overrides;
pub use store::OverridesError;
