//! The order of calls, and what each answer does.

use proptest::prelude::*;

use conveyor_record::{ProducerEpoch, ProducerId};

use super::*;

const TIMEOUT_MS: Millis = 1_000;

fn at(epoch: i16) -> Identity {
    Identity {
        id: ProducerId(7),
        epoch: ProducerEpoch(epoch),
    }
}

fn broker(code: ErrorCode) -> Error {
    Error::Broker {
        operation: "ask",
        place: "t".to_owned(),
        code,
        message: "no".to_owned(),
    }
}

fn ready() -> Machine {
    let mut machine = Machine::new("t".into(), TIMEOUT_MS);
    machine.init().unwrap();
    machine.initialised(Ok(at(3))).unwrap();
    machine
}

fn used(now: Millis) -> Machine {
    let mut machine = ready();
    machine.begin().unwrap();
    machine.may_take("send").unwrap();
    machine.used(now);
    machine
}

fn fault<T: std::fmt::Debug>(outcome: Result<T>) -> TransactionFault {
    outcome.unwrap_err().transaction_fault().unwrap()
}

#[test]
fn calls_out_of_order_are_refused_and_change_nothing() {
    let mut machine = Machine::new("t".into(), TIMEOUT_MS);
    assert_eq!(fault(machine.begin()), TransactionFault::Misuse);
    assert_eq!(fault(machine.may_take("send")), TransactionFault::Misuse);
    assert_eq!(fault(machine.close(true)), TransactionFault::Misuse);
    machine.init().unwrap();
    machine.initialised(Ok(at(0))).unwrap();
    assert_eq!(fault(machine.init()), TransactionFault::Misuse);
    assert_eq!(fault(machine.may_take("send")), TransactionFault::Misuse);
    machine.begin().unwrap();
    assert_eq!(fault(machine.begin()), TransactionFault::Misuse);
    machine.may_take("send").unwrap();
}

#[test]
fn a_transaction_without_records_ends_without_a_question() {
    for commit in [true, false] {
        let mut machine = ready();
        machine.begin().unwrap();
        machine.close(commit).unwrap();
        assert_eq!(machine.settled().unwrap(), None);
        machine.begin().unwrap();
        assert_eq!(machine.identity(), Some(at(3)));
    }
}

#[test]
fn every_end_gives_the_epoch_of_the_next_transaction() {
    let mut machine = used(0);
    machine.close(true).unwrap();
    assert_eq!(fault(machine.may_take("send")), TransactionFault::Misuse);
    assert_eq!(machine.settled().unwrap(), Some(at(3)));
    machine.ended(Ok(at(4)), 5).unwrap();
    machine.begin().unwrap();
    assert_eq!(machine.may_take("send").unwrap(), at(4));
}

#[test]
fn an_end_whose_answer_is_lost_is_asked_for_again_and_only_that_one() {
    let mut machine = used(0);
    machine.close(true).unwrap();
    assert_eq!(machine.settled().unwrap(), Some(at(3)));
    let lost = Err(broker(ErrorCode::ConcurrentTransactions));
    assert!(machine.ended(lost, 5).unwrap_err().is_retriable());
    assert_eq!(fault(machine.close(false)), TransactionFault::Misuse);
    assert_eq!(fault(machine.begin()), TransactionFault::Misuse);
    machine.close(true).unwrap();
    assert_eq!(machine.settled().unwrap(), Some(at(3)), "the same question");
    machine.ended(Ok(at(4)), 6).unwrap();
}

#[test]
fn after_a_failed_record_nothing_but_an_abort_is_possible() {
    let mut machine = used(0);
    machine.lost(&broker(ErrorCode::MessageTooLarge), 1);
    assert_eq!(fault(machine.may_take("send")), TransactionFault::Abortable);
    assert!(machine.discards().is_some());
    assert_eq!(fault(machine.close(true)), TransactionFault::Abortable);
    machine.close(false).unwrap();
    assert_eq!(machine.settled().unwrap(), Some(at(3)));
    machine.ended(Ok(at(4)), 2).unwrap();
    machine.begin().unwrap();
    assert!(machine.discards().is_none());
}

#[test]
fn a_record_that_fails_while_the_commit_waits_for_it_stops_the_commit() {
    let mut machine = used(0);
    machine.close(true).unwrap();
    machine.lost(&broker(ErrorCode::NotEnoughReplicasAfterAppend), 1);
    assert_eq!(fault(machine.settled()), TransactionFault::Abortable);
    machine.close(false).unwrap();
    assert_eq!(machine.settled().unwrap(), Some(at(3)));
}

