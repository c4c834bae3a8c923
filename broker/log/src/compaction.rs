//! Compaction by key, beside the owner; only the swap of files needs `&mut Log`.
