"""Two files of one dataset side by side: do they agree, and do they share pictures?"""

from collections.abc import Mapping
from pathlib import PurePosixPath

from glipkit.data.doctor.contents import Contents
from glipkit.data.doctor.findings import Ailment, Chart
from glipkit.data.doctor.pictures import Seen, same_bytes, stamps

BETWEEN_AILMENTS = {
    "shared-pictures": Ailment(
        "error",
        "pictures are in both files, byte for byte",
        "if one is for training and one for judging, AP is higher than the model deserves",
        "take them out of one of the files",
    ),
    "shared-names": Ailment(
        "warning",
        "pictures of both files have the same name",
        "if they are the same pictures, AP is higher than the model deserves",
        "pass --pictures once for each file, so that they can be compared",
    ),
    "classes-renamed": Ailment(
        "error",
        "category ids mean something else in the other file",
        "a class is trained under one name and judged under another: AP near 0 for it",
        "use the same ids and names in both",
    ),
    "classes-missing": Ailment(
        "warning",
        "category names are in one of the files only",
        "they are trained and never judged, or judged and never trained",
        "use the same categories in both",
    ),
}


def check_between(
    first: Contents,
    second: Contents,
    seen: tuple[Mapping[str, Seen], Mapping[str, Seen]],
    chart: Chart,
) -> None:
    """Compare two files, by what was seen of their pictures where that is known.

    Args:
        first: what one file holds.
        second: what the other holds.
        seen: their pictures by file name; empty where nobody looked.
        chart: where findings go.
    """
    if not (first.has_captions or second.has_captions):
        _check_classes(dict(first.categories), dict(second.categories), chart)
    if all(seen):
        known = stamps(seen[0].values())
        for name, found in seen[1].items():
            twin = known.get(found.stamp)
            if found.stamp[0] and twin is not None and same_bytes(twin, found.path):
                chart.add("shared-pictures", f"{name} = {twin}")
    else:
        known_names = {PurePosixPath(name).name for name in first.file_names}
        names = {PurePosixPath(name).name for name in second.file_names}
        both = sorted((known_names & names) - {""})
        chart.add("shared-names", *both)


def _check_classes(first: dict[int, str], second: dict[int, str], chart: Chart) -> None:
    for number in sorted(first.keys() & second.keys()):
        if first[number].strip().lower() != second[number].strip().lower():
            chart.add("classes-renamed", f"{number}: {first[number]!r}, {second[number]!r}")
    words = [{name.strip().lower() for name in each.values()} for each in (first, second)]
    if all(words):
        chart.add("classes-missing", *(repr(name) for name in sorted(words[0] ^ words[1])))
