//! `cistage report` and `cistage init`: what a person sees first.

use crate::workspace::Workspace;

const HOSTILE: &str = r#"
cistage: 1
name: hostile
params: { text: "<script>alert(1)</script>" }
stages:
  made: { uses: synthesize, with: { rows: 300 } }
  numbers:
    uses: command
    out: { metrics: { path: m.json, format: metrics }, picture: p.svg }
    with: { run: "echo '{\"<img src=x>\": 3, \"b\": 4.5}' > {out.metrics}; echo '<svg onload=\"alert(2)\"></svg>' > {out.picture}" }
  breaks:
    uses: command
    in: { rows: made.rows }
    out: { o: o.txt }
    with: { run: "echo \"last words {param.text}\"; exit 3" }
"#;

#[test]
fn a_page_of_a_failed_run_shows_why_and_obeys_nothing_that_it_quotes() {
    let ws = Workspace::with(HOSTILE);
    assert_eq!(ws.cistage(&["run", "p.yaml", "--keep-going"]).code, 1);
    let got = ws.cistage(&["report", "-o", "out/page.html"]);
    assert_eq!(got.code, 0, "{}", got.stderr);
    let page = ws.read("out/page.html");
    for shown in [
        "breaks failed",
        "last words &lt;script&gt;alert(1)",
        "&lt;img src=x&gt;",
        "id=\"lineage\"",
        "cistage run p.yaml --keep-going",
        "name: hostile",
        "default-src 'none'",
    ] {
        assert!(page.contains(shown), "{shown}");
    }
    // The heads of the graph's arrows are on the page itself.
    let page = page.replace("url(#tip)", "");
    for obeyed in ["<script", "<img src=x", "<svg onload", "http://", "https://", "url(", "@import"] {
        assert!(!page.contains(obeyed), "{obeyed}");
    }

    for (args, words) in [
        (&["report", "20200101-000000-0000"][..], "there is no run"),
        (&["report", "-o", "out"], "is a folder"),
        (&["report", "--cache", "nowhere"], "no run is recorded"),
    ] {
        let got = ws.cistage(args);
        assert_eq!(got.code, 2, "{args:?} {}", got.stderr);
        assert!(got.stderr.contains(words), "{args:?} {}", got.stderr);
    }
}

#[test]
fn a_page_goes_where_a_link_leads_and_replaces_no_device() {
    let ws = Workspace::with("cistage: 1\nname: p\nstages:\n  a: { uses: synthesize, with: { rows: 50 } }\n");
    ws.run(&[]);
    ws.write("there.html", "old");
    std::os::unix::fs::symlink("there.html", ws.path("link.html")).expect("links");
    assert_eq!(ws.cistage(&["report", "-o", "link.html"]).code, 0);
    assert!(ws.path("link.html").is_symlink() && ws.read("there.html").starts_with("<!DOCTYPE html>"));
    let made = std::process::Command::new("mkfifo").arg(ws.path("pipe")).status().expect("mkfifo is there");
    assert!(made.success());
    let got = ws.cistage(&["report", "-o", "pipe"]);
    assert!(got.code == 2 && got.stderr.contains("a device or a pipe"), "{}", got.stderr);
}

#[test]
fn a_page_stays_readable_when_its_results_are_gone_and_is_the_same_twice() {
    let ws = Workspace::with(
        "cistage: 1\nname: p\nstages:\n  a: { uses: synthesize, with: { rows: 200 } }\n  b: { uses: import-sequences, in: { file: a.rows } }\n",
    );
    ws.run(&[]);
    let page = |name: &str| {
        assert_eq!(ws.cistage(&["report", "-o", name]).code, 0);
        ws.read(name)
    };
    let first = page("a.html");
    assert_eq!(first, page("b.html"));
    assert!(first.contains("b.metrics"));
    let (_, events) = ws.events(&[]);
    let digests = Workspace::digests(&events);
    let hex = digests["b.metrics"].trim_start_matches("blake3:").to_owned();
    fs_err::remove_file(ws.path("cache/objects").join(&hex[..2]).join(&hex[2..])).expect("there");
    assert!(page("c.html").contains("no longer in the cache"));
}

#[test]
fn a_new_folder_has_a_pipeline_that_runs_and_is_never_written_over() {
    for (example, result) in [("promoters", "results/metrics.json"), ("commands", "results/figure.svg")] {
        if example == "commands" && std::process::Command::new("python3").arg("--version").output().is_err() {
            eprintln!("skipped: python3 is not installed");
            continue;
        }
        let ws = Workspace::new();
        let made = ws.cistage(&["init", "new/one", "--example", example]);
        assert_eq!(made.code, 0, "{}", made.stderr);
        let ran = ws.cistage(&["-C", "new/one", "run", "pipeline.yaml"]);
        assert_eq!(ran.code, 0, "{} {}", ran.stdout, ran.stderr);
        assert!(ws.exists(&format!("new/one/{result}")));
        assert!(ws.exists("new/one/schema.json"), "what the pipeline's first line names");
        let again = ws.cistage(&["-C", "new/one", "run", "pipeline.yaml"]);
        assert!(format!("{}{}", again.stdout, again.stderr).contains("done: 0 ran"), "{}", again.stdout);

        ws.write("new/one/pipeline.yaml", "mine");
        let refused = ws.cistage(&["init", "new/one"]);
        assert_eq!((refused.code, ws.read("new/one/pipeline.yaml").as_str()), (2, "mine"));
    }
}
