//! Texts in one line, whatever is in them.

/// Returns the words of a text with single spaces between them. What would control a
/// terminal or reorder the text is escaped: a part of it may be a stranger's, such
/// as the names in a component.
#[must_use]
pub fn in_one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut line = String::with_capacity(text.len());
    for letter in words.join(" ").chars() {
        match is_harmless(letter) {
            true => line.push(letter),
            false => line.extend(letter.escape_default()),
        }
    }
    line
}

/// True unless the character is a control character other than tab, separates
/// lines or paragraphs, or changes the direction of text.
#[must_use]
pub fn is_harmless(letter: char) -> bool {
    match letter {
        '\t' => true,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            false
        }
        letter => !letter.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_nothing_that_a_terminal_obeys() {
        for (text, line) in [
            ("a  b\n\tc ", "a b c"),
            ("a\u{1b}[2J\u{7}", "a\\u{1b}[2J\\u{7}"),
            ("a\0\u{7f}\u{9b}", "a\\u{0}\\u{7f}\\u{9b}"),
            ("\u{202e}gpj.x ä…", "\\u{202e}gpj.x ä…"),
        ] {
            assert_eq!(in_one_line(text), line, "{text:?}");
        }
    }
}
