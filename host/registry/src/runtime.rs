//! The runtime of an operation: pulling and pushing block their caller.

use std::io;

use tokio::runtime::Builder;

use crate::error::Error;

/// Runs an operation to its end, on a runtime of its own.
pub(crate) fn run<T>(operation: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error: io::Error| {
        Error::Setting(format!(
            "the system gives no descriptors for a runtime: {error}"
        ))
    })?;
    let result = runtime.block_on(operation);
    // A look-up of a name cannot be ended, and is not waited for.
    runtime.shutdown_background();
    result
}
