//! Mistakes of a configuration file, with their places.

use std::fmt;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use super::document::Place;

/// Mistakes of a configuration file, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes {
    file: PathBuf,
    /// Line and column, from 1, and the mistake.
    lines: Vec<(Option<(usize, usize)>, String)>,
}

impl Mistakes {
    /// Returns these mistakes of a file with this text.
    pub(super) fn new(file: &Path, text: &str, mut mistakes: Vec<Mistake>) -> Self {
        mistakes.sort_by_key(|mistake| mistake.place.as_ref().map(|place| place.start));
        mistakes.dedup();
        let lines = mistakes.into_iter().map(|mistake| {
            let place = mistake.place.map(|place| position(text, place.start));
            (place, mistake.message)
        });
        Self {
            file: file.to_owned(),
            lines: lines.collect(),
        }
    }

    /// Returns one mistake.
    pub(super) fn one(file: &Path, place: Option<(usize, usize)>, message: String) -> Self {
        Self {
            file: file.to_owned(),
            lines: vec![(place, message)],
        }
    }

    /// Adds the mistakes of another look at the file.
    #[must_use]
    pub fn and(mut self, more: Self) -> Self {
        self.lines.extend(more.lines);
        self.lines.sort_by_key(|(place, _)| *place);
        self.lines.dedup();
        self
    }

    /// Returns the first mistake, and how many others there are: a line for the
    /// log.
    #[must_use]
    pub fn in_a_line(&self) -> String {
        let text = self.to_string();
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        match lines.count() {
            0 => first.to_owned(),
            more => format!(
                "{first} (and {more} more: see `netwasm check {}`)",
                self.file.display()
            ),
        }
    }
}

impl Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        for (number, (place, message)) in self.lines.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            match place {
                Some((line, column)) => write!(f, "{file}:{line}:{column}: {message}")?,
                None => write!(f, "{file}: {message}")?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// A mistake, and its place in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) place: Option<Place>,
    pub(super) message: String,
}

impl Mistake {
    pub(super) fn at(place: Option<Place>, message: impl Into<String>) -> Self {
        let message = message.into();
        // A mistake is one line.
        let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        Self { place, message }
    }
}

/// Returns the line and the column of a place, both from 1; columns are
/// characters.
pub(super) fn position(text: &str, place: usize) -> (usize, usize) {
    let before = text.get(..place).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}
