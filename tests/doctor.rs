//! `netwasm doctor`: what it finds on a machine that lacks something.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::harness::{
    Dns, DnsReply, Finished, Run, SystemFile, cert, directory, in_own_network, text, write,
};

/// A report.
struct Report {
    finished: Finished,
    report: Value,
}

impl Report {
    fn of(run: Run) -> Self {
        let finished = run.args(["--json"]).output();
        let report: Value = serde_json::from_str(&finished.stdout)
            .unwrap_or_else(|error| panic!("{error}: {finished:#?}"));
        let is_wrong = report["status"] == "wrong";
        assert_eq!(finished.code, Some(is_wrong.into()), "{finished:#?}");
        Self { finished, report }
    }

    /// Checks the state of a thing, and a text of what was found or of the cure.
    #[track_caller]
    fn expect(&self, name: &str, status: &str, needle: &str) {
        let findings = self.report["findings"].as_array().expect("a list");
        let mut named = findings.iter().filter(|it| it["name"] == name);
        let finding = named.next();
        let finding = finding.unwrap_or_else(|| panic!("no {name} in {:#?}", self.finished));
        assert_eq!(finding["status"], status, "{finding:#}");
        assert!(finding.to_string().contains(needle), "{finding:#}");
        assert_eq!(finding["cure"].is_string(), status != "ok", "{finding:#}");
    }
}

fn doctor() -> Run {
    Run::command(&["doctor"])
}

#[test]
fn each_finding_has_a_line_and_each_fault_a_cure() {
    let report = Report::of(doctor());
    for name in ["open files", "kernel", "sendfile", "splice", "SO_REUSEPORT"] {
        report.expect(name, "ok", "");
    }
    let told = doctor().output();
    for finding in report.report["findings"].as_array().expect("a list") {
        let name = finding["name"].as_str().expect("a name");
        assert!(told.stdout.contains(&format!(" {name}: ")), "{told:#?}");
    }
    let last = told.stdout.lines().next_back().expect("a line");
    assert!(last.ends_with(" wrong") && last.contains(" ok, "), "{last}");
}

#[test]
fn limits_that_are_too_low_are_told_with_the_command() {
    let report = Report::of(doctor().ulimit("-n 24"));
    report.expect("open files", "wrong", "LimitNOFILE=");
    let report = Report::of(doctor().ulimit("-n 256"));
    report.expect("open files", "slow", "168 connections");
    let report = Report::of(doctor().ulimit("-v 16000000"));
    report.expect("address space", "slow", "ulimit -v unlimited");
}

#[test]
fn a_cache_that_cannot_be_used_is_told() {
    let scratch = directory();
    let cache = scratch.path().join("netwasm/code");
    let report = || {
        let run = doctor().env("XDG_CACHE_HOME", text(scratch.path()));
        Report::of(run.obeys_permissions())
    };
    report().expect("cache", "ok", "will be made");
    let allow = |path, mode| fs::set_permissions(path, Permissions::from_mode(mode));
    allow(scratch.path(), 0o500).expect("a mode");
    report().expect("cache", "slow", "cannot be made");
    allow(scratch.path(), 0o700).expect("a mode");
    fs::create_dir_all(&cache).expect("a directory");
    write(&cache, "code", "1234");
    allow(&cache, 0o700).expect("a mode");
    report().expect("cache", "ok", "1 files, 4 B");
    allow(&cache, 0o500).expect("a mode");
    report().expect("cache", "slow", "cannot be written to");
    allow(&cache, 0o777).expect("a mode");
    report().expect("cache", "wrong", "chmod 700");
}

#[test]
fn authorities_and_a_manager_that_are_named_must_be_there() {
    let scratch = directory();
    let empty = write(scratch.path(), "empty.pem", "");
    let gone = scratch.path().join("socket");
    // Of the machine, which may name a directory with some.
    let none = directory();
    let trusting = |file| {
        let run = doctor().env("SSL_CERT_FILE", text(file));
        run.env("SSL_CERT_DIR", text(none.path()))
    };
    let run = trusting(&empty).env("NOTIFY_SOCKET", text(&gone));
    let report = Report::of(run.env("LISTEN_FDS", "1").env("LISTEN_PID", "1"));
    report.expect("authorities", "wrong", "SSL_CERT_FILE");
    report.expect("service manager", "wrong", "nobody listens");
    let own = Report::of(trusting(&cert("ca.pem")));
    own.expect("authorities", "ok", "1, of SSL_CERT_FILE");
}

#[test]
fn the_addresses_of_a_configuration_are_tried() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("its address");
    let scratch = directory();
    let socket = scratch.path().join("gone/web.sock");
    let good = format!(
        "admin = \"unix:{0}/admin.sock\"\nprobes = \"198.51.100.2:81\"\n[services.web]\ncomponent = \"router\"\n\
         http = [\"127.0.0.1:0\", \"{taken}\", \"198.51.100.1:80\", \"unix:{1}\"]\n",
        text(scratch.path()),
        text(&socket)
    );
    let file = write(scratch.path(), "good.toml", good);
    let report = Report::of(doctor().args(["--config", text(&file)]));
    report.expect("configuration", "ok", "nothing wrong");
    report.expect("listener 127.0.0.1:0", "ok", "free");
    report.expect("listener 198.51.100.1:80", "wrong", "no interface");
    report.expect("listener 198.51.100.2:81", "wrong", "no interface");
    report.expect(
        &format!("listener unix:{}", text(&socket)),
        "wrong",
        "mkdir -p",
    );
    let admin = format!("listener unix:{}/admin.sock", text(scratch.path()));
    report.expect(&admin, "ok", "");
    let file = write(
        scratch.path(),
        "bad.toml",
        "component = \"router\"\nhtpp = 1\n",
    );
    let report = Report::of(doctor().args(["--config", text(&file)]));
    report.expect("configuration", "wrong", "netwasm check");
}

#[test]
fn servers_are_asked_only_if_that_is_allowed() {
    let test = "doctor::servers_are_asked_only_if_that_is_allowed";
    if !in_own_network(test) {
        return;
    }
    // Nobody listens at its port 53.
    let _servers = SystemFile::over("/etc/resolv.conf", b"nameserver 127.0.0.1\n");
    let dns = Dns::new(|_, _| DnsReply::NoData);
    let redis = TcpListener::bind("127.0.0.1:0").expect("a port");
    let redis = redis.local_addr().expect("its address");
    let scratch = directory();
    let config = format!(
        "component = \"gateway\"\nhttp = \"127.0.0.1:0\"\ndns-server = \"{}\"\n\
         topics = \"redis://{redis}\"\nupstream = {{ site = \"127.0.0.1:9\" }}\n",
        dns.address
    );
    let file = write(scratch.path(), "netwasm.toml", config);
    let run = || doctor().args(["--config", text(&file)]);
    let report = Report::of(run());
    report.expect("names", "ok", "127.0.0.1 (not asked");
    assert_eq!(dns.questions(), []);
    let report = Report::of(run().args(["--network"]));
    let server = dns.address;
    report.expect("name server 127.0.0.1:53", "wrong", "resolv.conf");
    report.expect(&format!("name server {server}"), "ok", "answered");
    report.expect(&format!("Redis {redis}"), "ok", "takes connections");
    report.expect("upstream 127.0.0.1:9", "wrong", "refused");
}
