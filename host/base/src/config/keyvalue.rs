//! Buckets of keys and values that a guest may open.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Port of a Redis server whose URL has none.
const REDIS_PORT: u16 = 6379;

/// The argument of one `--keyvalue`: `NAME=STORE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyvalueBucket {
    /// Name by which guests open it.
    pub name: String,
    /// The store that it is in.
    pub store: KeyvalueStore,
}

/// A store of keys and values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyvalueStore {
    /// Memory of this process, lost at its end.
    Memory,
    /// A file.
    File(PathBuf),
    /// A database of a Redis server.
    Redis(RedisUrl),
}

/// A database of a Redis server. Its password is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// True for TLS.
    pub secure: bool,
    /// Name or address of the server.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Number of the database.
    pub database: u32,
    /// User; `None` for the server's default one.
    pub user: Option<String>,
    /// Password; `None` if the server asks for none.
    pub password: Option<String>,
    /// Text that each key begins with on the server.
    pub prefix: String,
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            secure,
            host,
            port,
            database,
            ..
        } = self;
        let scheme = if *secure { "rediss" } else { "redis" };
        match host.contains(':') {
            true => write!(f, "{scheme}://[{host}]:{port}/{database}"),
            false => write!(f, "{scheme}://{host}:{port}/{database}"),
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self}, prefix {:?})", self.prefix)
    }
}

/// Parses `NAME=memory:`, `NAME=file:PATH` or
/// `NAME=redis://[USER:PASSWORD@]HOST[:PORT][/DB][?prefix=TEXT]`, and `rediss`
/// for TLS.
impl FromStr for KeyvalueBucket {
    type Err = KeyvalueError;

    fn from_str(text: &str) -> Result<Self, KeyvalueError> {
        let (name, store) = text.split_once('=').ok_or(KeyvalueError::Form)?;
        if name.is_empty() {
            return Err(KeyvalueError::Form);
        }
        let store = match store.split_once(':') {
            Some(("memory", "")) => KeyvalueStore::Memory,
            Some(("memory", _)) => return Err(KeyvalueError::Memory),
            Some(("file", "")) => return Err(KeyvalueError::NoPath),
            Some(("file", path)) => KeyvalueStore::File(path.into()),
            Some(("redis", rest)) => KeyvalueStore::Redis(redis(rest, false)?),
            Some(("rediss", rest)) => KeyvalueStore::Redis(redis(rest, true)?),
            _ => return Err(KeyvalueError::Form),
        };
        Ok(Self {
            name: name.to_owned(),
            store,
        })
    }
}

pub(super) fn redis(rest: &str, secure: bool) -> Result<RedisUrl, KeyvalueError> {
    let rest = rest.strip_prefix("//").ok_or(KeyvalueError::Redis)?;
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, Some(query)),
        None => (rest, None),
    };
    let prefix = match query {
        None => String::new(),
        Some(query) => query
            .strip_prefix("prefix=")
            .filter(|it| !it.contains('&'))
            .ok_or(KeyvalueError::Query)?
            .to_owned(),
    };
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    // A password may have any letter but a slash and a question mark.
    let (login, place) = match authority.rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, authority),
    };
    let (user, password) = match login.map(|it| it.split_once(':')) {
        None => (None, None),
        Some(Some((user, password))) => (Some(user), Some(password)),
        Some(None) => return Err(KeyvalueError::Redis),
    };
    let (host, port) = match place.strip_prefix('[').and_then(|it| it.split_once(']')) {
        Some((host, port)) => (host, port),
        None => match place.find(':') {
            Some(colon) => place.split_at(colon),
            None => (place, ""),
        },
    };
    let port = match port {
        "" => REDIS_PORT,
        port => (port.strip_prefix(':'))
            .and_then(|port| port.parse().ok())
            .filter(|port| *port != 0)
            .ok_or(KeyvalueError::Redis)?,
    };
    if host.is_empty() {
        return Err(KeyvalueError::Redis);
    }
    let database = match database {
        "" => 0,
        number => number.parse().map_err(|_| KeyvalueError::Redis)?,
    };
    let given = |it: Option<&str>| it.filter(|it| !it.is_empty()).map(str::to_owned);
    Ok(RedisUrl {
        secure,
        host: host.to_owned(),
        port,
        database,
        user: given(user),
        password: given(password),
        prefix,
    })
}

/// Reason why a text is no `--keyvalue`. None shows the text, which may have a
/// password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyvalueError {
    /// The name or the store is missing, or the store is of an unknown kind.
    #[error(
        "write NAME=memory:, NAME=file:PATH or NAME=redis://HOST:PORT/DB, where NAME is what the \
         guest opens"
    )]
    Form,
    /// Memory has no place.
    #[error("nothing follows 'memory:', whose content is lost at the end")]
    Memory,
    /// The file has no path.
    #[error("a path follows 'file:', such as file:state.redb")]
    NoPath,
    /// The URL of a Redis server is malformed.
    #[error(
        "write redis://HOST, or rediss://HOST for TLS, with a port, a database and a login if need \
         be: redis://USER:PASSWORD@HOST:6379/0"
    )]
    Redis,
    /// The URL has a parameter that does not exist.
    #[error("only ?prefix=TEXT may end the URL of a Redis server")]
    Query,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_read_as_they_are_documented() {
        let url = |text: &str| match text.parse::<KeyvalueBucket>() {
            Ok(KeyvalueBucket {
                store: KeyvalueStore::Redis(url),
                ..
            }) => url,
            other => panic!("{text} gave {other:?}"),
        };
        let bucket = |name: &str, store| {
            Ok(KeyvalueBucket {
                name: name.to_owned(),
                store,
            })
        };
        assert_eq!("a=memory:".parse(), bucket("a", KeyvalueStore::Memory));
        let file = KeyvalueStore::File("x=y:z".into());
        assert_eq!("a=file:x=y:z".parse(), bucket("a", file));
        for (text, shown, prefix) in [
            ("a=redis://h", "redis://h:6379/0", ""),
            ("a=redis://[::1]:7/3", "redis://[::1]:7/3", ""),
            (
                "a=redis://10.0.0.1:1?prefix=x:y",
                "redis://10.0.0.1:1/0",
                "x:y",
            ),
            ("a=redis://:p@w@h/2", "redis://h:6379/2", ""),
            ("a=rediss://h/1", "rediss://h:6379/1", ""),
        ] {
            let url = url(text);
            assert_eq!((&*url.to_string(), &*url.prefix), (shown, prefix), "{text}");
            assert!(!format!("{url:?}").contains("p@w"), "{url:?}");
        }
        assert_eq!(url("a=redis://:p@w@h/2").password.as_deref(), Some("p@w"));
        assert_eq!(url("a=redis://u:p@h/2").user.as_deref(), Some("u"));
        for (text, error) in [
            ("a", KeyvalueError::Form),
            ("=memory:", KeyvalueError::Form),
            ("a=memory", KeyvalueError::Form),
            ("a=etcd://x", KeyvalueError::Form),
            ("a=memory:x", KeyvalueError::Memory),
            ("a=file:", KeyvalueError::NoPath),
            ("a=redis:h", KeyvalueError::Redis),
            ("a=redis://", KeyvalueError::Redis),
            ("a=redis://h:0", KeyvalueError::Redis),
            ("a=redis://h:x", KeyvalueError::Redis),
            ("a=redis://h/x", KeyvalueError::Redis),
            ("a=redis://h?x=1", KeyvalueError::Query),
            ("a=rediss:h", KeyvalueError::Redis),
        ] {
            assert_eq!(text.parse::<KeyvalueBucket>(), Err(error), "{text}");
        }
    }
}
