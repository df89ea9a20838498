//! A component, and the flags to run it with.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cargo;
use crate::host::Host;
use crate::listener::Listener;
use crate::server::Server;
use crate::start::Start;

/// Default limit of every wait.
const LIMIT: Duration = Duration::from_secs(10);

/// A component, and the flags of the host that runs it.
///
/// Make one with [`Self::of_this_crate`], add listeners and flags, then
/// [`start`](Self::start) it. Clones can be started, too: each is a server of its
/// own.
#[derive(Clone, Debug)]
#[must_use = "a component does nothing until it is started"]
pub struct Component {
    source: Source,
    host: Option<Host>,
    listeners: Vec<Listener>,
    flags: Vec<OsString>,
    args: Vec<String>,
    host_variables: Vec<(OsString, OsString)>,
    client_certificates: bool,
    limit: Duration,
}

/// Source of a component.
#[derive(Clone, Debug)]
enum Source {
    /// A file, or the name of one that the host contains.
    Named(OsString),
    /// The directory of a crate.
    Crate(PathBuf),
}

impl Component {
    /// Takes the crate under test. The start builds it, with `cargo build
    /// --release --target wasm32-wasip2`, once there is a host to run it. All
    /// tests of a run share one build.
    ///
    /// It is built in the crate's target directory, so that `netwasm build` has
    /// nothing to compile again. The build does not see the variables that the
    /// outer cargo sets (`CARGO_*`), nor `RUSTFLAGS`.
    ///
    /// The crate's `isolation` below `[package.metadata.netwasm]` counts, as it
    /// does for `netwasm run .`, unless [`Self::isolation_worker`] or a flag
    /// `--isolation=connection` says otherwise.
    ///
    /// # Panics
    /// Panics if cargo does not run the test (`CARGO_MANIFEST_DIR` is not set).
    #[track_caller]
    pub fn of_this_crate() -> Self {
        let Some(directory) = std::env::var_os("CARGO_MANIFEST_DIR") else {
            panic!("CARGO_MANIFEST_DIR is not set: run the test by cargo, or use Component::file");
        };
        Self::of_crate(directory)
    }

    /// Like [`Self::of_this_crate`], for the crate in another directory.
    pub fn of_crate(directory: impl AsRef<Path>) -> Self {
        Self::from_source(Source::Crate(directory.as_ref().to_owned()))
    }

    /// Takes a component from a file.
    ///
    /// # Panics
    /// Panics if there is no such file.
    #[track_caller]
    pub fn file(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        // The host takes a plain word for the name of a built-in component.
        match path.canonicalize() {
            Ok(path) => Self::from_source(Source::Named(path.into())),
            Err(error) => panic!("'{}' is not a component: {error}", path.display()),
        }
    }

    /// Takes an example that the host contains, such as `echo` or `router`. An
    /// unknown name fails at the start.
    pub fn built_in(name: &str) -> Self {
        Self::from_source(Source::Named(name.into()))
    }

    fn from_source(source: Source) -> Self {
        Self {
            source,
            host: None,
            listeners: Vec::new(),
            flags: Vec::new(),
            args: Vec::new(),
            host_variables: Vec::new(),
            client_certificates: false,
            limit: LIMIT,
        }
    }

    /// Listens for TCP on 127.0.0.1, on a port that the system picks.
    pub fn tcp(self) -> Self {
        self.listen(Listener::Tcp)
    }

    /// Listens for TLS on 127.0.0.1, on a port that the system picks. The
    /// certificate is for `localhost`, from an authority made for this run.
    pub fn tls(self) -> Self {
        self.listen(Listener::Tls)
    }

    /// Receives UDP on 127.0.0.1, on a port that the system picks.
    pub fn udp(self) -> Self {
        self.listen(Listener::Udp)
    }

    /// Listens on a Unix socket in a temporary directory.
    pub fn unix(self) -> Self {
        self.listen(Listener::Unix)
    }

    /// Listens for HTTP on 127.0.0.1, on a port that the system picks.
    pub fn http(self) -> Self {
        self.listen(Listener::Http)
    }

