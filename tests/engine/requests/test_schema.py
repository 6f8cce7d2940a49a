"""Questions of pages: what each row asks, and what no row may say."""

import msgspec
import pytest

from midstream.engine.requests.schema import PageQuestion, read_deadline

DECODER = msgspec.json.Decoder(PageQuestion, dec_hook=read_deadline)


def test_a_row_says_by_which_acts_it_goes():
    """Left out = by no item; an empty object = by any act that speaks for an item; names = by these."""
    rows = (
        b'[{"placement": "a"}, {"placement": "b", "because": {}}, {"placement": "c", "because": {"actions": ["view"]}}]'
    )
    asks = DECODER.decode(b'{"user_id": "ann", "exclude": ["x"], "placements": %b}' % rows).asks()
    assert [each.because for each in asks] == [None, (), ("view",)]
    assert {(each.user_id, each.exclude, each.about) for each in asks} == {("ann", ("x",), None)}


@pytest.mark.parametrize(
    "because", ['{"action": "view"}', '{"actions": "view"}', "true", '{"actions": [""]}', f"{['view'] * 17}"]
)
def test_another_form_of_it_is_refused(because):
    """Unknown fields, other types, empty names, too many of them."""
    text = f'{{"placements": [{{"placement": "a", "because": {because}}}]}}'.replace("'", '"')
    with pytest.raises(msgspec.ValidationError):
        DECODER.decode(text)
