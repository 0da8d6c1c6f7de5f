//! E-mail by the one mail server that the operator names. Its address is his, so it may lie in his own network.

use super::words;
use framewake_proto::ids::Name;
use framewake_proto::notify::Notice;
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, Message};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use std::time::Duration;

/// Longest wait for one answer of the mail server.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Longest subject, in characters.
const SUBJECT_MAX: usize = 200;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("--smtp must be `smtps://user:password@host`, or `smtp://host?tls=required` for STARTTLS")]
    Url(#[source] lettre::transport::smtp::Error),
    #[error("--smtp has a password and no encryption: write `smtps://…`, or `smtp://…?tls=required` for STARTTLS")]
    Plain,
    #[error("--smtp-from `{address}` is not a mail address")]
    From {
        address: String,
        #[source]
        error: lettre::address::AddressError,
    },
    #[error("--smtp needs --smtp-from, the address that notifications come from")]
    NoFrom,
    #[error("`{address}` is not a mail address")]
    To {
        address: String,
        #[source]
        error: lettre::address::AddressError,
    },
    #[error("cannot write the mail")]
    Write(#[from] lettre::error::Error),
    #[error("the mail server does not take it")]
    Server(#[from] lettre::transport::smtp::Error),
}

/// A way to send mail.
#[derive(Debug)]
pub struct Mail {
    server: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl Mail {
    /// The mail server of `--smtp`; connects to nothing yet.
    pub fn new(url: &str, from: Option<&str>) -> Result<Mail, Error> {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        if scheme == "smtp" && rest.contains('@') && !rest.contains("tls=required") {
            return Err(Error::Plain);
        }
        let server = AsyncSmtpTransport::<Tokio1Executor>::from_url(url).map_err(Error::Url)?;
        let from = from.ok_or(Error::NoFrom)?;
        let from = from.parse().map_err(|error| Error::From { address: from.to_owned(), error })?;
        Ok(Mail { server: server.timeout(Some(ANSWER_MAX)).build(), from })
    }

    /// One mail to all of them. Its id stays the same at every try.
    pub(super) async fn send(&self, to: &[String], id: &str, farm: &Name, notice: &Notice) -> Result<(), Error> {
        let mail = self.write(to, id, farm, notice)?;
        self.server.send(mail).await?;
        Ok(())
    }

    fn write(&self, to: &[String], id: &str, farm: &Name, notice: &Notice) -> Result<Message, Error> {
        let subject: String = format!("[{farm}] {}", words::headline(notice))
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(SUBJECT_MAX)
            .collect();
        let mut mail = Message::builder()
            .from(self.from.clone())
            .message_id(Some(format!("<{id}@{farm}.framewake>")))
            .subject(subject);
        for address in to {
            mail = mail.to(mailbox(address)?);
        }
        Ok(mail.header(ContentType::TEXT_PLAIN).body(words::text(notice))?)
    }
}

pub(super) fn mailbox(address: &str) -> Result<Mailbox, Error> {
    address.parse().map_err(|error| Error::To { address: address.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_sent_in_the_clear() {
        let from = Some("farm@example.org");
        for url in ["smtp://me:secret@mail.example", "smtp://me:secret@mail.example?tls=opportunistic"] {
            assert!(matches!(Mail::new(url, from), Err(Error::Plain)), "{url}");
        }
        for url in ["nonsense", "http://mail.example", "smtp://?tls=maybe"] {
            assert!(matches!(Mail::new(url, from), Err(Error::Url(_))), "{url}");
        }
        assert!(matches!(Mail::new("smtp://mail.example", None), Err(Error::NoFrom)));
        assert!(matches!(Mail::new("smtp://mail.example", Some("farm")), Err(Error::From { .. })));
        Mail::new("smtp://mail.example", from).expect("a relay without a password");
    }

    #[test]
    fn no_line_of_a_subject_is_another_header() {
        let mail = Mail::new("smtp://mail.example", Some("farm@example.org")).expect("a relay");
        let notice = Notice::Missed {
            schedule: "nightly".parse().expect("a name"),
            project: "film".parse().expect("a name"),
            due: framewake_proto::time::Timestamp(0),
            reason: "gone\r\nBcc: all@example.org".to_owned(),
        };
        let farm = "farm".parse().expect("a name");
        let written = mail.write(&["ops@example.org".to_owned()], "01J", &farm, &notice).expect("a mail").formatted();
        let text = String::from_utf8(written).expect("text");
        let (head, _) = text.split_once("\r\n\r\n").expect("a head");
        assert!(!head.to_ascii_lowercase().contains("\nbcc:"), "{head}");
        assert!(head.contains("Message-ID: <01J@farm.framewake>"), "{head}");
    }
}
