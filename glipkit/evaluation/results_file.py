"""A results.json as an evaluation left it, and whether two of them may be compared."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glipkit.evaluation.journal import METRIC
from glipkit.runtime.settings import flatten_settings

_NEEDED = {"dataset": str, "metrics": dict, "per_class": list, "num_images": int, "protocol": dict}
_MAY_LACK = {"failures": list, "versions": dict}
_SUBJECT = ("weights", "model")  # what is compared
_PLACES = ("image_folder", "dataset")  # what things are called on one machine
_DATA = ("annotations_sha256", "num_images")
_MEASURE = (METRIC,)


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
    def per_class(self) -> dict[int, tuple[str, float | None]]:
        """Category id -> name and main figure, in the dataset's order of classes."""
        return {each["category_id"]: (each["name"], each["value"])
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
        ValueError: it is empty, not whole, something else, or was changed by hand.
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
    if fault := next(_faults(content), None):
        raise ValueError(f"{path}: {fault}, not as tools/test_grounding_net.py writes it")
    unsaid = [key for key in (*_DATA, *_MEASURE) if key not in content["protocol"]]
    if unsaid:
        raise ValueError(
            f"{path}: its protocol does not say {', '.join(unsaid)}, so nobody knows what its "
            "figures are of; run the evaluation again"
        )
    return content


def _faults(content: Mapping[str, Any]) -> Iterator[str]:
    """What is not as `Results.to_json` makes it, of all that is read."""
    for key, kind in (_NEEDED | _MAY_LACK).items():
        if not isinstance(content.get(key, kind()), kind):
            yield f"{key} is a {type(content[key]).__name__}"
    for name, value in content["metrics"].items():
        if not _is_figure(value):
            yield f"metrics.{name} is {_shown(value)}"
    for place, each in enumerate(content["per_class"]):
        sound = isinstance(each, dict) and isinstance(each.get("category_id"), int)
        if not (sound and isinstance(each.get("name"), str) and _is_figure(each.get("value", ""))):
            yield f"per_class.{place} is {_shown(each)}"
    if len(ids := [each["category_id"] for each in content["per_class"]]) > len({*ids}):
        yield "per_class names a category_id twice"
    for place, each in enumerate(content.get("failures", ())):
        if not (isinstance(each, dict) and isinstance(each.get("image_id"), int)):
            yield f"failures.{place} is {_shown(each)}"


def _is_figure(value: Any) -> bool:
    """Whether this is a figure between 0 and 1, or None; NaN and true are not."""
    return value is None or (type(value) in (int, float) and 0 <= value <= 1)


def check_annotations(path: Path, digest: str, protocol: Mapping[str, Any]) -> None:
    """See that an annotation file is that of an evaluation.

    Args:
        path: of the file.
        digest: its SHA-256, in hex.
        protocol: of the evaluation, as results.json has it.

    Raises:
        ValueError: another file was judged by.
    """
    then = str(protocol["annotations_sha256"])
    if digest != then:
        raise ValueError(
            f"{path} is not the file that was judged by, or has changed since (SHA-256 "
            f"{digest[:12]}..., then {then[:12]}...)"
        )


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
