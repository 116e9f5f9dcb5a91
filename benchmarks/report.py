"""The tables of README.md, in markdown, from the files of a run: python benchmarks/report.py.

    python benchmarks/report.py [results/latest.json]          prints them
    python benchmarks/report.py --into benchmarks/README.md    puts them between its marks

A table stands between `<!-- rows -->` and `<!-- end -->`, and likewise `ceilings`,
`stages` and `growth` (a picture, once it is there).
"""

import argparse
import json
import re
import sys
from pathlib import Path

import rows
import stages

RESULTS = Path(__file__).parent / "results"
KEPT = RESULTS / "amd-epyc-2-threads"


def rows_table(report: dict) -> str:
    """Name, ours, reference, ratio, asked, aim, share of the ceiling, match."""
    lines = [
        "| row | ours | reference | ratio | asked | aim | share of ceiling | outputs match |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        asked, aim = (f"{value:g}" if value else "-" for value in rows.ASKED[row["name"]])
        ratio = f"**{row['ratio']:.2f}**" if row["ratio"] is not None else "refused"
        share = f"{row['ceiling_share']:.0%}" if row.get("ceiling_share") is not None else "-"
        match = {True: "yes", False: "no", None: "cannot"}[row["outputs_match"]]
        amounts = [rows.amount(row[side], row["unit"]) for side in ("ours", "reference")]
        cells = [f"`{row['name']}`", *amounts, ratio, asked, aim, share, match]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ceilings_table(report: dict) -> str:
    """What the machine can do, by threads."""
    lines = [
        "| threads | float32, GFLOP/s | bfloat16, GFLOP/s | memory, GB/s |",
        "|---|---|---|---|",
    ]
    for count, of in report["machine"]["ceilings"].items():
        products = [f"{of['gflops'][dtype]:,.0f}" for dtype in rows.DTYPES]
        lines.append(f"| {count} | {' | '.join(products)} | {of['gbytes_per_second']:.1f} |")
    return "\n".join(lines)


def facts(report: dict) -> str:
    """The machine, the versions and the commits in a line."""
    told = report["machine"] | report["versions"]
    told = [f"{name} {value}" for name, value in told.items() if name != "ceilings"]
    commits = sorted({row["commit"] or "unknown" for row in report["rows"]})
    threads = sorted({str(row["threads"]) for row in report["rows"]})
    return f"{', '.join(told)}, threads {'/'.join(threads)}, commit {'/'.join(commits)}."


def tables(latest: Path, staged: Path) -> dict[str, str]:
    """Mark -> what stands there; without the files that are missing."""
    found = {}
    if latest.exists():
        report = json.loads(latest.read_text())
        found["rows"] = f"{rows_table(report)}\n\n{facts(report)}"
        found["ceilings"] = ceilings_table(report)
    if staged.exists():
        found["stages"] = stages.table(json.loads(staged.read_text()))
    if (KEPT / "growth.png").exists():
        words = "Seconds over picture size, prompt length, classes, batch and threads"
        found["growth"] = f"![{words}](results/{KEPT.name}/growth.png)"
    return found


def put(page: str, found: dict[str, str]) -> str:
    """The page with every table between its marks.

    Raises:
        ValueError: the page has no such mark.
    """
    for mark, table in found.items():
        between = re.compile(rf"(<!-- {mark} -->\n).*?(<!-- end -->)", re.DOTALL)
        page, count = between.subn(lambda m, table=table: f"{m[1]}{table}\n{m[2]}", page)
        if count != 1:
            raise ValueError(f"expected <!-- {mark} --> ... <!-- end --> once, found it {count} x")
    return page


def main(argv: list[str] | None = None) -> int:
    """Print, or write into a page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("latest", type=Path, nargs="?", default=RESULTS / "latest.json")
    parser.add_argument("--stages", type=Path, default=KEPT / "stages.json")
    parser.add_argument("--into", type=Path, metavar="PAGE", help="a page with marks")
    arguments = parser.parse_args(argv)
    if not arguments.latest.exists():
        print(f"{arguments.latest} is not there; run: make bench", file=sys.stderr)
        return 2
    found = tables(arguments.latest, arguments.stages)
    if arguments.into:
        arguments.into.write_text(put(arguments.into.read_text(), found))
    else:
        print("\n\n".join(found.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
