//! Each flag of `run` reaches its place in the configuration.

use std::time::Duration;

use netwasm_base::config::{
    AccessLogConfig, AccessLogFormat, AccessLogTarget, CIPHER_SUITES, CertificateFiles, Directory,
    DnsConfig, EventLimits, GuestConfig, HttpLimits, Isolation, ListenerConfig, ListenerKind,
    MessageCompression, NEVER, Origin, SlowClient, TcpOptions, TlsFiles, TlsVersion,
    WebSocketLimits,
};
use netwasm_base::policy::Policy;
use netwasm_base::unix::UnixRights;
use netwasm_base::{descriptors, memory};

use super::*;
use crate::logging::{LogFormat, Verbosity};

#[test]
fn without_flags_the_limits_are_the_defaults() {
    let (config, log) = run("a.wasm --tcp 1");
    let limits = Limits {
        max_connections: descriptors::connections(false).min(memory::connections(false)),
        max_outgoing: descriptors::connections(false).min(memory::connections(false)),
        ..Limits::default()
    };
    assert_eq!(config.limits, limits);
    assert_eq!(config.isolation, None);
    assert_eq!(config.tls, TlsFiles::default());
    assert_eq!(config.policy, Policy::default());
    assert_eq!(config.dns, DnsConfig::default());
    assert!(config.cache && !config.trust_compiled);
    assert_eq!(log, LogOptions::default());
    assert_eq!(
        config.guest,
        GuestConfig {
            name: "a".into(),
            program: "a.wasm".into(),
            ..GuestConfig::default()
        }
    );
}

