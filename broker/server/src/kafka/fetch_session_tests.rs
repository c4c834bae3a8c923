//! Sessions by their rules: epochs, what is told, who gives way.

use bytes::Bytes;
use conveyor_kafka::messages::fetch::{FetchPartition, FetchTopic, ForgottenTopic};

use super::*;

fn request(session_id: i32, session_epoch: i32, partitions: &[(i32, i64)]) -> FetchRequest {
    let partitions = partitions
        .iter()
        .map(|(partition, fetch_offset)| FetchPartition {
            partition: *partition,
            fetch_offset: *fetch_offset,
            ..FetchPartition::default()
        });
    let topics = vec![FetchTopic {
        topic: "t".into(),
        partitions: partitions.collect(),
        ..FetchTopic::default()
    }];
    FetchRequest {
        session_id,
        session_epoch,
        topics: if topics[0].partitions.is_empty() {
            Vec::new()
        } else {
            topics
        },
        ..FetchRequest::default()
    }
}

fn answer(high_watermark: i64, records: &'static [u8], error_code: i16) -> PartitionData {
    PartitionData {
        error_code,
        high_watermark,
        records: Some(Bytes::from_static(records)),
        ..PartitionData::default()
    }
}

fn open(sessions: &FetchSessions, request: FetchRequest) -> Result<FetchContext, ErrorCode> {
    sessions.open(request, false, |_| None, Instant::now())
}

/// Partition and offset of each that is to be read, in order.
fn read(context: &FetchContext) -> Vec<(i32, i64)> {
    let wanted = context.wanted().iter();
    wanted
        .map(|wanted| (wanted.partition, wanted.fetch_offset))
        .collect()
}

/// A session of partitions 0 to 2 at high watermark 10, nothing read.
fn session(sessions: &FetchSessions) -> i32 {
    let context = open(sessions, request(0, 0, &[(0, 0), (1, 0), (2, 0)])).unwrap();
    let answers = vec![answer(10, b"", 0); 3];
    let (id, told) = sessions.close(&context, &answers, Instant::now()).unwrap();
    assert_ne!(id, NO_SESSION);
    assert_eq!(told, [true; 3], "a first answer tells everything");
    id
}

#[test]
fn trap_18_only_news_is_told() {
    let sessions = FetchSessions::new(10);
    let id = session(&sessions);
    let context = open(&sessions, request(id, 1, &[])).unwrap();
    assert_eq!(read(&context), [(0, 0), (1, 0), (2, 0)]);
    let answers = [answer(10, b"", 0), answer(11, b"", 0), answer(10, b"", 3)];
    let told = sessions.close(&context, &answers, Instant::now()).unwrap();
    assert_eq!(told, (id, vec![false, true, true]));
    let context = open(&sessions, request(id, 2, &[])).unwrap();
    let answers = [answer(10, b"r", 0), answer(11, b"", 0), answer(10, b"", 0)];
    let told = sessions.close(&context, &answers, Instant::now()).unwrap();
    assert_eq!(
        told.1,
        [true, false, true],
        "after an error the positions are told again"
    );
    let mut other_stable = answer(10, b"", 0);
    other_stable.last_stable_offset = 4;
    let context = open(&sessions, request(id, 3, &[])).unwrap();
    let answers = [answer(11, b"", 0), other_stable, answer(10, b"", 0)];
    let told = sessions.close(&context, &answers, Instant::now()).unwrap();
    assert_eq!(
        told.1,
        [false, true, false],
        "the one with records is last now"
    );
}

#[test]
fn a_partition_that_is_named_twice_is_read_once() {
    let sessions = FetchSessions::new(10);
    for epoch in [EPOCH_FIRST, EPOCH_FINAL] {
        let twice = request(0, epoch, &[(0, 1), (1, 2), (0, 3)]);
        let context = open(&sessions, twice).unwrap();
        assert_eq!(read(&context), [(0, 3), (1, 2)]);
    }
}

