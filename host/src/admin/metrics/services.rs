//! Metrics of services, their instances and listeners.

use netwasm_base::counters::{Counter, Counters};
use netwasm_base::meter::{self, Measure};
use netwasm_base::shared_state::Use;
use netwasm_base::traps::CAUSES;
use netwasm_net::of_listener::ListenerCounts;

use super::View;
use super::family::{Family, Kind, Labels, SeriesValue, Unit, float, labelled, number, of};
use crate::admin::ServerView;

/// Counters of services, by name.
type Field = fn(&Counters) -> &Counter;

/// Counters that have no label but the service.
const COUNTERS: [(&str, &str, Field); 30] = [
    (
        "connections_accepted",
        "Connections that peers opened",
        |it| &it.connections_accepted,
    ),
    ("connections_made", "Connections that guests opened", |it| {
        &it.connections_made
    }),
    (
        "connections_closed",
        "Connections that ended in order",
        |it| &it.connections_closed,
    ),
    (
        "connections_lost",
        "Connections that did not end in order",
        |it| &it.connections_lost,
    ),
    (
        "connections_reclaimed",
        "Idle connections closed for new ones (max-connections)",
        |it| &it.connections_reclaimed,
    ),
    (
        "connections_waited",
        "Times that a new connection had to wait (max-connections)",
        |it| &it.connections_waited,
    ),
    (
        "left_behind",
        "Times that an async guest went on when nobody waited for it",
        |it| &it.left_behind,
    ),
    (
        "left_behind_ended",
        "Times that such a guest was ended",
        |it| &it.left_behind_ended,
    ),
    (
        "proxies_refused",
        "Connections of proxies without a usable PROXY header",
        |it| &it.proxies_refused,
    ),
    (
        "clients_refused",
        "Connections and requests of clients that were turned away",
        |it| &it.clients_refused,
    ),
    ("datagrams_received", "Datagrams handed to guests", |it| {
        &it.datagrams_received
    }),
    ("requests_handled", "HTTP requests handed to guests", |it| {
        &it.requests
    }),
    (
        "requests_refused",
        "HTTP requests answered without a guest: malformed, too large, or too slow",
        |it| &it.requests_refused,
    ),
    (
        "responses_refused",
        "Responses of guests that were not sent, or not completely, by the guest's fault",
        |it| &it.responses_refused,
    ),
    (
        "websockets_opened",
        "WebSocket connections that were opened",
        |it| &it.websockets_opened,
    ),
    (
        "websockets_ended",
        "WebSocket connections that have ended",
        |it| &it.websockets_ended,
    ),
    (
        "event_streams_opened",
        "Streams of events that were opened",
        |it| &it.event_streams_opened,
    ),
    (
        "event_streams_ended",
        "Streams of events that have ended",
        |it| &it.event_streams_ended,
    ),
    (
        "forwards_failed",
        "Forwarded requests to which no upstream gave a whole response",
        |it| &it.forwards_failed,
    ),
    (
        "upstreams_left_out",
        "Times that a server of an upstream group was left out after failures, or as it asked",
        |it| &it.upstreams_left_out,
    ),
    (
        "upstreams_down",
        "Times that the checks of a server of an upstream group put it down",
        |it| &it.upstreams_down,
    ),
    (
        "instances_failed",
        "Instances that could not be made",
        |it| &it.instances_failed,
    ),
    (
        "files_failed",
        "Files that exist but could not be opened or read",
        |it| &it.files_failed,
    ),
    ("instances_made", "Instances that were made", |it| {
        &it.instances_made
    }),
    (
        "lookups_at_hand",
        "Look-ups of names that needed no server: from the cache, or the hosts file",
        |it| &it.lookups.at_hand,
    ),
    (
        "pool_connections_opened",
        "Connections that guests' pools opened",
        |it| &it.pools.opened,
    ),
    (
        "pool_connections_reused",
        "Times that a pool handed out a kept connection",
        |it| &it.pools.reused,
    ),
    (
        "pool_connections_expired",
        "Kept connections of pools that their peers or a limit closed",
        |it| &it.pools.expired,
    ),
    (
        "upstream_requests_reused",
        "HTTP requests of guests on connections that had served others before",
        |it| &it.upstream.reused,
    ),
    (
        "operations_denied",
        "Operations of guests that the policy denied",
        |it| &it.denied,
    ),
];

/// Returns the metrics of all services.
pub(super) fn families(view: &View) -> Vec<Family> {
    let mut all = generations(view);
    for (name, help, field) in COUNTERS {
        let rows = view.services.iter();
        let rows = rows.map(|it| (of(&it.name), field(&it.counters).get()));
        all.push(Family::counter(name, help, rows));
    }
    all.extend(by_kind(view));
    all.extend(upstreams(view));
    all.extend(levels(view));
    all.extend(shared(view));
    all.extend(meters(view));
    all.extend(listeners(view));
    all
}

