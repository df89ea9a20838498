//! Does what words say with the standard interfaces, and returns what came of it.

wit_bindgen::generate!({
    path: "../std-probe/wit",
    world: "netwasm:std-probe/interfaces",
    generate_all,
});

use fermyon::spin::key_value::{self, Store};
use fermyon::spin::variables;
use wasi::config0_2_0_draft::store as config;
use wasi::config0_2_0_rc_1::store as config_rc;
use wasi::keyvalue0_2_0_draft as draft;
use wasi::keyvalue0_2_0_draft2 as draft2;
use wasi::logging::logging::{self, Level};

/// Does what the words say.
pub(crate) fn run(words: &[&str]) -> String {
    match *words {
        ["log", level, context, message] => {
            let level = match level {
                "trace" => Level::Trace,
                "debug" => Level::Debug,
                "info" => Level::Info,
                "warn" => Level::Warn,
                "error" => Level::Error,
                _ => Level::Critical,
            };
            logging::log(level, context, message);
            "logged".into()
        }
        // Both versions have to agree.
        ["config", key] => {
            let (old, new) = (config::get(key), config_rc::get(key));
            format!("{:?} {:?}", old.expect("a value"), new.expect("a value"))
        }
        ["config"] => {
            let (old, new) = (config::get_all(), config_rc::get_all());
            format!("{:?} {:?}", old.expect("values"), new.expect("values"))
        }
        ["draft", name, ref rest @ ..] => match draft::store::open(name) {
            Ok(bucket) => said(with_draft(&bucket, rest)),
            Err(error) => format!("open: {error:?}"),
        },
        ["draft2", name, ref rest @ ..] => match draft2::store::open(name) {
            Ok(bucket) => said(with_draft2(&bucket, rest)),
            Err(error) => format!("open: {error:?}"),
        },
        ["variable", name] => said(variables::get(name)),
        ["spin", name, ref rest @ ..] => match Store::open(name) {
            Ok(store) => said(with_spin(&store, rest)),
            Err(error) => format!("open: {error:?}"),
        },
        _ => format!("no such words: {words:?}"),
    }
}

fn said<E: std::fmt::Debug>(result: Result<String, E>) -> String {
    result.unwrap_or_else(|error| format!("{error:?}"))
}

fn text(value: Option<Vec<u8>>) -> String {
    match value {
        Some(bytes) if bytes.len() > 100 => format!("{} bytes", bytes.len()),
        Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        None => "none".into(),
    }
}

/// Joins what a list of keys, or of pairs, has.
fn list(mut all: Vec<String>) -> String {
    all.sort();
    all.join(" ")
}

/// Returns a value of so many bytes.
fn sized(size: &str) -> Vec<u8> {
    vec![b'x'; size.parse().expect("a size")]
}

/// The functions that all stores have.
trait Basic {
    type Error;

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Self::Error>;
    fn set(&self, key: &str, value: &[u8]) -> Result<(), Self::Error>;
    fn delete(&self, key: &str) -> Result<(), Self::Error>;
    fn exists(&self, key: &str) -> Result<bool, Self::Error>;
}

macro_rules! basic {
    ($($store:ty, $error:ty;)*) => {$(
        impl Basic for $store {
            type Error = $error;

            fn get(&self, key: &str) -> Result<Option<Vec<u8>>, $error> {
                <$store>::get(self, key)
            }
            fn set(&self, key: &str, value: &[u8]) -> Result<(), $error> {
                <$store>::set(self, key, value)
            }
            fn delete(&self, key: &str) -> Result<(), $error> {
                <$store>::delete(self, key)
            }
            fn exists(&self, key: &str) -> Result<bool, $error> {
                <$store>::exists(self, key)
            }
        }
    )*};
}

basic! {
    draft::store::Bucket, draft::store::Error;
    draft2::store::Bucket, draft2::store::Error;
    Store, key_value::Error;
}

fn basic<S: Basic>(store: &S, words: &[&str]) -> Result<String, S::Error> {
    Ok(match *words {
        ["get", key] => text(store.get(key)?),
        ["set", key, value] => {
            store.set(key, value.as_bytes())?;
            "set".into()
        }
        ["set-sized", key, size] => {
            store.set(key, &sized(size))?;
            "set".into()
        }
        ["delete", key] => {
            store.delete(key)?;
            "deleted".into()
        }
        ["exists", key] => store.exists(key)?.to_string(),
        _ => format!("no such words: {words:?}"),
    })
}

/// Returns the keys of all pages.
fn all_keys<C, E>(
    mut page: impl FnMut(Option<C>) -> Result<(Vec<String>, Option<C>), E>,
) -> Result<String, E> {
    let (mut keys, mut cursor) = (Vec::new(), None);
    loop {
        let (more, next) = page(cursor)?;
        keys.extend(more);
        cursor = next;
        if cursor.is_none() {
            return Ok(list(keys));
        }
    }
}

type Draft = Result<String, draft::store::Error>;

