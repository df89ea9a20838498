//! Reloads of a run, components that change, and clients that must not notice.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;
use tempfile::TempDir;

use super::{Http2, Peer, Run, START, Server, directory, eventually, guest, message};

/// Sends SIGHUP, waits until the server has reloaded, and returns the line that
/// says so.
pub(crate) fn reload(server: &Server) -> String {
    hang_up(server, "SIGHUP: reloaded", "")
}

/// Sends SIGHUP, waits for the line that says why nothing has changed, and
/// checks that it has these texts.
#[track_caller]
pub(crate) fn refused(server: &Server, needles: &[&str]) -> String {
    let line = hang_up(server, "SIGHUP: everything stays as it was", "");
    for needle in needles {
        assert!(line.contains(needle), "no {needle:?} in {line:?}");
    }
    line
}

/// Sends SIGHUP, and waits for either outcome. Returns true if the server has
/// reloaded.
pub(crate) fn reload_or_not(server: &Server) -> bool {
    hang_up(server, "SIGHUP: reloaded", "SIGHUP: everything stays").contains("SIGHUP: reloaded")
}

/// Sends SIGHUP, and waits for one more line with one of these texts: as long as
/// for a start, because the server may have to compile what has changed.
#[track_caller]
fn hang_up(server: &Server, one: &str, other: &str) -> String {
    let is_it = |line: &&String| line.contains(one) || !other.is_empty() && line.contains(other);
    let before = server.log.lines().iter().filter(is_it).count();
    server.signal(Signal::HUP);
    server.log.wait(START, one, |lines| {
        let mut lines = lines.iter().filter(is_it).skip(before);
        lines.next().cloned()
    })
}

/// Puts a guest in the place of a component, in one step.
pub(crate) fn install(name: &str, place: &Path) {
    install_as(name, place, 0);
}

/// Puts a variant of a guest in the place of a component, in one step. Variants
/// have other bytes and do the same.
pub(crate) fn install_as(name: &str, place: &Path, variant: u8) {
    let mut bytes = fs::read(guest(name)).expect("a guest");
    if variant > 0 {
        // A custom section: its identity, its size, its name, and a byte.
        bytes.extend([0, 3, 1, b'v', variant]);
    }
    let beside = place.with_extension("new");
    fs::write(&beside, bytes).expect("a copy");
    fs::rename(&beside, place).expect("it is replaced");
}

/// A component in a directory of its own, which a test replaces.
pub(crate) struct Installed {
    pub(crate) directory: TempDir,
    guest: &'static str,
    name: &'static str,
}

impl Installed {
    /// Installs a guest as a file of this name.
    pub(crate) fn new(guest: &'static str, name: &'static str) -> Self {
        let directory = directory();
        install(guest, &directory.path().join(name));
        Self {
            directory,
            guest,
            name,
        }
    }

    /// Returns a path in the directory.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns the component's path.
    pub(crate) fn place(&self) -> PathBuf {
        self.at(self.name)
    }

    /// Returns a run of the component.
    pub(crate) fn run(&self) -> Run {
        Run::component(&self.place())
    }

    /// Installs a variant of the guest, reloads, and returns the line about it.
    #[track_caller]
    pub(crate) fn renew(&self, server: &Server, variant: u8) -> String {
        install_as(self.guest, &self.place(), variant);
        reload(server)
    }
}

/// A configuration file in a directory of its own.
pub(crate) struct Configured {
    pub(crate) directory: TempDir,
}

impl Configured {
    /// Returns a directory without a file yet.
    pub(crate) fn new() -> Self {
        Self {
            directory: directory(),
        }
    }

    /// Returns a path in the directory.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns the path of the file.
    pub(crate) fn file(&self) -> PathBuf {
        self.at("netwasm.toml")
    }

    /// Writes the file.
    pub(crate) fn write(&self, content: impl AsRef<str>) {
        fs::write(self.file(), content.as_ref()).expect("a file");
    }

    /// Writes the file, and starts a run of it with so many listeners.
    pub(crate) fn start(&self, content: impl AsRef<str>, listeners: usize) -> Server {
        self.write(content);
        Run::config(&self.file(), listeners).start()
    }

    /// Writes the file, reloads, and returns the line about it.
    #[track_caller]
    pub(crate) fn reload(&self, server: &Server, content: impl AsRef<str>) -> String {
        self.write(content);
        reload(server)
    }
}

