//! Frames: a length of four bytes, then a header, then a message.

use bytes::Bytes;

use crate::api::ApiKey;
use crate::error::{DecodeError, EncodeError, FrameError};
use crate::gather::Gather;
use crate::header::{RequestHeader, ResponseHeader};
use crate::input::Input;
use crate::message::{Message, Request};

/// The bytes of the length before a frame.
pub const PREFIX_SIZE: usize = 4;

/// The size that a frame's prefix announces, if it is not more than `max`.
///
/// Ask before allocating anything for the frame.
pub fn frame_size(prefix: [u8; PREFIX_SIZE], max: usize) -> Result<usize, FrameError> {
    let announced = i32::from_be_bytes(prefix);
    let size = usize::try_from(announced).map_err(|_| FrameError::Negative(announced))?;
    if size > max {
        return Err(FrameError::TooLarge { size, max });
    }
    Ok(size)
}

/// A request with prefix and header, ready to be sent.
pub fn request_frame<R: Request>(
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    request: &R,
) -> Result<Gather, EncodeError> {
    let header = RequestHeader {
        api_key: R::API_KEY,
        api_version: version,
        correlation_id,
        client_id: client_id.map(Into::into),
    };
    frame(|out| {
        header.encode(out)?;
        request.encode(version, out)
    })
}

/// A response with prefix and header, ready to be sent.
///
/// The header belongs to the version of the request, `version`, which is also the body's.
pub fn response_frame<M: Message>(
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    response: &M,
) -> Result<Gather, EncodeError> {
    frame(|out| {
        ResponseHeader { correlation_id }.encode(key, version, out);
        response.encode(version, out)
    })
}

/// Reads header and response from a frame without its prefix.
pub fn read_response<R: Request>(
    version: i16,
    frame: Bytes,
) -> Result<(ResponseHeader, R::Response), DecodeError> {
    let mut input = Input::new(frame);
    let header = ResponseHeader::decode(R::API_KEY, version, &mut input)?;
    Ok((header, R::Response::decode(version, &mut input)?))
}

/// A frame of what `write` writes.
pub fn frame(
    write: impl FnOnce(&mut Gather) -> Result<(), EncodeError>,
) -> Result<Gather, EncodeError> {
    let mut out = Gather::new();
    out.put(&[0; PREFIX_SIZE]);
    write(&mut out)?;
    let size = out.len() - PREFIX_SIZE;
    let size = i32::try_from(size).map_err(|_| EncodeError::TooLong {
        table: "frame",
        field: "size",
        length: size,
    })?;
    out.set_prefix(size.to_be_bytes());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_checked() {
        assert_eq!(frame_size([0, 0, 1, 0], 256), Ok(256));
        assert_eq!(
            frame_size([0, 0, 1, 0], 255),
            Err(FrameError::TooLarge {
                size: 256,
                max: 255
            })
        );
        assert_eq!(
            frame_size([0xff; 4], usize::MAX),
            Err(FrameError::Negative(-1))
        );
    }
}
