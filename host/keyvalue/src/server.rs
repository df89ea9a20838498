//! Buckets on Redis servers. Each worker has one connection to each, which all
//! its instances share: what they ask goes out in one stream, and what one waits
//! for keeps no other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use netwasm_base::config::RedisUrl;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, FromRedisValue, ProtocolVersion, RedisError, cmd};
use tokio::sync::Mutex;

use crate::answer::{Error, MAX_VALUES, Outcome, PAGE, Page, Swap, Value, check_sum, out_of_range};
use crate::connection::connect;
use crate::dial::Dial;

/// Time after a failure in which nobody connects again.
const PAUSE: Duration = Duration::from_millis(200);

/// Swaps a value if it is the expected one, and returns the present one
/// otherwise: so many bytes of it, as others may have written more.
const SWAP: &str = "\
local now = redis.call('GET', KEYS[1])
if (ARGV[1] == '1' and now == ARGV[2]) or (ARGV[1] == '0' and not now) then
  redis.call('SET', KEYS[1], ARGV[3])
  return {1}
end
if now then return {0, string.sub(now, 1, tonumber(ARGV[4]))} end
return {0}";

/// Adds to a counter, and takes that back if the sum is below zero. Nobody sees
/// the time in between. The sum is told as digits, as numbers of Lua are not
/// exact.
const INCREMENT: &str = "\
if redis.call('INCRBY', KEYS[1], ARGV[1]) < 0 then
  redis.call('DECRBY', KEYS[1], ARGV[1])
  return false
end
return redis.call('GET', KEYS[1])";

/// A bucket on a Redis server, with a worker's connection.
#[derive(Debug)]
pub(crate) struct RedisBucket {
    url: RedisUrl,
    dial: Arc<dyn Dial>,
    link: Mutex<Link>,
}

/// The connection of a worker.
#[derive(Default)]
struct Link {
    open: Option<Open>,
    /// Last failure to connect.
    failed: Option<(Instant, Error)>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct Open {
    connection: MultiplexedConnection,
    lasts: Arc<AtomicBool>,
    /// True once it was logged that it is lost. It may have ended before the question
    /// that fails by that.
    told: Arc<AtomicBool>,
}

impl RedisBucket {
    pub(crate) fn new(url: RedisUrl, dial: Arc<dyn Dial>) -> Self {
        Self {
            url,
            dial,
            link: Mutex::default(),
        }
    }

    pub(crate) async fn get(&self, key: &str) -> Outcome<Option<Value>> {
        // Not GET: whatever others wrote there may be of any size.
        let key = self.key(key);
        let value: Vec<u8> = self
            .ask(cmd("GETRANGE").arg(&key).arg(0).arg(MAX_VALUES))
            .await?;
        check_sum(value.len())?;
        if value.is_empty() {
            let exists: bool = self.ask(cmd("EXISTS").arg(&key)).await?;
            return Ok(exists.then(|| Value::from([])));
        }
        Ok(Some(value.into()))
    }

    pub(crate) async fn get_many(&self, keys: &[String]) -> Outcome<Vec<Option<Value>>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<_> = keys.iter().map(|key| self.key(key)).collect();
        let mut sizes = redis::pipe();
        for key in &keys {
            sizes.cmd("STRLEN").arg(key);
        }
        let mut open = self.open().await?;
        let sizes = sizes.query_async::<Vec<usize>>(&mut open.connection).await;
        let sizes = sizes.map_err(|error| self.failed(&open, &error))?;
        check_sum(sizes.iter().fold(0, |sum, size| sum.saturating_add(*size)))?;
        let values: Vec<Option<Vec<u8>>> = self.ask(cmd("MGET").arg(&keys)).await?;
        Ok(values.into_iter().map(|it| it.map(Value::from)).collect())
    }

    pub(crate) async fn exists(&self, key: &str) -> Outcome<bool> {
        self.ask(cmd("EXISTS").arg(self.key(key))).await
    }

    /// Sets keys, or deletes those without a value.
    pub(crate) async fn write(&self, writes: &[(String, Option<Vec<u8>>)]) -> Outcome<()> {
        let (mut set, mut delete) = (cmd("MSET"), cmd("DEL"));
        let (mut sets, mut deletes) = (false, false);
        for (key, value) in writes {
            let key = self.key(key);
            match value {
                Some(value) => {
                    set.arg(key).arg(value);
                    sets = true;
                }
                None => {
                    delete.arg(key);
                    deletes = true;
                }
            }
        }
        if sets {
            self.ask::<()>(&set).await?;
        }
        if deletes {
            self.ask::<()>(&delete).await?;
        }
        Ok(())
    }