#[test]
fn who_is_fenced_stays_so_and_who_was_too_slow_is_told() {
    for (now, expected) in [
        (TIMEOUT_MS - 1, TransactionFault::Fenced),
        (TIMEOUT_MS, TransactionFault::TimedOut),
    ] {
        let mut machine = used(0);
        machine.lost(&broker(ErrorCode::InvalidProducerEpoch), now);
        assert_eq!(fault(machine.close(true)), expected);
        assert_eq!(fault(machine.close(false)), expected);
        assert_eq!(fault(machine.begin()), expected);

        let mut machine = used(0);
        machine.close(true).unwrap();
        machine.settled().unwrap();
        let fenced = Err(broker(ErrorCode::ProducerFenced));
        let error = machine.ended(fenced, now).unwrap_err();
        assert_eq!(error.transaction_fault(), Some(expected));
        assert_eq!(error.code(), Some(ErrorCode::ProducerFenced));
        assert!(error.to_string().contains("not known"), "{error}");
        assert_eq!(fault(machine.begin()), expected);
    }
}

#[test]
fn a_refused_start_may_be_tried_again() {
    let mut machine = Machine::new("t".into(), TIMEOUT_MS);
    machine.init().unwrap();
    let refused = Err(broker(ErrorCode::InvalidTransactionTimeout));
    assert_eq!(fault(machine.initialised(refused)), TransactionFault::Fatal);
    machine.init().unwrap();
    machine.initialised(Ok(at(0))).unwrap();
}

#[derive(Debug, Clone)]
enum Step {
    Begin,
    Use,
    Lose(ErrorCode),
    Close(bool),
    Settle,
    End(Option<ErrorCode>),
}

fn step() -> impl Strategy<Value = Step> {
    let code = proptest::sample::select(ErrorCode::ALL);
    prop_oneof![
        Just(Step::Begin),
        Just(Step::Use),
        code.clone().prop_map(Step::Lose),
        any::<bool>().prop_map(Step::Close),
        Just(Step::Settle),
        proptest::option::of(code).prop_map(Step::End),
    ]
}

proptest! {
    /// Whatever is called in whatever order: a commit is asked for only of a transaction of which
    /// nothing failed, an abort never follows a commit that may be decided, and the epoch changes
    /// with an answered end alone.
    #[test]
    fn no_order_of_calls_commits_what_has_failed(steps in prop::collection::vec(step(), 1..60)) {
        let mut machine = ready();
        let (mut failed, mut closing, mut asked, mut epoch) = (false, None, None, 3);
        for (now, step) in (0..).zip(steps) {
            match step {
                Step::Begin => if machine.begin().is_ok() {
                    (failed, closing, asked) = (false, None, None);
                },
                Step::Use => if machine.may_take("send").is_ok() {
                    prop_assert!(!failed && closing.is_none() && asked.is_none());
                    machine.used(now);
                },
                Step::Lose(code) => {
                    let counts = machine.is_in_transaction() && asked.is_none();
                    machine.lost(&broker(code), now);
                    failed |= counts;
                }
                Step::Close(commit) => if machine.close(commit).is_ok() {
                    prop_assert!(!(commit && failed));
                    prop_assert!(asked.is_none_or(|asked| asked == commit));
                    failed |= !commit;
                    closing = Some(commit);
                },
                Step::Settle => match machine.settled() {
                    Ok(Some(identity)) if closing.is_some() => {
                        prop_assert_eq!(identity, at(epoch));
                        prop_assert!(closing == Some(false) || !failed);
                        asked = closing;
                    }
                    Ok(_) => {}
                    Err(_) => closing = None,
                },
                Step::End(None) => {
                    let next = asked.map_or(epoch, |_| epoch + 1);
                    let was = machine.identity();
                    if machine.ended(Ok(at(next)), now).is_ok() && machine.identity() != was {
                        prop_assert!(asked.is_some());
                        epoch = next;
                    }
                }
                Step::End(Some(code)) => {
                    if let Err(error) = machine.ended(Err(broker(code)), now)
                        && error.transaction_fault() == Some(TransactionFault::Abortable)
                    {
                        (failed, closing, asked) = (true, None, None);
                    }
                }
            }
            prop_assert_eq!(machine.identity(), Some(at(epoch)));
        }
    }
}
