//! Backends that die, drain, are disabled or removed: who notices, and who must not.

use anyhow::{Context, Result};
use harness::agent::{self, Agent};
use harness::command;
use harness::reports::{LoadReport, now_ms};
use harness::topology::vip;
use lb_userspace::health::Health;

use crate::config::{Config, HTTP, LINES, Service, backend};
use crate::scene::{Running, SOON, Scene, can_run, has_health};

/// Ten seconds of it, at a rate that leaves the machine idle.
const SLOW: &str = "/slow/2000000?rate=200000";

/// Requests to `web` and lines to `lines`, both probed.
fn probed() -> Config {
    Config::of([Service::tcp("web", 80, HTTP).probed(), Service::tcp("lines", 81, LINES).probed()])
}

fn names_of(report: &LoadReport) -> Vec<&str> {
    report.by_backend.keys().map(String::as_str).collect()
}

/// Waits until `count` more flows were placed in a service.
fn more_flows(agent: &Agent, service: &str, count: u64) -> Result<()> {
    let flows = |snapshot: &_| agent::service(snapshot, service).map(|service| service.traffic.flows);
    let before = flows(&agent.snapshot()?).context("no service")?;
    let reached = |snapshot: &_| flows(snapshot).filter(|&now| now >= before + count).map(|_| ());
    agent.until(&format!("{count} more flows in {service}"), SOON, reached)
}

/// Waits until a service has this many open sessions.
pub fn open_sessions(agent: &Agent, service: &str, count: u64) -> Result<()> {
    agent.until(&format!("{count} open sessions in {service}"), SOON, |snapshot| {
        let backends = &agent::service(snapshot, service)?.backends;
        (backends.iter().map(|backend| backend.sessions_open).sum::<u64>() >= count).then_some(())
    })
}

/// Load that goes on while something happens, at a modest rate.
fn steady_load(scene: &Scene, agent: &Agent) -> Result<Running<LoadReport>> {
    let load = scene.start_load(vip(80), &["--duration", "5m", "--rate", "200", "--concurrency", "16"])?;
    more_flows(agent, "web", 100)?;
    Ok(load)
}

#[test]
fn a_killed_server_costs_its_own_flows_alone() -> Result<()> {
    if !can_run("a_killed_server_costs_its_own_flows_alone", &[]) {
        return Ok(());
    }
    let mut scene = Scene::start("killed")?;
    let agent = scene.agent(&probed())?;
    let held = scene.start_hold(vip(81), 60)?;
    open_sessions(&agent, "lines", 60)?;
    let load = steady_load(&scene, &agent)?;
    scene.kill_server(2)?;
    has_health(&agent, "web", &backend(2, HTTP), Health::Unhealthy)?;
    has_health(&agent, "lines", &backend(2, LINES), Health::Unhealthy)?;
    let noticed_ms = now_ms();
    more_flows(&agent, "web", 400)?;
    let load = load.finish_now()?;
    assert!(load.last_failure_ms.is_none_or(|at| at <= noticed_ms), "noticed at {noticed_ms}, and: {load:?}");
    assert!(load.ok >= 400, "{load:?}");
    let held = held.finish_now()?;
    let hit = held.by_backend.get("backend2").copied().unwrap_or_default();
    assert!(hit > 0, "nothing was open to the killed server: {held:?}");
    assert_eq!((held.broken, held.moved), (hit, 0), "{held:?}");
    assert_eq!(held.broken_by_backend.get("backend2"), Some(&hit), "{held:?}");

    scene.start_server(2, &[])?;
    has_health(&agent, "web", &backend(2, HTTP), Health::Healthy)?;
    let load = scene.all_answered(vip(80), 300)?;
    assert_eq!(names_of(&load), ["backend1", "backend2", "backend3"]);
    drop(agent);
    scene.end()
}

#[test]
fn a_silent_host_costs_nothing_once_noticed() -> Result<()> {
    if !can_run("a_silent_host_costs_nothing_once_noticed", &[]) {
        return Ok(());
    }
    let scene = Scene::start("silent")?;
    let agent = scene.agent(&probed())?;
    let load = steady_load(&scene, &agent)?;
    command::ip_batch(Some(&scene.lab.backend(2)), &["link set eth0 down".into()])?;
    has_health(&agent, "web", &backend(2, HTTP), Health::Unhealthy)?;
    let noticed_ms = now_ms();
    more_flows(&agent, "web", 400)?;
    let load = load.finish_now()?;
    assert!(load.last_failure_ms.is_none_or(|at| at <= noticed_ms), "noticed at {noticed_ms}, and: {load:?}");
    let load = scene.all_answered(vip(80), 300)?;
    assert_eq!(names_of(&load), ["backend1", "backend3"]);
    drop(agent);
    scene.end()
}

