use super::*;
use crate::http::{Request, Response};
use crate::testing::{block_on, try_websocket, websocket};
use crate::{Notify, Result};

async fn echo(mut socket: WebSocket) -> Result<()> {
    while let Some(message) = socket.receive().await {
        socket.send(message).await?;
    }
    assert_eq!(socket.closed().map(|it| it.code), Some(1001));
    Ok(())
}

#[test]
fn messages_are_received_in_order_until_the_client_closes() {
    let mut client = websocket(echo, "/");
    client.send("a");
    client.send(vec![1, 2]);
    client.expect("a");
    client.expect(&[1, 2][..]);
    client.close(1001, "");
    client.expect_nothing();
    assert!(crate::testing::take_log().is_empty());
}

#[test]
fn a_request_may_be_refused_and_a_protocol_chosen() {
    let open = |request: &Request<'_>| match request.path() {
        "/chat" => Opening::accept(echo).protocol("chat"),
        _ => Opening::refuse(Response::error(403)),
    };
    assert_eq!(websocket(open, "/chat").protocol(), Some("chat"));
    let refused = try_websocket(open, "/").err();
    assert_eq!(refused.map(|answer| answer.status()), Some(403));
}

#[test]
fn a_handler_that_ends_closes_and_one_that_is_busy_holds_the_client_back() {
    let mut client = websocket(async |_: WebSocket| (), "/");
    client.expect_close(1000);
    let go = Rc::new(Notify::new());
    let waits = go.clone();
    let busy = async move |mut socket: WebSocket| {
        waits.notified().await;
        while socket.receive().await.is_some() {}
    };
    let mut client = websocket(busy, "/");
    for _ in 0..65 {
        client.send(vec![0; 1 << 10]);
    }
    assert!(client.is_paused());
    go.notify_waiters();
    crate::testing::run();
    assert!(!client.is_paused());
}

#[test]
fn a_handler_waits_for_a_client_that_does_not_keep_up() {
    let talk = async |socket: WebSocket| -> Result<()> {
        for _ in 0..10 {
            socket.send(vec![0; 30 << 10]).await?;
        }
        let closed = socket.close(4000, "done").await?;
        assert_eq!(closed.code, 4000);
        Ok(())
    };
    let mut client = websocket(talk, "/");
    let mut received = 0;
    while let Some(message) = client.receive() {
        assert_eq!(message.len(), 30 << 10);
        received += 1;
    }
    assert_eq!(received, 10);
    client.expect_close(4000);
    assert!(crate::testing::take_log().is_empty());
}

#[test]
fn nothing_is_sent_after_the_end() {
    let mut client = websocket(
        async |mut socket: WebSocket| {
            assert_eq!(socket.receive().await, None);
            assert!(socket.send("late").await.is_err());
            assert!(socket.send_now("late").is_err());
        },
        "/",
    );
    client.close(1006, "");
    client.expect_nothing();
    block_on(async {});
}

#[test]
fn topics_reach_all_that_are_subscribed_but_the_publisher() {
    let room = async |mut socket: WebSocket| -> Result<()> {
        socket.subscribe("room")?;
        while let Some(message) = socket.receive().await {
            if message.as_text() == Some("leave") {
                socket.unsubscribe("room");
            }
            socket.publish("room", message);
        }
        Ok(())
    };
    let mut clients = [(); 3].map(|()| websocket(room, "/"));
    assert_eq!(subscribers("room"), 3);
    clients[0].send("hello");
    clients[0].expect_nothing();
    clients[1].expect("hello");
    clients[2].expect("hello");
    clients[1].send("leave");
    clients[2].close(1001, "");
    assert_eq!(publish("room", "all"), 1);
    clients[0].expect("leave");
    clients[0].expect("all");
    clients[1].expect_nothing();
    crate::testing::reset();
    assert_eq!(subscribers("room"), 0);
}
