//! `netwasm doctor`: what of this machine keeps a run from being right, or fast,
//! and what helps.
//!
//! Nothing is changed, and nothing leaves the machine unless `--network` allows
//! it: a listener's address is tried by binding it for a moment.

mod cgroup;
mod clock;
mod config;
mod files;
mod kernel;
mod limits;
mod manager;
mod network;

use std::path::PathBuf;

use serde_json::json;

pub(crate) use self::config::Examination;

/// The things to look at.
#[derive(Clone, Debug, Default)]
pub struct DoctorOptions {
    /// True for JSON, false for text.
    pub json: bool,
    /// True to ask name servers, and to connect to the servers that the
    /// configuration names.
    pub network: bool,
    /// A configuration to look at as well.
    pub config: Option<PathBuf>,
}

/// State of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Ok,
    /// It works, but slowly, or for less than it could.
    Slow,
    /// It does not work.
    Wrong,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Slow => "slow",
            Self::Wrong => "wrong",
        }
    }
}

/// A fact that was found about one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    /// The thing.
    name: String,
    status: Verdict,
    /// A line about it.
    found: String,
    /// The cure, a command where there is one; `None` if it is right.
    cure: Option<String>,
}

impl Finding {
    fn ok(name: &str, found: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            status: Verdict::Ok,
            found: found.into(),
            cure: None,
        }
    }

    fn slow(name: &str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            status: Verdict::Slow,
            cure: Some(cure.into()),
            ..Self::ok(name, found)
        }
    }

    fn wrong(name: &str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            status: Verdict::Wrong,
            ..Self::slow(name, found, cure)
        }
    }
}

/// Returns the report, and true if nothing is wrong. `examined` is what was found
/// in its configuration.
pub(crate) fn report(options: &DoctorOptions, examined: Option<&Examination>) -> (String, bool) {
    let mut findings = limits::findings();
    findings.extend(kernel::findings());
    findings.extend(network::findings(options.network));
    findings.extend(files::findings());
    findings.extend(clock::findings());
    findings.extend(manager::findings());
    if let (Some(file), Some(examined)) = (&options.config, examined) {
        findings.extend(config::findings(file, examined, options.network));
    }
    let worst = findings.iter().map(|it| it.status).max();
    let text = match options.json {
        true => in_json(&findings, worst),
        false => in_lines(&findings),
    };
    (text, worst != Some(Verdict::Wrong))
}

fn in_json(findings: &[Finding], worst: Option<Verdict>) -> String {
    let all = findings.iter().map(|finding| {
        json!({
            "name": finding.name,
            "status": finding.status.name(),
            "found": finding.found,
            "cure": finding.cure,
        })
    });
    let report = json!({
        "status": worst.unwrap_or(Verdict::Ok).name(),
        "findings": all.collect::<Vec<_>>(),
    });
    format!("{report:#}\n")
}

fn in_lines(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding {
        name,
        status,
        found,
        cure,
    } in findings
    {
        text += &format!("{:<6} {name}: {found}\n", status.name());
        if let Some(cure) = cure {
            text += &format!("       cure: {cure}\n");
        }
    }
    let count = |status| findings.iter().filter(|it| it.status == status).count();
    let counts = [Verdict::Ok, Verdict::Slow, Verdict::Wrong]
        .map(|status| format!("{} {}", count(status), status.name()));
    text + &counts.join(", ") + "\n"
}

/// Reads a number of a file below `/proc` or `/sys`.
fn number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Reads a word of a file below `/proc` or `/sys`.
fn word(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_is_the_state() {
        let findings = [
            Finding::ok("a", "good"),
            Finding::wrong("b", "bad", "do this"),
            Finding::slow("c", "low", "do that"),
        ];
        let worst = findings.iter().map(|it| it.status).max();
        assert_eq!(worst, Some(Verdict::Wrong));
        assert_eq!(
            in_lines(&findings),
            "ok     a: good\nwrong  b: bad\n       cure: do this\nslow   c: low\n       \
             cure: do that\n1 ok, 1 slow, 1 wrong\n"
        );
        assert!(in_json(&findings, worst).contains("\"status\": \"wrong\""));
    }
}