fn listeners(view: &View) -> [Family; 3] {
    let each = |of: fn(&ListenerCounts) -> u64| {
        let all = view.listeners.iter();
        all.map(move |it| {
            let labels = labelled(&it.service, "listener", &it.url);
            (labels, of(&it.counts))
        })
    };
    [
        Family::counter(
            "listener_accepted",
            "Connections accepted by a listener",
            each(|it| it.accepted.get()),
        ),
        Family::gauge(
            "listener_open",
            "Connections of a listener at present",
            each(|it| it.open.get()).map(|(labels, open)| (labels, float(open))),
        ),
        Family::counter(
            "listener_refused",
            "Connections of a listener whose clients were turned away",
            each(|it| it.refused.get()),
        ),
    ]
}

fn generations(view: &View) -> Vec<Family> {
    let services = view.services.iter();
    let generations = services.clone().map(|it| {
        let labels = labelled(&it.name, "component", &it.component);
        (labels, float(it.generation))
    });
    let ages = services.clone().map(|it| {
        let age = it.since.elapsed().as_secs_f64();
        (of(&it.name), age)
    });
    let open = services.map(|it| (of(&it.name), float(it.counters.open())));
    vec![
        Family::gauge(
            "service_generation",
            "Number of the generation that serves new connections",
            generations,
        ),
        Family::gauge(
            "service_generation_age",
            "Time since that generation began",
            ages,
        )
        .of(Unit::Seconds),
        Family::gauge("connections_open", "Connections that are open", open),
    ]
}

/// Returns counters with a label besides the service.
fn by_kind(view: &View) -> Vec<Family> {
    let services = view.services.iter();
    let traps = services.clone().flat_map(|it| {
        let traps = &it.counters.traps;
        CAUSES.map(|(cause, name)| (labelled(&it.name, "cause", name), traps.of(cause)))
    });
    let lookups = services.clone().flat_map(|it| {
        let lookups = &it.counters.lookups;
        [
            ("found", &lookups.found),
            ("no_name", &lookups.no_name),
            ("no_address", &lookups.no_address),
            ("failed", &lookups.failed),
            ("timed_out", &lookups.timed_out),
        ]
        .map(|(result, count)| (labelled(&it.name, "result", result), count.get()))
    });
    let joined = services.clone().flat_map(|it| {
        let joined = &it.counters.joined;
        [
            ("sent", &joined.sent),
            ("received", &joined.received),
            ("lost", &joined.lost),
            ("dropped", &joined.dropped),
        ]
        .map(|(event, count)| (labelled(&it.name, "event", event), count.get()))
    });
    let upstream = services.flat_map(|it| {
        let upstream = &it.counters.upstream;
        [
            ("answered", &upstream.answered),
            ("failed", &upstream.failed),
        ]
        .map(|(result, count)| (labelled(&it.name, "result", result), count.get()))
    });
    vec![
        Family::counter("traps", "Instances that trapped, by cause", traps),
        Family::counter(
            "lookups",
            "Look-ups of names for guests, by result",
            lookups,
        ),
        Family::counter(
            "topics_joined",
            "Messages over the server of --topics: sent there, received of other processes; \
             lost: before the server had them; dropped: received, without room for a subscriber",
            joined,
        ),
        Family::counter(
            "upstream_requests",
            "HTTP requests that guests sent, with and without a response",
            upstream,
        ),
    ]
}

/// Returns what is known of the servers of upstream groups.
fn upstreams(view: &View) -> Vec<Family> {
    let refused = view.services.iter().flat_map(|it| {
        let counts = it.counters.forwards_refused.counts();
        counts.map(|(reason, count)| (labelled(&it.name, "reason", reason), count))
    });
    let servers: Vec<_> = view
        .services
        .iter()
        .flat_map(|it| it.upstreams.iter().map(|server| (&it.name, server)))
        .map(|(service, server)| {
            let mut labels = labelled(service, "upstream", &server.group);
            labels.push(("server".into(), server.server.clone()));
            (labels, server)
        })
        .collect();
    let level = |number: fn(&ServerView) -> f64| {
        let rows = servers.iter();
        rows.map(move |(labels, server)| (labels.clone(), number(server)))
    };
    let checks = servers.iter();
    let checks = checks.map(|(labels, server)| (labels.clone(), server.checks_failed));
    vec![
        Family::counter(
            "forwards_refused",
            "Requests to upstream groups that found no place at a server, by the limit",
            refused,
        ),
        Family::gauge(
            "upstream_server_up",
            "1 if the server of an upstream group gets requests, 0 if it is down or left out",
            level(|it| if it.up { 1.0 } else { 0.0 }),
        ),
        Family::gauge(
            "upstream_server_requests",
            "Requests under way at the server",
            level(|it| number(it.active)),
        ),
        Family::counter(
            "upstream_server_checks_failed",
            "Checks of the server that failed in this generation of the service",
            checks,
        ),
    ]
}

