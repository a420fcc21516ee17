//! Config files as the stories need them.

use std::fmt;

use harness::topology::{INTERFACE, VIP, backend_address};

/// Where the test servers answer HTTP, and datagrams.
pub const HTTP: u16 = 8_080;
/// Where they answer lines.
pub const LINES: u16 = HTTP + 1;

/// A whole config.
#[derive(Clone)]
pub struct Config {
    pub nat_ports: &'static str,
    pub timeouts: Timeouts,
    pub services: Vec<Service>,
}

/// How long silent sessions are kept, as typed.
#[derive(Clone, Copy)]
pub struct Timeouts {
    pub half_open: &'static str,
    pub established: &'static str,
    pub half_closed: &'static str,
    pub closing: &'static str,
    pub udp_one_way: &'static str,
    pub udp_both_ways: &'static str,
}

/// A service of the VIP.
#[derive(Clone)]
pub struct Service {
    name: &'static str,
    port: u16,
    protocol: &'static str,
    policy: &'static str,
    source: &'static str,
    health: Option<&'static str>,
    backends: Vec<(u8, u16, u16)>,
}

impl Config {
    /// The lab's usual values.
    pub fn of(services: impl IntoIterator<Item = Service>) -> Self {
        let timeouts = Timeouts {
            half_open: "10s",
            established: "300s",
            half_closed: "60s",
            closing: "5s",
            udp_one_way: "30s",
            udp_both_ways: "60s",
        };
        Self { nat_ports: "1024-32767", timeouts, services: services.into_iter().collect() }
    }
}

impl Service {
    /// TCP to all three backends' port, unprobed, by `maglev`, with the balancer's address.
    pub fn tcp(name: &'static str, port: u16, backend_port: u16) -> Self {
        Self {
            name,
            port,
            protocol: "tcp",
            policy: "maglev",
            source: "balancer",
            health: None,
            backends: (1..=3).map(|number| (number, backend_port, 1)).collect(),
        }
    }

    /// The same over UDP.
    pub fn udp(name: &'static str, port: u16, backend_port: u16) -> Self {
        Self { protocol: "udp", ..Self::tcp(name, port, backend_port) }
    }

    /// Another placement policy.
    pub fn policy(self, policy: &'static str) -> Self {
        Self { policy, ..self }
    }

    /// The client's own address towards the backends.
    pub fn preserve(self) -> Self {
        Self { source: "preserve", ..self }
    }

    /// Weights of the backends, in their order.
    pub fn weights(mut self, weights: [u16; 3]) -> Self {
        for (backend, weight) in self.backends.iter_mut().zip(weights) {
            backend.2 = weight;
        }
        self
    }

    /// One backend alone.
    pub fn only(mut self, number: u8) -> Self {
        self.backends.retain(|backend| backend.0 == number);
        self
    }

    /// Probed so often that a story need not wait long.
    pub fn probed(self) -> Self {
        Self { health: Some("interval = \"200ms\"\ntimeout = \"200ms\"\nrise = 2\nfall = 2\n"), ..self }
    }
}

/// A backend as commands name it.
pub fn backend(number: u8, port: u16) -> String {
    format!("{}:{port}", backend_address(number))
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "version = 1\n\n[[interface]]\nname = \"{INTERFACE}\"\nmode = \"native\"\n")?;
        writeln!(f, "[nat]\nports = \"{}\"\n", self.nat_ports)?;
        let Timeouts { half_open, established, half_closed, closing, udp_one_way, udp_both_ways } = self.timeouts;
        writeln!(f, "[timeouts]\nhalf-open = \"{half_open}\"\nestablished = \"{established}\"")?;
        writeln!(f, "half-closed = \"{half_closed}\"\nclosing = \"{closing}\"")?;
        writeln!(f, "udp-one-way = \"{udp_one_way}\"\nudp-both-ways = \"{udp_both_ways}\"\n")?;
        writeln!(f, "[metrics]\nlisten = \"127.0.0.1:9850\"")?;
        self.services.iter().try_for_each(|service| write!(f, "\n{service}"))
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, port, protocol, policy, source, health, backends } = self;
        writeln!(f, "[[service]]\nname = \"{name}\"\nvip = \"{VIP}\"\nport = {port}\nprotocol = \"{protocol}\"")?;
        writeln!(f, "policy = \"{policy}\"\nmode = \"nat\"\nsource = \"{source}\"\ndrain-timeout = \"60s\"")?;
        match health {
            Some(health) => write!(f, "\n[service.health]\nkind = \"tcp\"\n{health}")?,
            None => writeln!(f, "health = \"off\"")?,
        }
        for (number, port, weight) in backends {
            writeln!(f, "\n[[service.backend]]\naddress = \"{}\"\nweight = {weight}", backend(*number, *port))?;
            writeln!(f, "state = \"active\"")?;
        }
        Ok(())
    }
}