    /// Listens for HTTPS on 127.0.0.1, on a port that the system picks, with the
    /// certificate of [`Self::tls`].
    pub fn https(self) -> Self {
        self.listen(Listener::Https)
    }

    fn listen(mut self, listener: Listener) -> Self {
        if !self.listeners.contains(&listener) {
            self.listeners.push(listener);
        }
        self
    }

    /// Lets the component connect to what a pattern matches, such as
    /// `127.0.0.1:*` (`--allow-connect`).
    pub fn allow_connect(self, pattern: &str) -> Self {
        self.flag_with("--allow-connect", pattern)
    }

    /// Lets a program listen on an address, such as `127.0.0.1:0`
    /// (`--allow-listen`).
    pub fn allow_listen(self, address: &str) -> Self {
        self.flag_with("--allow-listen", address)
    }

    /// Lets the component look up a name (`--allow-resolve`).
    pub fn allow_resolve(self, name: &str) -> Self {
        self.flag_with("--allow-resolve", name)
    }

    /// Lets the component send datagrams to what a pattern matches, before it has
    /// received one from there (`--allow-udp`).
    pub fn allow_udp(self, pattern: &str) -> Self {
        self.flag_with("--allow-udp", pattern)
    }

    /// Accepts a protocol by ALPN on the TLS listener (`--alpn`). The first one
    /// that the client offers, too, is chosen.
    pub fn alpn(self, protocol: &str) -> Self {
        self.flag_with("--alpn", protocol)
    }

    /// Accepts only clients with a certificate of this run's authority, as
    /// [`Server::connect_tls_as`] has one (`--client-ca`).
    pub fn client_certificates(mut self) -> Self {
        self.client_certificates = true;
        self
    }

    /// Lets the component read the files in a directory, which it sees as
    /// `guest`, such as `/public` (`--dir`).
    pub fn dir(self, host: impl AsRef<Path>, guest: &str) -> Self {
        self.directory(host.as_ref(), guest, "")
    }

    /// Like [`Self::dir`], and lets the component write, too.
    pub fn writable_dir(self, host: impl AsRef<Path>, guest: &str) -> Self {
        self.directory(host.as_ref(), guest, ":rw")
    }

    fn directory(self, host: &Path, guest: &str, mode: &str) -> Self {
        let mut value = host.as_os_str().to_owned();
        value.push(format!("::{guest}{mode}"));
        self.flag_with("--dir", value)
    }

    /// Adds an argument of the component.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Gives the component an environment variable (`--env`).
    pub fn env(self, name: &str, value: &str) -> Self {
        self.flag_with("--env", format!("{name}={value}"))
    }

    /// Makes one instance for each worker, which all its connections share
    /// (`--isolation worker`). With [`Self::workers`]`(1)`, all clients share it.
    pub fn isolation_worker(self) -> Self {
        self.flag_with("--isolation", "worker")
    }

    /// Serves with this number of threads, instead of one for each core
    /// (`--workers`).
    pub fn workers(self, count: usize) -> Self {
        self.flag_with("--workers", count.to_string())
    }

    /// Adds any flag of `netwasm run`. A value follows an equals sign:
    /// `--event-timeout=1s`.
    pub fn flag(mut self, flag: impl Into<OsString>) -> Self {
        self.flags.push(flag.into());
        self
    }

    fn flag_with(self, name: &str, value: impl AsRef<OsStr>) -> Self {
        let mut flag = OsString::from(name);
        flag.push("=");
        flag.push(value);
        self.flag(flag)
    }

    /// Runs another host than the variable `NETWASM` names, or than `PATH` has:
    /// a program, by its path, or the one of [`crate::embedded_host`].
    pub fn host(mut self, host: impl Into<Host>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// Sets an environment variable of the host itself, such as `RUST_LOG`.
    pub fn host_env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.host_variables.push((name.into(), value.into()));
        self
    }

