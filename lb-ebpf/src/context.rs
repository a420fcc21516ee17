//! [`Frame`] for the kernel's context.

use aya_ebpf::programs::XdpContext;
use lb_ebpf::frame::Frame;

/// The frame that the program was called for.
pub struct KernelFrame<'a>(pub &'a XdpContext);

// SAFETY: the kernel keeps the frame mapped and ours for as long as the program runs, and the verifier refuses any
// access that is not bounded by both addresses.
unsafe impl Frame for KernelFrame<'_> {
    #[inline(always)]
    fn start(&self) -> usize {
        self.0.data()
    }

    #[inline(always)]
    fn end(&self) -> usize {
        self.0.data_end()
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "32 bits in the kernel")]
    fn ingress(&self) -> u32 {
        self.0.ingress_ifindex() as u32
    }
}
