//! The node's one bound on large requests of Kafka clients (`queued.max.request.bytes`).
//!
//! The bytes of a large frame are taken from it before anything is allocated for the frame, and go
//! back when the last slice of the frame is dropped: for batches, when they are in the log. While it
//! is used up, connections with large frames are not read; small ones are served on.
//!
//! Half of the memory is for frames of more than an eighth of all of it, half for those of usual
//! size, so that a few huge requests do not keep everybody else waiting. A frame larger than its half
//! takes all of that half, alone.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A frame of more than this part of the memory is a huge one.
const HUGE_FRACTION: usize = 8;

/// Memory for requests under way.
#[derive(Debug)]
pub(crate) struct RequestMemory {
    usual: Half,
    huge: Half,
    /// The largest frame of usual size.
    usual_max: usize,
}

#[derive(Debug)]
struct Half {
    free: Arc<Semaphore>,
    total: usize,
}

impl Half {
    fn new(total: usize) -> Self {
        let free = Arc::new(Semaphore::new(total));
        Self { free, total }
    }
}

impl RequestMemory {
    /// `total` in bytes; less than 4 GiB.
    pub(crate) fn new(total: usize) -> Self {
        let total = total.min(u32::MAX as usize).min(Semaphore::MAX_PERMITS);
        Self {
            usual: Half::new(total / 2),
            huge: Half::new(total - total / 2),
            usual_max: total / HUGE_FRACTION,
        }
    }

    /// Waits for room for a frame, first come, first served, and allocates it.
    pub(crate) async fn frame(&self, size: usize) -> LargeFrame {
        let half = if size > self.usual_max {
            &self.huge
        } else {
            &self.usual
        };
        let free = Arc::clone(&half.free);
        let share = size.min(half.total) as u32;
        // Fails only if the semaphore is closed, which nobody does.
        let share = Arc::clone(&free).acquire_many_owned(share).await.ok();
        LargeFrame {
            bytes: BytesMut::with_capacity(size),
            size,
            share,
            free,
        }
    }
}

/// A large frame while it arrives.
#[derive(Debug)]
pub(crate) struct LargeFrame {
    /// What has arrived of it.
    pub(crate) bytes: BytesMut,
    size: usize,
    share: Option<OwnedSemaphorePermit>,
    /// What its share is taken from.
    free: Arc<Semaphore>,
}

impl LargeFrame {
    /// Bytes still to come.
    pub(crate) fn missing(&self) -> usize {
        self.size - self.bytes.len()
    }

    /// Whether nothing is left beside it: who wants some has to wait.
    pub(crate) fn is_in_demand(&self) -> bool {
        self.free.available_permits() == 0
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
        let memory = RequestMemory::new(200);
        let mut frame = memory.frame(60).await;
        assert!(memory.frame(41).now_or_never().is_none());
        frame.bytes.extend_from_slice(&[1; 60]);
        let records = frame.into_bytes().slice(10..20);
        assert!(memory.frame(41).now_or_never().is_none());
        drop(records);
        assert!(memory.frame(100).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_frame_larger_than_its_half_comes_alone_and_leaves_the_other_half() {
        let memory = RequestMemory::new(200);
        let frame = memory.frame(1_000).await;
        assert!(frame.is_in_demand());
        assert!(memory.frame(26).now_or_never().is_none());
        let mut usual = Vec::new();
        for _ in 0..4 {
            usual.push(memory.frame(25).now_or_never().unwrap());
        }
        assert!(usual[0].is_in_demand());
        assert!(memory.frame(1).now_or_never().is_none());
        drop(frame);
        assert!(memory.frame(26).now_or_never().is_some());
        usual.pop();
        assert!(!usual[0].is_in_demand());
        assert!(memory.frame(25).now_or_never().is_some());
    }
}
