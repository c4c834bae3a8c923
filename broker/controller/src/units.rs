//! Sizes and durations as people write them: `1 GiB`, `64k`, `7d`, `1h 30m`, or plain numbers.
//!
//! Sizes are in bytes, durations in milliseconds; a plain number is taken as such, and `-1` (Kafka's
//! "no limit") passes. Factors are binary for `KiB`, `k`, … and decimal for `KB`, ….

use thiserror::Error;

/// A text that is neither a number nor a number with a known unit.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is not {expected}")]
pub struct InvalidQuantity {
    /// The text.
    pub text: String,
    /// What was expected, with an example.
    pub expected: &'static str,
}

/// Bytes in a text such as `1 GiB`, `512k`, `1048576`.
pub fn parse_bytes(text: &str) -> Result<i64, InvalidQuantity> {
    parse_quantity(text, byte_factor).ok_or_else(|| InvalidQuantity {
        text: text.to_owned(),
        expected: "a size in bytes such as 1048576, \"64 KiB\" or \"1 GiB\"",
    })
}

/// Milliseconds in a text such as `7d`, `1h 30m`, `500ms`, `1000`.
pub fn parse_millis(text: &str) -> Result<i64, InvalidQuantity> {
    parse_quantity(text, milli_factor).ok_or_else(|| InvalidQuantity {
        text: text.to_owned(),
        expected: "a duration in milliseconds such as 1000, \"30s\" or \"7d\"",
    })
}

fn byte_factor(unit: &str) -> Option<i64> {
    Some(match unit {
        "b" | "" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    })
}

fn milli_factor(unit: &str) -> Option<i64> {
    Some(match unit {
        "ms" | "" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 604_800_000,
        _ => return None,
    })
}

/// The sum of `number unit` pairs; a number without unit stands alone.
fn parse_quantity(text: &str, factor: fn(&str) -> Option<i64>) -> Option<i64> {
    let text = text.trim().to_ascii_lowercase();
    if let Ok(plain) = text.parse::<i64>() {
        return Some(plain);
    }
    let mut rest = text.as_str();
    let mut total = 0i64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let tail = tail.trim_start();
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, next) = tail.split_at(letters);
        if unit.is_empty() {
            return None;
        }
        let part = number.parse::<i64>().ok()?.checked_mul(factor(unit)?)?;
        total = total.checked_add(part)?;
        rest = next.trim_start();
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_bytes("1048576"), Ok(1 << 20));
        assert_eq!(parse_bytes("1 GiB"), Ok(1 << 30));
        assert_eq!(parse_bytes("64k"), Ok(65_536));
        assert_eq!(parse_bytes("2 MB"), Ok(2_000_000));
        assert_eq!(parse_bytes("-1"), Ok(-1));
    }

    #[test]
    fn durations() {
        assert_eq!(parse_millis("1h 30m"), Ok(5_400_000));
        assert_eq!(parse_millis("7d"), Ok(604_800_000));
        assert_eq!(parse_millis("250ms"), Ok(250));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "GiB",
            "1 parsec",
            "9999999999 TiB",
            "1.5h",
            "-3s",
            "1 2",
            "ä",
        ] {
            assert!(parse_bytes(text).is_err(), "{text}");
            assert!(parse_millis(text).is_err(), "{text}");
        }
    }
}
