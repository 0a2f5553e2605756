"""Many equal mistakes are one message."""

import pytest

from stedm.errors import merged


def of(slide, text, path="x/{}.svs"):
    return f"slide {slide!r} ({path.format(slide)}): {text}"


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([], []),
        (["a: wrong", "b: wrong"], ["a: wrong", "b: wrong"]),
        (["a", "a"], ["a"]),
        ([of("A", "no resolution. Give it")], [of("A", "no resolution. Give it")]),
        ([of(name, "no resolution") for name in "AB"], ["2 slides: A, B: no resolution"]),
        ([of(f"S{n}", "no resolution") for n in range(57)], ["57 slides: S0, S1, S2 and 54 more: no resolution"]),
        ([of(name, "no mpp", "a (b)/{}.svs") for name in "AB"], ["2 slides: A, B: no mpp"]),
        (
            [of(name, text) for name in "AB" for text in ("no tissue", "no mpp")],
            ["2 slides: A, B: no tissue", "2 slides: A, B: no mpp"],
        ),
        ([of(name, f"{n} px") for n, name in enumerate("ABC")], [of(name, f"{n} px") for n, name in enumerate("ABC")]),
        (
            [of(name, f"{n} px") for n, name in enumerate("ABCD")],
            ["4 slides: A, B, C and 1 more: 0 px (this is the first; 4 alike)"],
        ),
        (
            [f"s.csv, line {n} (slide 'S{n}'): path: there is no file x/S{n}.svs; correct it" for n in range(2, 95)],
            [
                "s.csv, 93 lines: 2, 3, 4 and 90 more: path: there is no file x/S2.svs; correct it (this is the first;"
                " 93 alike)"
            ],
        ),
        (
            [f"x/S{n}.geojson: unknown classes: 'a' ({n}, #ff0000); known are 'b'" for n in range(5)],
            ["x/S0.geojson: unknown classes: 'a' (0, #ff0000); known are 'b' (and 4 more of this kind)"],
        ),
        (["a.csv, line 2: wrong", "b.csv, line 2: wrong"], ["a.csv, line 2: wrong", "b.csv, line 2: wrong"]),
    ],
)
def test_messages_alike_are_one(messages, expected):
    assert merged(messages) == expected
