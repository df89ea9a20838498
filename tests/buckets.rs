//! Buckets of `wasi:keyvalue`: metrics of them, TLS to Redis, and Spin's names of
//! them.

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
