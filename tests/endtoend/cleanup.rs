//! Nothing outlives its story: namespaces, pins, sockets, processes.

use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Context, Result};
use harness::topology::vip;

use crate::config::{Config, HTTP, Service};
use crate::scene::{Scene, can_run, leftovers};

/// Every story ends with `Scene::end`, which looks for leftovers; this one looks whether that look finds anything.
#[test]
fn what_a_story_makes_is_found_and_goes_with_it() -> Result<()> {
    if !can_run("what_a_story_makes_is_found_and_goes_with_it", &[]) {
        return Ok(());
    }
    let scene = Scene::start("cleanup")?;
    let agent = scene.agent(&Config::of([Service::tcp("web", 80, HTTP)]))?;
    scene.all_answered(vip(80), 20)?;
    let made = leftovers()?;
    for what in ["namespace cleanup-", "/sys/fs/bpf/weir/cleanup-", "/run/weir/cleanup-", "process "] {
        assert!(made.iter().any(|thing| thing.starts_with(what)), "{what} is not among {made:?}");
    }
    drop(agent);
    scene.end()
}

#[test]
fn a_story_that_fails_leaves_nothing_either() -> Result<()> {
    if !can_run("a_story_that_fails_leaves_nothing_either", &[]) {
        return Ok(());
    }
    let scene = Scene::start("failing")?;
    let mut agent = scene.agent(&Config::of([Service::tcp("web", 80, HTTP)]))?;
    // The worst case: nobody is there to detach in order.
    agent.kill9()?;
    let failed = catch_unwind(AssertUnwindSafe(|| {
        let _agent = agent;
        panic!("on purpose");
    }));
    assert!(failed.is_err());
    scene.end().context("after a panic")
}
