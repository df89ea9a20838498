//! Speaks a few lines in plain text, then continues in TLS on the same
//! connection, as SMTP, IMAP and PostgreSQL do.
//!
//! ```sh
//! netwasm run guests/upgrade.wasm --tcp 8888 \
//!     --cert certs/cert.pem --key certs/key.pem
//! ```
//!
//! In plain text it knows `HELLO`, `STARTTLS` and `QUIT`. In TLS it sends lines
//! back, and tells of the session on `INFO`.
wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package netwasm:upgrade;
        world upgrade {
            include netwasm:net/tcp-server@0.2.0;
        }
    ",
    world: "netwasm:upgrade/upgrade",
    generate_all,
});

use std::cell::{Cell, RefCell};

use exports::netwasm::net::tcp_handler;
use netwasm::net::log::{Level, log};
use netwasm::net::transports::{TlsRole, Transport};
use netwasm::net::types::{Error, TlsInfo};

/// The longest line, bytes; a client that sends a longer one is closed.
const MAX_LINE: usize = 1024;

struct Upgrade;
export!(Upgrade);

impl tcp_handler::Guest for Upgrade {
    type Connection = Connection;
}

struct Connection {
    transport: Transport,
    /// What arrived and is not a whole line yet.
    received: RefCell<Vec<u8>>,
    /// Whether `start-tls` was called.
    secure: Cell<bool>,
}

impl tcp_handler::GuestConnection for Connection {
    fn new(transport: Transport) -> Self {
        transport.write(b"READY for HELLO, STARTTLS or QUIT\n");
        Self {
            transport,
            received: RefCell::default(),
            secure: Cell::new(false),
        }
    }

    fn data_received(&self, data: Vec<u8>) {
        self.received.borrow_mut().extend_from_slice(&data);
        while let Some(line) = self.next_line() {
            match line.trim_end() {
                "STARTTLS" if !self.secure.get() => self.start_tls(),
                "INFO" if self.secure.get() => self.say(&self.session()),
                _ if self.secure.get() => self.send(line.as_bytes()),
                "HELLO" => self.say("OK hello"),
                "QUIT" => {
                    self.say("OK goodbye");
                    return self.transport.close();
                }
                _ => self.say("ERROR unknown command"),
            }
        }
        if self.received.borrow().len() > MAX_LINE {
            self.say("ERROR line too long");
            self.transport.close();
        }
    }

    fn eof_received(&self) -> bool {
        false
    }

    fn writable(&self) {
        self.transport.resume_reading();
    }
    fn tls_started(&self, _info: TlsInfo) {}
    fn connection_lost(&self, _reason: Option<Error>) {}
}

impl Connection {
    /// Takes the next line, with its end, from what was received.
    fn next_line(&self) -> Option<String> {
        let mut received = self.received.borrow_mut();
        let end = received.iter().position(|&byte| byte == b'\n')?;
        let line: Vec<u8> = received.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line).into_owned())
    }

    fn say(&self, line: &str) {
        self.send(format!("{line}\n").as_bytes());
    }

    /// Sends bytes. If the client does not read, takes no more from it until it
    /// does.
    fn send(&self, data: &[u8]) {
        if self.transport.write(data) == 0 {
            self.transport.pause_reading();
        }
    }

    /// Goes on in TLS after one last line in plain text.
    ///
    /// What came behind the client's line is the beginning of its handshake
    /// and must go to TLS. Were it read as further commands, then somebody on
    /// the way could slip some in, and they would count as said in TLS
    /// (CVE-2011-0411).
    fn start_tls(&self) {
        self.say("OK begin TLS");
        let received = self.received.take();
        match self.transport.start_tls(&TlsRole::Server, &received) {
            Ok(()) => self.secure.set(true),
            Err(error) => {
                log(
                    Level::Error,
                    &format!("{}: are --cert and --key given?", error.text),
                );
                self.transport.close();
            }
        }
    }

    /// What is known of the session, in a line.
    fn session(&self) -> String {
        self.transport.info().tls.map_or_else(
            || "no session".to_owned(),
            |tls| format!("{} {}", tls.version, tls.cipher),
        )
    }
}
