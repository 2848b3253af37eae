//! `cistage serve`: which pages there are, whom it answers, and what it never obeys.

use crate::workspace::Workspace;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const PIPELINE: &str = r#"
cistage: 1
name: "<b>pages</b>"
params: { rows: 300, text: "<script>alert(1)</script>" }
stages:
  a: { uses: synthesize, with: { rows: "${rows}" } }
  b: { uses: import-sequences, in: { file: a.rows } }
"#;

struct Site {
    server: Child,
    address: String,
}

impl Site {
    fn of(ws: &Workspace) -> Self {
        let mut server =
            ws.command(&["serve", "--listen", "127.0.0.1:0"]).stderr(Stdio::piped()).spawn().expect("starts");
        let mut line = String::new();
        BufReader::new(server.stderr.take().expect("piped")).read_line(&mut line).expect("says where");
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
        Self { server, address: address.to_owned() }
    }

    /// Status, head and body of what is answered.
    fn ask(&self, method: &str, path: &str, headers: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(&self.address).expect("listens");
        let host = if headers.contains("Host:") { String::new() } else { format!("Host: {}\r\n", self.address) };
        write!(stream, "{method} {path} HTTP/1.1\r\n{host}{headers}Connection: close\r\n\r\n").expect("sends");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        (status, head.to_owned(), body.to_owned())
    }