    pub(crate) async fn increment(
        &self,
        key: &str,
        by: i128,
        range: (i128, i128),
    ) -> Outcome<i128> {
        let by = i64::try_from(by).map_err(|_| {
            Error::new("Redis counts to 9223372036854775807 at most: add less at once")
        })?;
        if range.0 < 0 {
            // The range of Redis itself.
            let sum: i64 = self.ask(cmd("INCRBY").arg(self.key(key)).arg(by)).await?;
            return Ok(sum.into());
        }
        let mut script = cmd("EVAL");
        script.arg(INCREMENT).arg(1).arg(self.key(key)).arg(by);
        let sum: Option<i64> = self.ask(&script).await?;
        sum.map(Into::into).ok_or_else(out_of_range)
    }

    pub(crate) async fn swap(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
    ) -> Outcome<Swap> {
        let (known, before) = match expected {
            Some(before) => (1, before),
            None => (0, &[][..]),
        };
        let mut script = cmd("EVAL");
        script.arg(SWAP).arg(1).arg(self.key(key));
        script.arg(known).arg(before).arg(value);
        script.arg(MAX_VALUES.saturating_add(1));
        let answer: Vec<redis::Value> = self.ask(&script).await?;
        Ok(match &*answer {
            [redis::Value::Int(1)] => Swap::Done,
            [_, redis::Value::BulkString(now)] => {
                check_sum(now.len())?;
                Swap::Differs(Some((&**now).into()))
            }
            _ => Swap::Differs(None),
        })
    }

    /// Returns some keys. The server's own cursor is the place.
    pub(crate) async fn list(&self, from: u64) -> Outcome<Page> {
        let prefix = &self.url.prefix;
        let mut scan = cmd("SCAN");
        scan.arg(from);
        if !prefix.is_empty() {
            scan.arg("MATCH").arg(format!("{}*", escaped(prefix)));
        }
        scan.arg("COUNT").arg(PAGE);
        let (next, keys): (u64, Vec<Vec<u8>>) = self.ask(&scan).await?;
        let mut keys: Vec<_> = keys
            .into_iter()
            // Those that are no text are not a guest's.
            .filter_map(|key| String::from_utf8(key).ok())
            .filter_map(|key| key.strip_prefix(&**prefix).map(str::to_owned))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let next = (next != 0).then_some(next);
        Ok(Page { keys, next })
    }

    /// Returns the server's name of a key.
    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.url.prefix)
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Outcome<T> {
        let mut open = self.open().await?;
        let answer = command.query_async(&mut open.connection).await;
        answer.map_err(|error| self.failed(&open, &error))
    }

    /// Returns the worker's connection, or makes it.
    async fn open(&self) -> Outcome<Open> {
        let mut link = self.link.lock().await;
        if let Some(open) = &link.open
            && open.lasts.load(Ordering::Relaxed)
        {
            return Ok(open.clone());
        }
        link.open = None;
        if let Some((at, error)) = &link.failed
            && at.elapsed() < PAUSE
        {
            return Err(error.clone());
        }
        match self.connect().await {
            Ok(open) => {
                if link.failed.take().is_some() {
                    tracing::info!("{} is there again", self.url);
                }
                Ok(link.open.insert(open).clone())
            }
            Err(reason) => {
                let error = Error::new(format!("{} cannot be reached: {reason}", self.url));
                if link.failed.is_none() {
                    tracing::warn!("{error} (--keyvalue)");
                }
                link.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn connect(&self) -> Result<Open, String> {
        let (config, protocol) = (AsyncConnectionConfig::new(), ProtocolVersion::RESP2);
        let (connection, driver) = connect(&self.url, &*self.dial, protocol, config).await?;
        let lasts = Arc::new(AtomicBool::new(true));
        let ended = Arc::clone(&lasts);
        // It ends with the connection, or once nobody has that.
        tokio::spawn(async move {
            driver.await;
            ended.store(false, Ordering::Relaxed);
        });
        Ok(Open {
            connection,
            lasts,
            told: Arc::default(),
        })
    }

    /// Converts an error. After one of the connection, another is made next time.
    fn failed(&self, open: &Open, error: &RedisError) -> Error {
        let breaks = error.is_io_error() || error.is_unrecoverable_error() || error.is_timeout();
        if breaks {
            open.lasts.store(false, Ordering::Relaxed);
        }
        let lasts = open.lasts.load(Ordering::Relaxed);
        if !lasts && !open.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the connection to {} (--keyvalue) is lost: {error}",
                self.url
            );
        }
        Error::new(format!("{}: {error}", self.url))
    }
}

/// Returns a text as a pattern of Redis that is met by it alone.
fn escaped(text: &str) -> String {
    let mut pattern = String::new();
    for letter in text.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '^' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern
}