#[test]
fn each_flag_reaches_its_place() {
    let (config, log) = run(
        "dir/a.wasm --tcp 1 --tls [::1]:2 --tls unix:/s --udp 0.0.0.0:3 --cert c1 --key k1 \
         --cert c2 --key k2 --client-ca ca --alpn h2 --alpn x --tls-min-version 1.3 \
         --tls-ciphers TLS_AES_128_GCM_SHA256:TLS13_AES_256_GCM_SHA384 --ca r1 --ca r2 \
         --isolation worker --workers 3 --allow-connect *.example.org:443 --dir p::/:rw \
         --allow-udp 10.0.0.1:53 --allow-resolve example.com --allow-listen [::1]:9 \
         --dns-server 10.0.0.53 --dns-server [::1]:5353 --dns-timeout 2s --tls-insecure \
         --tls-authority a=f=g --tls-identity b=c3,k3 --tls-identity d=e \
         --env A=b=c --env NETWASM_IS_NOT_SET --allow-compiled --no-cache \
         --event-timeout 1s --max-connections 10 --backlog 11 --idle-timeout 5m \
         --max-outgoing 13 --half-close-timeout none --tcp-keepalive 14s \
         --tcp-user-timeout 20s --tcp-receive-buffer 21kB --tcp-send-buffer 22kB \
         --background-timeout 15s --max-background 16 --max-metrics 99 --max-shared 98k --max-keyvalue 97k --config-var C=d=e --keyvalue k=memory: --keyvalue l=file:p \
         --response-body-timeout 17s \
         --handshake-timeout 2s --write-timeout 3s --write-high 3k --write-low 2KiB \
         --max-write-buffer 1.5MB --max-handles 12 --shutdown-timeout 4s --max-memory 1MiB \
         --http 4 --https unix:/t --http-redirect 5 --http-redirect-port 8443 --access-log - --access-log-format json --max-body 1k \
         --max-head 2k --max-request-line 3k --max-headers 4 --head-timeout 6s \
         --max-response-headers 18 \
         --body-timeout 7s --keep-alive-timeout 8s --response-timeout 9s --send-informational \
         --max-instance-reuse-count 5 --max-instance-concurrent-reuse-count 6 --max-connection-instances 18 --max-unread 19kB \
         --websocket-origin https://A.example --websocket-origin * --max-websocket-message 2k --max-websocket-frame 1k \
         --max-websocket-rate 23 --max-websocket-topics 26 --max-websocket-queue 3k --websocket-slow drop --websocket-ping 24s \
         --websocket-ping-timeout 25s --websocket-compression shared \
         --topics redis://:p@h/?prefix=x --events-kept 27 --events-kept-size 28kB --events-kept-time 29s --events-heartbeat 30s \
         --unix-mode 0660 --unix-owner root --unix-group 7 \
         --max-component-size 2M --compile-timeout 5s -vv --log-format json --log-rate 7 -- --tcp x",
    );
    assert_eq!(config.component, ComponentSource::File("dir/a.wasm".into()));
    assert!(config.trust_compiled && !config.cache);
    assert_eq!(config.workers.get(), 3);
    assert_eq!(config.isolation, Some(Isolation::Worker));
    let listeners = [
        (ListenerKind::Tcp, "1"),
        (ListenerKind::Tls, "[::1]:2"),
        (ListenerKind::Tls, "unix:/s"),
        (ListenerKind::Udp, "0.0.0.0:3"),
        (ListenerKind::Http, "4"),
        (ListenerKind::Https, "unix:/t"),
        (ListenerKind::Redirect, "5"),
    ]
    .map(|(kind, address)| ListenerConfig {
        kind,
        address: address.parse().expect("an address"),
    });
    assert_eq!(config.listeners, listeners);
    let unix = UnixRights {
        mode: Some(0o660),
        owner: Some("root".into()),
        group: Some("7".into()),
    };
    assert_eq!(config.unix, unix);
    assert_eq!(config.redirect_port, Some(8443));
    let pair = |chain: &str, key: &str| CertificateFiles {
        chain: chain.into(),
        key: key.into(),
    };
    let tls = TlsFiles {
        shared: Vec::new(),
        certificates: vec![pair("c1", "k1"), pair("c2", "k2")],
        client_ca: Some("ca".into()),
        alpn: vec![b"h2".to_vec(), b"x".to_vec()],
        min_version: TlsVersion::Tls13,
        ciphers: vec![CIPHER_SUITES[1], CIPHER_SUITES[0]],
        extra_roots: vec!["r1".into(), "r2".into()],
        insecure: true,
        authorities: vec![("a".into(), "f=g".into())],
        identities: vec![("b".into(), pair("c3", "k3")), ("d".into(), pair("e", "e"))],
    };
    assert_eq!(config.tls, tls);
    let guest = GuestConfig {
        name: "a".into(),
        program: "a.wasm".into(),
        args: vec!["--tcp".into(), "x".into()],
        env: vec![("A".into(), "b=c".into())],
        config: vec![("C".into(), "d=e".into())],
        dirs: vec![Directory {
            host: "p".into(),
            guest: "/".into(),
            writable: true,
        }],
        folder: None,
    };
    assert_eq!(config.guest, guest);
    let keyvalue = ["k=memory:", "l=file:p"].map(|it| it.parse().expect("a bucket"));
    assert_eq!(config.keyvalue, keyvalue);
    let topics = "redis://:p@h/?prefix=x".parse().expect("a server");
    assert_eq!(config.topics, Some(topics));
    let policy = Policy {
        connect: vec!["*.example.org:443".parse().expect("a pattern")],
        udp: vec!["10.0.0.1:53".parse().expect("a pattern")],
        resolve: vec!["example.com".parse().expect("a name")],
        listen: vec!["[::1]:9".parse().expect("an address")],
    };
    assert_eq!(config.policy, policy);
    let dns = DnsConfig {
        servers: ["10.0.0.53", "[::1]:5353"]
            .map(|server| server.parse().expect("a server"))
            .into(),
        timeout: Duration::from_secs(2),
    };
    assert_eq!(config.dns, dns);
    let limits = Limits {
        max_connections: 10,
        max_outgoing: 13,
        connections_given: true,
        backlog: 11,
        max_memory: 1 << 20,
        event_timeout: Duration::from_secs(1),
        idle_timeout: Some(Duration::from_secs(300)),
        half_close_timeout: None,
        tcp: TcpOptions {
            keepalive: Some(Duration::from_secs(14)),
            user_timeout: Some(Duration::from_secs(20)),
            receive_buffer: Some(21_000),
            send_buffer: Some(22_000),
        },
        handshake_timeout: Duration::from_secs(2),
        write_timeout: Duration::from_secs(3),
        write_high: 3000,
        write_low: 2048,
        max_write_buffer: 1_500_000,
        max_handles: 12,
        background_timeout: Duration::from_secs(15),
        max_background: 16,
        max_metrics: 99,
        max_shared: 98_000,
        max_keyvalue: 97_000,
        shutdown_timeout: Duration::from_secs(4),
        max_component_size: 2_000_000,
        compile_timeout: Duration::from_secs(5),
        http: HttpLimits {
            max_head: 2000,
            max_request_line: 3000,
            max_headers: 4,
            max_response_headers: 18,
            max_body: 1000,
            head_timeout: Duration::from_secs(6),
            body_timeout: Duration::from_secs(7),
            keep_alive_timeout: Duration::from_secs(8),
            response_timeout: Duration::from_secs(9),
            response_body_timeout: Duration::from_secs(17),
            max_instance_reuse: 5,
            max_instance_concurrency: 6,
            max_connection_instances: Some(18),
            max_unread: 19_000,
            send_informational: true,
            events: EventLimits {
                kept: 27,
                kept_size: 28_000,
                kept_time: Duration::from_secs(29),
                heartbeat: Some(Duration::from_secs(30)),
            },
            websocket: WebSocketLimits {
                max_message: 2000,
                max_frame: 1000,
                max_queue: 3000,
                slow: SlowClient::Drop,
                max_rate: Some(23),
                max_topics: 26,
                ping: Some(Duration::from_secs(24)),
                ping_timeout: Duration::from_secs(25),
                compression: MessageCompression::Shared,
                origins: vec![Origin::Exactly("https://a.example".into()), Origin::Any],
            },
        },
    };
    assert_eq!(config.limits, limits);
    assert_eq!(
        config.access_log,
        Some(AccessLogConfig {
            target: AccessLogTarget::Stdout,
            format: AccessLogFormat::Json,
        })
    );
    assert_eq!(
        log,
        LogOptions {
            format: LogFormat::Json,
            verbosity: Verbosity::Trace,
            rate: 7,
        }
    );
}

