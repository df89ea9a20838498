//! Pings to clients that say nothing.

use super::*;

#[test]
fn a_client_that_talks_is_asked_once_it_falls_silent() {
    let mut limits = Limits::default();
    limits.http.websocket.ping = Some(10 * SECOND);
    in_worker(limits, async |worker| {
        let guest = Echo::default();
        let (mut client, _) = guest.open(&worker, "").await;
        for _ in 0..4 {
            pass(&worker, 6 * SECOND).await;
            client.say("here").await;
            // A ping would come before it.
            client.hears("here").await;
        }
        pass(&worker, 12 * SECOND).await;
        assert_eq!(client.frame().await, (0x89, Vec::new()));
    });
}
