//! What a command leaves behind, where results are published, and values that would like to be code.

use super::{Outside, files_of, is_calm, outcomes, pipeline, quoted, records, refused};
use crate::workspace::Workspace;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

fn command(name: &str, out: &str, run: &str) -> String {
    format!("{name}: {{ uses: command, out: {{ o: {out} }}, with: {{ run: {} }} }}", quoted(run))
}

/// The pipeline of some commands, which know the folder outside as `$outside`.
fn with_outside(outside: &Outside, stages: &[String]) -> String {
    let path = quoted(&outside.path().display().to_string());
    pipeline(stages)
        .replace("stages:", &format!("params: {{ outside: {path} }}\nstages:"))
        .replace("$outside", "{param.outside}")
}

#[test]
fn outputs_that_are_no_plain_files_and_folders_are_refused_by_name() {
    let outside = Outside::new();
    // Where a kind can't be made, a pipe stands for it.
    let socket = "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"o\")' || mkfifo o";
    let table = [
        ("o", "ln -s $outside/precious o", "o is a symbolic link"),
        ("o", "ln -s $outside o", "o is a symbolic link"),
        ("o", "ln -s nowhere o", "o is a symbolic link"),
        ("o", "ln -s /dev/zero o", "o is a symbolic link"),
        ("o", "mkfifo o", "o is neither a file nor a folder"),
        ("o", socket, "o is neither a file nor a folder"),
        ("o", "mknod o c 1 5 || mkfifo o", "o is neither a file nor a folder"),
        ("o", "mkdir o; ln -s ../../../.. o/up", "o/up is a symbolic link"),
        ("o", "mkdir -p o/a/b; ln -s $outside/precious o/a/b/c", "o/a/b/c is a symbolic link"),
        ("o", "mkdir o; mkfifo o/pipe", "o/pipe is neither a file nor a folder"),
        ("o", "mkdir o; touch o/$'a\\nb'", "control characters"),
        ("o", "mkdir o; touch o/$'\\e[2Ja'", "control characters"),
        ("o", "mkdir o; touch o/$'\\xff'", "invalid UTF-8"),
        ("sub/precious", "rmdir sub; ln -s $outside sub", "leads out of the work directory"),
        ("sub/x", "rmdir sub; ln -s / sub", "sub/x"),
    ];
    let stages: Vec<String> =
        table.iter().enumerate().map(|(n, (out, run, _))| command(&format!("s{n}"), out, run)).collect();
    let ws = Workspace::with(&with_outside(&outside, &stages));
    let (code, found) = outcomes(&ws, &[]);
    assert_eq!(code, 1);
    for (n, (_, run, part)) in table.iter().enumerate() {
        let (outcome, error) = &found[&format!("s{n}")];
        assert!(outcome == "failed" && error.contains(part), "{run}: {outcome} {error}");
    }
    assert_eq!(records(&ws), 0);
    outside.is_untouched();
    let got = ws.cistage(&["run", "p.yaml", "--keep-going"]);
    is_calm(&(got.stdout + &got.stderr));
    is_calm(&ws.cistage(&["show"]).stdout);
}

#[test]
fn modes_and_hard_links_do_not_enter_the_cache_with_the_bytes() {
    let outside = Outside::new();
    let stages = [
        command("modes", "o", "mkdir o; echo x > o/f; chmod 6777 o/f"),
        command("link", "o", "ln $outside/precious o || cp $outside/precious o"),
        command("links", "o", "mkdir o; ln $outside/precious o/f || cp $outside/precious o/f"),
    ];
    let ws = Workspace::with(&(with_outside(&outside, &stages) + "publish: { m: modes.o, l: link.o }\n"));
    assert_eq!(ws.run(&[]), ["link ran", "links ran", "modes ran"]);
    outside.is_untouched();
    let mode = |path: &str| fs_err::metadata(ws.path(path)).expect("published").permissions().mode() & 0o7777;
    assert_eq!((mode("m/f"), mode("l")), (0o644, 0o644));
    assert!(files_of(&ws.path("cache/objects")).values().all(|(_, mode)| mode & 0o7777 == 0o444));
    assert_eq!(fs_err::metadata(outside.path().join("precious")).expect("there").nlink(), 1);
    fs_err::write(outside.path().join("precious"), "changed").expect("written");
    assert_eq!(ws.cistage(&["cache", "verify"]).code, 0);
}

const ONE: &str = "cistage: 1\nname: t\nstages:\n  one: { uses: command, in: { f: SOURCE }, out: { o: o }, \
                   with: { run: 'cat {in.f} > {out.o}' } }\npublish: { PLACE: one.o }\n";

#[test]
fn results_stay_in_the_working_directory_and_out_of_what_others_execute() {
    let outside = Outside::new();
    let ws = Workspace::new();
    ws.write("d.tsv", "data");
    ws.write("deep/er/x", "");
    for (link, to) in [("link", outside.path()), ("deep/er/link", outside.path()), ("dots", "deep/../../..".as_ref())] {
        fs_err::os::unix::fs::symlink(to, ws.path(link)).expect("linked");
    }
    fs_err::os::unix::fs::symlink("d.tsv", ws.path("alias.tsv")).expect("linked");
    let here = ws.path("d.tsv").display().to_string();
    let table = [
        ("d.tsv", "../x"),
        ("d.tsv", "/tmp/x"),
        ("d.tsv", "a/../../x"),
        ("d.tsv", "link/x"),
        ("d.tsv", "link/deeper/x"),
        ("d.tsv", "deep/er/link/x"),
        ("d.tsv", "dots/x"),
        ("d.tsv", ".git/hooks/pre-commit"),
        ("d.tsv", ".GIT/config"),
        ("d.tsv", "deep/.git"),
        ("d.tsv", "deep/.git/hooks/post-checkout"),
        ("d.tsv", "d.tsv"),
        ("./d.tsv", "deep/../d.tsv"),
        ("alias.tsv", "d.tsv"),
        (&here, "d.tsv"),
        ("deep/er/x", "deep"),
    ];
    for (source, place) in table {
        ws.write("p.yaml", ONE.replace("SOURCE", &quoted(source)).replace("PLACE", &quoted(place)));
        refused(&ws, &["run", "p.yaml"], place.trim_start_matches("deep/../"));
    }
    assert_eq!((records(&ws), ws.read("d.tsv").as_str()), (0, "data"));
    assert!(!ws.exists(".git") && !ws.exists(".GIT") && !ws.exists("deep/.git"));
    outside.is_untouched();
    ws.write("p.yaml", ONE.replace("SOURCE", "d.tsv").replace("PLACE", "results/deep/x"));
    assert_eq!(ws.run(&[]), ["one ran"]);
}

