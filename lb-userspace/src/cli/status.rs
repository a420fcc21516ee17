//! `weir status`: on one screen, what works and what does not.

use std::fmt::Write;

use super::error::CliError;
use super::session::Session;
use super::{output, text};
use crate::api::types::{ServiceView, Snapshot, VerdictView};
use crate::config::AttachMode;

/// Up to so many services are all listed; of more, only those with something to tell.
const SERVICES_LISTED: usize = 16;

/// Bold red, where colours may be.
struct Ink(bool);

impl Ink {
    fn loud(&self, text: &str) -> String {
        if self.0 { format!("\x1b[1;31m{text}\x1b[0m") } else { text.into() }
    }
}

pub(super) fn run(session: &mut Session<'_, '_>) -> Result<(), CliError> {
    let snapshot = session.snapshot()?;
    session.show(&snapshot, |snapshot, colour| render(snapshot, &Ink(colour)))
}

fn render(s: &Snapshot, ink: &Ink) -> String {
    let mut page = format!(
        "{}instance {}   weir {}   up {}   revision {}\n",
        node(),
        s.instance,
        s.version,
        text::age(s.uptime_seconds),
        s.revision
    );
    page += &interfaces(s, ink);
    page += &services(s, ink);
    page += &packets(s, ink);
    for warning in &s.warnings {
        let _ = writeln!(page, "{} {warning}", ink.loud("! warning:"));
    }
    page
}

/// The host's name: the agent behind a Unix socket is on this host.
fn node() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { String::new() } else { format!("node {}   ", name.trim()) }
}

fn interfaces(s: &Snapshot, ink: &Ink) -> String {
    if s.interfaces.is_empty() {
        return format!("INTERFACES {}\n", ink.loud("none: nothing is balanced"));
    }
    let lines = s.interfaces.iter().map(|interface| {
        let mode = if interface.mode == AttachMode::Generic {
            ink.loud("GENERIC  ! slow: every packet goes through the host's stack first")
        } else {
            interface.mode_name().into()
        };
        format!("  {}  program {}  xdp {mode}\n", interface.name, interface.program_id)
    });
    std::iter::once("INTERFACES\n".into()).chain(lines).collect()
}

fn services(s: &Snapshot, ink: &Ink) -> String {
    let standing = |wanted| s.services.iter().filter(|service| Standing::of(service) == wanted).count();
    let mut page = format!(
        "SERVICES {}   healthy {}   degraded {}   down {}\n",
        s.services.len(),
        standing(Standing::Healthy),
        standing(Standing::Degraded),
        standing(Standing::Down)
    );
    let shown = |service: &&ServiceView| s.services.len() <= SERVICES_LISTED || !all_well(service);
    let shown: Vec<&ServiceView> = s.services.iter().filter(shown).collect();
    let heading = |service: &ServiceView| {
        [
            format!("  {}", service.name),
            service.endpoint(),
            service.policy.clone(),
            format!("{} eligible", output::eligible(service)),
        ]
    };
    let table = output::table(["", "", "", ""], shown.iter().map(|service| heading(service)));
    // The first line is the headings', which are empty here.
    for (service, line) in shown.iter().zip(table.lines().skip(1)) {
        let _ = writeln!(page, "{line}");
        if Standing::of(service) == Standing::Down {
            let why = if service.backends.is_empty() { "it has no backends" } else { "no backend takes new flows" };
            let _ = writeln!(page, "    {} {why}", ink.loud("! DOWN:"));
        }
        for backend in &service.backends {
            for trouble in output::troubles(backend) {
                let _ = writeln!(page, "    {} {}  {trouble}", ink.loud("!"), backend.address);
            }
        }
    }
    if shown.len() < s.services.len() {
        let _ =
            writeln!(page, "  and {} more with all backends well: weir service list", s.services.len() - shown.len());
    }
    page
}

/// Whether a service does its work.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Every backend takes new flows.
    Healthy,
    /// Some do.
    Degraded,
    /// None does.
    Down,
}

impl Standing {
    fn of(service: &ServiceView) -> Self {
        let mut staying = service.backends.iter().filter(|backend| !backend.leaving);
        if !service.backends.iter().any(|backend| backend.eligible) {
            Self::Down
        } else if staying.all(|backend| backend.eligible) {
            Self::Healthy
        } else {
            Self::Degraded
        }
    }
}

fn all_well(service: &ServiceView) -> bool {
    Standing::of(service) == Standing::Healthy && service.backends.iter().all(|b| output::troubles(b).is_empty())
}

fn packets(s: &Snapshot, ink: &Ink) -> String {
    let mut page = format!(
        "SESSIONS open {}   closing {}   at most {}\n",
        text::number(s.sessions.open),
        text::number(s.sessions.closing),
        text::number(s.sessions.capacity)
    );
    let of = |verdict: &'static str| s.verdicts.iter().filter(move |v| v.verdict == verdict);
    let sum = |verdict| text::number(of(verdict).map(|v| v.packets).sum());
    let list = |verdicts: Vec<&VerdictView>| -> String {
        let parts: Vec<String> =
            verdicts.into_iter().map(|v| format!("{} {}", v.reason, text::number(v.packets))).collect();
        if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
    };
    let _ = writeln!(
        page,
        "PACKETS  transmitted {}{}   passed {}   dropped {}",
        sum("transmit"),
        list(of("transmit").collect()),
        sum("pass"),
        sum("drop")
    );
    let mut drops: Vec<&VerdictView> = of("drop").filter(|v| v.packets > 0).collect();
    drops.sort_by_key(|v| std::cmp::Reverse(v.packets));
    for drop in drops {
        let _ = writeln!(page, "  {} dropped {}  {}", ink.loud("!"), drop.reason, text::number(drop.packets));
    }
    page
}
