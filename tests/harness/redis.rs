//! A real Redis server.

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use super::{TcpPeer, cert, eventually, free_port, skipped, text};

/// A Redis server of a test's own.
pub(crate) struct Redis {
    pub(crate) child: Child,
    pub(crate) port: u16,
}

impl Redis {
    /// Starts one on a free port, if the machine has it.
    pub(crate) fn start(folder: &Path) -> Option<Self> {
        Self::start_with(folder, &[])
    }

    /// Starts one with more options.
    pub(crate) fn start_with(folder: &Path, options: &[&str]) -> Option<Self> {
        let Some(program) = find("redis-server") else {
            skipped("there is no redis-server: Debian's package of that name has it");
            return None;
        };
        // The port may be taken between both.
        (0..10).find_map(|_| Self::at(&program, folder, free_port(), options))
    }

    /// Starts one that also takes TLS, by the certificate of `localhost`. Returns that
    /// port, too.
    pub(crate) fn start_secure(folder: &Path) -> Option<(Self, u16)> {
        let port = free_port();
        let (certificate, key) = (cert("cert.pem"), cert("key.pem"));
        let options = [
            ["--tls-port", &port.to_string()],
            ["--tls-cert-file", text(&certificate)],
            ["--tls-key-file", text(&key)],
            ["--tls-auth-clients", "no"],
        ];
        Some((Self::start_with(folder, options.as_flattened())?, port))
    }

    /// Starts it again on its port, unless somebody else has that now.
    pub(crate) fn again(folder: &Path, port: u16) -> Option<Self> {
        Self::at(&find("redis-server")?, folder, port, &[])
    }

    fn at(program: &Path, folder: &Path, port: u16, options: &[&str]) -> Option<Self> {
        let child = Command::new(program)
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(options)
            .args(["--save", "", "--appendonly", "no"])
            .args(["--requirepass", "s3cret", "--dir"])
            .arg(folder)
            .stdout(Stdio::piped())
            .spawn();
        let mut redis = Self {
            child: child.expect("redis-server starts"),
            port,
        };
        let output = redis.child.stdout.take().expect("a pipe");
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        lines.find(|line| line.contains("eady to accept connections"))?;
        // It goes on writing.
        thread::spawn(move || lines.for_each(drop));
        Some(redis)
    }

    /// Returns its URL, with what follows the port.
    pub(crate) fn url(&self, rest: &str) -> String {
        format!("redis://:s3cret@127.0.0.1:{}{rest}", self.port)
    }

    /// Waits until a channel has so many subscribers.
    pub(crate) fn wait_for_subscribers(&self, channel: &str, count: u64) {
        let address = (IpAddr::from(Ipv4Addr::LOCALHOST), self.port).into();
        eventually("the channel has its subscribers", || {
            let mut peer = TcpPeer::connect(address);
            peer.send(format!("AUTH s3cret\r\nPUBSUB NUMSUB {channel}\r\n").as_bytes());
            let lines: Vec<_> = (0..5).map(|_| peer.line()).collect();
            (lines[4] == format!(":{count}")).then_some(())
        });
    }

    /// Returns a bucket on it.
    pub(crate) fn bucket(&self, name: &str, rest: &str) -> String {
        format!("{name}={}", self.url(&format!("/{rest}")))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the path of a program.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut places = std::env::split_paths(&path).map(|folder| folder.join(name));
    places.find(|place| place.is_file())
}
