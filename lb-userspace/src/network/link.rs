//! Network interfaces, by name.

use std::collections::BTreeMap;

use super::NetworkError;
use super::kernel::Kernel;

/// A network interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// The kernel's name.
    pub name: String,
    /// The kernel's index.
    pub ifindex: u32,
    /// Its Ethernet address; zeros for an interface that has none.
    pub mac: [u8; 6],
    /// Largest packet, without the link-layer header, in bytes.
    pub mtu: u32,
    /// Whether it is switched on and has carrier.
    pub up: bool,
    /// The XDP program on it.
    pub xdp: Option<Attachment>,
}

/// An XDP program on an interface, whoever put it there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attachment {
    /// The kernel's id of the program.
    pub program_id: u32,
    /// Whether the driver runs it; otherwise the stack does.
    pub is_native: bool,
}

/// Every interface by the kernel's index, as it is now. (That a program was attached or taken off is not announced.)
///
/// Must be called within a tokio runtime.
pub async fn all() -> Result<BTreeMap<u32, Link>, NetworkError> {
    Kernel::open()?.links().await
}

/// The interface called `name`, as it is now.
///
/// Must be called within a tokio runtime.
pub async fn find(name: &str) -> Result<Link, NetworkError> {
    let links = all().await?;
    let known = || links.values().map(|link| link.name.clone()).collect();
    links
        .values()
        .find(|link| link.name == name)
        .cloned()
        .ok_or_else(|| NetworkError::NoSuchInterface { name: name.into(), known: known() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_loopback_is_found_by_name() {
        let link = find("lo").await.expect("every namespace has a loopback");
        assert_eq!((link.name.as_str(), link.ifindex, link.mac), ("lo", 1, [0; 6]));
        assert!(link.mtu > 0);
    }

    #[tokio::test]
    async fn an_unknown_interface_is_answered_with_those_there_are() {
        let error = find("no-such-if").await.expect_err("names have 15 characters, and this one nobody has");
        let message = error.to_string();
        assert!(message.contains("\"no-such-if\"") && message.contains("lo"), "{message}");
    }
}
