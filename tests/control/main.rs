//! Tests of the control room: a config in, a text dump of the maps out; edits, drains, faults and restarts; nothing left
//! at the end.

mod changes;
mod dump;
mod faults;
mod leaving;
mod memory;
mod properties;
mod story;
