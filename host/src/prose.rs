//! Prose for people: the part of Markdown that the documentation uses, as plain
//! text for a terminal and as a manual page.
//!
//! ```text
//!   host/OPERATING.md --Block::read--> blocks --+--plain--> `netwasm help TOPIC`
//!   flags, keys ---------------------> blocks --+--roff---> `netwasm man PAGE`
//! ```

mod markdown;
mod plain;
mod roff;

pub(crate) use self::plain::plain;
pub(crate) use self::roff::roff;

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Block {
    /// Heading of a section.
    Heading(String),
    /// Text to be filled.
    Paragraph(Vec<StyledText>),
    /// Lines as they are.
    Lines(String),
    /// Terms, each with what it means.
    Terms(Vec<(Vec<StyledText>, Vec<StyledText>)>),
    /// Points of a list.
    Points(Vec<Vec<StyledText>>),
}

/// A piece of a line, of one style.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StyledText {
    pub(crate) text: String,
    pub(crate) style: Style,
}

/// Style of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// As the text around it.
    Plain,
    /// Code: to be typed, or a name.
    Code,
    /// Emphasis.
    Strong,
}

impl Block {
    /// Returns the blocks of a text in Markdown.
    pub(crate) fn read(markdown: &str) -> Vec<Self> {
        markdown::blocks(markdown)
    }

    /// Returns a paragraph of a text with Markdown's styles.
    pub(crate) fn paragraph(markdown: &str) -> Self {
        Self::Paragraph(StyledText::read(markdown))
    }
}

impl StyledText {
    /// Returns the pieces of a text with Markdown's styles.
    pub(crate) fn read(markdown: &str) -> Vec<Self> {
        markdown::spans(markdown)
    }

    /// Returns a piece without a style.
    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            style: Style::Plain,
        }
    }

    /// Returns a piece of code.
    pub(crate) fn code(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            style: Style::Code,
        }
    }
}

/// Returns the section below a heading of a document in Markdown, without the
/// heading; `None` if there is none.
pub(crate) fn section<'a>(document: &'a str, heading: &str) -> Option<&'a str> {
    let begin = format!("\n## {heading}\n");
    let (_, rest) = document.split_once(&begin)?;
    let (mut length, mut is_code) = (0, false);
    for line in rest.split_inclusive('\n') {
        is_code ^= line.starts_with("```");
        if !is_code && line.starts_with("## ") {
            break;
        }
        length += line.len();
    }
    rest.get(..length)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# Title

## First

A *small* text with `a | b`, [a link](#first), **`bold` code**
and <https://example.org/>. 2 * 3 * 4

- one
  and more
- two

```toml
## no heading
x = 1
```

| flag | default | |
| --- | --- | --- |
| `--a` | 1 | the `a \\| b` |
| `--c` | | none |

## Second

Text.
";

    #[test]
    fn a_section_ends_before_the_next_one() {
        assert_eq!(section(TEXT, "Second"), Some("\nText.\n"));
        assert_eq!(section(TEXT, "Third"), None);
        let first = section(TEXT, "First").expect("a section");
        assert!(!first.contains("Second"), "{first}");
    }

    #[test]
    fn a_terminal_gets_a_filled_text() {
        let first = section(TEXT, "First").expect("a section");
        let expected = "\
A small text with `a | b`, a link, bold
code and https://example.org/. 2 * 3 * 4

- one and more
- two

    ## no heading
    x = 1

`--a` (default: 1)
    the `a | b`
`--c`
    none
";
        assert_eq!(plain(&Block::read(first), 40, false), expected);
    }

    #[test]
    fn a_manual_page_gets_macros() {
        let page = roff(&Block::read(section(TEXT, "First").expect("a section")));
        for line in [
            ".EX",
            "## no heading",
            ".TP",
            "\\fB\\-\\-a\\fR (default: 1)",
            ".IP \\(bu 2",
        ] {
            assert!(page.lines().any(|it| it == line), "no {line} in {page}");
        }
        let dotted = roff(&[Block::Lines(".x 'y\\z\n.w".into())]);
        assert!(dotted.contains("\\&.x"), "{dotted}");
        assert!(dotted.contains("\\&.w"), "{dotted}");
    }
}
