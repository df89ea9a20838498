use super::*;

fn policy(patterns: &[&str]) -> Policy {
    let parse = |text: &&str| text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
    Policy {
        connect: patterns.iter().map(parse).collect(),
        ..Policy::default()
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// Returns an empty record: no name was resolved.
fn unknown() -> Resolved {
    Resolved::default()
}

#[test]
fn nothing_is_allowed_by_default() {
    let none = Policy::default();
    assert!(none.connect_name("example.org", 443).is_err());
    assert!(none.connect_name("localhost", 443).is_err());
    assert!(
        none.connect_address(address("93.184.216.34:443"), &unknown())
            .is_err()
    );
    assert!(
        none.resolved_address("example.org", address("93.184.216.34:443"))
            .is_err()
    );
    assert!(none.connect_unix(Path::new("/run/app.sock")).is_err());
    assert!(none.resolve("example.org").is_err());
    assert!(none.send_to(address("8.8.8.8:53"), &unknown()).is_err());
    assert!(none.listen(address("127.0.0.1:0")).is_err());
}

#[test]
fn names_match_by_whole_labels_and_port() {
    for (pattern, host, port, allowed) in [
        ("example.org:443", "example.org", 443, true),
        ("example.org:443", "EXAMPLE.Org", 443, true),
        ("Example.ORG.:443", "example.org.", 443, true),
        ("example.org:443", "example.org", 80, false),
        ("example.org:443", "www.example.org", 443, false),
        ("example.org:443", "badexample.org", 443, false),
        ("example.org:443", "example.org.evil.test", 443, false),
        ("example.org:*", "example.org", 1, true),
        ("*.example.org:443", "www.example.org", 443, true),
        ("*.example.org:443", "a.b.example.org", 443, true),
        ("*.example.org:443", "example.org", 443, false),
        ("*.example.org:443", ".example.org", 443, false),
        ("*.example.org:443", "badexample.org", 443, false),
        ("*:443", "anything.test", 443, true),
        ("*:443", "anything.test", 444, false),
        ("*:*", "anything.test", 444, true),
        ("xn--bcher-kva.example:1", "B\u{fc}cher.example", 1, true),
        ("b\u{fc}cher.example:1", "xn--bcher-kva.example.", 1, true),
        // A network allows addresses, not the names that lead there.
        ("0.0.0.0/0:*", "example.org", 443, false),
        // An address in text form is an address.
        ("*:443", "93.184.216.34", 443, true),
        ("*:443", "127.0.0.1", 443, false),
        ("*:443", "127.0.0.1.", 443, false),
        ("*:443", "::1", 443, false),
        ("127.0.0.1:443", "127.0.0.1", 443, true),
        ("[::1]:443", "::1", 443, true),
        ("[::1]:443", "0:0::1", 443, true),
    ] {
        assert_eq!(
            policy(&[pattern]).connect_name(host, port).is_ok(),
            allowed,
            "{pattern} and {host}:{port}"
        );
    }
}

#[test]
fn addresses_need_a_network_or_to_be_public() {
    for (pattern, target, allowed) in [
        ("127.0.0.1:80", "127.0.0.1:80", true),
        ("127.0.0.1:80", "127.0.0.1:81", false),
        ("127.0.0.1:80", "127.0.0.2:80", false),
        ("127.0.0.1:80", "[::ffff:127.0.0.1]:80", true),
        ("[::ffff:127.0.0.1]:80", "127.0.0.1:80", true),
        ("[::ffff:10.0.0.0/104]:80", "10.1.2.3:80", true),
        ("10.0.0.0/8:*", "10.255.0.1:9", true),
        ("10.0.0.0/8:*", "[::ffff:10.255.0.1]:9", true),
        ("10.0.0.0/8:*", "11.0.0.1:9", false),
        ("0.0.0.0/0:*", "192.168.1.1:9", true),
        ("0.0.0.0/0:*", "[2606:4700::1]:9", false),
        ("[::/0]:*", "[fd00::1]:9", true),
        ("[::/0]:*", "[::ffff:10.0.0.1]:9", false),
        ("[fd00::/8]:443", "[fd12::1]:443", true),
        ("[fd00::/8]:443", "[fe80::1]:443", false),
        ("*:443", "93.184.216.34:443", true),
        ("*:443", "[2606:4700::1]:443", true),
        ("*:443", "10.0.0.1:443", false),
        ("*:443", "[::ffff:10.0.0.1]:443", false),
        ("*:443", "[64:ff9b::5db8:d822]:443", true),
        ("*:443", "[64:ff9b::a00:1]:443", false),
        // A rule for a name says nothing about addresses.
        ("localhost:80", "127.0.0.1:80", false),
        ("example.org:80", "93.184.216.34:80", false),
    ] {
        assert_eq!(
            policy(&[pattern])
                .connect_address(address(target), &unknown())
                .is_ok(),
            allowed,
            "{pattern} and {target}"
        );
    }
}

#[test]
fn datagrams_to_localhost_may_go_to_its_addresses() {
    let policy = Policy {
        udp: vec!["LOCALHOST.:53".parse().expect("a pattern")],
        ..Policy::default()
    };
    for (target, allowed) in [
        ("127.0.0.1:53", true),
        ("[::1]:53", true),
        ("[::ffff:127.0.0.1]:53", true),
        ("127.0.0.1:54", false),
        ("127.0.0.2:53", false),
    ] {
        let sent = policy.send_to(address(target), &unknown());
        assert_eq!(sent.is_ok(), allowed, "{target}");
    }
}

#[test]
fn a_resolver_cannot_widen_a_permission() {
    for (patterns, host, target, allowed) in [
        (
            &["example.org:443"][..],
            "example.org",
            "93.184.216.34:443",
            true,
        ),
        (
            &["example.org:443"],
            "EXAMPLE.org.",
            "93.184.216.34:443",
            true,
        ),
        (
            &["example.org:443"],
            "example.org",
            "93.184.216.34:80",
            false,
        ),
        (
            &["example.org:443"],
            "other.org",
            "93.184.216.34:443",
            false,
        ),
        (&["example.org:443"], "example.org", "127.0.0.1:443", false),
        (
            &["example.org:443"],
            "example.org",
            "[::ffff:169.254.169.254]:443",
            false,
        ),
        (&["example.org:443"], "example.org", "0.0.0.0:443", false),
        (&["*:443"], "example.org", "10.0.0.1:443", false),
        (&["*:443"], "127.1", "127.0.0.1:443", false),
        (&["*:443"], "localhost", "127.0.0.1:443", false),
        (&["localhost:443"], "localhost", "127.0.0.1:443", true),
        (&["localhost:443"], "localhost", "[::1]:443", true),
        (&["localhost:443"], "localhost", "10.0.0.1:443", false),
        (&["*.localhost:443"], "app.localhost", "127.0.0.1:443", true),
        (
            &["localhost.example:443"],
            "localhost.example",
            "127.0.0.1:443",
            false,
        ),
        (
            &["intranet.test:443", "10.0.0.0/8:443"],
            "intranet.test",
            "10.0.0.1:443",
            true,
        ),
        (
            &["intranet.test:443", "10.0.0.0/8:80"],
            "intranet.test",
            "10.0.0.1:443",
            false,
        ),
        (&["10.0.0.0/8:443"], "intranet.test", "10.0.0.1:443", false),
        (&["127.0.0.1:443"], "127.0.0.1", "127.0.0.1:443", true),
    ] {
        assert_eq!(
            policy(patterns)
                .resolved_address(host, address(target))
                .is_ok(),
            allowed,
            "{patterns:?} and {host} at {target}"
        );
    }
}

#[test]
fn unix_sockets_are_named_by_their_path() {
    let one = policy(&["unix:/run/app.sock", "*:*"]);
    assert!(one.connect_unix(Path::new("/run/app.sock")).is_ok());
    assert!(one.connect_unix(Path::new("/run//./app.sock")).is_ok());
    assert!(one.connect_unix(Path::new("/run/x/../app.sock")).is_err());
    assert!(one.connect_unix(Path::new("/run/app.sock2")).is_err());
    assert!(one.connect_unix(Path::new("/run")).is_err());
}

#[test]
fn names_are_looked_up_where_a_port_of_them_is_allowed() {
    let some = policy(&["example.org:443", "*.example.com:1", "10.0.0.0/8:*"]);
    for (host, allowed) in [
        ("example.org", true),
        ("EXAMPLE.ORG.", true),
        ("a.example.com", true),
        ("example.com", false),
        ("other.org", false),
        ("10.0.0.1", true),
        ("192.168.0.1", true),
        ("::1", true),
    ] {
        assert_eq!(some.resolve(host).is_ok(), allowed, "{host}");
    }
    assert!(policy(&["*:443"]).resolve("other.org").is_ok());
}

#[test]
fn a_name_may_be_looked_up_without_being_connected_to() {
    let only = Policy {
        resolve: vec!["*.example.org".parse().expect("names")],
        udp: vec!["ntp.example:123".parse().expect("a host")],
        ..Policy::default()
    };
    for (host, allowed) in [
        ("www.example.org", true),
        ("ntp.example", true),
        ("example.org", false),
        // Look-alike dots are canonicalized before the comparison.
        ("a\u{3002}example\u{ff0e}org", true),
    ] {
        assert_eq!(only.resolve(host).is_ok(), allowed, "{host}");
    }
    assert!(only.connect_name("www.example.org", 443).is_err());
}

#[test]
fn datagrams_have_rules_of_their_own() {
    let udp = Policy {
        udp: vec!["10.0.0.0/8:53".parse().expect("a network")],
        ..policy(&["127.0.0.1:53"])
    };
    assert!(udp.send_to(address("10.0.0.1:53"), &unknown()).is_ok());
    assert!(
        udp.connect_address(address("10.0.0.1:53"), &unknown())
            .is_err()
    );
    assert!(
        udp.connect_address(address("127.0.0.1:53"), &unknown())
            .is_ok()
    );
    let denied = udp.send_to(address("127.0.0.1:53"), &unknown());
    assert_eq!(
        denied.expect_err("it is refused").to_string(),
        "sending datagrams to 127.0.0.1:53 is not allowed; --allow-udp 127.0.0.1:53 would \
         allow it"
    );
}

#[test]
fn a_names_rule_holds_for_the_addresses_that_it_resolved_to() {
    let mut names = Resolved::default();
    names.remember(
        "Example.org.",
        ["93.184.216.34", "10.0.0.1"].map(|ip| ip.parse().expect("an address")),
    );
    names.remember("localhost", ["127.0.0.1".parse().expect("an address")]);
    for (pattern, target, allowed) in [
        ("example.org:443", "93.184.216.34:443", true),
        ("example.org:443", "[::ffff:93.184.216.34]:443", true),
        ("example.org:443", "93.184.216.34:80", false),
        ("example.org:443", "93.184.216.35:443", false),
        ("other.org:443", "93.184.216.34:443", false),
        ("localhost:80", "127.0.0.1:80", true),
        ("localhost:80", "127.0.0.2:80", false),
        ("*:80", "127.0.0.1:80", false),
        // Whoever answers for a name cannot open private addresses.
        ("example.org:443", "10.0.0.1:443", false),
        ("*:443", "10.0.0.1:443", false),
    ] {
        let found = policy(&[pattern]).connect_address(address(target), &names);
        assert_eq!(found.is_ok(), allowed, "{pattern} and {target}");
    }
    let denied = policy(&["example.org:443"]).connect_address(address("10.0.0.1:443"), &names);
    assert_eq!(
        denied.expect_err("it is refused").to_string(),
        "connecting to example.org:443 is not allowed at 10.0.0.1, which is not a public \
         address; --allow-connect 10.0.0.1:443 would allow it"
    );
}

#[test]
fn a_guest_listens_where_a_rule_says_so() {
    for (rule, target, allowed) in [
        ("127.0.0.1:80", "127.0.0.1:80", true),
        ("127.0.0.1:80", "[::ffff:127.0.0.1]:80", true),
        ("127.0.0.1:80", "127.0.0.1:81", false),
        ("127.0.0.1:80", "127.0.0.1:0", false),
        ("127.0.0.1:80", "0.0.0.0:80", false),
        ("127.0.0.1:0", "127.0.0.1:0", true),
        ("127.0.0.1:0", "127.0.0.1:80", false),
        ("80", "127.0.0.1:80", true),
        ("80", "[::1]:80", true),
        ("80", "127.0.0.2:80", false),
        ("80", "0.0.0.0:80", false),
        ("0.0.0.0:80", "0.0.0.0:80", true),
        ("0.0.0.0:80", "10.0.0.1:80", true),
        ("0.0.0.0:80", "[::1]:80", false),
        ("[::]:80", "[::]:80", true),
        ("[::]:80", "[::1]:80", true),
        ("[::]:80", "127.0.0.1:80", true),
        ("[::1]:80", "[::]:80", false),
        ("127.0.0.1:*", "127.0.0.1:80", true),
        ("127.0.0.1:*", "127.0.0.1:0", true),
        ("127.0.0.1:*", "[::1]:80", false),
        ("localhost:*", "[::1]:80", true),
        ("localhost:*", "127.0.0.2:80", false),
        ("[::]:*", "10.0.0.1:80", true),
        ("unix:/run/a", "127.0.0.1:80", false),
    ] {
        let policy = Policy {
            listen: vec![rule.parse().expect("an address")],
            ..Policy::default()
        };
        let found = policy.listen(address(target));
        assert_eq!(found.is_ok(), allowed, "{rule} and {target}");
    }
    let denied = Policy::default().listen(address("[::1]:80"));
    assert_eq!(
        denied.expect_err("it is refused").to_string(),
        "listening on [::1]:80 is not allowed; --allow-listen [::1]:80 would allow it"
    );
}

#[test]
fn a_guest_listens_at_the_path_that_a_rule_names() {
    let policy = Policy {
        listen: vec!["unix:/run/a:*".parse().expect("a path")],
        ..Policy::default()
    };
    assert!(policy.listen_unix(Path::new("/run/a:*")).is_ok());
    let denied = policy.listen_unix(Path::new("/run/b"));
    assert_eq!(
        denied.expect_err("it is refused").to_string(),
        "listening on unix:/run/b is not allowed; --allow-listen unix:/run/b would allow it"
    );
}

#[test]
fn what_is_no_address_to_listen_on_says_what_to_write() {
    for (text, error) in [
        (
            "*:*",
            "write '0.0.0.0:*' for all IPv4 addresses of this machine, '[::]:*' for all of IPv6",
        ),
        ("unix:", "no path after unix:"),
    ] {
        let found = text.parse::<ListenPattern>().expect_err("no address");
        assert_eq!(found.to_string(), error, "{text}");
    }
    assert!("example.org:*".parse::<ListenPattern>().is_err());
}

#[test]
fn who_may_listen_on_loopback_may_look_its_name_up() {
    for (rule, allowed) in [("8888", true), ("0.0.0.0:80", true), ("10.0.0.1:80", false)] {
        let policy = Policy {
            listen: vec![rule.parse().expect("an address")],
            ..Policy::default()
        };
        assert_eq!(policy.resolve("localhost").is_ok(), allowed, "{rule}");
        assert!(policy.resolve("example.org").is_err());
    }
}

#[test]
fn what_is_denied_says_which_flag_would_allow_it() {
    let none = Policy::default();
    let denied = |result: Result<(), Denied>| result.expect_err("it is refused").to_string();
    assert_eq!(
        denied(none.connect_address(address("10.0.0.1:80"), &unknown())),
        "connecting to 10.0.0.1:80 is not allowed; --allow-connect 10.0.0.1:80 would allow it"
    );
    assert_eq!(
        denied(none.connect_name("Example.org.", 443)),
        "connecting to example.org:443 is not allowed; \
         --allow-connect example.org:443 would allow it"
    );
    assert_eq!(
        denied(none.connect_name("::1", 443)),
        "connecting to [::1]:443 is not allowed; --allow-connect [::1]:443 would allow it"
    );
    assert_eq!(
        denied(none.connect_unix(Path::new("/run/a"))),
        "connecting to unix:/run/a is not allowed; --allow-connect unix:/run/a would allow it"
    );
    assert_eq!(
        denied(none.resolve("example.org")),
        "looking example.org up is not allowed; --allow-connect example.org:PORT allows that and \
         connecting; --allow-resolve example.org allows the look-up alone"
    );
    assert_eq!(
        denied(policy(&["*:80"]).resolved_address("intranet.test", address("10.0.0.1:80"))),
        "connecting to intranet.test:80 is not allowed at 10.0.0.1, which is not a public \
         address; --allow-connect 10.0.0.1:80 would allow it"
    );
}

#[test]
fn a_flag_that_is_proposed_does_allow() {
    for text in [
        "10.0.0.1:80",
        "[fd00::1]:80",
        "[::ffff:10.0.0.1]:80",
        "8.8.8.8:53",
    ] {
        let target = address(text);
        let denied = Policy::default()
            .connect_address(target, &unknown())
            .expect_err("it is refused");
        assert!(
            policy(&[&denied.remedy.expect("a flag").1])
                .connect_address(target, &unknown())
                .is_ok(),
            "{text}"
        );
    }
}

#[test]
fn a_guests_text_cannot_forge_log_lines() {
    let denied = Policy::default()
        .connect_name("a\nnetwasm: all is well", 1)
        .expect_err("it is refused");
    assert_eq!(
        denied.to_string(),
        "connecting to a\\nnetwasm: all is well:1 is not allowed"
    );
}
