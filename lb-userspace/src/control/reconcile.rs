//! Brings the maps to the desired image, step by step, and knows at any time what they hold.

use std::collections::BTreeSet;

use crate::datapath::{Datapath, DatapathError};

use super::image::{Image, Step};
use super::plan::plan;

/// A datapath, and what is known to be in its maps.
#[derive(Debug)]
pub struct Reconciler<D> {
    datapath: D,
    image: Image,
}

/// Why the desired image was not published in full. What was done before stays; publish again to go on from there.
#[derive(thiserror::Error, Debug)]
pub enum PublishError {
    /// The statistics of ids that are about to be used again could not be emptied. No step was taken.
    #[error("statistics of new services and backends: {0}")]
    Statistics(#[source] DatapathError),
    /// A step failed; those before it were taken, none after it.
    #[error("step {number} of {total} ({step}): {source}")]
    Step {
        /// Its number, from 1.
        number: usize,
        /// How many there were.
        total: usize,
        /// The step.
        step: Box<Step>,
        /// What the datapath said.
        source: DatapathError,
    },
}

impl<D: Datapath> Reconciler<D> {
    /// Takes a datapath over, whatever its maps hold.
    pub fn new(datapath: D) -> Result<Self, DatapathError> {
        let image = datapath.read()?;
        Ok(Self { datapath, image })
    }

    /// What the maps hold.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// The datapath, to read from.
    pub fn datapath(&self) -> &D {
        &self.datapath
    }

    /// The datapath, for what is not a step: sweeps, above all.
    pub fn datapath_mut(&mut self) -> &mut D {
        &mut self.datapath
    }

    /// Brings the maps from what they hold to `desired`; says how many steps it took. Stops at the first that fails:
    /// the next call plans again from what is true by then.
    pub fn publish(&mut self, desired: &Image) -> Result<usize, PublishError> {
        self.reset_traffic_of_new(desired).map_err(PublishError::Statistics)?;
        let steps = plan(&self.image, desired);
        let total = steps.len();
        for (number, step) in (1..).zip(steps) {
            if let Err(source) = self.datapath.apply(&step) {
                return Err(PublishError::Step { number, total, step: Box::new(step), source });
            }
            self.image.apply(&step);
        }
        Ok(total)
    }

    /// Reads the maps again and takes what they hold for true; says in how many entries that differs from what was
    /// known. Publish the desired image then.
    pub fn drift(&mut self) -> Result<usize, DatapathError> {
        let truth = self.datapath.read()?;
        // Step by step rather than whole, so that equal tables stay in memory once.
        let steps = plan(&self.image, &truth);
        for step in &steps {
            self.image.apply(step);
        }
        // No step takes settings away: only new maps have none.
        let lost = truth.settings.is_none() && self.image.settings.take().is_some();
        Ok(steps.len() + usize::from(lost))
    }

    fn reset_traffic_of_new(&mut self, desired: &Image) -> Result<(), DatapathError> {
        let ids = |image: &Image| image.services.values().map(|record| record.id).collect::<BTreeSet<u16>>();
        let services: Vec<u16> = ids(desired).difference(&ids(&self.image)).copied().collect();
        let is_new = |id: &u16| !self.image.backends.contains_key(id);
        let backends: Vec<u16> = desired.backends.keys().copied().filter(is_new).collect();
        if services.is_empty() && backends.is_empty() {
            return Ok(());
        }
        self.datapath.reset_traffic(&services, &backends)
    }
}
