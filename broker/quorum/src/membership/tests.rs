//! Who may join, who gives way, and what is refused.

use super::*;

fn nodes(ids: &[i32]) -> BTreeMap<NodeId, String> {
    let named = ids
        .iter()
        .map(|id| (NodeId(*id), format!("host-{id}:9193")));
    named.collect()
}

fn join(node_id: i32) -> MembershipRequest {
    join_with(node_id, 1)
}

fn join_with(node_id: i32, directory: u128) -> MembershipRequest {
    MembershipRequest::Join {
        node_id: NodeId(node_id),
        directory_id: Uuid::from_u128(directory),
        endpoint: format!("host-{node_id}:9193"),
    }
}

fn ids(ids: &[u64]) -> BTreeSet<VoterId> {
    ids.iter().copied().map(VoterId).collect()
}

#[test]
fn the_first_voters_are_numbered_by_node() {
    let membership = Membership::bootstrap(&nodes(&[7, 3, 5])).unwrap();
    assert_eq!(membership.voters, ids(&[1, 2, 3]));
    assert_eq!(membership.voter_of(NodeId(3)), Some(VoterId(1)));
    assert_eq!(membership.voter_of(NodeId(7)), Some(VoterId(3)));
    assert_eq!(
        Membership::bootstrap(&nodes(&[])),
        Err(MembershipError::NoVoter)
    );
}

#[test]
fn a_wiped_voter_comes_back_under_a_new_id_and_takes_its_place() {
    let three = Membership::bootstrap(&nodes(&[1, 2, 3])).unwrap();
    let joined = three.with(&three.resolve(&join(3)).unwrap()).unwrap();
    assert_eq!(joined.learners, ids(&[4]));
    assert_eq!(joined.voters, ids(&[1, 2, 3]));
    assert!(!joined.is_joint());
    assert_eq!(
        joined.resolve(&join(3)),
        Err(MembershipError::AlreadyMember(VoterId(4)))
    );

    let change = joined
        .resolve(&MembershipRequest::Promote(VoterId(4)))
        .unwrap();
    assert_eq!(change.removed, ids(&[3]));
    let joint = joined.with(&change).unwrap();
    assert!(joint.is_joint());
    assert_eq!(joint.voters, ids(&[1, 2, 4]));
    assert_eq!(joint.outgoing, ids(&[1, 2, 3]));
    assert!(joint.has_vote(VoterId(3)));
    assert_eq!(joint.resolve(&join(5)), Err(MembershipError::Joint));

    let done = joint.after_joint();
    assert_eq!(done.voters, ids(&[1, 2, 4]));
    assert_eq!(done.member(VoterId(3)), None);
    assert_eq!(done.voter_of(NodeId(3)), Some(VoterId(4)));
}

#[test]
fn no_id_is_given_out_twice() {
    let mut membership = Membership::bootstrap(&nodes(&[1])).unwrap();
    for round in 2_u64..6 {
        membership = membership
            .with(&membership.resolve(&join_with(2, round.into())).unwrap())
            .unwrap();
        assert_eq!(membership.learners.last(), Some(&VoterId(round)));
    }
    let promoted = membership
        .resolve(&MembershipRequest::Promote(VoterId(4)))
        .unwrap();
    assert_eq!(promoted.removed, ids(&[2, 3, 5]));
    let stale = MembershipChange {
        added: Some((VoterId(3), membership.members[&VoterId(5)].clone())),
        ..MembershipChange::default()
    };
    assert!(matches!(
        membership.with(&stale),
        Err(MembershipError::NotNext { .. })
    ));
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let one = Membership::bootstrap(&nodes(&[1])).unwrap();
    let refused = |request: MembershipRequest| one.resolve(&request).unwrap_err();
    assert_eq!(
        refused(MembershipRequest::Remove(VoterId(1))),
        MembershipError::LastVoter(VoterId(1))
    );
    assert_eq!(
        refused(MembershipRequest::Remove(VoterId(9))),
        MembershipError::UnknownMember(VoterId(9))
    );
    assert_eq!(
        refused(MembershipRequest::Promote(VoterId(9))),
        MembershipError::UnknownMember(VoterId(9))
    );
    assert!(matches!(
        refused(MembershipRequest::Join {
            node_id: NodeId(2),
            directory_id: Uuid::from_u128(1),
            endpoint: String::new()
        }),
        MembershipError::Endpoint(_)
    ));
    assert_eq!(refused(join(-1)), MembershipError::NodeId(NodeId(-1)));
}

#[test]
fn stored_forms_go_there_and_back() {
    let three = Membership::bootstrap(&nodes(&[1, 2, 3])).unwrap();
    let change = three.resolve(&join(3)).unwrap();
    assert_eq!(
        MembershipChange::decode(&change.encode()),
        Ok(change.clone())
    );
    let joined = three.with(&change).unwrap();
    let change = joined
        .resolve(&MembershipRequest::Promote(VoterId(4)))
        .unwrap();
    assert_eq!(
        MembershipChange::decode(&change.encode()),
        Ok(change.clone())
    );
    let joint = joined.with(&change).unwrap();
    for membership in [three, joined, joint.clone(), joint.after_joint()] {
        assert_eq!(Membership::decode(&membership.encode()), Ok(membership));
    }
}

#[test]
fn memberships_whose_parts_do_not_fit_are_refused() {
    let good = Membership::bootstrap(&nodes(&[1, 2])).unwrap();
    let spoil = |change: &dyn Fn(&mut Membership)| {
        let mut bad = good.clone();
        change(&mut bad);
        Membership::decode(&bad.encode())
    };
    assert!(spoil(&|_| ()).is_ok());
    assert!(spoil(&|m| m.voters.clear()).is_err());
    assert!(spoil(&|m| assert!(m.voters.insert(VoterId(9)))).is_err());
    assert!(spoil(&|m| assert!(m.learners.insert(VoterId(1)))).is_err());
    assert!(spoil(&|m| assert!(m.learners_next.insert(VoterId(1)))).is_err());
    assert!(spoil(&|m| m.next_voter_id = 2).is_err());
    assert!(spoil(&|m| assert!(m.voters.remove(&VoterId(2)))).is_err());
}
