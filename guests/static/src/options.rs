//! Options of the command line.

/// The arguments behind `--`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Options {
    /// True to list directories that have no index.
    pub(crate) list: bool,
    /// The file to send where nothing exists.
    pub(crate) fallback: Option<String>,
}

impl Options {
    /// # Errors
    /// Says what is wrong and what would be right.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        while let Some(argument) = arguments.next() {
            if argument == "--list" {
                options.list = true;
            } else if argument == "--fallback" {
                options.fallback = Some(absolute(arguments.next().unwrap_or_default())?);
            } else if let Some(path) = argument.strip_prefix("--fallback=") {
                options.fallback = Some(absolute(path.to_owned())?);
            } else {
                let wanted = "after -- go --list and --fallback PATH";
                return Err(format!("{wanted}, not {argument:?}"));
            }
        }
        Ok(options)
    }
}

fn absolute(path: String) -> Result<String, String> {
    if path.starts_with('/') {
        return Ok(path);
    }
    let wanted = "--fallback takes a path that begins with a slash";
    Err(format!("{wanted}, not {path:?}"))
}

#[cfg(test)]
mod tests {
    use super::Options;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn both_options_are_understood() {
        assert_eq!(parse(""), Ok(Options::default()));
        let both = Ok(Options {
            list: true,
            fallback: Some("/app.html".to_owned()),
        });
        assert_eq!(parse("--list --fallback /app.html"), both);
        assert_eq!(parse("--fallback=/app.html --list"), both);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, word) in [
            ("--lst", "--lst"),
            ("--list public", "public"),
            ("--fallback", "--fallback"),
            ("--fallback app.html", "app.html"),
            ("--fallback --list", "--list"),
        ] {
            let reason = parse(line).expect_err(line);
            assert!(reason.contains(word), "{line}: {reason}");
        }
    }
}
