//! What a store's failures mean, in words without secrets.

use super::Fault;

/// What stores say when there is no room: their codes, and the words of the system below them.
const FULL: [&str; 7] = [
    "No space left on device",
    "Disk quota exceeded",
    "status code: 507",
    "InsufficientStorage",
    "QuotaExceeded",
    "StorageFull",
    "XMinioStorageFull",
];

pub fn down(error: &object_store::Error) -> Fault {
    let text = whole(error);
    let what = match error {
        object_store::Error::PermissionDenied { .. } => "the store refuses the credentials, or what they may do",
        object_store::Error::Unauthenticated { .. } => "the store wants credentials, or other ones",
        _ if FULL.iter().any(|sign| text.contains(sign)) => "the store is full",
        // Some say no more than this, whatever happened to them.
        _ if text.contains("status code: 500") || text.contains("InternalError") => {
            "the store failed inside, or is full: its own log says which"
        }
        _ => "the store failed",
    };
    Fault::Down(format!("{what} ({})", essence(&text)))
}

/// What came back from the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Asked again, it would say no again.
    No,
    /// It failed inside, or has too much to do.
    Failed,
    None,
}

pub fn answer(error: &object_store::Error) -> Answer {
    let text = whole(error);
    match text.split_once("status code: ") {
        Some((_, code)) => {
            let is_no = code.starts_with('4') && !code.starts_with("408") && !code.starts_with("429");
            if is_no { Answer::No } else { Answer::Failed }
        }
        // object_store's words where no answer came.
        None => {
            if text.contains("Error performing") {
                Answer::None
            } else {
                Answer::No
            }
        }
    }
}

/// An error with all its causes.
fn whole(error: &object_store::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// What matters of a store's answer. Its text may repeat the request, with its signature: an answer in XML is cut down to its
/// code and message, and queries of URLs go.
fn essence(text: &str) -> String {
    let between = |tag: &str| {
        let (_, rest) = text.split_once(&format!("<{tag}>"))?;
        Some(rest.split_once(&format!("</{tag}>"))?.0.to_owned())
    };
    if let Some(code) = between("Code") {
        let message = between("Message").unwrap_or_default();
        return format!("{code}: {}", message.lines().next().unwrap_or_default())
            .trim_end_matches([':', ' '])
            .to_owned();
    }
    let line: String = text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    let words = line.split(' ').map(|word| match word.split_once('?') {
        Some((url, _)) if url.contains("://") => format!("{url}?…"),
        _ => word.to_owned(),
    });
    let line = words.collect::<Vec<_>>().join(" ");
    if line.chars().count() <= 400 { line } else { line.chars().take(400).chain("…".chars()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_what_matters_and_no_signature() {
        let xml = "Error performing GET http://h/b?X-Amz-Signature=s3cret: <?xml?><Error><Code>SignatureDoesNotMatch</Code>\
                   <Message>The signature does not match.</Message><StringToSign>s3cret</StringToSign></Error>";
        assert_eq!(essence(xml), "SignatureDoesNotMatch: The signature does not match.");
        assert_eq!(essence("403: <Error><Code>SignatureDoesNotMatch</Code></Error>"), "SignatureDoesNotMatch");
        assert_eq!(essence("GET https://h/c?sig=s3cret failed"), "GET https://h/c?… failed");
    }

    #[test]
    fn a_store_without_room_is_told_from_one_that_failed_and_a_no_from_silence() {
        let error = |text: &str| object_store::Error::Generic { store: "S3", source: text.to_owned().into() };
        let said = |text: &str| down(&error(text)).to_string();
        assert!(said("can't write: No space left on device (os error 28)").starts_with("the store is full"));
        assert!(said("status code: 500: <Error><Code>InternalError</Code></Error>").contains("or is full"));
        assert!(said("HTTP error: connection refused").starts_with("the store failed (Generic"));
        let status =
            |code| error(&format!("Error performing PUT in 3ms - Server returned non-2xx status code: {code}: x"));
        assert_eq!([400, 403, 404].map(|code| answer(&status(code))), [Answer::No; 3]);
        assert_eq!([408, 429, 500, 503].map(|code| answer(&status(code))), [Answer::Failed; 4]);
        assert_eq!(answer(&error("Error performing PUT in 3ms - HTTP error: connection refused")), Answer::None);
        assert_eq!(answer(&error("no such upload")), Answer::No);
    }
}
