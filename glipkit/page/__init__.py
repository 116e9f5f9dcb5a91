"""The page to try a model on: `serve` it, or `build_page` into a program of your own."""

from glipkit.page.app import serve
from glipkit.page.layout import build_page
from glipkit.page.limits import Limits

__all__ = ["Limits", "build_page", "serve"]
