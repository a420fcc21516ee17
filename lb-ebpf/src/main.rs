//! The BPF program: a shell around the library. Entry points, maps, context, nothing to test by itself.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod context;
#[cfg(target_arch = "bpf")]
mod maps;

#[cfg(target_arch = "bpf")]
mod program {
    #![expect(clippy::needless_pass_by_value, reason = "the macro calls entry points so")]

    use aya_ebpf::bindings::xdp_action;
    use aya_ebpf::macros::xdp;
    use aya_ebpf::programs::XdpContext;
    use lb_common::names::PROGRAM_OPEN_INDEX as PROGRAM_OPEN;
    use lb_common::reason::{DropReason, Verdict};
    use lb_ebpf::forward::{Progress, forward, open};
    use lb_ebpf::frame::header_mut;
    use lb_ebpf::select::Attempt;
    use lb_ebpf::tables::Tables;

    use crate::context::KernelFrame;
    use crate::maps::{KernelTables, PROGRAMS, jiffies, keep_attempt, kept_attempt};

    /// The datapath: attached to the interfaces.
    #[xdp]
    pub fn weir_xdp(context: XdpContext) -> u32 {
        match forward(&mut KernelFrame(&context), &KernelTables) {
            Progress::Done(verdict) => action(&context, verdict),
            Progress::Opens(attempt) => go_on(&context, attempt),
        }
    }

    /// The second half of the datapath: called for packets that open a flow, once for each NAT port tried.
    #[xdp]
    pub fn weir_open(context: XdpContext) -> u32 {
        match open(&mut KernelFrame(&context), &KernelTables, kept_attempt()) {
            Progress::Done(verdict) => action(&context, verdict),
            Progress::Opens(attempt) => go_on(&context, attempt),
        }
    }

    #[inline(always)]
    fn go_on(context: &XdpContext, attempt: Attempt) -> u32 {
        keep_attempt(attempt);
        // SAFETY: nothing here needs dropping; the frame is untouched, so the other program finds it as it came.
        unsafe { PROGRAMS.tail_call(context, PROGRAM_OPEN) };
        // Only if the agent has not filled the array.
        let verdict = Verdict::Drop(DropReason::Internal);
        KernelTables.count(verdict);
        action(context, verdict)
    }

    #[inline(always)]
    fn action(_context: &XdpContext, verdict: Verdict) -> u32 {
        #[cfg(feature = "trace")]
        aya_log_ebpf::debug!(_context, "verdict {}", lb_common::reason::Counter::from(verdict).index());
        match verdict {
            Verdict::Pass(_) => xdp_action::XDP_PASS,
            Verdict::Drop(_) => xdp_action::XDP_DROP,
            Verdict::Transmit(_) => xdp_action::XDP_TX,
        }
    }

    /// Writes the kernel's jiffies into the first eight bytes of the frame. Only ever test-run by the agent, which has
    /// no system call to read them by; never attached.
    #[xdp]
    pub fn weir_clock(context: XdpContext) -> u32 {
        match header_mut::<[u8; 8]>(&mut KernelFrame(&context), 0) {
            Some(bytes) => {
                *bytes = jiffies().to_ne_bytes();
                xdp_action::XDP_PASS
            }
            None => xdp_action::XDP_ABORTED,
        }
    }

    /// Passes everything. For the far end of a veth pair: the kernel hands frames that a program sends back (`XDP_TX`) to
    /// the peer at once only if the peer has a program too.
    #[xdp]
    pub fn weir_pass(_context: XdpContext) -> u32 {
        xdp_action::XDP_PASS
    }

    #[panic_handler]
    fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }

    // SAFETY: the kernel reads the licence from this section; nothing else is placed there.
    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}

/// The host builds this too, since it is in the workspace.
#[cfg(not(target_arch = "bpf"))]
fn main() {
    println!("weir_bpf is a BPF program: the agent carries it inside (cargo xtask build)");
}
