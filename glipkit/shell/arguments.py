"""What the values of flags mean."""

from pathlib import Path


def read_names(path: Path) -> list[str]:
    """The class names in a file, one on each line; blank lines are passed over.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no name, or is no text.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file of names {path}; expected one with a name on each line")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: {error}") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise ValueError(f"{path} holds no name; expected one on each line")
    return names


def split_names(text: str) -> list[str]:
    """The names in "a, b, c".

    Raises:
        ValueError: there is none.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ValueError(f"--names {text!r} holds no name; expected them as a,b,c")
    return names


def read_thresholds(said: list[str] | None) -> float | dict[str, float] | None:
    """What `--threshold` means: one number for all, or one for each of some phrases.

    Raises:
        ValueError: it is neither a number from 0 to 1 nor PHRASE=NUMBER, both are mixed, or a
            phrase is named twice.
    """
    if not said:
        return None
    pairs = [text.rpartition("=") for text in said]
    numbers = [_fraction(number, text) for text, (_, _, number) in zip(said, pairs)]
    phrases = [phrase.strip() for phrase, _, _ in pairs]
    for text, phrase, (_, sign, _) in zip(said, phrases, pairs):
        if sign and not phrase:
            raise ValueError(f"--threshold PHRASE=NUMBER names no phrase, got {text!r}")
        if phrase and phrases.count(phrase) > 1:
            raise ValueError(f"--threshold names {phrase!r} twice: {' '.join(said)}")
    if all(phrases):
        return dict(zip(phrases, numbers))
    if len(said) == 1:
        return numbers[0]
    raise ValueError(
        f"--threshold takes one number for all phrases, or PHRASE=NUMBER for each of some, got "
        f"{' '.join(said)}"
    )


def _fraction(number: str, text: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ValueError(f"--threshold is a number from 0 to 1 or PHRASE=NUMBER, got {text!r}")
    return value
