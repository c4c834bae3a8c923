//! Where read models are kept, as a command is told with `--store`.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;

use clap::Args;
use conveyor_paklog::projection::NAMES;
use conveyor_processors::Store;
use conveyor_stores::StoreAddress;
use conveyor_stores::address::AddressError;

use crate::output::note;
use crate::projections::Stores;

/// The file that is used when nothing is said.
const DEFAULT_STORE: &str = "sqlite:read-models.sqlite";

const STORE_HELP: &str = "\
Where the read models are kept; NAME= before it: for that projection only

For commands at work the variable CONVEYOR_STORE names the one for all too, and hides its password
from the list of processes. Addresses:
  sqlite:PATH or PATH                       one file, created if missing
  postgres://USER:PASSWORD@HOST/DATABASE    ?sslmode=verify-full&sslrootcert=PEM&schema=NAME
  redis://:PASSWORD@HOST/DB?prefix=NAME     rediss for TLS; also redis+cluster://HOST,HOST
                                            and redis+sentinel://HOST,HOST/MASTER
  mongodb://USER:PASSWORD@HOST/DATABASE     any of the driver's own settings";

#[derive(Args, Debug)]
pub(crate) struct StoreArgs {
    /// Where the read models are kept; NAME= before it: for that projection only
    #[arg(long, value_name = "[NAME=]ADDRESS", long_help = STORE_HELP)]
    store: Vec<StoreChoice>,
}

/// The store of one projection or of all.
#[derive(Clone, Debug, PartialEq, Eq)]
struct StoreChoice {
    projection: Option<String>,
    address: StoreAddress,
}

impl FromStr for StoreChoice {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (projection, address) = match text.split_once('=') {
            Some((name, address)) if NAMES.contains(&name) => (Some(name.to_owned()), address),
            _ => (None, text),
        };
        Ok(Self {
            projection,
            address: address.parse()?,
        })
    }
}

impl StoreArgs {
    /// Whether nothing was chosen.
    pub(crate) const fn is_empty(&self) -> bool {
        self.store.is_empty()
    }

    /// Opens what was chosen, `default` for what nobody chose.
    pub(crate) async fn open_or(
        &self,
        default: &str,
        wanted: &BTreeSet<&str>,
    ) -> anyhow::Result<Stores> {
        let addresses = self.addresses_or(default, wanted)?;
        let opened = open(addresses.iter().map(|(name, address)| (*name, address))).await?;
        opened.ok_or_else(|| anyhow::anyhow!("no projection to run"))
    }

    /// Where these projections are kept, by the variable too.
    pub(crate) fn addresses<'n>(
        &self,
        wanted: &BTreeSet<&'n str>,
    ) -> Result<BTreeMap<&'n str, StoreAddress>, AddressError> {
        let default = std::env::var("CONVEYOR_STORE");
        self.addresses_or(default.as_deref().unwrap_or(DEFAULT_STORE), wanted)
    }

    fn addresses_or<'n>(
        &self,
        default: &str,
        wanted: &BTreeSet<&'n str>,
    ) -> Result<BTreeMap<&'n str, StoreAddress>, AddressError> {
        let default = match self.store.iter().rev().find(|c| c.projection.is_none()) {
            Some(choice) => choice.address.clone(),
            None => default.parse()?,
        };
        let of = |name: &str| {
            let choice = self.store.iter().rev();
            let mut choice = choice.filter(|c| c.projection.as_deref() == Some(name));
            choice.next().map_or(&default, |choice| &choice.address)
        };
        Ok(wanted
            .iter()
            .map(|name| (*name, of(name).clone()))
            .collect())
    }
}

/// Opens the stores of some projections, each address once; tells what is kept where. `None` for no
/// projection.
pub(crate) async fn open<'a>(
    addresses: impl Iterator<Item = (&'a str, &'a StoreAddress)>,
) -> anyhow::Result<Option<Stores>> {
    let mut opened: BTreeMap<&str, Arc<dyn Store>> = BTreeMap::new();
    let mut stores: Option<Stores> = None;
    for (name, address) in addresses {
        let store = if let Some(store) = opened.get(address.as_str()) {
            Arc::clone(store)
        } else {
            let store = address.open().await?;
            opened.insert(address.as_str(), Arc::clone(&store));
            store
        };
        note(format!("{name} in {}", store.describe()));
        match &mut stores {
            Some(stores) => stores.keep(name.to_owned(), store),
            None => stores = Some(Stores::one(store)),
        }
    }
    Ok(stores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_for_all_or_for_one_projection() {
        let choice = |text: &str| {
            let choice: StoreChoice = text.parse().unwrap();
            (choice.projection, choice.address.to_string())
        };
        let shown = |projection: Option<&str>, address: &str| {
            (projection.map(str::to_owned), address.to_owned())
        };
        assert_eq!(choice("read.sqlite"), shown(None, "read.sqlite"));
        assert_eq!(choice("atp=redis://h"), shown(Some("atp"), "redis://h"));
        let with_settings = "postgres://h/d?schema=atp";
        assert_eq!(choice(with_settings), shown(None, with_settings));
        assert!("atp=mysql://h".parse::<StoreChoice>().is_err());
    }
}
