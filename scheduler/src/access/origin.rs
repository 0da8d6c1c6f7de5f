//! Where a page comes from, as browsers write it: `https://tools.example`, without a path.

use std::str::FromStr;

/// An origin whose pages may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is no origin: write it as browsers do, `https://tools.example` or `http://localhost:3000`, without a path; there is no `*`"
)]
pub struct OriginError(String);

impl Origin {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Origin, OriginError> {
        let wrong = || OriginError(text.chars().take(64).collect());
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).ok_or_else(wrong)?;
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.:[]".contains(c);
        if host.is_empty() || !host.chars().all(good) {
            return Err(wrong());
        }
        Ok(Origin(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_written_as_browsers_write_it() {
        for good in ["https://tools.example", "http://localhost:3000", "http://[::1]:8080"] {
            assert_eq!(good.parse::<Origin>().expect("good").as_str(), good);
        }
        for bad in
            ["*", "null", "tools.example", "https://", "https://tools.example/", "https://Tools.example", "ftp://a"]
        {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }
}
