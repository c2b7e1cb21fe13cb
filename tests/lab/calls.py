#!/usr/bin/env python3
"""Compares what tests/c/calls_of_rsplib.c has said on three libraries with calls.txt.

    calls.py RESULTS            each call as calls.txt has it, or a line for each that is not, and status 1
    calls.py RESULTS --update   writes calls.txt anew; what differs between the libraries without a reason given has "?" for one

RESULTS holds LIBRARY.SECTION for each library (rsplib, dropin, libasap) and section. calls.txt: reasons, `KEY: why`; then for each section `== NAME` and
its calls in order, `CALL -> OUTCOME`, or `CALL -> RSPLIB || DROP-IN || LIBASAP (KEY)` where they are not the same.
"""

import pathlib
import re
import sys

TABLE = pathlib.Path(__file__).with_name("calls.txt")
LIBRARIES = ("rsplib", "dropin", "libasap")
FUNCTIONS = 51


def expected():
    """Reasons, and for each section its calls with the three outcomes and the reason."""
    reasons, sections, rows = {}, {}, None
    for line in TABLE.read_text().splitlines():
        if line.startswith("== "):
            rows = sections.setdefault(line[3:], [])
        elif rows is None:
            if found := re.fullmatch(r"(\w+): (.*)", line):
                reasons[found[1]] = found[2]
        elif line:
            call, outcome = line.split(" -> ", 1)
            outcome, _, reason = outcome.partition("  (")
            outcomes = outcome.split(" || ")
            rows.append((call, tuple(outcomes * 3 if len(outcomes) == 1 else outcomes), reason.removesuffix(")")))
    return reasons, sections


def seen(results, section):
    """The calls of a section with the three outcomes; `nothing said` where a library's list ends early."""
    lists = []
    for library in LIBRARIES:
        lines = (results / f"{library}.{section}").read_text(errors="replace").splitlines()
        lists.append([([*line.split(" | ", 2)[1:], line, ""])[:2] for line in lines])
    longest = max(lists, key=len)
    ended = ["", "nothing said"]
    rows = []
    for at, (call, _) in enumerate(longest):
        here = [said[at] if at < len(said) else ended for said in lists]
        rows.append((call, tuple(said[-1] if said[0] in (call, "") else " ".join(said) for said in here)))
    return rows


def text(call, outcomes, reason):
    if len(set(outcomes)) == 1:
        return f"{call} -> {outcomes[0]}" + (f"  ({reason})" if reason else "")
    return f"{call} -> {' || '.join(outcomes)}  ({reason or '?'})"


def main():
    results = pathlib.Path(sys.argv[1])
    reasons, sections = expected()
    names = (results / "sections").read_text().splitlines()
    now = {name: seen(results, name) for name in names}
    if "--update" in sys.argv:
        head = TABLE.read_text().split("\n== ")[0].rstrip()
        body = []
        for name in names:
            known = {}
            for call, _, reason in sections.get(name, []):
                known.setdefault(call, []).append(reason)
            body.append(f"\n== {name}")
            for call, outcomes in now[name]:
                kept = known.get(call, [])
                reason = kept.pop(0) if kept else ""
                body.append(text(call, outcomes, reason if len(set(outcomes)) > 1 else ""))
        TABLE.write_text("\n".join([head, *body]) + "\n")
        return

    faults = [f"no such section any more: {name}" for name in sections if name not in now]
    waived = same = 0
    used = set()
    for name in names:
        wanted = sections.get(name, [])
        if [row[0] for row in wanted] != [row[0] for row in now[name]]:
            faults.append(f"{name}: other calls than in calls.txt")
        for (call, outcomes), (_, want, reason) in zip(now[name], wanted):
            if outcomes != want:
                faults += [f"{name}: {text(call, outcomes, reason)}", f"    and not {text(call, want, reason)}"]
            elif len(set(outcomes)) == 1:
                same += 1
                if reason:
                    faults.append(f"{name}: a waiver without a difference: {call}")
            else:
                waived += 1
                if reason not in reasons:
                    faults.append(f"{name}: they differ without a reason in calls.txt: {call}")
            used.add(reason)
    faults += [f"a reason that no call has: {key}" for key in reasons if key not in used]
    functions = {match for name in names for call, _ in now[name] for match in re.findall(r"\brsp_\w+(?=\(| of )", call)}
    if len(functions) != FUNCTIONS:
        faults.append(f"{len(functions)} functions are called, not {FUNCTIONS}: {' '.join(sorted(functions))}")
    alike = sum(o[0] == o[1] for name in names for _, o in now[name])
    total = same + waived
    print(f"result: 20: {total} calls of {len(functions)} functions: {same} the same on all three libraries, {alike} on RSPLIB's and ours of its name")
    print("\n".join(faults))
    sys.exit(bool(faults))


main()
