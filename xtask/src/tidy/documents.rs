//! Rules that hold a list in the code against its documentation or against the kernel.

use super::Faults;

/// The kernel cuts longer names of maps.
const MAP_NAME_MAX: usize = 15;

/// Reasons (the names after `=>`) that the operator's page does not explain.
pub fn undocumented_reasons(reasons: &str, operating: &str) -> Faults {
    let mut faults = Faults::new();
    for (index, line) in reasons.lines().enumerate() {
        let Some((_, name)) = line.split_once("=> \"") else { continue };
        let Some((name, _)) = name.split_once('"') else { continue };
        if !operating.contains(&format!("`{name}`")) {
            faults.push((index + 1, format!("the reason `{name}` has no sentence in {}", super::OPERATING)));
        }
    }
    faults
}

/// Names of maps, which are in capitals, that the kernel would cut.
pub fn long_map_names(names: &str) -> Faults {
    let mut faults = Faults::new();
    for (index, line) in names.lines().enumerate() {
        let Some((_, name)) = line.split_once(": &str = \"") else { continue };
        let Some((name, _)) = name.split_once('"') else { continue };
        let is_map = name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        if is_map && name.len() > MAP_NAME_MAX {
            let length = name.len();
            faults.push((
                index + 1,
                format!("the map's name {name} has {length} characters, the kernel keeps {MAP_NAME_MAX}"),
            ));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_needs_its_own_name_in_the_page() {
        let reasons = "/// Doc.\nNotOurs = 0 => \"not-ours\",\nVlan = 3 => \"vlan\",\nmatch self { _ => 1 }\n";
        assert!(undocumented_reasons(reasons, "| `not-ours` | ... |\n| `vlan` | ... |\n").is_empty());
        let faults = undocumented_reasons(reasons, "`not-ours` and `vlan-tagged`\n");
        assert_eq!(faults.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn a_map_name_is_measured_and_other_names_are_not() {
        let names = "pub const A: &str = \"SIXTEEN_LETTERS_\";\npub const B: &str = \"FIFTEEN_LETTERS\";\n\
                     pub const ROOT: &str = \"/sys/fs/bpf/weir\";\n";
        assert_eq!(long_map_names(names).iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1]);
    }
}
