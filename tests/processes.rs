//! Several processes that have their state in common by a Redis server, some of
//! which are killed.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use rustix::process::Signal;

use crate::harness::{
    Configured, DEADLINE, Peer, Redis, Server, TcpPeer, directory, eventually, guest, message,
    post, text,
};

/// A process with a counter and with topics.
struct Process {
    server: Server,
    counter: SocketAddr,
    topics: SocketAddr,
    _settings: Configured,
}

impl Process {
    fn start(redis: &Redis) -> Self {
        let settings = Configured::new();
        let content = format!(
            "workers = 2\n\
             [services.counter]\ncomponent = {:?}\nhttp = \"127.0.0.1:0\"\nkeyvalue = [{:?}]\n\
             [services.news]\ncomponent = {:?}\nhttp = \"127.0.0.1:0\"\ntopics = {:?}\n",
            text(&guest("std-probe")),
            redis.bucket("a", "0"),
            text(&guest("ws-probe")),
            redis.url(""),
        );
        let server = settings.start(content, 2);
        server.log.wait_for(&["topics are joined"]);
        let address = |url: &String| url.strip_prefix("http://")?.parse().ok();
        let addresses: Vec<SocketAddr> = server.listening.iter().filter_map(address).collect();
        // In the order of the services.
        let [counter, topics] = addresses[..] else {
            panic!("{:?}", server.listening)
        };
        Self {
            server,
            counter,
            topics,
            _settings: settings,
        }
    }

    fn publish(&self, body: &str) {
        let mut peer = Peer::connect(self.topics);
        let response = peer.exchange(post("/publish/news", body.as_bytes()));
        assert_eq!(response.status, 200, "{response:?}");
    }
}

/// Adds one, and returns the sum. `None` if the process is gone.
fn increment(counter: SocketAddr) -> Option<u64> {
    let mut stream = TcpStream::connect(counter).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let request = message("GET", "/draft/a/increment/k/1", &["Connection: close"]);
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
    // One chunk, and the end.
    let (_, sum) = body.strip_suffix("\r\n0\r\n\r\n")?.split_once("\r\n")?;
    Some(sum.parse().expect("a number"))
}

/// Reads the topic's events, up to one with this text.
fn reads(reader: &mut TcpPeer, message: &str) {
    let wanted = format!("data: {message}");
    while reader.line() != wanted {}
}

#[test]
fn what_was_acknowledged_stays_if_two_of_three_processes_are_killed() {
    let scratch = directory();
    let Some(redis) = Redis::start(scratch.path()) else {
        return;
    };
    let processes = [(); 3].map(|()| Process::start(&redis));
    let mut reader = Peer::connect(processes[2].topics);
    reader.send(message("GET", "/events/news", &[]).as_bytes());
    redis.wait_for_subscribers("netwasm:news:news", 1);
    for (number, process) in processes.iter().enumerate() {
        let body = format!("from {number}");
        process.publish(&body);
        reads(&mut reader, &body);
    }
    let (acknowledged, unknown) = (AtomicU64::new(0), AtomicU64::new(0));
    let stop = AtomicBool::new(false);
    let [one, two, three] = processes;
    thread::scope(|scope| {
        let more = |count: u64| {
            let goal = acknowledged.load(Ordering::Relaxed) + count;
            eventually("increments", || {
                (acknowledged.load(Ordering::Relaxed) >= goal).then_some(())
            });
        };
        for counter in [&one, &two, &three].map(|it| it.counter) {
            let (acknowledged, unknown, stop) = (&acknowledged, &unknown, &stop);
            for _ in 0..2 {
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        if increment(counter).is_none() {
                            // Done or not: its process is gone.
                            unknown.fetch_add(1, Ordering::Relaxed);
                            return;
                        }
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        }
        more(60);
        for killed in [&one, &two] {
            killed.server.signal(Signal::KILL);
            more(30);
        }
        stop.store(true, Ordering::Relaxed);
    });
    let (acknowledged, unknown) = (acknowledged.into_inner(), unknown.into_inner());
    assert!(unknown <= 4, "clients of the survivor: {unknown}");
    let sum = increment(three.counter).expect("an answer");
    let all = acknowledged + 1..=acknowledged + 1 + unknown;
    assert!(all.contains(&sum), "{sum} is not in {all:?}");
    // Others come in their place.
    let fresh = Process::start(&redis);
    assert_eq!(increment(fresh.counter), Some(sum + 1));
    for (process, body) in [(&three, "a survivor"), (&fresh, "a new one")] {
        process.publish(body);
        reads(&mut reader, body);
    }
    drop(reader);
    fresh.server.stop();
    three.server.stop();
}
