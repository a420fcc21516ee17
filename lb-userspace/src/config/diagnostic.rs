//! What a person or an editor is told about a fault in the file: its place, a sentence, the fix, the line underlined.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Element, Group, Level, Renderer, Snippet};
use serde::Serialize;

use super::fault::{Fault, Place};

/// One fault of a config file. Serialises for editors and CI.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Diagnostic {
    /// The file's name as it was given.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// First byte of the offending text.
    pub start: usize,
    /// The byte after its last.
    pub end: usize,
    /// What object, and what is wrong with it.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Another place that belongs to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub related: Option<Related>,
}

/// Another place that a fault refers to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Related {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// First byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
    /// What is there.
    pub message: String,
}

/// Faults in the order of the text, with their places worked out.
pub(super) fn diagnose(file_name: &str, text: &str, mut faults: Vec<Fault>) -> Vec<Diagnostic> {
    faults.sort_by_key(|fault| fault.place.start);
    let lines = Lines::of(text);
    let diagnostic = |fault: Fault| {
        let place = lines.within(&fault.place);
        let (line, column) = lines.position(place.start);
        Diagnostic {
            file: file_name.to_owned(),
            line,
            column,
            start: place.start,
            end: place.end,
            message: fault.message,
            hint: fault.hint,
            related: fault.related.map(|(place, message)| {
                let place = lines.within(&place);
                let (line, column) = lines.position(place.start);
                Related { line, column, start: place.start, end: place.end, message }
            }),
        }
    };
    faults.into_iter().map(diagnostic).collect()
}

/// Diagnostics as a terminal shows them, each with its line of `text` underlined.
pub fn render(diagnostics: &[Diagnostic], file_name: &str, text: &str, colour: bool) -> String {
    let style = if colour { Renderer::styled() } else { Renderer::plain() };
    let lines = Lines::of(text);
    let all: Vec<String> =
        diagnostics.iter().map(|diagnostic| style.render(&[group(diagnostic, file_name, &lines)])).collect();
    all.join("\n\n")
}

fn group<'a>(diagnostic: &'a Diagnostic, file_name: &'a str, lines: &Lines<'a>) -> Group<'a> {
    let snippet = |place: Range<usize>, kind: AnnotationKind, label: Option<&'a str>| {
        let (excerpt, start, line) = lines.excerpt(&place);
        let place = place.start - start..(place.end - start).min(excerpt.len());
        let annotation = kind.span(place).label(label);
        Snippet::source(excerpt).line_start(line).path(file_name).annotation(annotation)
    };
    let place = lines.within(&(diagnostic.start..diagnostic.end));
    let group = Group::with_title(Level::ERROR.primary_title(&*diagnostic.message));
    let mut elements: Vec<Element<'a>> = vec![snippet(place, AnnotationKind::Primary, None).into()];
    if let Some(related) = &diagnostic.related {
        let place = lines.within(&(related.start..related.end));
        elements.push(snippet(place, AnnotationKind::Context, Some(&related.message)).into());
    }
    elements.extend(diagnostic.hint.as_deref().map(|hint| Level::HELP.message(hint).into()));
    group.elements(elements)
}

/// A text and where its lines start.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn of(text: &'t str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(end, _)| end + 1)).collect();
        Self { text, starts }
    }

    /// `place`, cut so that it lies in the text and starts and ends between characters.
    fn within(&self, place: &Place) -> Place {
        let start = self.text.floor_char_boundary(place.start);
        start..self.text.ceil_char_boundary(place.end).max(start)
    }

    /// Index of the line that has the byte at `offset`.
    fn index(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset).saturating_sub(1)
    }

    /// Line, and column in characters, both from 1.
    fn position(&self, offset: usize) -> (usize, usize) {
        let index = self.index(offset);
        (index + 1, self.text[self.starts[index]..offset].chars().count() + 1)
    }

    /// The line where `place` starts, where it starts itself, and its number. A renderer that is given the whole text
    /// for each of thousands of faults is slow.
    fn excerpt(&self, place: &Place) -> (&'t str, usize, usize) {
        let index = self.index(place.start);
        let start = self.starts[index];
        let line = self.text[start..].lines().next().unwrap_or_default();
        (line, start, index + 1)
    }
}
