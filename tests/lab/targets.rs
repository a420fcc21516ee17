//! Whom load may be sent to: a lab's hosts and this machine, and nobody by mistake.

use std::net::{IpAddr, SocketAddr};

/// Reads address and port; refuses what is neither loopback nor private.
pub fn parse(text: &str) -> Result<SocketAddr, String> {
    let target: SocketAddr = text.parse().map_err(|_| format!("{text:?} is no ADDRESS:PORT"))?;
    let near = match target.ip() {
        IpAddr::V4(address) => address.is_loopback() || address.is_private(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local(),
    };
    if near {
        return Ok(target);
    }
    Err(format!("{target} is neither loopback nor private: load is for labs, such as the one that weir-lab up makes"))
}
