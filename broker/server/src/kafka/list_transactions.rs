//! `ListTransactions`: the transactional ids that this node coordinates, filtered.

use std::sync::Arc;

use conveyor_grpc::ErrorCode;
use conveyor_kafka::Text;
use conveyor_kafka::messages::list_transactions as message;
use conveyor_kafka::messages::list_transactions::{
    ListTransactionsRequest, ListTransactionsResponse,
};
use conveyor_transaction::{ListedTransaction, TransactionState};
use regex::Regex;

use super::{KafkaCall, KafkaService};
use crate::node::Refusal;
use crate::request::{Operation, Resource};

pub(super) async fn list_transactions(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: ListTransactionsRequest,
) -> ListTransactionsResponse {
    let unknown_state_filters: Vec<Text> = request
        .state_filters
        .iter()
        .filter(|name| TransactionState::named(name).is_none())
        .cloned()
        .collect();
    let outcome = list(service, call, &request).await;
    let error_code = call.outcome_code(&outcome);
    let states = outcome.unwrap_or_default().into_iter();
    let states = states.map(|listed| message::TransactionState {
        transactional_id: listed.transactional_id.into(),
        producer_id: listed.producer_id.value(),
        transaction_state: Text::from(listed.state.name()),
    });
    ListTransactionsResponse {
        error_code,
        unknown_state_filters,
        transaction_states: states.collect(),
        ..ListTransactionsResponse::default()
    }
}

async fn list(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: &ListTransactionsRequest,
) -> Result<Vec<ListedTransaction>, Refusal> {
    let filter = Filter::new(request, service.node.now_ms())?;
    let mut listed = service.transactions.list().await?;
    listed.retain(|listed| {
        let id = Resource::TransactionalId(&listed.transactional_id);
        filter.takes(listed) && call.may(Operation::Describe, id)
    });
    Ok(listed)
}

/// What the caller wants to see.
#[derive(Debug)]
struct Filter {
    /// All of them if none is asked for.
    states: Option<Vec<TransactionState>>,
    producer_ids: Vec<i64>,
    /// Only transactions that were opened before.
    opened_before_ms: Option<i64>,
    pattern: Option<Regex>,
}

impl Filter {
    fn new(request: &ListTransactionsRequest, now_ms: i64) -> Result<Self, Refusal> {
        let states = request.state_filters.iter();
        let states = states.filter_map(|name| TransactionState::named(name));
        let pattern = request.transactional_id_pattern.as_ref();
        let pattern = pattern.filter(|pattern| !pattern.is_empty());
        Ok(Self {
            states: (!request.state_filters.is_empty()).then(|| states.collect()),
            producer_ids: request.producer_id_filters.clone(),
            opened_before_ms: (request.duration_filter >= 0)
                .then(|| now_ms.saturating_sub(request.duration_filter)),
            pattern: pattern.map(|pattern| whole(pattern)).transpose()?,
        })
    }

    fn takes(&self, listed: &ListedTransaction) -> bool {
        self.states
            .as_ref()
            .is_none_or(|states| states.contains(&listed.state))
            && (self.producer_ids.is_empty()
                || self.producer_ids.contains(&listed.producer_id.value()))
            && self
                .opened_before_ms
                .is_none_or(|before| (0..=before).contains(&listed.start_ms))
            && self
                .pattern
                .as_ref()
                .is_none_or(|pattern| pattern.is_match(&listed.transactional_id))
    }
}

/// A pattern has to match the whole id, as Kafka's has to.
fn whole(pattern: &str) -> Result<Regex, Refusal> {
    Regex::new(&format!("^(?:{pattern})$")).map_err(|error| {
        let message = format!("`{pattern}` is no regular expression: {error}");
        Refusal::new(ErrorCode::InvalidRegularExpression, message)
    })
}

#[cfg(test)]
mod tests {
    use conveyor_record::ProducerId;

    use super::*;

    fn takes(request: &ListTransactionsRequest) -> bool {
        let listed = ListedTransaction {
            transactional_id: "orders-7".into(),
            producer_id: ProducerId(12),
            state: TransactionState::Ongoing,
            start_ms: 5_000,
        };
        Filter::new(request, 10_000).unwrap().takes(&listed)
    }

    #[test]
    fn filters_add_up() {
        let all = ListTransactionsRequest::default();
        assert!(takes(&all));
        for (state, taken) in [("Ongoing", true), ("Empty", false), ("nonsense", false)] {
            let state_filters = vec![Text::from(state)];
            let request = ListTransactionsRequest {
                state_filters,
                ..all.clone()
            };
            assert_eq!(takes(&request), taken, "{state}");
        }
        for (pattern, taken) in [("orders-.*", true), ("orders", false), ("", true)] {
            let request = ListTransactionsRequest {
                transactional_id_pattern: Some(Text::from(pattern)),
                ..all.clone()
            };
            assert_eq!(takes(&request), taken, "{pattern}");
        }
        for (duration_filter, taken) in [(-1, true), (5_000, true), (5_001, false)] {
            let request = ListTransactionsRequest {
                duration_filter,
                producer_id_filters: vec![12],
                ..all.clone()
            };
            assert_eq!(takes(&request), taken, "{duration_filter}");
        }
        let broken = ListTransactionsRequest {
            transactional_id_pattern: Some(Text::from("(")),
            ..all
        };
        let refusal = Filter::new(&broken, 0).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::InvalidRegularExpression);
    }
}
