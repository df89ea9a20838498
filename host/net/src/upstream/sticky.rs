//! Names of servers in a sticky cookie. They tell clients nothing: a name is the
//! HMAC of a server's address by the group's key. So it is the same in all
//! processes that have the key, and after a restart.

use std::collections::HashMap;
use std::fmt;
use std::fmt::Write as _;
use std::io;

use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};

use netwasm_base::config::Sticky as Settings;
use netwasm_base::input::Input;

use crate::upstream::server::Server;

/// Length of a name in bytes, before it is written in hexadecimal.
const LENGTH: usize = 12;

/// Largest key in bytes.
const MOST_KEY: u64 = 64 << 10;

/// A group's sticky cookie.
pub struct Sticky {
    cookie: String,
    servers: HashMap<String, u64>,
    names: HashMap<u64, String>,
}

impl Sticky {
    /// Names the servers of a group.
    ///
    /// # Errors
    /// Fails if the file with the key cannot be read, or is empty.
    pub(super) fn new<'a>(
        settings: &Settings,
        group: &str,
        servers: impl Iterator<Item = &'a Server>,
    ) -> io::Result<Self> {
        let key = match &settings.key {
            Some(path) => read(path)?,
            // Then who knows the group's name, and guesses an address, can tell
            // that it is right.
            None => group.as_bytes().to_vec(),
        };
        let key = Key::new(HMAC_SHA256, &key);
        let mut sticky = Self {
            cookie: settings.cookie.clone(),
            servers: HashMap::new(),
            names: HashMap::new(),
        };
        for server in servers {
            let scheme = if server.tls().is_some() {
                "https"
            } else {
                "http"
            };
            let tag = hmac::sign(&key, format!("{group}\n{scheme}://{server}").as_bytes());
            let mut name = String::with_capacity(2 * LENGTH);
            for byte in tag.as_ref().iter().take(LENGTH) {
                // Writing to memory cannot fail.
                let _ = write!(name, "{byte:02x}");
            }
            sticky.servers.insert(name.clone(), server.number());
            sticky.names.insert(server.number(), name);
        }
        Ok(sticky)
    }

    /// Returns the cookie's name.
    pub fn cookie(&self) -> &str {
        &self.cookie
    }

    /// Returns the number of the server that a cookie's value names.
    pub fn server(&self, value: &[u8]) -> Option<u64> {
        let name = str::from_utf8(value).ok()?;
        self.servers.get(name).copied()
    }

    /// Returns the cookie's value for a server.
    pub fn name_of(&self, server: &Server) -> Option<&str> {
        self.names.get(&server.number()).map(String::as_str)
    }
}

impl fmt::Debug for Sticky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sticky").field(&self.cookie).finish()
    }
}

/// Reads a key, without the end of its last line.
fn read(path: &std::path::Path) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut key = Vec::new();
    let file = Input::open(path)?;
    file.take(MOST_KEY).read_to_end(&mut key)?;
    let key = key.trim_ascii_end();
    match key.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::InvalidData, "it is empty")),
        false => Ok(key.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use crate::upstream::group::Group;

    #[test]
    fn names_tell_nothing_and_stay() {
        let of = |text: &str| {
            let group = text.parse().expect(text);
            let group = Group::new(&group, &std::sync::Arc::default()).expect("a group");
            let sticky = group.sticky().expect("a cookie");
            let servers = group.servers().iter();
            let names = servers.map(|it| sticky.name_of(it).expect("a name").to_owned());
            let names: Vec<_> = names.collect();
            for (server, name) in group.servers().iter().zip(&names) {
                assert_eq!(sticky.server(name.as_bytes()), Some(server.number()));
            }
            assert_eq!(sticky.server(b"127.0.0.1:1"), None);
            assert_eq!(sticky.server(b"\xff"), None);
            names
        };
        let names = of("g=127.0.0.1:1,https://127.0.0.1:1;sticky=S");
        assert_ne!(names.first(), names.get(1));
        assert!(names.iter().all(|name| name.len() == 24), "{names:?}");
        // They depend neither on the run nor on the other servers.
        assert_eq!(
            of("g=127.0.0.1:2,127.0.0.1:1;sticky=S").get(1),
            names.first()
        );
        let directory = tempfile::tempdir().expect("a directory");
        let key = directory.path().join("key");
        std::fs::write(&key, "secret\n").expect("a file");
        let keyed = format!("g=127.0.0.1:1;sticky=S;sticky-key={}", key.display());
        assert_ne!(of(&keyed).first(), names.first());
        std::fs::write(&key, "\n").expect("a file");
        let group = keyed.parse().expect("a group");
        let error = Group::new(&group, &std::sync::Arc::default()).expect_err("no key");
        assert!(error.to_string().contains("sticky-key"), "{error}");
    }
}
