//! `ApiVersions`, and what becomes of requests that are not served.

use conveyor_grpc::ErrorCode;
use conveyor_kafka::ApiKey;
use conveyor_kafka::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use conveyor_kafka::messages::metadata::MetadataRequest;
use conveyor_kafka::messages::sasl_authenticate::SaslAuthenticateRequest;
use conveyor_kafka::messages::sasl_handshake::SaslHandshakeRequest;

use crate::client::{KafkaClient, code, metadata_request, produce_request};
use crate::harness::{TestBroker, batch};

fn named() -> ApiVersionsRequest {
    ApiVersionsRequest {
        client_software_name: "raw".into(),
        client_software_version: "1.0".into(),
    }
}

fn range(response: &ApiVersionsResponse, key: ApiKey) -> (i16, i16) {
    let found = response
        .api_keys
        .iter()
        .find(|api| api.api_key == key.code());
    let found = found.expect("the API is listed");
    (found.min_version, found.max_version)
}

/// A request header of version 2 with nothing behind it.
fn header(key: i16, version: i16, correlation: i32) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(correlation.to_be_bytes());
    frame.extend([0xff, 0xff]); // no client id
    frame
}

fn framed(frame: &[u8]) -> Vec<u8> {
    let mut bytes = (frame.len() as u32).to_be_bytes().to_vec();
    bytes.extend(frame);
    bytes
}

#[tokio::test]
async fn every_version_tells_the_same() {
    let broker = TestBroker::start().await;
    let mut client = KafkaClient::connect(&broker).await;
    for version in 0..=4 {
        let response = client.call(version, &named()).await;
        assert_eq!(response.error_code, 0);
        // Produce 0 to 2 are listed for old clients that look for them, and not served.
        assert_eq!(range(&response, ApiKey::Produce).0, 0);
        assert_eq!(range(&response, ApiKey::ApiVersions), (0, 4));
        assert_eq!(range(&response, ApiKey::Metadata), (0, 13));
        assert_eq!(range(&response, ApiKey::OffsetForLeaderEpoch), (2, 4));
        let keys: Vec<i16> = response.api_keys.iter().map(|api| api.api_key).collect();
        assert!(keys.is_sorted(), "{keys:?}");
    }
    broker.stop().await;
}

#[tokio::test]
async fn trap_01_a_version_from_the_future_is_answered_as_version_0() {
    let broker = TestBroker::start().await;
    let mut client = KafkaClient::connect(&broker).await;
    for version in [5, 99] {
        let mut frame = header(ApiKey::ApiVersions.code(), version, 7);
        frame.push(0); // no tagged fields
        frame.extend(b"\x04raw\x04new\x00 and what the future adds");
        client.send_raw(&framed(&frame)).await;
        let (correlation, response) = client.receive::<ApiVersionsRequest>(0).await;
        assert_eq!(correlation, 7);
        assert_eq!(response.error_code, code(ErrorCode::UnsupportedVersion));
        assert_eq!(range(&response, ApiKey::ApiVersions), (0, 4));
    }
    // The connection goes on.
    assert_eq!(client.call(3, &named()).await.error_code, 0);
    broker.stop().await;
}

#[tokio::test]
async fn trap_02_the_response_header_stays_at_version_0() {
    let broker = TestBroker::start().await;
    let mut client = KafkaClient::connect(&broker).await;
    let correlation = client.send(4, &named()).await;
    let frame = client.try_frame().await.unwrap();
    // The error code follows the correlation id at once: no tagged fields of a header between.
    assert_eq!(frame[..4], correlation.to_be_bytes());
    assert_eq!(frame[4..6], [0, 0]);
    let apis = usize::from(frame[6]) - 1;
    assert!(apis > 10, "{apis} is no count of APIs");
    broker.stop().await;
}

