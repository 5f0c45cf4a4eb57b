//! One value of a row, whatever file it came from.

use std::borrow::Cow;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell<'a> {
    /// Nothing.
    Null,
    /// Text; in CSV every value.
    Text(Cow<'a, str>),
    /// A whole number.
    Integer(i64),
    /// A number.
    Float(f64),
    /// True or false.
    Boolean(bool),
    /// A moment that the file itself calls one, in unix seconds.
    Moment(i64),
    /// Several texts.
    List(Vec<String>),
}

/// Whether an id was text or an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdKind {
    /// Text.
    Text,
    /// An integer.
    Integer,
}

/// The value is there and is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unusable;

impl Cell<'_> {
    /// Whether there is no value: null, or empty text.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Text(text) => text.trim().is_empty(),
            Self::List(list) => list.is_empty(),
            Self::Float(x) => x.is_nan(),
            _ => false,
        }
    }

    /// As an id, kept exactly. `None` where there is none.
    ///
    /// # Errors
    /// For a value that can't be an id, such as a fraction.
    pub fn id(&self) -> Result<Option<(Cow<'_, str>, IdKind)>, Unusable> {
        match self {
            cell if cell.is_empty() => Ok(None),
            Self::Text(text) => Ok(Some((Cow::Borrowed(text), IdKind::Text))),
            Self::Integer(x) => Ok(Some((Cow::Owned(x.to_string()), IdKind::Integer))),
            _ => Err(Unusable),
        }
    }

    /// As text. `None` where there is none.
    pub fn text(&self) -> Option<String> {
        match self {
            cell if cell.is_empty() => None,
            Self::Text(text) => Some(text.trim().to_owned()),
            Self::Integer(x) | Self::Moment(x) => Some(x.to_string()),
            Self::Float(x) => Some(x.to_string()),
            Self::Boolean(x) => Some(x.to_string()),
            Self::List(list) => Some(list.join(",")),
            Self::Null => None,
        }
    }

    /// As a number. `None` where there is none.
    ///
    /// # Errors
    /// For text that is not a number.
    pub fn number(&self) -> Result<Option<f64>, Unusable> {
        match self {
            cell if cell.is_empty() => Ok(None),
            Self::Integer(x) => Ok(Some(*x as f64)),
            Self::Float(x) if x.is_finite() => Ok(Some(*x)),
            Self::Text(text) => text.trim().parse::<f64>().ok().filter(|x| x.is_finite()).map(Some).ok_or(Unusable),
            _ => Err(Unusable),
        }
    }

    /// As true or false: booleans, 0 and 1, and the usual words. `None` where there is none.
    ///
    /// # Errors
    /// For anything else.
    pub fn flag(&self) -> Result<Option<bool>, Unusable> {
        match self {
            cell if cell.is_empty() => Ok(None),
            Self::Boolean(x) => Ok(Some(*x)),
            Self::Integer(0) => Ok(Some(false)),
            Self::Integer(1) => Ok(Some(true)),
            // Where some have no value, programs turn the column into one of fractions.
            Self::Float(0.0) => Ok(Some(false)),
            Self::Float(1.0) => Ok(Some(true)),
            Self::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "t" | "yes" | "y" | "1" | "1.0" => Ok(Some(true)),
                "false" | "f" | "no" | "n" | "0" | "0.0" => Ok(Some(false)),
                _ => Err(Unusable),
            },
            _ => Err(Unusable),
        }
    }

    /// As several texts: a list, or one text split at commas, semicolons or bars; in brackets and quotes, as programs write
    /// lists into CSV, or without.
    pub fn list(&self) -> Vec<String> {
        let trimmed = |parts: &mut dyn Iterator<Item = &str>| {
            parts.map(str::trim).filter(|p| !p.is_empty()).map(str::to_owned).collect()
        };
        match self {
            Self::List(list) => trimmed(&mut list.iter().map(String::as_str)),
            Self::Text(text) => match text.trim().strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
                Some(within) if !within.contains(['[', ']']) => {
                    trimmed(&mut within.split(',').map(|part| part.trim().trim_matches(['"', '\''])))
                }
                _ => trimmed(&mut text.split([',', ';', '|'])),
            },
            cell => cell.text().into_iter().collect(),
        }
    }

    /// As a path of levels, from the top: a list of them, or text with slashes. `None` where there is none.
    pub fn path(&self) -> Option<String> {
        match self {
            Self::List(_) => Some(self.list().join("/")).filter(|path| !path.is_empty()),
            cell => cell.text(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_however_they_are_written() {
        let text = |text: &'static str| Cell::Text(text.into());
        let list = || vec!["a".to_owned(), "b c".to_owned()];
        for cell in
            [text("a;b c"), text("[\"a\", \"b c\"]"), text(" ['a', 'b c'] "), text("a|b c|"), Cell::List(list())]
        {
            assert_eq!(cell.list(), list(), "{cell:?}");
        }
        assert!(text("[]").list().is_empty());
        for cell in [text(" a/b c"), Cell::List(list()), Cell::List(vec!["a/b c".to_owned(), String::new()])] {
            assert_eq!(cell.path().as_deref(), Some("a/b c"), "{cell:?}");
        }
    }

    #[test]
    fn flags_of_columns_with_gaps_are_flags() {
        let text = |text: &'static str| Cell::Text(text.into());
        let flags = [Cell::Float(1.0), text("0.0"), Cell::Float(f64::NAN), Cell::Float(0.5)].map(|cell| cell.flag());
        assert_eq!(flags, [Ok(Some(true)), Ok(Some(false)), Ok(None), Err(Unusable)]);
    }
}
