"""`glipkit check`: the dataset doctor."""

import argparse
import json
import logging
import sys
import textwrap
from collections.abc import Sequence
from itertools import combinations

from glipkit.config.load import load_config
from glipkit.data.doctor.examine import Examination, check_paths, compare, examine
from glipkit.data.doctor.findings import MAX_EXAMPLES, Finding
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.inference.build import load_vocabulary
from glipkit.inference.known import KNOWN
from glipkit.inference.models import find_model, known_key
from glipkit.runtime.logs import setup_logging

logger = logging.getLogger(__name__)

_WIDTH = 110


def run(args: argparse.Namespace) -> int:
    """Examine, print; 1 if there are errors."""
    setup_logging(level=logging.WARNING)
    folders = args.pictures or [None]
    if len(folders) == 1:
        folders *= len(args.datasets)
    if len(folders) != len(args.datasets):
        raise ValueError(
            f"pass --pictures once, or once for each of the {len(args.datasets)} files; got it "
            f"{len(folders)} times"
        )
    for path, folder in zip(args.datasets, folders):
        check_paths(path, folder)  # said before the others are looked at
    tokenizer, max_tokens = _reader(args.model)
    examined = [
        examine(path, pictures=folder, tokenizer=tokenizer, max_tokens=max_tokens)
        for path, folder in zip(args.datasets, folders)
    ]
    pairs = [(a, b, compare(a, b)) for a, b in combinations(examined, 2)]
    found = [finding for each in examined for finding in each.findings]
    found += [finding for *_, findings in pairs for finding in findings]
    errors = sum(finding.severity == "error" for finding in found)
    if args.json:
        content = {
            "files": [each.to_json() for each in examined],
            "between": [
                {
                    "paths": [str(a.path), str(b.path)],
                    "findings": [finding.to_json() for finding in findings],
                }
                for a, b, findings in pairs
            ],
            "errors": errors,
        }
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
    else:
        parts = [_page(each) for each in examined]
        parts += [_between(a, b, findings) for a, b, findings in pairs if findings]
        sys.stdout.write("\n\n".join([*parts, _verdict(found)]) + "\n")
    return 1 if errors else 0


def _reader(model: str) -> tuple[Tokenizer | None, int]:
    """What reads the words, if its vocabulary is on this machine, and how many tokens of them."""
    key = known_key(model)  # whose weights need not be here
    file = find_model(model).config if key is None else KNOWN[key].config_file
    if file is None:
        raise ValueError(f"--model {model} has no config.yaml beside it; name a model, or a run")
    cfg = load_config([file])
    try:
        tokenizer = load_vocabulary(cfg)
    except FileNotFoundError as error:
        logger.warning("the words are not checked: %s", error)
        tokenizer = None
    return tokenizer, cfg.MODEL.LANGUAGE_BACKBONE.MAX_QUERY_LEN


def _page(examined: Examination) -> str:
    facts = examined.facts
    if examined.form == "unknown":
        heading = f"{examined.path}"
    else:
        kind = "COCO form" if examined.form == "coco" else "captions, MDETR form"
        what = "pictures" if examined.form == "coco" else "records"
        heading = f"{examined.path}: {kind}, {facts['images']:,} {what}, {facts['boxes']:,} boxes"
        if examined.form == "coco":
            heading += f", {facts['classes']:,} classes"
        if facts["pictures_folder"]:
            heading += f", pictures in {facts['pictures_folder']}"
    heading += f" ({facts['seconds']:.1f} s)"
    return "\n".join([heading, *map(_entry, examined.findings)])


def _between(first: Examination, second: Examination, findings: Sequence[Finding]) -> str:
    return "\n".join([f"{first.path} and {second.path}", *map(_entry, findings)])


def _entry(finding: Finding) -> str:
    mark = finding.severity.upper() if finding.severity != "note" else "note"
    lines = [f"  {mark:<8}{finding.count:,} {finding.what}  [{finding.code}]"]
    for example in finding.examples:
        lines += _wrapped(f"- {example}", "            ")
    if finding.count > len(finding.examples) == MAX_EXAMPLES:
        lines.append(f"          - and {finding.count - len(finding.examples):,} more")
    lines += _wrapped(f"AP: {finding.effect}", "              ")
    lines += _wrapped(f"do: {finding.advice}", "              ")
    return "\n".join(lines)


def _wrapped(text: str, hanging: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=" " * 10, subsequent_indent=hanging, break_on_hyphens=False
    )


def _verdict(found: Sequence[Finding]) -> str:
    counts = {kind: sum(f.severity == kind for f in found) for kind in ("error", "warning", "note")}
    if not any(counts.values()):
        return "nothing to complain about"
    return ", ".join(f"{n} kind{'s' * (n != 1)} of {kind}" for kind, n in counts.items())
