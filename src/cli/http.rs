//! As much of HTTP as pages for reading need: one request without a body on each connection, and its answer.
//!
//! Nothing that a client sends, or does not send, keeps another one waiting: a request has a size and a time, and each
//! connection a thread of its own.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// A longer head is no request of a browser's for these pages, bytes.
const MAX_HEAD: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
/// A head takes no longer than this to arrive, and no step of an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many connections are held at once; further ones are closed.
const MAX_CONNECTIONS: usize = 128;
/// Nothing from elsewhere, and no script but the one that keeps a page up to date.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'self'; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    /// Names in small letters.
    headers: Vec<(String, String)>,
}

impl Head {
    /// All values of a header.
    pub(super) fn values(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(header, _)| header == name).map(|(_, value)| value.as_str()).collect()
    }

    /// Reads a whole head; `None` where it is none.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        if !request.parse(bytes).ok()?.is_complete() {
            return None;
        }
        let target = request.path?;
        // A proxy is asked with the whole address.
        let target = match target.strip_prefix("http://") {
            Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]),
            None => target,
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let headers = request.headers.iter().map(|header| {
            Some((header.name.to_ascii_lowercase(), std::str::from_utf8(header.value).ok()?.trim().to_owned()))
        });
        Some(Self {
            method: request.method?.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: headers.collect::<Option<_>>()?,
        })
    }
}

/// What is sent back.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) text: String,
    /// Of a redirection.
    pub(super) to: Option<String>,
}

impl Answer {
    pub(super) fn page(text: String) -> Self {
        Self { status: 200, kind: "text/html; charset=utf-8", text, to: None }
    }

    pub(super) fn redirection(to: String) -> Self {
        Self { status: 303, to: Some(to), ..Self::page(String::new()) }
    }

    fn plain(status: u16, text: &str) -> Self {
        Self { status, kind: "text/plain", text: text.to_owned(), to: None }
    }

    fn write(&self, out: &mut impl Write, with_text: bool) -> io::Result<()> {
        let reason = match self.status {
            200 => "OK",
            303 => "See Other",
            400 => "Bad Request",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            431 => "Request Header Fields Too Large",
            _ => "Internal Server Error",
        };
        let mut head = format!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\nContent-Security-Policy: {POLICY}\r\n\
             X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCache-Control: no-store\r\nConnection: close\r\n",
            self.status,
            self.kind,
            self.text.len()
        );
        // A line break would begin a header of somebody else's.
        if let Some(to) = self.to.as_ref().filter(|to| !to.contains(char::is_control)) {
            head += &format!("Location: {to}\r\n");
        }
        out.write_all(head.as_bytes())?;
        out.write_all(b"\r\n")?;
        if with_text {
            out.write_all(self.text.as_bytes())?;
        }
        out.flush()
    }
}

/// Answers for ever.
pub(super) fn serve(listener: &TcpListener, answer: impl Fn(&Head) -> Answer + Send + Sync + 'static) {
    // Each connection holds the answering function: how many do is how many there are.
    let answer = Arc::new(answer);
    for stream in listener.incoming() {
        // A connection that was given up before it was taken is nobody's loss.
        let Ok(stream) = stream else { continue };
        if Arc::strong_count(&answer) > MAX_CONNECTIONS {
            continue;
        }
        let answer = Arc::clone(&answer);
        // Without a thread for it the connection is closed.
        let _ = thread::Builder::new().spawn(move || converse(stream, &*answer));
    }
}

/// One request and its answer; a client that went away needs none.
fn converse(mut stream: TcpStream, answer: &impl Fn(&Head) -> Answer) {
    let patient = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
    if patient.is_err() {
        return;
    }
    let (reply, with_text) = match read_head(&mut stream) {
        Ok(bytes) => match Head::parse(&bytes) {
            Some(head) => (answer(&head), head.method != "HEAD"),
            None => (Answer::plain(400, "that is no request\n"), true),
        },
        Err(e) if e.kind() == io::ErrorKind::InvalidData => (Answer::plain(431, "the head is too long\n"), true),
        Err(_) => return,
    };
    if reply.write(&mut stream, with_text).is_ok() {
        // What was sent and not read would make the system throw the answer away: it is taken, for a moment.
        let _ = stream.shutdown(std::net::Shutdown::Write).and_then(|()| {
            stream.set_read_timeout(Some(Duration::from_millis(200)))?;
            stream.read(&mut [0; 4096])
        });
    }
}

fn read_head(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let (begun, mut bytes, mut piece) = (Instant::now(), Vec::new(), [0; 2048]);
    loop {
        let read = stream.read(&mut piece)?;
        bytes.extend_from_slice(&piece[..read]);
        if bytes.windows(4).any(|end| end == b"\r\n\r\n") || bytes.windows(2).any(|end| end == b"\n\n") {
            return Ok(bytes);
        }
        if read == 0 || begun.elapsed() > PATIENCE {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if bytes.len() > MAX_HEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_is_meant_or_not_at_all() {
        let head =
            Head::parse(b"GET http://x:1/a%20b?q=1?2 HTTP/1.1\r\nHost: one\r\nHOST: two \r\n\r\n").expect("a head");
        assert_eq!((&head.method[..], &head.path[..], &head.query[..]), ("GET", "/a%20b", "q=1?2"));
        assert_eq!(head.values("host"), ["one", "two"]);
        for none in ["", "GET", "GET / HTTP/1.1\r\nHost: x\r\n", "\x00\r\n\r\n", "GET  / HTTP/9\r\n\r\n"] {
            assert_eq!(Head::parse(none.as_bytes()), None, "{none:?}");
        }
        assert_eq!(Head::parse(b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n"), None);
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(MAX_HEADERS + 1));
        assert_eq!(Head::parse(many.as_bytes()), None);
    }

    #[test]
    fn a_head_without_end_is_given_up_and_a_location_stays_one_line() {
        let error = read_head(&mut io::repeat(b'x')).expect_err("too long");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(read_head(&mut &b"GET / HT"[..]).is_err());
        let mut sent = Vec::new();
        Answer::redirection("/x\r\nSet-Cookie: a".to_owned()).write(&mut sent, true).expect("writes");
        assert!(!String::from_utf8_lossy(&sent).contains("Cookie"));
    }
}
