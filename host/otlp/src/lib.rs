//! Messages of the OpenTelemetry protocol (OTLP 1.x), as far as netwasm has them:
//! fields that neither the host nor `wasi:otel` fills are left out.
//!
//! ```text
//!   guest --wasi:otel--> netwasm-runtime --ScopeSpans, ScopeLogs, ScopeMetrics--+
//!                                                                     (encoded) |
//!   spans of the host --> netwasm --ScopeSpans--> ExportRequest <---------------+
//!                                                       |
//!                                                       v  HTTP, protobuf
//!                                             the receiver of --otlp
//! ```
//!
//! The crate that has all messages brings the SDK and gRPC. These few are written by
//! hand. Fields have the names, units and numbers of the `.proto` files.
//! The sender decides their values.
//!
//! # Modules
//!
//! | module | contents |
//! | --- | --- |
//! | [`attributes`] | scopes, attributes and their values: `common.proto` |
//! | [`trace`] | spans: `trace.proto` |
//! | [`logs`] | records of logs: `logs.proto` |
//! | [`metrics`] | metrics and their points: `metrics.proto` |
//! | [`export`] | requests that carry any of them, and responses: `*_service.proto`, `resource.proto` |

#![expect(
    missing_docs,
    reason = "the fields are those of the .proto files, which describe them"
)]

pub mod attributes;
pub mod export;
pub mod logs;
pub mod metrics;
pub mod trace;
