//! Logins at registries: challenges of RFC 9110, section 11, and tokens as Docker
//! and the distribution specification have them.

use std::cell::RefCell;
use std::collections::HashMap;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, StatusCode, Uri};
use serde::Deserialize;

use netwasm_base::base64;

use crate::connect::Origin;
use crate::credentials::{Credentials, Found, Login};
use crate::error::Error;
use crate::transport::{Outgoing, Transport};

/// Largest answer with a token, in bytes.
const MOST: u64 = 1 << 20;

/// Name under which tokens are asked for.
const CLIENT: &str = "netwasm";

/// Logins at registries during an operation.
pub(crate) struct Logins {
    credentials: Credentials,
    /// Values of `Authorization` by registry and scope; secrets.
    known: RefCell<HashMap<(Origin, String), HeaderValue>>,
    /// Places of the credentials that were used, or that have none.
    places: RefCell<HashMap<Origin, String>>,
}

/// The registry and repository that a login is for.
#[derive(Clone, Copy)]
pub(crate) struct For<'a> {
    /// Name of the registry in files of credentials.
    pub(crate) registry: &'a str,
    pub(crate) repository: &'a str,
    /// Scope of tokens, such as `repository:NAME:pull`.
    pub(crate) scope: &'a str,
}

/// A challenge.
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    /// In lower case.
    scheme: String,
    parameters: HashMap<String, String>,
}

/// Answer of a server of tokens.
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Logins {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self {
            credentials,
            known: RefCell::default(),
            places: RefCell::default(),
        }
    }

    /// Returns the value of `Authorization` for a registry, if it wanted one.
    pub(crate) fn known(&self, origin: &Origin, wanted: For<'_>) -> Option<HeaderValue> {
        let known = self.known.borrow();
        known
            .get(&(origin.clone(), wanted.scope.to_owned()))
            .cloned()
    }

    /// Says where the credentials for a registry are from.
    pub(crate) fn place(&self, origin: &Origin) -> String {
        let places = self.places.borrow();
        places.get(origin).cloned().unwrap_or_default()
    }

    /// Answers the challenge of a registry. Returns the value of `Authorization`;
    /// `None` if it wants a password, and none is known.
    pub(crate) async fn answer(
        &self,
        transport: &Transport,
        origin: &Origin,
        headers: &HeaderMap,
        wanted: For<'_>,
    ) -> Result<Option<HeaderValue>, Error> {
        let credentials = |reason: String| Error::Credentials {
            host: wanted.registry.to_owned(),
            reason,
        };
        let found = self.credentials.find(wanted.registry, wanted.repository);
        let Found { login, place } = found.map_err(credentials)?;
        let place = match login {
            Some(_) => format!("the credentials of {place} were used"),
            None => format!(
                "no credentials for {} are in {place}: `docker login` or `podman login` puts them \
                 there",
                wanted.registry
            ),
        };
        self.places.borrow_mut().insert(origin.clone(), place);
        let values = headers.get_all(WWW_AUTHENTICATE);
        let challenges: Vec<_> = values
            .iter()
            .filter_map(|it| challenges(it.to_str().ok()?))
            .flatten()
            .collect();
        let of = |scheme: &str| challenges.iter().find(|it| it.scheme == scheme);
        let value = match (of("bearer"), of("basic")) {
            (Some(challenge), _) => {
                let token = self
                    .token(transport, origin, challenge, login, wanted)
                    .await?;
                format!("Bearer {token}")
            }
            (None, Some(_)) => match login {
                Some(Login::Password { user, password }) => basic(&user, &password),
                Some(Login::Refresh(_)) => {
                    return Err(credentials(
                        "there is a token, and it wants a password".into(),
                    ));
                }
                None => return Ok(None),
            },
            (None, None) => {
                return Err(Error::Answer {
                    host: origin.authority(),
                    what: "a request without a login".into(),
                    reason: "401 without a challenge of Bearer or Basic".into(),
                });
            }
        };
        let mut value = HeaderValue::try_from(value)
            .map_err(|_| credentials("they have characters that no header has".into()))?;
        value.set_sensitive(true);
        let key = (origin.clone(), wanted.scope.to_owned());
        self.known.borrow_mut().insert(key, value.clone());
        Ok(Some(value))
    }

    /// Gets a token from the server that the registry names.
    async fn token(
        &self,
        transport: &Transport,
        origin: &Origin,
        challenge: &Challenge,
        login: Option<Login>,
        wanted: For<'_>,
    ) -> Result<String, Error> {
        let wrong = |reason: String| Error::Answer {
            host: origin.authority(),
            what: "a request without a token".into(),
            reason,
        };
        let realm = challenge.parameters.get("realm").map_or("", |realm| realm);
        let realm: Uri = realm
            .parse()
            .map_err(|_| wrong(format!("its realm is '{realm}'")))?;
        let server = Origin::of(&realm).ok_or_else(|| wrong(format!("its realm is '{realm}'")))?;
        if origin.secure && !server.secure {
            return Err(wrong(format!(
                "tokens are to be had without TLS, from {realm}"
            )));
        }
        let service = challenge.parameters.get("service");
        let mut query = vec![("scope", wanted.scope)];
        query.extend(service.map(|service| ("service", &**service)));
        let mut outgoing = Outgoing {
            method: Method::GET,
            uri: realm.clone(),
            headers: vec![(ACCEPT, HeaderValue::from_static("application/json"))],
            body: Bytes::new(),
        };
        match &login {
            Some(Login::Refresh(token)) => {
                query.extend([
                    ("grant_type", "refresh_token"),
                    ("client_id", CLIENT),
                    ("refresh_token", token.as_str()),
                ]);
                outgoing.method = Method::POST;
                outgoing.body = encoded(&query).into();
                let form = HeaderValue::from_static("application/x-www-form-urlencoded");
                outgoing.headers.push((CONTENT_TYPE, form));
            }
            Some(Login::Password { user, password }) => {
                query.push(("account", user.as_str()));
                let value = HeaderValue::try_from(basic(user, password));
                let value = value.map_err(|_| wrong("no header has such a password".into()))?;
                outgoing.headers.push((AUTHORIZATION, value));
                outgoing.uri = with_query(&realm, &query)
                    .ok_or_else(|| wrong("its realm is too long".into()))?;
            }
            None => {
                outgoing.uri = with_query(&realm, &query)
                    .ok_or_else(|| wrong("its realm is too long".into()))?;
            }
        }
        let answer = transport.send(&outgoing).await?;
        let status = answer.response.status();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(Error::Login {
                host: origin.authority(),
                status: status.as_u16(),
                told: format!(", by {}", server.authority()),
                looked: self.place(origin),
            });
        }
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(Error::Away {
                host: server.authority(),
                reason: format!("it answers {status} to a request for a token"),
            });
        }
        let bytes = transport.read_all(answer, MOST).await?;
        // The error of the parser may show the token.
        let token = serde_json::from_slice::<Token>(&bytes)
            .ok()
            .filter(|_| status.is_success());
        let token = token.and_then(|it| it.token.or(it.access_token));
        token
            .filter(|it| !it.is_empty())
            .ok_or_else(|| wrong(format!("{} gives no token ({status})", server.authority())))
    }
}

