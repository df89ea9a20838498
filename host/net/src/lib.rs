//! Sockets, TLS, DNS and worker threads. The crate moves byte streams and
//! datagrams between peers and drivers, which it knows by traits. It knows
//! neither the protocols spoken on them nor how guests are built.
//!
//! ```text
//!   listener --accept--> worker --Service::accept--> a driver, one task each
//!                          |                            |
//!                          | clock, turns               v
//!   peer <== socket <== transport (queue, tls) <==> connection --EventGuest--> guest
//!                          |  relay (splice)
//!                          |  sendfile
//!   peer <== datagrams <== udp ------------------------------DatagramGuest--> guest
//!
//!   connect (dns, destinations) --> transport;  pool, parked: kept for reuse
//! ```
//!
//! A byte goes from the socket to the thread's scratch buffer and from there to
//! the guest. What the guest writes goes to the socket in the same call. Bytes
//! that a guest does not need to see (relays, files) do not leave the kernel.
//!
//! # Modules
//!
//! | module | contents | not here |
//! | --- | --- | --- |
//! | [`io`] | descriptors in the runtime, and what their peers acknowledged | |
//! | [`turns`] | fairness: which of a worker's tasks runs next, and when sockets are polled in between | what tasks do |
//! | [`health`] | the state of an instance, for holders of its parts | |
//! | [`options`] | options of sockets that guests may set | |
//! | [`files`], `sendfile`, [`queue`] | files beneath `--dir`; the write queue, and sending it | TLS |
//! | [`protocol`] | the grammar of events, without I/O | tokio |
//! | [`tls`], [`trust`], `verifier` | certificates and sessions; trust roots of outgoing TLS; verifying peers | sockets |
//! | [`clients`] | who may connect, and how much each client may ask for | sockets |
//! | [`permits`] | budgets of a service within those of the process | what they are for |
//! | [`of_listener`] | numbers of a listener's connections | |
//! | [`places`] | `--max-connections`: which connection gets a place, and which is closed for it | sockets |
//! | [`endpoint`], [`dns`], [`destinations`] | where to connect to; names to addresses; the order in which addresses are tried | connecting |
//! | [`upstream`] | groups of servers: which one gets a request; their health | protocols, waiting |
//! | `checks` | checks of these servers, and of what their names lead to | what follows from them |
//! | [`mod@env`] | state that all workers share | |
//! | [`thread`] | a worker's thread: clock, scratch buffers, tasks that it waits for | connections |
//! | [`transport`], [`relay`], [`portion`], `pipe` | a socket with its TLS session and its queue; deadlines, by what the peer acknowledged; native copying between connections, of all or of a part | policy |
//! | [`pool`], [`parked`] | connections kept for reuse: who gets one, and how it moves between workers | waiting |
//! | [`kept`] | connections to servers that a worker keeps for its next requests | |
//! | [`stream`] | a connection as a guest's streams see it | WIT |
//! | [`accept`] | an accept that cannot fail the server; the place of a preamble before TLS | handshakes |
//! | [`proxy`] | the PROXY protocol: headers of proxies, and those for servers | I/O |
//! | `passed` | sockets that the service manager has opened |
//! | [`unix`] | Unix sockets: their addresses, and their files |
//! | [`handing`] | sockets handed to another process | which |
//! | `tcp` | options of the host's own TCP sockets |
//! | [`listener`], [`incoming`] | bind and socket options; the connections of listeners that a guest opens | |
//! | [`guest`], [`service`] | the traits of event-driven guests, and of services on listeners | |
//! | [`connection`], [`udp`] | the drivers of byte streams and of datagrams | parsing |
//! | [`worker`] | a thread's connections, from accept to the end of a run | protocols |
//! | [`tunnel`] | two connections joined to one | |
//! | [`posix`] | sockets and watch lists of programs that bring their own event loop | policy |
//! | [`direct`] | connections of the host itself: to registries, and to stores of keys and values | policy, TLS |
//! | [`connect`], [`datagram`] | outgoing connections; datagram sockets that guests open | |
//!
//! `unsafe` is denied except in `io` and `passed`.

pub mod accept;
mod checks;
pub mod clients;
pub mod connect;
pub mod connection;
pub mod datagram;
pub mod destinations;
pub mod direct;
pub mod dns;
pub mod endpoint;
pub mod env;
pub mod files;
pub mod guest;
pub mod handing;
pub mod health;
pub mod incoming;
pub mod io;
pub mod kept;
pub mod listener;
pub mod of_listener;
pub mod options;
pub mod parked;
mod passed;
pub mod permits;
mod pipe;
pub mod places;
pub mod pool;
pub mod portion;
pub mod posix;
pub mod protocol;
pub mod proxy;
pub mod queue;
pub mod relay;
mod sendfile;
pub mod service;
pub mod stream;
mod tcp;
#[doc(hidden)]
pub mod testing;
pub mod thread;
pub mod tls;
pub mod transport;
pub mod trust;
pub mod tunnel;
pub mod turns;
pub mod udp;
pub mod unix;
pub mod upstream;
mod verifier;
pub mod worker;