#[test]
fn a_run_is_quiet_or_tells_more_and_not_both() {
    for flag in ["-q", "--quiet"] {
        let (_, log) = run(&format!("a.wasm --tcp 1 {flag}"));
        assert_eq!(log.verbosity, Verbosity::Quiet);
    }
    let found = error("run a.wasm --tcp 1 -q -v");
    assert!(found.contains("cannot be used with"), "{found}");
}

#[test]
fn push_has_no_flags_of_pulls() {
    for flag in ["--offline", "--verify-key k"] {
        let found = error(&format!("push a.wasm oci://localhost/a {flag}"));
        let told = "is a flag of `netwasm run`, not of `netwasm push`";
        assert!(found.contains(told), "{found}");
    }
}

#[test]
fn zero_is_no_limit_for_every_time() {
    let flags = [
        "--background-timeout",
        "--body-timeout",
        "--compile-timeout",
        "--dns-timeout",
        "--event-timeout",
        "--events-heartbeat",
        "--events-kept-time",
        "--half-close-timeout",
        "--handshake-timeout",
        "--head-timeout",
        "--idle-timeout",
        "--keep-alive-timeout",
        "--registry-timeout",
        "--response-body-timeout",
        "--response-timeout",
        "--shutdown-delay",
        "--shutdown-timeout",
        "--tcp-keepalive",
        "--tcp-user-timeout",
        "--websocket-ping",
        "--websocket-ping-timeout",
        "--write-timeout",
    ];
    let command = Cli::command();
    let run = command.find_subcommand("run").expect("run");
    let takes_time = |arg: &&clap::Arg| arg.get_value_names() == Some(&["TIME".into()]);
    let mut named: Vec<_> = run.get_arguments().filter(takes_time).collect();
    named.sort_by_key(|arg| arg.get_long());
    let named = named.into_iter().filter_map(clap::Arg::get_long);
    assert_eq!(
        named.map(|name| format!("--{name}")).collect::<Vec<_>>(),
        flags
    );
    for zero in ["0", "0s", "0ms", "none"] {
        let line = flags.map(|flag| format!("{flag} {zero}")).join(" ");
        let (config, _) = self::run(&format!("a.wasm --tcp 1 {line}"));
        assert_eq!(config.dns.timeout, NEVER, "{zero}");
        assert_eq!(config.registry.timeout, NEVER, "{zero}");
        let limits = Limits {
            max_connections: config.limits.max_connections,
            max_outgoing: config.limits.max_outgoing,
            event_timeout: NEVER,
            idle_timeout: None,
            half_close_timeout: None,
            tcp: TcpOptions {
                keepalive: None,
                ..TcpOptions::default()
            },
            background_timeout: NEVER,
            handshake_timeout: NEVER,
            write_timeout: NEVER,
            shutdown_timeout: NEVER,
            compile_timeout: NEVER,
            http: HttpLimits {
                head_timeout: NEVER,
                body_timeout: NEVER,
                keep_alive_timeout: NEVER,
                response_timeout: NEVER,
                response_body_timeout: NEVER,
                events: EventLimits {
                    kept_time: NEVER,
                    heartbeat: None,
                    ..EventLimits::default()
                },
                websocket: WebSocketLimits {
                    ping: None,
                    ping_timeout: NEVER,
                    ..WebSocketLimits::default()
                },
                ..HttpLimits::default()
            },
            ..Limits::default()
        };
        assert_eq!(config.limits, limits, "{zero}");
        for flag in flags {
            let found = error(&format!("run a.wasm --tcp 1 {flag} 5"));
            let message = "a time has a unit, ms, s, m, h or d: write 5s for seconds";
            assert!(found.contains(message) && found.contains(flag), "{found}");
        }
    }
}

#[test]
fn variables_can_be_inherited() {
    let (config, _) = run("a.wasm --tcp 1 --env PATH --env EMPTY=");
    let path = std::env::var("PATH").expect("PATH is set");
    assert_eq!(
        config.guest.env,
        [("PATH".into(), path), ("EMPTY".into(), String::new())]
    );
}