/// Returns numbers that go up and down.
fn levels(view: &View) -> Vec<Family> {
    let services = view.services.iter();
    let alive = services.clone().map(|it| {
        // In this order, or one that ends meanwhile could make it negative.
        let ended = it.counters.instances_ended.get();
        let alive = it.counters.instances_made.get().saturating_sub(ended);
        (of(&it.name), float(alive))
    });
    let memory = services.clone().map(|it| {
        let bytes = it.counters.instance_memory.get();
        (of(&it.name), float(bytes))
    });
    let pools = services.flat_map(|it| {
        [
            ("in_use", it.pools.in_use),
            ("idle", it.pools.idle),
            ("waited_for", it.pools.waiting),
        ]
        .map(|(state, count)| (labelled(&it.name, "state", state), number(count)))
    });
    vec![
        Family::gauge("instances", "Instances that are alive", alive),
        Family::gauge(
            "instance_memory",
            "Linear memory of these instances",
            memory,
        )
        .of(Unit::Bytes),
        Family::gauge(
            "pool_connections",
            "Connections of guests' pools at present, and guests that wait for one",
            pools,
        ),
    ]
}

/// Returns the numbers of the state that instances share.
fn shared(view: &View) -> Vec<Family> {
    let rows: Vec<(Labels, Use)> = view
        .services
        .iter()
        .flat_map(|it| {
            let shared = &it.counters.shared;
            [("bucket", shared.buckets()), ("value", shared.values())]
                .map(|(kind, in_use)| (labelled(&it.name, "kind", kind), in_use))
        })
        .collect();
    let of_each = |field: fn(&Use) -> usize| {
        let rows = rows.iter();
        rows.map(move |(labels, in_use)| (labels.clone(), number(field(in_use))))
    };
    let lost = rows.iter();
    let lost = lost.map(|(labels, in_use)| (labels.clone(), in_use.lost));
    vec![
        Family::gauge(
            "shared_entries",
            "Token buckets and values that instances share",
            of_each(|it| it.entries),
        ),
        Family::gauge(
            "shared",
            "Size of these, of which each kind may have half (max-shared)",
            of_each(|it| it.bytes),
        )
        .of(Unit::Bytes),
        Family::counter(
            "shared_lost",
            "Buckets forgotten before they were full, and values refused, for want of room",
            lost,
        ),
    ]
}

/// Returns what the threads count on the path of every event.
fn meters(view: &View) -> Vec<Family> {
    let totals: Vec<(&str, u64, meter::Totals)> = view
        .services
        .iter()
        .map(|it| {
            let failed = it.counters.handshakes_failed.get();
            (&*it.name, failed, it.counters.meters.totals())
        })
        .collect();
    let sum = |measure| {
        let all = totals.iter();
        all.map(move |(name, _, it)| (of(name), it.of(measure)))
    };
    let time = sum(Measure::GuestNanoseconds);
    let time: Vec<(Labels, SeriesValue)> = time
        .map(|(labels, nanoseconds)| (labels, SeriesValue::Number(float(nanoseconds) / 1e9)))
        .collect();
    let handshakes = totals.iter().flat_map(|(name, failed, it)| {
        [
            ("server", "done", it.of(Measure::ServerHandshakes)),
            ("server", "failed", *failed),
            ("client", "done", it.of(Measure::ClientHandshakes)),
            ("client", "failed", it.of(Measure::ClientHandshakesFailed)),
        ]
        .map(|(role, result, count)| {
            let mut labels = labelled(name, "role", role);
            labels.push(("result".into(), result.to_owned()));
            (labels, count)
        })
    });
    let resumptions = totals.iter().flat_map(|(name, _, it)| {
        [
            ("server", it.of(Measure::ServerResumptions)),
            ("client", it.of(Measure::ClientResumptions)),
        ]
        .map(|(role, count)| (labelled(name, "role", role), count))
    });
    let messages = totals.iter().flat_map(|(name, _, it)| {
        [
            ("received", it.of(Measure::MessagesReceived)),
            ("sent", it.of(Measure::MessagesSent)),
            ("dropped", it.of(Measure::MessagesDropped)),
        ]
        .map(|(event, count)| (labelled(name, "event", event), count))
    });
    vec![
        Family::counter(
            "websocket_messages",
            "Messages of WebSocket clients, and to them and other readers of topics; dropped: for slow ones",
            messages,
        ),
        Family::counter(
            "received",
            "Bytes received from sockets, TLS included",
            sum(Measure::Received),
        )
        .of(Unit::Bytes),
        Family::counter(
            "sent",
            "Bytes sent to sockets, TLS included",
            sum(Measure::Sent),
        )
        .of(Unit::Bytes),
        Family::counter(
            "instance_turns",
            "Calls of guests; of async guests, turns of an instance",
            sum(Measure::GuestTurns),
        ),
        Family::new(
            "instance_time",
            "Time in these turns, with the host functions that guests call",
            Kind::Counter,
            time,
        )
        .of(Unit::Seconds),
        Family::counter(
            "tls_handshakes",
            "TLS handshakes, by the role of this end",
            handshakes,
        ),
        Family::counter(
            "tls_resumptions",
            "TLS handshakes that resumed a session",
            resumptions,
        ),
    ]
}
