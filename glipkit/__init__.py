"""glipkit: pictures and words in, boxes out.

    import glipkit
    detector = glipkit.load("nano")
    found = detector("street.jpg", "a red circle . the small star on the left")
    found.save("out.jpg")

These names are fetched when they are first used: `import glipkit` alone imports no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from glipkit.runtime.collector import collector_paused

if TYPE_CHECKING:
    from glipkit.inference.asked import Texts
    from glipkit.inference.build import load
    from glipkit.inference.detector import PhraseDetector
    from glipkit.inference.found import Found
    from glipkit.inference.glip_demo import GLIPDemo

__version__ = "0.1.0"
__all__ = ["Found", "GLIPDemo", "PhraseDetector", "Texts", "__version__", "load"]

_HOMES = {
    "load": "glipkit.inference.build",
    "GLIPDemo": "glipkit.inference.glip_demo",
    "Found": "glipkit.inference.found",
    "PhraseDetector": "glipkit.inference.detector",
    "Texts": "glipkit.inference.asked",
}


def __getattr__(name: str) -> object:
    """One of the names above, imported now."""
    if name not in _HOMES:
        raise AttributeError(f"module 'glipkit' has no attribute {name!r}")
    with collector_paused():
        value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Those names too, for completion."""
    return sorted({*globals(), *__all__})