    /// Sets the limit of every wait, 10 seconds by default: for the start, for
    /// each operation of a client, for a line of the log, and for the end.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Starts the host, and waits until all listeners accept.
    ///
    /// Connections that are still open when the server is stopped are aborted
    /// after 5 seconds, unless there is a flag `--shutdown-timeout=TIME`.
    ///
    /// # Panics
    /// Panics if there is no host, if the component has no listener, or if the
    /// host does not listen within the time limit. The message has the log.
    ///
    /// Panics with cargo's messages if the component is of a crate that cannot
    /// be built. If the target is missing, the message names the command that
    /// installs it. Also panics if the crate does not build exactly one
    /// component, and if its `isolation` is no word.
    #[track_caller]
    #[must_use = "dropping a server ends it"]
    pub fn start(self) -> Server {
        match self.try_start() {
            Ok(server) => server,
            Err(fault) => panic!("{fault}"),
        }
    }

    /// Starts a component that is a program (`wasi:cli/run`), with
    /// [`Self::arg`]s, and does not wait.
    ///
    /// [`Server::wait`] waits for its end, [`Server::stop_program`] asks for it.
    /// A program that listens by itself ([`Self::allow_listen`]) prints where:
    /// [`crate::Log::expect`] finds the line, and [`Server::connect_to`] connects.
    ///
    /// # Panics
    /// Panics if there is no host, and if the crate of the component cannot be
    /// built, as [`Self::start`] does.
    #[track_caller]
    #[must_use = "dropping a server ends it"]
    pub fn start_program(self) -> Server {
        match self.launch() {
            Ok(server) => server,
            Err(fault) => panic!("{fault}"),
        }
    }

    fn try_start(self) -> Result<Server, String> {
        if self.listeners.is_empty() {
            return Err("a server needs a listener, such as .tcp()".to_owned());
        }
        self.launch()
    }

    /// Builds the component if it is of a crate, starts the host, and waits for
    /// its listeners.
    fn launch(self) -> Result<Server, String> {
        // Before the build, which may take minutes.
        let host = match &self.host {
            Some(host) => host.clone(),
            None => Host::look_for()?,
        };
        let mut variables: Vec<(OsString, OsString)> = Vec::new();
        let flags = match &self.source {
            Source::Named(name) => self.host_flags(name, None),
            Source::Crate(directory) => {
                let built = cargo::component(directory)?;
                // For compiled code, in the place of the user's.
                let cache = built.directory.join("cache");
                variables.push(("XDG_CACHE_HOME".into(), cache.into()));
                self.host_flags(built.file.as_os_str(), built.isolation.as_deref())
            }
        };
        variables.extend(self.host_variables);
        Server::start(Start {
            host,
            flags,
            listeners: &self.listeners,
            args: &self.args,
            variables,
            client_certificates: self.client_certificates,
            limit: self.limit,
        })
    }

    /// Returns the arguments of the host that do not depend on listeners, for a
    /// component and the isolation that its crate asks for.
    fn host_flags(&self, component: &OsStr, isolation: Option<&str>) -> Vec<OsString> {
        let mut flags = vec!["run".into(), component.to_owned()];
        flags.extend_from_slice(&self.flags);
        if let Some(isolation) = isolation
            && !self.has_flag("--isolation")
        {
            flags.push(format!("--isolation={isolation}").into());
        }
        if !self.has_flag("--shutdown-timeout") {
            flags.push("--shutdown-timeout=5s".into());
        }
        flags
    }

    fn has_flag(&self, name: &str) -> bool {
        let mut flags = self.flags.iter().filter_map(|flag| flag.to_str());
        flags.any(|flag| flag.split('=').next() == Some(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_overrides_the_isolation_of_the_crate() {
        let given = |component: Component, asked: Option<&str>| -> Vec<_> {
            let flags = component.host_flags(OsStr::new("probe"), asked).into_iter();
            let mut flags: Vec<_> = flags.filter_map(|flag| flag.into_string().ok()).collect();
            flags.retain(|flag| flag.starts_with("--isolation"));
            flags
        };
        let probe = || Component::built_in("probe");
        assert!(given(probe(), None).is_empty());
        assert_eq!(given(probe(), Some("worker")), ["--isolation=worker"]);
        assert_eq!(
            given(probe().isolation_worker(), Some("connection")),
            ["--isolation=worker"]
        );
        assert_eq!(
            given(probe().flag("--isolation=connection"), Some("worker")),
            ["--isolation=connection"]
        );
    }
}
