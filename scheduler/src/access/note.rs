//! The note of a change, on its way to the transaction that makes the change: whoever lets a request in writes down who asks for
//! what, and whatever the request asks of the engine first carries it there.

use crate::store::AuditRow;
use std::sync::{Arc, Mutex, PoisonError};

tokio::task_local! {
    static NOTE: Arc<Note>;
}

#[derive(Debug)]
struct Note(Mutex<Option<Box<AuditRow>>>);

impl Note {
    fn take(&self) -> Option<Box<AuditRow>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Carries the note through what the request does; it comes back if no change took it.
pub(crate) async fn carry<F: Future>(row: AuditRow, request: F) -> (F::Output, Option<Box<AuditRow>>) {
    let note = Arc::new(Note(Mutex::new(Some(Box::new(row)))));
    let output = NOTE.scope(note.clone(), request).await;
    let left = note.take();
    (output, left)
}

/// What was there before, where only the request's body says what it is about; before the change is asked for.
pub(crate) fn set_before(before: String) {
    let _ = NOTE.try_with(|note| {
        if let Some(row) = note.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            row.before = before;
        }
    });
}

/// The note of the request at hand, once.
pub(crate) fn take() -> Option<Box<AuditRow>> {
    NOTE.try_with(|note| note.take()).ok().flatten()
}
