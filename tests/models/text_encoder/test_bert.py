"""The layers of an encoder, against the same in float64 one number after another, on tensors of chance."""

import math

import numpy as np
import pytest

from midstream.models.text_encoder.bert import Bert
from midstream.models.text_encoder.specs import BertShape

LAYERS, HEADS, WIDTH, INNER, WORDS, PLACES = 2, 2, 8, 16, 11, 7


@pytest.fixture
def bert():
    """Return an encoder of chance."""
    dice = np.random.default_rng(4)
    sizes = {
        "embeddings.word_embeddings.weight": (WORDS, WIDTH),
        "embeddings.position_embeddings.weight": (PLACES, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        "embeddings.LayerNorm.weight": (WIDTH,),
        "embeddings.LayerNorm.bias": (WIDTH,),
    }
    for number in range(LAYERS):
        name = f"encoder.layer.{number}"
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            sizes |= {f"{name}.{part}.weight": (WIDTH, WIDTH), f"{name}.{part}.bias": (WIDTH,)}
        sizes |= {f"{name}.intermediate.dense.weight": (INNER, WIDTH), f"{name}.intermediate.dense.bias": (INNER,)}
        sizes |= {f"{name}.output.dense.weight": (WIDTH, INNER), f"{name}.output.dense.bias": (WIDTH,)}
        for part in ("attention.output.LayerNorm", "output.LayerNorm"):
            sizes |= {f"{name}.{part}.weight": (WIDTH,), f"{name}.{part}.bias": (WIDTH,)}
    tensors = {name: dice.normal(size=size).astype(np.float32) for name, size in sizes.items()}
    return Bert(BertShape(LAYERS, HEADS, 1e-12, PLACES), tensors)


def plain(bert, pieces):
    """The same vector, piece by piece and head by head."""
    tensors = {name: each.astype(np.float64) for name, each in bert.tensors.items()}

    def dense(row, name):
        return tensors[f"{name}.weight"] @ row + tensors[f"{name}.bias"]

    def normed(row, name):
        return (row - row.mean()) / math.sqrt(row.var() + 1e-12) * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    rows = []
    for place, piece in enumerate(pieces):
        row = (
            tensors["embeddings.word_embeddings.weight"][piece]
            + tensors["embeddings.position_embeddings.weight"][place]
        )
        rows.append(normed(row + tensors["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm"))
    for number in range(LAYERS):
        name = f"encoder.layer.{number}"
        query, key, value = (
            [dense(row, f"{name}.attention.self.{part}") for row in rows] for part in ("query", "key", "value")
        )
        after = []
        for place, row in enumerate(rows):
            mixed = []
            for head in range(HEADS):
                part = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
                weight = np.array(
                    [math.exp(query[place][part] @ each[part] / math.sqrt(WIDTH // HEADS)) for each in key]
                )
                mixed.append(sum(each[part] * share for each, share in zip(value, weight / weight.sum(), strict=True)))
            attended = dense(np.concatenate(mixed), f"{name}.attention.output.dense")
            middle = normed(row + attended, f"{name}.attention.output.LayerNorm")
            inner = dense(middle, f"{name}.intermediate.dense")
            inner = np.array([each * 0.5 * (1 + math.erf(each / math.sqrt(2))) for each in inner])
            after.append(normed(middle + dense(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm"))
        rows = after
    mean = sum(rows) / len(rows)
    return mean / math.sqrt(mean @ mean)


@pytest.mark.parametrize("pieces", [[0], [3, 1, 4, 1, 5], [10, 9, 8, 7, 6, 5, 4]])
def test_a_vector_is_that_of_the_plain_words(bert, pieces):
    """To what float32 holds; of length 1."""
    found = bert.encode(np.array(pieces))
    np.testing.assert_allclose(found, plain(bert, pieces), atol=2e-5)
    assert float(found.astype(np.float64) @ found) == pytest.approx(1.0, abs=1e-6)
