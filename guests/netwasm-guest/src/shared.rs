//! State that all instances of a service share, on all threads: rate limits, and
//! small values that expire. So neither needs `--isolation worker`.
//!
//! ```
//! use netwasm_guest::{Connection, Result, shared};
//!
//! async fn greet(mut conn: Connection) -> Result<()> {
//!     // Ten lines a second of all clients together, twenty at once.
//!     while let Some(line) = conn.read_line().await? {
//!         let answer = match shared::take("lines", 10.0, 20) {
//!             true => format!("hello {line}, you are number {}\n", shared::add("n", 1, None)?),
//!             false => "not so fast\n".to_owned(),
//!         };
//!         conn.write_all(answer).await?;
//!     }
//!     Ok(())
//! }
//! # let mut client = netwasm_guest::testing::serve(greet);
//! # client.send("Ann\n");
//! # client.expect("hello Ann, you are number 1\n");
//! # client.send("Bob\n");
//! # client.expect("hello Bob, you are number 2\n");
//! # client.send("x\n".repeat(19));
//! # (0..18).for_each(|_| drop(client.read_line()));
//! # client.expect("not so fast\n");
//! ```
//!
//! [`take`] and [`Limit`] are token buckets; see [`Limit`] for how to answer
//! those who have to wait. [`get`], [`set`], [`compare_and_swap`], [`update`],
//! [`touch`] and [`remove`] are for values of 64 KiB at most, [`add`] for
//! counters. Keys are texts or other bytes, 256 at most; a bucket and a value of
//! one key have nothing to do with each other. Whatever is made of what clients
//! send should begin with a word for what it is: `session/` and a number.
//!
//! The state survives a reload of the service, and ends with the host's process.
//! `--max-shared` bounds it. If buckets fill their half of it, those that are
//! full or nearly so are forgotten; if values fill theirs, no more are taken
//! until some expire or are removed: [`set`] then fails with `LimitExceeded`.
//!
//! In tests, all this works in memory, and with the clock of the test.
//! [`testing::fill_shared`](crate::testing::fill_shared) lets it be full.

use std::time::Duration;

use crate::log::{Level, write_args};
use crate::{Result, host};

/// Takes a token from the bucket of this key, which gains `rate` a second and
/// holds `burst`. Returns false if there is none.
///
/// Also returns false, and logs a warning, if the key is longer than 256 bytes,
/// the rate is not above 0, or the burst is 0.
pub fn take(key: impl AsRef<[u8]>, rate: f64, burst: u32) -> bool {
    match Limit::new(rate, burst).take(key) {
        Ok(taken) => taken.is_taken(),
        Err(error) => {
            let why = error.kind().text();
            write_args(Level::Warn, format_args!("no token is taken: {why}"));
            false
        }
    }
}

/// The rate and the size of token buckets.
///
/// ```
/// use netwasm_guest::http::{Request, Response};
/// use netwasm_guest::shared::Limit;
///
/// const LOGINS: Limit = Limit::per_minute(5);
///
/// async fn login(request: Request<'_>) -> Response {
///     let key = [b"login/", &*request.peer().client_key()].concat();
///     match LOGINS.take(key) {
///         Ok(taken) if !taken.is_taken() => {
///             Response::error(429).header("retry-after", taken.retry_after().to_string())
///         }
///         _ => Response::text("welcome"),
///     }
/// }
/// # let client = netwasm_guest::testing::Client::new(login);
/// # for _ in 0..5 {
/// #     assert_eq!(client.get("/").send().status(), 200);
/// # }
/// # let answer = client.get("/").send();
/// # assert_eq!((answer.status(), answer.header("retry-after")), (429, Some("12".into())));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    rate: f64,
    burst: u32,
}

impl Limit {
    /// Describes buckets that gain `rate` tokens a second, and hold `burst`.
    pub const fn new(rate: f64, burst: u32) -> Self {
        Self { rate, burst }
    }

    /// Describes buckets that gain so many tokens a second, and hold as many.
    pub const fn per_second(tokens: u32) -> Self {
        Self::new(tokens as f64, tokens)
    }

    /// Describes buckets that gain so many tokens a minute, and hold as many.
    pub const fn per_minute(tokens: u32) -> Self {
        Self::new(tokens as f64 / 60.0, tokens)
    }

    /// Describes buckets that gain so many tokens an hour, and hold as many.
    pub const fn per_hour(tokens: u32) -> Self {
        Self::new(tokens as f64 / 3600.0, tokens)
    }

    /// Sets how many tokens a bucket holds.
    #[must_use]
    pub const fn burst(self, burst: u32) -> Self {
        Self { burst, ..self }
    }

