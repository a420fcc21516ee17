//! Tests of the config: wrong files with every fault they must be told about, right files, changes and overrides.

mod changes;
mod documents;
mod faults;
mod limits;
mod mangled;
mod overrides;
mod right;
