//! The distribution specification's requests: manifests and blobs of one
//! repository, with logins, redirects and further attempts.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use tokio::time::sleep;

use crate::answers::{message, resolved};
use crate::connect::Origin;
use crate::digest::{Digest, Hasher};
use crate::error::Error;
use crate::login::{For, Logins, with_query};
use crate::media::ACCEPTED;
use crate::transport::{Answer, Outgoing, Transport};

/// Largest manifest in bytes, as registries have it, too.
pub(crate) const MOST_MANIFEST: u64 = 4 << 20;

/// Largest answer with an error, in bytes.
const MOST_ERROR: u64 = 64 << 10;

/// Most redirects of a request.
const REDIRECTS: usize = 5;

/// Pauses before each further attempt.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];

/// Longest pause that a registry may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Header with the digest of a manifest.
const DIGEST: &str = "docker-content-digest";

/// Takes the bytes of a blob.
pub(crate) trait Sink {
    /// Begins, perhaps once more: what came so far is void.
    fn begin(&mut self) -> Result<(), Error>;
    /// Takes the next bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error>;
}

impl Sink for Vec<u8> {
    fn begin(&mut self) -> Result<(), Error> {
        self.clear();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// A repository of a registry or of its mirror.
pub(crate) struct Repository<'a> {
    transport: &'a Transport,
    logins: &'a Logins,
    origin: Origin,
    /// Name of the registry in files of credentials.
    registry: String,
    name: String,
    /// True if blobs and manifests are to be sent.
    pushes: bool,
    /// Further attempts where the registry is away.
    retries: usize,
}

/// A request to the registry.
struct Call {
    method: Method,
    uri: Uri,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl<'a> Repository<'a> {
    /// Returns a repository, at `HOST` or `HOST:PORT`.
    pub(crate) async fn open(
        transport: &'a Transport,
        logins: &'a Logins,
        endpoint: &str,
        registry: &str,
        name: &str,
    ) -> Result<Self, Error> {
        Ok(Self {
            transport,
            logins,
            origin: transport.connector.origin(endpoint).await?,
            registry: registry.to_owned(),
            name: name.to_owned(),
            pushes: false,
            retries: PAUSES.len(),
        })
    }

    /// Makes no further attempts.
    pub(crate) fn at_once(mut self) -> Self {
        self.retries = 0;
        self
    }

    /// Asks for the right to push.
    pub(crate) fn for_push(mut self) -> Self {
        self.pushes = true;
        self
    }

    /// Returns its place, as errors have it.
    pub(crate) fn host(&self) -> String {
        self.origin.authority()
    }

    /// Returns the digest of a tag's manifest; `None` if the registry does not
    /// say.
    pub(crate) async fn digest_of(&self, target: &str) -> Result<Option<Digest>, Error> {
        let what = format!("{}:{target}", self.name);
        let mut call = self.call(Method::HEAD, &format!("manifests/{target}"))?;
        call.headers
            .push((ACCEPT, HeaderValue::from_static(ACCEPTED)));
        let answer = self.expect(&call, &what, &[StatusCode::OK]).await?;
        let digest = answer.response.headers().get(DIGEST);
        let digest = digest.and_then(|it| it.to_str().ok()?.parse().ok());
        self.transport.read_all(answer, 0).await?;
        Ok(digest)
    }

    /// Returns a manifest with its digest. A target that is a digest must be that
    /// of what comes.
    pub(crate) async fn manifest(&self, target: &str) -> Result<(Digest, Vec<u8>), Error> {
        let what = format!("{}:{target}", self.name);
        let mut call = self.call(Method::GET, &format!("manifests/{target}"))?;
        call.headers
            .push((ACCEPT, HeaderValue::from_static(ACCEPTED)));
        let mut bytes = Vec::new();
        self.receive(&call, &what, MOST_MANIFEST, &mut bytes)
            .await?;
        let digest = Digest::of(&bytes);
        match target.parse::<Digest>() {
            Ok(wanted) if wanted != digest => Err(Error::Digest {
                host: self.host(),
                wanted,
                found: digest.to_string(),
            }),
            _ => Ok((digest, bytes)),
        }
    }

    /// Receives a blob, and checks its size and digest.
    pub(crate) async fn blob(
        &self,
        digest: Digest,
        size: u64,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let what = format!("blob {digest}");
        let call = self.call(Method::GET, &format!("blobs/{digest}"))?;
        let mut hashing = Hashing {
            hasher: Hasher::new(),
            size: 0,
            sink,
        };
        self.receive(&call, &what, size, &mut hashing).await?;
        let found = hashing.hasher.finish();
        let wrong = match hashing.size {
            came if came != size => format!("{came} bytes of {size}"),
            _ if found != digest => found.to_string(),
            _ => return Ok(()),
        };
        Err(Error::Digest {
            host: self.host(),
            wanted: digest,
            found: wrong,
        })
    }

    /// Sends a blob, unless the registry has it.
    pub(crate) async fn send_blob(&self, bytes: Bytes) -> Result<(), Error> {
        let digest = Digest::of(&bytes);
        let what = format!("blob {digest}");
        let call = self.call(Method::HEAD, &format!("blobs/{digest}"))?;
        match self.expect(&call, &what, &[StatusCode::OK]).await {
            Ok(answer) => {
                self.transport.read_all(answer, 0).await?;
                return Ok(());
            }
            Err(Error::Missing { .. }) => {}
            Err(error) => return Err(error),
        }
        let what = format!("repository {}", self.name);
        let call = self.call(Method::POST, "blobs/uploads/")?;
        let answer = self.expect(&call, &what, &[StatusCode::ACCEPTED]).await?;
        let place = answer.response.headers().get(LOCATION).cloned();
        self.transport.read_all(answer, MOST_ERROR).await?;
        let wrong = |reason: &str| Error::Answer {
            host: self.host(),
            what: "the beginning of an upload".into(),
            reason: reason.into(),
        };
        let place = place.and_then(|place| resolved(&call.uri, place.to_str().ok()?));
        let place = place.and_then(|place| with_query(&place, &[("digest", &digest.to_string())]));
        let place = place.ok_or_else(|| wrong("it says no place for it"))?;
        if self.origin.secure && place.scheme_str() != Some("https") {
            return Err(wrong("its place is without TLS"));
        }
        let call = Call {
            method: Method::PUT,
            uri: place,
            headers: vec![(
                CONTENT_TYPE,
                HeaderValue::from_static("application/octet-stream"),
            )],
            body: bytes,
        };
        let answer = self.expect(&call, &what, &[StatusCode::CREATED]).await?;
        self.transport.read_all(answer, MOST_ERROR).await?;
        Ok(())
    }

    /// Sends a manifest by its tag.
    pub(crate) async fn send_manifest(
        &self,
        target: &str,
        kind: &'static str,
        bytes: Bytes,
    ) -> Result<(), Error> {
        let mut call = self.call(Method::PUT, &format!("manifests/{target}"))?;
        call.headers
            .push((CONTENT_TYPE, HeaderValue::from_static(kind)));
        call.body = bytes;
        let what = format!("repository {}", self.name);
        let answer = self.expect(&call, &what, &[StatusCode::CREATED]).await?;
        self.transport.read_all(answer, MOST_ERROR).await?;
        Ok(())
    }

    fn call(&self, method: Method, path: &str) -> Result<Call, Error> {
        let scheme = if self.origin.secure { "https" } else { "http" };
        let uri = format!("{scheme}://{}/v2/{}/{path}", self.host(), self.name);
        let uri = uri
            .parse()
            .map_err(|_| Error::Setting(format!("{uri} is no URL")))?;
        Ok(Call {
            method,
            uri,
            headers: Vec::new(),
            body: Bytes::new(),
        })
    }

    /// Receives a body, in several attempts if it is cut off.
    async fn receive(
        &self,
        call: &Call,
        what: &str,
        most: u64,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let mut pauses = PAUSES.iter().take(self.retries);
        loop {
            let answer = self.expect(call, what, &[StatusCode::OK]).await?;
            sink.begin()?;
            let read = self
                .transport
                .read(answer, most, |bytes| sink.write(bytes))
                .await;
            match (read, pauses.next()) {
                (Err(error), Some(pause)) if error.is_away() => {
                    tracing::info!(%error, "asking for {what} again");
                    sleep(*pause).await;
                }
                (read, _) => return read.map(drop),
            }
        }
    }

    /// Sends a request, and returns the response if it has one of these statuses.
    async fn expect(
        &self,
        call: &Call,
        what: &str,
        wanted: &[StatusCode],
    ) -> Result<Answer, Error> {
        let mut pauses = PAUSES.iter().take(self.retries);
        loop {
            let (error, pause) = match self.once(call).await {
                Ok(answer) if wanted.contains(&answer.response.status()) => return Ok(answer),
                Ok(answer) => {
                    let after = answer.response.headers().get(RETRY_AFTER);
                    let after = after.and_then(|it| it.to_str().ok()?.parse().ok());
                    let after = after.map(Duration::from_secs);
                    (self.refused(answer, what).await, after)
                }
                Err(error) => (error, None),
            };
            match pauses.next() {
                Some(usual) if error.is_away() => {
                    tracing::info!(%error, "asking for {what} again");
                    sleep(pause.unwrap_or(*usual).min(LONGEST_PAUSE)).await;
                }
                _ => return Err(error),
            }
        }
    }

    /// Sends a request once, and follows redirects. Credentials are for the
    /// registry alone.
    async fn once(&self, call: &Call) -> Result<Answer, Error> {
        let scope = match self.pushes {
            true => format!("repository:{}:pull,push", self.name),
            false => format!("repository:{}:pull", self.name),
        };
        let wanted = For {
            registry: &self.registry,
            repository: &self.name,
            scope: &scope,
        };
        let mut uri = call.uri.clone();
        let mut asked = false;
        let mut redirects = 0;
        loop {
            let is_own = Origin::of(&uri).as_ref() == Some(&self.origin);
            let mut headers = call.headers.clone();
            if is_own && let Some(value) = self.logins.known(&self.origin, wanted) {
                headers.push((AUTHORIZATION, value));
            }
            let answer = self
                .transport
                .send(&Outgoing {
                    method: call.method.clone(),
                    uri: uri.clone(),
                    headers,
                    body: call.body.clone(),
                })
                .await?;
            let status = answer.response.status();
            if status == StatusCode::UNAUTHORIZED && is_own && !asked {
                asked = true;
                let headers = answer.response.headers().clone();
                // Its text is of no use now; the connection is.
                let _ = self.transport.read_all(answer, MOST_ERROR).await;
                let login = self
                    .logins
                    .answer(self.transport, &self.origin, &headers, wanted);
                if login.await?.is_some() {
                    continue;
                }
                return Err(Error::Login {
                    host: self.host(),
                    status: status.as_u16(),
                    told: String::new(),
                    looked: self.logins.place(&self.origin),
                });
            }
            let is_safe = matches!(call.method, Method::GET | Method::HEAD);
            if !is_safe || !status.is_redirection() || status == StatusCode::NOT_MODIFIED {
                return Ok(answer);
            }
            let wrong = |reason: String| Error::Answer {
                host: self.host(),
                what: format!("{} {}", call.method, call.uri.path()),
                reason,
            };
            redirects += 1;
            if redirects > REDIRECTS {
                return Err(wrong(format!("more than {REDIRECTS} redirects")));
            }
            let place = answer.response.headers().get(LOCATION);
            let place = place.and_then(|place| resolved(&uri, place.to_str().ok()?));
            let place = place.ok_or_else(|| wrong("a redirect to no URL".into()))?;
            let _ = self.transport.read_all(answer, MOST_ERROR).await;
            if self.origin.secure && place.scheme_str() != Some("https") {
                // Its path may have a key.
                let host = place.authority().map_or("", |it| it.as_str());
                return Err(wrong(format!("a redirect to {host} without TLS")));
            }
            uri = place;
        }
    }

    /// Returns the error that a response means.
    async fn refused(&self, answer: Answer, what: &str) -> Error {
        let status = answer.response.status();
        let is_own = answer.origin == self.origin;
        let host = answer.origin.authority();
        let bytes = self.transport.read_all(answer, MOST_ERROR).await;
        let told = message(&bytes.unwrap_or_default());
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::Login {
                looked: match &*self.logins.place(&self.origin) {
                    _ if !is_own => format!(
                        "{} leads there, and credentials are for itself alone",
                        self.host()
                    ),
                    "" => "it wanted no credentials".into(),
                    place => place.to_owned(),
                },
                host,
                status: status.as_u16(),
                told,
            },
            StatusCode::NOT_FOUND => Error::Missing {
                host,
                what: what.to_owned(),
                told,
            },
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Error::Away {
                host,
                reason: format!("it answers {status}{told}"),
            },
            _ if status.is_server_error() => Error::Away {
                host,
                reason: format!("it answers {status}{told}"),
            },
            _ => Error::Answer {
                host,
                what: format!("a request for {what}"),
                reason: format!("{status}{told}"),
            },
        }
    }
}

/// Hashes what passes.
struct Hashing<'a> {
    hasher: Hasher,
    size: u64,
    sink: &'a mut dyn Sink,
}

impl Sink for Hashing<'_> {
    fn begin(&mut self) -> Result<(), Error> {
        self.hasher = Hasher::new();
        self.size = 0;
        self.sink.begin()
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.sink.write(bytes)
    }
}
