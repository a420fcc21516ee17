//! The agent: loads the datapath, keeps its maps true, answers the socket.

pub mod handle;
pub mod options;
