from glipkit.page.examples import drawn_examples


def test_the_drawings_are_always_the_same() -> None:
    examples = drawn_examples()
    assert len(examples) == 3
    assert len({example.words for example in examples}) == 3
    again = drawn_examples()
    assert [one.words for one in examples] == [one.words for one in again]
    assert [one.picture.tobytes() for one in examples] == [one.picture.tobytes() for one in again]
    assert all(example.picture.mode == "RGB" for example in examples)
