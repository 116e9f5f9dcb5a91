"""The sections of a report, from findings to HTML."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from glipkit.evaluation.report_charts import curve_chart, score_chart
from glipkit.evaluation.report_figures import (
    OperatingPoint,
    confusion,
    gains,
    missed,
    operating_point,
    truth_counts,
)
from glipkit.evaluation.report_findings import Findings
from glipkit.evaluation.report_matches import BACKGROUND, FOREGROUND, Kind
from glipkit.evaluation.report_page import (
    facts,
    figure,
    folded,
    heat_table,
    paragraph,
    section,
    table,
    tiles,
)
from glipkit.evaluation.report_pictures import Shown
from glipkit.structures.figures import figure_text

_CHARTS = 12  # classes that get a chart
_MATRIX = 20  # classes that a confusion matrix can show
_PAIRS = 30  # confusions that are listed
_BINS = 25  # of scores
_ROUNDING = 0.002  # between two ways of counting AP50

_WORDS = {
    Kind.CORRECT: ("correct", f"a box at the place of its object (IoU from {FOREGROUND})"),
    Kind.CONFUSION: (
        "confusion",
        f"a box at the place of an object of another class (IoU from {FOREGROUND})",
    ),
    Kind.LOCALISATION: (
        "localisation",
        f"a box near an object of its class (IoU {BACKGROUND} to {FOREGROUND})",
    ),
    Kind.BOTH: (
        "both",
        f"a box near an object of another class (IoU {BACKGROUND} to {FOREGROUND})",
    ),
    Kind.DUPLICATE: ("duplicate", "a box at an object that a better box has found"),
    Kind.BACKGROUND: ("background", f"a box near no object at all (IoU below {BACKGROUND})"),
    None: ("missed", "an object that no right, confused or badly placed box accounts for"),
}


def figure_section(findings: Findings) -> str:
    """The figures everybody asks for."""
    results = findings.results
    metrics = results["metrics"]
    counted = findings.loose.mean_ap
    point = findings.point
    parts = [
        tiles(
            {
                **{name: figure_text(metrics.get(name)) for name in ("AP", "AP50", "AP75")},
                "pictures": f"{results['num_images']:,}",
                "objects": f"{int((~findings.truth.is_crowd).sum()):,}",
                "boxes": f"{results['num_predictions']:,}",
            }
        )
    ]
    if counted is None:
        parts.append(paragraph("There is no object to find, so nothing can be measured."))
    elif abs(counted - (metrics["AP50"] or 0)) > _ROUNDING:
        words = (
            f"Counted anew, AP50 is {counted:.3f}, but results.json says "
            f"{figure_text(metrics['AP50'])}: predictions.json is not of that evaluation."
        )
        parts.append(paragraph(words, is_warning=True))
    if results.get("failures"):
        words = f"{len(results['failures'])} pictures could not be read; their objects are missed."
        parts.append(paragraph(words, is_warning=True))
    parts.append(
        table(list(metrics), [[figure_text(value) for value in metrics.values()]], words=0)
    )
    parts.append(
        paragraph(
            f"Where this page says which boxes are shown or counted, it means those that score at "
            f"least {point.threshold:.3f}. There precision and recall balance best: precision "
            f"{point.precision:.3f}, recall {point.recall:.3f}, F1 {point.f1:.3f} "
            f"(IoU {FOREGROUND}, all classes together)."
        )
    )
    return section("Figures", *parts)


def curve_section(findings: Findings) -> str:
    """Precision over recall, scores, and the curves of some classes."""
    whole = curve_chart(
        [("IoU 0.50", findings.loose.mean), ("IoU 0.75", findings.strict.mean)],
        title="precision over recall, mean of all classes",
    )
    edges = np.linspace(0, 1, _BINS + 1)
    judged = findings.matches.kind != Kind.IGNORED
    right = findings.matches.kind == Kind.CORRECT
    scores = score_chart(
        edges,
        [
            ("right", np.histogram(findings.found.score[right], edges)[0]),
            ("wrong", np.histogram(findings.found.score[judged & ~right], edges)[0]),
        ],
        mark=findings.point.threshold,
        title="boxes by score, right and wrong",
    )
    charts = (
        figure(whole, "Precision over recall, mean over classes"),
        figure(scores, "Boxes by score at IoU 0.50; the line is the threshold of this page"),
    )
    return section("Curves", f'<div class="charts">{"".join(charts)}</div>', _some(findings))


def _some(findings: Findings) -> str:
    """Charts of single classes: all of them, or the best and the worst."""
    ap = findings.loose.ap
    known = [int(index) for index in np.argsort(-np.nan_to_num(ap)) if not math.isnan(ap[index])]
    chosen = known
    words = "Classes at IoU 0.50"
    if len(known) > _CHARTS:
        half = _CHARTS // 2
        chosen = [*known[:half], *known[-half:]]
        words = f"The {half} best and the {half} worst of {len(known)} classes at IoU 0.50"
    charts = []
    for index in chosen:
        name = findings.dataset.categories[index].name
        chart = curve_chart([(name, findings.loose.precision[index])], title=name, size=(175, 130))
        charts.append(figure(chart, f"{_short(name)}: {ap[index]:.3f}"))
    return f'<h3>{words}</h3><div class="charts small">{"".join(charts)}</div>' if charts else ""


def class_section(findings: Findings) -> str:
    """A row for each class, those with the lowest AP first."""
    found, matches = findings.found, findings.matches
    totals = truth_counts(findings.truth, findings.num_classes)
    known = {each["category_id"]: each["value"] for each in findings.results["per_class"]}
    rows = []
    for index, category in enumerate(findings.dataset.categories):
        mine = (found.category == index) & (matches.kind != Kind.IGNORED)
        right = mine & (matches.kind == Kind.CORRECT)
        taken, hits = int((mine & findings.taken).sum()), int((right & findings.taken).sum())
        best = operating_point(found.score[mine], right[mine], int(totals[index]))
        ap = known.get(category.category_id)
        rows.append(
            (
                2.0 if ap is None else ap,
                [
                    category.name,
                    figure_text(ap),
                    figure_text(findings.loose.ap[index]),
                    f"{totals[index]:,}",
                    f"{taken:,}",
                    figure_text(hits / taken if taken else None),
                    figure_text(hits / totals[index] if totals[index] else None),
                    f"{best.threshold:.2f}" if best.f1 else "n/a",
                    figure_text(best.f1 or None),
                ],
            )
        )
    rows.sort(key=lambda row: row[0])
    head = ["class", "AP", "AP50", "objects", "boxes", "precision", "recall", "best at", "best F1"]
    about = (
        f"All {len(rows):,}, the lowest AP first. Boxes, precision and recall are those at the "
        "threshold of this page; 'best at' is the score that would suit the class itself best."
    )
    return section("Classes", table(head, (row for _, row in rows)), about=about)


def mistake_section(findings: Findings) -> str:
    """What kinds of mistakes there are, and what each costs."""
    matches = findings.matches
    taken = findings.taken & (matches.kind != Kind.IGNORED)
    costs = gains(findings.found, findings.truth, matches, findings.num_classes)
    counts: dict[Kind | None, int] = {
        kind: int((taken & (matches.kind == kind)).sum()) for kind in _WORDS if kind is not None
    }
    counts[None] = int(missed(matches, findings.truth, taken).sum())
    most = max(1, *(count for kind, count in counts.items() if kind != Kind.CORRECT))
    rows = []
    for kind, (name, words) in _WORDS.items():
        if kind != Kind.CORRECT:
            gain = figure_text(costs.get(kind))
            rows.append([name, words, f"{counts[kind]:,}", f"{counts[kind] / most:.4f}", gain])
    about = (
        f"Of {int(taken.sum()):,} boxes at the threshold of this page {counts[Kind.CORRECT]:,} "
        "are right. Kinds are those of TIDE (Bolya et al., ECCV 2020): the first that holds of "
        "duplicate, confusion, localisation, both and background. The last column is what AP50 "
        "would gain if that kind did not happen, at any score."
    )
    head = ["kind", "what it is", "count", "", "AP50 gained"]
    return section("Mistakes", table(head, rows, words=2, bar=3), about=about)


def confusion_section(findings: Findings) -> str:
    """Which class is taken for which."""
    count = findings.num_classes
    names = [category.name for category in findings.dataset.categories]
    counts = confusion(findings.found, findings.truth, findings.matches, findings.taken, count)
    mixed = counts[:-1, :-1].copy()
    np.fill_diagonal(mixed, 0)
    places = np.argsort(-mixed, axis=None, kind="stable")[:_PAIRS]
    pairs = [divmod(int(place), count) for place in places if mixed.flat[place] > 0]
    parts = []
    if count <= _MATRIX:
        short = [_short(name) for name in names]
        parts.append(heat_table("object", [*short, "no box"], [*names, "(background)"], counts))
    if pairs:
        rows = [[names[row], names[column], f"{mixed[row, column]:,}"] for row, column in pairs]
        parts.append("<h3>Most frequent confusions</h3>")
        parts.append(table(["object", "taken for", "boxes"], rows, words=2))
    else:
        parts.append(paragraph("No object was taken for another."))
    about = (
        f"Boxes at the threshold of this page that lie at the place of an object (IoU from "
        f"{FOREGROUND}): rows are what it is, columns what it was called."
    )
    return section("Confusions", *parts, about=about)


def picture_section(point: OperatingPoint, worst: Sequence[Shown], best: Sequence[Shown]) -> str:
    """The worst and the best pictures, truth beside prediction.

    Args:
        point: from which score on boxes are shown.
        worst: the worst first.
        best: the best first.
    """
    if not worst and not best:
        return section("Pictures", paragraph("None to show."))
    parts = []
    for title, pictures in (("Worst", worst), ("Best", best)):
        if pictures:
            shown = "".join(_picture(each) for each in pictures)
            parts.append(f'<h3>{title}</h3><div class="pictures">{shown}</div>')
    about = (
        "By localisation-recall-precision error (Oksuz et al., ECCV 2018) at the threshold "
        f"{point.threshold:.3f}: 0 if every object has one box that fits it exactly, 1 if nothing "
        "is right. Truth on the left, prediction on the right."
    )
    return section("Pictures", *parts, about=about)


def protocol_section(results: Mapping[str, Any]) -> str:
    """What the figures depend on."""
    parts = [
        folded("Protocol", facts(results["protocol"])),
        folded("Versions", facts(results["versions"])),
        folded("Timing", facts(results["timing"])),
    ]
    if results.get("failures"):
        unread = {each["path"]: each["reason"] for each in results["failures"]}
        parts.append(folded("Pictures that could not be read", facts(unread)))
    about = "The whole configuration stands in config.yaml beside this file."
    return section("Protocol and versions", *parts, about=about)


def _picture(shown: Shown) -> str:
    words = (
        f"{shown.file_name}: error {shown.error:.2f}, {_counted(shown.num_truth, 'object')}, "
        f"{_counted(shown.num_found, 'box', 'boxes')}"
    )
    if not shown.source:
        return figure("", f"{words}; {shown.reason}")
    # The source is base64 of our own making, so it needs no escaping.
    return figure(f'<img loading="lazy" alt="truth and prediction" src="{shown.source}">', words)


def _counted(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def _short(name: str, limit: int = 24) -> str:
    return name if len(name) <= limit else f"{name[: limit - 1]}…"
