use std::cell::Cell;

use super::shared::WRITE_PIECE;
use super::*;
use crate::testing::{self, block_on, pair, run};
use crate::{Either, ErrorKind, TlsOptions, join, select, sleep, spawn, timeout};

const SECOND: Duration = Duration::from_secs(1);

async fn echo(mut conn: Connection) -> Result<()> {
    while let Some(data) = conn.read().await? {
        conn.write_all(data).await?;
    }
    Ok(())
}

#[test]
fn an_echo_in_five_lines() {
    let mut peer = testing::serve(echo);
    for piece in ["a", "hello", ""] {
        peer.send(piece);
        peer.expect(piece);
    }
    peer.expect_nothing();
    peer.send("last");
    peer.finish();
    peer.expect("last");
    peer.expect_end();
}

#[test]
fn what_is_read_at_once_is_not_copied() {
    let (mut conn, _peer) = pair();
    let data = vec![7; 100];
    let address = data.as_ptr();
    conn.0.data_received(data);
    block_on(async {
        let read = conn.read().await.expect("it is read").expect("data");
        assert_eq!(read.as_ptr(), address);
    });
}

/// Cuts a text at the ones of a number's bits.
fn cut(text: &str, at: u32) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut start = 0;
    for end in 1..=text.len() {
        if end == text.len() || at >> (end - 1) & 1 == 1 {
            pieces.extend(text.as_bytes().get(start..end));
            start = end;
        }
    }
    pieces
}

#[test]
fn lines_are_whole_however_they_arrive() {
    let text = "one\r\ntwo\n\n\r\nfive\n";
    for at in 0..1 << (text.len() - 1) {
        let (mut conn, mut peer) = pair();
        let lines = spawn(async move {
            let mut all = Vec::new();
            let mut lines = conn.lines();
            while let Some(line) = lines.next().await.expect("a line") {
                all.push(line);
            }
            all
        });
        for piece in cut(text, at) {
            peer.send(piece);
        }
        peer.finish();
        let lines = block_on(lines).expect("it ends");
        assert_eq!(lines, ["one", "two", "", "", "five"], "{at:b}");
        testing::reset();
    }
}

#[test]
fn records_are_exact_however_they_arrive() {
    let text = "abcdefghijk";
    for at in 0..1 << (text.len() - 1) {
        let (mut conn, mut peer) = pair();
        let parts = spawn(async move {
            let mut parts = Vec::new();
            parts.push(conn.read_exact(3).await);
            parts.push(conn.read_exact(0).await);
            parts.push(
                conn.read_until(b'f', 3)
                    .await
                    .map(Option::unwrap_or_default),
            );
            parts.push(conn.read_exact(4).await);
            parts.push(conn.read_exact(2).await);
            parts.push(conn.read().await.map(Option::unwrap_or_default));
            parts.push(conn.read().await.map(Option::unwrap_or_default));
            parts
        });
        for piece in cut(text, at) {
            peer.send(piece);
        }
        peer.finish();
        let parts = block_on(parts).expect("it ends");
        let texts: Vec<_> = parts
            .iter()
            .map(|part| match part {
                Ok(part) => String::from_utf8_lossy(part).into_owned(),
                Err(error) => error.text().to_owned(),
            })
            .collect();
        let ended = "the stream ended too early";
        assert_eq!(texts, ["abc", "", "def", "ghij", ended, "k", ""], "{at:b}");
        testing::reset();
    }
}

#[test]
fn what_is_too_long_or_cut_short_is_an_error() {
    block_on(async {
        let (mut conn, mut peer) = pair();
        peer.send("abcd");
        let error = conn.read_until(b'\n', 3).await.expect_err("too long");
        assert_eq!(error.kind(), ErrorKind::TooLong);
        peer.send("\nab");
        peer.finish();
        let line = conn.read_until(b'\n', 5).await.expect("a line");
        assert_eq!(line.as_deref(), Some(&b"abcd\n"[..]));
        let error = conn.read_line().await.expect_err("cut short");
        assert_eq!(error.kind(), ErrorKind::UnexpectedEnd);
        assert_eq!(
            conn.read_to_end(1).await.map_err(|e| e.kind()),
            Err(ErrorKind::TooLong)
        );
        assert_eq!(conn.read_to_end(2).await.ok(), Some(b"ab".to_vec()));
        let (mut conn, mut peer) = pair();
        peer.send([b'a', 0xff, b'\n']);
        let error = conn.read_line().await.expect_err("not UTF-8");
        assert_eq!(error.kind(), ErrorKind::InvalidData);
    });
}

