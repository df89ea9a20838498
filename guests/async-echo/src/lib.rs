//! Sends back what it receives.
//!
//! ```sh
//! netwasm run guests/async-echo.wasm --tcp 8888
//! ```
use netwasm_guest::{Connection, Result};

netwasm_guest::export!(tcp: echo);

async fn echo(mut conn: Connection) -> Result<()> {
    while let Some(data) = conn.read().await? {
        conn.write_all(data).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use netwasm_guest::testing;

    #[test]
    fn it_sends_back_what_it_receives() {
        let mut client = testing::serve(super::echo);
        client.send("hello");
        client.expect("hello");
        client.finish();
        client.expect_end();
    }
}
