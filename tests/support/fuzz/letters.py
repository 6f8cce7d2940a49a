"""Dead letters as somebody finds them who reads the files, whatever the engine says of them."""

import json
import re
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from midstream.engine.erasure.log_rewrite import Receipt
from tests.support.fuzz.ledger import Broken, Forgotten


class LetterLine(NamedTuple):
    """One line of the files."""

    number: int
    text: str


def lines_of(path: Path) -> Iterator[LetterLine]:
    """Yield what the file, the older one and what a rewrite left say of letters, those included that are gone."""
    for each in sorted(path.parent.glob(f"{path.name}*")):
        for line in each.read_bytes().splitlines():
            try:
                told = json.loads(line)
            except ValueError:  # half a line
                continue
            if isinstance(told, dict) and "number" in told:
                yield LetterLine(told["number"], line.decode())


def last_number(path: Path) -> int:
    """Return the highest number there is, 0 = no letter."""
    return max((line.number for line in lines_of(path)), default=0)


def _is_word(user: str, text: str) -> bool:
    """Return whether an id stands in a text by itself."""
    return re.search(rf"(?<![\w.@+-]){re.escape(user)}(?![\w.@+-])", text) is not None


def check_letters(path: Path, receipts: Sequence[Receipt], forgotten: Sequence[Forgotten]) -> None:
    """Nothing is left of letters that named a user when the erasure was carried out, and each erasure looked at them.

    Args:
        path: Of the file.
        receipts: What was carried out.
        forgotten: What the letters were told to forget, and did.

    Raises:
        Broken: A letter names such a user, or the letters were not asked.
    """
    for receipt in receipts:
        salt = bytes.fromhex(receipt.salt)
        asked = [{blake2b(each.encode(), digest_size=16, salt=salt).hexdigest() for each in of.ids} for of in forgotten]
        if not any(set(receipt.ids) <= each for each in asked):  # sessions that were theirs alone are forgotten too
            raise Broken(f"generation {receipt.generation} was written, and the letters forgot nobody")
    for line in lines_of(path):
        for each in forgotten:
            if line.number <= each.last and (named := [user for user in each.ids if _is_word(user, line.text)]):
                raise Broken(
                    f"{named} were erased when {each.last} was the last letter, and there is still {line.text}"
                )
