use std::cell::Cell;
use std::future::poll_fn;

use netwasm_net::testing::{in_worker, until};

use super::*;
use crate::message::MessageKind;
use crate::topics::Topics;

fn of(event: Option<&str>) -> EventsOf {
    EventsOf {
        topic: "news".into(),
        event: event.map(str::to_owned),
        retry: event.map(|_| Duration::from_millis(1500)),
    }
}

fn read(topics: &Rc<TopicsOfThread>, event: Option<&str>, seen: Option<&str>) -> EventsBody {
    let reader = Reader {
        seen: seen.map(|it| it.as_bytes().to_vec()),
        transport: None,
    };
    let (body, _) = EventsBody::new(topics, &of(event), reader).expect("a topic");
    body
}

fn publish(topics: &TopicsOfThread, text: &str) -> u64 {
    topics.publish("news", MessageKind::Text, text.as_bytes(), None)
}

/// Returns the next piece; `None` at the end.
async fn piece(body: &mut EventsBody) -> Option<String> {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
    let data = frame?.expect("whole").into_data().expect("data");
    Some(String::from_utf8(data.to_vec()).expect("text"))
}

/// Reads until the text has a word.
async fn read_until(body: &mut EventsBody, word: &str) -> String {
    let mut text = String::new();
    while !text.contains(word) {
        text += &piece(body).await.expect("more");
    }
    text
}

/// Returns the ID with which a text ends.
fn last_id(text: &str) -> &str {
    let id = text.trim_end().rsplit("id: ").next();
    id.expect("an ID")
}

#[test]
fn a_reader_that_comes_again_gets_each_message_once() {
    in_worker(Limits::default(), async |worker| {
        let shared = Arc::<Topics>::default();
        let topics = TopicsOfThread::new(&shared, &worker.thread);
        let mut first = read(&topics, None, None);
        let head = piece(&mut first).await.expect("the head");
        let begin = last_id(&head).to_owned();
        assert_eq!(head, format!("id: {begin}\n\n"));
        assert_eq!(publish(&topics, "one\ntwo"), 1);
        topics.publish("news", MessageKind::Binary, b"bytes", None);
        publish(&topics, "three");
        // Both are still on their way to this thread's subscribers.
        let mut again = read(&topics, Some("line"), Some(&begin));
        assert_eq!(publish(&topics, "four"), 2);
        let (prefix, _) = begin.rsplit_once('-').expect("a number");
        let events = |line: &str| {
            format!(
                "{line}data: one\ndata: two\nid: {prefix}-1\n\n\
                 {line}data: three\nid: {prefix}-2\n\n\
                 {line}data: four\nid: {prefix}-3\n\n"
            )
        };
        let plain = events("");
        let typed = format!("retry: 1500\nid: {begin}\n\n{}", events("event: line\n"));
        assert_eq!(read_until(&mut first, "-3\n\n").await, plain);
        assert_eq!(read_until(&mut again, "-3\n\n").await, typed);
        drop((first, again));
        // The messages are kept without a subscriber.
        assert_eq!(publish(&topics, "five"), 0);
        let mut late = read(&topics, None, Some(last_id(&plain)));
        let rest = format!("id: {prefix}-3\n\ndata: five\nid: {prefix}-4\n\n");
        assert_eq!(piece(&mut late).await, Some(rest));
        let counters = &worker.thread.env.counters;
        assert_eq!(counters.event_streams_opened.get(), 3);
        assert_eq!(counters.event_streams_ended.get(), 2);
    });
}

#[test]
fn what_waits_for_a_slow_reader_is_bounded_and_then_the_stream_ends_or_tells_of_gaps() {
    for then in [SlowClient::Wait, SlowClient::Drop, SlowClient::Close] {
        let mut limits = Limits::default();
        limits.http.websocket.max_queue = 4 << 10;
        limits.http.websocket.slow = then;
        limits.http.events.kept = 1;
        in_worker(limits, async |worker| {
            let shared = Arc::<Topics>::default();
            let topics = TopicsOfThread::new(&shared, &worker.thread);
            let mut body = read(&topics, None, None);
            let got = || body.queue.state.borrow().last;
            for number in 1..=20 {
                publish(&topics, &"x".repeat(1 << 10));
                until("the message", || got() == number).await;
            }
            let (full, bytes) = {
                let state = body.queue.state.borrow();
                (state.full, state.bytes)
            };
            match then {
                SlowClient::Wait => assert!(!full && bytes > 20 << 10),
                SlowClient::Drop => {
                    assert!(!full && bytes < 7 << 10);
                    let text = piece(&mut body).await.expect("what has room");
                    let count = text.matches("data: x").count();
                    publish(&topics, "after");
                    let rest = read_until(&mut body, "after\n").await;
                    let told = format!("event: gap\ndata: {}\n\ndata: after\n", 20 - count);
                    assert!(rest.starts_with(&told), "{rest}");
                }
                SlowClient::Close => {
                    assert_eq!((full, bytes), (true, 0));
                    assert_eq!(piece(&mut body).await, None);
                }
            }
        });
    }
}

