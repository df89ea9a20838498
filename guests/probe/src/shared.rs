//! Shared state, by command.

use super::netwasm::net::shared;
use super::netwasm::net::types::Error;

/// Calls a function of the shared state. Times are milliseconds, and a time that
/// is missing is none.
///
/// - `take KEY RATE BURST COUNT`: `taken` or `short`, the tokens left and the
///   time to wait
/// - `get KEY`: the version and the data, or `none`
/// - `set KEY DATA [TTL]`: the version
/// - `swap KEY VERSION|none DATA [TTL]`: the new version, or `none`
/// - `add KEY N [TTL]`: the sum
/// - `touch KEY [TTL]`, `remove KEY [VERSION]`: `true` or `false`
/// - `length KEY N`: sets a value of so many bytes, with a key of so many
/// - `fill PREFIX N SIZE`: sets values until one is refused, but no more than
///   `N`; how many were set
/// - `flood PREFIX N RATE BURST`: takes a token from each of so many buckets; how
///   many there were
///
/// Returns `None` for anything else.
pub(super) fn call(words: &[&str]) -> Option<Result<String, Error>> {
    Some(match *words {
        ["take", key, rate, burst, count] => {
            let (rate, burst, count) = (rate.parse().ok()?, number(burst)?, number(count)?);
            let taken = shared::take(key.as_bytes(), rate, burst, count);
            taken.map(|it| {
                let result = if it.taken { "taken" } else { "short" };
                format!("{result} {} {}", it.left, it.wait.div_ceil(1_000_000))
            })
        }
        ["get", key] => Ok(match shared::get(key.as_bytes()) {
            Some(value) => {
                let data = String::from_utf8_lossy(&value.data);
                format!("{} {data}", value.version)
            }
            None => "none".to_owned(),
        }),
        ["set", key, data, ref ttl @ ..] => {
            let set = shared::set(key.as_bytes(), data.as_bytes(), time(ttl)?);
            set.map(|version| version.to_string())
        }
        ["swap", key, version, data, ref ttl @ ..] => {
            let version = match version {
                "none" => None,
                version => Some(version.parse().ok()?),
            };
            let (key, data) = (key.as_bytes(), data.as_bytes());
            let swapped = shared::compare_and_swap(key, version, data, time(ttl)?);
            swapped.map(|it| it.map_or_else(|| "none".to_owned(), |it| it.to_string()))
        }
        ["add", key, more, ref ttl @ ..] => {
            let sum = shared::add(key.as_bytes(), more.parse().ok()?, time(ttl)?);
            sum.map(|sum| sum.to_string())
        }
        ["touch", key, ref ttl @ ..] => Ok(shared::touch(key.as_bytes(), time(ttl)?).to_string()),
        ["remove", key] => Ok(shared::remove(key.as_bytes(), None).to_string()),
        ["remove", key, version] => {
            let version = Some(version.parse().ok()?);
            Ok(shared::remove(key.as_bytes(), version).to_string())
        }
        ["length", key, length] => {
            let (key, data) = (vec![b'k'; key.parse().ok()?], vec![0; length.parse().ok()?]);
            shared::set(&key, &data, None).map(|_| "ok".to_owned())
        }
        ["fill", prefix, most, size] => {
            let (most, data) = (number(most)?, vec![0; size.parse().ok()?]);
            let set = |number: &u32| {
                let key = format!("{prefix}{number}");
                shared::set(key.as_bytes(), &data, None).is_ok()
            };
            Ok((0..most).take_while(set).count().to_string())
        }
        ["flood", prefix, count, rate, burst] => {
            let (rate, burst) = (rate.parse().ok()?, number(burst)?);
            let take = |number: &u32| {
                let key = format!("{prefix}{number}");
                shared::take(key.as_bytes(), rate, burst, 1).is_ok_and(|it| it.taken)
            };
            Ok((0..number(count)?).filter(take).count().to_string())
        }
        _ => return None,
    })
}

fn number(word: &str) -> Option<u32> {
    word.parse().ok()
}

/// Returns a time in nanoseconds, if there is one; `None` for what is no time.
fn time(words: &[&str]) -> Option<Option<u64>> {
    match *words {
        [] => Some(None),
        [time] => Some(Some(time.parse::<u64>().ok()? * 1_000_000)),
        _ => None,
    }
}
