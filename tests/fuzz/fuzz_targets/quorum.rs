//! What a member of the quorum reads from others and from its disk: whatever the bytes, an error or
//! something that is written as it was read.
#![no_main]

use bytes::Bytes;
use conveyor_quorum::store::decoders;
use conveyor_quorum::{Membership, MembershipChange, Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // Most mutations fail the checksum; mend it, so that the rest is reached.
    let mut mended = data.to_vec();
    mended.extend_from_slice(&crc32fast::hash(data).to_be_bytes());
    for bytes in [Bytes::copy_from_slice(data), Bytes::from(mended)] {
        if let Ok(message) = Message::decode(&bytes) {
            assert_eq!(message.encode(), bytes);
        }
        decoders::snapshot(&bytes);
        decoders::slot(&bytes);
        decoders::entries(&bytes, 0);
    }
    if let Ok(membership) = Membership::decode(data) {
        assert_eq!(Membership::decode(&membership.encode()), Ok(membership));
    }
    if let Ok(change) = MembershipChange::decode(data) {
        assert_eq!(MembershipChange::decode(&change.encode()), Ok(change));
    }
});
