//! Text with NUL characters, which `PostgreSQL` cannot hold and an event may well bring.
//!
//! U+10FFFD (a private character, the last but one of Unicode) marks what follows: `0` stands for
//! NUL, another U+10FFFD for itself. All other text is kept as it is.

use std::borrow::Cow;

const MARK: char = '\u{10fffd}';

pub(super) fn to_stored(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', MARK]) {
        return Cow::Borrowed(text);
    }
    let mut stored = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\0' => stored.extend([MARK, '0']),
            MARK => stored.extend([MARK, MARK]),
            other => stored.push(other),
        }
    }
    Cow::Owned(stored)
}

pub(super) fn from_stored(stored: String) -> String {
    if !stored.contains(MARK) {
        return stored;
    }
    let mut text = String::with_capacity(stored.len());
    let mut characters = stored.chars();
    while let Some(character) = characters.next() {
        match character {
            MARK => match characters.next() {
                Some('0') => text.push('\0'),
                Some(other) => text.push(other),
                None => text.push(MARK),
            },
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_comes_back_and_no_nul_is_stored(text in "[a0\0\u{10fffd}ä]{0,12}") {
            let stored = to_stored(&text).into_owned();
            prop_assert!(!stored.contains('\0'));
            prop_assert_eq!(from_stored(stored), text);
        }
    }
}
