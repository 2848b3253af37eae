//! Placeholders as other tools have them, which bash would take for text: `{input.rows}`, `{threads}`, `{n}`.

use super::nearest::suggestion;
use super::params::is_name;
use crate::stages::shell;

/// Of one text, no more of them are looked for.
const ENOUGH: usize = 100;

/// The names of a command's own, which a placeholder may mean.
pub struct Known<'a> {
    pub inputs: Vec<&'a str>,
    pub outputs: Vec<&'a str>,
    pub params: Vec<&'a str>,
}

/// A placeholder that is none of ours.
#[derive(Debug, PartialEq, Eq)]
pub struct Foreign<'t> {
    pub at: usize,
    pub written: &'t str,
    /// What to write.
    pub help: String,
}

/// What the braces hold: `input.rows[0]` is of the kind `input`, with a name and an index.
struct Braces<'t> {
    written: &'t str,
    kind: &'t str,
    name: Option<&'t str>,
    index: Option<&'t str>,
}

/// Finds them in a text for bash. What bash has a use for stays, as do the braces of programs inside quotes.
pub fn in_script<'t>(text: &'t str, known: &Known<'_>) -> Vec<Foreign<'t>> {
    find(text, known, |at, braces| shell::is_bare(text, at, braces.written) && !is_for_bash(text, at, braces))
}

/// Finds them in an argument for a program: where it is a text with blanks, quotes or brackets, they may be its own.
pub fn in_argument<'t>(text: &'t str, known: &Known<'_>) -> Vec<Foreign<'t>> {
    let is_word = !text.contains(|c: char| c.is_whitespace() || "\"'`();$".contains(c));
    find(text, known, |_, _| is_word)
}

fn find<'t>(text: &'t str, known: &Known<'_>, is_bare: impl Fn(usize, &Braces<'t>) -> bool) -> Vec<Foreign<'t>> {
    let found = text.match_indices('{').filter(|(at, _)| !text[..*at].ends_with('$')).filter_map(|(at, _)| {
        let braces = Braces::read(&text[at..])?;
        Some((at, braces.help(known)?, braces))
    });
    found
        .take(ENOUGH)
        // Braces inside quotes may be a program's own: refused there only where the name is one of ours.
        .filter(|(at, _, braces)| braces.is_ours(known) || is_bare(*at, braces))
        .map(|(at, help, braces)| Foreign { at, written: braces.written, help })
        .collect()
}

/// Whether bash, or a program that repeats a command, has a use for a name in braces: `exec {log}>file`, `xargs -I{n}`.
fn is_for_bash(text: &str, at: usize, braces: &Braces<'_>) -> bool {
    let opens_file = text[at + braces.written.len()..].starts_with(['<', '>']);
    let after_exec = text[..at].trim_end().ends_with("exec");
    let is_ours = matches!(braces.kind, "in" | "out" | "input" | "output" | "inputs" | "outputs");
    let repeats = |option: &str| text.contains(&format!("{option}{}", braces.written));
    (opens_file && (after_exec || !is_ours)) || repeats("-I") || repeats("-I ")
}

impl<'t> Braces<'t> {
    /// Reads what a text begins with, no further than a name goes.
    fn read(text: &'t str) -> Option<Self> {
        let rest = &text[1..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c))?;
        let (inside, mut after) = rest.split_at(end);
        let mut index = None;
        if let Some(indexed) = after.strip_prefix('[') {
            let end = indexed.find(|c: char| !c.is_ascii_alphanumeric() && !"-_\"'".contains(c))?;
            index = Some(indexed[..end].trim_matches(['"', '\'']));
            after = indexed[end..].strip_prefix(']')?;
        }
        let length = text.len() - after.strip_prefix('}')?.len();
        let (kind, name) = match inside.split_once('.') {
            Some((kind, name)) => (kind, Some(name)),
            None => (inside, None),
        };
        Some(Self { written: &text[..length], kind, name, index })
    }

    /// Whether it names, by another tool's word, what is there.
    fn is_ours(&self, known: &Known<'_>) -> bool {
        let names = match self.kind {
            "input" | "inputs" | "in" => &known.inputs,
            "output" | "outputs" | "out" => &known.outputs,
            "params" | "wildcards" => &known.params,
            _ => return false,
        };
        self.name.is_some_and(|name| names.contains(&name))
    }

    /// What to write in its place; `None` where it is no placeholder of a tool that we know, or one of ours.
    fn help(&self, known: &Known<'_>) -> Option<String> {
        let is_indexed = self.index.is_some();
        match self.kind {
            // Those with a name alone are ours.
            "in" | "out" if self.name.is_some() && !is_indexed => None,
            "input" | "inputs" | "in" => Some(file("in", self.name, &known.inputs)),
            "output" | "outputs" | "out" => Some(file("out", self.name, &known.outputs)),
            "params" | "wildcards" if self.name.is_some() || is_indexed => {
                Some(parameter(self.name.or(self.index).unwrap_or_default(), &known.params))
            }
            "config" if self.name.is_none() && is_indexed => {
                Some(parameter(self.index.unwrap_or_default(), &known.params))
            }
            name if self.name.is_none() && !is_indexed && (name == "threads" || known.params.contains(&name)) => {
                Some(parameter(name, &known.params))
            }
            _ => None,
        }
    }
}

