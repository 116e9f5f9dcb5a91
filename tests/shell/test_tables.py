"""Tables whose columns stand under each other in any script."""

from glipkit.shell.tables import columns, table


def test_columns_stand_under_each_other() -> None:
    rows = [["phrase", "boxes"], ["甜甜圈", "3"], ["cafe\u0301", "12"], ["a longer one", "-"]]
    lines = table(rows, indent="  ").splitlines()
    assert lines[1] == "  甜甜圈            3"
    assert {columns(line) for line in lines} == {2 + 12 + 2 + 5}
