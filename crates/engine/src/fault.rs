//! Panics and errors of a step as text, so that one request's bad luck ends neither the thread nor the others.

use std::any::Any;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs something that may panic; a panic becomes its text. What the work had under its hands is suspect then.
pub(crate) fn contained<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| message(panic.as_ref()))
}

/// Like [`contained`], for what may also fail.
pub(crate) fn tried<T, E: Display>(work: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    contained(work)?.map_err(|error| error.to_string())
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("panic").to_owned()
}
