"""Classes that are registered with encode and decode functions, and names that a process does not know."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import enum
import pickle
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import pytest
from conversion import ext

from pyisolate import Opaque, _core
from pyisolate._core import ProtocolError, Registry


class Money:
    def __init__(self, amount: int, currency: str) -> None:
        self.amount, self.currency = amount, currency

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self.amount, self.currency))


class Coins(Money):
    pass


def encode_money(money: Money) -> object:
    return {"amount": money.amount, "currency": money.currency}


def decode_money(value: Any) -> Money:
    return Money(**value)


def registry(
    cls: type = Money,
    name: str = "money",
    encode: Callable[[Any], object] = encode_money,
    decode: Callable[[Any], object] = decode_money,
    **options: Any,
) -> Registry:
    made = Registry()
    made.register(cls, name, encode=encode, decode=decode, **options)
    return made


def send(value: object, sender: Registry, receiver: Registry | None = None) -> Any:
    return _core._decode(_core._encode(value, sender), receiver or sender)


def test_an_instance_arrives_as_an_instance() -> None:
    money = Money(5, "EUR")
    assert send(money, registry()) == money
    assert send([money, {"a": (money,)}], registry()) == [money, {"a": (money,)}]
    assert send({money: {money}}, registry()) == {money: {money}}


def test_each_side_has_its_own_class() -> None:
    class Price(NamedTuple):
        amount: int
        currency: str

    receiver = registry(Price, "money", tuple, lambda value: Price(**value))
    assert send(Money(5, "EUR"), registry(), receiver) == Price(5, "EUR")


def test_instances_in_what_encode_returns() -> None:
    made = registry()
    made.register(Fraction, "f", encode=lambda f: [Money(f.numerator, "x")], decode=lambda v: v[0])
    assert send(Fraction(3, 4), made) == Money(3, "x")


def test_only_the_class_itself_unless_subclasses_are_included() -> None:
    with pytest.raises(TypeError, match=r"Coins' cannot be sent"):
        send(Coins(1, "EUR"), registry())
    arrived = send(Coins(1, "EUR"), registry(subclasses=True))
    assert type(arrived) is Money
    assert arrived == Money(1, "EUR")


# ---- precedence ----


def test_an_exact_class_comes_before_a_base() -> None:
    made = registry(subclasses=True)
    made.register(Coins, "coins", encode=lambda coins: coins.amount, decode=lambda value: ("coins", value))
    assert send(Coins(2, "EUR"), made) == ("coins", 2)


def test_bases_are_tried_in_their_order() -> None:
    class Left:
        pass

    class Right:
        pass

    both = type("Both", (Left, Right), {})
    made = Registry()
    for cls in (Right, Left):
        made.register(
            cls,
            cls.__name__,
            encode=lambda value: None,
            decode=lambda value, cls=cls: cls.__name__,
            subclasses=True,
        )
    assert send(both(), made) == "Left"
    assert send(type("Other", (Right, Left), {})(), made) == "Right"


def test_a_registered_class_comes_before_a_built_in_conversion() -> None:
    made = registry(Fraction, "f", str, lambda value: "mine " + value)
    assert send(Fraction(1, 2), made) == "mine 1/2"
    ordered = registry(dict_class := type("D", (dict,), {}), "d", lambda value: sorted(value), list)
    assert send(dict_class(b=1, a=2), ordered) == ["a", "b"]
    day = datetime.date(2020, 2, 3)
    assert send([day], registry(datetime.date, "day", lambda day: day.year, lambda value: value)) == [2020]
    assert send([day], Registry()) == [day]


@dataclasses.dataclass
class Shape:
    sides: int


@dataclasses.dataclass
class Square(Shape):
    size: int


class Pair(NamedTuple):
    a: int
    b: int


class Named(Pair):
    pass


def test_dataclasses_and_named_tuples_with_subclasses() -> None:
    made = Registry()
    made.register(Shape, None, False, subclasses=True)
    made.register(Pair, None, False, subclasses=True)
    arrived = send([Square(4, 2), Named(1, 2)], made)
    assert list(map(type, arrived)) == [Shape, Pair]
    assert arrived == [Shape(4), Pair(1, 2)]


# ---- what cannot be registered ----


class Colour(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    ("cls", "options", "expected"),
    [
        (Money, {}, "give encode="),
        (Money, {"encode": str}, "with encode but without decode"),
        (Money, {"decode": str}, "with decode but without encode"),
        (Money, {"encode": 1, "decode": str}, "encode must be a function"),
        (Money, {"encode": str, "decode": 1}, "decode must be a function"),
        (Money, {"encode": str, "decode": str, "by_ref": True}, "without encode and decode"),
        (int, {"encode": str, "decode": str}, "a class of your own"),
        (object, {"by_ref": True}, "a class of your own"),
        (5, {"encode": str, "decode": str}, "takes a class"),
        (Colour, {"subclasses": True}, "omit subclasses"),
    ],
)
def test_registrations_that_are_refused(cls: Any, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(TypeError, match=expected):
        Registry().register(cls, "name", **options)


@pytest.mark.parametrize("name", ["", "x" * 201, "a\nb", "\ud800"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="1 to 200 printable characters"):
        registry(name=name)


def test_a_name_is_that_of_one_class() -> None:
    made = registry()
    with pytest.raises(ValueError, match="already registered"):
        made.register(Coins, "money", encode=str, decode=str)
    made.register(Money, "money", encode=lambda money: money.amount, decode=lambda value: value)
    assert send(Money(7, "EUR"), made) == 7


def test_by_reference_is_refused_where_there_are_no_references() -> None:
    made = Registry()
    made.register(Money, "money", by_ref=True)
    with pytest.raises(TypeError, match="cannot be sent; it can only be sent over a session"):
        send(Money(1, "EUR"), made)


# ---- what the functions raise ----


def fails(error: BaseException) -> Callable[[Any], object]:
    def function(value: object) -> object:
        raise error

    return function


@pytest.mark.parametrize(
    "error", [ValueError("no"), KeyError("x"), RecursionError(), ProtocolError("mine"), MemoryError()]
)
@pytest.mark.parametrize("which", ["encode", "decode"])
def test_what_a_function_raises_is_raised(which: str, error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        send([Money(1, "EUR")], registry(**{which: fails(error)}))
    assert caught.value is error
    if hasattr(error, "__notes__"):
        assert f"raised by the {which} function of 'money' (pyisolate.register_type)" in error.__notes__


@pytest.mark.parametrize(
    "error", [SystemExit(3), GeneratorExit(), StopIteration(1), StopAsyncIteration(), BaseException()]
)
@pytest.mark.parametrize("which", ["encode", "decode"])
def test_nothing_is_ended_by_a_function(which: str, error: BaseException) -> None:
    with pytest.raises(
        RuntimeError, match=rf"the {which} function of 'money' raised {type(error).__name__}"
    ) as caught:
        send([Money(1, "EUR")], registry(**{which: fails(error)}))
    assert caught.value.__cause__ is error


def test_what_encode_returns_must_be_a_value() -> None:
    with pytest.raises(
        TypeError, match=r"encode\(value\[0\]\)\['x'\]: objects of type 'builtins.object' cannot be sent"
    ):
        send([Money(1, "EUR")], registry(encode=lambda money: {"x": object()}))
    with pytest.raises(ValueError, match="contains itself"):
        send(Money(1, "EUR"), registry(encode=lambda money: money))


# ---- names that are not known ----


def test_an_unknown_name_arrives_as_opaque_and_can_be_sent_on() -> None:
    money = Money(5, "EUR")
    (arrived,) = send([money], registry(), Registry())
    assert type(arrived) is Opaque
    assert arrived.type_name == "money"
    assert repr(arrived) == "<Opaque of type money>"
    assert send({"back": arrived}, Registry(), registry()) == {"back": money}
    again = send(arrived, Registry(), Registry())
    assert type(again) is Opaque
    assert send(again, registry()) == money


def test_an_opaque_shows_nothing_and_is_itself_only() -> None:
    one, two = send([Money(5, "EUR")] * 2, registry(), Registry())
    assert one != two
    assert one in {one}
    assert len({one, two}) == 2
    assert "EUR" not in repr(one)
    for use in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            use(one)
    with pytest.raises(AttributeError, match="no class is registered as 'money'"):
        one.amount  # noqa: B018
    with pytest.raises(TypeError):
        Opaque()
    with pytest.raises((TypeError, AttributeError)):
        one.type_name = "other"


def test_opaque_in_opaque() -> None:
    sender = registry()
    sender.register(
        Coins, "coins", encode=lambda coins: [Money(coins.amount, "x")], decode=lambda value: value[0]
    )
    arrived = send(Coins(3, "y"), sender, Registry())
    assert arrived.type_name == "coins"
    assert send(arrived, Registry(), sender) == Money(3, "x")


def test_a_name_that_is_registered_otherwise() -> None:
    receiver = Registry()
    receiver.register(Shape, "money")
    with pytest.raises(TypeError, match="register it so in this process"):
        send(Money(1, "x"), registry(), receiver)
    sender = Registry()
    sender.register(Shape, "money")
    with pytest.raises(TypeError, match="another kind of class"):
        send(Shape(1), sender, registry())


# ---- what a peer could write ----


@pytest.mark.parametrize("kind", ["instance", "converted"])
@pytest.mark.parametrize(
    "payload",
    [
        None,
        [],
        ["money"],
        [5, 1],
        ["", 1],
        ["x" * 201, 1],
        [b"money", 1],
        ["money", 1, 2],
        {"money": 1},
        "money",
    ],
)
def test_malformed(kind: str, payload: object) -> None:
    with pytest.raises(ProtocolError):
        _core._decode(ext(kind, payload), registry())


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("collections.OrderedDict", ["1", 2]),
        ("fractions.Fraction", None),
        ("collections.None", 1),
        ("os.system", "x"),
        ("collections", 1),
        (".", 1),
    ],
)
def test_what_a_converter_does_not_take_fails_the_call(name: str, payload: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        _core._decode(ext("converted", [name, payload]), Registry())


def test_a_long_name_is_not_shown_raw() -> None:
    arrived = _core._decode(ext("instance", ["\x1b[31mred\u202e", 1]), Registry())
    assert repr(arrived).isprintable()
    with pytest.raises(AttributeError) as caught:
        arrived.value  # noqa: B018
    assert str(caught.value).isprintable()


# ---- exceptions ----


class AppError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code

    def __str__(self) -> str:
        return f"{type(self).__name__} {self.code}"


class Missing(AppError):
    pass


def throw_with(error: BaseException, made: Registry) -> BaseException:
    arrived: BaseException = _core._decode(_core._encode(error, made, True), made)
    return arrived


def test_an_exception_of_a_subclass_is_raised_as_its_registered_base() -> None:
    made = Registry()
    made.register(AppError)
    assert isinstance(throw_with(Missing(1), made), _core.RemoteError)
    made.register(AppError, None, False, subclasses=True)
    arrived = throw_with(Missing(2), made)
    assert type(arrived) is AppError
    assert arrived.code == 2


def test_an_exception_class_with_functions_is_raised_as_others_are() -> None:
    made = registry(AppError, "app", lambda error: error.code, AppError)
    arrived = throw_with(AppError(3), made)
    assert type(arrived) is AppError
    assert arrived.code == 3
    (value,) = send([AppError(4)], made)
    assert (type(value), value.code) == (AppError, 4)


def test_instances_in_an_exception() -> None:
    arrived = throw_with(ValueError(Money(1, "EUR")), registry())
    assert arrived.args == (Money(1, "EUR"),)
    arrived = throw_with(ValueError(Money(1, "EUR")), registry(encode=fails(KeyError("x"))))
    assert "Money object" in str(arrived)
    with pytest.raises(KeyError):
        throw_with(ValueError(Money(1, "EUR")), registry(decode=fails(KeyError("x"))))
    arrived = _core._decode(_core._encode(ValueError(Money(1, "EUR")), registry(), True), Registry())
    assert str(arrived) == "<Opaque of type money>"
