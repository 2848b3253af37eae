//! Whole files: what they become, and what is said of bad ones.

use super::*;
use serde_json::json;

/// Loads a text as if it were the file `p.yaml`.
fn load_text(text: &str, options: &Options) -> Result<Plan, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("p.yaml");
    fs_err::write(&file, text).expect("written");
    load(&file, options).map_err(|problems| problems.to_string().replace(&file.display().to_string(), "p.yaml"))
}

fn plan(text: &str) -> Plan {
    load_text(text, &Options::default()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn problems(text: &str) -> String {
    load_text(text, &Options::default()).map(|_| ()).expect_err("the pipeline is wrong")
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.steps.iter().map(|step| step.name.as_str()).collect()
}

fn step<'p>(plan: &'p Plan, name: &str) -> &'p Step {
    plan.steps.iter().find(|step| step.name.as_str() == name).unwrap_or_else(|| panic!("no step {name}"))
}

/// `port=step.port` of each input.
fn inputs(plan: &Plan, name: &str) -> Vec<String> {
    let show = |(port, source): (&PortName, &Source)| match source {
        Source::Step { step, port: output } => format!("{port}={step}.{output}"),
        Source::Path { path, .. } => format!("{port}={}", path.display()),
    };
    step(plan, name).inputs.iter().map(show).collect()
}

const SMALL: &str = "cistage: 1
params: { per_bin: 10, ks: [3, 5] }
stages:
  made: { uses: synthesize, with: { rows: 100 } }
  split: { uses: split, in: { rows: made.rows } }
";

/// The small pipeline and more stages.
fn with(more: &str) -> String {
    format!("{SMALL}{more}")
}

#[test]
fn a_pipeline_becomes_steps_in_order_with_defaults_filled_in() {
    let plan = plan(&with(
        "  balance:\n    uses: sample-bins\n    in: { rows: split.train }\n    with: { per_bin: \"${per_bin}\" }\n    resources: { cpus: 2, memory: 2GiB, time: 1h30m }\npublish:\n  results/rows.parquet: balance.rows\n",
    ));
    assert_eq!(names(&plan), ["made", "split", "balance"]);
    assert_eq!(plan.name, "p");
    assert_eq!(inputs(&plan, "balance"), ["rows=split.train"]);
    let balance = step(&plan, "balance");
    assert_eq!(
        json!(balance.kind.params()),
        json!({"bins": 18, "rule": "floor", "per_bin": 10, "empty_bins": "error", "seed": 42})
    );
    assert_eq!(balance.resources, Resources { cpus: 2, memory: 2 << 30, gpus: 0, time: 5400 });
    assert_eq!(balance.position, Position { line: 6, column: 3 });
    let published: Vec<String> =
        plan.publish.iter().map(|(path, (stage, port))| format!("{path}={stage}.{port}")).collect();
    assert_eq!(published, ["results/rows.parquet=balance.rows"]);
}

const MATRIX: &str =
    "  balance: { uses: sample-bins, in: { rows: split.train }, with: { per_bin: 1 }, matrix: { per_bin: \"${ks}\" } }
  again: { uses: split, in: { rows: balance.rows }, matrix: { test: [0.1, 0.2], seed: [1] } }
  tokenizer: { uses: train-tokenizer, in: { rows: made.rows } }
  model: { uses: train, in: { train: again.train, validation: balance.rows, tokenizer: tokenizer.tokenizer } }
  one: { uses: train-tokenizer, in: { rows: balance@per_bin=5.rows } }
  report: { uses: report, in: { k: balance.metrics, t: tokenizer.tokenizer, x: balance@per_bin=3.metrics } }
publish:
  out/m.json: balance.metrics
  out/one.json: balance@per_bin=5.metrics
";

