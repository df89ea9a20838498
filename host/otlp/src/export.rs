//! Requests for the export of telemetry, and responses: `trace_service.proto`, and those
//! for logs and metrics, which have its form; `resource.proto`.

use prost::Message;

use crate::attributes::KeyValue;

/// `ExportTraceServiceRequest`, or that of logs or metrics.
#[derive(Clone, PartialEq, Message)]
pub struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    pub resources: Vec<ResourceTelemetry>,
}

/// `ResourceSpans`, `ResourceLogs` or `ResourceMetrics`.
#[derive(Clone, PartialEq, Message)]
pub struct ResourceTelemetry {
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// Messages of scopes, encoded.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub scopes: Vec<Vec<u8>>,
}

/// A service that reports.
#[derive(Clone, PartialEq, Message)]
pub struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

/// `ExportTraceServiceResponse`, or that of logs or metrics.
#[derive(Clone, PartialEq, Message)]
pub struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<PartialSuccess>,
}

/// `ExportTracePartialSuccess`, or that of logs or metrics.
#[derive(Clone, PartialEq, Message)]
pub struct PartialSuccess {
    /// Number of spans, records or points that were not taken.
    #[prost(int64, tag = "1")]
    pub rejected: i64,
    #[prost(string, tag = "2")]
    pub error_message: String,
}
