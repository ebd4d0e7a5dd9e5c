"""How rules are written: what is read as which rule, what is none, and what the registry says of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripple_place.errors import UsageError
from ripple_place.select.by_activity import ByActivity
from ripple_place.select.knowledge import Knowledge
from ripple_place.select.priced import PricedRule
from ripple_place.select.registry import EXAMPLES, RULES, parse_rule
from ripple_place.trace.rule_text import Amount, RuleText


def test_registry_and_examples_agree() -> None:
    """Each rule has an example, in the same order, which is written as it is read, and one name."""
    assert [text.partition("=")[0] for text in EXAMPLES] == list(RULES)
    for text, name in zip(EXAMPLES, RULES, strict=True):
        rule = parse_rule(text)
        assert (str(rule), rule.name) == (text, name)


@pytest.mark.parametrize(
    ("text", "written", "knowledge", "target"),
    [
        ("exact", "exact", "a predictor of which neurons fire", None),
        ("exact,sees=predictor", "exact", "a predictor of which neurons fire", None),
        ("exact,sees=gate", "exact,sees=gate", "which neurons fire, from gate weights of every neuron", None),
        (" threshold=.1 ", "threshold=0.1", "a predictor of |h|", None),
        ("top-k=512", "top-k=512", "a predictor of |h|", None),
        ("top-k,keep=20%", "top-k=20%", "a predictor of |h|", None),
        ("top-k,drop=80%", "top-k=20%", "a predictor of |h|", None),
        ("cats=70%", "cats=70%", "the gate, from gate weights of every neuron", None),
        ("cats,keep=30%,sees=gate", "cats=70%", "the gate, from gate weights of every neuron", None),
        ("cats,sees=predictor,drop=70%", "cats=70%,sees=predictor", "a predictor of the gate", None),
        ("teal=50%,sees=output", "teal=50%,sees=output",
         "|h|, from all weights but the down ones of every neuron", None),
        ("dip=50%", "dip=50%", "a predictor of |h|", None),
        ("dip,drop=25%", "dip=75%", "a predictor of |h|", None),
        ("glu-pruning=.3", "glu-pruning=0.3", "a predictor of |h|", None),
        ("dip-ca=.5", "dip-ca=0.5,gamma=0.2", "a predictor of |h|", None),
        ("dip-ca,keep=40%,gamma=0", "dip-ca=0.4,gamma=0", "a predictor of |h|", None),
        ("dip-ca=0.5,top_m=200%,fixed_top_n=50%,gamma=.1", "dip-ca=0.5,gamma=0.1,fixed_top_n=50%,top_m=200%",
         "a predictor of |h|", None),
        ("dip-ca=0.5,warm_up=yes,fixed_top_n=50%,gamma=.1", "dip-ca=0.5,gamma=0.1,fixed_top_n=50%,warm_up=yes",
         "a predictor of |h|", None),
        ("dip-ca=0.5,gamma=.1,blend=yes,fixed_top_n=64", "dip-ca=0.5,gamma=0.1,fixed_top_n=64,blend=yes",
         "a predictor of |h|", None),
        ("partial-glu=30%", "partial-glu=0.3", "the gate, from gate weights of every neuron", None),
        ("partial-glu=0.3,by=up", "partial-glu=0.3,by=up", "up, from up weights of every neuron", None),
        ("partial-glu=0.3,sees=gate,by=gate", "partial-glu=0.3", "the gate, from gate weights of every neuron", None),
        ("partial-glu=0.3,sees=predictor,by=up", "partial-glu=0.3,by=up,sees=predictor", "a predictor of up", None),
        ("partial-glu=0.3,sees=output", "partial-glu=0.3,sees=output",
         "the gate, from all weights but the down ones of every neuron", None),
        ("chunk=50%", "chunk=0.5", "a predictor of |h|", None),
        ("chunk=0.5,board=nano,split=even", "chunk=0.5,board=nano,split=even", "a predictor of |h|", None),
        ("fisher=1e-3", "fisher=0.001", "a predictor of |h|", 0.001),
        ("flash-aware=0.00025", "flash-aware=0.00025", "a predictor of |h|", 0.00025),
        ("flash-aware,price=0", "flash-aware,price=0", "a predictor of |h|", None),
        ("flash-aware,price=2e-6,sees=output", "flash-aware,price=2e-06,sees=output",
         "|h|, from all weights but the down ones of every neuron", None),
    ],
)  # fmt: skip
def test_as_written(text: str, written: str, knowledge: str, target: float | None) -> None:
    """What a text is read as, written out again, which is read as the same; who could run it; and what is tuned."""
    rule = parse_rule(text)
    assert (str(rule), rule.knowledge.sentence, rule.target) == (written, knowledge, target)
    assert parse_rule(str(rule)) == rule
    assert rule.changes_output == (rule.name != "exact")
    assert rule.uses_gate == (rule.name in ("cats", "partial-glu"))


@given(st.sampled_from(["threshold", "fisher", "flash-aware"]), st.floats(1e-7, 9))
def test_any_number_survives_being_written(name: str, number: float) -> None:
    """Numbers are written with six digits; what was written is read as what is written again."""
    rule = parse_rule(str(parse_rule(f"{name}={number:g}")))
    assert str(parse_rule(str(rule))) == str(rule) == f"{name}={number:g}"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "found ''; expected a rule such as exact, threshold=0.1, top-k=20%"),
        ("relu", "found 'relu'; expected a rule such as"),
        ("flash_aware=1", "expected a rule such as"),
        ("exact=", "found 'exact='; expected a rule such as"),
        ("exact,", "expected a rule such as"),
        ("exact,sees", "expected a rule such as"),
        ("exact,sees=", "expected a rule such as"),
        ("exact,sees=gate,sees=gate", "expected a rule such as"),
        ("exact,Sees=gate", "expected a rule such as"),
        ("exact=1", "rule exact=1: found the value 1; expected none"),
        ("exact,keep=20%", "rule exact,keep=20%: found the option keep; expected of sees"),
        ("exact,sees=all", "found 'all'; expected one of predictor, gate, output"),
        ("threshold", r"--select threshold: .*expected threshold=X, top-k=K, top-k=P%, cats=P%, teal=P%"),
        ("threshold=-1", "--select threshold=-1"),
        ("threshold=1%", "--select threshold=1%"),
        ("threshold=nan", "--select threshold=nan"),
        ("top-k=0", "--select top-k=0"),
        ("top-k=0.5", "--select top-k=0.5"),
        ("top-k=20%,keep=20%", "--select top-k=20%,keep=20%"),
        ("top-k,keep=20", "--select top-k,keep=20"),
        ("cats=100%", "--select cats=100%"),
        ("cats=0.7", "--select cats=0.7"),
        ("teal,price=1", "--select teal,price=1"),
        ("teal=50%,sees=gate", r"sees=gate: found a rule that looks at \|h\|"),
        ("flash-aware", "found no wanted rise of the loss, and no price; expected flash-aware=NATS"),
        ("flash-aware=0", "rule flash-aware=0: found 0; expected flash-aware=NATS, a rise above 0"),
        ("flash-aware=1%", "found 1%; expected flash-aware=NATS"),
        ("flash-aware=11", "a rise above 0 and of at most 10 nats"),
        ("flash-aware=inf", "expected flash-aware=NATS"),
        ("fisher=0.1,price=0.1", "found 0.1 and 0.1; expected fisher=NATS"),
        ("fisher=0.1,gamma=2", "found the option gamma; expected of price, sees"),
        ("dip", "--select dip: .*expected"),
        ("dip=1.5", "--select dip=1.5"),
        ("dip-ca", "rule dip-ca: found nothing that says how much is kept; expected a share above 0"),
        ("dip-ca=0.5,keep=50%", "found 0.5 and 50%; expected a share"),
        ("dip-ca=0", "expected a share above 0 and of at most 1"),
        ("dip-ca=0.5,gamma=1.5", "found gamma 1.5; expected 0 to 1"),
        ("dip-ca=0.5,gamma=20%", "found gamma=20%; expected gamma=X"),
        ("dip-ca=0.5,fixed_top_n=1.5", "found fixed_top_n=1.5"),
        ("dip-ca=0.5,warm_up=maybe", "found warm_up=maybe"),
        ("dip-ca=0.5,blend=yes,top_m=200%", "found blend=yes and top_m; expected one"),
        ("dip-ca=0.5,warm_up=yes,top_m=200%", "found warm_up=yes and top_m; expected one"),
        ("partial-glu=0.3,by=down", "found by=down; expected by=gate or by=up"),
        ("partial-glu=0.3,sees=all", "found 'all'; expected one of predictor, gate, output"),
        ("chunk=0.5,board=phone", "found board=phone,split=dip"),
        ("fisher=0.1,sees=gate", r"found a rule that looks at \|h\|"),
    ],
)  # fmt: skip
def test_what_is_no_rule(text: str, match: str) -> None:
    """What is wrong, and what would be right."""
    with pytest.raises(UsageError, match=match):
        parse_rule(text)


def test_options_of_a_rule_without_any() -> None:
    """The sentence for a rule that takes no options."""
    with pytest.raises(UsageError, match="found the option a; expected no options"):
        RuleText("some", None, {"a": "1"}).check_options(())


@pytest.mark.parametrize(
    ("text", "amount"),
    [("12", Amount(12)), (".5", Amount(0.5)), ("1e-3", Amount(0.001)), ("20%", Amount(20, True)), ("1e400", None),
     ("-1", None), ("1.", None), ("1_0", None), ("1e+3", None), ("%", None), ("", None), ("٣", None)],
)  # fmt: skip
def test_amounts(text: str, amount: Amount | None) -> None:
    """Digits as everyone writes them, and nothing that only Python takes for a number."""
    found = Amount.parse(text)
    assert found == amount or (text == "1e400" and found == Amount(float("inf")))


@pytest.mark.parametrize(
    ("of", "sees", "n_parts", "n_read"),
    [("nothing", "gate", 3, 0), ("activity", "predictor", 3, 0), ("activity", "gate", 3, 1), ("gate", "output", 3, 2),
     ("magnitude", "output", 3, 2), ("magnitude", "output", 2, 1), ("activity", "output", 2, 1)],
)  # fmt: skip
def test_parts_read(of: str, sees: str, n_parts: int, n_read: int) -> None:
    """The gate, or all but the down projection."""
    assert Knowledge(of, sees).parts_read(n_parts) == n_read


def test_gates_that_are_not_there() -> None:
    """Neurons of two parts have no gate to read."""
    with pytest.raises(UsageError, match="neurons without a gate"):
        Knowledge("activity", "gate").parts_read(2)
    assert Knowledge("nothing").sentence == "any reader"


def test_kinds() -> None:
    """Rules of profiles are one class, rules at a price another, whatever else the registry holds."""
    assert isinstance(parse_rule("teal=50%"), ByActivity)
    assert {type(parse_rule(text)).__base__ for text in ("fisher=1", "flash-aware=1")} == {PricedRule}
