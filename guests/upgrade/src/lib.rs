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
use netwasm_guest::{Connection, ErrorKind, Result, error};

netwasm_guest::export!(tcp: serve);

/// The longest line, bytes; a client that sends a longer one is closed.
const MAX_LINE: usize = 1024;

async fn serve(mut conn: Connection) -> Result<()> {
    let outcome = talk(&mut conn).await;
    if let Err(error) = &outcome
        && error.kind() == ErrorKind::TooLong
    {
        conn.write_all("ERROR line too long\n").await?;
    }
    outcome
}

async fn talk(conn: &mut Connection) -> Result<()> {
    conn.write_all("READY for HELLO, STARTTLS or QUIT\n")
        .await?;
    while let Some(line) = conn.read_until(b'\n', MAX_LINE).await? {
        match line.trim_ascii_end() {
            b"HELLO" => conn.write_all("OK hello\n").await?,
            b"QUIT" => return conn.write_all("OK goodbye\n").await,
            b"STARTTLS" => {
                conn.write_all("OK begin TLS\n").await?;
                return talk_in_tls(conn).await;
            }
            _ => conn.write_all("ERROR unknown command\n").await?,
        }
    }
    Ok(())
}

async fn talk_in_tls(conn: &mut Connection) -> Result<()> {
    let session = match conn.start_tls_server().await {
        Ok(session) => session,
        Err(error) => {
            if error.kind() == ErrorKind::NotSupported {
                error!("{error}: are --cert and --key given?");
            }
            return Err(error);
        }
    };
    while let Some(line) = conn.read_until(b'\n', MAX_LINE).await? {
        match line.trim_ascii_end() {
            b"INFO" => {
                let info = format!("{} {}\n", session.version, session.cipher);
                conn.write_all(info).await?;
            }
            _ => conn.write_all(line).await?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use netwasm_guest::testing;

    #[test]
    fn it_speaks_plain_text_and_then_tls() {
        let mut client = testing::serve(super::serve);
        client.expect("READY for HELLO, STARTTLS or QUIT\n");
        client.send("HELLO\r\nINFO\n");
        client.expect("OK hello\nERROR unknown command\n");
        client.send("STARTTLS\n");
        client.expect("OK begin TLS\n");
        assert!(client.in_tls());
        client.send("INFO\nHELLO\n");
        client.expect("TLSv1.3 TLS13_AES_128_GCM_SHA256\nHELLO\n");
        client.finish();
        client.expect_end();
    }

    #[test]
    fn a_client_that_sends_a_long_line_is_closed() {
        let mut client = testing::serve(super::serve);
        client.expect("READY for HELLO, STARTTLS or QUIT\n");
        client.send([b'x'; 1025]);
        client.expect("ERROR line too long\n");
        client.expect_end();
    }

    #[test]
    fn it_says_goodbye() {
        let mut client = testing::serve(super::serve);
        client.expect("READY for HELLO, STARTTLS or QUIT\n");
        client.send("QUIT\n");
        client.expect("OK goodbye\n");
        client.expect_end();
    }
}
