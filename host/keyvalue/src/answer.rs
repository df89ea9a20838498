//! Results of operations, errors, and limits that all stores have.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

/// Longest key in bytes.
pub(crate) const MAX_KEY: usize = 8 << 10;

/// Largest value in bytes, and largest sum of the values that one operation
/// returns.
pub(crate) const MAX_VALUES: usize = 32 << 20;

/// Most keys of a page of a list.
pub(crate) const PAGE: usize = 1000;

/// A value.
pub type Value = Arc<[u8]>;

/// Result of an operation.
pub type Outcome<T> = Result<T, Error>;

/// A result that comes later.
pub type Later<T> = Pin<Box<dyn Future<Output = Outcome<T>> + Send>>;

/// Reason why an operation failed, in words for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(Arc<str>);

impl Error {
    pub(crate) fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// The answer to an operation.
pub enum Answer<T> {
    /// It is there.
    Now(Outcome<T>),
    /// It comes later. Its future needs a runtime of tokio.
    Later(Later<T>),
}

impl<T> fmt::Debug for Answer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Now(_) => "Now",
            Self::Later(_) => "Later",
        })
    }
}

impl<T> Answer<T> {
    pub(crate) fn later(future: impl Future<Output = Outcome<T>> + Send + 'static) -> Self {
        Self::Later(Box::pin(future))
    }

    pub(crate) fn failed(error: Error) -> Self {
        Self::Now(Err(error))
    }
}

/// Keys of a bucket, in no order that means anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The keys.
    pub keys: Vec<String>,
    /// Place of the next page; `None` after the last one.
    pub next: Option<u64>,
}

/// Result of a swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swap {
    /// The value was the expected one, and is replaced.
    Done,
    /// It is another one: this.
    Differs(Option<Value>),
}

/// Adds to a counter, which is decimal digits as Redis has it. A key that is not
/// there counts from zero.
pub(crate) fn sum(value: Option<&[u8]>, by: i128, range: (i128, i128)) -> Outcome<i128> {
    let before = match value {
        None => 0,
        Some(bytes) => std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| text.parse::<i128>().ok())
            .ok_or_else(|| Error::new("the value is not a number in decimal digits"))?,
    };
    let sum = before.checked_add(by);
    let sum = sum.filter(|sum| (range.0..=range.1).contains(sum));
    sum.ok_or_else(out_of_range)
}

/// Returns the error of a sum that is out of range, for which the counter stays as
/// it was.
pub(crate) fn out_of_range() -> Error {
    Error::new("the counter would leave the range of its type")
}

/// Returns an error if the values of one operation are too many.
pub(crate) fn check_sum(bytes: usize) -> Outcome<()> {
    match bytes > MAX_VALUES {
        true => Err(Error::new(
            "the values have more than 32 MiB together: ask for fewer keys at once",
        )),
        false => Ok(()),
    }
}
