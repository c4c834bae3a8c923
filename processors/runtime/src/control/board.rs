//! The control topic, read from its beginning: what stands there now.

use std::collections::BTreeMap;

use super::{Answer, Command, Desired, Key, Report};

/// A report that is older than this is of an instance that is gone.
pub const GONE_AFTER_MS: i64 = 35_000;

/// What stands in the control topic.
#[derive(Clone, Debug, Default)]
pub struct Board {
    desired: BTreeMap<String, Desired>,
    commands: BTreeMap<(String, String), Command>,
    answers: BTreeMap<(String, String), BTreeMap<String, Answer>>,
    reports: BTreeMap<String, BTreeMap<String, Report>>,
}

impl Board {
    /// Takes in a record; no value removes what was there. What cannot be read (of a later version
    /// of this program, or a stranger's) changes nothing.
    pub fn take(&mut self, key: &[u8], value: Option<&[u8]>) {
        let Some(key) = Key::parse(key) else {
            return;
        };
        match key {
            Key::Desired { projection } => put(&mut self.desired, projection, value),
            Key::Command { projection, id } => put(&mut self.commands, (projection, id), value),
            Key::Answer {
                projection,
                id,
                instance,
            } => {
                let answers = self.answers.entry((projection, id)).or_default();
                put(answers, instance, value);
            }
            Key::Report {
                projection,
                instance,
            } => put(self.reports.entry(projection).or_default(), instance, value),
        }
    }

    /// Whether a projection is asked to pause.
    pub fn is_paused(&self, projection: &str) -> bool {
        self.desired.get(projection).is_some_and(|d| d.paused)
    }

    /// What is to be done of a projection, with its id, oldest first.
    pub fn commands(&self, projection: &str) -> Vec<(&str, &Command)> {
        let of_it = self.commands.iter().filter(|((p, _), _)| p == projection);
        let mut commands: Vec<_> = of_it.map(|((_, id), c)| (id.as_str(), c)).collect();
        commands.sort_by_key(|(id, command)| (command.asked_at_ms, *id));
        commands
    }

    /// What came of a command, by instance.
    pub fn answers(&self, projection: &str, id: &str) -> Vec<(&str, &Answer)> {
        let answers = self.answers.get(&(projection.to_owned(), id.to_owned()));
        let answers = answers.into_iter().flatten();
        answers.map(|(i, answer)| (i.as_str(), answer)).collect()
    }

    /// Names of the projections that somebody has told of.
    pub fn projections(&self) -> Vec<&str> {
        let told = self
            .reports
            .iter()
            .filter(|(_, reports)| !reports.is_empty());
        told.map(|(projection, _)| projection.as_str()).collect()
    }

    /// The last report of each instance of a projection.
    pub fn reports(&self, projection: &str) -> Vec<(&str, &Report)> {
        let reports = self.reports.get(projection).into_iter().flatten();
        reports.map(|(i, report)| (i.as_str(), report)).collect()
    }

    /// Instances of a projection that are at work.
    pub fn live(&self, projection: &str, now_ms: i64) -> Vec<&str> {
        let reports = self.reports(projection).into_iter();
        let live = reports.filter(|(_, report)| report.is_live(now_ms));
        live.map(|(instance, _)| instance).collect()
    }
}

impl Report {
    /// Whether the instance is at work: it has reported lately and has not stopped.
    pub fn is_live(&self, now_ms: i64) -> bool {
        !self.is_gone(now_ms) && self.state != "STOPPED"
    }

    /// Whether the instance reports no more, without having said that it stops.
    pub fn is_gone(&self, now_ms: i64) -> bool {
        self.state != "STOPPED" && now_ms - self.at_ms > GONE_AFTER_MS
    }
}

fn put<K: Ord, V: serde::de::DeserializeOwned>(
    map: &mut BTreeMap<K, V>,
    key: K,
    value: Option<&[u8]>,
) {
    match value.map(serde_json::from_slice) {
        Some(Ok(value)) => {
            map.insert(key, value);
        }
        None => {
            map.remove(&key);
        }
        Some(Err(_)) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Action;

    fn command(asked_at_ms: i64) -> Vec<u8> {
        let action = Action::List;
        serde_json::to_vec(&Command {
            asked_at_ms,
            action,
        })
        .unwrap()
    }

    #[test]
    fn the_last_record_of_a_key_counts_and_none_removes() {
        let mut board = Board::default();
        board.take(b"desired/atp", Some(b"{\"paused\":true}"));
        assert!(board.is_paused("atp") && !board.is_paused("order_tracking"));
        board.take(b"desired/atp", Some(b"no json"));
        assert!(
            board.is_paused("atp"),
            "what cannot be read changes nothing"
        );
        board.take(b"desired/atp", None);
        assert!(!board.is_paused("atp"));
    }

    #[test]
    fn commands_stay_until_they_are_removed_oldest_first() {
        let mut board = Board::default();
        board.take(b"command/atp/a", Some(&command(5)));
        board.take(b"command/atp/b", Some(&command(3)));
        board.take(b"command/other/c", Some(&command(1)));
        let ids = |board: &Board| -> Vec<String> {
            let commands = board.commands("atp").into_iter();
            commands.map(|(id, _)| id.to_owned()).collect()
        };
        assert_eq!(ids(&board), ["b", "a"]);
        board.take(b"command/atp/b", None);
        assert_eq!(ids(&board), ["a"]);
    }

    #[test]
    fn an_instance_that_reports_no_more_is_gone() {
        let mut report = Report {
            at_ms: 1_000,
            state: "RUNNING".to_owned(),
            ..Report::default()
        };
        assert!(report.is_live(2_000));
        assert!(report.is_gone(1_001 + GONE_AFTER_MS));
        report.state = "STOPPED".to_owned();
        assert!(!report.is_gone(i64::MAX) && !report.is_live(1_000));
    }
}
