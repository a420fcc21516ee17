//! The BPF program.

fn main() {}