#[test]
fn a_matrix_fans_out_aligns_and_is_gathered() {
    let plan = plan(&with(MATRIX));
    assert_eq!(
        names(&plan),
        [
            "made",
            "split",
            "balance@per_bin=3",
            "balance@per_bin=5",
            "again@per_bin=3,test=0.1,seed=1",
            "again@per_bin=3,test=0.2,seed=1",
            "again@per_bin=5,test=0.1,seed=1",
            "again@per_bin=5,test=0.2,seed=1",
            "one",
            "tokenizer",
            "model@per_bin=3,test=0.1,seed=1",
            "model@per_bin=3,test=0.2,seed=1",
            "model@per_bin=5,test=0.1,seed=1",
            "model@per_bin=5,test=0.2,seed=1",
            "report",
        ]
    );
    assert_eq!(step(&plan, "balance@per_bin=5").kind.params()["per_bin"], json!(5));
    assert_eq!(step(&plan, "again@per_bin=3,test=0.2,seed=1").kind.params()["test"], json!(0.2));
    assert_eq!(
        inputs(&plan, "model@per_bin=5,test=0.1,seed=1"),
        [
            "tokenizer=tokenizer.tokenizer",
            "train=again@per_bin=5,test=0.1,seed=1.train",
            "validation=balance@per_bin=5.rows"
        ]
    );
    assert_eq!(inputs(&plan, "one"), ["rows=balance@per_bin=5.rows"]);
    assert_eq!(
        inputs(&plan, "report"),
        [
            "k@per_bin=3=balance@per_bin=3.metrics",
            "k@per_bin=5=balance@per_bin=5.metrics",
            "t=tokenizer.tokenizer",
            "x=balance@per_bin=3.metrics"
        ]
    );
    let published: Vec<_> = plan.publish.keys().collect();
    assert_eq!(published, ["out/m@per_bin=3.json", "out/m@per_bin=5.json", "out/one.json"]);
}

#[test]
fn to_keeps_a_stage_and_what_it_needs() {
    let to = |to: &str| load_text(&with(MATRIX), &Options { to: Some(to.into()), ..Options::default() });
    assert_eq!(names(&to("one").expect("good")), ["made", "split", "balance@per_bin=5", "one"]);
    assert_eq!(names(&to("balance").expect("good")), ["made", "split", "balance@per_bin=3", "balance@per_bin=5"]);
    let plan = to("balance@per_bin=3").expect("good");
    assert_eq!(plan.publish.keys().collect::<Vec<_>>(), ["out/m@per_bin=3.json"]);
    assert_eq!(
        to("blance").map(|_| ()),
        Err("error: there is no stage `blance`\n --> --to\nhelp: did you mean `balance`?".into())
    );
}

#[test]
fn when_false_leaves_a_stage_out() {
    let text = with("  extra: { uses: split, in: { rows: made.rows }, when: \"${on}\" }\npublish: { x: extra.test }\n")
        .replace("params: {", "params: { on: false,");
    assert_eq!(names(&plan(&text)), ["made", "split"]);
    let on = load_text(&text, &Options { sets: vec!["on=true".into()], ..Options::default() }).expect("good");
    assert_eq!(names(&on), ["made", "extra", "split"]);
    let user = text.replace("publish", "  t: { uses: train-tokenizer, in: { rows: extra.test } }\npublish");
    assert_eq!(
        problems(&user),
        "error: `extra.test` refers to the stage `extra`, which its `when` leaves out
 --> p.yaml:7:43
  |
7 |   t: { uses: train-tokenizer, in: { rows: extra.test } }
  |                                           ^^^^^^^^^^
help: choose another input, or let `when` of `extra` be true; write `./extra.test` to mean a file of that name"
    );
}

