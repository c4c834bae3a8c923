//! Rules of one module, beside it.
