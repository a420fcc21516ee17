//! `cargo xtask demo`: the whole thing at work in the lab, with one backend killed and one drained.
//!
//! It tells a story in steps, holds each against what must be true, and leaves nothing behind.

mod interrupt;
mod report;
mod story;
mod world;

use std::process::Command;

use anyhow::{Context, Result, bail};

use self::interrupt::Interrupt;
use self::world::{World, agent_log_end};
use crate::lab::built;
use crate::process::{as_root, cargo, is_root, mount_bpffs, run};
use crate::setup::{self, Choice, Scope};

/// Arguments of `cargo xtask demo`.
#[derive(clap::Args)]
pub struct Args {
    /// Leave everything running, and say how to look around.
    #[arg(long)]
    keep: bool,
    /// Only take down what an earlier demo left running.
    #[arg(long, conflicts_with = "keep")]
    down: bool,
    /// How many requests show the spread; fewer would spread too unevenly to judge.
    #[arg(long, value_name = "N", default_value_t = 12_000, value_parser = clap::value_parser!(u64).range(3_000..=20_000))]
    requests: u64,
    /// Everything is built, and this is root.
    #[arg(long, hide = true)]
    built: bool,
}

/// Sets up and builds as the user, then plays as root.
pub fn main(args: &Args) -> Result<()> {
    if !args.built && !args.down {
        setup::ensure(Scope::Everything, Choice::Auto)?;
        run(cargo().args(["build", "--package", "lb-userspace", "--package", "lb-tests", "--bins"]))?;
    }
    if is_root() { perform(args) } else { again_as_root(args) }
}

/// Runs this program again through sudo, with the privileged part as its only task.
fn again_as_root(args: &Args) -> Result<()> {
    let interrupt = Interrupt::listen()?;
    let own = built("xtask")?;
    let mut command = as_root(own);
    command.args(["demo", "--built", &format!("--requests={}", args.requests)]);
    command.args(args.keep.then_some("--keep")).args(args.down.then_some("--down"));
    // A signal is for the one who knows how to clean up; this one only waits.
    let status = command.status().context("cannot run sudo; run cargo xtask demo as root")?;
    interrupt.check()?;
    if status.success() { Ok(()) } else { bail!("the demo failed ({status})") }
}

fn perform(args: &Args) -> Result<()> {
    let interrupt = Interrupt::listen()?;
    mount_bpffs()?;
    let mut world = World::new(built("weir-lab")?, built("weir")?, interrupt.clone());
    world.clear().context("what an earlier demo left cannot be taken down")?;
    if args.down {
        println!("demo: nothing of it is left");
        return Ok(());
    }
    let played = story::play(&mut world, args.requests);
    if args.keep && played.is_ok() {
        world.keep();
        show_around(&world);
        return played;
    }
    let log = if played.is_err() { agent_log_end() } else { String::new() };
    let cleared = world.clear().context("the demo left something behind; mend it with: cargo xtask demo --down");
    interrupt.check()?;
    match played {
        Ok(()) => cleared,
        Err(error) if log.is_empty() => Err(error),
        Err(error) => Err(error.context(format!("the agent's last words were:\n{log}\n"))),
    }
}

fn show_around(world: &World) {
    println!("\neverything keeps running; look around with:");
    let client = |words: &[&str]| world.inside("client", words);
    let vip = format!("http://{}/", story::VIP);
    let looks = [
        world.weir(&["status"]),
        world.weir(&["backend", "list", "web"]),
        world.weir(&["backend", "undrain", "web", &story::backend(2)]),
        world.weir(&["metrics"]),
        client(&["curl", "-si", &vip]),
        client(&["tcpdump", "-ni", "eth0", "-c", "20"]),
    ];
    for look in &looks {
        println!("  {}", as_typed(look));
    }
    println!("take it down with:\n  cargo xtask demo --down");
}

/// With the program's whole path and root's rights, unlike in error messages.
fn as_typed(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>();
    format!("sudo {}", words.join(" "))
}
