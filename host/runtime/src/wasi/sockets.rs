//! `wasi:sockets`, which denies every call. The standard libraries of some
//! languages import it whether they use it or not: CPython's does.
//!
//! No socket can be made, so that all functions that take one are never called.

use tracing::Level;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime_wasi::p2::IoError;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily};

use super::{WasiHost, drop_handle, instance, table};

/// The capability to use the network, which allows nothing here.
struct Network;

/// Resources of which there is none.
enum NoTcpSocket {}
enum NoUdpSocket {}
enum NoIncoming {}
enum NoOutgoing {}
enum Answers {}

/// Functions that take a resource of which there is none, by interface.
const METHODS: [(&str, &str, &[&str]); 5] = [
    (
        "tcp",
        "tcp-socket",
        &[
            "start-bind",
            "finish-bind",
            "start-connect",
            "finish-connect",
            "start-listen",
            "finish-listen",
            "accept",
            "local-address",
            "remote-address",
            "is-listening",
            "address-family",
            "set-listen-backlog-size",
            "keep-alive-enabled",
            "set-keep-alive-enabled",
            "keep-alive-idle-time",
            "set-keep-alive-idle-time",
            "keep-alive-interval",
            "set-keep-alive-interval",
            "keep-alive-count",
            "set-keep-alive-count",
            "hop-limit",
            "set-hop-limit",
            "receive-buffer-size",
            "set-receive-buffer-size",
            "send-buffer-size",
            "set-send-buffer-size",
            "subscribe",
            "shutdown",
        ],
    ),
    (
        "udp",
        "udp-socket",
        &[
            "start-bind",
            "finish-bind",
            "stream",
            "local-address",
            "remote-address",
            "address-family",
            "unicast-hop-limit",
            "set-unicast-hop-limit",
            "receive-buffer-size",
            "set-receive-buffer-size",
            "send-buffer-size",
            "set-send-buffer-size",
            "subscribe",
        ],
    ),
    ("udp", "incoming-datagram-stream", &["receive", "subscribe"]),
    (
        "udp",
        "outgoing-datagram-stream",
        &["check-send", "send", "subscribe"],
    ),
    (
        "ip-name-lookup",
        "resolve-address-stream",
        &["resolve-next-address", "subscribe"],
    ),
];

pub(super) fn add_to_linker<T: WasiHost>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    add_resource::<T, Network>(linker, "network", "network")?;
    add_resource::<T, NoTcpSocket>(linker, "tcp", "tcp-socket")?;
    add_resource::<T, NoUdpSocket>(linker, "udp", "udp-socket")?;
    add_resource::<T, NoIncoming>(linker, "udp", "incoming-datagram-stream")?;
    add_resource::<T, NoOutgoing>(linker, "udp", "outgoing-datagram-stream")?;
    add_resource::<T, Answers>(linker, "ip-name-lookup", "resolve-address-stream")?;
    for (interface, resource, methods) in METHODS {
        let mut l = instance(linker, &format!("wasi:sockets/{interface}"))?;
        for method in methods {
            l.func_new(&format!("[method]{resource}.{method}"), |_, _, _, _| {
                wasmtime::bail!("a handler has no sockets of its own")
            })?;
        }
    }
    instance(linker, "wasi:sockets/network")?.func_wrap(
        "network-error-code",
        |_: StoreContextMut<'_, T>, (_,): (Resource<IoError>,)| Ok((None::<ErrorCode>,)),
    )?;
    instance(linker, "wasi:sockets/instance-network")?.func_wrap(
        "instance-network",
        |mut store: StoreContextMut<'_, T>, (): ()| Ok((table(store.data_mut()).push(Network)?,)),
    )?;
    instance(linker, "wasi:sockets/tcp-create-socket")?.func_wrap(
        "create-tcp-socket",
        |mut store: StoreContextMut<'_, T>, (_,): (IpAddressFamily,)| {
            Ok((denied::<T, NoTcpSocket>(&mut store),))
        },
    )?;
    instance(linker, "wasi:sockets/udp-create-socket")?.func_wrap(
        "create-udp-socket",
        |mut store: StoreContextMut<'_, T>, (_,): (IpAddressFamily,)| {
            Ok((denied::<T, NoUdpSocket>(&mut store),))
        },
    )?;
    instance(linker, "wasi:sockets/ip-name-lookup")?.func_wrap(
        "resolve-addresses",
        |mut store: StoreContextMut<'_, T>, (_, _): (Resource<Network>, String)| {
            Ok((denied::<T, Answers>(&mut store),))
        },
    )
}

fn add_resource<T: WasiHost, R: Send + 'static>(
    linker: &mut Linker<T>,
    interface: &str,
    resource: &str,
) -> wasmtime::Result<()> {
    instance(linker, &format!("wasi:sockets/{interface}"))?.resource(
        resource,
        ResourceType::host::<R>(),
        drop_handle::<T, R>,
    )
}

/// Returns an error in place of a resource, and tells the log what to use.
fn denied<T: WasiHost, R: 'static>(
    store: &mut StoreContextMut<'_, T>,
) -> Result<Resource<R>, ErrorCode> {
    let advice = "a handler has no sockets of its own: netwasm:net/connector opens connections, \
                  and resolver looks names up";
    store
        .data_mut()
        .wasi()
        .setup
        .0
        .log
        .write(Level::WARN, advice);
    Err(ErrorCode::AccessDenied)
}