/// Checks that a line about a reload names these services as replaced.
#[track_caller]
pub(crate) fn replaced(line: &str, names: &str) {
    assert!(line.contains(&format!("replaced=\"{names}\"")), "{line}");
}

/// Waits until nobody listens at an address any more.
pub(crate) fn until_closed(address: SocketAddr) {
    eventually("a closed listener", || {
        TcpStream::connect(address).is_err().then_some(())
    });
}

/// Returns the number of the server's threads, besides the compiler's.
pub(crate) fn threads(server: &Server) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("tasks");
    let names = tasks
        .flatten()
        .map(|it| fs::read_to_string(it.path().join("comm")));
    // The compiler's own are made once, unless all was in the cache.
    names
        .filter(|it| !matches!(it, Ok(name) if name == "compile\n"))
        .count()
}

/// Clients that send requests, each in its own way, until they are told to stop.
/// They count what they got, and panic at any failure.
pub(crate) struct Clients {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Clients {
    pub(crate) fn new() -> Self {
        Self {
            stop: Arc::default(),
            answers: Arc::default(),
            threads: Vec::new(),
        }
    }

    /// Starts clients of the kinds that there are: HTTP/1.1 with connections
    /// kept and closed, HTTP/2, lines on connections kept and closed. `http`
    /// answers `/about`, and `tcp` echoes.
    pub(crate) fn of_all_kinds(http: SocketAddr, tcp: SocketAddr) -> Self {
        let mut clients = Self::new();
        for _ in 0..3 {
            // Keeps its connection until the server says that it ends.
            clients.start(move |goes_on| {
                let mut peer = Peer::connect(http);
                loop {
                    let response = peer.fetch("/about").is(200, "<h1>About</h1>");
                    if response.closes() || !goes_on() {
                        break;
                    }
                }
            });
        }
        // A request for each connection.
        clients.start(move |goes_on| {
            let head = message("GET", "/about", &["Connection: close"]);
            Peer::connect(http).exchange(head).is(200, "<h1>About</h1>");
            goes_on();
        });
        // Begins no stream on a connection that was told to go away.
        clients.start(move |goes_on| {
            let mut peer = Http2::connect(http);
            loop {
                match peer.try_exchange(super::http2::ask("GET", "/about"), b"") {
                    Ok(response) => {
                        response.is(200, "<h1>About</h1>");
                    }
                    // No stream of it was begun.
                    Err(error) if error.is_go_away() => break,
                    Err(error) => panic!("a stream is lost: {error}"),
                }
                if !goes_on() {
                    break;
                }
            }
        });
        // Its connection has nothing to do with reloads.
        clients.start(move |goes_on| {
            let mut peer = Peer::connect(tcp);
            while goes_on() {
                peer.send(b"line\n");
                assert_eq!(peer.take(5), b"line\n");
            }
        });
        clients.start(move |goes_on| {
            let mut peer = Peer::connect(tcp);
            peer.send(b"line\n");
            assert_eq!(peer.take(5), b"line\n");
            peer.finish_and_wait();
            goes_on();
        });
        clients
    }

    /// Starts a client, which makes one connection after another.
    pub(crate) fn start(&mut self, work: impl Fn(&dyn Fn() -> bool) + Send + 'static) {
        let (stop, answers) = (Arc::clone(&self.stop), Arc::clone(&self.answers));
        self.threads.push(thread::spawn(move || {
            let goes_on = || {
                answers.fetch_add(1, Ordering::Relaxed);
                !stop.load(Ordering::Relaxed)
            };
            while !stop.load(Ordering::Relaxed) {
                work(&goes_on);
            }
        }));
    }

    /// Waits until so many more answers have come.
    pub(crate) fn wait_for(&self, more: usize) {
        let before = self.answers.load(Ordering::Relaxed);
        eventually("answers", || {
            assert!(
                self.threads.iter().all(|it| !it.is_finished()),
                "a client failed"
            );
            (self.answers.load(Ordering::Relaxed) >= before + more).then_some(())
        });
    }

    /// Stops all clients, and returns the number of answers that they got.
    pub(crate) fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("no client failed");
        }
        self.answers.load(Ordering::Relaxed)
    }
}
