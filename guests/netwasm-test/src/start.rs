//! A start of the host: its arguments, and the files that they name.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::host::Host;
use crate::listener::Listener;
use crate::tls::Files;

/// The parts of a start.
pub(crate) struct Start<'a> {
    pub(crate) host: Host,
    /// Arguments of the host, without listeners.
    pub(crate) flags: Vec<OsString>,
    pub(crate) listeners: &'a [Listener],
    /// Arguments of the component.
    pub(crate) args: &'a [String],
    /// Environment variables of the host.
    pub(crate) variables: Vec<(OsString, OsString)>,
    /// True if clients need a certificate.
    pub(crate) client_certificates: bool,
    pub(crate) limit: Duration,
}

impl Start<'_> {
    /// Returns all arguments of the host, and the file with the authority of its
    /// certificate, if it has one. The files of the run are in a directory.
    pub(crate) fn args(
        &self,
        directory: &Path,
    ) -> Result<(Vec<OsString>, Option<PathBuf>), String> {
        let mut args = self.flags.clone();
        let mut authority = None;
        if self.listeners.iter().any(|listener| listener.is_secure()) {
            let files = Files::write(directory)
                .map_err(|error| format!("the certificates cannot be written: {error}"))?;
            args.extend(["--cert".into(), files.certificate.into()]);
            args.extend(["--key".into(), files.key.into()]);
            if self.client_certificates {
                args.extend(["--client-ca".into(), files.authority.clone().into()]);
            }
            authority = Some(files.authority);
        }
        for listener in self.listeners {
            let address = match listener {
                Listener::Unix => format!("unix:{}/server.sock", directory.display()),
                _ => "127.0.0.1:0".to_owned(),
            };
            args.extend([listener.flag().into(), address.into()]);
        }
        if !self.args.is_empty() {
            args.push("--".into());
            args.extend(self.args.iter().map(OsString::from));
        }
        Ok((args, authority))
    }
}
