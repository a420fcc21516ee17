//! What the tests that see more than one crate share, and the lab's tools build on.

pub mod agent;
pub mod bytes;
pub mod capture;
pub mod command;
pub mod frames;
pub mod http;
pub mod netns;
pub mod packets;
pub mod ping;
pub mod privilege;
pub mod process;
pub mod reports;
pub mod topology;
pub mod wait;
pub mod world;
