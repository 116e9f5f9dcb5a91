"""Classes whose ids or words cost AP: the model finds what the names say."""

import re
from collections import Counter, defaultdict

import numpy as np

from glipkit.data.doctor.contents import NO_ID, Contents
from glipkit.data.doctor.findings import Ailment, Chart
from glipkit.grounding.captions import MAX_TOKENS, NUM_SPECIAL, SEPARATOR, clean_name
from glipkit.grounding.tokenizer import Tokenizer

_REFUSED = "the file is refused: there is no AP at all"
_HALVED = "the model cannot tell them apart: each takes boxes of the other, and AP of both suffers"

NAME_AILMENTS = {
    "category-unknown": Ailment(
        "error",
        "annotations are of a category that the file does not list",
        _REFUSED,
        "list the category, or mend category_id; some exporters count from 0 in one place and "
        "from 1 in another",
    ),
    "category-twice": Ailment(
        "error", "category ids are used twice", _REFUSED, "number categories from 1"
    ),
    "name-empty": Ailment(
        "error",
        "names have no words once cleaned (what stands in parentheses goes)",
        _REFUSED,
        "rename the category",
    ),
    "name-twice": Ailment(
        "error",
        "groups of categories have the same words to the model (case, underscores, and what "
        "stands in parentheses make no difference)",
        _HALVED,
        "rename or merge them; DATASETS.OVERRIDE_CATEGORY renames without touching the file",
    ),
    "name-plural": Ailment(
        "warning",
        "groups of categories differ by an s or by spaces and hyphens only",
        _HALVED,
        "merge them, or say the difference in words",
    ),
    "name-unknown": Ailment(
        "error",
        "names have words that the text encoder does not know ([UNK])",
        "such words mean nothing to the model, and all of them the same nothing",
        "say it in English words",
    ),
    "name-unread": Ailment(
        "error",
        "names of which the text encoder reads no character",
        _REFUSED,
        "say it in English words",
    ),
    "name-long": Ailment(
        "error",
        "names have more tokens than a prompt holds",
        _REFUSED,
        "describe it in fewer words",
    ),
    "name-meaningless": Ailment(
        "warning",
        "names say nothing about what is to be found (numbers, 'class 3', 'object')",
        "the model finds what the words say; these say nothing, so AP is near 0 without training",
        "write what one sees; DATASETS.OVERRIDE_CATEGORY renames without touching the file",
    ),
    "name-dotted": Ailment(
        "warning",
        f"names hold {SEPARATOR!r}, which separates names in a prompt",
        "the model reads two things where one is meant",
        "rename the category",
    ),
    "category-unused": Ailment(
        "note",
        "categories have no box",
        "they take part in no AP, but their words still stand in the prompt and attract boxes",
        "take them out, unless other files of the dataset have them",
    ),
    "category-group": Ailment(
        "note",
        "category 0 is no class (a background, or the name that Roboflow gives the whole)",
        "glipkit leaves it out of the prompt; others ask for it",
        "nothing to do here",
    ),
    "category-from-zero": Ailment(
        "note",
        "category has the id 0",
        "none here: classes are taken by ascending id. Code that keeps 0 for the background "
        "loses the class",
        "nothing to do here",
    ),
    "category-gaps": Ailment(
        "note",
        "numbers are left out between category ids",
        "none here: classes are taken by ascending id, and results carry the file's own ids",
        "nothing to do here",
    ),
    "prompts-many": Ailment(
        "note",
        "prompts are needed to ask for all names",
        "results depend a little on how many names share a prompt; results.json states it",
        "nothing to do here; TEST.CHUNKED_EVALUATION sets names per prompt",
    ),
}

_MEANINGLESS = re.compile(
    r"(class|category|cat|label|type|id|obj|object|thing|item|target|none|null|unknown|other|others"
    r"|misc|unlabeled|unlabelled|default|n/?a|\W|_)*[\s_-]*\d*",
    re.IGNORECASE,
)
_REAL_WORDS = frozenset({"cat"})  # an animal when it stands alone