#[test]
fn a_link_that_is_put_in_the_way_during_the_run_is_not_followed() {
    let outside = Outside::new();
    let ws = Workspace::new();
    let here = quoted(&ws.path("results").display().to_string());
    let stages = [command("one", "o", "ln -s $outside {param.results}; echo x > o")];
    let text = with_outside(&outside, &stages).replace("params: {", &format!("params: {{ results: {here},"));
    ws.write("p.yaml", text + "publish: { results/x/y: one.o }\n");
    let got = ws.cistage(&["run", "p.yaml"]);
    assert_eq!(got.code, 1, "{}", got.stderr);
    assert!(got.stderr.contains("can't publish results/x/y: a link leads its folder out"), "{}", got.stderr);
    outside.is_untouched();
}

#[test]
fn values_and_file_names_are_never_code() {
    let values =
        ["a; touch PWNED", "$(touch PWNED)", "`touch PWNED`", "a\nb", "it's \"q\"", "-n", "--help", "\u{1b}[2J"];
    let mut stages = Vec::new();
    let name = |n: usize| format!("d{n}.{}", values[n].replace(char::is_control, ""));
    for n in 0..values.len() {
        let mut stage = |kind: &str, with: String| {
            let file = quoted(&name(n));
            stages.push(format!(
                "{kind}{n}: {{ uses: command, in: {{ f: {file} }}, out: {{ o: o }}, with: {{ {with} }} }}"
            ));
        };
        let run = format!("cat {{in.f}} > /dev/null; printf %s {{param.v{n}}} \"${{v{n}}}\" > o");
        stage("run", format!("run: {}", quoted(&run)));
        stage("argv", format!("argv: [bash, -c, 'printf %s \"$@\" > o', x, '{{param.v{n}}}', '{{param.v{n}}}']"));
    }
    let params: Vec<String> = values.iter().enumerate().map(|(n, value)| format!("v{n}: {}", quoted(value))).collect();
    let ws = Workspace::with(
        &pipeline(&stages).replace("stages:", &format!("params: {{ {} }}\nstages:", params.join(", "))),
    );
    (0..values.len()).for_each(|n| ws.write(&name(n), "x"));
    let (code, found) = outcomes(&ws, &[]);
    assert_eq!(code, 0, "{found:#?}");
    for (n, value) in values.iter().enumerate() {
        for kind in ["run", "argv"] {
            assert_eq!(ws.cistage(&["get", &format!("{kind}{n}.o"), "got"]).code, 0);
            assert_eq!(ws.read("got"), value.repeat(2), "{kind} {value:?}");
        }
    }
    assert!(!files_of(&ws.path("")).keys().any(|path| path.ends_with("/PWNED")));
    for args in [
        &["run", "p.yaml", "--force", "run7"][..],
        &["show"],
        &["plan", "p.yaml"],
        &["why", "p.yaml", "run7"],
        &["audit", "got"],
    ] {
        let got = ws.cistage(args);
        is_calm(&(got.stdout + &got.stderr));
    }
}

#[test]
fn what_a_stage_says_reaches_terminal_and_report_as_text() {
    let metrics =
        r#"{"<script>alert(1)</script>": 1, "\u001b[2J\u202e": {"a\"><img src=x onerror=alert(1)>": [1, 2]}}"#;
    let made = format!(
        "m: {{ uses: command, about: \"<b>&\", out: {{ o: {{ path: m.json, format: metrics }} }}, with: {{ run: {} }} }}",
        quoted("printf %s {param.text} > m.json; printf '\\e]0;title\\a\\e[8m' >&2")
    );
    let stages = [
        made,
        "r: { uses: report, in: { m: m.o } }".to_owned(),
        command("bad", "o", "printf '\\e[2J\\x07\\xe2\\x80\\xae' >&2; exit 1"),
    ];
    let text = pipeline(&stages).replace("stages:", &format!("params: {{ text: {} }}\nstages:", quoted(metrics)));
    let ws = Workspace::with(&(text + "publish: { r.html: r.report }\n"));
    let got = ws.cistage(&["run", "p.yaml", "--to", "r"]);
    assert_eq!(got.code, 0, "{}", got.stderr);
    let failed = ws.cistage(&["run", "p.yaml", "--keep-going"]);
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    let page = ws.read("r.html");
    assert!(page.contains("&lt;script&gt;alert(1)"), "{page}");
    assert!(!page.contains("<script>alert") && !page.contains("<img src=x") && !page.contains(['\u{1b}', '\u{202e}']));
    for said in [got, failed, ws.cistage(&["show"]), ws.cistage(&["metrics"])] {
        is_calm(&(said.stdout.clone() + &said.stderr));
        assert!(!(said.stdout + &said.stderr).contains('\u{202e}'));
    }
}
