"""Flickr30K Entities in its original files."""

from pathlib import Path

import pytest

from glipkit.data.datasets.entities import read_entities
from glipkit.data.datasets.entities_files import parse_sentence
from glipkit.data.datasets.grounding_file import GroundingFile, read_grounding_file

BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>11</xmax><ymax>22</ymax></bndbox>"
OTHER = "<bndbox><xmin>20</xmin><ymin>5</ymin><xmax>30</xmax><ymax>10</ymax></bndbox>"
SIZE = "<size><width>60</width><height>40</height><depth>3</depth></size>"
OBJECTS = (
    f"<object><name>1</name>{BOX}</object>"
    f"<object><name>1</name><name>2</name>{OTHER}</object>"  # one box of two entities
    "<object><name>3</name><scene>1</scene><nobndbox>1</nobndbox></object>"
)
SENTENCES = """[/EN#1/people A man] , [/EN#1/people himself] , and [/EN#2/other/people two  balls] .

[/EN#3/scene the sky] and [/EN#0/notvisual nothing]
"""


def xml(file_name: str = "7.jpg", objects: str = OBJECTS, size: str = SIZE) -> str:
    return f"<annotation><filename>{file_name}</filename>{size}{objects}</annotation>"


def write(
    folder: Path, sentences: str = SENTENCES, annotation: str = "", picture: str = "7"
) -> Path:
    """One more picture of the list, which is returned."""
    for name, text in (
        (f"Sentences/{picture}.txt", sentences),
        (f"Annotations/{picture}.xml", annotation or xml(f"{picture}.jpg")),
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    listed = folder / "val.txt"
    with listed.open("a") as file:
        file.write(f"{picture}\n")
    return listed


def test_marks_are_taken_out() -> None:
    sentence = parse_sentence("Look : [/EN#12/people/other A  man ] 's [/EN#3/bodyparts hand]. ")
    assert sentence.text == "Look : A man 's hand ."
    assert [(each.entity, each.types) for each in sentence.phrases] == [
        ("12", ("people", "other")), ("3", ("bodyparts",))
    ]  # fmt: skip
    assert [sentence.text[slice(*each.span)] for each in sentence.phrases] == ["A man", "hand"]
    assert parse_sentence("no [sic] phrases").text == "no [sic] phrases"


@pytest.mark.parametrize(
    "line", ["[/EN#1/people a man", "[/EN#1 a man]", "[/EN#1/people ]", "[/EN#x/people a man]"]
)
def test_broken_marks_are_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(ValueError, match=r"7\.txt, line 2: expected phrases marked like .*EN#"):
        read_entities(write(tmp_path, f"a dog\nand {line}"))


def test_a_split_as_a_grounding_file(tmp_path: Path) -> None:
    file = read_entities(write(tmp_path))
    first, second = file
    assert first.caption == "A man , himself , and two balls ."
    assert (first.file_name, first.size, first.image_id) == ("7.jpg", (40, 60), 0)
    assert first.extras["tokens_positive_eval"] == [[[0, 5]], [[8, 15]], [[22, 31]]]
    assert first.extras["phrase_types"] == [["people"], ["people"], ["other", "people"]]
    assert (first.extras["sentence_id"], first.extras["original_img_id"]) == (0, 7)
    assert first.boxes.tolist() == [[1, 2, 10, 20], [20, 5, 10, 5], [20, 5, 10, 5]]
    assert first.spans == (((0, 5), (8, 15)), ((0, 5), (8, 15)), ((22, 31),))
    assert second.caption == "the sky and nothing"
    assert second.extras["tokens_positive_eval"] == []
    assert second.extras["phrases_without_box"] == 2
    assert len(second.boxes) == 0


def test_only_line_ends_end_a_sentence(tmp_path: Path) -> None:
    """Not what else Python splits lines at: the sentences behind it would have other numbers."""
    sentences = "[/EN#1/people A man]\u2028and\x85[/EN#2/other a ball]\r\n\r\n[/EN#1/people He]"
    file = read_entities(write(tmp_path, sentences))
    assert [each.caption for each in file] == ["A man and a ball", "He"]
    assert [each.extras["sentence_id"] for each in file] == [0, 1]


def test_each_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, read_bytes = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path.name) or read_bytes(path))
    read_entities(write(tmp_path))
    assert sorted(read) == ["7.txt", "7.xml", "val.txt"]


