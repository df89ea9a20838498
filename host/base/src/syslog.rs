//! Lines to a syslog server: by UDP in the form of RFC 5424, or to a Unix
//! socket in the form of syslog(3), which is the older one of RFC 3164.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use crate::unix;

/// The socket of the local server: syslog(3).
const LOCAL: &str = "/dev/log";

/// Default port: RFC 5426, section 3.3.
const PORT: u16 = 514;

/// Largest size of a message in bytes. Servers must take 2 KiB (RFC 5424,
/// section 6.1), and those in use take 8 KiB. A longer line is cut.
const MOST: usize = 8 << 10;

/// Longest wait for a server that does not read.
const WAIT: Duration = Duration::from_secs(1);

/// A syslog server, and how lines are labelled for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SyslogTarget {
    server: Server,
    /// Facility and severity: RFC 5424, section 6.2.1.
    priority: u8,
    /// Name of the program.
    tag: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Server {
    /// Path of a datagram socket, or `@NAME`.
    Unix(PathBuf),
    Udp(SocketAddr),
}

/// Facilities by number.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

/// Severities by number.
const SEVERITIES: [&str; 8] = [
    "emerg", "alert", "crit", "error", "warn", "notice", "info", "debug",
];

/// Parses what follows `syslog:`: `unix:PATH` or `udp:IP[:PORT]`, and perhaps
/// `facility=`, `severity=` and `tag=`, with commas between. As nginx has it,
/// `server=` may precede the server. Without one it is `/dev/log`.
impl FromStr for SyslogTarget {
    type Err = SyslogError;

    fn from_str(text: &str) -> Result<Self, SyslogError> {
        let mut server = None;
        // As nginx has them.
        let (mut facility, mut severity) = (23, 6);
        let mut tag = "netwasm";
        for part in text.split(',').filter(|_| !text.is_empty()) {
            match part.split_once('=') {
                Some(("facility", name)) => facility = place(&FACILITIES, name)?,
                Some(("severity", name)) => severity = place(&SEVERITIES, name)?,
                Some(("tag", name)) => tag = checked_tag(name)?,
                Some(("server", address)) if server.is_none() => server = Some(address.parse()?),
                _ if server.is_none() => server = Some(part.parse()?),
                _ => return Err(SyslogError::Form(part.to_owned())),
            }
        }
        Ok(Self {
            server: server.unwrap_or_else(|| Server::Unix(LOCAL.into())),
            priority: facility * 8 + severity,
            tag: tag.to_owned(),
        })
    }
}

impl FromStr for Server {
    type Err = SyslogError;

    fn from_str(text: &str) -> Result<Self, SyslogError> {
        if let Some(path) = text.strip_prefix("unix:").filter(|it| !it.is_empty()) {
            return Ok(Self::Unix(path.into()));
        }
        let address = text.strip_prefix("udp:").unwrap_or(text);
        let bare = address
            .strip_prefix('[')
            .and_then(|it| it.strip_suffix(']'));
        match (address.parse(), bare.unwrap_or(address).parse::<IpAddr>()) {
            (Ok(address), _) => Ok(Self::Udp(address)),
            (_, Ok(ip)) => Ok(Self::Udp(SocketAddr::new(ip, PORT))),
            _ => Err(SyslogError::Form(text.to_owned())),
        }
    }
}

/// Returns the number of a name.
fn place(names: &[&'static str], name: &str) -> Result<u8, SyslogError> {
    let place = names.iter().position(|known| *known == name);
    let place = place.and_then(|place| u8::try_from(place).ok());
    place.ok_or_else(|| SyslogError::Name(name.to_owned(), names.join(", ")))
}

fn checked_tag(tag: &str) -> Result<&str, SyslogError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match (1..=32).contains(&tag.len()) && tag.bytes().all(plain) {
        true => Ok(tag),
        false => Err(SyslogError::Tag(tag.to_owned())),
    }
}

/// Reason why a text names no syslog server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyslogError {
    /// A part is neither a server nor a label.
    #[error(
        "'{0}' is not a syslog server: write syslog, syslog:unix:PATH or syslog:udp:IP[:PORT], and \
         perhaps ,facility=NAME,severity=NAME,tag=NAME"
    )]
    Form(String),
    /// A facility or severity is unknown.
    #[error("'{0}' is none of {1}")]
    Name(String, String),
    /// A tag has other letters than servers take.
    #[error("'{0}': a tag has 1 to 32 letters, digits, '-', '_' or '.'")]
    Tag(String),
}

/// Sends lines to a server.
#[derive(Debug)]
pub struct Syslog {
    target: SyslogTarget,
    /// `HOST TAG PID`, for servers of other machines.
    origin: String,
    /// `None` after a failure.
    socket: Option<Socket>,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixDatagram),
    Udp(UdpSocket),
}

