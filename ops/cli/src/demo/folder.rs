//! Where a demo lies: one folder that is left behind to look around in, and replaced by the next
//! demo. Only a folder that a demo has made is ever removed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Says that the folder is a demo's.
const MARKER: &str = ".conveyor-demo";

/// The folder of one demo.
#[derive(Clone, Debug)]
pub(crate) struct DemoFolder {
    path: PathBuf,
}

impl DemoFolder {
    /// An empty folder: `dir`, or one in the system's place for temporary files.
    pub(crate) fn create(dir: Option<&Path>) -> anyhow::Result<Self> {
        let path = match dir {
            Some(dir) => std::path::absolute(dir).context("cannot tell the current folder")?,
            None => std::env::temp_dir().join("conveyor-demo"),
        };
        let cannot = || {
            format!(
                "cannot prepare {} (choose another with --dir)",
                path.display()
            )
        };
        if path.join(MARKER).exists() {
            fs::remove_dir_all(&path).with_context(cannot)?;
        } else if path.exists() && fs::read_dir(&path).with_context(cannot)?.next().is_some() {
            anyhow::bail!(
                "{} is not empty and not of a demo: choose another folder with --dir",
                path.display()
            );
        }
        fs::create_dir_all(&path).with_context(cannot)?;
        fs::write(
            path.join(MARKER),
            "made by `conveyor demo`, replaced by the next one\n",
        )
        .with_context(cannot)?;
        Ok(Self { path })
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The SQLite file of the read models.
    pub(crate) fn read_models(&self) -> PathBuf {
        self.path.join("read-models.sqlite")
    }

    /// The node's log lines.
    pub(crate) fn node_log(&self) -> PathBuf {
        self.path.join("node.log")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_demos_folder_is_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("demo");
        let folder = DemoFolder::create(Some(&dir)).unwrap();
        fs::write(folder.read_models(), "old").unwrap();
        let again = DemoFolder::create(Some(&dir)).unwrap();
        assert!(!again.read_models().exists());

        fs::write(parent.path().join("precious"), "x").unwrap();
        let refused = DemoFolder::create(Some(parent.path()))
            .unwrap_err()
            .to_string();
        assert!(refused.contains("not empty"), "{refused}");
        assert!(parent.path().join("precious").exists());
    }
}
