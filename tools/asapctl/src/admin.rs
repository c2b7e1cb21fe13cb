//! Looking at a registrar through its admin socket: one line of JSON asks, one line answers.

use crate::{Look, table};
use asap::runtime::admin::usual_path;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

fn ask(look: &Look, command: &str) -> Result<Value, String> {
    let path = look.admin.clone().unwrap_or_else(usual_path);
    let stream = UnixStream::connect(&path).map_err(|error| {
        format!(
            "no registrar answers at {}: {error}; start one (asap-registrar) or name its socket (--admin)",
            path.display()
        )
    })?;
    let said = (|| {
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        writeln!(&stream, "{}", json!({ "v": 1, "cmd": command }))?;
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line)?;
        Ok::<_, std::io::Error>(line)
    })()
    .map_err(|error| format!("the registrar at {} did not answer: {error}", path.display()))?;
    let answer: Value =
        serde_json::from_str(&said).map_err(|error| format!("an answer that is no JSON: {error}"))?;
    match answer.get("error").and_then(Value::as_str) {
        Some(sentence) => Err(sentence.to_string()),
        None => Ok(answer),
    }
}

/// A JSON value as a cell.
fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_string(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(list)) => list.iter().map(|v| cell(Some(v))).collect::<Vec<_>>().join(" "),
        Some(other) => other.to_string(),
    }
}

fn list<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    answer.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub fn pools(look: &Look) -> Result<(), String> {
    let answer = ask(look, "pools")?;
    if look.json {
        println!("{answer}");
        return Ok(());
    }
    // Only where there is somebody who might not see it.
    let rsplib = answer.get("rsplib_registrars").and_then(Value::as_u64).is_some_and(|count| count > 0);
    let visible = |element: &Value| match element.get("visible_to_rsplib").and_then(Value::as_bool) {
        Some(true) => "yes",
        Some(false) => "not visible",
        None => "-",
    };
    let mut rows = Vec::new();
    for pool in list(&answer, "pools") {
        for element in list(pool, "elements") {
            let mut row = vec![
                cell(pool.get("handle")),
                cell(element.get("id")),
                cell(element.get("policy")),
                cell(element.get("transport")),
                cell(element.get("home")),
                cell(element.get("expires_in")),
            ];
            if rsplib {
                row.push(visible(element).to_string());
            }
            rows.push(row);
        }
    }
    if rows.is_empty() {
        println!("no pools");
    } else {
        let head = ["POOL", "ELEMENT", "POLICY", "TRANSPORT", "HOME", "EXPIRES IN (s)", "RSPLIB"];
        table::print(if rsplib { &head } else { &head[..6] }, &rows);
    }
    Ok(())
}

pub fn counters(look: &Look) -> Result<(), String> {
    let answer = ask(look, "counters")?;
    if look.json {
        println!("{answer}");
        return Ok(());
    }
    let counters = answer.get("counters").and_then(Value::as_object).ok_or("an answer without counters")?;
    let rows: Vec<_> = counters.iter().map(|(name, value)| vec![name.clone(), value.to_string()]).collect();
    table::print(&["COUNTER", "VALUE"], &rows);
    Ok(())
}

pub fn registrars(look: &Look) -> Result<(), String> {
    let answer = ask(look, "registrars")?;
    if look.json {
        println!("{answer}");
        return Ok(());
    }
    // Whether both hold the same; the digest, which only ours have, sees more.
    let agrees = |peer: &Value| {
        let told = |name| peer.get(name).and_then(Value::as_bool);
        match told("digest_agrees").or(told("checksum_agrees")) {
            Some(true) => "yes",
            Some(false) => "no",
            None => "-",
        }
    };
    let mut rows = vec![vec![
        cell(answer.get("id")),
        format!("this, {}", cell(answer.get("standing"))),
        String::new(),
        String::new(),
        cell(answer.get("elements")),
        cell(answer.get("checksum")),
        String::new(),
        String::new(),
    ]];
    rows.extend(list(&answer, "registrars").iter().map(|peer| {
        vec![
            cell(peer.get("id")),
            cell(peer.get("state")),
            cell(peer.get("address")),
            cell(peer.get("last_heard")),
            cell(peer.get("elements")),
            cell(peer.get("checksum")),
            agrees(peer).to_string(),
            cell(peer.get("dialect")),
        ]
    }));
    table::print(
        &["REGISTRAR", "STATE", "ADDRESS", "HEARD (s ago)", "ELEMENTS", "CHECKSUM", "AGREES", "DIALECT"],
        &rows,
    );
    if let Some(last) = answer.get("last_takeover").filter(|last| !last.is_null()) {
        println!(
            "last takeover: {} by {}, {} elements, {} s ago",
            cell(last.get("target")),
            cell(last.get("by")),
            cell(last.get("elements")),
            cell(last.get("ago"))
        );
    }
    Ok(())
}
