//! `docs/conformance.md` against the sources: a row for every requirement keyword of the RFCs, and every test it names
//! exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Requirement keywords (MUST, MUST NOT, SHALL, SHALL NOT, SHOULD, SHOULD NOT, REQUIRED, RECOMMENDED) counted in each
/// section's text, the conventions sections left out.
const COUNTS: &[(&str, &[(&str, usize)])] = &[
    (
        "5352",
        &[
            ("1.1", 1),
            ("2.1", 2),
            ("2.2.1", 4),
            ("2.2.2", 1),
            ("2.2.6", 3),
            ("2.2.7", 1),
            ("2.2.14", 2),
            ("3.1", 35),
            ("3.2", 12),
            ("3.3", 17),
            ("3.4", 2),
            ("3.5", 14),
            ("3.6", 15),
            ("3.7.1", 3),
            ("3.7.2", 1),
            ("3.8", 1),
            ("3.9", 2),
            ("4", 8),
            ("5", 3),
            ("6.1", 1),
            ("6.5.1", 3),
            ("6.5.5", 1),
            ("6.9.2", 1),
            ("8.1", 1),
            ("9.2", 20),
        ],
    ),
    (
        "5353",
        &[
            ("1.1", 3),
            ("2", 1),
            ("2.1", 5),
            ("2.3", 4),
            ("2.4", 3),
            ("2.6", 2),
            ("3", 1),
            ("3.2.1", 2),
            ("3.2.2.1", 5),
            ("3.2.2.2", 7),
            ("3.2.3", 21),
            ("3.3.1", 9),
            ("3.3.2", 7),
            ("3.4", 1),
            ("3.4.1", 2),
            ("3.4.2", 2),
            ("3.4.3", 5),
            ("3.5.1", 15),
            ("3.5.2", 5),
            ("3.6", 1),
            ("3.6.1", 5),
            ("3.6.2", 4),
            ("3.6.3", 8),
            ("3.7", 2),
            ("5.1", 1),
            ("5.2", 1),
            ("6.2", 20),
        ],
    ),
    (
        "5354",
        &[
            ("2", 1),
            ("3", 4),
            ("3.3", 2),
            ("3.4", 2),
            ("3.5", 2),
            ("3.6", 2),
            ("3.7", 2),
            ("3.8", 1),
            ("3.10", 2),
            ("4", 3),
            ("5.1", 1),
            ("5.2", 1),
        ],
    ),
    (
        "5356",
        &[
            ("4.1.1", 1),
            ("4.1.2", 4),
            ("4.1.3", 1),
            ("4.2.2", 1),
            ("4.2.3", 1),
            ("4.3.2", 1),
            ("4.4.2", 2),
            ("4.5.2", 2),
            ("4.5.3", 1),
            ("5.1.2", 5),
            ("5.1.3", 1),
            ("5.2.2", 4),
            ("5.3.2", 5),
            ("5.3.3", 1),
            ("5.4.2", 1),
            ("7.1", 1),
        ],
    ),
];

const KEYWORDS: &[&str] =
    &["MUST", "MUST NOT", "SHALL", "SHALL NOT", "SHOULD", "SHOULD NOT", "REQUIRED", "RECOMMENDED"];

struct Row {
    rfc: String,
    section: String,
    keyword: String,
    state: String,
    tests: Vec<String>,
    line: usize,
}

fn rows() -> Vec<Row> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/conformance.md"))
        .expect("the table");
    let (mut rfc, mut rows) = (String::new(), Vec::new());
    for (number, line) in text.lines().enumerate() {
        if let Some(name) = line.strip_prefix("## RFC ") {
            rfc = name.split_whitespace().next().expect("a number").to_string();
        }
        let cells: Vec<&str> = line.trim().trim_matches('|').split(" | ").map(str::trim).collect();
        if !line.starts_with('|') || !cells[0].starts_with(|c: char| c.is_ascii_digit()) {
            continue;
        }
        assert_eq!(cells.len(), 5, "docs/conformance.md:{}: five cells a row", number + 1);
        let tests = cells[4].split('`').skip(1).step_by(2).map(str::to_string).collect();
        rows.push(Row {
            rfc: rfc.clone(),
            section: cells[0].to_string(),
            keyword: cells[1].to_string(),
            state: cells[3].to_string(),
            tests,
            line: number + 1,
        });
    }
    rows
}

/// Names of functions that carry `#[test]` (or are made by proptest's macro) anywhere in the project.
fn test_functions(path: &Path, into: &mut BTreeSet<String>) {
    for entry in fs::read_dir(path).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            test_functions(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let source = fs::read_to_string(&path).expect("readable");
            for part in source.split("#[test]").skip(1) {
                let name = part.split("fn ").nth(1).and_then(|rest| rest.split('(').next());
                into.extend(name.map(str::to_string));
            }
        }
    }
}

#[test]
fn every_keyword_of_the_rfcs_has_its_row() {
    let mut counted: BTreeMap<(String, String), usize> = BTreeMap::new();
    for row in rows() {
        assert!(
            KEYWORDS.contains(&row.keyword.as_str()),
            "docs/conformance.md:{}: keyword {}",
            row.line,
            row.keyword
        );
        *counted.entry((row.rfc, row.section)).or_default() += 1;
    }
    let mut wrong = Vec::new();
    for (rfc, sections) in COUNTS {
        for (section, count) in *sections {
            let found = counted.remove(&(rfc.to_string(), section.to_string())).unwrap_or(0);
            if found != *count {
                wrong.push(format!("RFC {rfc} {section}: {found} rows for {count} keywords"));
            }
        }
    }
    wrong.extend(
        counted.keys().map(|(rfc, section)| format!("RFC {rfc} {section}: no such section is counted")),
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn states_are_known_and_named_tests_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut functions = BTreeSet::new();
    for folder in ["src", "tests", "tools"] {
        test_functions(&root.join(folder), &mut functions);
    }
    let mut wrong = Vec::new();
    for row in rows() {
        let known = ["done", "departs: ", "not yet: ", "not ours: "].iter().any(|s| row.state.starts_with(s));
        if !known {
            wrong.push(format!("line {}: state {:?}", row.line, row.state));
        }
        if row.state == "done" && row.tests.is_empty() {
            wrong.push(format!("line {}: done, but no test shows it", row.line));
        }
        for test in row.tests {
            let name = test.rsplit("::").next().expect("a name");
            if !functions.contains(name) {
                wrong.push(format!("line {}: no test {name}", row.line));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
