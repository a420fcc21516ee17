//! Rules for every file, whatever its language.

use super::Faults;

/// Blanks at the ends of lines.
pub fn trailing_whitespace(text: &str) -> Faults {
    let is_bad = |line: &str| line.ends_with([' ', '\t', '\r']);
    let bad = text.split('\n').enumerate().filter(|(_, line)| is_bad(line));
    bad.map(|(index, _)| (index + 1, "has whitespace at its end".to_owned())).collect()
}

/// Paths that exist on one person's machine only. In pieces here, or this line would be a finding.
const LOCAL: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// Paths of somebody's machine.
pub fn local_paths(text: &str) -> Faults {
    let mut faults = Faults::new();
    for (index, line) in text.lines().enumerate() {
        for path in LOCAL {
            if line.match_indices(path).any(|(at, _)| begins_path(line, at)) {
                faults.push((index + 1, format!("names a path of one machine ({path}...)")));
            }
        }
    }
    faults
}

/// Whether what stands at `at` is the beginning of a path, not a part of a longer one.
fn begins_path(line: &str, at: usize) -> bool {
    !line[..at].ends_with(|c: char| c.is_alphanumeric() || "_-.}".contains(c))
}

/// Words that say that work was left. In pieces, as above.
const UNFINISHED: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];

/// Work that was left.
pub fn unfinished(text: &str) -> Faults {
    let mut faults = Faults::new();
    for (index, line) in text.lines().enumerate() {
        for word in line.split(|c: char| !c.is_alphanumeric() && c != '_') {
            if UNFINISHED.contains(&word) {
                faults.push((index + 1, format!("says {word}: finish it, or file it")));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(faults: &Faults) -> Vec<usize> {
        faults.iter().map(|(line, _)| *line).collect()
    }

    #[test]
    fn whitespace_at_the_end_of_a_line_is_found() {
        assert_eq!(lines(&trailing_whitespace("a\nb \n\nc\t\nd\r\n")), [2, 4, 5]);
        assert!(trailing_whitespace("a b\n\n").is_empty());
    }

    #[test]
    fn paths_of_one_machine_are_found_and_others_are_not() {
        let [work, root, home] = LOCAL;
        let text = format!("see {work}notes\nlet x = \"{root}x\";\n({home}me)\n");
        assert_eq!(lines(&local_paths(&text)), [1, 2, 3]);
        let text = format!("net{work}x\n${{PREFIX}}{root}x\nhttps://example.org{home}\n/work\n");
        assert!(local_paths(&text).is_empty());
    }

    #[test]
    fn work_that_was_left_is_found_by_whole_words() {
        let [todo, fixme, xxx] = UNFINISHED;
        assert_eq!(lines(&unfinished(&format!("// {todo}: x\n# {fixme}\n<!-- {xxx}-->\n"))), [1, 2, 3]);
        assert!(unfinished(&format!("mktemp {xxx}{xxx}\n{todo}S\n")).is_empty());
    }
}
