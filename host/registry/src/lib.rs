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

mod digest;
mod error;
mod reference;

pub use digest::{Digest, DigestError};
pub use error::Error;
pub use reference::{Reference, ReferenceError, SCHEME};
