//! `DescribeTransactions`: where transactional ids stand.

use std::collections::BTreeMap;
use std::sync::Arc;

use conveyor_kafka::Text;
use conveyor_kafka::messages::describe_transactions::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, TopicData, TransactionState,
};
use conveyor_transaction::TransactionMetadata;

use super::distinct::distinct;
use super::{KafkaCall, KafkaService};
use crate::node::{Refusal, authorize_topic};
use crate::request::Operation;

pub(super) async fn describe_transactions(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    let mut transaction_states = Vec::with_capacity(request.transactional_ids.len());
    for transactional_id in distinct(request.transactional_ids) {
        let outcome = describe(service, call, &transactional_id).await;
        let error_code = call.outcome_code(&outcome);
        transaction_states.push(TransactionState {
            error_code,
            transactional_id,
            ..outcome.map_or_else(|_| TransactionState::default(), |found| state(call, &found))
        });
    }
    DescribeTransactionsResponse {
        transaction_states,
        ..DescribeTransactionsResponse::default()
    }
}

async fn describe(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    transactional_id: &str,
) -> Result<TransactionMetadata, Refusal> {
    call.allow_transactional_id(Operation::Describe, transactional_id)?;
    service.transactions.describe(transactional_id).await
}

/// All but the id; topics that the caller may not see are left out.
fn state(call: &KafkaCall, found: &TransactionMetadata) -> TransactionState {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for place in &found.partitions {
        if authorize_topic(call, Operation::Describe, &place.topic).is_ok() {
            topics
                .entry(&place.topic)
                .or_default()
                .push(place.partition);
        }
    }
    let topics = topics.into_iter().map(|(topic, partitions)| TopicData {
        topic: Text::from(topic),
        partitions,
    });
    TransactionState {
        transaction_state: Text::from(found.state.name()),
        transaction_timeout_ms: found.timeout_ms,
        transaction_start_time_ms: found.start_ms,
        producer_id: found.producer.id.value(),
        producer_epoch: found.producer.epoch.value(),
        topics: topics.collect(),
        ..TransactionState::default()
    }
}
