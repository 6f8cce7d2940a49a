"""Word pieces of BERT's uncased tokenizer: a text as numbers of a vocabulary.

A text is cleaned of control characters, lowered, freed of accents, and cut at white space, punctuation and Chinese
characters. Each word is cut into the longest pieces that the vocabulary has, from its beginning on; one that cannot be
cut, or is too long, is the unknown piece.

Reference: Wu et al., "Google's Neural Machine Translation System", 2016, section 4.1; Devlin et al., "BERT", NAACL
2019.
"""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

WORD_CHARACTERS_MAX = 100
TEXT_CHARACTERS_MAX = 20_000
"""Read of a text: 256 pieces are about 1,200 characters; one whose characters are no pieces ends here."""
_CONTINUES = "##"
_CHINESE = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
_ASCII_PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")


@dataclass(frozen=True, slots=True, eq=False)
class WordPieces:
    """A vocabulary of pieces."""

    numbers: Mapping[str, int]
    """Of each piece; one that continues a word begins with ``##``."""
    first: int
    """Of the piece before a text."""
    last: int
    """Of the one behind it."""
    unknown: int

    @classmethod
    def of(cls, pieces: Sequence[str]) -> "WordPieces":
        """Return the vocabulary of some pieces, numbered in their order.

        Raises:
            KeyError: One of the three special pieces is not among them.
        """
        numbers = {piece: number for number, piece in enumerate(pieces)}
        return cls(numbers, numbers["[CLS]"], numbers["[SEP]"], numbers["[UNK]"])

    def read(self, text: str, count_max: int) -> list[int]:
        """Return the numbers of a text, at most so many, those of its beginning and its end among them."""
        found = [self.first]
        for word in words(text[:TEXT_CHARACTERS_MAX]):
            found.extend(self._pieces(word))
            if len(found) >= count_max:
                break
        return [*found[: count_max - 1], self.last]

    def _pieces(self, word: str) -> list[int]:
        if len(word) > WORD_CHARACTERS_MAX:
            return [self.unknown]
        found: list[int] = []
        begin = 0
        while begin < len(word):
            end = len(word)
            number = None
            while begin < end and number is None:
                number = self.numbers.get((_CONTINUES if begin else "") + word[begin:end])
                end -= 1
            if number is None:
                return [self.unknown]
            found.append(number)
            begin = end + 1
        return found


def words(text: str) -> Iterator[str]:
    """Yield the words and marks of a text, lowered and without accents.

    Example:
        >>> list(words("Café-Tisch,  weiß"))
        ['cafe', '-', 'tisch', ',', 'weiß']
    """
    word: list[str] = []
    for each in unicodedata.normalize("NFD", text.lower()):
        kind = unicodedata.category(each)
        if kind == "Mn" or each == "\ufffd" or (kind[0] == "C" and each not in "\t\n\r"):
            continue
        is_space = each in " \t\n\r" or kind == "Zs"
        is_mark = each in _ASCII_PUNCTUATION or kind[0] == "P" or _is_chinese(ord(each))
        if word and (is_space or is_mark):
            yield "".join(word)
            word.clear()
        if is_mark:
            yield each
        elif not is_space:
            word.append(each)
    if word:
        yield "".join(word)


def _is_chinese(point: int) -> bool:
    return any(first <= point <= last for first, last in _CHINESE)
