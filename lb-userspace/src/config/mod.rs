//! The config: as people write it (`raw`), and as the agent uses it (`model`), with every fault in between at once.

pub mod model;

pub use model::*;
