//! What a client asks first.

use anyhow::Result;
use conveyor_kafka::ApiKey;
use conveyor_kafka::messages::api_versions::ApiVersionsRequest;

use crate::side::Side;

pub(super) fn play(side: &mut Side) -> Result<()> {
    side.ask_all("what is served", |_| ApiVersionsRequest {
        client_software_name: "conformity".into(),
        client_software_version: "1.0".into(),
    })?;
    let nameless = ApiVersionsRequest {
        client_software_name: "not a name!".into(),
        client_software_version: "1.0".into(),
    };
    for version in side
        .versions(ApiKey::ApiVersions)
        .filter(|version| *version >= 3)
    {
        side.ask("a client with a name that is none", version, &nameless)?;
    }
    Ok(())
}
