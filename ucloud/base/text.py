"""Text that came from outside (a guest's process, a tool, a record), made fit for records, log lines and terminals."""

LONGEST = 300


def one_line(text: str, longest: int = LONGEST) -> str:
    """Printable characters only, with single spaces for all others: nothing in it moves a cursor or looks like another line."""
    words = "".join(character if character.isprintable() else " " for character in text[: 4 * longest]).split()
    line = " ".join(words)
    return line if len(line) <= longest and len(text) <= 4 * longest else f"{line[: longest - 1]}…"


def visible(text: str) -> str:
    """The same text with what is not printable written as an escape sequence."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
