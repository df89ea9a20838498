//! The part of Markdown that the documentation of this program uses: headings,
//! paragraphs, lists, tables, fenced code, code spans, emphasis and links.

use super::{Block, Style, StyledText};

/// Returns the blocks of a text.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.trim().is_empty() {
            continue;
        }
        if line.starts_with("```") {
            let mut code = String::new();
            for line in lines.by_ref().take_while(|line| !line.starts_with("```")) {
                code += line;
                code.push('\n');
            }
            blocks.push(Block::Lines(code));
        } else if let Some(heading) = line.trim_start_matches('#').strip_prefix(' ')
            && line.starts_with('#')
        {
            blocks.push(Block::Heading(heading.trim().to_owned()));
        } else if line.starts_with('|') {
            let mut rows = vec![cells(line)];
            while let Some(row) = lines.next_if(|line| line.starts_with('|')) {
                rows.push(cells(row));
            }
            blocks.push(table(&rows));
        } else {
            let mut paragraph = vec![line];
            while let Some(next) = lines.next_if(|line| continues(line)) {
                paragraph.push(next);
            }
            blocks.push(match line.starts_with("- ") {
                true => points(&paragraph),
                false => Block::Paragraph(spans(&paragraph.join(" "))),
            });
        }
    }
    blocks
}

/// True if a line belongs to the paragraph before it.
fn continues(line: &str) -> bool {
    let begins = ["```", "|", "# ", "## ", "### "];
    !line.trim().is_empty() && !begins.iter().any(|begin| line.starts_with(begin))
}

fn points(lines: &[&str]) -> Block {
    let mut points: Vec<String> = Vec::new();
    for line in lines {
        match (line.strip_prefix("- "), points.last_mut()) {
            (Some(point), _) => points.push(point.to_owned()),
            (None, Some(last)) => *last = format!("{last} {}", line.trim()),
            (None, None) => points.push(line.trim().to_owned()),
        }
    }
    Block::Points(points.iter().map(|point| spans(point)).collect())
}

/// Returns the cells of a row. A `\|` is a bar.
fn cells(line: &str) -> Vec<String> {
    let line = line.trim().trim_start_matches('|').replace("\\|", "\u{1}");
    let line = line.strip_suffix('|').unwrap_or(&line).to_owned();
    let cells = line.split('|');
    cells
        .map(|cell| cell.trim().replace('\u{1}', "|"))
        .collect()
}

/// Returns the terms of a table: the first cell of each row, with the middle ones
/// by their headings; the last cell is the meaning.
fn table(rows: &[Vec<String>]) -> Block {
    let (head, rows) = rows
        .split_first()
        .map_or((&[][..], rows), |(head, rows)| (head.as_slice(), rows));
    let is_rule = |row: &&Vec<String>| {
        row.iter()
            .all(|cell| cell.chars().all(|it| "-: ".contains(it)))
    };
    let rows = rows.iter().filter(|row| !is_rule(row));
    let terms = rows.filter_map(|row| {
        let (term, rest) = row.split_first()?;
        let (meaning, middle) = rest.split_last()?;
        let mut term = spans(term);
        for (cell, name) in middle.iter().zip(head.iter().skip(1)) {
            let before = match &**name {
                _ if cell.is_empty() => continue,
                "" => " (".to_owned(),
                name => format!(" ({name}: "),
            };
            term.push(StyledText::plain(before));
            term.extend(spans(cell));
            term.push(StyledText::plain(")"));
        }
        Some((joined(term), spans(meaning)))
    });
    Block::Terms(terms.collect())
}

/// Returns the pieces of a text.
pub(super) fn spans(text: &str) -> Vec<StyledText> {
    let mut all = Vec::new();
    styled(text, Style::Plain, &mut all);
    joined(all)
}

fn styled(text: &str, style: Style, all: &mut Vec<StyledText>) {
    let mut rest = text;
    while let Some(begin) = rest.find(['`', '*', '[', '<']) {
        let (before, mark) = rest.split_at(begin);
        let of = |text: &str, style| StyledText {
            text: text.to_owned(),
            style,
        };
        let mut plain = |before: &str| all.push(of(before, style));
        let next = if let Some((code, after)) = within(mark, "`", "`") {
            plain(before);
            let style = if style == Style::Plain {
                Style::Code
            } else {
                style
            };
            all.push(of(code, style));
            after
        } else if let Some((strong, after)) = within(mark, "**", "**") {
            plain(before);
            styled(strong, Style::Strong, all);
            after
        } else if let Some((emphasis, after)) = within(mark, "*", "*")
            && !emphasis.starts_with(' ')
        {
            plain(before);
            styled(emphasis, style, all);
            after
        } else if let Some((shown, after)) = within(mark, "[", "](")
            && let Some((target, after)) = after.split_once(')')
        {
            plain(before);
            styled(shown, style, all);
            if target.contains("://") {
                all.push(of(&format!(" ({target})"), style));
            }
            after
        } else if let Some((link, after)) = within(mark, "<", ">")
            && link.contains("://")
        {
            plain(before);
            all.push(of(link, style));
            after
        } else {
            let length = mark.chars().next().map_or(0, char::len_utf8);
            let (mark, after) = mark.split_at(length);
            plain(before);
            plain(mark);
            after
        };
        rest = next;
    }
    all.push(StyledText {
        text: rest.to_owned(),
        style,
    });
}

/// Returns what is between two marks at the begin of a text, and what follows.
fn within<'a>(text: &'a str, open: &str, close: &str) -> Option<(&'a str, &'a str)> {
    let rest = text.strip_prefix(open)?;
    let (inner, after) = rest.split_once(close)?;
    (!inner.is_empty()).then_some((inner, after))
}

/// Joins neighbours of one style.
fn joined(spans: Vec<StyledText>) -> Vec<StyledText> {
    let mut all: Vec<StyledText> = Vec::new();
    for span in spans {
        match all.last_mut() {
            _ if span.text.is_empty() => {}
            Some(last) if last.style == span.style && span.style != Style::Code => {
                last.text += &span.text;
            }
            _ => all.push(span),
        }
    }
    all
}
