//! Text for a manual page: man(7).

use clap_mangen::roff::{Inline, Roff, bold, roman};

use super::{Block, Style, StyledText};

/// Returns blocks as the body of a manual page.
pub(crate) fn roff(blocks: &[Block]) -> String {
    let mut page = Roff::new();
    let mut after_heading = true;
    for block in blocks {
        let begins = !matches!(
            block,
            Block::Heading(_) | Block::Terms(_) | Block::Points(_)
        );
        if begins && !after_heading {
            page.control("PP", []);
        }
        match block {
            Block::Heading(text) => {
                page.control("SH", [text.to_uppercase().as_str()]);
            }
            Block::Paragraph(spans) => {
                page.text(inlines(spans));
            }
            Block::Lines(lines) => {
                page.control("RS", ["4"]).control("EX", []);
                for line in lines.lines() {
                    // A line of a text that is not filled stays empty.
                    match line.is_empty() {
                        true => page.control("sp", []),
                        false => page.text([roman(line)]),
                    };
                }
                page.control("EE", []).control("RE", []);
            }
            Block::Points(points) => {
                for point in points {
                    page.control("IP", ["\\(bu", "2"]).text(inlines(point));
                }
            }
            Block::Terms(terms) => {
                for (term, meaning) in terms {
                    page.control("TP", []).text(inlines(term));
                    // A term needs a body.
                    page.text(match meaning.is_empty() {
                        true => vec![roman("\u{a0}")],
                        false => inlines(meaning),
                    });
                }
            }
        }
        after_heading = matches!(block, Block::Heading(_));
    }
    page.render()
}

fn inlines(spans: &[StyledText]) -> Vec<Inline> {
    let inlines = spans.iter().map(|span| match span.style {
        Style::Plain => roman(&span.text),
        Style::Code | Style::Strong => bold(&span.text),
    });
    inlines.collect()
}
