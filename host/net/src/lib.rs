//! Sockets, TLS, names and worker threads: byte streams and datagrams between
//! peers and whoever drives them, by traits. Nothing here knows what is spoken
//! there, or what a guest is made of.
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
//!   connect (dns, destinations) --> transport;  pool, parked: kept for the next
//! ```
//!
//! A byte goes from the socket to the thread's scratch buffer, from there to the
//! guest, and what the guest writes goes to the socket in the same call. Bytes
//! that a guest does not need to see (relays, files) do not leave the kernel.
//!
//! # Modules
//!
//! | module | lives there | does not |
//! | --- | --- | --- |
//! | [`io`] | descriptors in the runtime, and what their peers acknowledged | |
//! | [`turns`] | fairness: which of a worker's tasks goes on, and when sockets are looked at in between | what tasks do |
//! | [`health`] | how an instance fares, for whoever holds something of it | |
//! | [`files`], `sendfile`, [`queue`] | files beneath `--dir`; what is yet to be sent, and sending it | TLS |
//! | [`protocol`] | the grammar of events, without I/O | tokio |
//! | [`tls`], [`trust`] | certificates and sessions; whom outgoing TLS trusts | sockets |
//! | [`places`] | `--max-connections`: who gets a place, and what is closed for it | sockets |
//! | [`endpoint`], [`dns`], [`destinations`] | where to connect to; names to addresses; which of them to try first | connecting |
//! | [`mod@env`] | what all workers share | |
//! | [`thread`] | a worker's thread: clock, scratch buffers, tasks that it waits for | connections |
//! | [`transport`], [`relay`], `pipe` | a socket with its TLS session and its queue; deadlines, by what the peer acknowledged; copying natively from one to another | policy |
//! | [`pool`], [`parked`] | connections that are kept for the next: who gets one, and how it goes from worker to worker | waiting |
//! | [`stream`] | a connection as a guest's streams see it | WIT |
//! | [`listener`], [`incoming`] | bind, socket options, an accept that cannot fail the server; the same for sockets that a guest listens on | handshakes |
//! | [`guest`], [`service`] | the traits: who gets events, what is spoken on a listener | |
//! | [`connection`], [`udp`] | the drivers of byte streams and of datagrams | parsing |
//! | [`worker`] | a thread's connections, from accept to the end of a run | what is spoken |
//! | [`connect`], [`datagram`] | outgoing connections, and sockets of guests that await | |
//!
//! `unsafe` is denied but in `io`.

pub mod connect;
pub mod connection;
pub mod datagram;
pub mod destinations;
pub mod dns;
pub mod endpoint;
pub mod env;
pub mod files;
pub mod guest;
pub mod health;
pub mod incoming;
pub mod io;
pub mod listener;
pub mod parked;
mod pipe;
pub mod places;
pub mod pool;
pub mod protocol;
pub mod queue;
pub mod relay;
mod sendfile;
pub mod service;
pub mod stream;
#[doc(hidden)]
pub mod testing;
pub mod thread;
pub mod tls;
pub mod transport;
pub mod trust;
pub mod turns;
pub mod udp;
pub mod worker;
