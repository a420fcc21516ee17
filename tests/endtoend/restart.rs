//! The agent comes and goes; what is forwarded stays.

use std::process::Command;

use anyhow::{Context, Result};
use harness::topology::{INTERFACE, vip};
use harness::{command, netns};
use serde_json::Value;

use crate::config::{Config, HTTP, LINES, Service};
use crate::failover::open_sessions;
use crate::scene::{Scene, can_run};

fn config() -> Config {
    Config::of([Service::tcp("web", 80, HTTP), Service::tcp("lines", 81, LINES)])
}

#[test]
fn a_killed_agent_is_not_missed_and_its_successor_breaks_nothing() -> Result<()> {
    if !can_run("a_killed_agent_is_not_missed_and_its_successor_breaks_nothing", &[]) {
        return Ok(());
    }
    let scene = Scene::start("restart")?;
    let mut agent = scene.agent(&config())?;
    let held = scene.start_hold(vip(81), 200)?;
    open_sessions(&agent, "lines", 200)?;
    let download = scene.download(vip(80), "/slow/2000000?rate=200000", None)?;
    let before = agent.snapshot()?;

    agent.kill9()?;
    scene.all_answered(vip(80), 200)?;
    agent.restart()?;
    scene.all_answered(vip(80), 200)?;
    assert!(download.is_running(), "the download was too short to show anything");
    // Sessions are counted by the sweep: the successor must find those that it did not make.
    open_sessions(&agent, "lines", 200)?;
    let after = agent.snapshot()?;
    let flows = |snapshot: &lb_userspace::api::types::Snapshot| {
        harness::agent::service(snapshot, "web").map(|service| service.traffic.flows)
    };
    let (before, after) = (flows(&before).context("no service")?, flows(&after).context("no service")?);
    assert!(after >= before + 400, "the counters began anew: {before} flows, then {after}");

    agent.kill9()?;
    agent.restart()?;
    download.finish()?;
    let held = held.finish_now()?;
    assert_eq!((held.connections, held.broken, held.moved), (200, 0, 0), "{held:?}");
    assert!(held.answers >= 400, "{held:?}");
    drop(agent);
    scene.end()
}

#[test]
fn an_agent_that_ends_in_order_leaves_forwarding() -> Result<()> {
    if !can_run("an_agent_that_ends_in_order_leaves_forwarding", &[]) {
        return Ok(());
    }
    let scene = Scene::start("sigterm")?;
    let mut agent = scene.agent(&config())?;
    let download = scene.download(vip(80), "/slow/1000000?rate=200000", None)?;
    let program = agent.snapshot()?.interfaces[0].program_id;
    let status = agent.stop()?;
    assert!(status.success(), "{status}");
    assert!(agent.pins().join("links").is_dir(), "the links are not pinned any more");
    scene.all_answered(vip(80), 200)?;
    agent.restart()?;
    scene.all_answered(vip(80), 200)?;
    download.finish()?;
    let attached = xdp(&scene)?.context("nothing is attached")?;
    let shown = agent.snapshot()?.interfaces[0].program_id;
    assert_eq!(attached["prog"]["id"], shown, "status shows another program than the kernel ({program} before)");
    drop(agent);
    scene.end()
}

#[test]
fn a_second_agent_of_an_instance_is_refused() -> Result<()> {
    if !can_run("a_second_agent_of_an_instance_is_refused", &[]) {
        return Ok(());
    }
    let scene = Scene::start("second")?;
    let agent = scene.agent(&config())?;
    let second = netns::output(&scene.lab.balancer(), &mut agent.run_command())?;
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    assert!(said.contains(agent.instance()), "it does not say which instance runs already: {said}");
    scene.all_answered(vip(80), 100)?;
    assert_eq!(agent.snapshot()?.instance, agent.instance(), "the first one does not answer any more");
    drop(agent);
    scene.end()
}

#[test]
fn detach_takes_everything_off() -> Result<()> {
    if !can_run("detach_takes_everything_off", &[]) {
        return Ok(());
    }
    let scene = Scene::start("detach")?;
    let mut agent = scene.agent(&config())?;
    scene.all_answered(vip(80), 50)?;
    assert!(xdp(&scene)?.is_some(), "nothing is attached before it");
    agent.ask(&["detach"])?;
    agent.ended()?;
    assert!(!agent.pins().exists(), "pins are left");
    assert_eq!(xdp(&scene)?, None);
    let load = scene.load(vip(80), &["--requests", "5", "--timeout", "500ms"])?;
    assert_eq!(load.ok, 0, "who answers? {load:?}");
    agent.restart()?;
    scene.all_answered(vip(80), 50)?;
    drop(agent);
    scene.end()
}

/// The XDP program on the balancer's interface, as the kernel shows it.
fn xdp(scene: &Scene) -> Result<Option<Value>> {
    let mut show = Command::new("ip");
    show.args(["-n", &scene.lab.balancer(), "-json", "-details", "link", "show", "dev", INTERFACE]);
    let links: Value = serde_json::from_str(&command::run(&mut show)?)?;
    Ok(links[0].get("xdp").cloned())
}
