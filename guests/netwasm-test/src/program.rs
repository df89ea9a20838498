//! The end of a program (`wasi:cli/run`).

use crate::server::Server;

/// The end of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finished {
    /// The exit code; 0 is success.
    pub code: i32,
    /// The lines that the program printed to standard output.
    pub output: Vec<String>,
}

impl Server {
    /// Waits until a program ends by itself
    /// ([`crate::Component::start_program`]).
    ///
    /// # Panics
    /// Panics if it does not end within the time limit, or by a signal.
    #[track_caller]
    #[must_use = "the exit code tells if the program succeeded"]
    pub fn wait(mut self) -> Finished {
        let ended = self.wait_for(self.limit);
        let ended = ended.ok_or_else(|| format!("no end within {:?}", self.limit));
        self.log.wait_for_end(self.limit);
        let code = ended.and_then(|status| {
            let signal = || format!("the host was killed ({status})");
            status.code().ok_or_else(signal)
        });
        Finished {
            code: self.checked(code),
            output: self.log.output(),
        }
    }

    /// Like [`Self::wait`], after SIGTERM: a program with listeners of its own
    /// ends once its clients are done. There are no counts of a program.
    ///
    /// # Panics
    /// Panics as [`Self::wait`] does.
    #[track_caller]
    #[must_use = "the exit code tells if the program succeeded"]
    pub fn stop_program(self) -> Finished {
        let told = self.terminate();
        self.checked(told.map_err(|error| format!("SIGTERM cannot be sent: {error}")));
        self.wait()
    }
}
