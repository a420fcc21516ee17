//! Rows: one frame after another, and exactly what must come of each.

mod backends;
mod checksums;
mod forwarding;
mod lengths;
mod life;
mod limits;
mod passes;
mod placement;
mod preserve;

use std::collections::BTreeSet;

use lb_common::reason::{Counter, DropReason, Verdict};

use crate::check::Row;
use crate::sides::verdicts;

/// Reasons that no row can reach, and why.
const OUT_OF_REACH: [(DropReason, &str); 2] = [
    (DropReason::Contended, "takes two CPUs that open the same flow at the same moment"),
    (DropReason::Internal, "takes maps that hold what neither the agent nor the program writes"),
];

fn all() -> Vec<Row> {
    [
        backends::rows(),
        checksums::rows(),
        forwarding::rows(),
        lengths::rows(),
        life::rows(),
        limits::rows(),
        passes::rows(),
        placement::rows(),
        preserve::rows(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn rows_reach_every_reason_that_rows_can() {
    let rows = all();
    assert!(rows.len() >= 80, "{} rows", rows.len());
    let counter = |verdict| Counter::from(verdict).index();
    let reached: BTreeSet<u32> = rows.iter().flat_map(Row::verdicts).map(counter).collect();
    for verdict in verdicts() {
        let why = OUT_OF_REACH.into_iter().find(|(reason, _)| verdict == Verdict::Drop(*reason)).map(|(_, why)| why);
        assert_eq!(reached.contains(&counter(verdict)), why.is_none(), "{verdict:?}: {why:?}");
    }
}
