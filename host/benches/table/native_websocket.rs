//! The tokio program that sends WebSocket messages back, by the crates that people
//! take for that.

use std::io;
use std::process::Command;

use clap::ValueEnum;
use fastwebsockets::{FragmentCollector, OpCode, WebSocket};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::native;

/// Name of the hidden command that runs the program.
pub(crate) const COMMAND: &str = "native-websocket";

const ACCEPTED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Crate of WebSocket. Which one is faster depends on the size of the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Library {
    /// Deno's.
    Fastwebsockets,
    TokioTungstenite,
}

impl Library {
    /// Returns the name of the crate.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fastwebsockets => "fastwebsockets",
            Self::TokioTungstenite => "tokio-tungstenite",
        }
    }

    /// Returns the command that runs this executable again.
    pub(crate) fn command(self) -> io::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([COMMAND, self.name()]);
        Ok(command)
    }
}

/// Serves until it is killed. Announces its address as netwasm does.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn serve(library: Library) -> io::Result<()> {
    match library {
        Library::Fastwebsockets => native::accept("ws", by_fastwebsockets).await,
        Library::TokioTungstenite => native::accept("ws", by_tungstenite).await,
    }
}

async fn by_fastwebsockets(mut stream: TcpStream) -> io::Result<()> {
    shake_hands(&mut stream).await?;
    let socket = WebSocket::after_handshake(stream, fastwebsockets::Role::Server);
    let mut socket = FragmentCollector::new(socket);
    loop {
        let frame = socket.read_frame().await.map_err(io::Error::other)?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => {
                let sent = socket.write_frame(frame).await;
                sent.map_err(io::Error::other)?;
            }
            OpCode::Continuation | OpCode::Ping | OpCode::Pong => {}
        }
    }
}

async fn by_tungstenite(mut stream: TcpStream) -> io::Result<()> {
    shake_hands(&mut stream).await?;
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    while let Some(message) = socket.next().await {
        let message = message.map_err(io::Error::other)?;
        if matches!(message, Message::Text(_) | Message::Binary(_)) {
            socket.send(message).await.map_err(io::Error::other)?;
        }
    }
    Ok(())
}

/// Answers the request of the load, whose key is that of RFC 6455, section 1.3. The
/// crates' own handshakes would need ten crates more.
async fn shake_hands(stream: &mut TcpStream) -> io::Result<()> {
    let mut head = Vec::with_capacity(1024);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    stream.write_all(ACCEPTED).await
}