#[test]
fn giving_up_a_read_loses_nothing() {
    block_on(async {
        let (mut conn, mut peer) = pair();
        peer.send("half");
        let line = timeout(SECOND, conn.read_line()).await;
        assert_eq!(
            line.err().map(|error| error.kind()),
            Some(ErrorKind::Timeout)
        );
        peer.send(" a line\n");
        let line = conn.read_line().await.expect("a line");
        assert_eq!(line.as_deref(), Some("half a line"));
    });
}

#[test]
fn who_does_not_read_puts_backpressure_on_the_peer() {
    block_on(async {
        let (mut conn, mut peer) = pair();
        for _ in 0..20 {
            peer.send([1; 8 << 10]);
        }
        assert!(peer.is_paused());
        let mut count = 0;
        while count < 160 << 10 {
            count += conn.read().await.expect("data").expect("no end").len();
        }
        assert!(!peer.is_paused());
        assert_eq!(count, 160 << 10);
    });
}

#[test]
fn who_wants_more_than_the_mark_gets_it() {
    block_on(async {
        let (mut conn, mut peer) = pair();
        let task = spawn(async move { conn.read_exact(300 << 10).await });
        for _ in 0..40 {
            peer.send([1; 8 << 10]);
        }
        let data = task.await.expect("it ends").expect("data");
        assert_eq!(data.len(), 300 << 10);
    });
}

#[test]
fn a_peer_that_does_not_read_holds_up_who_writes() {
    block_on(async {
        let (mut conn, mut peer) = pair();
        let written = Rc::new(Cell::new(0));
        let task = spawn({
            let written = written.clone();
            async move {
                for _ in 0..100 {
                    conn.write_all(vec![1; 10 << 10]).await?;
                    written.set(written.get() + 1);
                }
                conn.close().await
            }
        });
        run();
        // 64 KiB, and the piece that reached the mark.
        assert_eq!(written.get(), 7);
        peer.expect([1; 55 << 10]);
        // There is room below the low mark.
        assert_eq!(written.get(), 12);
        peer.expect(vec![1; 945 << 10]);
        peer.expect_end();
        assert!(matches!(task.await, Some(Ok(()))));
    });
}

#[test]
fn much_is_written_in_pieces() {
    block_on(async {
        let (mut conn, mut peer) = pair();
        let task = spawn(async move { conn.write_all(vec![1; 1 << 20]).await });
        run();
        assert_eq!(peer.available(), WRITE_PIECE);
        peer.expect(vec![1; 1 << 20]);
        assert!(matches!(task.await, Some(Ok(()))));
    });
}

#[test]
fn a_peer_that_does_not_read_can_be_given_up() {
    block_on(async {
        let (mut conn, mut peer) = pair();
        conn.write_all([1; 64 << 10]).await.expect("there is room");
        let late = timeout(SECOND, conn.write_all("x")).await;
        assert_eq!(
            late.err().map(|error| error.kind()),
            Some(ErrorKind::Timeout)
        );
        conn.abort();
        peer.expect_reset();
    });
}

