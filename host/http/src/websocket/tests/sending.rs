//! Messages to clients: slow ones, compression, topics.

use netwasm_base::config::{MessageCompression, SlowClient};

use super::*;
use crate::websocket::codec::Agreed;
use crate::websocket::codec::deflate::{Deflater, Inflater, SharedDeflate};

/// Sends to a client that takes nothing until the queue is beyond its limit.
pub(super) fn fill(socket: &Socket, most: u64) {
    let piece = vec![0; 64 << 10];
    for _ in 0..1000 {
        socket.send(MessageKind::Binary, &piece);
        if socket.queued() > most || socket.is_closing() {
            return;
        }
    }
    panic!("the socket takes everything");
}

#[test]
fn messages_for_a_slow_client_wait_or_are_dropped_or_end_the_connection() {
    for slow in [SlowClient::Wait, SlowClient::Drop, SlowClient::Close] {
        let mut limits = Limits::default();
        limits.http.websocket.max_queue = 256 << 10;
        limits.http.websocket.slow = slow;
        in_worker(limits, async |worker| {
            let guest = Echo::default();
            let (mut client, _) = guest.open(&worker, "").await;
            let socket = guest.socket();
            fill(&socket, 256 << 10);
            let queued = socket.queued();
            let room = socket.send(MessageKind::Text, b"one more");
            match slow {
                SlowClient::Wait => assert_eq!((room, socket.queued()), (0, queued + 10)),
                SlowClient::Drop => assert_eq!((room, socket.queued()), (0, queued)),
                SlowClient::Close => {
                    assert!(socket.is_closing());
                    guest.noted("closed 1006 ").await;
                    return;
                }
            }
            settle().await;
            assert_eq!(guest.events(), [""; 0]);
            // The client takes all, and the guest hears of room once.
            let mut more = slow == SlowClient::Wait;
            while more || socket.queued() > 0 {
                let (first, payload) = client.frame().await;
                if first == 0x81 {
                    assert_eq!(payload, b"one more");
                    more = false;
                }
            }
            guest.noted("drained").await;
            assert_eq!(guest.events(), ["drained"]);
        });
    }
}

#[test]
fn a_guest_that_sends_whenever_there_is_room_goes_on() {
    let mut limits = Limits::default();
    limits.http.websocket.slow = SlowClient::Wait;
    // The guest hears of room once all is sent.
    (limits.write_high, limits.write_low) = (1, 0);
    in_worker(limits, async |worker| {
        let guest = Echo::default();
        let (mut client, _) = guest.open(&worker, "").await;
        let (socket, refills) = (guest.socket(), &guest.0.refills);
        refills.set(3);
        fill(&socket, 0);
        while refills.get() > 0 || socket.queued() > 0 {
            assert_eq!(client.frame().await.0, 0x82);
        }
    });
}

#[test]
fn messages_are_compressed_as_agreed() {
    for (mode, answer) in [
        (
            MessageCompression::Shared,
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        ),
        (MessageCompression::Dedicated, "permessage-deflate"),
    ] {
        let mut limits = Limits::default();
        limits.http.websocket.compression = mode;
        in_worker(limits, async |worker| {
            let guest = Echo::default();
            let offer = "permessage-deflate; client_max_window_bits";
            let line = format!("Sec-WebSocket-Extensions: {offer}\r\n");
            let (mut client, head) = guest.open(&worker, &line).await;
            let field = format!("\r\nsec-websocket-extensions: {answer}\r\n");
            assert!(head.contains(&field), "{head}");
            let agreed = Agreed::on([offer.as_bytes()].into_iter(), mode).expect("agreed");
            let (mut deflater, mut inflater) = (Deflater::new(agreed), Inflater::new(agreed));
            let mut shared = SharedDeflate::default();
            let text = "again and ".repeat(100);
            for _ in 0..3 {
                let mut packed = Vec::new();
                deflater.compress(text.as_bytes(), &mut shared, &mut packed);
                client.send(&frame(0xc1, &packed, KEY)).await;
                let (first, payload) = client.frame().await;
                assert_eq!(first, 0xc1);
                assert!(payload.len() < 100, "{}", payload.len());
                let mut back = Vec::new();
                let result = inflater.decompress(&payload, 1000, &mut shared, &mut back);
                assert_eq!((result, back), (Ok(()), text.clone().into_bytes()));
            }
            // A short message is sent as it is.
            client.say("short").await;
            client.hears("short").await;
        });
    }
}

#[test]
fn subscribers_of_a_topic_get_its_messages_in_order_until_they_leave() {
    let mut limits = Limits::default();
    limits.http.websocket.compression = MessageCompression::Shared;
    limits.http.websocket.max_topics = 2;
    in_worker(limits, async |worker| {
        let guest = Echo::default();
        let (mut plain, _) = guest.open(&worker, "").await;
        let first = guest.socket();
        let line = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
        let (mut packed, _) = guest.open(&worker, line).await;
        let second = guest.socket();
        for socket in [&first, &second] {
            for topic in ["news", "other", "news"] {
                socket.subscribe(topic).expect("two topics");
            }
            assert!(socket.subscribe("third").is_err());
        }
        let topics = guest.0.topics(first.transport());
        let text = "again and ".repeat(100);
        let publish =
            |text: &str, except| topics.publish("news", MessageKind::Text, text.as_bytes(), except);
        for number in 0..20 {
            assert_eq!(publish(&number.to_string(), None), 2);
        }
        publish("not for the first", Some(first.id()));
        publish(&text, None);
        for number in 0..20 {
            plain.hears(&number.to_string()).await;
            packed.hears(&number.to_string()).await;
        }
        plain.hears(&text).await;
        packed.hears("not for the first").await;
        let (kind, frame) = packed.frame().await;
        assert_eq!(kind, 0xc1);
        assert!(frame.len() < 100, "{}", frame.len());
        second.unsubscribe("news");
        assert_eq!((topics.count("news"), topics.count("other")), (1, 2));
        drop(plain);
        guest.noted("closed 1006 ").await;
        assert_eq!((topics.count("news"), topics.count("other")), (0, 1));
        assert!(first.subscribe("news").is_err());
        assert_eq!(publish("nobody", None), 0);
    });
}
