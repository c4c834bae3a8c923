//! Pure metadata: records, image, placement.
#![forbid(unsafe_code)]