    fn page(&self, path: &str) -> String {
        let (status, _, body) = self.ask("GET", path, "");
        assert_eq!(status, 200, "{path}: {body}");
        body
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn runs(ws: &Workspace) -> Vec<String> {
    let got = ws.cistage(&["runs", "--format", "json"]);
    let runs: serde_json::Value = serde_json::from_str(&got.stdout).expect("JSON");
    let runs = runs["runs"].as_array().or_else(|| runs.as_array()).expect("a list").clone();
    runs.iter().map(|run| run["run"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn every_page_is_there_and_leads_to_the_others() {
    let ws = Workspace::with(PIPELINE);
    let (_, events) = ws.events(&[]);
    let digest = Workspace::digests(&events)["b.rows"].trim_start_matches("blake3:").to_owned();
    ws.run(&["--set", "rows=200"]);
    let (site, runs) = (Site::of(&ws), runs(&ws));

    let list = site.page("/");
    assert!(runs.iter().all(|run| list.contains(&format!("href=\"/run/{run}\""))), "{list}");
    let one = site.page(&format!("/run/{}", runs[1]));
    assert!(one.contains(&format!("/artifact/{digest}")) && one.contains("id=\"lineage\""));
    let artifact = site.page(&format!("/artifact/{}", &digest[..10]));
    assert!(artifact.contains("import-sequences") && artifact.contains(&format!("/run/{}", runs[1])));
    let both = site.page(&format!("/compare?a={}&b={}", runs[1], runs[0]));
    assert!(both.contains("rows: 300 -&gt; 200"), "{both}");
    assert!(site.page("/search?q=b.rows").contains("Where it came from"));
    assert!(site.page("/search?q=p.yaml").contains(&runs[0]));
    let (status, head, _) = site.ask("GET", &format!("/search?q={}", &runs[0][..20]), "");
    assert!(status == 303 && head.contains(&format!("/run/{}", runs[0])), "{head}");

    let older = site.page(&format!("/?before={}", runs[0]));
    assert!(older.contains(&runs[1]) && !older.contains(&format!("/run/{}\"", runs[0])));
    for missing in [
        "/nope",
        "/run/20200101-000000-0000",
        "/run/x",
        "/artifact/ffffffffff",
        "/compare",
        "/artifact/..%2F..%2Fp.yaml",
    ] {
        assert_eq!(site.ask("GET", missing, "").0, 404, "{missing}");
    }
}

#[test]
fn only_readers_of_this_machine_are_answered_and_no_text_is_obeyed() {
    let ws = Workspace::with(PIPELINE);
    ws.run(&[]);
    let (site, run) = (Site::of(&ws), runs(&ws).remove(0));
    for (method, headers, status) in [
        ("POST", "", 405),
        ("DELETE", "", 405),
        ("GET", "Host: cistage.example\r\n", 403),
        ("GET", "Origin: http://cistage.example\r\n", 403),
        ("GET", "Origin: null\r\n", 403),
        ("GET", "Content-Length: 18446744073709551615\r\n", 200),
        ("GET", "", 200),
    ] {
        assert_eq!(site.ask(method, "/", headers).0, status, "{method} {headers}");
    }
    let own = format!("Host: {}\r\n", site.address);
    assert_eq!(site.ask("GET", "/", &format!("{own}Host: cistage.example\r\n")).0, 403, "of two names one is not ours");
    assert_eq!(site.ask("GET", "/", &format!("A: {}\r\n", "b".repeat(20_000))).0, 431);
    let (_, head, _) = site.ask("GET", "/", "");
    for wanted in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "nosniff", "no-store"] {
        assert!(head.contains(wanted), "{wanted} in {head}");
    }
    for path in ["/".to_owned(), format!("/run/{run}"), "/search?q=%3Cscript%3Ealert(2)%3C/script%3E".to_owned()] {
        let page = site.page(&path);
        assert!(!page.contains("<script>") && !page.contains("<b>pages"), "{path}");
    }
}

#[test]
fn nobody_who_waits_or_blocks_keeps_others_waiting() {
    let ws = Workspace::with(PIPELINE);
    ws.run(&[]);
    let site = Site::of(&ws);
    let slow: Vec<TcpStream> = (0..20)
        .map(|i| {
            let mut stream = TcpStream::connect(&site.address).expect("listens");
            let body = if i % 2 == 0 { "" } else { "Content-Length: 1000000\r\n\r\nabc" };
            write!(stream, "GET / HTTP/1.1\r\nHost: {}\r\n{body}", site.address).expect("sends");
            stream
        })
        .collect();
    // A pipe in the place of a run's events never ends.
    let run = ws.path("cache/runs/20200101-000000-0000");
    fs_err::create_dir(&run).expect("makes");
    let made = std::process::Command::new("mkfifo").arg(run.join("events.jsonl")).status().expect("mkfifo is there");
    assert!(made.success());
    let begun = Instant::now();
    assert!(site.page("/run/20200101-000000-0000").contains("damaged"));
    assert!(site.page("/").contains("20200101-000000-0000"));
    assert!(begun.elapsed() < Duration::from_secs(8), "before the patience with the slow ends");
    drop(slow);
}

#[test]
fn a_run_under_way_is_shown_as_far_as_it_is() {
    let ws = Workspace::with(
        "cistage: 1\nname: slow\nstages:\n  quick: { uses: synthesize, with: { rows: 50 } }\n  \
         slow: { uses: command, in: { rows: quick.rows }, out: { o: o.txt }, with: { run: 'sleep 30; echo > {out.o}' } }\n",
    );
    let mut run = ws.command(&["run", "p.yaml", "-q"]).spawn().expect("starts");
    let begun = Instant::now();
    let id = loop {
        let folder = fs_err::read_dir(ws.path("cache/runs")).into_iter().flatten().flatten().next();
        if let Some(folder) = folder
            && fs_err::read_to_string(folder.path().join("events.jsonl")).is_ok_and(|t| t.contains("\"slow\",\"kind\""))
        {
            break folder.file_name().to_string_lossy().into_owned();
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "the run begins");
        std::thread::sleep(Duration::from_millis(50));
    };
    let site = Site::of(&ws);
    let page = site.page(&format!("/run/{id}"));
    assert!(page.contains("/live.js") && page.contains("running") && page.contains("under way"), "{page}");
    assert!(site.page("/live.js").contains("refresh"));
    assert!(site.page("/").contains(&id));
    run.kill().expect("ends");
    run.wait().expect("ended");
}
