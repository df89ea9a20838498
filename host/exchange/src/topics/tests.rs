use std::thread;
use std::time::Duration;

use netwasm_base::config::{EventLimits, Limits};
use netwasm_net::testing::{in_worker, until};

use super::published::OVERHEAD;
use super::*;

#[derive(Default)]
struct Reader(RefCell<Vec<String>>);

impl Subscriber for Reader {
    fn deliver(&self, messages: &[Arc<Published>]) {
        let texts = messages.iter();
        let texts = texts.map(|it| String::from_utf8_lossy(it.data()).into_owned());
        self.0.borrow_mut().extend(texts);
    }
}

fn publish(topics: &TopicsOfThread, text: &str, except: Option<SubscriberId>) -> u64 {
    topics.publish("news", MessageKind::Text, text.as_bytes(), except)
}

#[test]
fn a_message_reaches_the_subscribers_of_all_threads_in_order_but_for_one() {
    in_worker(Limits::default(), async |worker| {
        let shared = Arc::<Topics>::default();
        let threads = [(); 2].map(|()| TopicsOfThread::new(&shared, &worker.thread));
        assert_eq!(publish(&threads[0], "too early", None), 0);
        let mut readers = Vec::new();
        for topics in [&threads[0], &threads[0], &threads[1]] {
            let (reader, id) = (Rc::new(Reader::default()), topics.new_id());
            let weak = Rc::downgrade(&reader);
            topics.subscribe("news", id, weak).expect("a topic");
            readers.push((reader, id));
        }
        assert_eq!(threads[1].count("news"), 3);
        for number in 0..100 {
            assert_eq!(publish(&threads[0], &number.to_string(), None), 3);
        }
        publish(&threads[0], "not for the first", Some(readers[0].1));
        publish(&threads[0], "last", None);
        for (reader, _) in &readers {
            until("the last one", || {
                reader.0.borrow().last().is_some_and(|it| it == "last")
            })
            .await;
        }
        let mut expected: Vec<String> = (0..100).map(|it| it.to_string()).collect();
        expected.push("last".into());
        assert_eq!(readers[0].0.0.take(), expected);
        expected.insert(100, "not for the first".into());
        assert_eq!(readers[1].0.0.take(), expected);
        assert_eq!(readers[2].0.0.take(), expected);
        threads[0].unsubscribe("news", readers[0].1);
        threads[0].unsubscribe("news", readers[0].1);
        assert_eq!(threads[0].count("news"), 2);
        let [first, second] = threads;
        drop(second);
        assert_eq!(publish(&first, "more", None), 1);
        for wrong in ["", &"x".repeat(257)] {
            let reader: Weak<Reader> = Weak::new();
            assert!(first.subscribe(wrong, first.new_id(), reader).is_err());
        }
    });
}

#[test]
fn what_waits_for_a_thread_is_bounded() {
    let limits = Limits {
        max_write_buffer: 106 << 10,
        ..Limits::default()
    };
    in_worker(limits, async |worker| {
        let shared = Arc::<Topics>::default();
        let topics = TopicsOfThread::new(&shared, &worker.thread);
        let (reader, id) = (Rc::new(Reader::default()), topics.new_id());
        let weak = Rc::downgrade(&reader);
        topics.subscribe("news", id, weak).expect("a topic");
        // No other task runs meanwhile.
        for _ in 0..50 {
            publish(&topics, &"x".repeat(10 << 10), None);
        }
        publish(&topics, "small", None);
        until("the small one", || {
            reader.0.borrow().last().is_some_and(|it| it == "small")
        })
        .await;
        assert_eq!(reader.0.borrow().len(), 11);
        // Without content, they take room, too.
        for _ in 0..1000 {
            publish(&topics, "", None);
        }
        let most = 11 + (106 << 10) / OVERHEAD;
        until("those that have room", || reader.0.borrow().len() == most).await;
    });
}

/// Publishes to "news" by another thread, which waits for its number in the ring of
/// this topic while `work` is done.
fn published_meanwhile(topics: &Topics, ring: &Arc<Ring>, work: impl FnOnce()) -> Delivery {
    thread::scope(|scope| {
        let mut publisher = None;
        ring.add(String::new(), |_| {
            let publish = move || topics.publish("news", MessageKind::Text, b"text", None, 10_000);
            publisher = Some(scope.spawn(publish));
            // It has found the ring, whose lock is held here.
            while Arc::strong_count(ring) < 3 {
                thread::yield_now();
            }
            work();
        });
        publisher.expect("a thread").join().expect("it publishes")
    })
}

#[test]
fn a_reader_that_comes_while_a_message_waits_for_its_number_gets_it() {
    let topics = Topics::default();
    let ring = topics.ring("news", &EventLimits::default());
    let mailbox = topics.join(&Arc::new(Mailbox::new(10_000)));
    let delivery = published_meanwhile(&topics, &ring, || {
        topics.add("news", mailbox);
    });
    assert_eq!(delivery, Delivery { count: 1, lost: 0 });
}

#[test]
fn a_message_with_a_number_of_a_ring_that_was_dropped_reaches_no_reader_of_the_next_one() {
    let topics = Topics::default();
    let limits = EventLimits {
        kept_time: Duration::ZERO,
        ..EventLimits::default()
    };
    let ring = topics.ring("news", &limits);
    let mailbox = topics.join(&Arc::new(Mailbox::new(10_000)));
    let delivery = published_meanwhile(&topics, &ring, || {
        topics.add("news", mailbox);
        topics.remove("news", mailbox);
        let next = topics.ring("news", &limits);
        assert!(!Arc::ptr_eq(&ring, &next));
        topics.add("news", mailbox);
    });
    assert_eq!(delivery, Delivery::default());
}

#[test]
fn a_topic_that_comes_and_goes_takes_no_place_of_a_resting_one() {
    let topics = Topics::default();
    let mailbox = topics.join(&Arc::new(Mailbox::new(10_000)));
    let rest = |topic: &str| {
        let ring = topics.ring(topic, &EventLimits::default());
        topics.add(topic, mailbox);
        topics.remove(topic, mailbox);
        ring
    };
    let quiet = rest("quiet");
    for _ in 0..2000 {
        rest("busy");
    }
    assert!(Arc::ptr_eq(&quiet, &rest("quiet")));
}
