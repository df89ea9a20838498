//! The clients that an instance serves, for the log line of its trap.

use netwasm_base::address::Address;

/// Most characters of a request's line in the log.
const MOST: usize = 256;

/// Most requests of one instance that a line of the log names.
const MOST_REQUESTS: usize = 8;

/// Clients that an async instance serves.
#[derive(Debug, Default)]
pub(crate) struct Served {
    /// The client, if there is one.
    pub(crate) peer: Option<Address>,
    /// Its request.
    pub(crate) request: Option<String>,
    /// Several requests, with their clients: the guest does not tell for which it
    /// ran.
    pub(crate) waiting: Option<String>,
}

/// Returns the method and the target of a request for a log line, cut. The log
/// escapes what a client has sent.
pub(crate) fn request_line(method: &str, target: &str) -> String {
    let line = method.chars().chain([' ']).chain(target.chars());
    line.take(MOST).collect()
}

/// Returns requests, as [`request_line`] does, with their clients for a log line;
/// `None` if there are none.
pub(crate) fn request_lines(
    mut requests: impl Iterator<Item = (String, Option<Address>)>,
) -> Option<String> {
    let named = requests.by_ref().take(MOST_REQUESTS);
    let named = named.map(|(line, peer)| match peer {
        Some(peer) => format!("{line} from {peer}"),
        None => line,
    });
    let named: Vec<String> = named.collect();
    let more = requests.count();
    match (named.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(named.join(", ")),
        (false, more) => Some(format!("{} and {more} more", named.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_of_many_requests_are_named() {
        let requests = |count| {
            let of = |number| (request_line("GET", &format!("/{number}")), None);
            request_lines((0..count).map(of))
        };
        assert_eq!(requests(0), None);
        assert_eq!(requests(2).as_deref(), Some("GET /0, GET /1"));
        let many = requests(MOST_REQUESTS + 3);
        assert!(many.is_some_and(|it| it.ends_with("GET /7 and 3 more")));
        assert_eq!(request_line("GET", &"x".repeat(1000)).len(), MOST);
    }
}
