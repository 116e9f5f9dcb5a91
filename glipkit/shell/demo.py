"""`glipkit demo`: the page to try it on, served on this machine."""

import argparse

from glipkit.page.app import serve
from glipkit.runtime.logs import setup_logging


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    setup_logging()
    serve(
        model=args.model,
        host=args.host,
        port=args.port,
        device=args.device,
        threshold=args.threshold,
        open_browser=args.open,
    )
    return 0