#[test]
fn a_slow_reader_is_not_told_a_number_if_messages_of_other_processes_may_be_missing() {
    let mut limits = Limits::default();
    limits.http.websocket.max_queue = 4 << 10;
    limits.http.websocket.slow = SlowClient::Drop;
    in_worker(limits, async |worker| {
        let shared = Arc::<Topics>::default();
        let topics = TopicsOfThread::new(&shared, &worker.thread);
        let meters = &worker.thread.env.counters.meters;
        let dropped = || meters.totals().of(Measure::MessagesDropped);
        let mut body = read(&topics, None, None);
        publish(&topics, &"x".repeat(5 << 10));
        publish(&topics, "dropped");
        shared.miss();
        until("the notice", || body.queue.state.borrow().last == 3).await;
        assert_eq!(dropped(), 1);
        piece(&mut body).await.expect("what has room");
        publish(&topics, "after");
        let rest = read_until(&mut body, "after\n").await;
        let told = "event: gap\ndata: unknown\n\ndata: after\n";
        assert!(rest.starts_with(told), "{rest}");
    });
}

#[test]
fn a_stream_ends_before_a_message_that_found_no_room_and_the_reader_comes_again() {
    let limits = Limits {
        max_write_buffer: 4 << 10,
        ..Limits::default()
    };
    in_worker(limits, async |worker| {
        let shared = Arc::<Topics>::default();
        let topics = TopicsOfThread::new(&shared, &worker.thread);
        let dropped = || {
            worker
                .thread
                .env
                .counters
                .meters
                .totals()
                .of(Measure::MessagesDropped)
        };
        let kept = |count| "x".repeat(count);
        // Something is delivered after the message that is lost, or nothing.
        for later in ["later", ""] {
            let before = dropped();
            let mut body = read(&topics, None, None);
            piece(&mut body).await.expect("the head");
            // All of this comes before the thread delivers any of it.
            publish(&topics, &kept(1200));
            publish(&topics, &kept(1100));
            if !later.is_empty() {
                publish(&topics, later);
            }
            let mut text = String::new();
            while let Some(piece) = piece(&mut body).await {
                text += &piece;
            }
            assert!(text.contains(&kept(1200)) && !text.contains("later"));
            assert_eq!(text.matches("id: ").count(), 1, "{text}");
            assert!(dropped() > before);
            assert_eq!(topics.count("news"), 0);
            let mut again = read(&topics, None, Some(last_id(&text)));
            let mut rest = piece(&mut again).await.expect("what was missed");
            while !rest.contains(&format!("data: {}\nid: ", kept(1100))) {
                rest += &piece(&mut again).await.expect("more");
            }
            assert!(rest.contains(&kept(1100)) && !rest.contains(&kept(1200)));
        }
    });
}

#[test]
fn an_event_is_sent_in_pieces_and_readers_are_told_of_one_that_is_beyond_what_may_wait() {
    in_worker(Limits::default(), async |worker| {
        let shared = Arc::<Topics>::default();
        let topics = TopicsOfThread::new(&shared, &worker.thread);
        let mut body = read(&topics, Some("line"), None);
        let ends = "\n".repeat(20_000);
        // Each line end is seven bytes of an event.
        let receive = |most| shared.receive("news", MessageKind::Text, ends.as_bytes(), most);
        assert_eq!(receive(200_000), 0);
        publish(&topics, "after");
        let mut text = String::new();
        while !text.ends_with("-2\n\n") {
            let next = piece(&mut body).await.expect("more");
            assert!(next.len() <= PIECE, "{}", next.len());
            text += &next;
        }
        assert_eq!(text.matches("event: line\n").count(), 2);
        assert_eq!(text.matches("data: \n").count(), 20_001);
        assert_eq!(body.queue.state.borrow().bytes, 0);
        assert_eq!(receive(100_000), 1);
        let (prefix, _) = last_id(&text).rsplit_once('-').expect("a number");
        let told = format!("event: gap\ndata: 1\nid: {prefix}-3\n\n");
        assert_eq!(piece(&mut body).await.as_ref(), Some(&told));
        // One that comes again is told, too.
        let mut again = read(&topics, Some("line"), Some(last_id(&text)));
        let told = format!("retry: 1500\nid: {prefix}-2\n\n{told}");
        assert_eq!(piece(&mut again).await, Some(told));
    });
}

