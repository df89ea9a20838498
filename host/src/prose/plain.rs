//! Text for a terminal.

use super::{Block, Style, StyledText};

/// Indentation of meanings and of code, in columns.
const INDENT: usize = 4;

/// Marks for bold, and for its end: ECMA-48, SGR.
const BOLD: (&str, &str) = ("\u{1b}[1m", "\u{1b}[0m");

/// Returns blocks as text of so many columns. A terminal gets bold in place of
/// backquotes if it is `styled`.
pub(crate) fn plain(blocks: &[Block], columns: usize, styled: bool) -> String {
    let texts = blocks.iter().map(|block| match block {
        Block::Heading(text) => match styled {
            true => format!("{}{text}{}\n", BOLD.0, BOLD.1),
            false => format!("{}\n", text.to_uppercase()),
        },
        Block::Paragraph(spans) => filled(spans, columns, "", "", styled),
        Block::Lines(lines) => lines
            .lines()
            .map(|line| format!("{:1$}{line}", "", INDENT).trim_end().to_owned() + "\n")
            .collect(),
        Block::Points(points) => points
            .iter()
            .map(|point| filled(point, columns, "- ", "  ", styled))
            .collect(),
        Block::Terms(terms) => {
            let indent = " ".repeat(INDENT);
            let terms = terms.iter().map(|(term, meaning)| {
                filled(term, columns, "", "", styled)
                    + &filled(meaning, columns, &indent, &indent, styled)
            });
            terms.collect()
        }
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// Fills lines with words. A piece of code is not broken.
fn filled(spans: &[StyledText], columns: usize, first: &str, others: &str, styled: bool) -> String {
    let mut text = String::new();
    let (mut line, mut width) = (first.to_owned(), first.len());
    let mut is_empty = true;
    for (word, long) in words(spans, styled) {
        if !is_empty && width + 1 + long > columns {
            text += line.trim_end();
            text.push('\n');
            (line, width, is_empty) = (others.to_owned(), others.len(), true);
        }
        if !is_empty {
            line.push(' ');
            width += 1;
        }
        line += &word;
        width += long;
        is_empty = false;
    }
    if is_empty {
        return text;
    }
    text + line.trim_end() + "\n"
}

/// Returns the words, and the columns that each takes.
fn words(spans: &[StyledText], styled: bool) -> Vec<(String, usize)> {
    let mut words: Vec<(String, usize)> = Vec::new();
    // True if the next piece continues the last word.
    let mut joins = false;
    for span in spans {
        let code;
        let pieces: Vec<&str> = match (span.style, styled) {
            (Style::Code, true) => vec![span.text.as_str()],
            (Style::Code, false) => {
                code = format!("`{}`", span.text);
                vec![code.as_str()]
            }
            _ => span.text.split_whitespace().collect(),
        };
        let is_code = span.style == Style::Code;
        let begins = is_code || !span.text.starts_with(char::is_whitespace);
        let ends = is_code || !span.text.ends_with(char::is_whitespace);
        for (number, piece) in pieces.iter().enumerate() {
            let long = piece.chars().count();
            let shown = match span.style {
                Style::Code | Style::Strong if styled => format!("{}{piece}{}", BOLD.0, BOLD.1),
                _ => (*piece).to_owned(),
            };
            match words.last_mut() {
                Some((last, width)) if number == 0 && joins && begins => {
                    *last += &shown;
                    *width += long;
                }
                _ => words.push((shown, long)),
            }
        }
        joins = ends;
    }
    words
}
