"""The one place where gradio is imported: it is an optional extra."""

import os
from types import ModuleType


def gradio() -> ModuleType:
    """Gradio, with its telemetry off.

    Raises:
        ImportError: it is not installed; the message names the extra.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when a page is built
    try:
        import gradio
    except ImportError as error:
        raise ImportError(
            "the page needs gradio, which is not installed; run: pip install 'glipkit[demo]'"
        ) from error
    return gradio
