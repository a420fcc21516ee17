//! A 64-bit word that several CPUs, and the agent, read and write at once.
//!
//! The one type behind session records and their indexes. On the host it is an `AtomicU64`. The BPF target says
//! `atomic-cas: false`, so `core::sync::atomic` has no read-modify-write there, and atomic loads stop the linker below
//! CPU v4: hence intrinsics (always `SeqCst`: with `Relaxed` the compiler drops the fetched value) and volatile loads.
//! `unsafe` here: a shared reference to a `Word` promises that its eight bytes stay mapped and are only reached through
//! `Word`s, or by the kernel's own copies.

use core::cell::UnsafeCell;

/// A shared 64-bit word.
#[repr(transparent)]
pub struct Word(UnsafeCell<u64>);

// SAFETY: every access is a single 64-bit operation that the machine does whole (see the methods).
unsafe impl Sync for Word {}

impl Word {
    /// A word of its own.
    pub const fn new(value: u64) -> Self {
        Self(UnsafeCell::new(value))
    }
}

#[cfg(not(target_arch = "bpf"))]
mod host {
    use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

    use super::Word;

    impl Word {
        fn atomic(&self) -> &AtomicU64 {
            // SAFETY: the pointer is valid and aligned for as long as `self` is borrowed, and all access is atomic.
            unsafe { AtomicU64::from_ptr(self.0.get()) }
        }

        /// Reads it.
        #[inline]
        pub fn load(&self) -> u64 {
            self.atomic().load(SeqCst)
        }

        /// Writes it.
        #[inline]
        pub fn store(&self, value: u64) {
            self.atomic().store(value, SeqCst);
        }

        /// Writes it after everything written before.
        #[inline]
        pub fn publish(&self, value: u64) {
            self.atomic().store(value, SeqCst);
        }

        /// Writes `new` if it holds `current`; whether it did.
        #[inline]
        pub fn replace(&self, current: u64, new: u64) -> bool {
            self.atomic().compare_exchange(current, new, SeqCst, SeqCst).is_ok()
        }

        /// Adds, and returns what it held before.
        #[inline]
        pub fn fetch_add(&self, value: u64) -> u64 {
            self.atomic().fetch_add(value, SeqCst)
        }
    }
}

#[cfg(target_arch = "bpf")]
mod bpf {
    use core::intrinsics::{AtomicOrdering::SeqCst, atomic_cxchg, atomic_xadd, atomic_xchg};

    use super::Word;

    impl Word {
        /// Reads it.
        #[inline(always)]
        pub fn load(&self) -> u64 {
            // SAFETY: the pointer comes from a reference; the JIT makes one 64-bit load of it.
            unsafe { self.0.get().read_volatile() }
        }

        /// Writes it.
        #[inline(always)]
        pub fn store(&self, value: u64) {
            // SAFETY: as in `load`, one 64-bit store.
            unsafe { self.0.get().write_volatile(value) }
        }

        /// Writes it after everything written before.
        #[inline(always)]
        pub fn publish(&self, value: u64) {
            // SAFETY: the pointer comes from a reference. The exchange orders memory, a plain store need not.
            let _previous = unsafe { atomic_xchg::<u64, { SeqCst }>(self.0.get(), value) };
        }

        /// Writes `new` if it holds `current`; whether it did.
        #[inline(always)]
        pub fn replace(&self, current: u64, new: u64) -> bool {
            // SAFETY: the pointer comes from a reference.
            unsafe { atomic_cxchg::<u64, { SeqCst }, { SeqCst }>(self.0.get(), current, new).1 }
        }

        /// Adds, and returns what it held before.
        #[inline(always)]
        pub fn fetch_add(&self, value: u64) -> u64 {
            // SAFETY: the pointer comes from a reference.
            unsafe { atomic_xadd::<u64, u64, { SeqCst }>(self.0.get(), value) }
        }
    }
}