    /// Takes a token from the bucket of this key.
    ///
    /// # Errors
    /// - `InvalidArgument`: the key is longer than 256 bytes, the rate is not a
    ///   number above 0, or the burst is 0.
    pub fn take(&self, key: impl AsRef<[u8]>) -> Result<Taken> {
        self.take_many(key, 1)
    }

    /// Takes so many tokens, or none if there are too few.
    ///
    /// # Errors
    /// Those of [`Self::take`]; `InvalidArgument` also for more than the burst.
    pub fn take_many(&self, key: impl AsRef<[u8]>, count: u32) -> Result<Taken> {
        host::shared::take(key.as_ref(), self.rate, self.burst, count)
    }

    /// Returns how many tokens are there, and takes none.
    ///
    /// # Errors
    /// Those of [`Self::take`].
    pub fn look(&self, key: impl AsRef<[u8]>) -> Result<u32> {
        self.take_many(key, 0).map(|taken| taken.left)
    }
}

/// A bucket after tokens were taken from it, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    pub(crate) is_taken: bool,
    pub(crate) left: u32,
    pub(crate) wait: Duration,
}

impl Taken {
    /// True if the tokens were there and are taken.
    pub const fn is_taken(&self) -> bool {
        self.is_taken
    }

    /// Returns how many tokens are left.
    pub const fn left(&self) -> u32 {
        self.left
    }

    /// Returns the time until as many tokens are there as were asked for, if
    /// nobody else takes any; zero if they are.
    pub const fn wait(&self) -> Duration {
        self.wait
    }

    /// Returns that time in whole seconds, at least one, as `Retry-After` wants
    /// it (RFC 9110, section 10.2.3).
    pub const fn retry_after(&self) -> u64 {
        let seconds = self.wait.as_secs();
        match self.wait.subsec_nanos() {
            0 if seconds > 0 => seconds,
            _ => seconds.saturating_add(1),
        }
    }
}

/// A value, and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The bytes.
    pub data: Vec<u8>,
    /// A number that each change makes another one, for [`compare_and_swap`].
    pub version: u64,
}

impl Value {
    /// Returns the value as a text; `None` if it is not UTF-8.
    pub fn text(&self) -> Option<&str> {
        str::from_utf8(&self.data).ok()
    }

    /// Returns the number of a counter; `None` if it is none.
    pub fn number(&self) -> Option<i64> {
        let bytes = <[u8; 8]>::try_from(&*self.data).ok()?;
        Some(i64::from_le_bytes(bytes))
    }
}

/// Returns the value of this key; `None` if there is none, or it has expired.
pub fn get(key: impl AsRef<[u8]>) -> Option<Value> {
    host::shared::get(key.as_ref())
}

/// Sets a value, in place of any other, and returns its version. It expires
/// after `ttl`; with `None`, never.
///
/// ```
/// use std::time::Duration;
///
/// use netwasm_guest::shared;
///
/// const HOUR: Duration = Duration::from_secs(3600);
///
/// # fn main() -> netwasm_guest::Result<()> {
/// shared::set("session/42", "Ann", HOUR)?;
/// let session = shared::get("session/42");
/// assert_eq!(session.as_ref().and_then(|it| it.text()), Some("Ann"));
/// # netwasm_guest::testing::advance(HOUR);
/// # assert_eq!(shared::get("session/42"), None);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// - `InvalidArgument`: the key is longer than 256 bytes, or the data longer
///   than 64 KiB.
/// - `LimitExceeded`: values fill their half of `--max-shared`. A value that was
///   there before stays.
pub fn set(
    key: impl AsRef<[u8]>,
    data: impl AsRef<[u8]>,
    ttl: impl Into<Option<Duration>>,
) -> Result<u64> {
    host::shared::set(key.as_ref(), data.as_ref(), ttl.into())
}

/// Sets a value, like [`set`], if the one that is there has this version; with
/// `None`, if there is no value. Returns the new version; `None` if it was not
/// set.
///
/// # Errors
/// Those of [`set`].
pub fn compare_and_swap(
    key: impl AsRef<[u8]>,
    version: Option<u64>,
    data: impl AsRef<[u8]>,
    ttl: impl Into<Option<Duration>>,
) -> Result<Option<u64>> {
    host::shared::compare_and_swap(key.as_ref(), version, data.as_ref(), ttl.into())
}

