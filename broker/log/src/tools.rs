//! Read-only views of a partition folder, for `log dump` and `log verify`.