def check_categories(
    contents: Contents,
    chart: Chart,
    *,
    tokenizer: Tokenizer | None = None,
    max_tokens: int = MAX_TOKENS,
) -> None:
    """Look at the ids and names of the classes.

    Args:
        contents: of a file whose annotations have categories.
        chart: findings go here.
        tokenizer: of the text encoder; None leaves out what depends on its vocabulary.
        max_tokens: of a prompt, [CLS] and [SEP] included.
    """
    _check_ids(contents, chart)
    names = [name for number, name in contents.categories if not _is_group(contents, number, name)]
    said = {name: clean_name(name) for name in names}
    for name in said:
        if not said[name].strip():
            chart.add("name-empty", repr(name))
        elif _says_nothing(said[name].strip()):
            chart.add("name-meaningless", repr(name))
        if SEPARATOR in said[name].strip():
            chart.add("name-dotted", repr(name))
    _check_twins(names, chart, as_lvis=contents.labels is not None)
    if tokenizer is not None and names:
        _check_tokens(names, chart, tokenizer, max_tokens)


def _check_ids(contents: Contents, chart: Chart) -> None:
    numbers = [number for number, _ in contents.categories]
    twice = [number for number, count in Counter(numbers).items() if count > 1]
    chart.add("category-twice", *map(str, twice))
    known = np.array(sorted(set(numbers)), dtype=np.int64)
    if not len(known):
        return
    unknown = np.flatnonzero(~np.isin(contents.category_ids, [*known, NO_ID]))  # said already
    shown = [
        f"{contents.category_ids[i]} in {contents.describe(i)}; listed are {_range(known)}"
        for i in unknown[: chart.wants("category-unknown")]
    ]
    chart.add("category-unknown", *shown, count=len(unknown))
    used = set(np.unique(contents.category_ids[~contents.is_crowd]).tolist())
    for number, name in contents.categories:
        if _is_group(contents, number, name):
            chart.add("category-group", repr(name))
        elif number not in used and used:
            chart.add("category-unused", repr(name))
    if known[0] == 0 and not any(_is_group(contents, *each) for each in contents.categories):
        chart.add("category-from-zero", repr(dict(contents.categories)[0]))
    missing = int(known[-1] - known[0] + 1 - len(known))
    if missing:
        chart.add("category-gaps", f"{len(known)} ids, {_range(known)}", count=missing)


def _is_group(contents: Contents, number: int, name: str) -> bool:
    """As `read_coco_file` decides: category 0 that never has a box, and is called like a group."""
    if number != 0 or (contents.category_ids == 0).any():
        return False
    return name in contents.supercategories or name.strip("_").lower() == "background"


def _says_nothing(words: str) -> bool:
    return words.lower() not in _REAL_WORDS and _MEANINGLESS.fullmatch(words) is not None


def _check_twins(names: list[str], chart: Chart, *, as_lvis: bool) -> None:
    same, similar = defaultdict(list), defaultdict(list)
    for name in names:
        words = clean_name(name).strip().lower()
        if words:
            same[words].append(name)
            similar[_stem(words)].append(name)
    for group in same.values():
        if len(group) > 1:
            is_published = as_lvis and len(set(group)) == len(group)  # "bow_(weapon)" and the like
            code = "name-shared" if is_published else "name-twice"
            chart.add(code, " = ".join(map(repr, group)))
    for group in similar.values():
        if len({clean_name(name).strip().lower() for name in group}) > 1:
            chart.add("name-plural", " ~ ".join(map(repr, group)))


def _stem(words: str) -> str:
    """The words without what a plural, a hyphen or a space adds."""
    last = re.sub(r"[\s-]+", "", words)
    last = re.sub(r"ies$", "y", last)
    return re.sub(r"(?<=[sxzh])es$|(?<![su])s$", "", last)


def _check_tokens(names: list[str], chart: Chart, tokenizer: Tokenizer, max_tokens: int) -> None:
    budget = max_tokens - NUM_SPECIAL
    gap = tokenizer.count(SEPARATOR) - NUM_SPECIAL
    prompts, used = 1, -gap
    for name in dict.fromkeys(names):
        words = clean_name(name)
        if not words.strip():
            continue
        try:
            tokens = tokenizer.token_ids(words)[1:-1]
        except ValueError:  # half of a surrogate pair
            tokens = []
        if not tokens:
            chart.add("name-unread", repr(name))
        elif tokenizer.unknown_id in tokens:
            chart.add("name-unknown", repr(name))
        if len(tokens) > budget:
            chart.add("name-long", f"{name[:40]!r}... has {len(tokens)} tokens, {budget} fit")
        used += gap + len(tokens)
        if used > budget:
            prompts, used = prompts + 1, len(tokens)
    if prompts > 1:
        chart.add("prompts-many", f"{len(names)} names, {max_tokens} tokens each", count=prompts)


def _range(numbers: np.ndarray) -> str:
    return f"{numbers[0]} to {numbers[-1]}"
