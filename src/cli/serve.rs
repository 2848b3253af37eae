//! `cistage serve`: the runs of a cache as web pages, for reading alone.

use super::App;
use super::exit::CliError;
use super::http::{self, Answer, Head};
use crate::cache::{Cache, RunRecord, StepRecord};
use crate::engine;
use crate::name::RunId;
use crate::pages::{self, PageError};
use crate::provenance::ProvenanceError;
use crate::report::Html;
use crate::report::html::{LIVE, served};
use std::net::{IpAddr, SocketAddr, TcpListener};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cistage serve\n  cistage serve --listen 127.0.0.1:9000")]
pub(super) struct Args {
    /// The address to listen at; others than this machine's own let others read the cache
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8321")]
    listen: SocketAddr,
    /// A further name by which browsers may call this server (repeatable)
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
}

pub(super) fn run(app: &App, args: &Args) -> Result<(), CliError> {
    let cache = app.read_cache()?;
    let listener = TcpListener::bind(args.listen).map_err(|error| {
        CliError::input_with_help(
            format!("can't listen at {}: {error}", args.listen),
            "--listen 127.0.0.1:PORT names another port of this machine; 0 takes a free one",
        )
    })?;
    let at = listener.local_addr()?;
    if !at.ip().is_loopback() {
        app.printer
            .note(&format!("{at} can be reached from other machines, and whoever reaches it can read this cache"));
    }
    app.printer.note(&format!("http://{at}/ shows {}; Ctrl-C ends it", cache.root().display()));
    let site = Site { cache, names: names(at, &args.host) };
    http::serve(&listener, move |head| site.refused(head).unwrap_or_else(|| site.page(&head.path, &head.query)));
    Ok(())
}

struct Site {
    cache: Cache,
    /// What a browser may call this server: a page elsewhere that made a name of its own lead here is not answered.
    names: Vec<String>,
}

/// The names of the address that is listened at.
fn names(at: SocketAddr, further: &[String]) -> Vec<String> {
    let mut names: Vec<String> = further.iter().filter(|name| !name.is_empty()).cloned().collect();
    names.push(match at.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    });
    if at.ip().is_loopback() || at.ip().is_unspecified() {
        names.extend(["localhost", "127.0.0.1", "[::1]"].map(str::to_owned));
    }
    let port = at.port();
    names.iter().flat_map(|name| [format!("{name}:{port}"), name.clone()]).collect()
}

/// A page that says what is wrong.
fn problem(status: u16, message: &str) -> Answer {
    let mut body = Html::default();
    body.element("h1", message);
    Answer { status, ..Answer::page(served(message, &body, false)) }
}

impl Site {
    /// Why a request is not looked at.
    fn refused(&self, head: &Head) -> Option<Answer> {
        if !matches!(head.method.as_str(), "GET" | "HEAD") {
            return Some(problem(405, "These pages are for reading alone"));
        }
        let is_ours = |name: &str| self.names.iter().any(|ours| ours.eq_ignore_ascii_case(name));
        // One name, and one of ours: of two, a server before this one might have looked at the other.
        if !matches!(&head.values("host")[..], [host] if is_ours(host)) {
            return Some(problem(403, "This server is not known by that name; see --host"));
        }
        if head.values("origin").iter().any(|origin| !origin.strip_prefix("http://").is_some_and(is_ours)) {
            return Some(problem(403, "Pages of other servers may not ask this one"));
        }
        None
    }

    fn page(&self, path: &str, query: &str) -> Answer {
        let query: Vec<(String, String)> =
            form_urlencoded::parse(query.as_bytes()).into_owned().filter(|(_, value)| !value.is_empty()).collect();
        let asked = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.trim());
        let run = |name: &str| asked(name).and_then(|text| RunId::parse(text).ok());
        let answer = match path.split('/').collect::<Vec<_>>()[..] {
            ["", ""] => pages::list_page(&self.cache, run("before").as_ref(), asked("q")).map(Answer::page),
            ["", "live.js"] => Ok(Answer { kind: "text/javascript", ..Answer::page(LIVE.to_owned()) }),
            ["", "run", id] => self.run(id),
            ["", "artifact", name] => pages::artifact_page(&self.cache, &decoded(name)).map(Answer::page),
            ["", "compare"] => match (run("a"), run("b")) {
                (Some(a), Some(b)) => self.compare(&a, &b),
                _ => return problem(404, "Choose two runs, a and b"),
            },
            ["", "search"] => self.search(asked("q").unwrap_or_default()),
            _ => return problem(404, "There is no such page"),
        };
        answer.unwrap_or_else(|error| match error {
            PageError::Provenance(ProvenanceError::Unknown(message)) => problem(404, &message),
            other => problem(500, &other.to_string()),
        })
    }

    fn run(&self, id: &str) -> Result<Answer, PageError> {
        let Ok(id) = RunId::parse(id) else { return Ok(problem(404, "That is no run id")) };
        if let Some(record) = self.cache.run(&id)? {
            return Ok(Answer::page(pages::served_run(&self.cache, &record)?));
        }
        if !self.cache.run_dir(&id).is_dir() {
            return Ok(problem(404, &format!("There is no run {id}")));
        }
        Ok(Answer::page(pages::live_page(&self.cache, &id)?))
    }

    fn compare(&self, a: &RunId, b: &RunId) -> Result<Answer, PageError> {
        let (Some(first), Some(second)) = (self.cache.run(a)?, self.cache.run(b)?) else {
            return Ok(problem(404, "Only runs that have ended can be compared"));
        };
        let again = |run: &RunRecord, step: &StepRecord| engine::manifest_again(&self.cache, run, step);
        Ok(Answer::page(pages::compare_page(&self.cache, &first, &second, &again)?))
    }

    /// Leads to the run or the artifact that the text names; else lists the runs that have it in their names.
    fn search(&self, text: &str) -> Result<Answer, PageError> {
        if let Some(id) = self.cache.runs()?.iter().rev().find(|id| !text.is_empty() && id.as_str().starts_with(text)) {
            return Ok(Answer::redirection(format!("/run/{id}")));
        }
        match pages::artifact_page(&self.cache, text) {
            Ok(page) => Ok(Answer::page(page)),
            Err(PageError::Provenance(ProvenanceError::Unknown(_))) => {
                pages::list_page(&self.cache, None, Some(text).filter(|text| !text.is_empty())).map(Answer::page)
            }
            Err(other) => Err(other),
        }
    }
}

/// A part of a path as it was before it was written for a URL.
fn decoded(part: &str) -> String {
    // What stands for a space in queries is a plus in paths.
    let pair = format!("x={}", part.replace('+', "%2B").replace('&', "%26"));
    form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}