#[test]
fn a_failure_reaches_reader_and_writer_after_the_data() {
    block_on(async {
        let (mut conn, mut peer) = pair();
        peer.send("data");
        peer.reset();
        let data = conn.read().await.expect("data");
        assert_eq!(data.as_deref(), Some(&b"data"[..]));
        for _ in 0..2 {
            let error = conn.read().await.expect_err("it was reset");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            assert_eq!(
                error.to_string(),
                "receiving failed: connection reset by peer"
            );
        }
        let error = conn.write_all("x").await.expect_err("it was reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn halves_go_their_own_ways_and_the_last_one_closes() {
    block_on(async {
        let (conn, mut peer) = pair();
        let (mut reader, mut writer) = conn.split();
        let task = spawn(async move { reader.read().await });
        writer
            .write_all("from the writer")
            .await
            .expect("there is room");
        writer.finish().expect("it can be ended");
        drop(writer);
        peer.expect("from the writer");
        peer.expect_end();
        peer.send("to the reader");
        let data = task.await.expect("it ends").expect("data");
        assert_eq!(data.as_deref(), Some(&b"to the reader"[..]));
    });
}

#[test]
fn both_directions_are_relayed_with_what_came_before() {
    block_on(async {
        let (client, mut at_client) = pair();
        let (server, mut at_server) = pair();
        at_client.send("early ");
        let task = spawn(client.relay(server));
        at_client.send("late");
        at_server.send("answer");
        at_server.expect("early late");
        at_client.expect("answer");
        at_client.finish();
        at_server.expect_end();
        assert!(!task.is_finished());
        at_server.send(" and more");
        at_server.finish();
        at_client.expect(" and more");
        at_client.expect_end();
        assert!(matches!(task.await, Some(Ok(()))));
    });
}

#[test]
fn a_relay_that_is_dropped_closes_both() {
    block_on(async {
        let (client, mut at_client) = pair();
        let (server, mut at_server) = pair();
        let given_up = select(client.relay(server), sleep(SECOND)).await;
        assert!(matches!(given_up, Either::Right(())));
        at_client.expect_end();
        at_server.expect_end();
    });
}

#[test]
fn an_echo_by_relay() {
    let mut peer = testing::serve(Connection::relay_back);
    peer.send("hello");
    peer.expect("hello");
    peer.finish();
    peer.expect_end();
}

#[test]
fn plain_text_cannot_be_slipped_into_tls() {
    block_on(async {
        let (mut conn, mut peer) = pair();
        peer.send("STARTTLS\nhandshake");
        let line = conn.read_line().await.expect("a line");
        assert_eq!(line.as_deref(), Some("STARTTLS"));
        let session = conn.start_tls_server().await.expect("it is opened");
        assert_eq!(session.version, "TLSv1.3");
        assert!(peer.in_tls());
        assert!(conn.info().tls.is_some());
        let error = conn.start_tls_server().await.expect_err("once is enough");
        assert_eq!(error.kind(), ErrorKind::InvalidState);
    });
}

#[test]
fn a_client_offers_protocols() {
    block_on(async {
        let (mut conn, _peer) = pair();
        let error = conn.start_tls_client(TlsOptions::new()).await;
        let error = error.expect_err("there is no endpoint to have the name from");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        let options = TlsOptions::from("example.org").alpn(["h2", "http/1.1"]);
        let session = conn.start_tls_client(options).await;
        let session = session.expect("it is opened");
        assert_eq!(session.server_name.as_deref(), Some("example.org"));
        assert_eq!(session.alpn.as_deref(), Some("h2"));
    });
}

#[test]
fn a_handshake_that_fails_is_an_error() {
    block_on(async {
        let (mut conn, mut peer) = pair();
        let kind = ErrorKind::Tls;
        let failing = async {
            let text = "certificate has expired";
            peer.fail(Error::fixed(kind, crate::Operation::Handshake, text));
        };
        let (outcome, ()) = join(conn.start_tls_client("example.org"), failing).await;
        // The host of tests is done before it can fail.
        drop(outcome);
        let error = conn.read().await.expect_err("it failed");
        assert_eq!(
            error.to_string(),
            "the TLS handshake failed: certificate has expired"
        );
    });
}

#[test]
fn files_are_sent_in_order_with_what_is_written() {
    testing::add_file("/a", "0123456789");
    block_on(async {
        let (mut conn, mut peer) = pair();
        let file = File::open("/a").expect("it is there");
        assert_eq!(file.size().ok(), Some(10));
        conn.write_all("<").await.expect("there is room");
        assert_eq!(conn.write_file(&file, 2, Some(3)).await.ok(), Some(3));
        assert_eq!(conn.write_file(&file, 8, None).await.ok(), Some(2));
        conn.write_all(">").await.expect("there is room");
        let error = conn
            .write_file(&file, 8, Some(3))
            .await
            .expect_err("too long");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        peer.expect("<23489>");
    });
}

#[test]
fn a_handlers_error_goes_to_the_log_with_the_peer() {
    let mut peer = testing::serve(async |mut conn: Connection| -> Result<()> {
        conn.read_exact(10).await?;
        Ok(())
    });
    peer.send("short");
    peer.finish();
    peer.expect_end();
    let log = testing::take_log();
    let text = "192.0.2.1:50000: receiving failed: the stream ended too early";
    assert_eq!(log, [(crate::log::Level::Debug, text.to_owned())]);
}