def test_the_digest_knows_every_file(tmp_path: Path) -> None:
    listed = write(tmp_path)
    digests = {read_entities(listed).digest}
    for name, old, new in (
        ("Sentences/7.txt", "A man", "A dog"), ("Annotations/7.xml", "30", "31")
    ):  # fmt: skip
        path = tmp_path / name
        path.write_text(path.read_text().replace(old, new))
        digests.add(read_entities(listed).digest)
    assert len(digests) == 3


def test_another_picture_s_annotation_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    listed = write(tmp_path, annotation=xml("7.jpg"), picture="8")
    with pytest.raises(ValueError, match=r"8\.xml names picture 7\.jpg, which 7\.xml describes"):
        read_entities(listed)
    (tmp_path / "val.txt").write_text("8\n")  # 7 is of another split
    with pytest.raises(ValueError, match=r"8\.xml names picture 7\.jpg, which 7\.xml describes"):
        read_entities(listed)


def test_two_ids_of_one_picture_are_refused(tmp_path: Path) -> None:
    write(tmp_path, annotation=xml("street.jpg"))
    listed = write(tmp_path, annotation=xml("street.jpg"), picture="8")
    with pytest.raises(ValueError, match=r"8\.xml names picture street\.jpg, which 7\.xml desc"):
        read_entities(listed)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<annotation><filename>7.jpg", r"7\.xml is not XML .*unpacked to its end"),
        (xml(""), "names no picture"),
        (xml(size=""), r"the picture needs a whole number in <height>, got ''"),
        (xml(size=SIZE.replace("60", "0")), "0 x 40 pixels"),
        (xml(objects=f"<object>{BOX}</object>"), "object 1 names no entity"),
        (xml(objects="<object><name>4</name></object>"), "entity 4 has neither a <bndbox> nor"),
        (xml(objects=OBJECTS.replace("11", "x")), "entity 1 needs a whole number in <xmax>, got"),
    ],
)  # fmt: skip
def test_broken_annotations_are_named(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_entities(write(tmp_path, annotation=content))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    listed = write(tmp_path)
    (tmp_path / "Annotations" / "7.xml").unlink()
    with pytest.raises(FileNotFoundError, match=r"picture 7, but there is no .*Annotations/7\.xml"):
        read_entities(listed)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "lists no picture"), ("../7", r"got '\.\./7'"), ("7\n7", "more than once: 7")],
)
def test_a_list_of_something_else(tmp_path: Path, text: str, message: str) -> None:
    listed = write(tmp_path)
    listed.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_entities(listed)


def test_entities_without_boxes(tmp_path: Path) -> None:
    path = write(tmp_path).parent / "Annotations" / "7.xml"
    objects = "<object><name>1</name><nobndbox>1</nobndbox></object>"
    path.write_text(xml(objects=objects))
    with pytest.raises(ValueError, match=r"val\.txt: none of its 0 annotations"):
        read_entities(tmp_path / "val.txt")


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_both_forms_say_the_same(shared_data: Path, split: str) -> None:
    mini = shared_data / "grounding_mini"
    mdetr = read_grounding_file(
        mini / "mdetr_annotations" / f"final_flickr_separateGT_{split}.json"
    )
    assert told(read_entities(mini / "flickr30k_entities" / f"{split}.txt")) == told(mdetr)


def told(file: GroundingFile) -> list[tuple]:
    """What a grounding file says of phrases that have boxes."""
    return [
        (each.file_name, each.size, each.caption, each.spans, each.boxes.tolist(),
         each.extras["original_img_id"], each.extras["sentence_id"],
         each.extras["tokens_positive_eval"])
        for each in file
    ]  # fmt: skip
