//! Session maps in the agent's own memory: the kernel's array, mapped, as lines of shared words.
//!
//! `unsafe` here: a mapping is as long as the map that it was made of, and lives as long as this value.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use lb_ebpf::tables::Line;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// A mapped array of lines.
#[derive(Debug)]
pub struct MappedLines {
    start: NonNull<Line>,
    count: usize,
}

// SAFETY: the mapping belongs to this value alone, and lines are read and written by atomic operations only.
unsafe impl Send for MappedLines {}
// SAFETY: as above.
unsafe impl Sync for MappedLines {}

impl MappedLines {
    /// Maps an array map of `count` lines, made with `BPF_F_MMAPABLE`.
    pub fn new(map: BorrowedFd<'_>, count: u32) -> io::Result<Self> {
        let count = count as usize;
        let length = NonZeroUsize::new(count * size_of::<Line>()).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping at an address of the kernel's choice; the kernel refuses a length beyond the map's.
        let start =
            unsafe { mmap(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, map, 0) }?;
        Ok(Self { start: start.cast(), count })
    }

    /// The lines.
    pub fn lines(&self) -> &[Line] {
        // SAFETY: the mapping holds `count` lines, page-aligned, until this value is dropped; any bits are a `Word`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

impl Drop for MappedLines {
    fn drop(&mut self) {
        // SAFETY: `new` made this mapping, and nobody borrows from it any more.
        let _unmapped = unsafe { munmap(self.start.cast(), self.count * size_of::<Line>()) };
    }
}
