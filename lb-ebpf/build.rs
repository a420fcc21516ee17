//! Arguments for the BPF linker, and the reason to link again.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("bpf") {
        // alu32: results of 32-bit arithmetic and of atomic operations. Misaligned access: headers are at odd multiples
        // of two, and every kernel that we support lets packet and map pointers be read so; without it each field is
        // put together from bytes.
        println!("cargo:rustc-link-arg-bins=--cpu-features=+allows-misaligned-mem-access");
    }
}
