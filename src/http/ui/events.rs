//! Telling open pages that something has changed, so that they fetch themselves again.

use super::{Result, Ui};
use crate::coordinate::storage::Storage;
use crate::http::problem::{self, Problem};
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

/// Pages that are told at a time, 64: each keeps a connection open. Further ones ask every few seconds.
const STREAMS_MAX: usize = 64;

/// How often it is looked for changes while there are open pages.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The least time between two messages to a page: each makes it fetch itself.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// How often pages fetch themselves in a second, all together: with more than ten open ones each is told less often.
const FETCHES_PER_SECOND: u32 = 5;

/// How long a stream is silent at most, so that both sides see when the other one is gone.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// The open pages.
#[derive(Debug)]
pub(in crate::http) struct Visible {
    places: Arc<Semaphore>,
    state: watch::Sender<Seen>,
    is_watching: AtomicBool,
}

/// What open pages are told by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    commits: u64,
    is_stopping: bool,
}

impl Default for Visible {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(STREAMS_MAX)),
            state: watch::Sender::default(),
            is_watching: AtomicBool::new(false),
        }
    }
}

impl Visible {
    /// Ends all streams.
    pub(in crate::http) fn stop(&self) {
        self.state.send_modify(|seen| seen.is_stopping = true);
    }

    /// Notes how many commits there were.
    fn note(&self, commits: u64) {
        self.state.send_if_modified(|seen| {
            let is_new = seen.commits != commits;
            seen.commits = commits;
            is_new
        });
    }
}

/// A page's stream.
struct Stream {
    changes: watch::Receiver<Seen>,
    has_begun: bool,
    places: Arc<Semaphore>,
    _place: OwnedSemaphorePermit,
}

impl Stream {
    /// The next message; `None` at the end.
    async fn next(&mut self) -> Option<&'static str> {
        if !self.has_begun {
            self.has_begun = true;
            // Something may have changed since the page was made.
            return Some("retry: 3000\nevent: changed\ndata: \n\n");
        }
        match timeout(SILENCE_MAX, self.changes.changed()).await {
            Err(_) => Some(": nothing new\n\n"),
            Ok(Err(_)) => None,
            Ok(Ok(())) if self.changes.borrow_and_update().is_stopping => None,
            Ok(Ok(())) => Some("event: changed\ndata: \n\n"),
        }
    }

    /// The same after the time that is between two messages.
    async fn pause(&mut self) {
        // On a receiver of its own, since it counts what it looks at as seen.
        let mut changes = self.changes.clone();
        let stopped = changes.wait_for(|seen| seen.is_stopping);
        let open = u32::try_from(STREAMS_MAX - self.places.available_permits());
        let all = Duration::from_secs(1) * open.unwrap_or(u32::MAX) / FETCHES_PER_SECOND;
        // Changes until then are one message.
        let _ = timeout(all.max(TELL_EVERY), stopped).await;
    }
}

/// `GET /ui/events`.
pub(super) async fn stream<S: Storage>(State(ui): State<Arc<Ui<S>>>) -> Result<Response> {
    let visible = &ui.visible;
    let place = Arc::clone(&visible.places)
        .try_acquire_owned()
        .map_err(|_| {
            let detail =
                format!("{STREAMS_MAX} pages are told about changes already; ask again later");
            Problem::new(problem::BUSY, detail)
        })?;
    let mut changes = visible.state.subscribe();
    changes.mark_unchanged();
    let first = Stream {
        changes,
        has_begun: false,
        places: Arc::clone(&visible.places),
        _place: place,
    };
    // The thread is the only one that does this.
    if !visible.is_watching.swap(true, Ordering::Relaxed) {
        tokio::spawn(look_for_changes(Arc::clone(&ui)));
    }
    let messages = stream::unfold(first, async |mut stream| {
        let was_begun = stream.has_begun;
        if was_begun {
            stream.pause().await;
        }
        let message = stream.next().await?;
        Some((Ok::<_, Infallible>(message), stream))
    });
    let media = [(CONTENT_TYPE, "text/event-stream")];
    Ok((media, Body::from_stream(messages)).into_response())
}

/// Looks for changes as long as there are open pages.
async fn look_for_changes<S: Storage>(ui: Arc<Ui<S>>) {
    let visible = &ui.visible;
    while visible.state.receiver_count() > 0 && !visible.state.borrow().is_stopping {
        if let Ok(scrape) = ui.scrape().await {
            visible.note(scrape.snapshot.totals.outcomes[0]);
        }
        sleep(LOOK_EVERY).await;
    }
    visible.is_watching.store(false, Ordering::Relaxed);
}
