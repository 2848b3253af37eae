//! Every place is tried with real bash, on values that would do harm if they were ever read as code or split.

use super::*;
use std::process::Command;

/// Values that a careless reference would split, expand, run or lose.
const HOSTILE: [&str; 12] = [
    "plain",
    "two  words",
    "* ?[a-z]",
    "$(touch pwned)`touch pwned`",
    "it's \"quoted\"",
    "line one\nline two",
    "; touch pwned; #",
    "${HOME} $HOME \\ \\\\ \\n",
    "-n",
    "",
    "~",
    "a[$(touch pwned)]",
];

fn scanned(text: &str) -> String {
    let put = |piece: Piece<'_>| match piece {
        Piece::Text(text) => text.to_owned(),
        Piece::Placeholder { place, .. } => place.reference("X"),
    };
    pieces(text).unwrap_or_else(|trouble| panic!("{text}: {trouble:?}")).into_iter().map(put).collect()
}

/// Runs a text in bash with `show`, which prints each of its arguments between angle brackets.
fn bash(text: &str, value: &str) -> String {
    let dir = tempfile::tempdir().expect("a temporary folder");
    fs_err::write(dir.path().join("a"), "").expect("a file for globs to find");
    let script = format!("show() {{ [ $# = 0 ] || printf '<%s>' \"$@\"; }}\nunset U\n{}", scanned(text));
    let mut command = Command::new("bash");
    command.args(["-eu", "-o", "pipefail", "-c", &script]).current_dir(dir.path()).env("X", value);
    let output = command.output().expect("bash starts");
    assert!(!dir.path().join("pwned").exists(), "{value:?} was run by: {script}");
    assert!(output.status.success(), "{value:?}: {}\n{script}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_placeholder_is_one_word_with_exactly_its_value_wherever_it_stands() {
    let table = [
        ("show {in.x}", "<V>"),
        ("show a{in.x}b", "<aVb>"),
        ("show {{in.x}}", "<{V}>"),
        ("show \"{in.x}\"", "<V>"),
        ("show \"a {in.x} b\"c", "<a V bc>"),
        ("show \"{in.x}x\"", "<Vx>"),
        ("show '{in.x}'", "<V>"),
        ("show 'it is {in.x} here'", "<it is V here>"),
        ("show $'a\\'{in.x}\\'b'", "<a'V'b>"),
        ("show $\"{in.x}\"", "<V>"),
        ("show \"$(show {in.x})\"", "<<V>>"),
        ("show \"$(show \"{in.x}\")\"", "<<V>>"),
        ("show \"$(show '{in.x}')\"", "<<V>>"),
        ("show \"`show {in.x}`\"", "<<V>>"),
        ("show \"`show \"{in.x}\"`\"", "<<V>>"),
        ("show \"$(case b in a) show no;; (b) show {in.x};; esac)\"", "<<V>>"),
        ("show \"$(case b in a | b) show {in.x} ;; esac; show {in.x})\"", "<<V><V>>"),
        ("show \"$(echo case) $(show {in.x})\"", "<case <V>>"),
        ("show \"$( [[ ab =~ ^(a)b$ ]] && show {in.x})\"", "<<V>>"),
        ("show \"$(: $(( (1 + 2) * 3 )); (show {in.x}))\"", "<<V>>"),
        ("show \"${U:-{in.x}}\"", "<V>"),
        ("show ${U:-{in.x}}", "<V>"),
        ("show \"${U:-a \"{in.x}\" b}\"", "<a V b>"),
        ("show ${U:-'{in.x}'}", "<V>"),
        ("# it's a comment, with {in.x}\nshow {in.x}", "<V>"),
        ("show a # isn't it\nshow {in.x}", "<a><V>"),
        ("show a#b'c {in.x}'", "<a#bc V>"),
        ("show $# \"${#X}\" >/dev/null; show {in.x} # it's", "<V>"),
        ("show \"$(# it's ) here\nshow {in.x})\"", "<<V>>"),
        ("show \"`# it's a comment\nshow {in.x}`\"", "<<V>>"),
        ("show a\\'{in.x}", "<a'V>"),
        ("show a\\\"{in.x}\\\"", "<a\"V\">"),
        ("show \"a\\\"{in.x}\"", "<a\"V>"),
        ("cat <<EOF\nit's <{in.x}> \"{in.x}\"\nEOF\nshow {in.x}", "it's <V> \"V\"\n<V>"),
        ("cat <<-EOF\n\t$(show {in.x})\n\tEOF\nshow {in.x}", "<V>\n<V>"),
        ("cat <<EOF\n${U:-{in.x}}\nEOF", "V\n"),
        ("cat <<'EOF'\nit's \"\nEOF\nshow {in.x}", "it's \"\n<V>"),
        ("cat <<A; cat <<\"B\"\n{in.x}\nA\nit's\nB\nshow {in.x}", "V\nit's\n<V>"),
        ("show \"$(cat <<EOF\n{in.x})\nEOF\n)\"", "<V)>"),
        ("cat <<<{in.x}", "V\n"),
        ("cat < <(show {in.x})", "<V>"),
        ("a=({in.x} '{in.x}' b); show \"${a[@]}\"", "<V><V><b>"),
        ("f() { show {in.x}; }; f", "<V>"),
        ("if [[ {in.x} == {in.x} ]]; then show {in.x}; fi", "<V>"),
        ("for v in {in.x} \"{in.x}\"; do show \"$v\"; done", "<V><V>"),
        ("v={in.x}; show \"$v\"", "<V>"),
        ("v=$(show {in.x}); show \"$v\"", "<<V>>"),
        ("awk 'BEGIN { print \"n\" }'; show {in.x} {a,b} $$ >/dev/null; show {in.x}", "n\n<V>"),
        ("show \\{in.x} \"\\{in.x}\"", "<{in.x}><\\{in.x}>"),
        ("case x in (x) show {in.x};; esac", "<V>"),
        ("V=x.txt; show \"${V%{in.x}}\" >/dev/null; show {in.x}", "<V>"),
        ("(( 1 + 1 )) && show {in.x}", "<V>"),
        ("show é{in.x}ü 'é{in.x}'", "<éVü><éV>"),
        ("ls file[ab >/dev/null 2>&1 || show {in.x}", "<V>"),
    ];
    for (text, expected) in table {
        for value in HOSTILE {
            // A command substitution loses final line feeds: none of these values ends with one.
            assert_eq!(bash(text, value), expected.replace('V', value), "{text} with {value:?}: {}", scanned(text));
        }
    }
}

#[test]
fn a_whole_number_counts_where_bash_calculates() {
    let table = [
        ("show $(( {in.x} + 1 ))", "<8>"),
        ("show $(( \"{in.x}\" * 2 ))", "<14>"),
        ("(( n = {in.x} )); show $n", "<7>"),
        ("for ((i = {in.x}; i < 9; i++)); do show $i; done", "<7><8>"),
        ("show $[{in.x}+1]", "<8>"),
        ("a[{in.x}]=b; show \"${a[{in.x}]}\"", "<b>"),
        ("set -- a b c d e f g; show ${@:{in.x}} \"${*:{in.x}:1}\"", "<g><g>"),
        ("s=0123456789; show ${s:{in.x}} \"${s:{in.x}:1}\"", "<789><7>"),
    ];
    for (text, expected) in table {
        let places = pieces(text).expect("scans");
        let calculates = |piece: &Piece<'_>| matches!(piece, Piece::Placeholder { place: Place::Arithmetic, .. });
        assert!(places.iter().any(calculates), "{text}: {places:?}");
        assert_eq!(bash(text, "7"), expected, "{text}");
    }
    // A substitution inside is no calculation.
    let inner = pieces("show $(( $(wc -l < {in.x}) + 1 ))").expect("scans");
    assert!(inner.iter().any(|p| matches!(p, Piece::Placeholder { place: Place::Bare, .. })), "{inner:?}");
    assert!(is_whole_number("0") && is_whole_number("-25000"));
    for other in ["", "-", "08", "1.5", "x", "a[$(rm)]", "1 ", "0x1"] {
        assert!(!is_whole_number(other), "{other}");
    }
}

#[test]
fn what_cannot_be_read_with_certainty_is_trouble_with_its_line() {
    let table = [
        ("cat <<'EOF'\n{in.x}\nEOF", 2),
        ("cat <<\\EOF\na\n{in.x}\nEOF", 3),
        ("echo ${in.x}", 1),
        ("true\necho \"${in.x}\"", 2),
        ("echo `echo \\`echo {in.x}\\``", 1),
        ("echo `echo \"\\$a\" {in.x}`", 1),
        ("echo `echo {in.x} # it's`", 1),
        ("for ((i = 0; i < 3; i++) do echo {in.x}; done", 1),
        ("echo '{in.x}", 1),
        ("echo {in.x} \"open", 1),
        ("echo \"${U:-it's {in.x}}\"", 1),
        ("echo \"$(case x in x) echo {in.x})\"", 1),
        ("echo $((echo {in.x}) | cat)", 1),
        ("cat <<$E\n{in.x}\n$E", 1),
        ("cat <<EOF $(echo\n)\n{in.x}\nEOF", 2),
        ("cat <<EOF \"a\nb\"\n{in.x}\nEOF", 1),
        ("echo \"$( [[ x =~ [)] ]] && echo {in.x} )\"", 1),
    ];
    for (text, line) in table {
        match pieces(text) {
            Err(trouble) => assert_eq!(trouble.line, line, "{text}: {trouble:?}"),
            Ok(found) => panic!("{text}: {found:?}"),
        }
    }
    let deep = format!("{}{{in.x}}{}", "$(".repeat(100_000), ")".repeat(100_000));
    assert!(pieces(&deep).is_err());
}

#[test]
fn a_long_text_is_read_in_one_pass() {
    // Minutes would go by if each brace were read to the end.
    let braces = "{".repeat(1 << 20) + "{in.x}";
    assert_eq!(pieces(&braces).expect("scans").len(), 2);
    let many = pieces(&"{in.x}\n".repeat(100_000)).map(|found| found.len());
    assert_eq!(many, Ok(200_000));
}

#[test]
fn a_text_without_placeholders_is_left_to_bash() {
    for text in ["echo 'open", "awk '{print $1}' {a,b} {in.} {inx.y} {in. x}", "cat <<$E"] {
        assert_eq!(pieces(text), Ok(vec![Piece::Text(text)]));
    }
}
