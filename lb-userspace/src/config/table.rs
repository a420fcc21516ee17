//! One table of the file while it is read: keys are asked for one by one, and those that nobody asked for are faults.
//!
//! The reading code is thereby the one list of known keys, and one run finds every fault of every table.

use std::cell::RefCell;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Place};
use super::raw::Field;
use super::values::{Problem, one_of};

/// The faults found so far.
pub(super) type Faults = RefCell<Vec<Fault>>;

/// A table being read.
pub(super) struct Table<'t> {
    /// What messages call it; empty for the file itself.
    object: String,
    place: Place,
    entries: &'t DeTable<'t>,
    known: Vec<&'static str>,
    faults: &'t Faults,
}

impl<'t> Table<'t> {
    /// Starts to read `entries`, which stand at `place`.
    pub fn new(object: impl Into<String>, place: Place, entries: &'t DeTable<'t>, faults: &'t Faults) -> Self {
        Self { object: object.into(), place, entries, known: Vec::new(), faults }
    }

    /// Where it stands: its header, or all of it when it is written inline.
    pub fn place(&self) -> Place {
        self.place.clone()
    }

    /// What messages call it.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// Starts to read a table that stands in this one.
    pub fn part(&self, object: String, place: Place, entries: &'t DeTable<'t>) -> Table<'t> {
        Table::new(object, place, entries, self.faults)
    }

    /// What stands under `key`.
    pub fn get(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.known.push(key);
        self.entries.get(key)
    }

    /// Notes a fault at `place`.
    pub fn fault(&self, place: Place, message: &str, hint: impl Into<String>) {
        let message = if self.object.is_empty() { message.to_owned() } else { format!("{}: {message}", self.object) };
        self.faults.borrow_mut().push(Fault::invalid(place, message).hint(hint));
    }

    /// A value that must be there; `example` is one that would do, as typed.
    pub fn required<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, Problem>,
    ) -> Field<T> {
        if self.get(key).is_none() {
            self.fault(self.place(), &format!("{key} is missing"), format!("write {key} = {example}"));
        }
        self.given(key, example, read)
    }

    /// A value that is `default` when absent; `example` is one that would do, as typed.
    pub fn optional<T>(
        &mut self,
        key: &'static str,
        example: &str,
        default: T,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, Problem>,
    ) -> Field<T> {
        match self.get(key) {
            None => Some(Spanned::new(self.place(), default)),
            Some(_) => self.given(key, example, read),
        }
    }

    fn given<T>(
        &self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, Problem>,
    ) -> Field<T> {
        let value = self.entries.get(key)?;
        match read(value.get_ref()) {
            Ok(read) => Some(Spanned::new(value.span(), read)),
            Err(problem) => {
                let hint = problem.hint.unwrap_or_else(|| format!("write {key} = {example}"));
                self.fault(value.span(), &format!("{key} {}", problem.message), hint);
                None
            }
        }
    }

    /// A table in this one: `None` when it is absent, and when something else has its name.
    pub fn table(&mut self, key: &'static str) -> Option<Table<'t>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Table(entries) => Some(self.part(format!("[{key}]"), value.span(), entries)),
            other => {
                let problem = Problem::wrong_type(other, "a table");
                self.fault(
                    value.span(),
                    &format!("{key} {}", problem.message),
                    format!("write [{key}] above its keys"),
                );
                None
            }
        }
    }

    /// Every table of an array of tables, each called what `name` makes of it and its place from 1; none when it is
    /// absent. What is no table is left out; `None` when something else than an array has its name.
    pub fn tables(
        &mut self,
        key: &'static str,
        header: &str,
        name: impl Fn(usize, &DeTable<'t>) -> String,
    ) -> Option<Vec<Table<'t>>> {
        let Some(value) = self.get(key) else { return Some(Vec::new()) };
        let hint = || format!("write {header} above the keys of each");
        let DeValue::Array(elements) = value.get_ref() else {
            let problem = Problem::wrong_type(value.get_ref(), "an array of tables");
            self.fault(value.span(), &format!("{key} {}", problem.message), hint());
            return None;
        };
        let mut tables = Vec::with_capacity(elements.len());
        for (index, element) in elements.iter().enumerate() {
            if let DeValue::Table(entries) = element.get_ref() {
                let object = name(index + 1, entries);
                tables.push(self.part(object, element.span(), entries));
            } else {
                let problem = Problem::wrong_type(element.get_ref(), "a table");
                self.fault(element.span(), &format!("{key} {} {}", index + 1, problem.message), hint());
            }
        }
        Some(tables)
    }

    /// Ends the reading: what was never asked for is a fault.
    pub fn finish(self) {
        for key in self.entries.keys() {
            let name: &str = key.get_ref();
            if !self.known.contains(&name) {
                self.fault(key.span(), &format!("there is no key {name:?} here"), one_of(name, &self.known));
            }
        }
    }
}
