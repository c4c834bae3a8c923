//! Deliberate errors, by name, for tests that must prove that they can see.
//!
//! A place in the code asks `mutants::on("name")` and goes wrong if it is told to. Without the
//! test-only feature `mutants` the answer is a constant `false`, and the compiler removes the branch.
//! With it, `set` chooses one error for the calling thread, so that several may be tried side by
//! side. It lies here because every crate that has such places knows this one.

#[cfg(feature = "mutants")]
mod switch {
    use std::cell::RefCell;

    thread_local! {
        static CHOSEN: RefCell<Option<String>> = const { RefCell::new(None) };
    }

    /// Chooses the error that this thread makes from now on; none makes it sound again.
    pub fn set(name: Option<&str>) {
        CHOSEN.with_borrow_mut(|chosen| *chosen = name.map(str::to_owned));
    }

    /// Whether this thread makes the error `name`.
    pub fn on(name: &str) -> bool {
        CHOSEN.with_borrow(|chosen| chosen.as_deref() == Some(name))
    }
}

#[cfg(feature = "mutants")]
pub use switch::{on, set};

/// Whether the error `name` is to be made: never, without the feature.
#[cfg(not(feature = "mutants"))]
#[inline]
pub const fn on(_name: &str) -> bool {
    false
}
