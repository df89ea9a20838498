//! The host's counts of its run.

use serde_json::Value;

/// Defines [`Counts`] and its reader from the names that the host logs.
macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counters of a run, as the host logs them at its end.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counts {
            fn read(count: impl Fn(&str) -> Option<u64>) -> Option<Self> {
                // The line always has this one, and others that are not zero.
                count("accepted")?;
                Some(Self { $($name: count(stringify!($name)).unwrap_or_default(),)* })
            }
        }
    };
}

counts! {
    /// Connections that clients opened, of all listeners but UDP.
    accepted,
    /// Connections that the component opened.
    made,
    /// Connections, accepted or outgoing, that ended in order.
    closed,
    /// Connections that did not end in order: by a reset, a trap or a limit.
    lost,
    /// Idle connections that were closed for new ones (`--max-connections`).
    reclaimed,
    /// Times that a new connection had to wait (`--max-connections`).
    waited,
    /// Times that an async handler went on when nobody waited for it any more.
    left_behind,
    /// Times that such a handler was ended.
    left_behind_ended,
    /// TLS handshakes that failed.
    handshakes_failed,
    /// Datagrams handed to the component.
    datagrams,
    /// HTTP requests handed to the component.
    requests,
    /// HTTP requests answered without the component: malformed, too large, or
    /// too slow.
    requests_refused,
    /// Responses of the component that were not sent, or not completely, by its
    /// fault.
    responses_refused,
    /// Files that exist but could not be opened or read.
    files_failed,
    /// Instances of the component that trapped.
    traps,
    /// Operations that the flags did not allow.
    denied,
    /// Instances that could not be made.
    instances_failed,
    /// Connections that were still open when the shutdown time-out passed.
    aborted,
    /// Worker threads of the host that failed.
    workers_failed,
}

impl Counts {
    /// Finds the last line `ended` of a log in text or in JSON, and reads it.
    /// Returns `None` if there is none. Counters that are not told are zero.
    pub(crate) fn in_log(lines: &[String]) -> Option<Self> {
        lines.iter().rev().find_map(|line| {
            if line.starts_with('{') {
                Self::in_json(line)
            } else {
                Self::in_text(line)
            }
        })
    }

    fn in_json(line: &str) -> Option<Self> {
        let entry: Value = serde_json::from_str(line).ok()?;
        (entry["message"] == "ended").then_some(())?;
        Self::read(|name| entry[name].as_u64())
    }

    /// Reads `TIME LEVEL ended NAME=COUNT NAME=COUNT ...`.
    fn in_text(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace().skip(2);
        (words.next() == Some("ended")).then_some(())?;
        let counts: Vec<_> = words.filter_map(|word| word.split_once('=')).collect();
        Self::read(|name| {
            let (_, count) = counts.iter().find(|(other, _)| *other == name)?;
            count.parse().ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 19] = [
        "accepted",
        "made",
        "closed",
        "lost",
        "reclaimed",
        "waited",
        "left_behind",
        "left_behind_ended",
        "handshakes_failed",
        "datagrams",
        "requests",
        "requests_refused",
        "responses_refused",
        "files_failed",
        "traps",
        "denied",
        "instances_failed",
        "aborted",
        "workers_failed",
    ];

    fn lines(
        format: impl Fn(&str, usize) -> String,
        ended: impl Fn(&str) -> String,
    ) -> [String; 2] {
        let counts: Vec<_> = (1..)
            .zip(NAMES)
            .map(|(count, name)| format(name, count))
            .collect();
        let separator = if counts[0].contains('=') { " " } else { "," };
        ["another line".to_owned(), ended(&counts.join(separator))]
    }

    fn check(lines: &[String]) {
        let counts = Counts::in_log(lines).expect("the counts");
        assert_eq!((counts.accepted, counts.lost), (1, 4));
        assert_eq!((counts.traps, counts.workers_failed), (15, 19));
    }

    #[test]
    fn counts_are_read_from_text() {
        check(&lines(
            |name, count| format!("{name}={count}"),
            |counts| format!("2026-01-01T12:00:00.000000Z  INFO ended {counts}"),
        ));
    }

    #[test]
    fn counts_are_read_from_json() {
        check(&lines(
            |name, count| format!("\"{name}\":{count}"),
            |counts| format!("{{\"level\":\"INFO\",\"message\":\"ended\",{counts}}}"),
        ));
    }

    #[test]
    fn counts_that_are_not_told_are_zero() {
        let line = "2026-01-01T12:00:00Z  INFO ended accepted=2 traps=1";
        let counts = Counts::in_log(&[line.to_owned()]).expect("the counts");
        assert_eq!((counts.accepted, counts.lost, counts.traps), (2, 0, 1));
    }

    #[test]
    fn a_line_that_only_resembles_has_no_counts() {
        let line = "2026-01-01T12:00:00Z  INFO guest: it ended accepted=1 traps=0";
        assert_eq!(Counts::in_log(&[line.to_owned()]), None);
        let lacks_counts = "2026-01-01T12:00:00Z  INFO ended made=1";
        assert_eq!(Counts::in_log(&[lacks_counts.to_owned()]), None);
        assert_eq!(
            Counts::in_log(&["{\"message\":\"ended\"}".to_owned()]),
            None
        );
        assert_eq!(Counts::in_log(&[]), None);
    }
}
