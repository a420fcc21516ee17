//! How the program comes to be on an interface, and what stands in its way.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use harness::agent::Agent;
use harness::topology::{INTERFACE, vip};
use harness::{command, netns};
use lb_common::names::{PASS_PROGRAM, PIN_ROOT};
use lb_userspace::config::AttachMode;
use lb_userspace::datapath::load;

use crate::config::{Config, HTTP, Service};
use crate::scene::{Scene, can_run};

fn config() -> Config {
    Config::of([Service::tcp("web", 80, HTTP)])
}

#[test]
fn somebody_elses_program_is_named_and_left_alone() -> Result<()> {
    if !can_run("somebody_elses_program_is_named_and_left_alone", &[]) {
        return Ok(());
    }
    let scene = Scene::start("foreign")?;
    let pin = Path::new("/sys/fs/bpf").join(format!("weir-foreign-{}", std::process::id()));
    load::pin_pass_program(&pin)?;
    let mut attach = Command::new("ip");
    attach.args(["link", "set", "dev", INTERFACE, "xdpdrv", "pinned"]).arg(&pin);
    let attached = netns::run(&scene.lab.balancer(), || command::run(&mut attach));
    fs::remove_file(&pin)?;
    attached??;

    let refused = Agent::start(&scene.lab, &config().to_string(), "foreign").err().context("it started")?;
    let told = format!("{refused:#}");
    assert!(told.contains("exit status: 5") && told.contains(PASS_PROGRAM), "{told}");
    let instance = format!("foreign-{}", std::process::id());
    assert!(!Path::new(PIN_ROOT).join(&instance).exists(), "pins are left");
    assert!(!Path::new("/run/weir").join(format!("{instance}.sock")).exists(), "a socket is left");
    let mut show = Command::new("ip");
    show.args(["-n", &scene.lab.balancer(), "link", "show", "dev", INTERFACE]);
    assert!(command::run(&mut show)?.contains(PASS_PROGRAM), "the other program is gone");
    scene.end()
}

#[test]
fn generic_mode_works_and_is_said() -> Result<()> {
    if !can_run("generic_mode_works_and_is_said", &[]) {
        return Ok(());
    }
    let scene = Scene::start("generic")?;
    let text = config().to_string().replace("\"native\"", "\"generic\"");
    let agent = Agent::start(&scene.lab, &text, "generic")?;
    agent.until("a next hop", crate::scene::SOON, |snapshot| {
        snapshot.services.iter().flat_map(|service| &service.backends).all(|backend| backend.eligible).then_some(())
    })?;
    let snapshot = agent.snapshot()?;
    assert_eq!(snapshot.interfaces[0].mode, AttachMode::Generic);
    assert!(snapshot.warnings.iter().any(|warning| warning.contains("generic mode")), "{:?}", snapshot.warnings);
    scene.all_answered(vip(80), 300)?;
    drop(agent);
    scene.end()
}