#[tokio::test]
async fn trap_02_names_of_software_are_checked_from_version_3_on() {
    let broker = TestBroker::start().await;
    let mut client = KafkaClient::connect(&broker).await;
    let request = ApiVersionsRequest {
        client_software_name: "-bad name-".into(),
        ..named()
    };
    for version in [3, 4] {
        let response = client.call(version, &request).await;
        assert_eq!(response.error_code, code(ErrorCode::InvalidRequest));
    }
    assert_eq!(client.call(2, &request).await.error_code, 0);
    broker.stop().await;
}

#[tokio::test]
async fn trap_05_what_is_not_served_or_not_a_request_closes_the_connection_alone() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut bystander = KafkaClient::connect(&broker).await;

    let unknown_api = framed(&header(9_999, 0, 1));
    let not_served = framed(&header(ApiKey::Vote.code(), 0, 1));
    let no_header = framed(b"GET ");
    let negative = (-1i32).to_be_bytes().to_vec();
    let huge = i32::MAX.to_be_bytes().to_vec();
    // A count of a billion topics in a request of a few bytes.
    let mut lie = header(ApiKey::Metadata.code(), 4, 1);
    lie.extend([0x3b, 0x9a, 0xca, 0x00, 0x00]);
    for bytes in [
        unknown_api,
        not_served,
        no_header,
        negative,
        huge,
        framed(&lie),
    ] {
        let mut client = KafkaClient::connect(&broker).await;
        client.send_raw(&bytes).await;
        assert!(client.is_closed().await, "{bytes:?}");
    }
    let mut client = KafkaClient::connect(&broker).await;
    let old = client.frame(3, &produce_request("t", 0, batch(&["a"])));
    let mut old = old.to_vec();
    old[7] = 2; // Produce 2 is listed and refused
    client.send_raw(&old).await;
    assert!(client.is_closed().await);
    let metadata = bystander.metadata(9, &["t"]).await;
    assert_eq!(metadata.topics[0].error_code, 0);
    broker.stop().await;
}

#[tokio::test]
async fn bytes_behind_a_request_are_ignored() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let mut longer = client.frame(8, &metadata_request(&["t"])).to_vec();
    longer.extend([0; 3]);
    let size = longer.len() as u32 - 4;
    longer[..4].copy_from_slice(&size.to_be_bytes());
    client.send_raw(&longer).await;
    let (_, response) = client.receive::<MetadataRequest>(8).await;
    assert_eq!(response.topics[0].error_code, 0);
    broker.stop().await;
}

#[tokio::test]
async fn trap_05_unknown_tagged_fields_are_skipped() {
    let broker = TestBroker::start().await;
    let mut client = KafkaClient::connect(&broker).await;
    let mut frame = header(ApiKey::ApiVersions.code(), 3, 9);
    frame.extend([1, 77, 3, b'x', b'y', b'z']); // one tagged field in the header
    frame.extend(b"\x04raw\x041.0");
    frame.extend([1, 42, 1, b'?']); // one in the body
    client.send_raw(&framed(&frame)).await;
    let (correlation, response) = client.receive::<ApiVersionsRequest>(3).await;
    assert_eq!((correlation, response.error_code), (9, 0));
    broker.stop().await;
}

#[tokio::test]
async fn without_authentication_there_is_nothing_to_shake_hands_about() {
    let broker = TestBroker::start().await;
    let mut client = KafkaClient::connect(&broker).await;
    let handshake = SaslHandshakeRequest {
        mechanism: "PLAIN".into(),
    };
    let response = client.call(1, &handshake).await;
    assert_eq!(response.error_code, code(ErrorCode::IllegalSaslState));
    let token = SaslAuthenticateRequest {
        auth_bytes: "\0user\0secret".into(),
    };
    let response = client.call(2, &token).await;
    assert_eq!(response.error_code, code(ErrorCode::IllegalSaslState));
    assert!(response.error_message.unwrap().contains("without SASL"));
    broker.stop().await;
}
