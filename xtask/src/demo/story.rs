//! The demo's story, step by step.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use super::report::{Report, deviation, failed_before, failover, grouped};
use super::world::{World, ask};

/// Where the clients send to; the lab gives it to the balancer.
pub const VIP: &str = "10.10.0.100";
const TARGET: &str = "10.10.0.100:80";
const BACKENDS: u8 = 3;
const BACKEND_PORT: u16 = 8080;

/// How backends are probed: quickly, so that the demo is short.
const INTERVAL: Duration = Duration::from_millis(200);
const TIMEOUT: Duration = Duration::from_millis(100);
const FALL: u32 = 2;
/// What a busy machine may add.
const SLACK: Duration = Duration::from_millis(300);

/// Which backend is killed, and which is drained.
const KILLED: u8 = 1;
const DRAINED: u8 = 2;

/// Furthest from an equal share, in per mille.
const DEVIATION_MAX: u64 = 100;
/// Steady load while a backend is killed.
const RATE: u32 = 500;
const STEADY: Duration = Duration::from_secs(6);
/// Longest that anything of the demo may take.
const LIMIT: Duration = Duration::from_mins(1);

/// A backend's address and port.
pub fn backend(number: u8) -> String {
    format!("10.20.0.{}:{BACKEND_PORT}", 10 + number)
}

fn host(number: u8) -> String {
    format!("backend{number}")
}

fn config() -> String {
    let backend = |number| format!("[[service.backend]]\naddress = \"{}\"\n", backend(number));
    format!(
        "version = 1\n\n[[interface]]\nname = \"eth0\"\nmode = \"native\"\n\n[metrics]\nlisten = \"127.0.0.1:9850\"\n\n\
         [[service]]\nname = \"web\"\nvip = \"{VIP}\"\nport = 80\npolicy = \"maglev\"\n\n\
         [service.health]\ninterval = \"{}ms\"\ntimeout = \"{}ms\"\nrise = 2\nfall = {FALL}\n\n{}",
        INTERVAL.as_millis(),
        TIMEOUT.as_millis(),
        (1..=BACKENDS).map(backend).collect::<Vec<_>>().join("\n"),
    )
}

/// Plays every step, prints what was seen; an error if anything was not as it must be.
pub fn play(world: &mut World, requests: u64) -> Result<()> {
    let mut report = Report::default();
    let servers = set_the_stage(world)?;
    let killed = servers.into_iter().nth(usize::from(KILLED) - 1).context("no backend to kill")?;
    spread(world, requests, &mut report)?;
    kill_one(world, killed, &mut report)?;
    drain_one(world, requests, &mut report)?;
    println!("\n{report}");
    print!("{}", ask(&mut world.weir(&["status"]))?);
    match report.broken().as_slice() {
        [] => Ok(()),
        broken => bail!("not as it must be: {}", broken.join("; ")),
    }
}

/// Namespaces, servers and agent; the servers' process ids.
fn set_the_stage(world: &mut World) -> Result<Vec<u32>> {
    say("a client, a balancer and three backends, each in a network namespace");
    world.up()?;
    let servers = (1..=BACKENDS).map(|number| world.serve(&host(number), BACKEND_PORT)).collect::<Result<_>>()?;
    say("weir on the balancer, attached natively; all backends must become healthy");
    let agent = world.start_agent(&config())?;
    wait_for_all(world, agent)?;
    Ok(servers)
}

/// Until every backend takes new flows.
fn wait_for_all(world: &mut World, agent: u32) -> Result<()> {
    world.until("three healthy backends", LIMIT, |world| {
        if world.has_ended(agent) {
            bail!("the agent has ended");
        }
        // Until it listens there is no answer.
        let eligible = world.snapshot().map_or(0, |snapshot| snapshot.eligible());
        Ok((eligible == usize::from(BACKENDS)).then_some(()))
    })
}

