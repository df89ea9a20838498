//! Work that an event guest begins and that ends as an event: outgoing
//! connections and resolver queries.

use std::rc::{Rc, Weak};

use netwasm_net::connect;
use netwasm_net::connection::Driver;
use netwasm_net::endpoint::{ConnectOptions, Endpoint};
use netwasm_net::tls::ClientTls;
use netwasm_net::worker::Worker;

use crate::instance::Instance;

/// Connects for a guest, and reports the result as an event.
pub(crate) async fn connect(
    worker: Rc<Worker>,
    instance: Weak<Instance>,
    token: u64,
    endpoint: Endpoint,
    client: Option<ClientTls>,
    options: ConnectOptions,
) {
    let result = connect::make(&worker, &endpoint, client.as_ref(), options).await;
    let Some(instance) = instance.upgrade() else {
        return;
    };
    match result {
        Err(error) => {
            tracing::debug!(%error, "cannot connect");
            // A trap is already logged.
            let _ = instance.connect_failed(token, &error);
        }
        Ok(transport) => match instance.connected(token, &transport) {
            Ok(connection) => {
                worker.env().counters.connections_made.add();
                let driver =
                    Driver::connected(Rc::clone(&transport), Rc::clone(&instance), connection);
                worker.drive(&transport, driver);
            }
            Err(_) => transport.release(),
        },
    }
}

/// Resolves a name for a guest, and reports the answer as an event.
pub(crate) async fn resolve(
    worker: Rc<Worker>,
    instance: Weak<Instance>,
    token: u64,
    host: String,
) {
    let answer = worker.resolver.resolve(&host).await;
    if let Some(instance) = instance.upgrade() {
        // A trap is already logged.
        let _ = instance.resolved(token, answer);
    }
}
