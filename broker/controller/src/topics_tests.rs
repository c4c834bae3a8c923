//! The rules of topics, one sentence a test, and the property that replay gives what was live.

use proptest::prelude::*;

use super::*;
use crate::{BrokerRegistration, OFFSETS_TOPIC, register_broker};

fn cluster(nodes: i32) -> MetadataImage {
    let mut image = MetadataImage::default();
    for node in 1..=nodes {
        let registration = BrokerRegistration::new(NodeId(node), "127.0.0.1", 9192);
        image.replay_all(&register_broker(&image, registration).unwrap().records);
    }
    image
}

fn topic(name: &str) -> NewTopic {
    NewTopic {
        name: name.into(),
        ..NewTopic::default()
    }
}

fn create(image: &mut MetadataImage, topic: &NewTopic) -> Result<CreatedTopic, CreateTopicError> {
    let id = Uuid::from_u128(image.topics().len() as u128 + 1);
    let transition = create_topic(image, topic, id, &TopicDefaults::default())?;
    image.replay_all(&transition.records);
    Ok(transition.response)
}

fn alter(
    image: &mut MetadataImage,
    name: &str,
    setting: &str,
    operation: ConfigOperation,
) -> Result<(), AlterConfigError> {
    let alteration = ConfigAlteration {
        name: setting.into(),
        operation,
    };
    let defaults = TopicDefaults::default();
    let transition = alter_topic_configs(image, name, &[alteration], &defaults)?;
    image.replay_all(&transition.records);
    Ok(())
}

fn with_state(image: &mut MetadataImage, node: i32, fenced: bool, draining: bool) {
    let registration = BrokerRegistration {
        fenced,
        draining,
        ..BrokerRegistration::new(NodeId(node), "127.0.0.1", 9192)
    };
    image.replay_all(&[MetadataRecord::RegisterBroker(registration)]);
}

#[test]
fn nodes_that_are_away_make_up_the_number_only_where_too_few_are_there() {
    let mut image = cluster(3);
    with_state(&mut image, 3, true, false);
    for (name, factor) in [("waves", 2), ("orders", 3)] {
        let wanted = NewTopic {
            partitions: Some(8),
            replication_factor: Some(factor),
            ..topic(name)
        };
        create(&mut image, &wanted).unwrap();
    }
    for partition in &image.topic("waves").unwrap().partitions {
        assert!(!partition.replicas.contains(&NodeId(3)));
    }
    for partition in &image.topic("orders").unwrap().partitions {
        assert_eq!(partition.replicas.len(), 3);
        assert_eq!(
            partition.replicas[2],
            NodeId(3),
            "never the preferred leader"
        );
        assert_eq!(partition.isr, partition.replicas[..2], "not in sync either");
        assert_eq!(partition.leader, partition.replicas[0]);
    }
    let defaults = TopicDefaults::default();
    let grown = create_partitions(&image, "orders", 10, None, &defaults).unwrap();
    assert_eq!(grown.response, 2);
}

#[test]
fn a_topic_needs_a_node_that_leads_it_and_none_goes_to_one_that_is_emptied() {
    let mut image = cluster(2);
    with_state(&mut image, 2, true, true);
    let mut wanted = topic("orders");
    wanted.replication_factor = Some(2);
    let refused = create(&mut image, &wanted).unwrap_err();
    assert!(
        refused.to_string().contains("there are 1 nodes"),
        "{refused}"
    );
    with_state(&mut image, 1, true, false);
    wanted.replication_factor = Some(1);
    let refused = create(&mut image, &wanted).unwrap_err();
    assert!(
        refused.to_string().contains("there are 0 nodes"),
        "{refused}"
    );
}