fn spread(world: &mut World, requests: u64, report: &mut Report) -> Result<()> {
    say(&format!("{} requests, each over a connection of its own", grouped(requests)));
    let count = requests.to_string();
    let load = world.start_load(&["--target", TARGET, "--requests", &count, "--concurrency", "16"])?;
    let load = world.loaded(load, LIMIT)?;
    let snapshot = world.snapshot()?;
    report.expect(
        load.failed == 0 && load.requests == requests,
        format!("all {} requests are answered", grouped(requests)),
    );
    let far = deviation(&load.by_backend, &(1..=BACKENDS).map(host).collect::<Vec<_>>());
    let percent = format!("{}.{} %", far / 10, far % 10);
    report.expect(
        far <= DEVIATION_MAX,
        format!("each backend answers a third of them (furthest off: {percent}, 10 % allowed)"),
    );
    report.expect(snapshot.is_native(), "the program runs in the driver (native)".to_owned());
    let transmitted = snapshot.transmitted();
    let what = format!("the requests went through it ({} packets transmitted)", grouped(transmitted));
    report.expect(transmitted >= requests, what);
    report.saw("all backends up", load);
    Ok(())
}

fn kill_one(world: &mut World, server: u32, report: &mut Report) -> Result<()> {
    let name = host(KILLED);
    say(&format!("{RATE} requests per second for {} s; {name} is killed after one", STEADY.as_secs()));
    let (rate, duration) = (RATE.to_string(), format!("{}s", STEADY.as_secs()));
    let load =
        world.start_load(&["--target", TARGET, "--rate", &rate, "--duration", &duration, "--concurrency", "64"])?;
    world.pass(Duration::from_secs(1))?;
    let killed_ms = now_ms();
    world.crash(server)?;
    let load = world.loaded(load, LIMIT)?;
    let window = INTERVAL * FALL + TIMEOUT + SLACK;
    let (took, allowed) = (failover(&load, killed_ms), window.as_millis());
    let seen = took
        .map_or_else(|| "no request failed".to_owned(), |took| format!("last failure after {} ms", took.as_millis()));
    report.expect(
        took.is_none_or(|took| took <= window),
        format!("failover ends within {allowed} ms of the kill ({seen})"),
    );
    report.expect(!failed_before(&load, killed_ms), "no request fails before the kill".to_owned());
    report.saw(&format!("{name} killed"), load);
    Ok(())
}

fn drain_one(world: &mut World, requests: u64, report: &mut Report) -> Result<()> {
    let (back, name) = (host(KILLED), host(DRAINED));
    say(&format!("{back} comes back; once it is healthy, {name} is drained"));
    world.serve(&back, BACKEND_PORT)?;
    world.until("three healthy backends", LIMIT, |world| {
        Ok((world.snapshot()?.eligible() == usize::from(BACKENDS)).then_some(()))
    })?;
    ask(&mut world.weir(&["backend", "drain", "web", &backend(DRAINED)]))?;
    let count = requests.to_string();
    let load = world.start_load(&["--target", TARGET, "--requests", &count, "--concurrency", "16"])?;
    let load = world.loaded(load, LIMIT)?;
    report.expect(
        load.failed == 0 && load.requests == requests,
        format!("a drain breaks none of {} requests", grouped(requests)),
    );
    let late = load.by_backend.get(&name).copied().unwrap_or(0);
    report.expect(
        late == 0,
        format!("{name} gets no new flow once the drain command is done (it got {})", grouped(late)),
    );
    report.saw(&format!("{name} drained"), load);
    Ok(())
}

fn say(what: &str) {
    println!("demo: {what}");
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_config_names_every_backend_once() {
        let config = config();
        assert_eq!(config.matches("[[service.backend]]").count(), usize::from(BACKENDS));
        for number in 1..=BACKENDS {
            assert_eq!(config.matches(&backend(number)).count(), 1);
        }
        assert!(config.contains("interval = \"200ms\"") && config.contains("timeout = \"100ms\""));
    }
}