impl Syslog {
    /// Connects to a server.
    ///
    /// # Errors
    /// Fails if there is no such Unix socket, or no route.
    pub fn connect(target: &SyslogTarget) -> io::Result<Self> {
        let system = rustix::system::uname();
        let host = system.nodename().to_string_lossy();
        let is_plain = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic());
        let host = if is_plain { &host } else { "-" };
        Ok(Self {
            origin: format!("{host} {} {}", target.tag, process::id()),
            socket: Some(target.server.connect()?),
            target: target.clone(),
        })
    }

    /// Sends a line as a message. Waits at most a second.
    ///
    /// # Errors
    /// Fails if the server is not there, or does not read.
    pub fn send(&mut self, line: &[u8]) -> io::Result<()> {
        let mut message = self.head();
        message.extend_from_slice(line);
        message.truncate(MOST);
        let again = match &self.socket {
            Some(socket) => match socket.send(&message) {
                Ok(()) => return Ok(()),
                // It waits no longer for one that is there.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(_) => self.target.server.connect(),
            },
            None => self.target.server.connect(),
        };
        self.socket = None;
        // The server may have started again, at another socket of the same name.
        let socket = again?;
        socket.send(&message)?;
        self.socket = Some(socket);
        Ok(())
    }

    fn head(&self) -> Vec<u8> {
        let SyslogTarget {
            server,
            priority,
            tag,
        } = &self.target;
        match server {
            // The server has the time itself.
            Server::Unix(_) => format!("<{priority}>{tag}[{}]: ", process::id()),
            Server::Udp(_) => {
                let now = humantime::format_rfc3339_micros(SystemTime::now());
                format!("<{priority}>1 {now} {} - - ", self.origin)
            }
        }
        .into_bytes()
    }
}

impl Server {
    fn connect(&self) -> io::Result<Socket> {
        match self {
            Self::Unix(path) => connect_unix(path).map(Socket::Unix),
            Self::Udp(address) => {
                let any: IpAddr = match address {
                    SocketAddr::V4(_) => [0; 4].into(),
                    SocketAddr::V6(_) => [0; 16].into(),
                };
                let socket = UdpSocket::bind((any, 0))?;
                socket.connect(address)?;
                socket.set_write_timeout(Some(WAIT))?;
                Ok(Socket::Udp(socket))
            }
        }
    }
}

fn connect_unix(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&unix::address(path)?)?;
    socket.set_write_timeout(Some(WAIT))?;
    Ok(socket)
}

impl Socket {
    fn send(&self, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Unix(socket) => socket.send(message),
            Self::Udp(socket) => socket.send(message),
        }
        .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_written_in_one_of_several_ways() {
        let target = |text: &str| text.parse::<SyslogTarget>().expect("a server");
        let local = Server::Unix(LOCAL.into());
        assert_eq!(
            (target("").server, target("").priority),
            (local.clone(), 190)
        );
        for (text, server, priority, tag) in [
            ("facility=mail,tag=x", local, 22, "x"),
            (
                "unix:@log,severity=warn",
                Server::Unix("@log".into()),
                188,
                "netwasm",
            ),
            (
                "udp:127.0.0.1",
                Server::Udp(([127, 0, 0, 1], 514).into()),
                190,
                "netwasm",
            ),
            (
                "server=[::1]:5140,facility=local0,tag=web-1,severity=debug",
                Server::Udp("[::1]:5140".parse().expect("an address")),
                135,
                "web-1",
            ),
        ] {
            let expected = SyslogTarget {
                server,
                priority,
                tag: tag.into(),
            };
            assert_eq!(target(text), expected, "{text}");
        }
        for text in [
            "tcp:127.0.0.1",
            "udp:host.example",
            "unix:",
            "unix:/a,unix:/b",
            "facility=local8",
            "tag=a b",
            "tag=",
            "nohostname",
        ] {
            assert!(text.parse::<SyslogTarget>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_server_that_restarts_gets_the_next_line() {
        let scratch = std::env::temp_dir().join(format!("netwasm-syslog-{}", process::id()));
        let _ = std::fs::remove_file(&scratch);
        let first = UnixDatagram::bind(&scratch).expect("a socket");
        let target = format!("unix:{}", scratch.display());
        let mut log = Syslog::connect(&target.parse().expect("a server")).expect("it is there");
        log.send(b"one").expect("it is sent");
        drop(first);
        assert!(log.send(b"two").is_err());
        std::fs::remove_file(&scratch).expect("the file");
        assert!(log.send(b"three").is_err());
        let second = UnixDatagram::bind(&scratch).expect("a socket");
        log.send(&b"4".repeat(2 * MOST)).expect("it is sent");
        let mut message = [0; 2 * MOST];
        let length = second.recv(&mut message).expect("a message");
        assert_eq!(length, MOST);
        let head = format!("<190>netwasm[{}]: 44", process::id());
        assert!(message.starts_with(head.as_bytes()));
        std::fs::remove_file(&scratch).expect("the file");
    }
}
