//! A fault of the config: what a broken rule says, before it is known whether a file or an API change broke it.

use std::ops::Range;

use crate::api::types::RefusalCode;

/// Where in the file's text something stands, in bytes.
pub(super) type Place = Range<usize>;

/// One broken rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Fault {
    /// How the API would refuse it.
    pub code: RefusalCode,
    /// What to underline.
    pub place: Place,
    /// The object and the cause, as a sentence.
    pub message: String,
    /// The way out.
    pub hint: Option<String>,
    /// Another place that belongs to it, and what is there.
    pub related: Option<(Place, String)>,
}

impl Fault {
    /// A value that makes no sense by itself.
    pub fn invalid(place: Place, message: impl Into<String>) -> Self {
        Self { code: RefusalCode::Invalid, place, message: message.into(), hint: None, related: None }
    }

    /// A value that another one stands in the way of.
    pub fn conflict(place: Place, message: impl Into<String>, other: Place, label: impl Into<String>) -> Self {
        let related = Some((other, label.into()));
        Self { code: RefusalCode::Conflict, place, message: message.into(), hint: None, related }
    }

    /// Adds the way out.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}