#[test]
fn a_command_is_completed_with_all_that_it_sees() {
    let text = "cistage: 1
params: { seed: 7, name: a b, PATH: x, other: 1 }
stages:
  made: { uses: synthesize }
  plot:
    uses: command
    in: { rows: made.rows, script: Cargo.toml }
    out: { figure: plots/f.svg, m: { path: m.json, format: metrics } }
    with: { run: \"echo ${seed} {param.name} {in.rows} ${PATH} {a..b} ${HOME:-x} awk '{print}' > {out.figure}\", env: [CISTAGE_TEST_UNSET] }
  next:
    uses: command
    in: { f: plot.figure, m: plot.m }
    out: { o: o }
    with: { argv: [cp, \"{in.f}\", \"--x=${seed}{param.other}\", \"{out.o}\"] }
  both: { uses: compare, in: { a: plot.m } }
";
    let plan = plan(text);
    let StageKind::Command(plot) = &step(&plan, "plot").kind else { panic!("a command") };
    assert_eq!(json!(plot.values), json!({"name": "a b", "seed": "7"}));
    assert_eq!(json!(plot.endings), json!({"rows": ".parquet", "script": ".toml"}));
    assert_eq!(
        json!(plot.out),
        json!({"figure": {"path": "plots/f.svg", "format": "raw"}, "m": {"path": "m.json", "format": "metrics"}})
    );
    assert_eq!(json!(plot.environment), json!({"CISTAGE_TEST_UNSET": null}));
    assert_eq!(json!(step(&plan, "plot").outputs), json!({"figure": "raw", "m": "metrics"}));
    let StageKind::Command(next) = &step(&plan, "next").kind else { panic!("a command") };
    assert_eq!(json!(next.argv), json!(["cp", "{in.f}", "--x=7{param.other}", "{out.o}"]));
    assert_eq!((json!(next.values), json!(next.endings)), (json!({"other": "1"}), json!({"f": ".svg", "m": ".json"})));
}

/// Each bad stage or section, after the small pipeline, and what is said of it: `line:column message (help)`.
#[test]
fn every_slip_is_told_with_its_place_and_what_would_be_right() {
    let table: &[(&str, &[&str])] = &[
        ("  a: { uses: spilt }", &["6:14 there is no stage `spilt` to use (did you mean `split`?)"]),
        (
            "  a: { use: split, in: { rows: made.rows } }",
            &[
                "6:3 the stage `a` does not say what it `uses` (one of: synthesize, import-sequences, train-tokenizer, split, sample-bins, train, predict, evaluate, score-benchmark, compare, report, command)",
                "6:8 unknown key `use` of a stage (did you mean `uses`?)",
            ],
        ),
        (
            "  a: { uses: split, in: { row: made.rows } }",
            &[
                "6:3 the stage `a` has no input `rows`, which `split` needs (add it to `in:`; it takes rows)",
                "6:27 `split` has no input `row` (did you mean `rows`?)",
            ],
        ),
        (
            "  a: { uses: split, in: { rows: made.row } }",
            &[
                "6:33 the stage `made` has no output `row` (did you mean `made.rows`?; write `./made.row` to mean a file of that name)",
            ],
        ),
        (
            "  a: { uses: split, in: { rows: split } }",
            &[
                "6:33 `split` is a stage: name one of its outputs (its outputs: `split.test`, `split.train`; write `./split` to mean a file of that name)",
            ],
        ),
        (
            "  a: { uses: split, in: { rows: splt.train } }",
            &["6:33 there is no file `splt.train` (did you mean `split.train`?)"],
        ),
        (
            "  a: { uses: split, in: { rows: no/such.parquet } }",
            &[
                "6:33 there is no file `no/such.parquet` (a path is relative to the working directory; an output of a stage is written STAGE.PORT)",
            ],
        ),
        (
            "  a: { uses: split, in: { rows: no.parquet }, hint: ask Ada }",
            &["6:33 there is no file `no.parquet` (ask Ada)"],
        ),
        (
            "  a: { uses: split, in: { rows: Cargo.toml } }",
            &[
                "6:33 `Cargo.toml` does not hold rows (rows are a Parquet file; read a table of sequences with an `import-sequences` stage first)",
            ],
        ),
        ("  a: { uses: split, in: { rows: 3 } }", &["6:33 the input `rows` has to be STAGE.PORT or a path, not 3 ()"]),
        (
            "  a: { uses: predict, in: { model: made.rows, rows: made.rows } }",
            &["6:36 `made.rows` is rows; the input `model` of `predict` takes a model (no stage makes a model)"],
        ),
        (
            "  a: { uses: split, in: { rows: made.rows }, with: { tset: 0.1, by: rnd, seed: x } }",
            &[
                "6:54 `split` has no parameter `tset` (did you mean `test`?)",
                "6:69 `by`: there is no choice `rnd` (choices: `random`, `sequence-hash`)",
                "6:80 `seed`: expected a whole number, 0 or more, found the text \"x\" ()",
            ],
        ),
        (
            "  a: { uses: split, in: { rows: made.rows }, with: { seed: \"${sed}\", test: \"${per_bn}\" } }",
            &[
                "6:60 there is no parameter `sed` (parameters: `ks`, `per_bin`)",
                "6:76 there is no parameter `per_bn` (did you mean `per_bin`?)",
            ],
        ),
        (
            "  a: { uses: split, in: { rows: b.train } }\n  b: { uses: split, in: { rows: c.train } }\n  c: { uses: split, in: { rows: a.train } }",
            &["8:33 these stages wait for each other: a -> c -> b -> a (let one of them read something else)"],
        ),
        (
            "  a: { uses: split, in: { rows: a.train } }",
            &["6:33 the stage `a` waits for its own output (let it read the output of another stage)"],
        ),
        (
            "  a: { uses: evaluate, in: { rows: made.rows } }",
            &[
                "6:3 the stage `a` has nothing to evaluate (add to `in:` at least one input, under any name, that is a model)",
            ],
        ),
        ("  a: { uses: synthesize, when: yes }", &["6:32 `when` has to be true or false, not the text \"yes\" ()"]),
        (
            "  a: { uses: synthesize, out: { x: y } }",
            &["6:26 only a `command` declares its outputs (remove `out`; the outputs of a `synthesize` are fixed)"],
        ),
        (
            "  a: { uses: command, out: [table.tsv], with: { run: \"x > {out.table}\" } }\n  b: { uses: command, in: { t: a.table }, out: { y: y }, with: { run: \"cp {in.t} {out.y}\" } }",
            &[
                "6:28 `out` gives each output a name and a file, not a list (write `out: { NAME: FILE }`, for example `out: { table: table.tsv }`)",
            ],
        ),
        (
            "  a:\n    uses: command\n    in: { t: made.rows }\n    out: { y: y }\n    with:\n      run: |\n        awk '{output}' {input.t} '{params.x}'\n        cat {input} > {output}",
            &[
                "12:9 `{input.t}` is no placeholder, and would stay as it is (did you mean `{in.t}`?)",
                "13:9 `{input}` is no placeholder, and would stay as it is (did you mean `{in.t}`?)",
                "13:9 `{output}` is no placeholder, and would stay as it is (did you mean `{out.y}`?)",
            ],
        ),
        (
            "  a: { uses: command, in: [data/table.tsv], out: { y: y }, with: { run: \"cat {in.table} > {out.y}\" } }\n  b: { uses: command, in: { t: a.y }, out: { y: y }, with: { run: \"cp {in.t} {out.y}\" } }",
            &[
                "6:27 `in` gives each input a name, not a list (write `in: { NAME: FILE }`, for example `in: { table: data/table.tsv }`)",
            ],
        ),
        (
            "  a: { uses: command, in: { t: data/*.tsv }, out: { y: y }, with: { run: { in.t } } }\npublish: [a.y]",
            &[
                "6:32 there is no file `data/*.tsv` (patterns are not expanded: name the folder that holds the files, or each file as an input)",
                "6:74 `run` is text, not a map (what begins with `{` or `[` is a map or a list to YAML: put quotes around all of it, or use `run: |`)",
                "7:10 `publish` is a map, not a list (write `publish: { FILE: STAGE.PORT }`, for example `publish: { results/y: a.y }`)",
            ],
        ),
        (
            "  a: { uses: split, inputs: { rows: made.rows }, shell: x, deps: x, outs: y, params: [z], in: { rows: made.rows } }",
            &[
                "6:21 unknown key `inputs` of a stage (inputs stand under `in:`, each with a name: `in: { NAME: FILE }`)",
                "6:50 unknown key `shell` of a stage (a command's text is a parameter: `with: { run: \"…\" }`)",
                "6:60 unknown key `deps` of a stage (inputs stand under `in:`, each with a name: `in: { NAME: FILE }`)",
                "6:69 unknown key `outs` of a stage (outputs stand under `out:`, each with a name: `out: { NAME: FILE }`)",
                "6:78 unknown key `params` of a stage (values of a stage's own stand under `with:`; those that a command's text uses under `params:` at the top)",
            ],
        ),
        (
            "  a: { uses: synthesize, matrix: { rows: 30, param.seed: [1] } }\npublish: { x: mad.rows, y: made.row }",
            &[
                "6:42 `rows` of a matrix is a list of values, not 30 (write `rows: [30]`, with a value for each branch)",
                "6:46 a matrix names a parameter without `param.`: `param.seed` (write `seed`)",
                "7:15 `mad.rows` is no output of a stage (did you mean `made.rows`?)",
                "7:28 the stage `made` has no output `row` (did you mean `made.rows`?)",
            ],
        ),
        (
            "  a: { uses:synthesize }\n  b:\n    uses: split\n    in: { rows: made.rows }\n    with:\n      test:0.1",
            &[
                "6:3 the stage `a` does not say what it `uses` (one of: synthesize, import-sequences, train-tokenizer, split, sample-bins, train, predict, evaluate, score-benchmark, compare, report, command)",
                "6:8 unknown key `uses:synthesize` of a stage (a space after the colon: `uses: …`)",
                "11:7 `with` is a map of parameters, not the text \"test:0.1\" (a space after the colon: `test: …`)",
            ],
        ),
        (
            "  a: { uses: train, ranks: 0, in: { train: split.train, tokenizer: t.tokenizer } }\n  t: { uses: train-tokenizer, in: { rows: split.train } }\n  b: { uses: train, ranks: two, in: { train: split.train, tokenizer: t.tokenizer }, with: { ranks: 2 } }",
            &[
                "6:28 `ranks`: a training has 1 to 1024 ranks, not 0 ()",
                "8:28 `ranks`: expected a whole number, 0 or more, found the text \"two\" ()",
                "8:93 `ranks` stands beside `with`, not in it (move it up: it says how the stage runs, as `resources` does)",
            ],
        ),
        (
            "  a: { uses: synthesize, executor: here }",
            &[
                "6:36 `executor` is `local` or `slurm`, not the text \"here\" (without it the stage runs where `--executor` says)",
            ],
        ),
        ("  a: { uses: synthesize, ranks: 2 }", &["6:26 only a `train` is shared by several ranks (remove `ranks`)"]),
        (
            "  a:\n    uses: command\n    out: { y: y }\n    with:\n      run |\n        echo > {out.y}",
            &[
                "10:7 `with` is a map of parameters, not the text \"run | echo > {out.y}\" (a key needs a colon: `run: …`)",
            ],
        ),
        ("  a: { uses: synthesize, secrets: [x] }", &["6:26 only a `command` takes secrets (remove `secrets`)"]),
        (
            "  a b: { uses: synthesize }",
            &[
                "6:3 \"a b\" can't be the name of a stage (use letters, digits, `-` and `_`, starting with a letter, 64 characters at most)",
            ],
        ),
        (
            "  a: { uses: synthesize, resources: { cpu: 1, memory: 2G, time: 5 } }",
            &[
                "6:39 unknown key `cpu` in `resources` (did you mean `cpus`?)",
                "6:55 `memory`: expected a number of bytes or a size such as `500MB` or `2GiB`, found the text \"2G\" ()",
                "6:65 `time`: expected a time such as `90s`, `30m` or `1h30m`, found 5 ()",
            ],
        ),
        (
            "  a: { uses: synthesize, matrix: { rows: [1, 1], sede: [1], seed: [a b] } }",
            &[
                "6:46 1 stands twice in `rows` of this matrix ()",
                "6:50 `synthesize` has no parameter `sede` (did you mean `seed`?)",
                "6:68 \"a b\" can't become part of a stage's name (values of a matrix are written with letters, digits and `-_.+`)",
            ],
        ),
        (
            "  a: { uses: sample-bins, in: { rows: made.rows }, matrix: { per_bin: [a b] }, with: { bin: 1 } }\n  b: { uses: split, in: { rows: a@per_bin=1.rows } }\npublish: { x.json: split.train }",
            &[
                "6:72 \"a b\" can't become part of a stage's name (values of a matrix are written with letters, digits and `-_.+`)",
                "6:88 `sample-bins` has no parameter `bin` (did you mean `bins`?)",
                "8:12 `split.train` is rows, which can't be published as JSON (let the path end in .parquet, .tsv or .tsv.gz)",
            ],
        ),
        (
            "  a: { uses: command, with: { run: \"cat {in.x} {out.z} {param.perbin} {print}\" }, in: { y: made.rows }, out: { zz: ../z } }",
            &[
                "6:36 `{in.x}`: there is no input `x` (inputs: `y`)",
                "6:36 `{out.z}`: there is no output `z` (outputs: `zz`)",
                "6:36 `{param.perbin}`: there is no parameter `perbin` (did you mean `per_bin`?)",
                "6:116 the output path \"../z\" leaves its folder with `..` (outputs are files or folders in the command's own work directory, such as `figure.svg`)",
            ],
        ),
        (
            "  a: { uses: command, with: { run: x, argv: [y], out: { a: b } }, out: { a: b, c: b/c, d: /e } }",
            &[
                "6:39 a command has either `run` or `argv`, not both (remove one of the two)",
                "6:50 `command` has no parameter `out` (its parameters: `run`, `argv`, `env`)",
                "6:83 the outputs `a` and `c` lie one within the other (give each output a path of its own)",
                "6:91 the output path \"/e\" is absolute (outputs are files or folders in the command's own work directory, such as `figure.svg`)",
            ],
        ),
        (
            "  a: { uses: command, with: { run: x }, out: { t: t } }\n  b: { uses: split, in: { rows: a.t } }",
            &[
                "7:33 `a.t` is raw bytes; the input `rows` of `split` takes rows (let the command declare it: out: { t: { path: FILE, format: rows } })",
            ],
        ),
        (
            "publish: { ../x: made.rows, a: made.row, b: other.x, c: split.train, c/d: split.test, Cargo.toml: split.test }",
            &[
                "6:12 the published path \"../x\" leaves its folder with `..` (published files go below the working directory, such as `results/metrics.json`)",
                "6:32 the stage `made` has no output `row` (did you mean `made.rows`?)",
                "6:45 `other.x` is no output of a stage (publish takes outputs of this pipeline: STAGE.PORT)",
                "6:70 the published paths `c` and `c/d` lie one within the other ()",
            ],
        ),
        (
            "verify: 1\nstage: 2",
            &[
                "6:9 `verify` is `changed` or `always`, not 1 (`changed` reads files again that look changed; `always` reads all of them at each run)",
                "7:1 unknown key `stage` of a pipeline (did you mean `stages`?)",
            ],
        ),
        (
            "  made: { uses: synthesize }",
            &["6:3 duplicate key `made`: it stands on line 4 already (remove one of the two)"],
        ),
    ];
    let mut wrong = String::new();
    for (text, expected) in table {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("p.yaml");
        fs_err::write(&file, with(text)).expect("written");
        let found = load(&file, &Options::default()).map(|_| ()).expect_err("the pipeline is wrong").0;
        let found: Vec<String> = found
            .iter()
            .map(|p| {
                let at = p.position.unwrap_or_default();
                format!("{}:{} {} ({})", at.line, at.column, p.message, p.help.as_deref().unwrap_or_default())
            })
            .collect();
        if found != *expected {
            wrong += &format!("{text}\n  expected {expected:#?}\n  found {found:#?}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn files_that_are_no_pipelines_are_refused_in_words() {
    let first = |text: &str| problems(text).lines().next().unwrap_or_default().to_owned();
    assert_eq!(first(" \n"), "error: the pipeline file is empty");
    assert_eq!(first("# nothing\n"), "error: the pipeline file holds comments only");
    assert_eq!(first("[1]"), "error: a pipeline file is a map with `cistage: 1` and `stages:`, not a list");
    assert_eq!(
        first("cistage: 2\nstages: {a: {uses: synthesize}}"),
        "error: `cistage` has to be 1, the version of the file's form; found 2"
    );
    assert_eq!(first("stages: {a: {uses: synthesize}}"), "error: `cistage: 1` is missing");
    assert_eq!(first("cistage: 1"), "error: the pipeline has no stages");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let message = |path: &Path| load(path, &Options::default()).map(|_| ()).expect_err("wrong").0[0].message.clone();
    assert_eq!(message(folder.path()), "this is a folder, not a pipeline file");
    assert_eq!(message(&folder.path().join("x.yaml")), "there is no such pipeline file");
    let latin = folder.path().join("latin.yaml");
    fs_err::write(&latin, b"cistage: 1\nname: caf\xe9\n").expect("written");
    assert_eq!(message(&latin), "line 2 is not UTF-8 text");
}

#[test]
fn the_matrix_of_a_command_varies_parameters_of_the_pipeline() {
    let command = |matrix: &str, rest: &str| {
        with(&format!(
            "  a:\n    uses: command\n    out: {{ o: o.txt }}\n    with: {{ argv: [echo, \"x=${{per_bin}}\", \"{{param.per_bin}}\"] }}\n    matrix: {{ {matrix} }}\n{rest}"
        ))
    };
    let plan = plan(&command("per_bin: [7, 8]", ""));
    let params = step(&plan, "a@per_bin=8").kind.params();
    assert_eq!(
        (&params["argv"], &params["values"]),
        (&json!(["echo", "x=8", "{param.per_bin}"]), &json!({ "per_bin": "8" }))
    );
    let message = problems(&command("per_bim: [7, 8]", ""));
    assert!(message.contains("`command` has no parameter `per_bim`"), "{message}");
    let message = problems(&command("per_bin: [7, 8]", "    in: { f: \"./x${per_bin}\" }\n"));
    assert!(message.contains("an input can't vary over `matrix`, as `${per_bin}` would here"), "{message}");
}

#[test]
fn a_matrix_can_not_explode() {
    let keys: Vec<String> =
        (0..6).map(|i| format!("k{i}: [{}]", (0..50).map(|n| n.to_string()).collect::<Vec<_>>().join(", "))).collect();
    let message = problems(&with(&format!("  a: {{ uses: synthesize, matrix: {{ {} }} }}", keys.join(", "))));
    assert!(message.starts_with("error: the stage `a` has more than 10000 branches"), "{message}");
    // Each stage fans out with the one before it.
    let hundred = (0..100).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let mut stages = format!("  s0: {{ uses: synthesize, matrix: {{ seed: [{hundred}], rows: [{hundred}] }} }}\n");
    for n in 1..12 {
        stages.push_str(&format!("  s{n}: {{ uses: import-sequences, in: {{ file: s{}.rows }} }}\n", n - 1));
    }
    let message = problems(&with(&stages));
    assert!(message.contains("the plan has more than 100000 steps"), "{message}");
}

#[test]
fn a_stage_of_ten_thousand_branches_hands_each_to_the_stage_after_it() {
    let hundred = (1..=100).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let text = with(&format!(
        "  a: {{ uses: synthesize, matrix: {{ seed: [{hundred}], rows: [{hundred}] }} }}\n  b: {{ uses: import-sequences, in: {{ file: a.rows }} }}"
    ));
    let plan = plan(&text);
    let readers: Vec<&Step> = plan.steps.iter().filter(|step| step.name.base() == "b").collect();
    assert_eq!(readers.len(), 10_000);
    for step in readers {
        let from = step.inputs.values().next().expect("one input");
        let Source::Step { step: maker, .. } = from else { panic!("it reads a stage") };
        assert_eq!(maker.branch(), step.name.branch());
    }
}

/// Loads a pipeline of the repository.
fn shipped(name: &str, profiles: &[&str], sets: &[&str]) -> Result<Plan, Problems> {
    let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines").join(name);
    load(&file, &Options { profiles: owned(profiles), sets: owned(sets), to: None })
}

#[test]
fn the_shipped_pipelines_make_plans_under_every_profile() {
    let steps = |name, profiles: &[&str], sets: &[&str]| {
        let plan = shipped(name, profiles, sets).unwrap_or_else(|problems| panic!("{name} {profiles:?}\n{problems}"));
        plan.steps.len()
    };
    let data = &["data=Cargo.toml"][..];
    assert_eq!(steps("dream2022.yaml", &["demo"], &[]), 11);
    for profiles in [&[][..], &["sample"], &["as-submitted"], &["as-submitted", "sample"]] {
        assert_eq!(steps("dream2022.yaml", profiles, data), 10);
    }
    assert_eq!(steps("k-sweep.yaml", &["demo"], &[]), 5 + 4 * 3 + 2);
    assert_eq!(steps("k-sweep.yaml", &[], data), 4 + 4 * 5 + 2);
    assert_eq!(steps("k-sweep.yaml", &["as-submitted", "sample"], data), 4 + 4 * 4 + 2);
    assert_eq!(steps("benchmark.yaml", &["demo"], &[]), 8);
    assert_eq!(steps("benchmark.yaml", &["fresh", "sample"], &["data=Cargo.toml", "test=Cargo.toml"]), 6);
    let lists = tempfile::tempdir().expect("a temporary folder");
    fs_err::write(lists.path().join("high.tsv"), "pos\n").expect("written");
    let subsets = format!("subsets={}", lists.path().display());
    assert_eq!(
        steps(
            "benchmark.yaml",
            &["fresh", "score"],
            &["data=Cargo.toml", "test=Cargo.toml", "labels=Cargo.toml", &subsets]
        ),
        7
    );
}

#[test]
fn as_submitted_and_sample_combine() {
    let plan = shipped("dream2022.yaml", &["as-submitted", "sample"], &["data=Cargo.toml"]).expect("good");
    assert_eq!(inputs(&plan, "balance"), ["rows=rows.rows"]);
    let params = step(&plan, "finetune").kind.params();
    assert_eq!((&params["batch_size"], &params["keep"], &params["model"]), (&json!(32), &json!("best"), &json!(null)));
    assert_eq!(step(&plan, "pretrain").kind.params()["model"]["hidden"], json!(128));
    assert_eq!(step(&plan, "balance").kind.params()["rule"], json!("open-interval"));
}

#[test]
fn the_flagship_without_its_data_says_where_it_comes_from() {
    let problems =
        shipped("dream2022.yaml", &[], &["data=no/train_sequences.txt"]).map(|_| ()).expect_err("no such file");
    assert_eq!(problems.0.len(), 1);
    assert_eq!(problems.0[0].message, "there is no file `no/train_sequences.txt`");
    let help = problems.0[0].help.as_deref().unwrap_or_default();
    assert!(
        help.contains("7395397 and 10633252")
            && help.contains("CC BY 4.0")
            && help.contains("--profile demo needs no data"),
        "{help}"
    );
}

const VARIED: &str = "cistage: 1
params: { x: 1, y: 2, unused: 3, off: false }
stages:
  a:
    uses: command
    out: { o: o }
    matrix: { x: [1, 2] }
    with: { run: \"TEXT > {out.o}\" }
  b: { uses: synthesize, with: { rows: 5 }, matrix: { seed: [1, 2] } }
  c: { uses: synthesize, with: { seed: \"${y}\" }, when: \"${off}\" }
";

#[test]
fn a_matrix_of_what_a_command_does_not_use_is_refused() {
    let text = |run: &str| VARIED.replace("TEXT", run);
    for run in ["echo {param.x}", "echo ${x}", "echo \\\"${x:-1}\\\""] {
        assert_eq!(names(&plan(&text(run))), ["a@x=1", "a@x=2", "b@seed=1", "b@seed=2"], "{run}");
    }
    for run in ["echo {param.y}", "echo ${xx}", "echo $x"] {
        assert_eq!(
            problems(&text(run)),
            "error: `matrix` varies `x`, which nothing in `run` uses
 --> p.yaml:7:15
  |
7 |     matrix: { x: [1, 2] }
  |               ^
help: write `{param.x}` where its value belongs"
        );
    }
    let argv = text("x").replace("run: \"x > {out.o}\"", "argv: [touch, \"{out.o}\", \"--x=${x}\"]");
    assert_eq!(names(&plan(&argv)).len(), 4);
}

#[test]
fn a_parameter_that_no_stage_uses_is_told_of() {
    let text = VARIED.replace("TEXT", "echo {param.x}");
    assert_eq!(plan(&text).warnings, ["the parameter `unused` is used by no stage"]);
    for file in ["dream2022.yaml", "k-sweep.yaml", "benchmark.yaml"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines").join(file);
        let text = fs_err::read_to_string(&file).expect("a shipped pipeline");
        let shipped = plan_of_text(&file, &text, &Options::default()).expect("a good pipeline");
        assert_eq!(shipped.warnings, [""; 0], "{}", file.display());
    }
}
