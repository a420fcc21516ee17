//! `up`, `down` and `status`: labs as a whole.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use harness::topology::{self, CLIENT, HostStatus, Lab, Options, VIP, backend_address};

/// Which lab.
#[derive(Args)]
pub struct Named {
    /// The lab's name: its namespaces begin with it
    #[arg(long, default_value = "lab")]
    name: String,
}

/// A lab to make.
#[derive(Args)]
pub struct Up {
    #[command(flatten)]
    lab: Named,
    /// How many backends
    #[arg(long, default_value_t = 3)]
    backends: u8,
    /// How many addresses the client has
    #[arg(long, default_value_t = 1)]
    client_addresses: u8,
}

impl Up {
    /// Makes the lab and leaves it standing.
    pub fn run(self) -> Result<()> {
        let name = self.lab.name;
        let options = Options { backends: self.backends, client_addresses: self.client_addresses };
        Lab::up(&name, options)?.keep();
        println!("lab {name} is up: {name}-client ({CLIENT}), {name}-balancer (VIP {VIP}),");
        println!("{name}-backend1 ({}) to {name}-backend{}", backend_address(1), self.backends);
        Ok(())
    }
}

impl Named {
    /// Removes the lab.
    pub fn down(self) -> Result<()> {
        let hosts = topology::status(&self.name)?;
        topology::remove(&self.name)?;
        for host in hosts.iter().filter(|host| !host.processes.is_empty()) {
            println!("{}: still running, without a network: {}", host.namespace, processes(host));
        }
        println!("lab {} is down: {} namespaces removed", self.name, hosts.len());
        Ok(())
    }

    /// Shows the lab; fails when there is none or a link is down.
    pub fn status(self) -> Result<ExitCode> {
        let hosts = topology::status(&self.name)?;
        if hosts.is_empty() {
            println!("lab {} is down (weir-lab up makes it)", self.name);
            return Ok(ExitCode::FAILURE);
        }
        let width = hosts.iter().map(|host| host.namespace.len()).max().unwrap_or_default();
        for host in &hosts {
            let links = if host.up { "links up  " } else { "links DOWN" };
            let running = if host.processes.is_empty() { String::new() } else { format!("  runs {}", processes(host)) };
            let line = format!("{:width$}  {links}  {}{running}", host.namespace, host.addresses.join(" "));
            println!("{}", line.trim_end());
        }
        Ok(if hosts.iter().all(|host| host.up) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn processes(host: &HostStatus) -> String {
    let ids: Vec<String> = host.processes.iter().map(u32::to_string).collect();
    format!("process {}", ids.join(", "))
}