#[test]
fn readers_alone_are_told_that_messages_of_other_processes_may_be_missing() {
    in_worker(Limits::default(), async |worker| {
        let shared = Arc::<Topics>::default();
        let topics = TopicsOfThread::new(&shared, &worker.thread);
        let mut body = read(&topics, None, None);
        let (other, id) = (Rc::new(Other::default()), topics.new_id());
        let weak = Rc::downgrade(&other);
        topics.subscribe("news", id, weak).expect("a topic");
        shared.miss();
        publish(&topics, "one");
        let text = read_until(&mut body, "one\n").await;
        assert!(text.contains("event: gap\ndata: unknown\nid: "), "{text}");
        until("the message", || other.0.get() > 0).await;
        assert_eq!(other.0.get(), 1);
        // An event that tells of a gap does not count as a message.
        let meters = &worker.thread.env.counters.meters;
        let sent = || meters.totals().of(Measure::MessagesSent);
        assert_eq!(sent(), 1);
        let (prefix, _) = last_id(&text).rsplit_once('-').expect("a number");
        let mut again = read(&topics, None, Some(&format!("{prefix}-0")));
        read_until(&mut again, "one\n").await;
        assert_eq!(sent(), 2);
    });
}

/// A subscriber that reads no events, and counts messages.
#[derive(Default)]
struct Other(Cell<usize>);

impl Subscriber for Other {
    fn deliver(&self, messages: &[Arc<Published>]) {
        self.0.set(self.0.get() + messages.len());
    }
}

#[test]
fn comments_come_before_a_time_out_of_the_service_or_of_the_listener() {
    in_worker(Limits::default(), async |_| {
        let limits = |body: u64, idle: Option<u64>, heartbeat: Option<u64>| {
            let mut limits = Limits::default();
            limits.http.response_body_timeout = Duration::from_secs(body);
            limits.idle_timeout = idle.map(Duration::from_secs);
            limits.http.events.heartbeat = heartbeat.map(Duration::from_secs);
            limits
        };
        let interval = |service: &Limits, listener: Option<&Limits>| {
            let heartbeat = Heartbeat::new(service, listener);
            heartbeat.map(|it| it.interval.as_secs())
        };
        let service = limits(60, None, Some(15));
        assert_eq!(interval(&service, None), Some(15));
        assert_eq!(
            interval(&service, Some(&limits(60, Some(8), None))),
            Some(4)
        );
        assert_eq!(interval(&limits(10, Some(40), Some(15)), None), Some(5));
        assert_eq!(interval(&limits(60, Some(20), None), None), Some(10));
    });
}

#[test]
fn a_ring_rests_for_its_time_without_subscribers() {
    let mut limits = Limits::default();
    limits.http.events.kept_time = Duration::from_millis(1);
    in_worker(limits, async |worker| {
        let shared = Arc::<Topics>::default();
        let topics = TopicsOfThread::new(&shared, &worker.thread);
        let mut body = read(&topics, None, None);
        let head = piece(&mut body).await.expect("the head");
        drop(body);
        let begun = Instant::now();
        until("its time", || begun.elapsed() > Duration::from_millis(2)).await;
        publish(&topics, "too late");
        let mut body = read(&topics, None, Some(last_id(&head)));
        let other = piece(&mut body).await.expect("the head");
        assert_ne!(last_id(&other), last_id(&head));
        assert!(
            other.starts_with("event: gap\ndata: unknown\nid: "),
            "{other}"
        );
        assert!(!other.contains("late"), "{other}");
    });
}

#[test]
fn a_type_or_a_topic_that_cannot_be_is_refused() {
    in_worker(Limits::default(), async |worker| {
        let shared = Arc::<Topics>::default();
        let topics = TopicsOfThread::new(&shared, &worker.thread);
        let mut wrong = of(Some("a\nid: 7"));
        let refused = |of: &EventsOf| EventsBody::new(&topics, of, Reader::default()).is_err();
        assert!(refused(&wrong));
        wrong.event = None;
        wrong.topic.clear();
        assert!(refused(&wrong));
        assert_eq!(topics.count("news"), 0);
    });
}
