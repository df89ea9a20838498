//! A name that is being looked up.

use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::task::AbortHandle;

use netwasm_base::error::ConnectionError;
use netwasm_net::posix::Notice;

use crate::concurrent::permissions::Permissions;
use crate::local::Local;

/// The answer to a question.
pub(super) type Answer = Result<Vec<IpAddr>, ConnectionError>;

/// A look-up, whose descriptor becomes readable when it is done. Dropping it
/// gives up.
#[derive(Debug)]
pub(super) struct LookUp {
    state: Rc<Question>,
    task: Option<AbortHandle>,
}

#[derive(Debug)]
struct Question {
    done: Notice,
    answer: RefCell<Option<Answer>>,
}

impl Question {
    fn answer(&self, answer: Answer) {
        self.answer.replace(Some(answer));
        self.done.give();
    }
}

impl LookUp {
    /// Begins to look a name up, which the policy allows.
    ///
    /// # Errors
    /// Fails if no descriptor is left.
    pub(super) fn begin(
        local: &Rc<Local>,
        permissions: &Arc<Permissions>,
        name: String,
    ) -> io::Result<Self> {
        let state = Rc::new(Question {
            done: Notice::new()?,
            answer: RefCell::default(),
        });
        let thread = Rc::clone(&local.worker.thread);
        let (local, permissions) = (Rc::clone(local), Arc::clone(permissions));
        let mut looking: Pin<Box<dyn Future<Output = Answer>>> = Box::pin(async move {
            let addresses = local.worker.resolver.resolve_as_libc(&name).await?;
            permissions.remember(&name, &addresses);
            Ok(addresses)
        });
        // An answer that is known already needs no task.
        if let Poll::Ready(answer) = looking
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            state.answer(answer);
            return Ok(Self { state, task: None });
        }
        let waiting = Rc::clone(&state);
        let task = thread.spawn_local(async move {
            waiting.answer(looking.await);
        });
        Ok(Self {
            state,
            task: Some(task),
        })
    }

    /// Returns the answer; `None` if there is none yet.
    pub(super) fn answer(&self) -> Option<Answer> {
        self.state.answer.borrow().clone()
    }
}

impl AsFd for LookUp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.state.done.as_fd()
    }
}

impl Drop for LookUp {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
