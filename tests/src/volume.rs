//! A volume whose power can be cut: ext4 in a file, mounted by loop device.
//!
//! The file system's shutdown call makes every later write fail and forgets what was not synced, as
//! a power cut does; after the next mount only synced bytes are there. Needs root, for mounting.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// `EXT4_IOC_SHUTDOWN` and its flag "without flushing the journal".
const CUT: &str = "open(my $d, '<', $ARGV[0]) or die $!; my $flag = pack('L', 2); ioctl($d, 0x8004587d, $flag) or die $!";

/// An ext4 file system of its own.
#[derive(Debug)]
pub struct Volume {
    image: PathBuf,
    mount_point: PathBuf,
    mounted: bool,
}

impl Volume {
    /// Makes a volume of `mebibytes` in `folder` and mounts it.
    pub fn create(folder: &Path, mebibytes: u64) -> Result<Self> {
        let image = folder.join("volume.img");
        std::fs::File::create(&image)?.set_len(mebibytes << 20)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
        let mount_point = folder.join("volume");
        std::fs::create_dir_all(&mount_point)?;
        let mut volume = Self {
            image,
            mount_point,
            mounted: false,
        };
        volume.mount()?;
        Ok(volume)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount_point
    }

    /// Cuts the power: what was not synced is lost, every later call fails.
    pub fn cut_power(&self) -> Result<()> {
        run(Command::new("perl")
            .args(["-e", CUT])
            .arg(&self.mount_point))
    }

    /// Unmounts and mounts again, as after the power has come back. Nobody may hold files open.
    pub fn power_on(&mut self) -> Result<()> {
        self.unmount()?;
        self.mount()
    }

    fn mount(&mut self) -> Result<()> {
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(&self.image)
            .arg(&self.mount_point))?;
        self.mounted = true;
        Ok(())
    }

    fn unmount(&mut self) -> Result<()> {
        run(Command::new("umount").arg(&self.mount_point))?;
        self.mounted = false;
        Ok(())
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if self.mounted {
            Command::new("umount")
                .arg("-l")
                .arg(&self.mount_point)
                .status()
                .ok();
        }
    }
}

fn run(command: &mut Command) -> Result<()> {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = command
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "needs root to mount: `make power-cut` runs it"]
    fn a_cut_loses_what_was_not_synced_and_nothing_else() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let mut volume = Volume::create(folder.path(), 64)?;
        let synced = volume.path().join("synced");
        std::fs::write(&synced, "kept")?;
        std::fs::File::open(&synced)?.sync_all()?;
        std::fs::File::open(volume.path())?.sync_all()?;
        let unsynced = volume.path().join("unsynced");
        std::fs::write(&unsynced, "lost")?;
        volume.cut_power()?;
        assert!(std::fs::write(volume.path().join("late"), "x").is_err());
        volume.power_on()?;
        assert_eq!(std::fs::read_to_string(&synced)?, "kept");
        assert!(!unsynced.exists());
        Ok(())
    }
}
