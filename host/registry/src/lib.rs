//! Components from registries, by the distribution specification of the Open
//! Container Initiative.
//!
//! ```text
//!   oci://HOST/NAME:TAG --Reference--> pull --> a file of the cache, checked
//!                                        |
//!          cached tag, digest <--cache---+---client--> HEAD, GET, blobs
//!                                        |       |
//!                              signature +       +-- transport: TLS, proxies
//!                                                +-- login: tokens, credentials
//! ```
//!
//! All that comes is bounded in size and time, and is checked by its digest
//! before it gets its name in the cache. What is named by its digest and cached
//! needs no network.
//!
//! Not here: compiling and running components, and what a run does with them.
//!
//! # Modules
//!
//! A module imports only those above it.
//!
//! | module | contents | not there |
//! | --- | --- | --- |
//! | `digest` | digests of blobs | |
//! | `reference` | references to artifacts | |
//! | `error` | errors | |
//! | `runtime` | the runtime of an operation | |
//! | `media` | manifests and configurations: which layer is the component | |
//! | `describe` | a component's exports, imports and annotations | |
//! | `proxies` | proxies that the environment names | |
//! | `credentials` | credentials in the files of docker and podman, and of their helpers | |
//! | `connect` | connections: addresses, proxies, TLS | requests |
//! | `transport` | requests over kept connections, with their time limits | logins, redirects |
//! | `login` | challenges and tokens | files of credentials |
//! | `answers` | messages and places of answers | |
//! | `client` | requests about manifests and blobs | the cache |
//! | `cache` | blobs and tags on the disk | the network |
//! | `signature` | signatures in cosign's form | where they are from |
//! | `network` | the registry and its mirrors | |
//! | [`mod@pull`], [`mod@push`] | pulling and pushing a component | |

mod answers;
mod cache;
mod client;
mod connect;
mod credentials;
mod describe;
mod digest;
mod error;
mod login;
mod media;
mod network;
mod proxies;
pub mod pull;
pub mod push;
mod reference;
mod runtime;
mod signature;
mod transport;

pub use cache::clean;
pub use digest::{Digest, DigestError};
pub use error::Error;
pub use pull::{Pulled, pull};
pub use push::push;
pub use reference::{Reference, ReferenceError, SCHEME};
