//! The swap that ends a compaction: the only part of it that needs the owner.
