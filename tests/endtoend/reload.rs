//! What is desired changes while the agent runs, and outlives it.

use anyhow::{Context, Result};
use harness::agent::{Agent, backend as backend_view};
use harness::topology::vip;
use lb_userspace::api::types::Origin;
use lb_userspace::config::AdminState;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::config::{Config, HTTP, Service, backend};
use crate::scene::{SOON, Scene, can_run};

fn weighted(weights: [u16; 3]) -> Config {
    Config::of([Service::tcp("web", 80, HTTP).weights(weights)])
}

fn hang_up(agent: &Agent) -> Result<()> {
    let pid = i32::try_from(agent.pid().context("the agent runs")?)?;
    Ok(kill(Pid::from_raw(pid), Signal::SIGHUP)?)
}

#[test]
fn a_change_outlives_the_agent_and_a_reload_takes_the_file() -> Result<()> {
    if !can_run("a_change_outlives_the_agent_and_a_reload_takes_the_file", &[]) {
        return Ok(());
    }
    let scene = Scene::start("reload")?;
    let mut agent = scene.agent(&weighted([1, 1, 1]))?;
    agent.ask(&["backend", "drain", "web", &backend(1, HTTP)])?;
    agent.kill9()?;
    agent.restart()?;
    let snapshot = agent.snapshot()?;
    let drained = backend_view(&snapshot, "web", &backend(1, HTTP)).context("backend 1 is there")?;
    assert_eq!((drained.state, drained.origin), (AdminState::Draining, Origin::Runtime));

    agent.write_config(&weighted([1, 0, 1]).to_string())?;
    hang_up(&agent)?;
    let weight = |snapshot: &_| backend_view(snapshot, "web", &backend(2, HTTP)).map(|backend| backend.weight);
    agent.until("the reload", SOON, |snapshot| (weight(snapshot) == Some(0)).then_some(()))?;
    let report = scene.all_answered(vip(80), 300)?;
    assert_eq!(report.by_backend.keys().collect::<Vec<_>>(), ["backend3"], "one drained, one without weight");

    let revision = agent.snapshot()?.revision;
    agent.write_config("version = 1\n[[interface]]\nname = \"eth0\"\nwight = 3\n")?;
    hang_up(&agent)?;
    agent.until("a word about the fault", SOON, |_| agent.log().contains("config not reloaded").then_some(()))?;
    assert_eq!(agent.snapshot()?.revision, revision, "a file with faults changed something:\n{}", agent.log());
    scene.all_answered(vip(80), 300)?;
    drop(agent);
    scene.end()
}

#[test]
fn a_nat_range_that_the_host_uses_is_refused() -> Result<()> {
    if !can_run("a_nat_range_that_the_host_uses_is_refused", &[]) {
        return Ok(());
    }
    let scene = Scene::start("ports")?;
    let agent = scene.agent(&weighted([1, 1, 1]))?;
    let mut config = weighted([1, 1, 1]);
    config.nat_ports = "30000-40000";
    agent.write_config(&config.to_string())?;
    let refused = agent.run_command().output()?;
    let told = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{told}");
    assert!(told.contains("30000-40000") && told.contains("ip_local_port_range"), "{told}");
    scene.all_answered(vip(80), 30)?;
    drop(agent);
    scene.end()
}