#[test]
fn a_topic_gets_partitions_leaders_and_settings() {
    let mut image = cluster(3);
    let mut wanted = topic("orders");
    wanted.partitions = Some(6);
    wanted.replication_factor = Some(3);
    wanted.configs.insert("retention.ms".into(), "1d".into());
    create(&mut image, &wanted).unwrap();

    let made = image.topic("orders").unwrap();
    assert_eq!(made.partitions.len(), 6);
    assert!(
        made.partitions
            .iter()
            .all(|partition| partition.isr.len() == 3)
    );
    assert!(
        made.partitions
            .iter()
            .all(|partition| partition.leader == partition.replicas[0])
    );
    assert_eq!(made.configs["retention.ms"], "86400000");
    assert_eq!(image.topic_by_id(made.id), Some(made));
    assert_eq!(image.partition_count(), 6);
}

#[test]
fn names_are_taken_once_and_dots_collide_with_underscores() {
    let mut image = cluster(1);
    create(&mut image, &topic("pick.tasks")).unwrap();
    let again = create(&mut image, &topic("pick.tasks"));
    assert!(matches!(again, Err(CreateTopicError::Exists { .. })));
    let collides = create(&mut image, &topic("pick_tasks"));
    assert!(
        matches!(collides, Err(CreateTopicError::Collides { other, .. }) if other == "pick.tasks")
    );
    create(&mut image, &topic("pick-tasks")).unwrap();
}

#[test]
fn internal_topics_are_the_brokers_business() {
    let mut image = cluster(1);
    let refused = create(&mut image, &topic(OFFSETS_TOPIC));
    assert!(matches!(refused, Err(CreateTopicError::Internal { .. })));
    let mut own = topic(OFFSETS_TOPIC);
    own.internal = true;
    create(&mut image, &own).unwrap();
    assert!(matches!(
        delete_topic(&image, OFFSETS_TOPIC),
        Err(DeleteTopicError::Internal { .. })
    ));
    let grown = create_partitions(&image, OFFSETS_TOPIC, 9, None, &TopicDefaults::default());
    assert!(matches!(grown, Err(CreatePartitionsError::Internal { .. })));
    let set = ConfigOperation::Set("delete".into());
    let altered = alter(&mut image, OFFSETS_TOPIC, "cleanup.policy", set);
    assert!(matches!(
        altered,
        Err(AlterConfigError::InternalFixed { .. })
    ));
    let mut metadata = topic(METADATA_TOPIC);
    metadata.internal = true;
    assert!(create(&mut image, &metadata).is_err());
}

#[test]
fn counts_have_limits() {
    let mut image = cluster(2);
    for count in [0, -1, 10_001, i32::MAX] {
        let mut wanted = topic("a");
        wanted.partitions = Some(count);
        let refused = create(&mut image, &wanted);
        assert!(
            matches!(refused, Err(CreateTopicError::InvalidPartitions { .. })),
            "{count}"
        );
    }
    for factor in [0, -5, 3] {
        let mut wanted = topic("a");
        wanted.replication_factor = Some(factor);
        let refused = create(&mut image, &wanted);
        assert!(
            matches!(
                refused,
                Err(CreateTopicError::InvalidReplicationFactor { .. })
            ),
            "{factor}"
        );
    }
}

#[test]
fn a_node_takes_only_so_many_partitions() {
    let mut image = cluster(1);
    let defaults = TopicDefaults {
        partitions_per_node_max: 5,
        ..TopicDefaults::default()
    };
    let mut wanted = topic("a");
    wanted.partitions = Some(4);
    let made = create_topic(&image, &wanted, Uuid::from_u128(1), &defaults).unwrap();
    image.replay_all(&made.records);
    wanted.name = "b".into();
    wanted.partitions = Some(2);
    let refused = create_topic(&image, &wanted, Uuid::from_u128(2), &defaults);
    assert!(matches!(
        refused,
        Err(CreateTopicError::InvalidPartitions { max: 1, .. })
    ));
    assert!(create_partitions(&image, "a", 6, None, &defaults).is_err());
    assert!(create_partitions(&image, "a", 5, None, &defaults).is_ok());
}

