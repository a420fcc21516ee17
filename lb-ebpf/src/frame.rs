//! The bytes of one frame: the only pointer arithmetic and the only bounds check on the packet's way.
//!
//! The verifier follows pointers and their comparison with the frame's end, not slices; so a frame is two addresses,
//! and a header is a reference that one comparison has proved to lie between them.

/// A received frame.
///
/// # Safety
/// For as long as the frame is borrowed, all bytes from `start` to before `end` must be readable, and writable if the
/// borrow is unique.
pub unsafe trait Frame {
    /// Address of the first byte.
    fn start(&self) -> usize;
    /// Address after the last byte.
    fn end(&self) -> usize;
    /// Index of the interface that it came in on.
    fn ingress(&self) -> u32;
}

/// A type that any bytes at any address are a valid value of.
///
/// # Safety
/// Alignment 1, no padding, no invalid bit pattern.
pub unsafe trait Header: Copy {}

// SAFETY of all: structs of byte arrays (repr(C)), or byte arrays themselves.
unsafe impl Header for crate::headers::Ethernet {}
unsafe impl Header for network_types::ip::Ipv4Hdr {}
unsafe impl Header for network_types::tcp::TcpHdr {}
unsafe impl Header for network_types::udp::UdpHdr {}
unsafe impl<const N: usize> Header for [u8; N] {}

const _: () = {
    assert!(align_of::<crate::headers::Ethernet>() == 1);
    assert!(align_of::<network_types::ip::Ipv4Hdr>() == 1);
    assert!(align_of::<network_types::tcp::TcpHdr>() == 1);
    assert!(align_of::<network_types::udp::UdpHdr>() == 1);
};

/// The header of type `T` that begins `offset` bytes into the frame, if all of it is there.
#[inline(always)]
pub fn header<T: Header>(frame: &impl Frame, offset: usize) -> Option<&T> {
    let at = frame.start() + offset;
    if at + size_of::<T>() > frame.end() {
        return None;
    }
    // SAFETY: the comparison proves that the bytes are in the frame, which is borrowed; any bytes are a `T`.
    Some(unsafe { &*(at as *const T) })
}

/// As [`header`], to write to.
#[inline(always)]
pub fn header_mut<T: Header>(frame: &mut impl Frame, offset: usize) -> Option<&mut T> {
    let at = frame.start() + offset;
    if at + size_of::<T>() > frame.end() {
        return None;
    }
    // SAFETY: as in `header`, and the frame is borrowed uniquely.
    Some(unsafe { &mut *(at as *mut T) })
}

/// Number of bytes in the frame.
#[inline(always)]
pub fn length(frame: &impl Frame) -> usize {
    frame.end() - frame.start()
}

/// A frame in memory, as the host runs the pipeline on it.
#[cfg(not(target_arch = "bpf"))]
#[derive(Debug)]
pub struct HostFrame<'a> {
    bytes: &'a mut [u8],
    ingress: u32,
}

#[cfg(not(target_arch = "bpf"))]
impl<'a> HostFrame<'a> {
    /// The frame `bytes`, come in on the interface with index `ingress`.
    pub fn new(bytes: &'a mut [u8], ingress: u32) -> Self {
        Self { bytes, ingress }
    }
}

// SAFETY: both addresses are those of a slice that is borrowed uniquely for as long as the frame lives.
#[cfg(not(target_arch = "bpf"))]
unsafe impl Frame for HostFrame<'_> {
    fn start(&self) -> usize {
        self.bytes.as_ptr().expose_provenance()
    }

    fn end(&self) -> usize {
        self.bytes.as_ptr_range().end.expose_provenance()
    }

    fn ingress(&self) -> u32 {
        self.ingress
    }
}
