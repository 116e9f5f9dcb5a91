"""What a file labelled like LVIS needs besides: who was looked for where, and how rare it is."""

from glipkit.data.datasets.lvis import FREQUENCIES
from glipkit.data.doctor.contents import Contents
from glipkit.data.doctor.findings import Ailment, Chart

_REFUSED = "the file is refused: there is no AP at all"

LABEL_AILMENTS = {
    "labels-partial": Ailment(
        "note",
        "pictures list classes that are known to be absent (neg_category_ids, as LVIS has them)",
        "of all other classes nobody knows: COCO's AP counts what is found of them as wrong",
        "judge it as LVIS: kind: lvis in DATASETS.REGISTER, see DATASET.md",
    ),
    "labels-missing": Ailment(
        "error",
        "pictures have no neg_category_ids, where others of the file have",
        _REFUSED,
        "write the list for every picture; it is empty where no class was looked for in vain",
    ),
    "labels-unknown": Ailment(
        "error",
        "ids in neg_category_ids or not_exhaustive_category_ids are of no listed category",
        _REFUSED,
        "list the categories, or take the ids out",
    ),
    "frequency-missing": Ailment(
        "error",
        f"categories have no frequency, one of {', '.join(FREQUENCIES)}",
        _REFUSED,
        "write r for a class in up to 10 training pictures, c for up to 100, f for more",
    ),
    "name-shared": Ailment(
        "warning",
        "groups of categories have the same words to the model, as what stands in parentheses goes",
        "each takes boxes of the other; so it does in published figures of LVIS, which has some",
        "nothing to do for figures that are compared; tools/test_grounding_net.py --prompts words "
        "them apart",
    ),
}


def check_labels(contents: Contents, chart: Chart) -> None:
    """Look at the labels of a file whose pictures have neg_category_ids; others have none."""
    labels = contents.labels
    if labels is None:
        return
    chart.add("labels-partial", *labels.examples, count=labels.num_pictures)
    chart.add("labels-missing", *(f"picture {each}" for each in labels.unlabelled))
    known = {number for number, _ in contents.categories}
    chart.add("labels-unknown", *map(str, sorted(labels.named - known)))
    chart.add("frequency-missing", *map(repr, labels.unranked))