#[test]
fn partitions_are_only_added() {
    let mut image = cluster(2);
    create(&mut image, &topic("a")).unwrap();
    let defaults = TopicDefaults::default();
    for count in [-1, 0, 1] {
        assert!(create_partitions(&image, "a", count, None, &defaults).is_err());
    }
    let grown = create_partitions(&image, "a", 4, None, &defaults).unwrap();
    assert_eq!(grown.response, 3);
    image.replay_all(&grown.records);
    assert_eq!(image.topic("a").unwrap().partitions.len(), 4);
    assert!(matches!(
        create_partitions(&image, "b", 4, None, &defaults),
        Err(CreatePartitionsError::Unknown { .. })
    ));
}

#[test]
fn settings_are_altered_one_by_one_and_checked_together() {
    let mut image = cluster(1);
    create(&mut image, &topic("a")).unwrap();
    alter(
        &mut image,
        "a",
        "cleanup.policy",
        ConfigOperation::Append("compact".into()),
    )
    .unwrap();
    assert_eq!(
        image.topic("a").unwrap().configs["cleanup.policy"],
        "delete,compact"
    );
    alter(
        &mut image,
        "a",
        "cleanup.policy",
        ConfigOperation::Subtract("delete".into()),
    )
    .unwrap();
    assert_eq!(
        image.topic("a").unwrap().configs["cleanup.policy"],
        "compact"
    );
    alter(&mut image, "a", "cleanup.policy", ConfigOperation::Delete).unwrap();
    assert!(image.topic("a").unwrap().configs.is_empty());

    let no_list = alter(
        &mut image,
        "a",
        "retention.ms",
        ConfigOperation::Append("1".into()),
    );
    assert!(matches!(
        no_list,
        Err(AlterConfigError::Setting {
            source: SettingError::NotAList { .. },
            ..
        })
    ));
    alter(
        &mut image,
        "a",
        "max.compaction.lag.ms",
        ConfigOperation::Set("10".into()),
    )
    .unwrap();
    let contradiction = alter(
        &mut image,
        "a",
        "min.compaction.lag.ms",
        ConfigOperation::Set("11".into()),
    );
    assert!(matches!(
        contradiction,
        Err(AlterConfigError::Setting {
            source: SettingError::Contradiction { .. },
            ..
        })
    ));
}

#[test]
fn a_setting_altered_twice_in_one_request_is_refused() {
    let mut image = cluster(1);
    create(&mut image, &topic("a")).unwrap();
    let alteration = ConfigAlteration {
        name: "retention.ms".into(),
        operation: ConfigOperation::Delete,
    };
    let twice = [alteration.clone(), alteration];
    let refused = alter_topic_configs(&image, "a", &twice, &TopicDefaults::default());
    assert!(matches!(refused, Err(AlterConfigError::Repeated { .. })));
}

#[test]
fn an_alteration_that_changes_nothing_writes_nothing() {
    let mut image = cluster(1);
    create(&mut image, &topic("a")).unwrap();
    let alteration = ConfigAlteration {
        name: "retention.ms".into(),
        operation: ConfigOperation::Delete,
    };
    let defaults = TopicDefaults::default();
    let transition = alter_topic_configs(&image, "a", &[alteration], &defaults).unwrap();
    assert!(transition.records.is_empty());
}

/// One thing that an operator does.
#[derive(Debug, Clone)]
enum Step {
    Create(u8, i32),
    Delete(u8),
    Grow(u8, i32),
    Alter(u8, u8),
    Ids,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u8..6, -1i32..8).prop_map(|(name, count)| Step::Create(name, count)),
        (0u8..6).prop_map(Step::Delete),
        (0u8..6, 0i32..12).prop_map(|(name, count)| Step::Grow(name, count)),
        (0u8..6, 0u8..4).prop_map(|(name, what)| Step::Alter(name, what)),
        Just(Step::Ids),
    ]
}

