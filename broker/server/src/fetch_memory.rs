//! The node's one bound on records that are read and not yet handed to a connection.
//!
//! A response takes the room it may need once, before it reads, and waits for it holding nothing;
//! so two responses cannot wait for each other. What was read then owns its share: the share goes
//! back when the last slice of the records is dropped, which is when the connection has taken them.
//! Room that was not filled goes back as soon as the response is put together.
//!
//! A first batch that is larger than the room comes whole all the same, so the bound may be passed by
//! less than one batch for each response under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory for fetched records, `conveyor.fetch.memory.bytes`.
#[derive(Debug)]
pub(crate) struct FetchMemory {
    free: Arc<Semaphore>,
    total: usize,
    waiting: AtomicUsize,
}

impl FetchMemory {
    /// `total` in bytes; less than 4 GiB.
    pub(crate) fn new(total: usize) -> Self {
        let total = total.min(u32::MAX as usize).min(Semaphore::MAX_PERMITS);
        Self {
            free: Arc::new(Semaphore::new(total)),
            total,
            waiting: AtomicUsize::new(0),
        }
    }

    /// Whether somebody waits for room.
    pub(crate) fn is_short(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// The largest room there can be, in bytes.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Waits for room for a response of at most this many bytes (no more than the total), first
    /// come, first served. Call it without holding any other room.
    pub(crate) async fn room(&self, bytes: usize) -> Room {
        let bytes = bytes.min(self.total) as u32;
        let free = Arc::clone(&self.free);
        let permit = match free.try_acquire_many_owned(bytes) {
            Ok(permit) => Some(permit),
            Err(_) => self.wait(bytes).await,
        };
        Room {
            permit,
            free: Arc::clone(&self.free),
        }
    }

    async fn wait(&self, bytes: u32) -> Option<OwnedSemaphorePermit> {
        let _waiting = Waiting::new(&self.waiting);
        // Fails only if the semaphore is closed, which nobody does.
        Arc::clone(&self.free).acquire_many_owned(bytes).await.ok()
    }
}

/// One of those who wait, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Room of one response; what is left of it goes back when it is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    permit: Option<OwnedSemaphorePermit>,
    free: Arc<Semaphore>,
}

impl Room {
    /// Gives the records their share of the room, kept until the last of their slices is dropped.
    pub(crate) fn hold(&mut self, records: Bytes) -> Bytes {
        if records.is_empty() {
            return records;
        }
        let left = self
            .permit
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        let within = records.len().min(left);
        let mut share = self.permit.as_mut().and_then(|permit| permit.split(within));
        // A first batch larger than the room: counted as far as that is possible without waiting.
        let excess = u32::try_from(records.len() - within).unwrap_or(u32::MAX);
        if excess > 0
            && let Some(share) = share.as_mut()
            && let Ok(extra) = Arc::clone(&self.free).try_acquire_many_owned(excess)
        {
            share.merge(extra);
        }
        Bytes::from_owner(Held {
            records,
            _share: share,
        })
    }
}

/// Records and their share of the memory.
struct Held {
    records: Bytes,
    _share: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.records
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn records_hold_their_share_until_their_last_slice_is_dropped() {
        let memory = FetchMemory::new(100);
        let mut room = memory.room(80).await;
        assert_eq!(memory.free.available_permits(), 20);
        let records = room.hold(Bytes::from_static(&[7; 30]));
        drop(room);
        assert_eq!(memory.free.available_permits(), 70, "the rest went back");
        let slice = records.slice(10..20);
        drop(records);
        assert_eq!(memory.free.available_permits(), 70);
        assert_eq!(&slice[..], &[7; 10]);
        drop(slice);
        assert_eq!(memory.free.available_permits(), 100);
    }

    #[tokio::test]
    async fn a_response_waits_for_room_and_never_for_more_than_there_is() {
        let memory = FetchMemory::new(100);
        let mut all = memory.room(1_000).await;
        assert!(memory.room(1).now_or_never().is_none());
        let records = all.hold(Bytes::from_static(&[1; 60]));
        drop(all);
        assert!(memory.room(41).now_or_never().is_none());
        assert!(memory.room(40).now_or_never().is_some());
        drop(records);
        assert!(memory.room(100).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_batch_larger_than_its_room_is_counted_as_far_as_possible() {
        let memory = FetchMemory::new(100);
        let mut room = memory.room(10).await;
        let records = room.hold(Bytes::from_static(&[1; 50]));
        assert_eq!(memory.free.available_permits(), 50);
        drop((room, records));
        let mut room = memory.room(10).await;
        let records = room.hold(Bytes::from_static(&[1; 500]));
        assert_eq!(memory.free.available_permits(), 90);
        drop((room, records));
        assert_eq!(memory.free.available_permits(), 100);
    }
}
