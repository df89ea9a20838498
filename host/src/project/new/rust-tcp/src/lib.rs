//! Sends back what it receives.

use netwasm_guest::{Connection, Result};

netwasm_guest::export!(tcp: echo);

async fn echo(mut conn: Connection) -> Result<()> {
    while let Some(data) = conn.read().await? {
        conn.write_all(data).await?;
    }
    Ok(())
}

/// In memory, without a host; tests/ has the same in the real one.
#[cfg(test)]
mod tests {
    use netwasm_guest::testing;

    #[test]
    fn what_is_sent_comes_back() {
        let mut client = testing::serve(super::echo);
        client.send("hello\n");
        client.expect("hello\n");
        client.finish();
        client.expect_end();
    }
}
