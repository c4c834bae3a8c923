//! The node's one bound on large requests of Kafka clients (`queued.max.request.bytes`).
//!
//! The bytes of a large frame are taken from it before anything is allocated for the frame, and go
//! back when the last slice of the frame is dropped: for batches, when they are in the log. While it
//! is used up, connections with large frames are not read; small ones are served on.
//!
//! A frame larger than all of the memory takes all of it, alone.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory for requests under way.
#[derive(Debug)]
pub(crate) struct RequestMemory {
    free: Arc<Semaphore>,
    total: usize,
}

impl RequestMemory {
    /// `total` in bytes; less than 4 GiB.
    pub(crate) fn new(total: usize) -> Self {
        let total = total.min(u32::MAX as usize).min(Semaphore::MAX_PERMITS);
        Self {
            free: Arc::new(Semaphore::new(total)),
            total,
        }
    }

    /// Waits for room for a frame, first come, first served, and allocates it.
    pub(crate) async fn frame(&self, size: usize) -> LargeFrame {
        let share = size.min(self.total) as u32;
        // Fails only if the semaphore is closed, which nobody does.
        let share = Arc::clone(&self.free).acquire_many_owned(share).await.ok();
        LargeFrame {
            bytes: BytesMut::with_capacity(size),
            size,
            share,
        }
    }

    /// Whether all of it is used.
    pub(crate) fn is_short(&self) -> bool {
        self.free.available_permits() == 0
    }
}

/// A large frame while it arrives.
#[derive(Debug)]
pub(crate) struct LargeFrame {
    /// What has arrived of it.
    pub(crate) bytes: BytesMut,
    size: usize,
    share: Option<OwnedSemaphorePermit>,
}

impl LargeFrame {
    /// Bytes still to come.
    pub(crate) fn missing(&self) -> usize {
        self.size - self.bytes.len()
    }

    /// The whole frame, which keeps its share until its last slice is dropped.
    pub(crate) fn into_bytes(self) -> Bytes {
        debug_assert!(self.missing() == 0, "the frame is not whole");
        Bytes::from_owner(Held {
            bytes: self.bytes,
            _share: self.share,
        })
    }
}

/// A frame and its share of the memory.
struct Held {
    bytes: BytesMut,
    _share: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_frame_holds_its_share_until_its_last_slice_is_dropped() {
        let memory = RequestMemory::new(100);
        let mut frame = memory.frame(60).await;
        assert!(memory.frame(41).now_or_never().is_none());
        frame.bytes.extend_from_slice(&[1; 60]);
        let records = frame.into_bytes().slice(10..20);
        assert!(memory.frame(41).now_or_never().is_none());
        drop(records);
        assert!(memory.frame(100).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_frame_larger_than_the_memory_comes_alone() {
        let memory = RequestMemory::new(100);
        let frame = memory.frame(1_000).await;
        assert!(memory.is_short());
        assert!(memory.frame(1).now_or_never().is_none());
        drop(frame);
        assert!(memory.frame(1).now_or_never().is_some());
    }
}
