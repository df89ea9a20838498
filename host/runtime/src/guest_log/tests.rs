//! Tests of guests' lines in the log.

use tracing_subscriber::fmt::MakeWriter;

use super::*;

/// Output of the log, as text without time and colour.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn lines_of(act: impl FnOnce(GuestLog)) -> Vec<String> {
        let captured = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .without_time()
            .with_ansi(false)
            .with_max_level(Level::DEBUG)
            .with_writer(captured.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || act(GuestLog::new("g")));
        let text = String::from_utf8(lock(&captured.0).clone()).expect("UTF-8");
        text.lines().map(|line| line.trim().to_owned()).collect()
    }
}

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Captured {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn push(stream: &LogStream, text: &str) {
    lock(&stream.0).push(text.as_bytes());
}

#[test]
fn an_entry_has_its_level_and_the_name_of_the_guest() {
    let lines = Captured::lines_of(|log| {
        log.write(Level::ERROR, "one");
        log.write(Level::DEBUG, "two");
        log.write(Level::TRACE, "not shown");
    });
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("ERROR guest: one guest=\"g\""));
    assert!(lines[1].starts_with("DEBUG guest: two guest=\"g\""));
}

#[test]
fn a_panic_is_kept_for_the_entry_of_its_trap() {
    Captured::lines_of(|log| {
        let stream = log.stderr();
        push(&stream, "a line\n");
        assert_eq!(stream.panic(), None);
        push(
            &stream,
            "\nthread '<unnamed>' (1) panicked at src/lib.rs:18:21:\n",
        );
        assert_eq!(stream.panic().as_deref(), Some("src/lib.rs:18:21"));
        push(&stream, "boom was asked for\nnote: run with more\n");
        let told = "boom was asked for (src/lib.rs:18:21)";
        assert_eq!(stream.panic().as_deref(), Some(told));
        push(&stream, "thread 'main' panicked at b.rs:1:2:\n");
        push(&stream, &"ä".repeat(MAX_LINE));
        push(&stream, "\n");
        let told = stream.panic().expect("another panic");
        assert!(told.ends_with("ä (b.rs:1:2)") && told.len() < 300, "{told}");
    });
}

#[test]
fn an_entry_cannot_look_like_two_or_steer_a_terminal() {
    let lines = Captured::lines_of(|log| {
        log.write(
            Level::INFO,
            "a\nINFO forged\r\u{1b}[2J\u{9b}\u{2028}\u{202e}\tb",
        );
    });
    assert_eq!(lines.len(), 1, "{lines:?}");
    let expected = r"a\nINFO forged\r\u{1b}[2J\u{9b}\u{2028}\u{202e}".to_owned() + "\tb";
    assert!(lines[0].contains(&expected), "{lines:?}");
}

#[test]
fn a_long_entry_is_cut_between_characters() {
    let lines = Captured::lines_of(|log| {
        log.write(Level::INFO, &format!("x{}", "é".repeat(MAX_LINE)));
    });
    let kept = format!(": x{}… ", "é".repeat((MAX_LINE - 1) / 2));
    assert!(lines[0].contains(&kept));
}

#[test]
fn lines_of_a_stream_are_put_together_from_pieces() {
    let lines = Captured::lines_of(|log| {
        let out = log.stderr();
        push(&out, "\nthread 'main' ");
        push(&out.clone(), "panicked:\r\nboom\n\nrest");
    });
    assert_eq!(
        lines,
        [
            r#"WARN guest: thread 'main' panicked: guest="g" stream="stderr""#,
            r#"WARN guest: boom guest="g" stream="stderr""#,
            r#"WARN guest: rest guest="g" stream="stderr""#,
        ]
    );
}

#[test]
fn a_long_line_of_a_stream_comes_in_pieces_that_lose_nothing() {
    let lines = Captured::lines_of(|log| {
        let out = log.stdout();
        push(&out, &format!("x{}\n", "é".repeat(MAX_LINE)));
        push(&out, &"y".repeat(MAX_LINE));
        push(&out, "\n");
    });
    let total: usize = lines.iter().map(|line| line.matches('é').count()).sum();
    assert_eq!(total, MAX_LINE);
    assert_eq!(lines.len(), 4);
    assert_eq!(lines.iter().filter(|line| line.contains(MARK)).count(), 2);
    assert!(!lines.iter().any(|line| line.contains('\u{fffd}')));
}

#[test]
fn bytes_that_are_not_text_are_written_all_the_same() {
    let lines = Captured::lines_of(|log| {
        let out = log.stdout();
        lock(&out.0).push(&[0x80; 2 * MAX_LINE]);
        lock(&out.0).push(b"\xc3\n");
    });
    assert_eq!(lines.len(), 3, "{lines:?}");
}

#[test]
fn a_flood_is_counted_instead_of_written() {
    let flood = 3 * BURST as usize;
    let lines = Captured::lines_of(|log| {
        for n in 0..flood {
            log.write(Level::INFO, &format!("line {n}"));
        }
    });
    assert!(lines.len() < 2 * BURST as usize, "{}", lines.len());
    let written = lines.iter().filter(|l| l.contains(": line ")).count();
    let told: usize = lines
        .iter()
        .filter_map(|l| l.split_once("suppressed=")?.1.parse::<usize>().ok())
        .sum();
    assert_eq!(written + told, flood);
    let said = |line: &&String| line.contains("more than 200 lines a second");
    assert_eq!(lines.iter().filter(said).count(), 1);
}
