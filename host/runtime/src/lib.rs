//! Components: the engines that compile and instantiate them, their instances,
//! and their host functions.
//!
//! ```text
//!   files --> assembly, kind ---> loading (cache, code) --> engine (room), fit
//!                                   |                         |
//!                                inspect                      v
//!                                          a program, ready to make instances of
//!                                                             |
//!                                                             v
//!   drivers --EventGuest, Handler--> guests --> instance, or concurrent::*
//!                                                  |
//!                                                  v  host calls
//!                                     host, wasi, concurrent::* --> policy --> net
//! ```
//!
//! There are two engines. Events call a guest synchronously ([`instance`]).
//! Async guests (handlers of streams and of `wasi:http`, and programs) have
//! their own engine (`concurrent`), whose instances are tasks.
//!
//! # Modules
//!
//! | module | contents | not there |
//! | --- | --- | --- |
//! | `kind`, `core_module`, `component`, `fit` | what drives a component; a component of a core module; its bytes, before any engine; its exports and imports, and whether this host can run it | running it |
//! | `handles`, `bindings`, `convert` | the types behind WIT handles; the types of the WIT package; conversions to and from ours | rules |
//! | `composition`, `assembly` | a component with those that are plugged into it; the bytes of a component from all its files | engines |
//! | `steps`, `room`, `cache`, `code` | interrupting slow calls; the room an instance takes, and how many connections fit; what is kept between runs; loading compiled code | instances |
//! | `hand_back`, `moving` | bodies: returning a file to the connection; reporting progress | |
//! | `guest_log`, `frames`, `served`, `wasi` | guest output in the log; where a guest trapped, and which clients it served then; WASI for event guests | |
//! | [`stores`] | the buckets of a run | what a bucket does |
//! | `joined` | topics that are joined with those of other processes | topics, servers |
//! | `local` | state shared by the instances of a run, and by those of a thread | |
//! | `blobs` | the containers of `wasi:blobstore`, which are directories | their host functions |
//! | `measures` | the metrics that an instance has opened, and their host functions | values |
//! | `sharing` | the host functions of the state that a service's instances share | the state |
//! | `timed`, `memory` | the time in guests, for metrics; limits on the growth of memories | |
//! | `standard` | standard interfaces that are no part of WASI 0.2 and 0.3: logging, configuration, keys and values, telemetry | stores, the exporter |
//! | `state`, `host`, `later`, `timer`, `numbers`, `pooling` | the host's state of an event instance; its host functions, thin; work that ends as an event; its one timer; objects behind numbers; pools, and places in them | rules |
//! | `forwards`, `decisions`, `responses`, `inlets` | what an event guest decides about a request, to forward it or another; responses that an event instance makes later or piece by piece; bodies of requests that it reads as events | HTTP |
//! | `event_program`, [`instance`] | a component driven by events; its instances | |
//! | `concurrent` | async guests: their programs, instances and host functions | |
//! | `loading`, `engine` | reading, compiling, and loading code; the engines, and linking | |
//! | [`guests`] | which connections share an instance; what drivers get | HTTP |
//! | [`inspect`] | the report on a component | |
//!
//! `unsafe` is denied except in `code`, which loads compiled code.

mod assembly;
mod bindings;
mod blobs;
mod cache;
mod code;
mod component;
mod composition;
mod concurrent;
mod convert;
mod core_module;
mod decisions;
mod engine;
mod event_program;
mod fit;
mod forwards;
mod frames;
mod guest_log;
pub mod guests;
mod hand_back;
mod handles;
mod host;
mod inlets;
pub mod inspect;
pub mod instance;
mod joined;
mod kind;
mod later;
mod loading;
mod local;
mod measures;
mod memory;
mod moving;
mod numbers;
mod pooling;
mod responses;
mod room;
mod served;
mod sharing;
mod standard;
mod state;
mod steps;
pub mod stores;
mod timed;
mod timer;
mod wasi;

pub use cache::{Fingerprint, Stamps, directory as cache_directory};
pub use loading::compile;
pub use room::{connections_by_mappings, is_pagemap_scan_available, mappings_of_instances};
pub use wasmtime_environ::VERSION as WASMTIME;