/// Changes a value: calls `change` with the one that is there, and sets what it
/// returns. If another instance was faster, that is done again. With `None`,
/// nothing is set. Returns what was set.
///
/// ```
/// use netwasm_guest::shared;
///
/// # fn main() -> netwasm_guest::Result<()> {
/// let longest = |name: &str| {
///     shared::update("longest", None, |known| {
///         let is_longer = known.is_none_or(|known| known.len() < name.len());
///         is_longer.then(|| name.into())
///     })
/// };
/// assert!(longest("Ann")?.is_some());
/// assert!(longest("Bob")?.is_none());
/// assert!(longest("Charles")?.is_some());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Those of [`set`].
pub fn update(
    key: impl AsRef<[u8]>,
    ttl: impl Into<Option<Duration>>,
    mut change: impl FnMut(Option<&[u8]>) -> Option<Vec<u8>>,
) -> Result<Option<Vec<u8>>> {
    let (key, ttl) = (key.as_ref(), ttl.into());
    loop {
        let (data, version) = get(key).map_or((None, None), |it| (Some(it.data), Some(it.version)));
        let Some(data) = change(data.as_deref()) else {
            return Ok(None);
        };
        if compare_and_swap(key, version, &data, ttl)?.is_some() {
            return Ok(Some(data));
        }
    }
}

/// Adds to a counter and returns the sum, which stops at the ends of the range.
/// A counter is a value of 8 bytes; see [`Value::number`]. A new one begins at 0
/// and expires after `ttl`; the `ttl` of one that is there stays.
///
/// # Errors
/// - those of [`set`].
/// - `InvalidState`: the value does not have 8 bytes.
pub fn add(key: impl AsRef<[u8]>, more: i64, ttl: impl Into<Option<Duration>>) -> Result<i64> {
    host::shared::add(key.as_ref(), more, ttl.into())
}

/// Lets a value expire after `ttl` from now; with `None`, never. Returns false
/// if there is no value.
pub fn touch(key: impl AsRef<[u8]>, ttl: impl Into<Option<Duration>>) -> bool {
    host::shared::touch(key.as_ref(), ttl.into())
}

/// Removes a value. Returns true if there was one.
pub fn remove(key: impl AsRef<[u8]>) -> bool {
    host::shared::remove(key.as_ref(), None)
}

/// Removes a value if it has this version. Returns true if it was removed.
pub fn remove_version(key: impl AsRef<[u8]>, version: u64) -> bool {
    host::shared::remove(key.as_ref(), Some(version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::testing::{advance, fill_shared, take_log};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_bucket_gains_its_rate_up_to_its_burst() {
        let limit = Limit::per_second(2).burst(3);
        let left: Vec<_> = (0..3)
            .map(|_| limit.take("a").expect("no error").left())
            .collect();
        assert_eq!((left, limit.look("a").ok()), (vec![2, 1, 0], Some(0)));
        let refused = limit.take("a").expect("no error");
        assert!(!refused.is_taken());
        assert_eq!(refused.retry_after(), 1);
        advance(refused.wait());
        assert!(take("a", 2.0, 3) && !take("a", 2.0, 3));
        advance(SECOND * 9);
        assert_eq!(limit.look("a").ok(), Some(3));
        let error = limit.take_many("a", 4).map_err(|error| error.kind());
        assert_eq!(error, Err(ErrorKind::InvalidArgument));
        assert!(!take([0; 257], 1.0, 1));
        assert!(take_log().iter().any(|(_, line)| line.contains("no token")));
    }

    #[test]
    fn a_value_expires_unless_it_is_touched() {
        let first = set("a", "x", SECOND).expect("room");
        advance(SECOND / 2);
        assert!(touch("a", SECOND));
        advance(SECOND / 2);
        assert_eq!(compare_and_swap("a", None, "y", None).ok(), Some(None));
        let second = compare_and_swap("a", Some(first), "y", SECOND).expect("room");
        assert!(second.is_some());
        assert!(!remove_version("a", first));
        advance(SECOND);
        assert_eq!(
            (get("a"), touch("a", None), remove("a")),
            (None, false, false)
        );
        assert_eq!(add("a", 5, SECOND).ok(), Some(5));
        advance(SECOND / 2);
        assert_eq!(add("a", -7, SECOND).ok(), Some(-2));
        assert_eq!(get("a").and_then(|it| it.number()), Some(-2));
        advance(SECOND / 2);
        assert_eq!(get("a"), None);
        set("a", "no counter", None).expect("room");
        let error = add("a", 1, None).map_err(|error| error.kind());
        assert_eq!(error, Err(ErrorKind::InvalidState));
    }

    #[test]
    fn a_full_store_takes_no_more() {
        set("a", "one", None).expect("room");
        fill_shared(true);
        let error = set("b", "", None).map_err(|error| error.kind());
        assert_eq!(error, Err(ErrorKind::LimitExceeded));
        assert!(set("a", "two", None).is_ok());
        assert!(take("a", 1.0, 1), "buckets always find room");
        fill_shared(false);
        assert!(set("b", "", None).is_ok());
    }
}
