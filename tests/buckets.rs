//! Buckets of `wasi:keyvalue`: metrics of them, TLS to Redis, and Spin's names of
//! them.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use crate::harness::{Redis, Run, administered, cert, directory, scrape, text};
use crate::standard::{ask, says, with_bucket};

#[test]
fn operations_on_buckets_are_counted() {
    let run = with_bucket("a=memory:").args(["--keyvalue", "b=memory:"]);
    let (server, admin) = administered(run);
    let count = |name: &str, bucket: &str| {
        let labels = format!("{{service=\"std-probe\",bucket=\"{bucket}\"}}");
        scrape(admin)[&format!("netwasm_keyvalue_operations{name}_total{labels}")]
    };
    assert_eq!(count("", "a"), 0.0);
    says(&server, "draft a set k v", "set");
    says(&server, "draft a get k", "v");
    let failed = ask(&server, "draft a increment k 1");
    assert!(failed.contains("decimal digits"), "{failed}");
    assert_eq!((count("", "a"), count("_failed", "a")), (3.0, 1.0));
    assert_eq!((count("", "b"), count("_failed", "b")), (0.0, 0.0));
    server.stop();
}

#[test]
fn a_redis_server_is_reached_by_tls_if_it_is_trusted() {
    let scratch = directory();
    let Some((_redis, port)) = Redis::start_secure(scratch.path()) else {
        return;
    };
    let secure = format!("a=rediss://:s3cret@127.0.0.1:{port}/0");
    let server = with_bucket(&secure)
        .args(["--ca", text(&cert("ca.pem"))])
        .start();
    says(&server, "draft a set k v", "set");
    says(&server, "draft a get k", "v");
    server.stop();
    let server = with_bucket(&secure).start();
    let answer = ask(&server, "draft a get k");
    for part in ["rediss://127.0.0.1", "TLS fails", "certificate"] {
        assert!(answer.contains(part), "no {part} in {answer}");
    }
    server.stop();
}

#[test]
fn programs_of_spin_4_have_buckets_and_variables() {
    let scratch = directory();
    let file = format!("file=file:{}", text(&scratch.path().join("b.redb")));
    let told = |bucket: &str| {
        let done = Run::guest("spin-probe")
            .args(["--keyvalue", "memory=memory:", "--keyvalue", &file])
            .args(["--config-var", "COLOUR=blue"])
            .guest_args(&[bucket, "COLOUR"])
            .output();
        (done.code, done.stdout)
    };
    let all = "Ok(\"blue\")\nSome(Ok(\"one\")) None\ntrue\n[\"one\", \"three\"] Ok(())\n";
    for bucket in ["memory", "file"] {
        assert_eq!(told(bucket), (Some(0), all.to_owned()), "{bucket}");
    }
    let (code, denied) = told("other");
    assert_eq!(code, Some(1));
    assert!(denied.contains("AccessDenied"), "{denied}");
}

#[test]
fn a_redis_server_that_answers_wrongly_is_told_in_the_log() {
    let address = redis_that_answers(|_| b"\0no answer\r\n".to_vec());
    let url = format!("redis://{address}/0");
    let server = with_bucket(&format!("a={url}")).start();
    for _ in 0..3 {
        let answer = ask(&server, "draft a get k");
        assert!(answer.contains(&url), "{answer}");
    }
    // In one line, though the error has several.
    let whole = [&*url, "--keyvalue", "is lost", "Parse error", "Unexpected"];
    server.log.wait_for(&whole);
    server.stop();
}

#[test]
fn a_swap_takes_no_more_of_a_value_of_others_than_a_bucket_may_hold() {
    // As many bytes as the last word says, in which a swap meets another value.
    let address = redis_that_answers(|words| match words {
        [name, .., most] if name == "EVAL" => {
            let most = most.parse().unwrap_or(64 << 20);
            let head = format!("*2\r\n:0\r\n${most}\r\n");
            [head.as_bytes(), "x".repeat(most).as_bytes(), b"\r\n"].concat()
        }
        [name, ..] if name == "GETRANGE" => b"$1\r\na\r\n".to_vec(),
        _ => b"+OK\r\n".to_vec(),
    });
    let server = with_bucket(&format!("a=redis://{address}/0")).start();
    let answer = ask(&server, "draft2 a swap-late k b c");
    assert!(answer.contains("more than 32 MiB"), "{answer}");
    server.stop();
}

/// Starts what stands for a Redis server, and answers each command as a function
/// says. Returns its address.
fn redis_that_answers(answer: fn(&[String]) -> Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
                while let Some(words) = command(&mut reader) {
                    if stream.write_all(&answer(&words)).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Reads a command: the number of its words, then the length and the bytes of each.
fn command(reader: &mut impl BufRead) -> Option<Vec<String>> {
    let count = number(reader)?;
    let words = (0..count).map(|_| {
        let length = number(reader)?;
        let mut word = vec![0; length + 2];
        reader.read_exact(&mut word).ok()?;
        word.truncate(length);
        String::from_utf8(word).ok()
    });
    words.collect()
}

/// Reads a number, after the letter of its kind.
fn number(reader: &mut impl BufRead) -> Option<usize> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    line.trim_end().get(1..)?.parse().ok()
}