#[test]
fn partitions_with_records_go_to_the_back() {
    let sessions = FetchSessions::new(10);
    let id = session(&sessions);
    let context = open(&sessions, request(id, 1, &[])).unwrap();
    let answers = [answer(10, b"r", 0), answer(10, b"", 0), answer(10, b"", 0)];
    sessions.close(&context, &answers, Instant::now()).unwrap();
    let context = open(&sessions, request(id, 2, &[(0, 5)])).unwrap();
    assert_eq!(read(&context), [(1, 0), (2, 0), (0, 5)]);
}

#[test]
fn trap_18_epochs_are_counted() {
    let sessions = FetchSessions::new(10);
    let id = session(&sessions);
    let unknown = open(&sessions, request(id ^ 1, 1, &[])).unwrap_err();
    assert_eq!(unknown, ErrorCode::FetchSessionIdNotFound);
    let wrong = open(&sessions, request(id, 2, &[])).unwrap_err();
    assert_eq!(wrong, ErrorCode::InvalidFetchSessionEpoch);
    let by_id = sessions.open(request(id, 1, &[]), true, |_| None, Instant::now());
    assert_eq!(by_id.unwrap_err(), ErrorCode::FetchSessionTopicIdError);
    let first = open(&sessions, request(id, 1, &[])).unwrap();
    let second = open(&sessions, request(id, 2, &[])).unwrap();
    let answers = vec![answer(10, b"", 0); 3];
    let overtaken = sessions.close(&first, &answers, Instant::now());
    assert_eq!(overtaken.unwrap_err(), ErrorCode::InvalidFetchSessionEpoch);
    assert!(sessions.close(&second, &answers, Instant::now()).is_ok());
    assert_eq!(next_epoch(i32::MAX), 1);
}

#[test]
fn a_session_ends_when_it_is_closed_or_has_nothing_left() {
    let sessions = FetchSessions::new(10);
    let id = session(&sessions);
    let context = open(&sessions, request(id, EPOCH_FINAL, &[(0, 0)])).unwrap();
    assert_eq!(FetchSessions::skip(&context), NO_SESSION);
    assert!(open(&sessions, request(id, 1, &[])).is_err());

    let id = session(&sessions);
    let mut forget = request(id, 1, &[]);
    forget.forgotten_topics_data = vec![ForgottenTopic {
        topic: "t".into(),
        partitions: vec![0, 1, 2],
        ..ForgottenTopic::default()
    }];
    let context = open(&sessions, forget).unwrap();
    assert!(context.wanted().is_empty());
    assert!(open(&sessions, request(id, 2, &[])).is_err());
    let cache = sessions.cache.lock();
    assert_eq!((cache.sessions.len(), cache.partitions), (0, 0));
}

#[test]
fn only_an_idle_session_gives_way() {
    let sessions = FetchSessions::new(1);
    let id = session(&sessions);
    let context = open(&sessions, request(0, 0, &[(7, 0)])).unwrap();
    let answers = [answer(10, b"", 0)];
    let (none, _) = sessions.close(&context, &answers, Instant::now()).unwrap();
    assert_eq!(none, NO_SESSION, "the other one is in use");
    let later = Instant::now() + IDLE_MIN;
    let (other, _) = sessions.close(&context, &answers, later).unwrap();
    assert_ne!(other, NO_SESSION);
    let gone = open(&sessions, request(id, 1, &[])).unwrap_err();
    assert_eq!(gone, ErrorCode::FetchSessionIdNotFound);
}

#[test]
fn a_topic_that_comes_later_is_found_by_its_id() {
    let sessions = FetchSessions::new(1);
    let topic_id = Uuid::from_u128(7);
    let mut first = request(0, 0, &[(0, 0)]);
    first.topics[0].topic = conveyor_kafka::Text::default();
    first.topics[0].topic_id = topic_id;
    let context = sessions
        .open(first, true, |_| None, Instant::now())
        .unwrap();
    assert_eq!(context.wanted()[0].topic.name, None);
    let answers = [answer(-1, b"", 100)];
    let (id, _) = sessions.close(&context, &answers, Instant::now()).unwrap();
    let name_of = |id| (id == topic_id).then(|| Arc::from("t"));
    let context = sessions
        .open(request(id, 1, &[]), true, name_of, Instant::now())
        .unwrap();
    assert_eq!(context.wanted()[0].topic.name.as_deref(), Some("t"));
}
