//! The agent's socket: what can be asked, and what comes back. One schema for the server, the command line and `-o json`.

pub mod types;