fn with_draft(bucket: &draft::store::Bucket, words: &[&str]) -> Draft {
    Ok(match *words {
        ["keys"] => all_keys(|cursor| {
            let page = bucket.list_keys(cursor)?;
            Ok((page.keys, page.cursor))
        })?,
        ["increment", key, by] => {
            let by = by.parse().expect("a number");
            draft::atomics::increment(bucket, key, by)?.to_string()
        }
        // Adds one so many times.
        ["count", key, times] => {
            let mut sum = 0;
            for _ in 0..times.parse().expect("a number") {
                sum = draft::atomics::increment(bucket, key, 1)?;
            }
            sum.to_string()
        }
        // For a benchmark.
        ["gets", key, times] => {
            for _ in 0..times.parse().expect("a number") {
                bucket.get(key)?;
            }
            "done".into()
        }
        ["sets", key, times] => {
            let value = sized("100");
            for _ in 0..times.parse().expect("a number") {
                bucket.set(key, &value)?;
            }
            "done".into()
        }
        ["get-many", ref keys @ ..] => {
            let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
            let found = draft::batch::get_many(bucket, &keys)?;
            let shown = found.into_iter().map(|pair| match pair {
                Some((key, value)) => format!("{key}={}", text(Some(value))),
                None => "none".into(),
            });
            shown.collect::<Vec<_>>().join(" ")
        }
        ["set-many", ref pairs @ ..] => {
            let pairs: Vec<(String, Vec<u8>)> = pairs
                .iter()
                .filter_map(|pair| pair.split_once('='))
                .map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()))
                .collect();
            draft::batch::set_many(bucket, &pairs)?;
            "set".into()
        }
        ["delete-many", ref keys @ ..] => {
            let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
            draft::batch::delete_many(bucket, &keys)?;
            "deleted".into()
        }
        // Sets one key after the other, and tells each on standard output once it
        // is set.
        ["fill", from] => {
            for number in from.parse::<u64>().expect("a number").. {
                let key = number.to_string();
                bucket.set(&key, key.as_bytes())?;
                println!("{key}");
            }
            String::new()
        }
        // Returns the first number below a limit that is not there.
        ["gap", limit] => {
            for number in 0..limit.parse::<u64>().expect("a number") {
                let key = number.to_string();
                if bucket.get(&key)?.as_deref() != Some(key.as_bytes()) {
                    return Ok(format!("{key} is missing"));
                }
            }
            "none is missing".into()
        }
        _ => basic(bucket, words)?,
    })
}

fn with_spin(store: &Store, words: &[&str]) -> Result<String, key_value::Error> {
    Ok(match *words {
        ["keys"] => list(store.get_keys()?),
        _ => basic(store, words)?,
    })
}

type Draft2 = Result<String, draft2::store::Error>;

fn with_draft2(bucket: &draft2::store::Bucket, words: &[&str]) -> Draft2 {
    use draft2::atomics::{Cas, CasError, swap};
    Ok(match *words {
        ["keys"] => all_keys(|cursor: Option<String>| {
            let page = bucket.list_keys(cursor.as_deref())?;
            Ok((page.keys, page.cursor))
        })?,
        ["keys-from", cursor] => list(bucket.list_keys(Some(cursor))?.keys),
        ["increment", key, by] => {
            let by = by.parse().expect("a number");
            draft2::atomics::increment(bucket, key, by)?.to_string()
        }
        ["get-many", ref keys @ ..] => {
            let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
            let found = draft2::batch::get_many(bucket, &keys)?;
            let shown = found
                .into_iter()
                .map(|(key, value)| format!("{key}={}", text(value)));
            shown.collect::<Vec<_>>().join(" ")
        }
        ["swap", key, value] => {
            let cas = Cas::new(bucket, key)?;
            let before = text(cas.current()?);
            match swap(cas, value.as_bytes()) {
                Ok(()) => format!("swapped {before}"),
                Err(CasError::StoreError(error)) => return Err(error),
                Err(CasError::CasFailed(_)) => "failed".into(),
            }
        }
        // Another writes in between: the swap fails, and its new handle works.
        ["swap-late", key, between, value] => {
            let cas = Cas::new(bucket, key)?;
            match between {
                "-" => bucket.delete(key)?,
                text => bucket.set(key, text.as_bytes())?,
            }
            match swap(cas, value.as_bytes()) {
                Ok(()) => "swapped".into(),
                Err(CasError::StoreError(error)) => return Err(error),
                Err(CasError::CasFailed(again)) => {
                    let now = text(again.current()?);
                    let again = swap(again, value.as_bytes()).is_ok();
                    format!("failed at {now}, then {again}")
                }
            }
        }
        // Adds one so many times, by swaps.
        ["count", key, times] => {
            for _ in 0..times.parse::<u32>().expect("a number") {
                let mut cas = Cas::new(bucket, key)?;
                loop {
                    let before = text(cas.current()?).parse::<u64>().unwrap_or(0);
                    match swap(cas, (before + 1).to_string().as_bytes()) {
                        Ok(()) => break,
                        Err(CasError::StoreError(error)) => return Err(error),
                        Err(CasError::CasFailed(again)) => cas = again,
                    }
                }
            }
            text(bucket.get(key)?)
        }
        _ => basic(bucket, words)?,
    })
}
