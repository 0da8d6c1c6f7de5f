//! Who says hello to NATS: user and password, or a token, as they stand in its address. NATS' client for Rust takes addresses with
//! them and leaves them unread.

use std::fmt;

/// What NATS is told by who wants in.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    Password { user: String, password: String },
    Token(String),
}

/// Never what is in it.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Login::Password { .. } => "Login::Password",
            Login::Token(_) => "Login::Token",
        })
    }
}

impl Login {
    /// Of the first that has one, of addresses with commas between them: `nats://user:password@host:4222`. Signs that would end
    /// the password are written as in every URL: `%40` is `@`.
    pub fn of(addresses: &str) -> Option<Login> {
        addresses.split(',').find_map(|address| {
            let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
            let (login, _) = rest.rsplit_once('@')?;
            match login.split_once(':') {
                Some((user, password)) => Some(Login::Password { user: decoded(user), password: decoded(password) }),
                None => Some(Login::Token(decoded(login))),
            }
        })
    }
}

/// The same addresses for somebody else.
pub fn without_login(addresses: &str) -> String {
    let bare = |address: &str| {
        let (scheme, rest) = address.split_once("://").map_or(("", address), |(scheme, rest)| (scheme, rest));
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") }
    };
    addresses.split(',').map(bare).collect::<Vec<_>>().join(",")
}

/// `%40` is `@`; what is no such number stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let number = after.get(..2).filter(|_| *first == b'%').and_then(|two| hex::decode(two).ok());
        if let Some(number) = number {
            bytes.extend(number);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_read_from_an_address_as_it_was_meant() {
        let password =
            |user: &str, password: &str| Some(Login::Password { user: user.to_owned(), password: password.to_owned() });
        let token = |token: &str| Some(Login::Token(token.to_owned()));
        for (address, login) in [
            ("nats://127.0.0.1:4222", None),
            ("127.0.0.1", None),
            ("", None),
            ("nats://farm:secret@host:4222", password("farm", "secret")),
            ("farm:secret@host", password("farm", "secret")),
            ("tls://farm:p%40ss%2Fw%3Ard@host", password("farm", "p@ss/w:rd")),
            ("nats://farm:p@ss@host", password("farm", "p@ss")),
            ("nats://farm:a:b@host", password("farm", "a:b")),
            ("nats://farm:100%@host", password("farm", "100%")),
            ("nats://farm:%zz%4@host", password("farm", "%zz%4")),
            ("nats://farm:@host", password("farm", "")),
            ("nats://s3cr3t@host", token("s3cr3t")),
            ("nats://one:4222,nats://farm:secret@two:4222", password("farm", "secret")),
        ] {
            assert!(Login::of(address) == login, "{address}");
            let bare = without_login(address);
            assert!(Login::of(&bare).is_none() && address.ends_with(bare.rsplit('/').next().unwrap_or("")), "{bare}");
        }
    }

    #[test]
    fn a_login_is_never_printed() {
        let printed = format!("{:?} {:?}", Login::of("nats://farm:secret@host"), Login::of("nats://secret@host"));
        assert!(!printed.contains("secret") && !printed.contains("farm"), "{printed}");
    }
}
