"""From the published names that the plain forms use to ours."""

from torch import nn


def our_name(published: str, renamed: dict[str, str]) -> str:
    """`renamed` maps names of modules or parameters; what follows them stays."""
    for theirs, ours in renamed.items():
        if published == theirs or published.startswith(f"{theirs}."):
            return ours + published[len(theirs) :]
    raise KeyError(published)


def load_published(ours: nn.Module, plain: nn.Module, renamed: dict[str, str]) -> nn.Module:
    """Give `ours` the parameters of `plain`, every one of them, and return it."""
    state = {our_name(name, renamed): value for name, value in plain.state_dict().items()}
    ours.load_state_dict(state, strict=True)
    return ours
