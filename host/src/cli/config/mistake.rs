//! Mistakes of a configuration file: their places, and messages about flags in
//! words of the file.

use std::fmt;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use netwasm_base::line::in_one_line;

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
        let message: String = message.into();
        Self {
            place,
            message: in_one_line(&message),
        }
    }
}

/// Returns the line and the column of a place, both from 1; columns are
/// characters.
pub(super) fn position(text: &str, place: usize) -> (usize, usize) {
    let before = text.get(..place).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

/// Returns the place of a flag in a message.
pub(super) fn find_flag(message: &str, name: &str) -> Option<usize> {
    let flag = format!("--{name}");
    let goes_on = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    message
        .match_indices(&flag)
        .map(|(place, _)| place)
        .find(|place| {
            let rest = message.get(place + flag.len()..).unwrap_or_default();
            !rest.starts_with(goes_on)
        })
}

/// Returns a message about flags as one about keys: without their dashes.
pub(super) fn in_keys(message: &str) -> String {
    let mut text = String::new();
    let mut rest = message;
    while let Some(place) = rest.find("--") {
        let (before, after) = rest.split_at(place);
        text += before;
        rest = after.get(2..).unwrap_or_default();
        let begins = before.chars().next_back();
        let is_flag = rest.starts_with(|letter: char| letter.is_ascii_lowercase())
            && !begins.is_some_and(|letter| letter.is_alphanumeric() || letter == '-');
        if !is_flag {
            text += "--";
        }
    }
    text + rest
}

/// Returns the first paragraph of an error of the command line, as one line.
pub(super) fn first_paragraph(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let first = text.split("\n\n").next().unwrap_or_default();
    first.split_whitespace().collect::<Vec<_>>().join(" ")
}
