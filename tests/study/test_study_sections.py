"""Faults of sections: paths hold keys of the file only, and a section's own keys are told."""

from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError

from p2law.settings.section import Among, Count, Real, Section, Share, Tagged, faults


class Box(Section):
    """A box."""

    kind: Literal["box"]
    width: Count
    weight: Real = Field(1.0, gt=0)


class Ball(Section):
    """A ball."""

    kind: Literal["ball"]
    colour: Annotated[str, Among({"red": "as a rose", "blue": "as the sea"})] = "red"


class Shop(Section):
    """A shop."""

    things: dict[str, Annotated[Box | Ball, Tagged("kind")]] = {}
    best: Annotated[Box | Ball, Tagged("kind")] | None = None
    wall: Literal["none"] | Box = "none"
    rows: list[Ball] = []
    share: Share = 0.5


def told(**value):
    with pytest.raises(ValidationError) as error:
        Shop.model_validate(value)
    return faults(error.value, Shop, value)


BOX, BALL = {"kind": "box", "width": 2}, {"kind": "ball"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"thing": 1}, "thing: unknown key; must be one of things, best, wall, rows, share; did"),
        ({"things": {"a": {**BOX, "width": 0}}}, "things.a.width = 0: should be greater than or e"),
        ({"things": {"a": {**BOX, "colour": 1}}}, "things.a.colour: unknown key; must be one of k"),
        ({"things": {"a": {"kind": "box"}}}, "things.a.width: missing"),
        ({"things": {"a": {"width": 2}}}, "things.a.kind: missing"),
        (
            {"things": {"a": {"kind": "bal"}}},
            "things.a.kind = 'bal': must be one of box, ball; d",
        ),
        ({"things": {"a": {"kind": {}}}}, "things.a.kind = {}: must be one of box, ball"),
        ({"things": {"a": 3}}, "things.a = 3: "),
        (
            {"things": {"a": {**BALL, "colour": "rde"}}},
            "must be one of red, blue; did you mean 're",
        ),
        ({"best": {**BALL, "colour": "{x}"}}, "best.colour = '{x}': must be one of red, blue"),
        (
            {"best": {**BALL, "color": "red"}},
            "best.color: unknown key; must be one of kind, colour",
        ),
        ({"wall": {"kind": "box"}}, "wall.width: missing"),
        ({"wall": {**BOX, "widht": 2}}, "wall.widht: unknown key; must be one of kind, width, wei"),
        ({"rows": [BALL, {**BALL, "x": 1}]}, "rows.1.x: unknown key; must be one of kind, colour"),
        ({"share": 1}, "share = 1: should be less than 1"),
        ({"share": True}, "share = True: "),
    ],
)
def test_one_fault_is_told_by_keys_of_the_file(value, message):
    found = told(**value)
    assert message in found
    assert "; wall" not in found
    assert not any(label in found for label in ("literal[", "Box", "Ball", "tagged"))


def test_all_faults_come_at_once():
    wrong = {**BOX, "width": 0, "weight": -1, "x": 1}
    found = told(share=2, best=wrong, things={"a": {**BALL, "colour": "green"}})
    for path in ("share", "best.width", "best.weight", "best.x", "things.a.colour"):
        assert path in found


def test_right_values_pass_unchanged():
    shop = Shop.model_validate({"best": {**BOX, "width": 4e6}, "things": {"a": BALL}})
    assert shop.best == Box(kind="box", width=4_000_000)
    assert shop.model_dump()["things"] == {"a": {"kind": "ball", "colour": "red"}}
    assert Shop.model_validate({"best": {**BOX, "weight": "4e-3"}}).best.weight == 0.004
