//! The limit of open descriptors, and how many connections fit below it.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Default maximum of connections.
pub const MAX_CONNECTIONS: usize = 65_536;

/// Descriptors kept for other uses: listeners, runtimes, the log, directories.
/// Half of the limit, if the limit is small.
const RESERVE: u64 = 64;

/// Least and most directories that listings of objects may have open: a listing
/// has at most one for each part of an object's name.
const MIN_LISTINGS: usize = 32;
const MAX_LISTINGS: usize = 4096;

/// Descriptors that a server without connections needs, approximately.
pub const LEAST: u64 = 32;

/// Number of connections below which a warning at start is due.
pub const FEW: usize = 512;

/// Raises the soft limit of open descriptors to the hard one. The soft limit is
/// lower for the sake of select(2), which is not used here. Returns the limit;
/// `None` if there is none.
///
/// # Errors
/// Fails if the system refuses.
pub fn raise_limit() -> io::Result<Option<u64>> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit.maximum,
                ..limit
            },
        )?;
    }
    Ok(limit.maximum)
}

/// Returns how many connections of one direction can be open at once after
/// [`raise_limit`], at most [`MAX_CONNECTIONS`]. If connections go in `both`
/// directions, each direction gets half.
///
/// A reserve is subtracted, and an eighth of the rest for files and for the
/// pipes of relays.
#[must_use]
pub fn connections(both: bool) -> usize {
    connections_below(getrlimit(Resource::Nofile).maximum, both)
}

fn connections_below(limit: Option<u64>, both: bool) -> usize {
    let Some(limit) = limit else {
        return MAX_CONNECTIONS;
    };
    let rest = limit - RESERVE.min(limit / 2);
    let connections = (rest - rest / 8) / if both { 2 } else { 1 };
    let connections = usize::try_from(connections).unwrap_or(usize::MAX);
    connections.clamp(1, MAX_CONNECTIONS)
}

/// Returns how many directories the listings of objects may have open at once, in
/// all services together. It is half of what [`connections`] leaves for files.
#[must_use]
pub fn listings() -> usize {
    listings_below(getrlimit(Resource::Nofile).maximum)
}

/// Returns how many of them the listings of one instance of a guest may have open, so
/// that it cannot take those of all others.
#[must_use]
pub fn listings_of_instance() -> usize {
    (listings() / 8).max(MIN_LISTINGS)
}

fn listings_below(limit: Option<u64>) -> usize {
    let share = limit.map_or(MAX_LISTINGS, |limit| {
        usize::try_from(limit / 16).unwrap_or(usize::MAX)
    });
    share.clamp(MIN_LISTINGS, MAX_LISTINGS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_have_a_share_of_the_descriptors() {
        for (limit, directories) in [
            (None, 4096),
            (Some(u64::MAX), 4096),
            (Some(20_000), 1250),
            (Some(1024), 64),
            (Some(64), 32),
        ] {
            assert_eq!(listings_below(limit), directories, "{limit:?}");
        }
    }

    #[test]
    fn connections_leave_descriptors_for_other_things() {
        for (limit, connections) in [
            (None, 65_536),
            (Some(u64::MAX), 65_536),
            (Some(1 << 20), 65_536),
            (Some(20_000), 17_444),
            (Some(1024), 840),
            (Some(64), 28),
            (Some(0), 1),
        ] {
            assert_eq!(connections_below(limit, false), connections, "{limit:?}");
        }
        assert_eq!(connections_below(Some(1024), true), 420);
    }
}
