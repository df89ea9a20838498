//! Differences between two byte strings, for people.

/// Number of bytes that are shown on either side of the first difference.
const AROUND: usize = 40;

/// Returns the position of the first byte that differs. That is the end of the
/// shorter string if it is a prefix of the other.
pub(crate) fn position(expected: &[u8], received: &[u8]) -> usize {
    let pairs = expected.iter().zip(received);
    pairs.take_while(|(one, other)| one == other).count()
}

/// Shows two byte strings around their first difference: three lines, of which
/// the last points to it.
pub(crate) fn show(expected: &[u8], received: &[u8]) -> String {
    let at = position(expected, received);
    let digits = expected.len().max(received.len()).to_string().len();
    let line = |label: &str, bytes: &[u8]| {
        let head = format!("  {label} ({:digits$} bytes): ", bytes.len());
        let before = format!("{head}{}", opening(bytes, at));
        let text = format!("{before}{}", closing(bytes, at));
        (text, before.chars().count())
    };
    let (expected, column) = line("expected", expected);
    let (received, _) = line("received", received);
    format!("{expected}\n{received}\n{:column$}^ byte {at}", "")
}

/// Returns the quoted bytes before a position.
fn opening(bytes: &[u8], at: usize) -> String {
    let start = at.saturating_sub(AROUND);
    let more = if start > 0 { "..." } else { "" };
    format!("{more}\"{}", bytes[start..at].escape_ascii())
}

/// Returns the quoted bytes from a position on.
fn closing(bytes: &[u8], at: usize) -> String {
    let end = bytes.len().min(at + AROUND);
    let more = if end < bytes.len() { "..." } else { "" };
    format!("{}\"{more}", bytes[at..end].escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_points_to_the_first_difference() {
        let text = show(b"hello\nworld\n", b"hello\nWorld\n");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], r#"  expected (12 bytes): "hello\nworld\n""#);
        assert_eq!(lines[1], r#"  received (12 bytes): "hello\nWorld\n""#);
        let column = lines[1].find('W').expect("the difference");
        assert_eq!(lines[2], format!("{:column$}^ byte 6", ""));
    }

    #[test]
    fn a_prefix_differs_at_its_end() {
        let text = show(b"0123456789", b"0123");
        assert_eq!(
            text,
            "  expected (10 bytes): \"0123456789\"\n  \
               received ( 4 bytes): \"0123\"\n                            ^ byte 4"
        );
    }

    #[test]
    fn long_strings_are_cut_around_the_difference() {
        let mut expected = vec![b'x'; 1000];
        let received = expected.clone();
        expected[500] = 0xff;
        let text = show(&expected, &received);
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[0].contains(r"...") && lines[0].contains(r"\xff"),
            "{text}"
        );
        assert!(lines.iter().all(|line| line.len() < 130), "{text}");
        let column = lines[0].find(r"\xff").expect("the difference");
        assert_eq!(lines[2], format!("{:column$}^ byte 500", ""));
    }
}