fn perform(image: &MetadataImage, step: &Step, unique: u128) -> Vec<MetadataRecord> {
    let name = |index: &u8| {
        format!(
            "topic{}{index}",
            if index.is_multiple_of(2) { "." } else { "_" }
        )
    };
    let defaults = TopicDefaults::default();
    match step {
        Step::Create(index, count) => {
            let mut wanted = topic(&name(index));
            wanted.partitions = Some(*count);
            create_topic(image, &wanted, Uuid::from_u128(unique), &defaults)
                .map_or_else(|_| Vec::new(), |made| made.records)
        }
        Step::Delete(index) => {
            delete_topic(image, &name(index)).map_or_else(|_| Vec::new(), |gone| gone.records)
        }
        Step::Grow(index, count) => create_partitions(image, &name(index), *count, None, &defaults)
            .map_or_else(|_| Vec::new(), |grown| grown.records),
        Step::Alter(index, what) => {
            let operation = match what {
                0 => ConfigOperation::Set("compact".into()),
                1 => ConfigOperation::Append("compact".into()),
                2 => ConfigOperation::Subtract("compact".into()),
                _ => ConfigOperation::Delete,
            };
            let alteration = ConfigAlteration {
                name: "cleanup.policy".into(),
                operation,
            };
            alter_topic_configs(image, &name(index), &[alteration], &defaults)
                .map_or_else(|_| Vec::new(), |altered| altered.records)
        }
        Step::Ids => crate::allocate_producer_ids(image).records,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn replay_of_the_stored_records_gives_the_live_image(
        steps in proptest::collection::vec(step(), 0..40),
    ) {
        let mut live = cluster(2);
        let mut log: Vec<Vec<u8>> = Vec::new();
        let mut start = live.clone();
        for (index, step) in steps.iter().enumerate() {
            let records = perform(&live, step, index as u128 + 1);
            log.extend(records.iter().map(MetadataRecord::encode));
            live.replay_all(&records);
            let counted: usize = live.topics().map(|topic| topic.partitions.len()).sum();
            prop_assert_eq!(live.partition_count(), counted);
        }
        for bytes in &log {
            start.replay(&MetadataRecord::decode(bytes).unwrap());
        }
        prop_assert_eq!(start, live);
    }
}

#[test]
fn replicas_chosen_by_hand_are_kept() {
    let mut image = cluster(3);
    let mut wanted = topic("placed");
    wanted.assignments = vec![
        (0, vec![NodeId(3), NodeId(1)]),
        (1, vec![NodeId(2), NodeId(3)]),
    ];
    let created = create(&mut image, &wanted).unwrap();
    assert_eq!((created.partitions, created.replication_factor), (2, 2));
    assert_eq!(
        image.topic("placed").unwrap().partitions[1].leader,
        NodeId(2)
    );

    let more = [vec![NodeId(1), NodeId(2)]];
    let defaults = TopicDefaults::default();
    let grown = create_partitions(&image, "placed", 3, Some(&more), &defaults).unwrap();
    image.replay_all(&grown.records);
    assert_eq!(
        image.topic("placed").unwrap().partitions[2].replicas,
        more[0]
    );

    let error = create_partitions(&image, "placed", 5, Some(&more), &defaults).unwrap_err();
    assert!(
        matches!(error, CreatePartitionsError::InvalidAssignment { .. }),
        "{error}"
    );
    wanted.name = "counted".into();
    wanted.partitions = Some(2);
    let error = create(&mut image, &wanted).unwrap_err();
    assert!(
        matches!(error, CreateTopicError::AssignmentAndCount { .. }),
        "{error}"
    );
}

#[test]
fn replacing_settings_drops_those_not_named() {
    let mut image = cluster(1);
    let mut wanted = topic("orders");
    wanted.configs.insert("retention.ms".into(), "1d".into());
    wanted
        .configs
        .insert("segment.bytes".into(), "1 MiB".into());
    create(&mut image, &wanted).unwrap();
    let set = vec![("segment.bytes".to_owned(), "2 MiB".to_owned())];
    let replaced = replace_topic_configs(&image, "orders", set, &TopicDefaults::default()).unwrap();
    image.replay_all(&replaced.records);
    let configs = &image.topic("orders").unwrap().configs;
    assert_eq!(configs.len(), 1);
    assert_eq!(configs["segment.bytes"], "2097152");
}