fn file(kind: &str, name: Option<&str>, known: &[&str]) -> String {
    match (name, known) {
        (Some(name), known) if known.contains(&name) => format!("did you mean `{{{kind}.{name}}}`?"),
        (None, [first, ..]) => format!("did you mean `{{{kind}.{first}}}`?"),
        (_, []) => format!("declare it, `{kind}: {{ NAME: FILE }}`, and write `{{{kind}.NAME}}`"),
        (Some(name), known) => {
            format!("write `{{{kind}.NAME}}`: {}", suggestion(name, known.iter().copied(), &format!("{kind}puts")))
        }
    }
}

fn parameter(name: &str, known: &[&str]) -> String {
    if known.contains(&name) {
        return format!("did you mean `{{param.{name}}}`?");
    }
    let name = if is_name(name) { name } else { "NAME" };
    format!("a value stands under `params:`, `{name}: …`, and is `{{param.{name}}}` in `run`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known<'static> {
        Known { inputs: vec!["bed"], outputs: vec!["o"], params: vec!["n", "name"] }
    }

    fn helps(text: &str) -> Vec<String> {
        in_script(text, &known()).into_iter().map(|found| format!("{} {}", found.written, found.help)).collect()
    }

    #[test]
    fn placeholders_of_other_tools_are_told_with_what_to_write() {
        for (text, expected) in [
            ("cat {in} > x", "{in} did you mean `{in.bed}`?"),
            ("cat x > {out}", "{out} did you mean `{out.o}`?"),
            ("cat {in.bed[0]}", "{in.bed[0]} did you mean `{in.bed}`?"),
            ("cat \"{in.bed[0]}\"", "{in.bed[0]} did you mean `{in.bed}`?"),
            ("cat {input[0]}", "{input[0]} did you mean `{in.bed}`?"),
            ("cat {input.bad}", "{input.bad} write `{in.NAME}`: did you mean `bed`?"),
            ("head -n {params[n]}", "{params[n]} did you mean `{param.n}`?"),
            ("head -n {config[\"n\"]}", "{config[\"n\"]} did you mean `{param.n}`?"),
            ("head -n{n}", "{n} did you mean `{param.n}`?"),
            (
                "sort --parallel={threads}",
                "{threads} a value stands under `params:`, `threads: …`, and is `{param.threads}` in `run`",
            ),
            (
                "echo {wildcards.sample}",
                "{wildcards.sample} a value stands under `params:`, `sample: …`, and is `{param.sample}` in `run`",
            ),
        ] {
            assert_eq!(helps(text), [expected], "{text}");
        }
        let none = Known { inputs: vec![], ..known() };
        let told = in_script("cat {input}", &none).remove(0).help;
        assert_eq!(told, "declare it, `in: { NAME: FILE }`, and write `{in.NAME}`");
        assert_eq!(in_argument("--n={n}", &known()).len(), 1);
    }

    #[test]
    fn what_bash_and_programs_have_a_use_for_stays() {
        for text in [
            "echo ${n} ${name} ${n:-1} ${in}",
            "echo {n,name} {1..3} {a..n} x{,.bak}",
            "{ n; } && f() { name; }",
            "awk '{n}' x; awk '{print $1}'; python3 -c \"print(f'{n} {threads} {input}')\"",
            "python3 <<'EOF'\nprint(f'{n} {input[0]} {params[n]}')\nEOF\n",
            "cat <<EOF\n{n}\nEOF\n",
            "exec {n}>log; echo x >&$n; exec {n}>&-; exec {out}>y",
            "xargs -I{n} cp {n} {n}.bak; xargs -I {name} mv {name} x",
            "echo \\{n}; # {n} {threads} {input}",
            "find . -exec rm {} +; echo {other} {params} {config} {unknown.x}",
            "echo {in.bed} {out.o} {param.n}",
        ] {
            assert_eq!(helps(text), [""; 0], "{text}");
        }
        for argument in ["print({n})", "{ print n; } {n}", "f'{n}'"] {
            assert_eq!(in_argument(argument, &known()), [], "{argument}");
        }
    }
}
