//! Links between machines: loss, doubles, delay (and with it reordering), and cuts by direction.

use std::collections::BTreeSet;

use bytes::Bytes;
use conveyor_log::disk::SimRng;
use conveyor_quorum::{Identity, Probe};
use uuid::Uuid;

/// What travels.
#[derive(Debug, Clone)]
pub(crate) enum Packet {
    /// A message of the quorum.
    Quorum(Bytes),
    /// What do you have?
    Ask,
    /// An answer to [`Packet::Ask`], to the process that asked.
    Answer { life: u64, probe: Probe },
    /// Take me in.
    Join { directory_id: Uuid },
    /// You are a member.
    Joined {
        directory_id: Uuid,
        identity: Identity,
    },
}

/// How bad the network is. Chances are in a thousand.
#[derive(Debug, Default)]
pub(crate) struct Network {
    pub(crate) loss: u64,
    pub(crate) doubles: u64,
    /// Chance of a delay of up to a second.
    pub(crate) late: u64,
    pub(crate) cut: BTreeSet<(i32, i32)>,
}

impl Network {
    /// When copies of a packet arrive, in ms from now.
    pub(crate) fn send(&self, rng: &mut SimRng, from: i32, to: i32) -> Vec<i64> {
        if self.cut.contains(&(from, to)) || rng.below(1_000) < self.loss {
            return Vec::new();
        }
        let copies = 1 + usize::from(rng.below(1_000) < self.doubles);
        let delay = |rng: &mut SimRng| {
            let most = if rng.below(1_000) < self.late {
                1_000
            } else {
                12
            };
            1 + rng.below(most) as i64
        };
        (0..copies).map(|_| delay(rng)).collect()
    }

    /// No link is cut any more.
    pub(crate) fn join(&mut self) {
        self.cut.clear();
    }

    fn cut_both(&mut self, a: i32, b: i32) {
        self.cut.insert((a, b));
        self.cut.insert((b, a));
    }

    /// Cuts the network in one of several ways.
    pub(crate) fn split(&mut self, rng: &mut SimRng, nodes: &[i32]) {
        self.join();
        let odd = nodes[rng.below(nodes.len() as u64) as usize];
        let halves: Vec<bool> = nodes.iter().map(|_| rng.one_in(2)).collect();
        let way = rng.below(4);
        for (i, a) in nodes.iter().copied().enumerate() {
            for (j, b) in nodes.iter().copied().enumerate().filter(|(j, _)| *j != i) {
                match way {
                    // In two halves.
                    0 if halves[i] != halves[j] => self.cut_both(a, b),
                    // One alone.
                    1 if a == odd => self.cut_both(a, b),
                    // One that hears nothing, or is not heard, by some.
                    2 if a == odd && halves[j] => drop(self.cut.insert((a, b))),
                    2 if b == odd && !halves[i] && halves[j] => drop(self.cut.insert((a, b))),
                    // In two halves with a bridge.
                    3 if halves[i] != halves[j] && a != odd && b != odd => self.cut_both(a, b),
                    _ => {}
                }
            }
        }
    }
}
