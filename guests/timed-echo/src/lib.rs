//! Sends back what it receives, and closes a client that sends nothing for a
//! while.
//!
//! ```sh
//! netwasm run guests/timed-echo.wasm --tcp 8888
//! ```
use std::time::Duration;

use netwasm_guest::{Connection, Result, timeout};

netwasm_guest::export!(tcp: echo);

/// How long a client may be silent.
const LIMIT: Duration = Duration::from_secs(60);

async fn echo(mut conn: Connection) -> Result<()> {
    while let Some(data) = timeout(LIMIT, conn.read()).await?? {
        conn.write_all(data).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use netwasm_guest::testing;

    #[test]
    fn a_client_that_is_silent_for_too_long_is_closed() {
        let mut client = testing::serve(echo);
        for _ in 0..3 {
            testing::advance(LIMIT / 2);
            client.send("hello");
            client.expect("hello");
        }
        testing::advance(LIMIT * 2);
        client.expect_end();
    }
}
