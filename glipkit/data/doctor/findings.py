"""What the dataset doctor finds, and how it is counted."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]

_ORDER = ("error", "warning", "note")
MAX_EXAMPLES = 4


@dataclass(frozen=True, slots=True)
class Ailment:
    """Something that can be wrong with a dataset.

    `error`: AP means something else than it says, or the file is refused. `warning`: AP is probably
    lower than the model deserves. `note`: good to know.
    """

    severity: Severity
    what: str  # goes on from a number: "boxes lie outside their picture"
    effect: str  # what it does to AP
    advice: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with this dataset."""

    code: str
    severity: Severity
    count: int
    what: str
    examples: tuple[str, ...]
    effect: str
    advice: str

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {**asdict(self), "examples": list(self.examples)}


class Chart:
    """Collects findings, with a few examples of each, however many there are.

    Args:
        known: code -> what can be found.
    """

    def __init__(self, known: Mapping[str, Ailment]) -> None:
        self._known = known
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}

    def add(self, code: str, *examples: str, count: int | None = None) -> None:
        """Count something.

        Args:
            code: of the known ones.
            examples: where; the first few are kept.
            count: how many more there are; None for as many as there are examples.
        """
        assert code in self._known, code
        count = len(examples) if count is None else count
        if count:
            self._counts[code] = self._counts.get(code, 0) + count
            kept = self._examples.setdefault(code, [])
            kept += examples[: MAX_EXAMPLES - len(kept)]

    def wants(self, code: str) -> int:
        """How many more examples of this would be kept; spares making others."""
        return MAX_EXAMPLES - len(self._examples.get(code, ()))

    def findings(self) -> tuple[Finding, ...]:
        """The worst first, then in the order of the known ones."""
        found = []
        for code, ailment in self._known.items():
            if code in self._counts:
                found.append(
                    Finding(
                        code=code,
                        severity=ailment.severity,
                        count=self._counts[code],
                        what=ailment.what,
                        examples=tuple(self._examples[code]),
                        effect=ailment.effect,
                        advice=ailment.advice,
                    )
                )
        return tuple(sorted(found, key=lambda finding: _ORDER.index(finding.severity)))
