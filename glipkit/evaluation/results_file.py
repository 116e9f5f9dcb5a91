"""A results.json as an evaluation left it, and whether two of them may be compared."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glipkit.runtime.settings import flatten_settings

_NEEDED = ("dataset", "metrics", "per_class", "num_images", "protocol")
_SUBJECT = ("weights", "model")  # what is compared
_PLACES = ("image_folder", "dataset")  # what things are called on one machine
_DATA = ("annotations_sha256", "num_images")
_MEASURE = ("metric",)


@dataclass(frozen=True, slots=True)
class ResultsFile:
    """The outcome of one evaluation."""

    path: Path
    content: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """Where predictions.json and config.yaml should lie, too."""
        return self.path.parent

    @property
    def metrics(self) -> dict[str, float | None]:
        """Figures by name."""
        return self.content["metrics"]

    @property
    def per_class(self) -> dict[tuple[Any, str], float | None]:
        """(category id, name) -> its main figure."""
        return {(each["category_id"], each["name"]): each["value"]
                for each in self.content["per_class"]}  # fmt: skip

    @property
    def failures(self) -> set[Any]:
        """Ids of pictures that could not be read."""
        return {each["image_id"] for each in self.content.get("failures", ())}

    @property
    def protocol(self) -> dict[str, Any]:
        """What the figures depend on, with dotted keys."""
        return flatten_settings(self.content["protocol"])


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which two protocols are not the same."""

    field: str
    values: tuple[Any, Any]
    kind: str  # "data", "measure" (both forbid a comparison) or "protocol"

    def __str__(self) -> str:
        first, second = (_shown(value) for value in self.values)
        return f"{self.field}: {first} and {second}"


def read_results(path: Path) -> ResultsFile:
    """Read a results.json.

    Args:
        path: the file, or the folder of one evaluation.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is empty, not whole, or something else.
    """
    if path.is_dir():
        path = path / "results.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"no {path}; expected results.json as tools/test_grounding_net.py leaves it in "
            "OUTPUT_DIR/TASK/DATASET, or that folder"
        )
    text = path.read_text(encoding="utf-8", errors="replace")
    if not text.strip():
        raise ValueError(f"{path} is empty; run the evaluation again (--resume takes up its work)")
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(
            f"{path} is no whole JSON file ({error}); was it copied while it was written?"
        ) from None
    return ResultsFile(path, _checked(path, content))


def _checked(path: Path, content: Any) -> Mapping[str, Any]:
    if isinstance(content, list):
        looks = content and isinstance(content[0], dict) and "score" in content[0]
        what = "a list of predictions" if looks else "a list"
        raise ValueError(
            f"{path} is {what}, not the results of an evaluation; name results.json, which lies "
            "beside predictions.json"
        )
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}; expected results.json")
    if "evaluations" in content and "mean" in content:
        raise ValueError(
            f"{path} is the summary of several evaluations; name the results.json of each, in the "
            "folders TASK/DATASET beside it"
        )
    missing = [key for key in _NEEDED if key not in content]
    if missing:
        raise ValueError(
            f"{path} has no {', '.join(missing)}; expected results.json as "
            "tools/test_grounding_net.py writes it"
        )
    kinds = {"metrics": dict, "per_class": list, "protocol": dict}
    for key, kind in kinds.items():
        if not isinstance(content[key], kind):
            raise ValueError(f"{path}: {key} is a {type(content[key]).__name__}, not as written")
    return content


def protocol_differences(first: ResultsFile, second: ResultsFile) -> list[Difference]:
    """In what the protocols differ, besides the model and its weights: these are compared.

    Names of datasets and places of pictures may differ, as long as the annotations do not.
    """
    one, two = first.protocol, second.protocol
    found = []
    for field in sorted({*one, *two}):
        values = one.get(field), two.get(field)
        if values[0] == values[1] or _among(field, _SUBJECT) or _among(field, _PLACES):
            continue
        kind = "data" if field in _DATA else "measure" if field in _MEASURE else "protocol"
        found.append(Difference(field, values, kind))
    return found


def refuse(
    first: ResultsFile,
    second: ResultsFile,
    *,
    varied: Sequence[str] = (),
    anyway: bool = False,
) -> list[Difference]:
    """See that two evaluations may be compared.

    Args:
        first: one.
        second: the other.
        varied: fields, or beginnings of dotted fields, that are meant to differ.
        anyway: all fields of the protocol may differ.

    Returns:
        What differs all the same.

    Raises:
        ValueError: the protocols differ in what is not allowed; says in what, and what to do.
    """
    found = protocol_differences(first, second)
    title = f"{first.path} and {second.path}"
    for kind, why in (
        ("data", "are not of the same pictures and boxes"),
        ("measure", "do not measure the same"),
    ):
        rows = [f"  {each}" for each in found if each.kind == kind]
        if rows:
            raise ValueError("\n".join([f"{title} {why}, so no figure can be compared:", *rows]))
    if not set(first.metrics) & set(second.metrics):
        raise ValueError(f"{title} have no figure in common")
    wrong = [each for each in found if not anyway and not _among(each.field, varied)]
    if wrong:
        fields = sorted({each.field.split(".")[0] for each in wrong})
        vary = " ".join(f"--vary {field}" for field in fields)
        rows = [f"{title} were evaluated by different protocols:", *(f"  {each}" for each in wrong)]
        rows.append(f"If that is what you compare, say so: {vary}; --anyway allows every field")
        raise ValueError("\n".join(rows))
    return found


def _among(field: str, beginnings: Sequence[str]) -> bool:
    return any(field == each or field.startswith(f"{each}.") for each in beginnings)


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
