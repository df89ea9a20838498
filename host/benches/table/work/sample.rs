//! The measurements of a work's turns.

use super::Work;
use crate::peers::Peer;

/// Latency of small requests beside bulk connections.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Beside {
    /// Number of bulk connections.
    pub(crate) connections: usize,
    /// Operations per second of the bulk connections.
    pub(crate) rate: f64,
    /// Latencies in seconds: the median, the 99th percentile, and the maximum.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) most: f64,
}

/// One measurement.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Sample {
    /// Operations per second, if that means something.
    pub(crate) rate: Option<f64>,
    /// Cost, in the unit of [`Work::unit`]; less is better.
    pub(crate) cost: f64,
    /// Seconds that the server waited, per second measured, while something
    /// else had its core.
    pub(crate) waited: Option<f64>,
    /// Latencies of small requests, for works that make them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) beside: Vec<Beside>,
}

impl Sample {
    pub(super) fn of_beside(beside: Vec<Beside>) -> Self {
        Self {
            beside,
            ..Self::of_cost(0.0)
        }
    }

    pub(super) fn of_cost(cost: f64) -> Self {
        Self {
            rate: None,
            cost,
            waited: None,
            beside: Vec::new(),
        }
    }
}

/// Results of one server in one work.
pub(crate) struct Outcome {
    pub(crate) peer: Peer,
    /// One sample per round, up to a failure.
    pub(crate) samples: Vec<Sample>,
    /// Reason why the server failed.
    pub(crate) failure: Option<String>,
}

/// Results of all servers in a work.
pub(crate) struct Done<'a> {
    pub(crate) work: &'a Work,
    pub(crate) outcomes: Vec<Outcome>,
}