fn basic(user: &str, password: &str) -> String {
    let both = format!("{user}:{password}");
    format!("Basic {}", base64::encode(both.as_bytes()))
}

/// Returns a URL with more parameters.
pub(crate) fn with_query(uri: &Uri, query: &[(&str, &str)]) -> Option<Uri> {
    let between = if uri.query().is_some() { '&' } else { '?' };
    format!("{uri}{between}{}", encoded(query)).parse().ok()
}

/// Returns parameters as a form has them.
fn encoded(query: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in query {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    text.push(char::from(byte));
                }
                _ => text.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    text
}

/// Reads challenges; `None` if a line has none.
fn challenges(text: &str) -> Option<Vec<Challenge>> {
    let mut all: Vec<Challenge> = Vec::new();
    let mut rest = text.trim_start_matches([' ', ',']);
    while !rest.is_empty() {
        let end = rest.find([' ', '=', ',']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        match after.strip_prefix('=') {
            Some(value) => {
                let (value, after) = value_of(value)?;
                let challenge = all.last_mut()?;
                challenge
                    .parameters
                    .insert(word.to_ascii_lowercase(), value);
                rest = after;
            }
            None => {
                all.push(Challenge {
                    scheme: word.to_ascii_lowercase(),
                    parameters: HashMap::new(),
                });
                rest = after;
            }
        }
        rest = rest.trim_start_matches([' ', ',']);
    }
    Some(all)
}

/// Reads a token or a quoted string, and returns what follows it.
fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', ',']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return Some((value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Some((value, quoted.get(index + 1..)?)),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let text = "Basic realm=plain, Bearer realm=\"https://a/b?c=d\",service=\"x \\\"y\\\"\", \
                    scope=\"repository:a/b:pull,push\"";
        let all = challenges(text).expect("challenges");
        let schemes: Vec<_> = all.iter().map(|it| &*it.scheme).collect();
        assert_eq!(schemes, ["basic", "bearer"]);
        let of = |name: &str| all[1].parameters.get(name).map(String::as_str);
        assert_eq!(of("realm"), Some("https://a/b?c=d"));
        assert_eq!(of("service"), Some("x \"y\""));
        assert_eq!(of("scope"), Some("repository:a/b:pull,push"));
        assert_eq!(all[0].parameters["realm"], "plain");
        for wrong in ["realm=\"x\"", "Bearer realm=\"x", "Bearer realm=\"x\\"] {
            assert_eq!(challenges(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn parameters_are_escaped() {
        let realm: Uri = "https://a/b?c=d".parse().expect("a URL");
        let query = [("scope", "repository:a/b:pull"), ("account", "a&b \u{e4}")];
        let uri = with_query(&realm, &query).expect("a URL");
        assert_eq!(
            uri.to_string(),
            "https://a/b?c=d&scope=repository%3Aa%2Fb%3Apull&account=a%26b%20%C3%A4"
        );
    }
}
