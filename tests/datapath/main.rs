//! Tests of the datapath: rows of frames and verdicts, the host's run of the pipeline against the kernel's, the sweep,
//! the embedded object.
//!
//! The kernel's half needs `CAP_BPF`, `CAP_PERFMON` and `CAP_NET_ADMIN`, and attaches to nothing.

mod agreement;
mod cast;
mod check;
mod fill;
mod kernel;
mod object;
mod races;
mod rows;
mod sides;
mod sweep;
mod traffic;
