//! A text in a file of settings, in which `${NAME}` stands for a variable of the environment.
//!
//! Secrets belong into the environment, not into files. The variable is put in while the file is
//! read, so that one that is missing is told with its line. What was put in is never shown: a text's
//! `Debug` is what stands in the file.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error};

/// A text with its variables put in.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text {
    written: String,
    expanded: String,
}

impl Text {
    /// With the variables' values.
    pub fn as_str(&self) -> &str {
        &self.expanded
    }

    /// As it stands in the file.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// For people: as it stands in the file, and a password that stands there in plain as `***`.
    pub fn shown(&self) -> String {
        let masked = (|| {
            let (scheme, rest) = self.written.split_once("://")?;
            let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
            let (user_info, _) = authority.rsplit_once('@')?;
            let (user, _) = user_info.split_once(':')?;
            Some(format!(
                "{scheme}://{user}:***@{}",
                &rest[user_info.len() + 1..]
            ))
        })();
        masked.unwrap_or_else(|| self.written.clone())
    }

    /// Puts the variables in that `lookup` knows. `$$` stands for one `$`.
    pub fn expand(
        written: &str,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, VariableError> {
        let mut expanded = String::with_capacity(written.len());
        let mut rest = written;
        while let Some(at) = rest.find('$') {
            expanded.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                expanded.push('$');
                rest = after;
                continue;
            }
            let Some((name, after)) = rest.strip_prefix('{').and_then(|r| r.split_once('}')) else {
                expanded.push('$');
                continue;
            };
            if !is_name(name) {
                return Err(VariableError::NotAName(name.to_owned()));
            }
            let value = lookup(name).ok_or_else(|| VariableError::NotSet(name.to_owned()))?;
            expanded.push_str(&value);
            rest = after;
        }
        expanded.push_str(rest);
        Ok(Self {
            written: written.to_owned(),
            expanded,
        })
    }
}

fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit())
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.written.fmt(f)
    }
}

impl From<&str> for Text {
    /// A text without variables.
    fn from(text: &str) -> Self {
        Self {
            written: text.to_owned(),
            expanded: text.to_owned(),
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = String::deserialize(deserializer)?;
        Self::expand(&written, |name| std::env::var(name).ok()).map_err(D::Error::custom)
    }
}

/// A variable that cannot be put in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VariableError {
    /// The environment does not have it.
    #[error("the environment has no variable {0}, set it or write $$ for a plain $")]
    NotSet(String),
    /// What stands between the braces names no variable.
    #[error("${{{0}}} names no variable: letters, digits and _ only, write $$ for a plain $")]
    NotAName(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(written: &str) -> Result<String, VariableError> {
        let lookup = |name: &str| match name {
            "USER" => Some("me".to_owned()),
            "PASSWORD" => Some("p$${USER}\"".to_owned()),
            _ => None,
        };
        Text::expand(written, lookup).map(|text| text.expanded)
    }

    #[test]
    fn variables_are_put_in_once_and_as_they_are() {
        assert_eq!(expand("plain"), Ok("plain".to_owned()));
        assert_eq!(
            expand("a://${USER}:${PASSWORD}@h"),
            Ok("a://me:p$${USER}\"@h".to_owned())
        );
        assert_eq!(expand("5$ $${USER} $x"), Ok("5$ ${USER} $x".to_owned()));
        assert_eq!(expand("${"), Ok("${".to_owned()));
        assert_eq!(
            expand("${NONE}"),
            Err(VariableError::NotSet("NONE".to_owned()))
        );
        assert_eq!(
            expand("${a b}"),
            Err(VariableError::NotAName("a b".to_owned()))
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let text = Text::expand("${X}", |_| Some("secret".to_owned())).unwrap();
        assert_eq!(format!("{text:?}"), "\"${X}\"");
        assert_eq!(Text::from("a://me:pw@h/x?y").shown(), "a://me:***@h/x?y");
        assert_eq!(Text::from("a://h/x").shown(), "a://h/x");
    }
}
