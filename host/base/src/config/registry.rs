//! Settings of registries, which components are pulled from.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of registries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryConfig {
    /// Files of authorities to trust besides the system's: `--registry-ca`.
    pub authorities: Vec<PathBuf>,
    /// Registries with mirrors of them, `HOST[:PORT][/PREFIX]`:
    /// `--registry-mirror`.
    pub mirrors: Vec<(String, String)>,
    /// Hosts, with or without port, that speak plain HTTP:
    /// `--registry-plain-http`.
    pub plain: Vec<String>,
    /// Largest total size of cached components in bytes:
    /// `--registry-cache-size`.
    pub cache_size: u64,
    /// Time limit of a pull or push: `--registry-timeout`.
    pub timeout: Duration,
    /// True if no network is to be used: `--offline`.
    pub offline: bool,
    /// Files of public keys, of which one must have signed: `--verify-key`.
    pub verify_keys: Vec<PathBuf>,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            authorities: Vec::new(),
            mirrors: Vec::new(),
            plain: Vec::new(),
            cache_size: 1 << 30,
            timeout: Duration::from_mins(5),
            offline: false,
            verify_keys: Vec::new(),
        }
    }
}
