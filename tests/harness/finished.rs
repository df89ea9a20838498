//! The result of a command that has ended by itself.

/// The result of a run.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// Checks that the command was refused: with this exit code, no output, and
    /// a message that contains all needles and is neither a panic nor a
    /// backtrace. With code 1 the message is one line; before it may be the note that a
    /// component is compiled for the first time.
    pub(crate) fn refused(&self, code: i32, needles: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        assert_eq!(self.stdout, "", "nothing is printed where nothing listens");
        for needle in needles {
            assert!(self.stderr.contains(needle), "no {needle:?} in {self:#?}");
        }
        for bad in ["panicked", "backtrace", "RUST_BACKTRACE"] {
            assert!(!self.stderr.contains(bad), "{self:#?}");
        }
        if code == 1 {
            let lines = self.stderr.trim_end().lines();
            let lines = lines.filter(|line| !line.contains(" INFO compiling "));
            assert_eq!(lines.count(), 1, "one line: {self:#?}");
        }
    }

    /// Checks that the command ran the steps of a probe, and what each of them
    /// said, by `fits`.
    #[track_caller]
    pub(crate) fn said(&self, steps: &[(&str, &str)], fits: impl Fn(&str, &str) -> bool) {
        assert_eq!(self.code, Some(0), "{self:#?}");
        let lines: Vec<_> = self.stdout.lines().collect();
        for (line, (step, expected)) in lines.iter().zip(steps) {
            let said = line.strip_prefix(step).and_then(|it| it.strip_prefix(": "));
            let said = said.unwrap_or_else(|| panic!("{line:?} is not of {step:?}: {self:#?}"));
            let fits = fits(said, expected);
            assert!(fits, "{step}: {said:?}, not {expected:?}\n{self:#?}");
        }
        assert_eq!(lines.len(), steps.len(), "{self:#?}");
    }
}
