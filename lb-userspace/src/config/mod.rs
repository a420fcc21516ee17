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

/// A duration as the config and the command line have it: a whole number and its unit, ms, s, m or h.
pub fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    values::parse_duration(text).map_err(String::from)
}

/// A service's name, if it is one.
pub fn parse_service_name(text: &str) -> Result<ServiceName, String> {
    rules::bad_name(text).map_or_else(|| Ok(ServiceName(text.to_owned())), |why| Err(format!("the name {why}")))
}