#[test]
fn a_drained_backend_keeps_its_flows_and_gets_no_new_ones() -> Result<()> {
    if !can_run("a_drained_backend_keeps_its_flows_and_gets_no_new_ones", &[]) {
        return Ok(());
    }
    let scene = Scene::start("drain")?;
    let agent = scene.agent(&probed())?;
    let held = scene.start_hold(vip(81), 60)?;
    open_sessions(&agent, "lines", 60)?;
    let download = scene.download(vip(80), SLOW, Some("backend2"))?;
    let load = scene.start_load(vip(80), &["--duration", "5m", "--rate", "200", "--samples"])?;
    more_flows(&agent, "web", 100)?;

    agent.ask(&["backend", "drain", "web", &backend(2, HTTP)])?;
    agent.ask(&["backend", "drain", "lines", &backend(2, LINES)])?;
    let drained_ms = now_ms();
    assert!(download.is_running(), "the download was too short to show anything");
    more_flows(&agent, "web", 300)?;
    let load = load.finish_now()?;
    assert_eq!(load.failed, 0, "{:?}", load.failures);
    let samples = load.samples.context("no samples")?;
    // A request of the drain's own millisecond may have begun before it.
    let late = samples.iter().filter(|(at, name)| *at > drained_ms && name == "backend2").count();
    assert_eq!(late, 0, "new flows to a drained backend");
    assert!(samples.iter().any(|(at, name)| *at < drained_ms && name == "backend2"), "it had none before either");
    download.finish()?;
    let held = held.finish_now()?;
    assert_eq!((held.broken, held.moved), (0, 0), "{held:?}");
    assert!(held.by_backend.contains_key("backend2"), "nothing was open to the drained backend: {held:?}");

    agent.ask(&["backend", "undrain", "web", &backend(2, HTTP)])?;
    let load = scene.all_answered(vip(80), 300)?;
    assert_eq!(names_of(&load), ["backend1", "backend2", "backend3"]);
    drop(agent);
    scene.end()
}

#[test]
fn a_disabled_backend_gets_nothing_until_enabled() -> Result<()> {
    if !can_run("a_disabled_backend_gets_nothing_until_enabled", &[]) {
        return Ok(());
    }
    let scene = Scene::start("disable")?;
    let agent = scene.agent(&probed())?;
    let download = scene.download(vip(80), SLOW, Some("backend2"))?;
    let kept = scene.download(vip(80), SLOW, Some("backend1"))?;
    agent.ask(&["backend", "disable", "web", &backend(2, HTTP)])?;
    let load = scene.all_answered(vip(80), 300)?;
    assert_eq!(names_of(&load), ["backend1", "backend3"]);
    assert!(download.finish().is_err(), "a disabled backend's download went on");
    kept.finish()?;
    let snapshot = agent.snapshot()?;
    assert!(agent::packets(&snapshot, "drop", "backend-disabled") > 0, "{:?}", snapshot.verdicts);
    agent.ask(&["backend", "enable", "web", &backend(2, HTTP)])?;
    has_health(&agent, "web", &backend(2, HTTP), Health::Healthy)?;
    let load = scene.all_answered(vip(80), 300)?;
    assert_eq!(names_of(&load), ["backend1", "backend2", "backend3"]);
    drop(agent);
    scene.end()
}

#[test]
fn removed_and_weightless_backends_keep_running_downloads() -> Result<()> {
    if !can_run("removed_and_weightless_backends_keep_running_downloads", &[]) {
        return Ok(());
    }
    let scene = Scene::start("remove")?;
    let agent = scene.agent(&Config::of([Service::tcp("web", 80, HTTP)]))?;
    let from_removed = scene.download(vip(80), SLOW, Some("backend2"))?;
    let from_weightless = scene.download(vip(80), SLOW, Some("backend3"))?;
    agent.ask(&["backend", "remove", "web", &backend(2, HTTP)])?;
    agent.ask(&["backend", "set", "web", &backend(3, HTTP), "--weight", "0"])?;
    let load = scene.all_answered(vip(80), 300)?;
    assert_eq!(names_of(&load), ["backend1"]);
    assert!(from_removed.is_running() && from_weightless.is_running(), "the downloads were too short");
    let snapshot = agent.snapshot()?;
    let leaving = agent::backend(&snapshot, "web", &backend(2, HTTP)).context("it went before its flows did")?;
    assert!(leaving.leaving && !leaving.eligible, "{leaving:?}");
    from_removed.finish()?;
    from_weightless.finish()?;
    agent.until("the removed backend to be gone", SOON, |snapshot| {
        agent::backend(snapshot, "web", &backend(2, HTTP)).is_none().then_some(())
    })?;
    drop(agent);
    scene.end()
}
