"""What is made of an evaluation to be looked at, and what goes when another one takes its place."""

from pathlib import Path

REPORT, SHEET, PICTURES = "report.html", "pictures.png", "pictures"


def discard_drawn(folder: Path) -> None:
    """Remove the report and the pictures of an evaluation whose results are no longer there."""
    for path in (folder / REPORT, folder / SHEET, *(folder / PICTURES).glob("*.png")):
        path.unlink(missing_ok=True)
