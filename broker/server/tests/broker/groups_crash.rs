//! Groups on a node that is killed again and again: members go on with their epochs and partitions,
//! and no acknowledged offset is ever gone.
//!
//! The node is this test binary, started once more as a process of its own.

use std::time::Duration;

use conveyor_grpc::v1::admin_service_client::AdminServiceClient;
use conveyor_grpc::v1::group_service_client::GroupServiceClient;
use conveyor_grpc::{ErrorCode, v1};
use conveyor_server::Broker;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::harness::PATIENCE;
use crate::node_process::{self, NodeProcess};

const PARTITIONS: i32 = 4;
const GROUPS: usize = 6;
const KILLS: usize = 4;

/// Not a test: the node that the test below starts and kills. Does nothing without its folder.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it is the process that another test starts"]
async fn node_process() {
    node_process::serve(&[], Broker::grpc_address).await;
}

async fn connect(node: &NodeProcess) -> Channel {
    let address = node.address().await;
    let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect().await.unwrap()
}

/// A group with one member, and what it was promised.
struct Worker {
    group_id: String,
    epoch: i32,
    acknowledged: [i64; PARTITIONS as usize],
    attempted: [i64; PARTITIONS as usize],
}

impl Worker {
    fn new(index: usize) -> Self {
        let nothing = [-1; PARTITIONS as usize];
        Self {
            group_id: format!("group-{index}"),
            epoch: 0,
            acknowledged: nothing,
            attempted: nothing,
        }
    }

    /// Joins, or goes on after a crash: with the epoch it had, and all of its partitions.
    async fn beat(&mut self, client: &mut GroupServiceClient<Channel>) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let joins = self.epoch == 0;
            let names = vec!["orders".to_owned()];
            let request = v1::ConsumerGroupHeartbeatRequest {
                group_id: self.group_id.clone(),
                member_id: "m".into(),
                member_epoch: self.epoch,
                rebalance_timeout_ms: 10_000,
                subscribed_topics: Some(v1::TopicNames { names }),
                owned: joins.then(v1::Assignment::default),
                ..Default::default()
            };
            let response = client
                .consumer_group_heartbeat(request)
                .await
                .unwrap()
                .into_inner();
            match ErrorCode::from_code(response.error_code) {
                ErrorCode::None => {
                    assert!(
                        joins || response.member_epoch == self.epoch,
                        "a restart rebalances"
                    );
                    self.epoch = response.member_epoch;
                    return;
                }
                ErrorCode::CoordinatorLoadInProgress => {
                    assert!(tokio::time::Instant::now() < deadline, "it loads for ever");
                }
                other => panic!("{}: {other:?}: {}", self.group_id, response.error_message),
            }
        }
    }

    /// Commits until the node is gone.
    async fn commit_until_killed(&mut self, mut client: GroupServiceClient<Channel>, seed: u64) {
        let mut rng = StdRng::seed_from_u64(seed);
        loop {
            let partition = rng.random_range(0..PARTITIONS);
            let place = partition as usize;
            self.attempted[place] += 1;
            let request = v1::CommitOffsetsRequest {
                group_id: self.group_id.clone(),
                member_id: "m".into(),
                member_epoch: self.epoch,
                offsets: vec![v1::OffsetToCommit {
                    topic: "orders".into(),
                    partition,
                    offset: self.attempted[place],
                    leader_epoch: -1,
                    metadata: String::new(),
                }],
            };
            let Ok(response) = client.commit_offsets(request).await else {
                return;
            };
            let result = response.into_inner().results.remove(0);
            assert_eq!(result.error_code, 0, "{}", result.error_message);
            self.acknowledged[place] = self.attempted[place];
        }
    }

    /// Checks what the node still knows against what it promised.
    async fn check(&mut self, client: &mut GroupServiceClient<Channel>) {
        let request = v1::FetchOffsetsRequest {
            group_id: self.group_id.clone(),
            member_id: "m".into(),
            member_epoch: self.epoch,
            ..Default::default()
        };
        let fetched = client.fetch_offsets(request).await.unwrap().into_inner();
        assert_eq!(fetched.error_code, 0, "{}", fetched.error_message);
        let mut found = [-1; PARTITIONS as usize];
        for offset in fetched.offsets {
            found[offset.partition as usize] = offset.offset;
        }
        for (place, found) in found.into_iter().enumerate() {
            let (least, most) = (self.acknowledged[place], self.attempted[place]);
            assert!(
                (least..=most).contains(&found),
                "{} partition {place}: {found} is committed, {least} was acknowledged, {most} sent",
                self.group_id
            );
            self.acknowledged[place] = found;
            self.attempted[place] = found;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_go_on_with_their_offsets_after_each_sigkill() {
    let seed = 20_240_511;
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut node = NodeProcess::start(TempDir::new().unwrap());
    let topic = v1::NewTopic {
        name: "orders".into(),
        partitions: PARTITIONS,
        replication_factor: -1,
        ..Default::default()
    };
    let request = v1::CreateTopicsRequest {
        topics: vec![topic],
        ..Default::default()
    };
    let mut admin = AdminServiceClient::new(connect(&node).await);
    let created = admin.create_topics(request).await.unwrap().into_inner();
    assert_eq!(created.topics[0].error_code, 0);

    let mut workers: Vec<Worker> = (0..GROUPS).map(Worker::new).collect();
    let mut commits = 0;
    for _ in 0..KILLS {
        let channel = connect(&node).await;
        let mut client = GroupServiceClient::new(channel.clone());
        for worker in &mut workers {
            worker.beat(&mut client).await;
            worker.check(&mut client).await;
        }
        let before: i64 = workers.iter().flat_map(|worker| worker.acknowledged).sum();
        let running: Vec<_> = workers
            .into_iter()
            .map(|mut worker| {
                let (client, seed) = (GroupServiceClient::new(channel.clone()), rng.random());
                tokio::spawn(async move {
                    worker.commit_until_killed(client, seed).await;
                    worker
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(rng.random_range(100..500))).await;
        node = NodeProcess::start(node.kill());
        workers = Vec::new();
        for worker in running {
            workers.push(worker.await.unwrap());
        }
        commits += workers
            .iter()
            .flat_map(|worker| worker.acknowledged)
            .sum::<i64>()
            - before;
    }
    let mut client = GroupServiceClient::new(connect(&node).await);
    for worker in &mut workers {
        worker.beat(&mut client).await;
        worker.check(&mut client).await;
    }
    println!("{commits} commits were acknowledged, {KILLS} kills");
    assert!(commits > 100, "only {commits} commits: nothing was proved");
    drop(node.kill());
}
